"""``hvgym sync [NAME]``: deliver to its server what a study, a tuning, a capacity or a training has in its folder and the server
lacks; twice is as good as once.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.scripts import configuration
from hvgym.scripts.bench import study_folder

if TYPE_CHECKING:
    from hvgym.bench.study_note import Note
    from hvgym.bench.tracking import Place

PLACES = ("studies/*", "studies/*/capacity", "tune/*", "training/*", "advice/*")
"""Below the folder of runs, of what is recorded."""


@configuration.verb("sync")
def main(config: DictConfig) -> None:
    """Deliver what is named, or all of which something is missing."""
    study, runs = configuration.text(config, "study"), configuration.runs_folder(config)
    where = configuration.tracking(config)
    if where == "none":
        raise InputError("tracking.uri=none: expected local (RUNS/mlflow.db) or a server, http://HOST:PORT")
    told = configuration.plain(config.tracking)["uri"] is not None
    folders = _named(runs, study) if study else _owed(runs)
    if not folders:
        print(f"nothing is missing of what is recorded at a server under {runs}")
    missing = [folder for folder in folders if not _deliver(folder, runs, where if told else "", where)]
    if missing:
        raise InputError(f"not delivered: {', '.join(map(_title, missing))}; hvgym sync tries again")


def _named(runs: Path, name: str) -> list[Path]:
    """The folders of a name, or of a path."""
    given = [Path(name).expanduser(), *(runs / place / name for place in ("studies", "tune", "training", "advice"))]
    places = dict.fromkeys(place.resolve() for folder in given for place in (folder, folder / "capacity"))
    return [place for place in places if _kind(place)] or [study_folder(runs, name)]  # which says what there is


def _owed(runs: Path) -> list[Path]:
    """Those that are recorded at a server, and not whole."""
    from hvgym.bench.study_note import read_note

    folders = [note.parent for place in PLACES for note in sorted(runs.glob(f"{place}/tracking.json"))]
    notes = {folder: read_note(folder) for folder in folders if _kind(folder)}
    return [folder for folder, note in notes.items() if note and note.server and not note.whole]


def _kind(folder: Path) -> str:
    """What a folder is of; empty where it is nothing that can be delivered."""
    from hvgym.bench.told import is_told
    from hvgym.bench.training_tracking import TOLD

    if (folder / "protocol.json").exists():
        return "study"
    return "told" if is_told(folder) else "training" if (folder / TOLD).exists() else ""


def _title(folder: Path) -> str:
    return f"{folder.parent.name}/capacity" if folder.name == "capacity" else folder.name


def _deliver(folder: Path, runs: Path, told: str, otherwise: str) -> bool:
    """Deliver to where the command says, or the note of a folder, or else the environment; whether that went well."""
    from hvgym.bench.study import locked
    from hvgym.bench.study_note import Note, read_note, write_note
    from hvgym.bench.tracking import Place

    try:
        with locked(folder):
            note = read_note(folder)
            where = told or (note.server if note and note.server else otherwise)
            server = "" if where == "mlflow" else where
            print(f"{_title(folder)}: to {server or runs / 'mlflow.db'}", flush=True)
            place = note.place if note else Place(folder.name)
            if server:  # where it belongs now, also when nothing answers there
                write_note(folder, Note(server, place, whole=False))
            made = _delivered(folder, runs, server, place)
            if server:
                write_note(folder, made)
    except InputError as error:
        print(f"hvgym: {error}", file=sys.stderr)
        return False
    if server:
        print(f"MLflow UI: {made.page}")
    return True


def _delivered(folder: Path, runs: Path, server: str, place: "Place") -> "Note":
    from hvgym.bench.remote_tracking import deliver
    from hvgym.bench.told import tell_again
    from hvgym.bench.training_tracking import deliver_training

    make = {"study": deliver, "told": tell_again, "training": deliver_training}[_kind(folder)]
    return make(folder, runs, server, place)
