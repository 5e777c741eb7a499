"""esxtop's batch mode (``esxtop -b``): one wide PDH-CSV of a host, a column for each counter of each group and world.

A VM is one scheduling group among those of the host's own processes. Which groups are VMs is told by what only VMs have:
virtual CPU worlds and virtual disks. Files without either (fields chosen in esxtop's own configuration) leave the name: groups
of the kernel (idle, system, helper...) and ``process.12345`` are no VMs there. Object, instance and counter names as in the
open parsers of esxtop files and VMware's "Interpreting esxtop Statistics"; that of the balloon (Memctl) is recalled, not seen.

Memory in "MBytes" is MiB. CPU in percent is of one core and added up over a VM's worlds. Left out: granted and target sizes
(what ESX maps and aims at, not what the guest may use), network (ports name no VM reliably).
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hvgym.envs.errors import InputError
from hvgym.envs.imports.pdh import Counter, Header, Layout, batches, header_of
from hvgym.envs.imports.reading import files_of
from hvgym.envs.imports.source import Batch, Column, Options, Source

COLUMNS = {
    ("group memory", "memory size mbytes"): Column("cap", "Group Memory: Memory Size MBytes", "MiB"),
    ("group memory", "memory consumed size mbytes"): Column(
        "backed", "Group Memory: Memory Consumed Size MBytes", "MiB"
    ),
    ("group memory", "touched mbytes"): Column("active", "Group Memory: Touched MBytes", "MiB"),
    ("group memory", "memctl mbytes"): Column("balloon_taken", "Group Memory: Memctl MBytes", "MiB"),
    ("group memory", "swapped mbytes"): Column("host_swapped", "Group Memory: Swapped MBytes", "MiB"),
    ("group memory", "compressed memory mbytes"): Column(
        "host_compressed", "Group Memory: Compressed Memory MBytes", "MiB"
    ),
    ("group cpu", "% used"): Column("cpu_used", "Group Cpu: % Used", "percent_of_core"),
    ("group cpu", "% ready"): Column("cpu_wait", "Group Cpu: % Ready", "percent_of_core"),
    ("virtual disk", "mbytes read/sec"): Column("disk_read", "Virtual Disk: MBytes Read/sec", "MiB/s"),
    ("virtual disk", "mbytes written/sec"): Column("disk_write", "Virtual Disk: MBytes Written/sec", "MiB/s"),
}

GROUP = re.compile(r"(?P<id>\d+):(?P<name>.*)")
WORLD = re.compile(r"(?P<id>\d+):.*:vmx-vcpu-(?P<vcpu>\d+)(:.*)?")

HOSTS_OWN = re.compile(r"idle|system|helper|drivers|ft|vmotion|init|vmkernel|[A-Za-z_-]+\.\d+", re.IGNORECASE)
"""Names of groups that are no VMs, where nothing else tells. A VM called name.123 would be taken for one."""


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of every VM's group. Raises `InputError` where a file has none."""
    for file in files_of(paths, SOURCE.patterns):
        header = header_of(file)
        yield from batches(header, _layout(header), options.zone)


def _layout(header: Header) -> Layout:
    vms = _vms(header)
    if not vms:
        groups = sum(counter.object == "group memory" for counter in header.counters)
        raise InputError(
            f"{header.file}: line 1: no column is of a VM ({groups} of 'Group Memory' among {len(header.counters)} counters); "
            "record with esxtop -b -a, or switch the memory fields on first"
        )
    layout = Layout()
    by_name = {name: name for name in vms.values()}
    for counter in header.counters:
        column = COLUMNS.get((counter.object, counter.name))
        if column is not None and (vm := _of(counter, vms, by_name)):
            layout.add(vm, column, counter)
    if vcpus := _vcpus(header, vms):
        layout.fixed["vcpus"] = {place: vcpus[place[0]] for place in layout.places if place[0] in vcpus}
    return layout


def _of(counter: Counter, vms: dict[str, str], by_name: dict[str, str]) -> str | None:
    if counter.object == "virtual disk":
        return by_name.get(counter.instance)
    group = GROUP.fullmatch(counter.instance)
    return vms.get(group["id"]) if group else None


def _vms(header: Header) -> dict[str, str]:
    """Names of VMs by the number of their group. Two VMs of one name have the number behind it."""
    groups = {
        group["id"]: group["name"]
        for counter in header.counters
        if counter.object == "group memory" and (group := GROUP.fullmatch(counter.instance))
    }
    disks = {counter.instance.split(":")[0] for counter in header.counters if counter.object == "virtual disk"}
    worlds = {world["id"] for _, world in _vcpu_worlds(header)}
    if worlds or disks:
        groups = {number: name for number, name in groups.items() if number in worlds or name in disks}
    else:
        groups = {number: name for number, name in groups.items() if not HOSTS_OWN.fullmatch(name)}
    names = list(groups.values())
    return {n: name if names.count(name) == 1 else f"{name} ({n})" for n, name in groups.items()}


def _vcpu_worlds(header: Header) -> list[tuple[Counter, re.Match[str]]]:
    return [
        (counter, world)
        for counter in header.counters
        if counter.object == "vcpu" and (world := WORLD.fullmatch(counter.instance))
    ]


def _vcpus(header: Header, vms: dict[str, str]) -> dict[str, float]:
    seen = dict[str, set[str]]()
    for _, world in _vcpu_worlds(header):
        if world["id"] in vms:
            seen.setdefault(vms[world["id"]], set()).add(world["vcpu"])
    return {vm: float(len(vcpus)) for vm, vcpus in seen.items()}


SOURCE = Source(
    name="esxtop",
    title="ESXi: esxtop in batch mode",
    command="esxtop -b -a -d 20 -n 4320 | gzip > esxtop.csv.gz",
    columns=tuple(COLUMNS.values()),
    patterns=("*.csv",),
    read=read,
    notes=(
        "The columns are fixed when esxtop starts: VMs that come later are missing, so start it anew every day.",
        "Stamps are UTC as the header says; zone= is not asked for.",
        "Groups of the host's own processes are left out: VMs are those with virtual CPU worlds or virtual disks.",
        "Touched is what ESX samples as active, far below what a database uses; the balloon is Memctl.",
        "20 s for a day is some 4,000 rows of some 50 kB on a full host: record memory and CPU fields only where disk is short.",
    ),
)
