"""VM history out of Proxmox VE: what ``pvesh get /nodes/NODE/qemu/ID/rrddata`` answers, a file a VM.

Fields, their units and the archives' steps are those of pve-cluster (src/pmxcfs/status.c, src/PVE/RRD.pm), qemu-server
(src/PVE/QemuServer.pm, src/PVE/API2/Qemu.pm) and pve-manager (PVE/Service/pvestatd.pm): bytes, bytes/s already for network and
disk, CPU as a share of the VM's own cores, pressure in percent of time as the host's cgroup sees it. RRD.pm labels a row with
the start of its step (it writes the fetch's start before it adds the step). One reply may mix steps of old and new archives.

``mem`` means two things. Where the balloon reports it is total less free, page cache included; where it does not it is the
host's number. With ``memhost`` beside it (9.0 and later) rows in which both agree are of the second kind and stand as backed
alone. Without ``memhost`` nothing tells them apart: ``mem`` is read as not free, ``columns={backed: mem}`` says otherwise.

A stopped VM has its size and no ``mem`` or ``cpu``: off. Rows without anything (before the VM was there) are left out.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.imports.reading import Array, documents, elements, files_of
from hvgym.envs.imports.source import Batch, Column, Options, Source

if TYPE_CHECKING:
    import pandas as pd

FIELDS: Mapping[str, Column] = {
    "maxmem": Column("cap", "maxmem", "B", "gauge", "unknown"),
    "mem": Column("guest_notfree", "mem", "B", "gauge", "unknown"),
    "memhost": Column("backed", "memhost", "B", "gauge", "unknown"),
    "cpu": Column("cpu_used", "cpu", "share", "gauge"),
    "maxcpu": Column("vcpus", "maxcpu", None, "gauge", "unknown"),
    "netin": Column("net_rx", "netin", "B/s", "gauge"),
    "netout": Column("net_tx", "netout", "B/s", "gauge"),
    "diskread": Column("disk_read", "diskread", "B/s", "gauge"),
    "diskwrite": Column("disk_write", "diskwrite", "B/s", "gauge"),
    "pressurememorysome": Column("psi_mem_some", "pressurememorysome", "percent", "gauge"),
}

NAMED = re.compile(r"(?:(?:qemu|vm)[-_.])?(?P<id>\d+)(?:[-_.](?P<name>.+))?", re.I)
AGGREGATE = re.compile(r"[-_.](average|avg|max)$", re.I)

MOST_ROWS = 100_000
"""An archive of a VM has at most some thousands."""

AGREE = 1e-6
"""Relative. Means of one number over one step are equal but for rounding."""

AGAIN = "give what pvesh get /nodes/NODE/qemu/ID/rrddata --output-format json prints"


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of all files, a batch a file. Raises `InputError` as in `Source`."""
    files = files_of(paths, SOURCE.patterns)
    called = options.columns.get("vm")
    if called is not None and len(files) > 1:
        raise InputError(
            f"columns.vm={shown(called)}: names one VM, but there are {len(files)} files; call the files qemu-ID-NAME.json"
        )
    fields, met = _fields(options), False
    for file in files:
        frame = _frame(file, _rows(file), fields, called)
        if frame is not None:
            met = True
            yield Batch(file, frame, tuple(column for column in fields.values() if column.quantity in frame))
    if not met:
        raise InputError(
            f"{files[0]}: no list of rows that say anything in {'it' if len(files) == 1 else 'any file'}; {AGAIN}"
        )


def _fields(options: Options) -> Mapping[str, Column]:
    """Columns by field, as the user says them."""
    fields = dict(FIELDS)
    for quantity, name in options.columns.items():
        if quantity == "vm":
            continue
        if name not in FIELDS:
            raise InputError(
                f"columns.{quantity}={shown(name)}: rrddata has no such field{nearest(name, FIELDS)}; it has {', '.join(FIELDS)}"
            )
        known = FIELDS[name]
        fields = {key: column for key, column in fields.items() if column.quantity != quantity or key == name}
        fields[name] = Column(quantity, name, known.unit, known.kind, known.zero)
    return fields


def _rows(file: Path) -> list[Mapping[str, Any]]:
    rows = list(islice(elements(file, "data"), MOST_ROWS + 1))
    if len(rows) > MOST_ROWS:
        raise InputError(
            f"{file}: more than {MOST_ROWS:,} rows; rrddata has some thousands of a VM, so this is another kind"
        )
    for found in islice(documents(file), 0 if rows else 1):
        if found not in ([], {"data": []}):
            raise InputError(f"{file}: is {shown(found)}, no list of rows; {AGAIN}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or "time" not in row:
            raise InputError(f"{file}: row {number} is {shown(row)}, without a time; {AGAIN}")
    return rows


def _frame(
    file: Path, rows: Sequence[Mapping[str, Any]], fields: Mapping[str, Column], called: str | None
) -> "pd.DataFrame | None":
    import pandas as pd

    if not rows:
        return None  # a VM that never ran
    time = _numbers(file, rows, "time")
    order = np.argsort(time, kind="stable")
    values = {column.quantity: _numbers(file, rows, field)[order] for field, column in fields.items()}
    values = {quantity: numbers for quantity, numbers in values.items() if np.isfinite(numbers).any()}
    if not values.keys() - {"cap", "vcpus"}:
        return None
    name, identity, agg = _called(file)
    frame = pd.DataFrame({"vm": called or name, "time": time[order], "agg": agg, **values})
    if identity:
        frame["uuid"] = identity
    frame = _told_apart(frame)
    used = np.any([np.isfinite(values[quantity]) for quantity in values if quantity not in ("cap", "vcpus")], axis=0)
    frame["power"] = np.where(used, "on", "off")
    return frame[np.any([np.isfinite(numbers) for numbers in values.values()], axis=0)].reset_index(drop=True)


def _called(file: Path) -> tuple[str, str, str]:
    """Name and id of the VM and kind of values, out of a file's name: qemu-100-web.max.json, 100.json."""
    stem = file.name.removesuffix(".gz").removesuffix(".json")
    kind = AGGREGATE.search(stem)
    stem = AGGREGATE.sub("", stem)
    found = NAMED.fullmatch(stem)
    agg = "max" if kind and kind.group(1).lower() == "max" else "mean"
    return (found["name"] or found["id"], f"qemu/{found['id']}", agg) if found else (stem, "", agg)


def _numbers(file: Path, rows: Sequence[Mapping[str, Any]], field: str) -> Array:
    values = [row.get(field) for row in rows]
    try:
        found = np.array([np.nan if value is None or isinstance(value, bool) else float(value) for value in values])
    except (TypeError, ValueError, OverflowError) as error:
        number = next(i for i, value in enumerate(values, 1) if not _is_number(value))
        wrong = shown(values[number - 1])
        raise InputError(f"{file}: row {number}: field '{field}': {wrong} is no number; {AGAIN}") from error
    finite = np.isfinite(found)
    if field == "time" and not finite.all():
        number = int(np.argmin(finite)) + 1
        raise InputError(f"{file}: row {number}: field 'time': {shown(values[number - 1])} is no time; {AGAIN}")
    return np.where(finite, found, np.nan)


def _is_number(value: Any) -> bool:
    try:
        return value is None or float(value) is not None
    except (TypeError, ValueError, OverflowError):
        return False


def _told_apart(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Where ``mem`` is the host's own number it says nothing of the guest."""
    if "guest_notfree" not in frame or "backed" not in frame:
        return frame
    same = np.isclose(frame["guest_notfree"], frame["backed"], rtol=AGREE, atol=0.0)
    frame.loc[same, "guest_notfree"] = np.nan
    return frame.drop(columns="guest_notfree") if frame["guest_notfree"].isna().all() else frame


SOURCE = Source(
    name="proxmox",
    title="Proxmox VE: rrddata of each VM as JSON, a file a VM",
    command=(
        'pvesh get /cluster/resources --type vm --output-format json | jq -r \'.[] | select(.type=="qemu") | '
        '"\\(.node) \\(.vmid) \\(.name)"\' | while read node id name; do for cf in AVERAGE MAX; do pvesh get '
        "/nodes/$node/qemu/$id/rrddata --timeframe month --cf $cf --output-format json > qemu-$id-$name.$cf.json; done; done"
    ),
    columns=tuple(FIELDS.values()),
    patterns=("*.json",),
    read=read,
    notes=(
        "The VM's name and id are read from the file's name: qemu-100-web.json, 100.json; .AVERAGE or .MAX before .json says "
        "what the values are. Means hide peaks: fetch both.",
        "timeframe=day has a row a minute (half an hour before 9.0), month one every half hour, year one every 6 hours; minute by "
        "minute only the last day is kept, so fetch it daily, or record with Prometheus.",
        "mem is total less free with the guest's page cache where the balloon reports, and the host's number else; 9.0.11 and "
        "9.1.4 changed what the latter counts. memhost (since 9.0) tells which it is; without it say columns={backed: mem} for VMs "
        "without balloon.",
        "disk is always 0 for VMs, and pressure is what the host's cgroup sees, not the guest.",
        "Ids are used again: a VM that was deleted and one that got its id are told apart by their size and a gap.",
    ),
)
