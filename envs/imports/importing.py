"""From files to the plain table (`import_files`), in memory that does not grow with them.

    source → spool (rows by VM, on disk) → clock → units → each partition: convert → clean → lives → table

Units are decided on some VMs with all their rows, and what has to hold is then checked on every row. Whatever fails or interrupts
leaves nothing behind.
"""

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvgym.envs.errors import InputError
from hvgym.envs.imports import clocks, sanity, trials, units
from hvgym.envs.imports.clocks import Clock, clock_of
from hvgym.envs.imports.convert import Rules, converted
from hvgym.envs.imports.evidence import Evidence, in_order
from hvgym.envs.imports.lifetimes import with_kinds, with_lives
from hvgym.envs.imports.lives_only import clock_of_lives, has_no_use, lives
from hvgym.envs.imports.opening import files_of
from hvgym.envs.imports.source import ALL, MACHINE, Options, Source
from hvgym.envs.imports.spool import Spool
from hvgym.envs.imports.table import MEMORY, SAMPLES
from hvgym.envs.imports.tally import Tally
from hvgym.envs.imports.units import Reading
from hvgym.envs.imports.writing import Writer, beside, check_out, put_in_place

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[str, float], None]
"""Told what is done, and how much of it, 0 to 1 (NaN where that is not known)."""

MOST_WITHOUT_CAP = 0.05
"""Share of VMs that may lack a size, and are left out."""


@dataclass(frozen=True)
class Request:
    """What is asked for. `out` None writes nothing. `groups`: application or tenant by VM; `anonymise`: names become hashes."""

    source: Source
    paths: Sequence[Path]
    out: Path | None
    options: Options = field(default_factory=Options)
    groups: Mapping[str, str] = field(default_factory=dict)
    anonymise: bool = False


@dataclass(frozen=True)
class Imported:
    """What came of it. `known`: share of samples that say something, by column of the table; `cap_mib`: configured
    memory of all VMs together; `left_out`: VMs without a size."""

    request: Request
    files: Sequence[Path]
    clock: Clock
    readings: Mapping[str, Reading]
    empty: Sequence[str]
    meta: "pd.DataFrame"
    samples: int
    known: Mapping[str, float]
    cap_mib: float
    tally: Tally
    left_out: Sequence[str]


def import_files(request: Request, progress: Progress = lambda what, share: None) -> Imported:
    """Read, decide, convert, write. Raises `InputError` where anything has no or two meanings; nothing is written then."""
    from hvgym.envs.imports.page import manifest_of, page_of

    files = files_of(request.paths, request.source.patterns)
    if request.out is not None:
        check_out(request.out, request.source.name)
    with beside(request.out or Path(tempfile.gettempdir()) / "hvgym-import") as folder:
        (folder / "table").mkdir()
        (folder / "rows").mkdir()
        spool = _spooled(request, files, folder / "rows", progress)
        writer = Writer(folder / "table")
        imported = _converted(request, files, spool, writer, progress)
        if request.out is not None:
            progress("hashing files", np.nan)
            writer.finish(_public(imported.meta, request), manifest_of(imported), page_of(imported))
            put_in_place(folder, request.out)
    return imported


def _spooled(request: Request, files: Sequence[Path], folder: Path, progress: Progress) -> Spool:
    spool = Spool.of(folder, files)
    places = {file: number for number, file in enumerate(files)}
    for batch in request.source.read(files, request.options):
        spool.add(batch)
        progress(f"reading {batch.file.name}: {spool.rows:,} rows", places.get(batch.file, 0) / len(files))
    spool.close()
    if not spool.rows:
        raise InputError(f"{files[0]}: no rows in {'it' if len(files) == 1 else f'any of {len(files)} files'}")
    return spool


def _converted(request: Request, files: Sequence[Path], spool: Spool, writer: Writer, progress: Progress) -> Imported:
    progress("telling clock and units", np.nan)
    if has_no_use(spool):
        return _lives_only(request, files, spool, writer, progress)
    clock = clock_of(spool, request.options.units.get("time"))
    empty = [name for name in spool.columns if not (seen := spool.seen.get(name)) or seen.known == seen.zeros]
    columns = {name: column for name, column in spool.columns.items() if name not in empty}
    evidence = Evidence.of(spool, clocks.UNITS[clock.unit])
    readings, evidence = units.decided(evidence, columns, _without(request.options, empty))
    sanity.check_columns(evidence, readings)
    work = _Work(Rules(clock, readings, columns, request.options.caps_mib), request, writer)
    for number, raw in enumerate(spool.partitions()):
        progress("converting", number / spool.count)
        work.take(in_order(raw, clocks.UNITS[clock.unit]))
    work.tally.check()
    sanity.check_shares(readings, work.tally)
    meta = work.meta(clock)
    _note_strangers(request, meta, work.left_out, work.tally)
    if not clock.relative:
        clocks.check_doubled(work.tally.doubled, len(meta))
    known = {name: count / max(work.samples, 1) for name, count in work.known.items()}
    if not any(known.get(name) for name in MEMORY):
        raise InputError(
            f"{files[0]}: no column says what VMs use of their memory (one of {', '.join(MEMORY)}); they have "
            f"{', '.join(columns) or 'none'}{''.join(f'; {line}' for line in work.tally.lines() if 'now unknown' in line)}"
        )
    return Imported(
        request, files, clock, readings, empty, meta, work.samples, known, work.cap_mib, work.tally, work.left_out
    )


def _lives_only(request: Request, files: Sequence[Path], spool: Spool, writer: Writer, progress: Progress) -> Imported:
    """Sizes and lives, where files say nothing else."""
    import pandas as pd

    clock, evidence = clock_of_lives(spool), Evidence.of(spool, 1.0)
    readings, _ = units.decided(evidence, spool.columns, request.options)
    tally, metas, cap_mib, vms, left_out = Tally(), list["pd.DataFrame"](), 0.0, 0, list[str]()
    for number, raw in enumerate(spool.partitions()):
        progress("converting", number / spool.count)
        samples, meta = lives(raw, readings, clock, tally)
        sanity.note_sizes(samples, tally)
        vms += len(raw)
        left_out += sorted(raw["vm"][~(raw["cap"] > 0)].astype(str))
        metas.append(meta)
        cap_mib += float(samples["cap_bytes"].sum()) / trials.MIB
        writer.add(_public(samples.sort_values("vm_id", ignore_index=True), request))
    tally.check()
    _check_left_out(left_out, vms, "give them a size, or leave their rows out")
    meta = with_kinds(pd.concat(metas, ignore_index=True), clock, request.groups, tally)
    _note_strangers(request, meta, left_out, tally)
    return Imported(request, files, clock, readings, [], meta, len(meta), {}, cap_mib, tally, left_out)


def _check_left_out(left_out: Sequence[str], vms: int, right: str) -> None:
    if len(left_out) > MOST_WITHOUT_CAP * vms:
        names = ", ".join(sorted(left_out)[:3])
        raise InputError(
            f"cap: nothing says what {len(left_out)} of {vms} VMs may have at most ({names}…); {right}; "
            "were they renamed, or are they spelt otherwise where sizes are?"
        )


def _note_strangers(request: Request, meta: "pd.DataFrame", left_out: Sequence[str], tally: Tally) -> None:
    """VMs of which the user says something and no file does: a name that is written otherwise there."""
    known = {*meta["vm_id"].str.replace(r"#\d+$", "", regex=True), *left_out, *tally.apart.values(), ALL, MACHINE}
    for key, said in (("caps", request.options.caps_mib), ("groups", request.groups)):
        if said:
            strangers = sorted(set(said) - known)
            tally.add(f"VMs of {key}= that no file has", len(strangers), len(said), "".join(strangers[:1]))


def _without(options: Options, empty: Sequence[str]) -> Options:
    """Units of columns that say nothing are of no use, and no fault."""
    return replace(options, units={name: unit for name, unit in options.units.items() if name not in empty})


class _Work:
    """Partitions one by one, and what is known over all of them."""

    def __init__(self, rules: Rules, request: Request, writer: Writer) -> None:
        self._rules, self._request, self._writer = rules, request, writer
        self._metas = list["pd.DataFrame"]()
        self.tally, self.samples, self.vms, self.cap_mib = Tally(), 0, 0, 0.0
        self.known, self.left_out = dict[str, int](), list[str]()

    def take(self, raw: "pd.DataFrame") -> None:
        sanity.note_shares(raw, self._rules.readings, self.tally)
        rows = self._with_sizes(converted(raw, self._rules, self.tally))
        if not len(rows):
            return
        rows = sanity.cleaned(rows, self._rules.clock, self.tally, self._rules.readings)
        samples, meta = with_lives(rows, self._rules.clock, self.tally)
        self._metas.append(meta)
        self.samples += len(samples)
        self.cap_mib += float(samples.groupby("vm_id", sort=False)["cap_bytes"].max().sum()) / trials.MIB
        for name, field_ in SAMPLES.items():
            if name in samples and field_.type == "double":
                self.known[name] = self.known.get(name, 0) + int(samples[name].notna().sum())
        self._writer.add(_public(samples, self._request))

    def _with_sizes(self, rows: "pd.DataFrame") -> "pd.DataFrame":
        lacking = rows["cap_bytes"].isna()
        self.vms += rows["vm_id"].nunique()
        self.left_out += sorted(rows["vm_id"][lacking].astype(str).unique())
        return rows[~lacking].reset_index(drop=True)

    def meta(self, clock: Clock) -> "pd.DataFrame":
        import pandas as pd

        _check_left_out(self.left_out, self.vms, "give caps=FILE.csv with columns vm,mib")
        meta = with_kinds(pd.concat(self._metas, ignore_index=True), clock, self._request.groups, self.tally)
        if (twice := meta["vm_id"].duplicated()).any():
            raise InputError(
                f"vm: {meta['vm_id'][twice].iloc[0]} is the name of a VM, and of the second that is called "
                f"{str(meta['vm_id'][twice].iloc[0]).rpartition('#')[0]}; rename one of them"
            )
        return meta


def _public(frame: "pd.DataFrame", request: Request) -> "pd.DataFrame":
    """Without names, where these are not to be seen."""
    if not request.anonymise:
        return frame
    hidden = frame.drop(columns="uuid", errors="ignore")
    for name in ("vm_id", "host_id", "group"):
        if name in hidden:
            known = {said: hashed(str(said)) for said in hidden[name].dropna().unique()}
            hidden[name] = hidden[name].astype(object).map(known)
    by = [name for name in ("vm_id", "t_end_utc_s", "agg") if name in hidden]
    return hidden.sort_values(by, kind="stable", ignore_index=True)  # the order of names would tell something of them


def hashed(name: str) -> str:
    """Ten hexadecimal digits in place of a name; ``#2`` of names that were used again stays."""
    bare, mark, number = name.rpartition("#") if name.rpartition("#")[2].isdecimal() else (name, "", "")
    bare, tail = (bare, mark + number) if mark else (name, "")
    return hashlib.sha256(bare.encode()).hexdigest()[:10] + tail


def sha256_of(file: Path) -> str:
    """Of a file's bytes, in pieces."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def names_of(files: Sequence[Path]) -> list[str]:
    """Files by as much of their path as tells them apart: the same on every machine."""
    parts = [file.resolve().parts for file in files]
    common = 0
    while all(len(part) > common + 1 and part[common] == parts[0][common] for part in parts):
        common += 1
    return ["/".join(part[common:]) for part in parts]
