"""Azure's VM trace of 2017 (AzurePublicDatasetV1): when VMs of which size came and went. It has no memory use.

Source: Cortez et al., "Resource Central", SOSP 2017; columns as AzurePublicDatasetV1.md lists them. Two forms are read:

- ``vmtable.csv``, as published, without a header: VM, subscription, deployment, created, deleted, maximum, average and 95th
  percentile of CPU, category, cores, memory in GB (meant as GiB: sizes are 1.75, 3.5, 7...);
- the forms of huaweicloud/trace_generation_rnn (INPUT.md): arrivals in bins of 300 s by flavour (``v1.dev.txt``), the same VMs'
  lifetimes in bins (``v1.dev.c2100000.txt``; U ended, C still ran when the trace ends at second 2,100,000), and two maps.

A VM arrives at the end of its bin; its lifetime is the middle of its bin (a guess within it, wide in the last ones) and ends
no later than the trace. Each VM is one row, at its arrival. Left out: CPU readings; a VM's average CPU is kept.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports.flat_tables import pieces
from hvgym.envs.imports.reading import files_of, numbers, text
from hvgym.envs.imports.source import Batch, Column, Options, Source

if TYPE_CHECKING:
    import pandas as pd

VMTABLE = (
    *(
        "vmid",
        "subscriptionid",
        "deploymentid",
        "vmcreated",
        "vmdeleted",
        "maxcpu",
        "avgcpu",
        "p95maxcpu",
        "vmcategory",
    ),
    *("vmcorecount", "vmmemory"),
)
CAP = Column("cap", "memory of the size", "GiB")
VCPUS = Column("vcpus", "cores of the size")

KINDS = {
    "flavours": re.compile(r"\d+,[\d.]+ \S+"),
    "intervals": re.compile(r"\d+ \d+"),
    "lifetimes": re.compile(r"\d+ (?:[UC]\d+|\|)(?:,(?:[UC]\d+|\|))*,?"),
    "arrivals": re.compile(r"\d+ (?:[a-z]|\|)(?:,(?:[a-z]|\|))*,?"),
}
BIN_S = 300.0
BATCH_VMS = 50_000


@dataclass(frozen=True)
class Maps:
    """Of the processed form: cores and GiB of a flavour; first and last seconds of a lifetime's bin."""

    flavours: Mapping[str, tuple[float, float]]
    bins_s: Mapping[int, tuple[float, float]]


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """A row of every VM."""
    by_kind = dict[str, list[Path]]()
    for file in files_of(paths, SOURCE.patterns):
        by_kind.setdefault(_kind(file), []).append(file)
    for file in by_kind.get("vmtable", []):
        yield from _vmtable(file)
    if "arrivals" in by_kind:
        yield from _processed(by_kind)
    elif "vmtable" not in by_kind:
        there = ", ".join(f"{kind} ({files[0].name})" for kind, files in by_kind.items())
        raise InputError(
            f"{paths[0]}: no arrivals of VMs here, only {there}; give vmtable.csv, or v1.dev.txt and its maps"
        )


def _kind(file: Path) -> str:
    with text(file) as stream:
        line = next((line.strip() for line in stream if line.strip()), "")
    if line.count(",") == len(VMTABLE) - 1 and len(line.split(",")[0]) > 1:
        return "vmtable"
    for kind, form in KINDS.items():
        if form.fullmatch(line):
            return kind
    raise InputError(
        f"{file}: line 1: {shown(line, 60)} is neither a row of vmtable.csv ({len(VMTABLE)} cells) nor arrivals as '300 g,|,b,m'"
    )


def _vmtable(file: Path) -> Iterator[Batch]:
    for piece in pieces(file, VMTABLE, separator=",", header=VMTABLE):
        if piece["vmcreated"].iloc[0].strip().lower() in ("vmcreated", "timestamp vm created"):
            piece = piece.iloc[1:]
        size = {name: _bucket(piece[name]) for name in ("vmcorecount", "vmmemory")}
        created, deleted = (numbers(piece[name], file, name) for name in ("vmcreated", "vmdeleted"))
        frame = piece[[]].assign(
            vm=piece["vmid"].str.strip(),
            time=created,
            group=piece["subscriptionid"].str.strip(),
            arrive_s=created,
            depart_s=deleted,
            line=piece.index.to_numpy(np.int64),
            cap=numbers(size["vmmemory"], file, "vmmemory"),
            vcpus=numbers(size["vmcorecount"], file, "vmcorecount"),
        )
        yield Batch(file, frame, (CAP, VCPUS))


def _bucket(cells: "pd.Series") -> "pd.Series":
    """Version 2 says ``>24`` of its largest sizes."""
    return cells.str.strip().str.removeprefix(">")


def _processed(by_kind: Mapping[str, list[Path]]) -> Iterator[Batch]:
    for kind in ("flavours", "intervals", "lifetimes"):
        if kind not in by_kind:
            needed = {
                "flavours": "flav_map.txt",
                "intervals": "v1.interval_map.txt",
                "lifetimes": "v1.dev.c2100000.txt",
            }
            raise InputError(f"{by_kind['arrivals'][0]}: {kind} are missing; give {needed[kind]} too")
    maps = Maps(_flavours(by_kind["flavours"][0]), _bins_s(by_kind["intervals"][0]))
    for file in by_kind["arrivals"]:
        stem = file.name.removesuffix(".gz").removesuffix(".txt")
        partner = next((other for other in by_kind["lifetimes"] if other.name.startswith(f"{stem}.c")), None)
        if partner is None:
            raise InputError(
                f"{file}: its lifetimes are missing; give {stem}.c2100000.txt, or what it is called in your copy"
            )
        yield from _paired(file, partner, maps)


def _flavours(file: Path) -> dict[str, tuple[float, float]]:
    found = dict[str, tuple[float, float]]()
    for number, line in _lines(file, KINDS["flavours"], "cores,GB letter"):
        size, letter = line.split()
        cores, gib = size.split(",")
        if letter in found:
            raise InputError(f"{file}: line {number}: {shown(letter)} stands for two flavours")
        found[letter] = float(cores), float(gib)
    return found


def _bins_s(file: Path) -> dict[int, tuple[float, float]]:
    found = dict[int, tuple[float, float]]()
    for _, line in _lines(file, KINDS["intervals"], "seconds bin"):
        second, number = (int(part) for part in line.split())
        first, _ = found.get(number, (float(second), 0.0))
        found[number] = first, second + BIN_S
    return found


def _lines(file: Path, form: re.Pattern[str], right: str) -> Iterator[tuple[int, str]]:
    with text(file) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            if not form.fullmatch(line.strip()):
                raise InputError(f"{file}: line {number}: {shown(line.strip(), 60)} is no '{right}'")
            yield number, line.strip()


def _paired(file: Path, partner: Path, maps: Maps) -> Iterator[Batch]:
    vms = _vms(file, partner, maps)
    while rows := list(islice(vms, BATCH_VMS)):
        yield Batch(file, _frame(rows), (CAP, VCPUS))


def _frame(rows: "list[tuple[str, float, str, float, int, float, float]]") -> "pd.DataFrame":
    import pandas as pd

    names = ("vm", "arrive_s", "group", "depart_s", "line", "vcpus", "cap")
    frame = pd.DataFrame(rows, columns=list(names))
    return frame.assign(time=frame["arrive_s"])


def _vms(file: Path, partner: Path, maps: Maps) -> Iterator[tuple[str, float, str, float, int, float, float]]:
    """Name, arrival, group (one tenant's in a bin), departure (NaN: it outlives the trace), line, cores, GiB."""
    end_s = _end_s(partner)
    lifetimes = _lines(partner, KINDS["lifetimes"], "seconds U3,|,C7")
    for line, arrived in _lines(file, KINDS["arrivals"], "seconds g,|,b,m"):
        other = next(lifetimes, (0, ""))[1]
        second, flavours, lives = *arrived.split(), other.partition(" ")[2]
        letters, ends = flavours.strip(",").split(","), lives.strip(",").split(",")
        if not other.startswith(f"{second} ") or [a == "|" for a in letters] != [b == "|" for b in ends]:
            raise InputError(
                f"{file}: line {line}: {partner.name} does not have the same VMs at second {second}; are they partners?"
            )
        batch = 0
        for place, (letter, life) in enumerate(zip(letters, ends, strict=True)):
            if letter == "|":
                batch += 1
                continue
            cores, gib = _size(file, line, letter, maps)
            depart_s = np.nan if life[0] == "C" else min(float(second) + _life_s(partner, line, life, maps), end_s)
            yield f"{second}-{place}", float(second), f"{second}-{batch}", depart_s, line, cores, gib


def _end_s(partner: Path) -> float:
    """The right edge of the trace, which is in the name of the file."""
    match = re.search(r"\.c(\d+)\.", partner.name)
    return float(match[1]) if match else np.inf


def _size(file: Path, line: int, letter: str, maps: Maps) -> tuple[float, float]:
    if letter not in maps.flavours:
        raise InputError(f"{file}: line {line}: flavour {shown(letter)} is not in the map of flavours")
    return maps.flavours[letter]


def _life_s(partner: Path, line: int, life: str, maps: Maps) -> float:
    """The middle of a bin."""
    if int(life[1:]) not in maps.bins_s:
        raise InputError(f"{partner}: line {line}: lifetime {shown(life)} is in no bin of the map of intervals")
    first, last = maps.bins_s[int(life[1:])]
    return (first + last) / 2


SOURCE = Source(
    name="azure_v1",
    title="Azure 2017 (AzurePublicDatasetV1): arrivals, sizes, lifetimes",
    command="download vmtable.csv.gz by the links of github.com/Azure/AzurePublicDataset (AzurePublicDatasetV1.md)",
    columns=(CAP, VCPUS),
    patterns=("*vmtable*.csv", "*.txt"),
    read=read,
    notes=(
        "There is no memory use in it: sizes, arrivals and departures only. Memory of such VMs is synthetic, whatever draws it.",
        "Times are seconds since the trace began.",
        "In the processed form lifetimes are bins: the middle is taken, and VMs that outlive the trace have no departure.",
        "GB are GiB (1.75, 3.5, 7...).",
    ),
    licence="CC-BY 4.0, Microsoft",
)
