"""Hyper-V's performance counters, as typeperf, Export-Counter (wide, PDH-CSV) and Get-Counter | Export-Csv (long) write them.

Physical Memory is what a VM has now, and what the host backs, for Hyper-V pages nothing out while it runs; it is also what the
guest can use, so that guest_used is it less Guest Available Memory (reported from Windows Server 2019 on). Guest Visible
Physical Memory is the most that the VM has had since it started, which stands for cap where nothing else says it. Units are
MB, meant as MiB, and percent: as prometheus-community/windows_exporter converts them (collector hyperv, dynamic memory VM).
Virtual processors are instances of their own, ``vm:Hv VP 0``, added up here.

Counter names are in the language of Windows. English names are known here; others are mapped by ``columns=``.

Left out: pressure (demand in percent of what is assigned: demand is commit, another thing than use), network and storage
adapters (their instances name no VM reliably).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports.long_tables import Long, long_batches
from hvgym.envs.imports.pdh import CLOCK, Header, Layout, Place, batches, header_of
from hvgym.envs.imports.reading import files_of, text
from hvgym.envs.imports.source import Batch, Column, Options, Source

MEMORY = "hyper-v dynamic memory vm"
PROCESSOR = "hyper-v hypervisor virtual processor"
PARTITION = "hyper-v vm vid partition"

COLUMNS = {
    (MEMORY, "guest visible physical memory"): (
        Column("cap", "Hyper-V Dynamic Memory VM: Guest Visible Physical Memory", "MiB", zero="unknown"),
    ),
    (MEMORY, "physical memory"): (
        Column("granted", "Hyper-V Dynamic Memory VM: Physical Memory", "MiB", zero="unknown"),
        Column("guest_total", "Hyper-V Dynamic Memory VM: Physical Memory", "MiB", zero="unknown"),
    ),
    (MEMORY, "guest available memory"): (
        Column("guest_usable", "Hyper-V Dynamic Memory VM: Guest Available Memory", "MiB", zero="unknown"),
    ),
    (PARTITION, "physical pages allocated"): (
        Column("backed", "Hyper-V VM Vid Partition: Physical Pages Allocated", "pages", zero="unknown"),
    ),
    (PROCESSOR, "% total run time"): (
        Column("cpu_used", "Hyper-V Hypervisor Virtual Processor: % Total Run Time", "percent_of_core"),
    ),
}
GERMAN = {
    ("hyper-v - virtueller prozessor des hypervisors", "% gesamtausführungszeit"): (PROCESSOR, "% total run time")
}
"""The one translation that was found written down; others come by ``columns=``."""

VIRTUAL_PROCESSOR = re.compile(r"(?P<vm>.*):[^:]*\bVP \d+(?P<again>#\d+)?", re.IGNORECASE)
"""``web:Hv VP 0``; of a second VM of that name, which is ``web#1`` elsewhere, ``web:Hv VP 0#1``."""
NO_VM = ("_total", "")


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of every VM. Raises `InputError` where no counter is known, with those that are there."""
    spelt = dict[str, str]()
    for file in files_of(paths, SOURCE.patterns):
        if _is_wide(file):
            header = header_of(file)
            found = batches(header, _layout(header, options), options.zone)
        else:
            found = long_batches(file, _long(file, options), options.zone)
        for batch in found:
            for name in (
                "vm",
                "host",
            ):  # Get-Counter writes small letters, typeperf names as they are: as it was met first
                batch.frame[name] = batch.frame[name].map(lambda of: spelt.setdefault(str(of).casefold(), str(of)))
            yield batch


def _is_wide(file: Path) -> bool:
    """typeperf starts with an empty line."""
    with text(file) as stream:
        first = next((line for line in stream if line.strip()), "")
    return CLOCK.match(first.lstrip(' "')) is not None


def _layout(header: Header, options: Options) -> Layout:
    layout, vcpus = Layout(), dict[Place, float]()
    paged = "backed" in options.columns or any(counter.object == PARTITION for counter in header.counters)
    for counter in header.counters:
        for column in _columns((counter.object, counter.name), options, paged):
            if vm := vm_of(counter.instance, column):
                layout.add(vm, column, counter)
                if column.quantity == "cpu_used":
                    vcpus[vm, counter.host] = vcpus.get((vm, counter.host), 0.0) + 1
    translated = any((counter.object, counter.name) in GERMAN for counter in header.counters)
    if not layout.parts or (translated and {column.quantity for column in layout.columns} <= {"cpu_used"}):
        raise _unknown(header.file, [counter.title for counter in header.counters])
    if vcpus:
        layout.fixed["vcpus"] = vcpus
    return layout


def _columns(counter: tuple[str, str], options: Options, paged: bool) -> tuple[Column, ...]:
    """What a counter says. `paged`: pages of partitions are recorded too, which are what the host backs for any VM."""
    named = {name.lower(): quantity for quantity, name in options.columns.items()}
    quantity = named.get(counter[1])
    if quantity is not None:  # all that its English counter says: physical memory is what is granted, seen, and backed
        english = next(
            (key for key, columns in COLUMNS.items() if quantity in [column.quantity for column in columns]), None
        )
        if quantity == "backed":  # of memory or of pages: its values tell
            return (Column("backed", counter[1], zero="unknown"),)
        return tuple(replace(column, title=counter[1]) for column in _said_by(english, paged))
    return _said_by(GERMAN.get(counter, counter), paged)


def _said_by(counter: tuple[str, str] | None, paged: bool) -> tuple[Column, ...]:
    columns = COLUMNS.get(counter, ()) if counter is not None else ()
    return (*columns, BACKED) if counter == (MEMORY, "physical memory") and not paged else columns


def vm_of(instance: str, column: Column) -> str | None:
    """The VM of an instance, of which a VM has several where they are its processors. The sum of all is none."""
    if instance.lower() in NO_VM:
        return None
    processor = VIRTUAL_PROCESSOR.fullmatch(instance)
    if processor is None or column.quantity != "cpu_used":
        return instance
    return processor["vm"] + (processor["again"] or "")


def _long(file: Path, options: Options) -> Long:
    """Get-Counter | Select-Object -ExpandProperty CounterSamples | Export-Csv."""
    with text(file) as stream:
        paged = "backed" in options.columns or any(PARTITION in line.lower() for line in stream)

    def columns(path: str) -> tuple[Column, ...]:
        parts = path.lower().split("\\")
        return _columns((parts[-2].split("(")[0], parts[-1]), options, paged) if len(parts) > 2 else ()

    return Long(
        vm="InstanceName", metric="Path", time="Timestamp", value="CookedValue", columns=columns, vm_of=vm_of, agg="last",
        added=frozenset(("cpu_used",)), unknown=_unknown, host_of=_host_of,
    )  # fmt: skip


def _host_of(path: str) -> str:
    """Of a counter's path, which begins with it or with its object."""
    parts = path.split("\\")
    return parts[2] if parts[:2] == ["", ""] and len(parts) > 3 else ""


def _unknown(file: Path, counters: Sequence[str]) -> InputError:
    last = dict.fromkeys(name.rsplit("\\", 1)[-1] for name in counters)
    some = ", ".join(shown(name, 40) for name in list(last)[:8]) or "none"
    return InputError(
        f"{file}: no counter of Hyper-V is known by its name here (there are: {some}); are they in another language? "
        "map them as in columns={granted: 'Physischer Speicher', guest_usable: ...}, by the last part of their names"
    )


BACKED = Column("backed", "Hyper-V Dynamic Memory VM: Physical Memory", "MiB", zero="unknown")
KNOWN = (*(column for columns in COLUMNS.values() for column in columns), BACKED)

SOURCE = Source(
    name="hyperv",
    title="Hyper-V: performance counters by typeperf, Export-Counter or Get-Counter | Export-Csv",
    command=(
        r'typeperf "\Hyper-V Dynamic Memory VM(*)\*" "\Hyper-V Hypervisor Virtual Processor(*)\% Total Run Time" '
        r'"\Hyper-V VM Vid Partition(*)\Physical Pages Allocated" -si 60 -sc 10080 -f CSV -o vm.csv'
    ),
    columns=KNOWN,
    patterns=("*.csv",),
    read=read,
    notes=(
        "Windows keeps no history of these counters: only what was recorded is there.",
        "Stamps are local; the header says how far from UTC they were at the start, or say zone=Europe/Paris, which also "
        "holds where the clocks change.",
        "Counter names are in the language of Windows: where they are not English, map them by columns=.",
        "VMs with static memory have no Dynamic Memory counters; Vid Partition's pages say what is backed for them, "
        "and caps= their size.",
        "cap is the Guest Visible Physical Memory, the most since the VM started: say caps= for the maximum that it is given.",
        "Current Pressure is demand in percent of what is assigned; it is not read, for demand there is commit, not use.",
        "Save the file as UTF-8 where names of VMs or counters have letters beyond English.",
    ),
)
