"""``hvgym import SOURCE FILES… out=DIR``: the history of your own VMs as one plain table, which advise and workload=history play.

Units and clocks are tested; what has two meanings ends in one line that shows both, and nothing is written.
"""

import errno
import math
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.imports.registry import source_of, sources
from hvgym.envs.imports.source import QUANTITIES, Options, Source
from hvgym.scripts import configuration
from hvgym.scripts.failures import Stopped
from hvgym.scripts.live import watched

if TYPE_CHECKING:
    from hvgym.envs.imports.importing import Request

LABELS = (
    "vm",
    "time",
    "uuid",
    "host",
    "group",
    "os",
    "power",
    "agg",
    "interval_s",
    "reported_s",
    "arrive_s",
    "depart_s",
)
"""What columns= may name beside quantities."""


@configuration.verb("import")
def main(config: DictConfig) -> None:
    """Import, print the page, and what to do next."""
    from hvgym.envs.imports.importing import import_files
    from hvgym.envs.imports.page import page_of

    request = _request(config)
    try:
        with _shown() as shows, _told(config, request) as tells:
            imported = import_files(request, _both(shows, tells))
    except KeyboardInterrupt:
        raise Stopped("interrupted; nothing was written, an earlier import is as it was", 130) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = tempfile.gettempdir() if request.out is None else request.out.resolve().parent
        raise Stopped(
            f"{place}: no space left on device, where rows wait while an import runs (about as much as the unpacked files); "
            "nothing was written, an earlier import is as it was", 1
        ) from None  # fmt: skip
    print(page_of(imported), end="")
    if request.out is None:
        print("\nnothing was written; with out=DIR in place of check=true the table is")
        return
    print(f"\n{request.out}")
    if imported.known:
        print(f"next: hvgym advise workload={_as_word(request.out)} host.ram_mib=… hypervisor=…")
    else:
        print("no use of memory in it: sizes and lives only, on which no policy can be judged")


def _request(config: DictConfig) -> "Request":
    from hvgym.envs.imports.importing import Request

    columns, units = _named(config, "columns", (*LABELS, *QUANTITIES)), _named(config, "units", ("time", *QUANTITIES))
    anonymise, check = configuration.switch(config, "anonymise"), configuration.switch(config, "check")
    zone, caps, groups = _zone(config), _caps(config), _groups(config)
    out = configuration.path(config, "out")
    name, files = configuration.text(config, "source"), _files(config)
    if name is None:
        raise InputError(f"source is missing; hvgym import SOURCE FILES out=DIR; known: {', '.join(sources())}")
    source = source_of(name)
    if not files:
        raise InputError(f"files are missing; hvgym import {name} FILES out=DIR")
    if out is None and not check:
        raise InputError("out=null: expected a folder for the table; check=true only says what would be read")
    options = Options(columns, units, zone, caps)
    return Request(source, files, None if check else out, options, groups, anonymise)


def _files(config: DictConfig) -> list[Path]:
    given = configuration.plain(config.files)
    given = [given] if isinstance(given, str | int | float) and not isinstance(given, bool) else given
    if given is None:
        return []
    if not isinstance(given, list) or any(isinstance(name, dict | list) for name in given):
        raise InputError(f"files={shown(given)}: expected files or folders")
    return [Path(str(name)) for name in given]


def _named(config: DictConfig, key: str, known: tuple[str, ...]) -> dict[str, str]:
    """A map of quantities. Names that Hydra's grammar cannot read, as ``Memory usage [KB]``, come as text."""
    given = configuration.plain(config[key])
    if isinstance(given, str):
        given = _pairs(key, given)
    if given is None:
        return {}
    if not isinstance(given, dict) or any(isinstance(value, dict | list) for value in given.values()):
        raise InputError(f"{key}={shown(given)}: expected {key}={{QUANTITY: {'NAME' if key == 'columns' else 'UNIT'}}}")
    for name in given:
        if name not in known:
            raise InputError(
                f"{key}: {shown(name)}: no such quantity{nearest(str(name), known)}; known: {', '.join(known)}"
            )
    return {str(name): str(value) for name, value in given.items()}


def _pairs(key: str, text: str) -> dict[str, str]:
    """``{vm: VM Name, cap: Memory [KB]}`` as it stands; a name with a comma or colon needs quotes."""
    import csv

    inside = text.strip()
    if not (inside.startswith("{") and inside.endswith("}")):
        raise InputError(
            f"{key}={shown(text)}: expected {key}={{QUANTITY: NAME, …}}, the whole word in quotes for the shell"
        )
    parts = next(csv.reader([inside[1:-1]], skipinitialspace=True, quotechar="'"), [])
    pairs = [part.partition(":") for part in parts]
    if wrong := next((name for name, colon, value in pairs if not colon or not value.strip()), None):
        raise InputError(f"{key}={shown(text)}: {shown(wrong)} has no name behind a colon; write QUANTITY: NAME")
    return {name.strip(): value.strip().strip("'\"") for name, _, value in pairs}


def _zone(config: DictConfig) -> str | None:
    from hvgym.envs.imports.cells import zone_of

    name = configuration.text(config, "zone")
    zone_of(name)  # said wrongly it is wrong in files without dates too
    return name


def _caps(config: DictConfig) -> dict[str, float]:
    given = configuration.plain(config.caps)
    if given is None:
        return {}
    if isinstance(given, str):
        return {vm: _mib(f"caps={given}: {vm}", value) for vm, value in _two_columns("caps", given, "mib").items()}
    if not isinstance(given, dict):
        raise InputError(f"caps={shown(given)}: expected {{VM: MiB}}, or a CSV file with columns vm,mib")
    return {str(vm): _mib(f"caps: {vm}", value) for vm, value in given.items()}


def _mib(where: str, value: Any) -> float:
    try:
        mib = float(value)
    except (TypeError, ValueError):
        mib = math.nan
    if not 1 <= mib < 2**26:
        raise InputError(f"{where}: {shown(value)}: expected configured memory in MiB, as in 4096")
    return mib


def _groups(config: DictConfig) -> dict[str, str]:
    given = configuration.text(config, "groups")
    return {} if given is None else _two_columns("groups", given, "group")


def _two_columns(key: str, name: str, second: str) -> dict[str, str]:
    """A CSV file of names and something."""
    from hvgym.envs.imports.reading import frames

    file = Path(name).expanduser()
    if not file.is_file():
        raise InputError(f"{key}={shown(name)}: there is no such file; expected CSV with columns vm,{second}")
    found = dict[str, str]()
    for rows in frames(file):
        if not {"vm", second} <= set(rows.columns):
            raise InputError(f"{file}: columns {', '.join(map(str, rows.columns[:10]))}; expected vm,{second}")
        for line, vm, said in zip(rows.index, rows["vm"].str.strip(), rows[second].str.strip(), strict=True):
            if vm in found:
                raise InputError(
                    f"{file}: line {line}: VM {shown(vm)} stands twice, as {found[vm]} and {said}; say it once"
                )
            found[vm] = said
    return found


def _as_word(path: Path) -> str:
    """A path as the shell and Hydra read it."""
    import shlex

    return shlex.quote(str(path))


@contextmanager
def _shown() -> "Iterator[Callable[[str, float], None]]":
    """A line of progress where somebody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(markup=False, stderr=True)
    if not watched(console):
        yield lambda what, share: None
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading", total=1.0)

        def show(what: str, share: float) -> None:
            known = not math.isnan(share)
            progress.update(task, description=what, total=1.0 if known else None, completed=share if known else 0)

        yield show


def _both(one: "Callable[[str, float], None]", other: "Callable[[str, float], None]") -> "Callable[[str, float], None]":
    def tell(what: str, share: float) -> None:
        one(what, share)
        other(what, share)

    return tell


FOLDER = "imports"
"""Of the progress of imports that are under way, below runs."""


@contextmanager
def _told(config: DictConfig, request: "Request") -> "Iterator[Callable[[str, float], None]]":
    """Lines that ``hvgym status`` reads while the import runs; gone with it, unless it is killed."""
    import hashlib
    from contextlib import suppress

    from hvgym.bench.progress import Progress

    if request.out is None:
        yield lambda what, share: None
        return
    place = request.out.resolve()
    folder = configuration.runs_folder(config) / FOLDER
    file = folder / f"{hashlib.sha256(str(place).encode()).hexdigest()[:16]}.jsonl"
    with suppress(OSError):
        file.unlink(missing_ok=True)  # of an earlier one that was killed
    try:
        with Progress(file, str(place), 100) as progress:
            yield lambda what, share: progress.note("import", 0 if math.isnan(share) else round(100 * share), 100)
    finally:
        with suppress(OSError):
            file.unlink(missing_ok=True)
            folder.rmdir()
            folder.parent.rmdir()


def listed() -> str:
    """Sources for ``--help``: name, title, files of a folder that are taken, and what is read."""
    return "Sources:\n" + "\n".join(map(_source, sources().values()))


def _source(source: Source) -> str:
    patterns = ", ".join(source.patterns)
    reads = ", ".join(dict.fromkeys(column.quantity for column in source.columns))
    lines = textwrap.wrap(f"reads {reads}", 100, initial_indent="    ", subsequent_indent="      ")
    return "\n".join([f"  {source.name:<14} {source.title} ({patterns})", *lines])
