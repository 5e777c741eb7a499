"""``hvgym sync [STUDY]``: deliver to its server what a study's folder has and the server lacks; twice is as good as once."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.scripts import configuration
from hvgym.scripts.bench import study_folder


@configuration.verb("sync")
def main(config: DictConfig) -> None:
    """Deliver the study, or all of which something is missing."""
    from hvgym.bench.remote_tracking import read_note

    study, runs = configuration.text(config, "study"), configuration.runs_folder(config)
    where = configuration.tracking(config)
    if where == "none":
        raise InputError("tracking.uri=none: expected local (RUNS/mlflow.db) or a server, http://HOST:PORT")
    told = configuration.plain(config.tracking)["uri"] is not None
    folders = (
        [study_folder(runs, study)] if study else sorted(p.parent for p in (runs / "studies").glob("*/tracking.json"))
    )
    if not study:
        folders = [folder for folder in folders if (note := read_note(folder)) and not note.whole]
        if not folders:
            print(f"nothing is missing of the studies under {runs / 'studies'} that are recorded at a server")
    missing = [folder.name for folder in folders if not _deliver(folder, runs, where if told else "", where)]
    if missing:
        raise InputError(f"not delivered: {', '.join(missing)}; hvgym sync tries again")


def _deliver(folder: Path, runs: Path, told: str, otherwise: str) -> bool:
    """Deliver one study to where the command says, or its note, or else the environment; whether that went well."""
    from hvgym.bench.remote_tracking import deliver
    from hvgym.bench.study import locked
    from hvgym.bench.study_note import Note, read_note, write_note
    from hvgym.bench.tracking import Place

    try:
        with locked(folder):
            note = read_note(folder)
            where = told or (note.server if note and note.server else otherwise)
            server = "" if where == "mlflow" else where
            print(f"{folder.name}: to {server or runs / 'mlflow.db'}", flush=True)
            place = note.place if note else Place(folder.name)
            if server:  # where the study belongs now, also when nothing answers there
                write_note(folder, Note(server, place, whole=False))
            made = deliver(folder, runs, server, place)
    except InputError as error:
        print(f"hvgym: {error}", file=sys.stderr)
        return False
    if server:
        print(f"MLflow UI: {made.page}")
    return True
