"""UFCG's private cloud, 2025: OpenStack VMs every 300 s for about a year, from libvirt exporters ("Dataset on Resource Allocation
and Usage for a Private Cloud", Mendeley Data 10.17632/trvb5k4x5m.1, CC-BY 4.0; ufcg-lsd/private-cloud-data-v2025).

``ram_utilization`` is the exporter's libvirt_domain_memory_stats_used_percent: what the guest uses without page cache, in
percent of what it sees. The exporter writes 0 where the guest reports nothing, so 0 is unknown. ``vcpu_utilization`` is a rate
of CPU time, in percent added up over the VM's virtual CPUs. Sizes come by servers_specs.csv and flavors.csv (ram in MB, which
OpenStack means as MiB), groups by servers_ownerships.csv: give the folder, or these files too. Only scripts of the publishers
were at hand, no data: the names of columns are from those and from a reader of the data by others.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from hvgym.envs.errors import InputError
from hvgym.envs.imports.flat_tables import pieces, titled, values
from hvgym.envs.imports.reading import files_of, frames, numbers
from hvgym.envs.imports.source import Batch, Column, Options, Source

CAP = Column("cap", "flavors.csv: ram", "MiB")
VCPUS = Column("vcpus", "flavors.csv: vcpu")
USED = Column("guest_used", "ram_utilization", "percent", zero="unknown")
CPU = Column("cpu_used", "vcpu_utilization", "percent_of_core")

CORES = ("vcpu", "vcpus")


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of every server. Raises `InputError` where sizes are not among the files, unless ``caps=`` says them."""
    by_column = {file: _header(file) for file in files_of(paths, SOURCE.patterns)}
    columns = titled((USED, CPU), options)
    use = [file for file, header in by_column.items() if columns[0].title in header]
    if not use:
        raise InputError(
            f"{next(iter(by_column))}: no column '{columns[0].title}' in any file; give servers_utilization.csv"
        )
    flavor_of = _map(by_column, "server_id", "flavor_id")
    sizes = _sizes(by_column)
    groups = _map(by_column, "server_id", "project_id")
    if not (flavor_of and sizes) and not options.caps_mib:
        raise InputError(
            f"{use[0]}: nothing says how large the servers are; give servers_specs.csv and flavors.csv too, or caps="
        )
    for file in use:
        for piece in pieces(file, ("timestamp", "server_id", columns[0].title)):
            servers = piece["server_id"].str.strip()
            flavors = servers.map(flavor_of)
            read = tuple(column for column in columns if column.title in piece.columns)
            frame = piece[[]].assign(
                vm=servers,
                time=numbers(piece["timestamp"], file, "timestamp"),
                agg="last",
                end=True,
                line=piece.index.to_numpy(np.int64),
                cap=flavors.map({name: mib for name, (mib, _) in sizes.items()}).astype(float),
                vcpus=flavors.map({name: cores for name, (_, cores) in sizes.items()}).astype(float),
                group=servers.map(groups),
                **values(piece, read, file),
            )
            if "host_id" in piece.columns:
                frame["host"] = piece["host_id"].str.strip()
            yield Batch(file, frame, (CAP, VCPUS, *read))


def _header(file: Path) -> list[str]:
    first = next(frames(file, rows=1), None)
    return [] if first is None else list(first.columns)


def _map(headers: Mapping[Path, Sequence[str]], key: str, value: str) -> dict[str, str]:
    """Of all files with both columns but no use, the value that stands last for each key."""
    found = dict[str, str]()
    for file, header in headers.items():
        if key in header and value in header and USED.title not in header:
            for piece in frames(file):
                found.update(zip(piece[key].str.strip(), piece[value].str.strip(), strict=True))
    return found


def _sizes(headers: Mapping[Path, Sequence[str]]) -> dict[str, tuple[float, float]]:
    """Of each flavour: memory in MiB, virtual CPUs."""
    found = dict[str, tuple[float, float]]()
    for file, header in headers.items():
        if "flavor_id" in header and "ram" in header:
            for piece in frames(file):
                cores = next((name for name in CORES if name in header), None)
                mib = numbers(piece["ram"], file, "ram")
                vcpus = numbers(piece[cores], file, cores) if cores else np.full(len(piece), np.nan)
                found.update(zip(piece["flavor_id"].str.strip(), zip(mib, vcpus, strict=True), strict=True))
    return found


SOURCE = Source(
    name="ufcg",
    title="UFCG private cloud 2025",
    command="download data.mendeley.com/datasets/trvb5k4x5m/1 and give the folder",
    columns=(CAP, VCPUS, USED, CPU),
    patterns=("servers_utilization.csv", "servers_specs.csv", "servers_ownerships.csv", "flavors.csv"),
    read=read,
    notes=(
        "Used memory is the guest's, page cache not counted, in percent of the flavour; 0 is a guest that reports nothing.",
        "The flavour that a server had last is its size all along: resizes are not told apart.",
        "CPU is in percent added up over virtual CPUs; some servers pass 100 % per virtual CPU after gaps.",
    ),
    licence="CC-BY 4.0",
)
