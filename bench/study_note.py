"""The note in the folder of a study, a tuning, a capacity or a training, ``tracking.json``: where it is recorded, and whether all
of it is."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from hvgym.bench import views
from hvgym.bench.jobs import read_json
from hvgym.bench.tracking import Place
from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically

AGAIN = "delete it, and give hvgym sync a study and tracking.uri=http://HOST:PORT"


@dataclass(frozen=True)
class Note:
    """Of it: the address of its server (empty: recorded under runs), the place there, whether nothing is missing, and the
    experiment's id."""

    server: str
    place: Place
    whole: bool
    experiment: str = ""

    @property
    def page(self) -> str:
        """Where it is shown."""
        return f"{self.server}/{views.page(self.experiment, views.FIRST) if self.experiment else ''}"


def note_file(folder: Path) -> Path:
    """Where the note of a study lies."""
    return folder / "tracking.json"


def read_note(folder: Path) -> Note | None:
    """The note of a study; None where there is none. Raises `InputError` that names the file when it is damaged."""
    path = note_file(folder)
    if not path.exists():
        return None
    data = read_json(path, AGAIN)
    try:
        place = Place(str(data["place"]["experiment"]), dict(data["place"]["swept"]))
        return Note(str(data["server"]), place, bool(data["whole"]), str(data["experiment"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: lacks a key ({error}); {AGAIN}") from None


def write_note(folder: Path, note: Note) -> None:
    """Leave a note."""
    write_atomically(note_file(folder), json.dumps(asdict(note), indent=1))


def place_of(folder: Path) -> Place:
    """Where a study is recorded: as its note says, or else under its own name."""
    note = read_note(folder)
    return note.place if note else Place(folder.name)


def note_local(folder: Path, place: Place) -> None:
    """Leave a note of a study that is recorded under ``runs`` elsewhere than under its own name, as one of a sweep is. That of a
    server stays."""
    if place != place_of(folder) and not note_file(folder).exists():
        write_note(folder, Note("", place, True))
