"""``hvgym ui``: the MLflow UI on the results.

The server is a child of a keeper, which ends it when this process ends in whatever way: a pipe that both hold closes then.
Run as a module, this file is the keeper.
"""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.scripts import configuration

GRACE_S = 5.0
"""How long a server may take to end before it is killed."""


@configuration.verb("ui")
def main(config: DictConfig) -> None:
    """Start the server and stay until interrupted."""
    from hvgym.bench.recording import store_uri
    from hvgym.bench.store import explained, relocate

    runs, host = configuration.runs_folder(config), configuration.text(config, "host")
    port = configuration.needed(config, "port", least=1, most=65535)
    if host is None:
        raise InputError(
            "host=null: expected an address; 127.0.0.1 is this machine alone, 0.0.0.0 every network that it is in"
        )
    if not (runs / "mlflow.db").exists():
        raise InputError(f"runs={runs}: no mlflow.db there yet; run hvgym bench first")
    _check_free(host, port)
    with explained(runs):
        relocate(runs / "mlflow.db", runs / "artifacts")
    print(f"MLflow UI on http://{host}:{port}  (Ctrl-C ends it)", flush=True)
    command = ["--backend-store-uri", store_uri(runs), "--default-artifact-root", (runs / "artifacts").as_uri()]
    command += ["--host", host, "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    code = _serve([sys.executable, "-m", "mlflow", "server", *command])
    if code:
        raise InputError(f"port={port}: the MLflow server ended with code {code}; see its lines above")


def _check_free(host: str, port: int) -> None:
    """Raise `InputError` where no server can listen."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a port just left is free
            probe.bind(address)
    except socket.gaierror:
        raise InputError(f"host={host}: no such address; 127.0.0.1 is this machine alone") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"port={port} is in use; choose port=N") from None
        if error.errno == errno.EACCES:
            raise InputError(f"port={port}: not allowed for this user; choose one above 1023, port=N") from None
        raise InputError(f"host={host} port={port}: cannot listen there ({error.strerror})") from None


def _serve(command: Sequence[str]) -> int:
    """Run the server until it or this process ends; its exit code, 0 when it was told to end (Ctrl-C, SIGTERM)."""
    # its job runners serve features that are not used here, and outlive the server
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    keeper = subprocess.Popen([sys.executable, "-m", "hvgym.scripts.ui", *command], env=environment,
                              stdin=subprocess.PIPE, start_new_session=True)  # fmt: skip

    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        return keeper.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        assert keeper.stdin is not None
        keeper.stdin.close()
        keeper.wait()
        signal.signal(signal.SIGTERM, previous)


def keep(command: Sequence[str]) -> int:
    """Run a server, in this process's group, until it ends or the standard input closes."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is sent to the whole group, this process included
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_heed_sigterm)
    told_to_end = threading.Event()

    def follow() -> None:
        os.read(
            0, 1
        )  # nothing is ever written: it returns when the other end is closed. Python's own stdin would hold a lock
        told_to_end.set()
        os.killpg(0, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(GRACE_S)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
    code = server.wait()
    return 0 if told_to_end.is_set() else code


def _heed_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
