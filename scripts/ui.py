"""``hvgym ui``: the MLflow UI on the results."""

import os
import signal
import subprocess
import sys

from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.scripts import configuration


@configuration.verb("ui")
def main(config: DictConfig) -> None:
    """Start the server and stay until interrupted."""
    from hvgym.bench.store import explained, relocate
    from hvgym.bench.tracking import store_uri

    runs = configuration.runs_folder(config)
    if not (runs / "mlflow.db").exists():
        raise InputError(f"runs={runs}: no mlflow.db there yet; run hvgym bench first")
    configuration.number(config, "port", least=1)
    with explained(runs):
        relocate(runs / "mlflow.db", runs / "artifacts")
    print(f"MLflow UI on http://{config.host}:{config.port}  (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store_uri(runs)]
    command += [
        "--default-artifact-root",
        (runs / "artifacts").as_uri(),
        "--host",
        str(config.host),
        "--port",
        str(config.port),
    ]
    command += ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    # its job runners serve features that are not used here, and outlive the server
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        code = server.wait()
    except KeyboardInterrupt:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
        return
    if code not in (0, -2, 130):
        raise InputError(
            f"port={config.port}: the MLflow server ended with code {code}; is the port in use? choose port=N"
        )
