"""vSphere through PowerCLI: ``Get-Stat | Export-Csv``, and beside it a list of the VMs with their sizes.

What the counters mean stands in `envs.imports.vsphere`. Get-Stat shows ``mem.usage`` in percent and the API below it in
hundredths of percent: files that were made through it need ``units={active: hundredths}``, and the import says so.

Get-Stat writes times in the zone and language of its user, newest first: UTC in ISO 8601 is what the command below asks for;
other forms are read where the file leaves no doubt, with ``zone=``.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports.long_tables import Long, is_type_line, long_batches
from hvgym.envs.imports.reading import files_of, frames, numbers, text
from hvgym.envs.imports.source import Batch, Column, Options, Source
from hvgym.envs.imports.vsphere import COUNTERS, INSTEAD

UNITS = {
    "KB": "KiB",
    "MB": "MiB",
    "KBps": "KiB/s",
    "MBps": "MiB/s",
    "%": "percent",
    "MHz": "MHz",
    "millisecond": "ms",
    "ms": "ms",
}
SIZES = {"MemoryMB": 1.0, "MemoryGB": 1024.0}
UNIT = re.compile(rf"""[;,\t]"?({"|".join(map(re.escape, UNITS))})"?(?=[;,\t]|\s*$)""")
METRIC = re.compile(r"[a-z]+\.[A-Za-z]+\.(?:average|maximum|latest|summation)")


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of every VM. Lists of VMs (Name, MemoryMB or MemoryGB, NumCpu, VMHost) may be among the files."""
    files = files_of(paths, SOURCE.patterns)
    lists = [file for file in files if _is_list(file)]
    static = _static(lists)
    for file in files:
        if file not in lists:
            yield from long_batches(file, _shape(file, options, static), options.zone)
    if len(lists) == len(files):
        raise InputError(
            f"{lists[0]}: a list of VMs only; give the file of Get-Stat too (Entity,MetricId,Timestamp,Value,Unit)"
        )


def _shape(file: Path, options: Options, static: dict[str, dict[str, object]]) -> Long:
    there = _metrics(file)
    return Long(
        vm=options.columns.get("vm", "Entity"), metric="MetricId", time=options.columns.get("time", "Timestamp"), value="Value",
        columns=partial(_columns, there=there), vm_of=lambda cell, _: cell or None, agg="mean", unknown=_unknown,
        whole="Instance", seconds="IntervalSecs", static=static,
    )  # fmt: skip


def _columns(metric: str, there: dict[str, str | None]) -> tuple[Column, ...]:
    column = COUNTERS.get(metric)
    if column is None or INSTEAD.get(metric) in there:
        return ()
    unit = there.get(metric)
    if unit is None or UNITS.get(unit) == column.unit:
        return (column,)
    return (replace(column, title=f"{column.title} [{unit}]", unit=UNITS.get(unit)),)


def _metrics(file: Path) -> dict[str, str | None]:
    """The counters of a file, and the unit that stands beside all rows of each: rows of two units would be read in one."""
    found = dict[str, str | None]()
    with text(file) as stream:
        for number, line in enumerate(stream, start=1):
            if metric := METRIC.search(line):
                beside = UNIT.search(line)
                unit = beside[1] if beside else None
                if found.setdefault(metric[0], unit) != unit:
                    raise InputError(
                        f"{file}, line {number}: {metric[0]} has unit {shown(unit)}, and {shown(found[metric[0]])} before: export "
                        "it in one unit, or import each part by itself"
                    )
    return found


def _unknown(file: Path, metrics: Sequence[str]) -> InputError:
    some = shown(", ".join(metrics[:8]), 120)
    return InputError(
        f"{file}: no counter of a VM is known in column 'MetricId' ({some}); export {', '.join(list(COUNTERS)[:4])}"
    )


def _is_list(file: Path) -> bool:
    with text(file) as stream:
        line = next((line for line in stream if line.strip() and not is_type_line(line)), "")
    names = {name.strip('" \n') for name in re.split(r"[;,\t]", line)}
    return "Name" in names and bool(names & SIZES.keys())


def _static(lists: Sequence[Path]) -> dict[str, dict[str, object]]:
    """By name of the column and VM: cap in MiB, vcpus, host."""
    static: dict[str, dict[str, object]] = {}
    for file in lists:
        for piece in frames(file, skip=is_type_line):
            size = next(name for name in SIZES if name in piece.columns)
            decimal = "," if piece[size].str.contains(",").any() else "."
            caps_mib = numbers(piece[size], file, size, decimal) * SIZES[size]
            static.setdefault("cap", {}).update(zip(piece["Name"], caps_mib, strict=True))
            if "NumCpu" in piece.columns:
                static.setdefault("vcpus", {}).update(
                    zip(piece["Name"], numbers(piece["NumCpu"], file, "NumCpu"), strict=True)
                )
            if "VMHost" in piece.columns:
                static.setdefault("host", {}).update(zip(piece["Name"], piece["VMHost"], strict=True))
    return static


SOURCE = Source(
    name="powercli",
    title="vSphere: PowerCLI's Get-Stat",
    command=(
        "Get-VM | Get-Stat -Stat mem.active.average,mem.consumed.average,mem.vmmemctl.average,mem.swapped.average,"
        "mem.compressed.average,cpu.usage.average,cpu.ready.summation -Start (Get-Date).AddDays(-7) -IntervalMins 5 | "
        "Select-Object Entity,MetricId,Instance,@{n='Timestamp';e={$_.Timestamp.ToUniversalTime().ToString('o')}},Value,Unit,"
        "IntervalSecs | Export-Csv stats.csv -NoTypeInformation; "
        "Get-VM | Select-Object Name,MemoryMB,NumCpu,VMHost | Export-Csv vms.csv -NoTypeInformation"
    ),
    columns=tuple(COUNTERS.values()),
    patterns=("*.csv",),
    read=read,
    notes=(
        "Give both files: stats.csv and vms.csv, which says the VMs' sizes; or say caps=.",
        "vCenter keeps 5 minutes for a day, 30 minutes for a week, 2 hours for a month and a day for a year: export every day, or "
        "judge occupancy only.",
        "Times without a zone need zone=; 3/4/2017 is refused where the file's other dates do not tell day from month.",
        "cpu.usagemhz alone leaves CPU unknown, for nothing says what MHz a VM may have: export cpu.usage.",
        "Active is sampled: pages touched lately, far below what the guest uses.",
        "mem.granted is not read (what the VM ever touched); mem.usage, active in percent, is read where mem.active is missing.",
        "Whether vCenter keeps mem.active beyond a day depends on its statistics level: look at the gaps that check=true shows.",
    ),
)
