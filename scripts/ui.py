"""``hvgym ui``: the MLflow UI on the results, at the page of the newest study.

The server is a child of a keeper, which ends it when this process ends in whatever way: a pipe that both hold closes then.
Run as a module, this file is the keeper. Others may record here, too (``tracking.uri``): their artifacts come through the server.
"""

import contextlib
import errno
import importlib.metadata
import ipaddress
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from hvgym.envs.errors import InputError, shown
from hvgym.scripts import configuration

GRACE_S = 5.0
"""How long a server may take to end before it is killed."""

HERE = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine for itself."""

HOST = re.compile(r"[\w.*-]+|\[[0-9A-Fa-f:]+\]", re.ASCII)
"""A name, a pattern or an address, as it stands in an address of the web, without a port."""


@configuration.verb("ui")
def main(config: DictConfig) -> None:
    """Start the server, say where it is, and stay until interrupted."""
    from hvgym.bench import store, views

    runs, study, browser = configuration.runs_folder(config), configuration.text(config, "study"), _browser(config)
    host, port = _host(config), configuration.needed(config, "port", least=1, most=65535)
    names = _names(host, _allowed(config))
    database = runs / "mlflow.db"
    if not database.exists():
        raise InputError(f"runs={runs}: no mlflow.db there yet; run hvgym bench first")
    _check_free(host, port)
    with store.explained(runs):
        store.relocate(database, runs / "artifacts")
        experiment = store.experiment(database, study)
    page = views.page(experiment) if experiment else ""
    if names:
        print(
            f"hvgym: host={host}: there is no login; whoever reaches port {port} of this machine can read, change and delete "
            "everything that is recorded here",
            file=sys.stderr,
        )
    address = f"http://{names[0] if names else _in_address(host)}:{port}/{page}"
    command = [sys.executable, "-m", "mlflow", "server", *_options(runs, host, port, names)]
    code = _serve(command, page, lambda ended: _announce(host, port, address, browser, ended))
    if code:
        raise InputError(f"port={port}: the MLflow server ended with code {code}; see its lines above")


def _host(config: DictConfig) -> str:
    host = configuration.text(config, "host")
    if host is None:
        raise InputError(
            "host=null: expected an address; 127.0.0.1 is this machine alone, 0.0.0.0 every network that it is in"
        )
    return host


def _browser(config: DictConfig) -> bool:
    """Whether a browser is opened."""
    given = configuration.plain(config.open)
    if given is None:
        display = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        return bool(display) and "SSH_CONNECTION" not in os.environ and sys.stdout.isatty()
    if not isinstance(given, bool):
        raise InputError(f"open={shown(given)}: expected true or false")
    return given


def _allowed(config: DictConfig) -> list[str]:
    given = configuration.plain(config.allowed_hosts)
    names = [] if given is None else [given] if isinstance(given, str) else given
    if not isinstance(names, list) or any(not isinstance(name, str) or not HOST.fullmatch(name) for name in names):
        raise InputError(
            f"allowed_hosts={shown(given)}: expected names or addresses without a port, as in allowed_hosts=[lab.example.org]"
        )
    return names


def _names(host: str, allowed: Sequence[str]) -> list[str]:
    """What others call this machine; nothing where only it itself can reach the server."""
    if allowed:
        return list(allowed)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return [] if host == "localhost" else [host]
    if address.is_loopback:
        return []
    if not address.is_unspecified:
        return [_in_address(host)]
    found = [socket.getfqdn(), socket.gethostname()]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; the system chooses the address that others know
        found.append(probe.getsockname()[0])
    return [name for name in dict.fromkeys(found) if HOST.fullmatch(name) and name not in HERE]


def _in_address(host: str) -> str:
    """As it stands in an address of the web; this machine where every network is meant."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def _options(runs: Path, host: str, port: int, names: Sequence[str]) -> list[str]:
    """Of ``mlflow server``, which refuses names and pages of others that it is not told."""
    from hvgym.bench import store

    uri = store.database_uri(runs / "mlflow.db")
    options = ["--backend-store-uri", uri, "--registry-store-uri", uri, "--host", host, "--port", str(port)]
    options += ["--default-artifact-root", "mlflow-artifacts:/"]
    options += ["--artifacts-destination", (runs / "artifacts").as_uri()]
    options += ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    if names:
        origins = [
            f"{scheme}://{name}{end}" for name in names for scheme in ("http", "https") for end in ("", f":{port}")
        ]
        options += ["--allowed-hosts", ",".join(f"{name}{end}" for name in (*HERE, *names) for end in ("", f":{port}"))]
        options += ["--cors-allowed-origins", ",".join(origins)]
    if importlib.metadata.entry_points(group="mlflow.app", name="hvgym"):  # not where an older one is installed
        options += ["--app-name", "hvgym"]
    return options


def _announce(host: str, port: int, address: str, browser: bool, ended: threading.Event) -> None:
    """Say where the server is once it answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while not ended.wait(0.2):
        with contextlib.suppress(OSError):
            opener.open(f"http://{_in_address(host)}:{port}/health", timeout=5).close()
            break
    else:
        return
    print(f"MLflow UI on {address}  (Ctrl-C ends it)", flush=True)
    if browser:
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(address)


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


def _serve(command: Sequence[str], page: str, announce: Callable[[threading.Event], None]) -> int:
    """Run the server until it or this process ends; its exit code, 0 when it was told to end (Ctrl-C, SIGTERM).

    page: what is shown first; announce: called meanwhile in a thread, with an event that is set at the end.
    """
    # its job runners serve features that are not used here, and outlive the server
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment |= {
        "HVGYM_UI_PAGE": page,
        "PYTHONWARNINGS": "ignore",
    }  # the page for ``ui_page``; MLflow's warnings help nobody
    keeper = subprocess.Popen([sys.executable, "-m", "hvgym.scripts.ui", *command], env=environment,
                              stdin=subprocess.PIPE, start_new_session=True)  # fmt: skip

    ended = threading.Event()
    threading.Thread(target=announce, args=(ended,), daemon=True).start()
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        return keeper.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        ended.set()
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
