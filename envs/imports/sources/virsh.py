"""VM history that a loop around virsh has logged: ``virsh domstats`` blocks, or ``virsh dommemstat``, after a line with the time.

Keys and units are those of libvirt's documentation (docs/manpages/virsh.rst, domstats and dommemstat): balloon statistics in
KiB, CPU time in ns, bytes of disks and interfaces; all but the sizes count up from the start of the VM's process.
``balloon.current`` (``actual``) is what the VM is granted. CPU is ``cpu.time``, or where a log has none (``--vcpu`` without
``--cpu-total``) the sum of ``vcpu.N.time``. ``vcpu.N.delay`` is time in which a vCPU was runnable and did not run;
``vcpu.N.wait`` is time waiting for I/O and is not read. ``balloon.last-update`` is when the guest last answered, 0 for never.

Times are seconds since 1970 (``date +%s``) or ISO 8601 (``date -Is``). dommemstat names no VM: a line ``Domain: 'NAME'``, or the
name alone, has to go before it. A log is one host's and its file is called by it. The last block of a log that ends within a
line is left out.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TextIO

import numpy as np

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports.reading import dates_s, files_of, text
from hvgym.envs.imports.source import Batch, Column, Options, Source

CPU = Column("cpu_used", "cpu.time, or the sum of vcpu.*.time", "ns", "counter")

KEYS: Mapping[str, Column] = {
    "balloon.maximum": Column("cap", "balloon.maximum", "KiB", "gauge", "unknown"),
    "balloon.current": Column("granted", "balloon.current", "KiB", "gauge", "unknown"),
    "balloon.available": Column("guest_total", "balloon.available", "KiB", "gauge", "unknown"),
    "balloon.usable": Column("guest_usable", "balloon.usable", "KiB", "gauge", "unknown"),
    "balloon.unused": Column("guest_unused", "balloon.unused", "KiB", "gauge", "unknown"),
    "balloon.disk_caches": Column("guest_cache", "balloon.disk_caches", "KiB", "gauge", "unknown"),
    "balloon.rss": Column("backed", "balloon.rss", "KiB", "gauge", "unknown"),
    "balloon.swap_in": Column("guest_swap_in", "balloon.swap_in", "KiB", "counter"),
    "balloon.swap_out": Column("guest_swap_out", "balloon.swap_out", "KiB", "counter"),
    "balloon.major_fault": Column("guest_major_faults", "balloon.major_fault", "count", "counter", "unknown"),
    "cpu.time": CPU,
    "vcpu.current": Column("vcpus", "vcpu.current", None, "gauge", "unknown"),
    "vcpu.*.time": CPU,
    "vcpu.*.delay": Column("cpu_wait", "vcpu.*.delay", "ns", "counter"),
    "block.*.rd.bytes": Column("disk_read", "block.*.rd.bytes", "B", "counter"),
    "block.*.wr.bytes": Column("disk_write", "block.*.wr.bytes", "B", "counter"),
    "net.*.rx.bytes": Column("net_rx", "net.*.rx.bytes", "B", "counter"),
    "net.*.tx.bytes": Column("net_tx", "net.*.tx.bytes", "B", "counter"),
}

COLUMNS = tuple(dict.fromkeys(KEYS.values()))

DOMMEMSTAT: Mapping[str, str] = {
    "actual": "balloon.current",
    "last_update": "balloon.last-update",
    **{name: f"balloon.{name}" for name in ("swap_in", "swap_out", "major_fault", "unused", "available", "usable")},
    **{name: f"balloon.{name}" for name in ("disk_caches", "rss")},
}

STATES = {"1": "on", "2": "on", "3": "on", "4": "off", "5": "off", "6": "off", "7": "off"}
"""virDomainState; 3 is paused, 6 crashed, 7 suspended to disk."""

BATCH_ROWS = 50_000

DOMAIN = re.compile(r"Domain:\s*'?(.+?)'?\s*$")
KEY = re.compile(r"[A-Za-z][\w.-]{0,80}")
STATISTIC = re.compile(r"([a-z]+(?:_[a-z]+)*) (-?\d+)")
NUMBER = re.compile(r"-?\d+(\.\d+)?")
SECONDS = re.compile(r"\d{9,19}(\.\d+)?")
DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]\S+")
CLOCK = re.compile(r"\b\d{1,2}:\d\d(:\d\d)?\b")
NUMBERED = re.compile(r"\.\d+\.")


@lru_cache(maxsize=4096)
def _shared(key: str) -> str | None:
    """The key of `KEYS` that it is, with devices as ``*``; empty for one that is not read, None for what is no key."""
    if not KEY.fullmatch(key):
        return None
    shared = NUMBERED.sub(".*.", key)
    return shared if shared in KEYS or shared == "balloon.last-update" else ""


@dataclass
class _Block:
    """What one domain said at one time."""

    line: int
    time: float
    vm: str
    values: dict[str, float] = field(default_factory=dict)
    power: str = "unknown"

    def row(self) -> dict[str, object]:
        reported = self.values.pop("balloon.last-update", np.nan) or np.nan  # 0: the guest never answered
        if "cpu.time" in self.values:  # a VM's own; the sum of its vCPUs is a little less
            self.values.pop("vcpu.*.time", None)
        quantities = {KEYS[key].quantity: value for key, value in self.values.items()}
        return {
            "vm": self.vm, "time": self.time, "line": self.line, "power": self.power, "reported_s": reported, **quantities,
        }  # fmt: skip


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of all logs, some 50,000 a batch. Raises `InputError` as in `Source`."""
    if options.columns:
        raise InputError(
            f"columns: {', '.join(options.columns)}: a log of virsh has libvirt's own names; leave columns out"
        )
    for file in files_of(paths, SOURCE.patterns):
        rows, met = list[dict[str, object]](), False
        for block in _blocks(file, options.zone):
            rows.append(block.row())
            if len(rows) == BATCH_ROWS:
                yield _batch(file, rows)
                rows, met = [], True
        if rows:
            yield _batch(file, rows)
        elif not met:
            raise InputError(f"{file}: no domain's statistics are in it; log them as docs/import.md shows for virsh")


def _batch(file: Path, rows: Sequence[Mapping[str, object]]) -> Batch:
    import pandas as pd

    frame = pd.DataFrame(rows)
    frame["host"], frame["agg"] = file.name.split(".")[0], "last"
    return Batch(file, frame, tuple(column for column in COLUMNS if column.quantity in frame))


def _blocks(file: Path, zone: str | None) -> Iterator[_Block]:
    with text(file) as stream:
        reader = _Log(file, zone)
        yield from reader.blocks(stream)


class _Log:
    """A log, line by line. `time`: of the last line that said one."""

    def __init__(self, file: Path, zone: str | None) -> None:
        self._file, self._zone, self._line = file, zone, 0
        self._time: float | None = None
        self._block: _Block | None = None

    def blocks(self, stream: TextIO) -> Iterator[_Block]:
        for raw in stream:
            self._line += 1
            if not raw.endswith("\n") and raw.strip() and self._block is not None:
                return  # cut off while it was written: a number may lack its last digits
            if done := self._read(raw.strip()):
                yield done
        if self._block is not None and self._block.values:
            yield self._block

    def _read(self, line: str) -> _Block | None:
        """Take a line in; return the block that it ends."""
        key, equals, value = line.partition("=")
        if equals and (shared := _shared(key)) is not None:
            self._take(key, shared, value)
            return None
        if not line or line.startswith(("error:", "#")):
            return None
        if SECONDS.fullmatch(line) or DATE.fullmatch(line):
            self._time = self._seconds(line)
            return self._next(None)
        if named := DOMAIN.fullmatch(line):
            return self._next(named[1])
        if statistic := STATISTIC.fullmatch(line):
            known = DOMMEMSTAT.get(statistic[1], "")
            self._take(known, known, statistic[2])
            return None
        if " " not in line:
            return self._next(line)  # a loop around dommemstat that prints the name alone
        if CLOCK.search(line):
            raise self._wrong(
                line, "may be a time in words; log times with date +%s, as docs/import.md shows for virsh"
            )
        raise self._wrong(line, "is none of a time, Domain: 'NAME', key=value, and what dommemstat prints")

    def _seconds(self, line: str) -> float:
        import pandas as pd

        if SECONDS.fullmatch(line):
            return float(line)
        return float(dates_s(pd.Series([line], index=[self._line]), self._file, "time", self._zone)[0])

    def _next(self, vm: str | None) -> _Block | None:
        done, self._block = self._block, None
        if vm is not None:
            if self._time is None:
                raise self._wrong(
                    vm, "has no time before it; log with: while sleep 60; do date +%s; virsh domstats --raw; done"
                )
            self._block = _Block(self._line, self._time, vm)
        return done if done is not None and (done.values or done.power != "unknown") else None

    def _take(self, key: str, shared: str, value: str) -> None:
        if self._block is None:
            raise self._wrong(f"{key}={value}", "belongs to no domain; a line Domain: 'NAME' has to be before it")
        if key == "state.state":
            self._block.power = STATES.get(value, "unknown")
            return
        if not shared:
            return
        if not (value.isdecimal() or NUMBER.fullmatch(value)):
            raise self._wrong(f"{key}={value}", "is no number")
        values = self._block.values
        values[shared] = float(value) if shared == key else values.get(shared, 0.0) + float(value)

    def _wrong(self, what: str, why: str) -> InputError:
        return InputError(f"{self._file}: line {self._line}: {shown(what, 60)} {why}")


SOURCE = Source(
    name="virsh",
    title="libvirt: a log of virsh domstats or dommemstat",
    command=(
        "for vm in $(virsh list --name); do virsh dommemstat $vm --period 10 --live; done; while sleep 60; do date +%s; "
        "virsh domstats --raw --state --balloon --cpu-total --vcpu --block --interface; done >> $(hostname).log"
    ),
    columns=COLUMNS,
    patterns=("*.log", "*.txt"),
    read=read,
    notes=(
        "libvirt keeps no history: leave the loop running for two weeks. One log a host; its name is the host's.",
        "Without a statistics period (dommemstat VM --period 10) only current, maximum and rss are there; with the period set back "
        "to 0 the last values stay and look alive: balloon.last-update tells, and frozen numbers are left out.",
        "balloon.current is the memory that the VM is granted, not what it uses.",
        "dommemstat prints neither the VM's name nor its maximum: print Domain: 'NAME' before it, and give caps=; domstats has "
        "both.",
        "Windows needs the balloon driver and its service, else only rss is there.",
    ),
)
