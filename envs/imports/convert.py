"""From a source's rows to those of the plain table: units, counters to rates, what follows from two columns, one host at a time.

Nothing is invented: what is 0 where a running VM cannot have 0 is unknown, a counter's first row has no rate, a counter that fell
began anew (its value is what it counted since).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hvgym.envs.errors import InputError
from hvgym.envs.imports.clocks import Clock
from hvgym.envs.imports.evidence import same_series
from hvgym.envs.imports.source import MEMORY_UNITS, SHARE_UNITS, Column
from hvgym.envs.imports.table import FLAGS
from hvgym.envs.imports.tally import DIFFER, MOST_DIFFER, Tally
from hvgym.envs.imports.trials import CPU_SLACK, CPU_TIMES, MIB, MOST
from hvgym.envs.imports.units import MOST_RATE, Reading

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

NEVER_0 = ("granted", "guest_total", "guest_usable", "guest_unused", "guest_used", "guest_notfree", "backed")
"""Of a running VM; exporters write 0 for what the guest does not report."""

COPIED = {"vm": "vm_id", "uuid": "uuid", "host": "host_id", "group": "group", "os": "os_family"}

RATED = {
    "guest_swap_in": "guest_swap_in_bytes_per_s", "guest_swap_out": "guest_swap_out_bytes_per_s",
    "guest_major_faults": "guest_major_faults_per_s", "disk_read": "disk_read_bytes_per_s",
    "disk_write": "disk_write_bytes_per_s", "net_rx": "net_rx_bytes_per_s", "net_tx": "net_tx_bytes_per_s",
}  # fmt: skip

UNLIKE, UNLIKE_SIZE, UNLIKE_ROWS, UNLIKE_S = 0.10, 0.02, 20, 3600.0
"""By how much what a VM uses, and its size, differ at most where it is read twice within a step, in the middle; how many steps and
seconds with two readings make two VMs (guesses)."""

UNLIKE_USE = ("guest_used", "guest_usable", "guest_notfree", "guest_unused", "backed")

SIZED = ("guest_used", "guest_notfree", "guest_cache", "backed", "active", "host_swapped", "host_compressed", "granted")


@dataclass(frozen=True)
class Rules:
    """How every row is read: clock, readings of the columns, the source's columns, what the user says of sizes."""

    clock: Clock
    readings: Mapping[str, Reading]
    columns: Mapping[str, Column]
    caps_mib: Mapping[str, float]


def converted(raw: "pd.DataFrame", rules: Rules, tally: Tally) -> "pd.DataFrame":
    """Rows of whole VMs in the columns of the plain table, beside them what later steps need: ``uuid``, ``os_family``, ``group``,
    ``arrive_s``, ``depart_s``, ``end``, ``reported_s``, ``guest_usable``, ``guest_unused`` (bytes), ``counted`` and ``restarted``
    (whether counters of this row and the one before it are known, and fell)."""
    import pandas as pd

    raw = _without_doubles(_told_apart(raw, rules, tally), tally)
    same = same_series(raw)
    seconds = np.r_[np.nan, np.diff(raw["time"].to_numpy())]
    columns = _labels(raw)
    caps = _caps(raw, rules, tally)
    columns |= {"time": raw["time"].to_numpy(), "cap_bytes": caps}
    amounts, counted, restarted = _amounts(raw, rules, same, seconds, tally)
    columns |= _memory(raw, rules, caps) | _rates(amounts, rules, tally) | _cpu(raw, rules, amounts)
    columns |= {"counted": counted, "restarted": restarted, "flags": _flags(rules, restarted)}
    return _one_host(pd.DataFrame(columns), rules, tally)


def _labels(raw: "pd.DataFrame") -> dict[str, object]:
    columns: dict[str, object] = {name: raw[given] for given, name in COPIED.items() if given in raw}
    columns["agg"] = raw["agg"].astype(object).fillna("mean") if "agg" in raw else "mean"
    columns["power"] = raw["power"].astype(object).fillna("unknown") if "power" in raw else "unknown"
    for name in ("interval_s", "end", "reported_s", "arrive_s", "depart_s"):
        columns[name] = raw.get(name, np.nan)
    return columns


def _flags(rules: Rules, restarted: Flags) -> npt.NDArray[np.int32]:
    guessed = FLAGS["unit_guessed"] if any(reading.guessed for reading in rules.readings.values()) else 0
    return (guessed + FLAGS["reset"] * restarted).astype(np.int32)


def _without_doubles(raw: "pd.DataFrame", tally: Tally) -> "pd.DataFrame":
    """Each time once a VM, aggregate and host: exports overlap. The first row counts where others say something else."""
    again = same_series(raw)
    again[1:] &= np.diff(raw["time"].to_numpy()) == 0
    if not again.any():
        return raw
    numbers = raw.select_dtypes(float)
    differ = again.copy()
    above, here = numbers.to_numpy()[:-1], numbers.to_numpy()[1:]
    differ[1:] &= ((above != here) & ~(np.isnan(above) & np.isnan(here))).any(axis=1)
    tally.add("rows that are there twice, one left out", int((again & ~differ).sum()), len(raw))
    example = "" if not differ.any() else f"{raw['vm'][differ].iloc[0]} at {raw['time'][differ].iloc[0]:.0f}"
    tally.add(DIFFER, int(differ.sum()), len(raw), example)
    of_vm = raw.assign(differ=differ).groupby("vm", observed=True)["differ"].agg(["sum", "mean"])
    if (twins := of_vm.index[(of_vm["sum"] >= UNLIKE_ROWS) & (of_vm["mean"] > MOST_DIFFER)]).size:
        found = of_vm.loc[twins[0]]
        raise InputError(
            f"VM '{twins[0]}' has two rows of one time that differ, {int(found['sum']):,} times ({100 * found['mean']:.0f} % of "
            "its rows): two VMs of one name, or two files that contradict each other; give each VM once, and a name of its own"
        )
    by_hour = raw[differ].groupby(raw["time"][differ] // 3600)["vm"].nunique()
    for hour, vms in zip(by_hour.index.to_numpy(), by_hour.to_numpy(), strict=True):
        tally.doubled[int(hour)] = tally.doubled.get(int(hour), 0) + int(vms)
    return raw[~again].reset_index(drop=True)


def _caps(raw: "pd.DataFrame", rules: Rules, tally: Tally) -> Array:
    """Configured memory by row: what the user says, else the files; known of a VM at any time, it holds until another is."""
    name = next((name for name in ("cap", "guest_total") if name in raw and name in rules.readings), None)
    size = MEMORY_UNITS[rules.readings[name].unit] if name else 1.0
    values = raw[name].where(raw[name] > 0) * size if name else raw["time"] * np.nan
    by_vm = values.groupby(raw["vm"], observed=True)
    values = by_vm.transform("max") if name == "guest_total" else by_vm.transform(lambda of: of.ffill().bfill())
    names = raw["vm"].astype(str)
    said = names.map(dict(rules.caps_mib))
    said = said.where(said.notna(), names.map(tally.apart).map(dict(rules.caps_mib))).astype(float) * MIB
    return np.asarray(said.where(said.notna(), values), np.float64)


def _amounts(
    raw: "pd.DataFrame", rules: Rules, same: Flags, seconds: Array, tally: Tally
) -> tuple[dict[str, Array], Flags, Flags]:
    """Columns that are no memory, counters as change a second; whether counters are known, and whether one fell."""
    counted, restarted = np.zeros(len(raw), bool), np.zeros(len(raw), bool)
    amounts = dict[str, Array]()
    for quantity, reading in rules.readings.items():
        if quantity in ("cap", *MOST) or quantity not in raw:
            continue
        values = _said(raw, quantity, rules.columns)
        if reading.kind == "counter":
            values, known, fell = rate_of(values, same, seconds)
            counted |= known
            restarted |= fell
        amounts[quantity] = values
    tally.add("counters that began anew", int(restarted.sum()), len(raw))
    return amounts, counted, restarted


def rate_of(values: Array, same: Flags, seconds: Array) -> tuple[Array, Flags, Flags]:
    """A counter as change a second; where it is known, and where it fell: then it counts from 0."""
    before = np.r_[np.nan, values[:-1]]
    known = same & ~np.isnan(values) & ~np.isnan(before) & (seconds > 0)
    fell = known & (values < before)
    change = np.where(fell, values, values - before)
    return np.where(known, change / np.where(known, seconds, 1.0), np.nan), known, fell


def _said(raw: "pd.DataFrame", quantity: str, columns: Mapping[str, Column]) -> Array:
    values: Array = raw[quantity].to_numpy(np.float64, copy=True)
    if columns[quantity].zero == "unknown" or quantity in NEVER_0:
        values[values == 0] = np.nan
    return values


def _memory(raw: "pd.DataFrame", rules: Rules, caps: Array) -> dict[str, Array]:
    known = dict[str, Array]()
    for quantity, reading in rules.readings.items():
        if quantity in MOST and quantity in raw:
            size = MEMORY_UNITS[reading.unit] if reading.unit in MEMORY_UNITS else SHARE_UNITS[reading.unit] * caps
            known[quantity] = _said(raw, quantity, rules.columns) * size
    total = known.get("guest_total")
    if total is not None:
        for name, rest in (("guest_used", "guest_usable"), ("guest_notfree", "guest_unused")):
            if rest in known:
                inferred = total - known[rest]
                known[name] = np.where(np.isnan(known[name]), inferred, known[name]) if name in known else inferred
    if "balloon_taken" in known and "granted" not in known:
        known["granted"] = caps - known["balloon_taken"]
    columns = {f"{name}_bytes": known[name] for name in SIZED if name in known}
    return columns | {name: known[name] for name in ("guest_usable", "guest_unused") if name in known}


def _rates(amounts: Mapping[str, Array], rules: Rules, tally: Tally) -> dict[str, Array]:
    found = dict[str, Array]()
    for quantity, name in RATED.items():
        if quantity in amounts:
            rate = amounts[quantity] * MEMORY_UNITS.get(rules.readings[quantity].unit, 1.0)
            found[name] = _possible(rate, MOST_RATE, f"{quantity} that no device can do", tally)
    if (psi := amounts.get("psi_mem_some")) is not None:
        unit = rules.readings["psi_mem_some"].unit
        percent = 100 * psi * {**SHARE_UNITS, **CPU_TIMES}.get(unit, 1.0)
        known = _possible(percent, 100 * CPU_SLACK, "psi_mem_some of more than all of the time", tally)
        found["psi_mem_some_pct"] = np.minimum(known, 100.0)
    return found


def _possible(values: Array, most: float, kind: str, tally: Tally) -> Array:
    """Those from 0 to `most`; others are unknown, and counted."""
    with np.errstate(invalid="ignore"):
        wrong = (values < 0) | (values > most)
    tally.add(f"{kind}, now unknown", int(wrong.sum()), int((~np.isnan(values)).sum()), strict=True)
    return np.where(wrong, np.nan, values)


def _cpu(raw: "pd.DataFrame", rules: Rules, amounts: Mapping[str, Array]) -> dict[str, Array]:
    """CPU in cores; a share of a VM's CPUs only where their number is known."""
    vcpus = amounts.get("vcpus", np.full(len(raw), np.nan))
    found = {"vcpus": np.where(vcpus > 0, vcpus, np.nan)} if "vcpus" in amounts else {}
    for quantity, name in (("cpu_used", "cpu_used_cores"), ("cpu_wait", "cpu_wait_cores")):
        if quantity in amounts:
            reading = rules.readings[quantity]
            interval = raw["interval_s"].to_numpy() if "interval_s" in raw else np.full(len(raw), rules.clock.step_s)
            scale = _cores_of(reading, vcpus, amounts.get("cpu_cap", vcpus * np.nan), interval)
            cores = amounts[quantity] * scale
            found[name] = cores
    return found


def _cores_of(reading: Reading, vcpus: Array, cap_mhz: Array, interval_s: Array) -> Array | float:
    match reading.unit:
        case "share" | "percent" | "hundredths":
            return SHARE_UNITS[reading.unit] * vcpus
        case "percent_of_core":
            return 0.01
        case "MHz":
            return np.where(cap_mhz > 0, vcpus / np.where(cap_mhz > 0, cap_mhz, 1.0), np.nan)
        case "s" | "ms" | "us" | "ns":
            return CPU_TIMES[reading.unit] / (interval_s if reading.kind == "gauge" else 1.0)
    return 1.0


def _told_apart(raw: "pd.DataFrame", rules: Rules, tally: Tally) -> "pd.DataFrame":
    """VMs of one name on several hosts as ``NAME@HOST``. Rows without a host keep the bare name."""
    import pandas as pd

    if "host" not in raw or ("uuid" in raw and raw["uuid"].notna().all()):
        return raw
    hosts = raw.groupby("vm", observed=True)["host"].nunique()
    several = raw[raw["vm"].isin(hosts.index[hosts > 1])]
    both = [str(vm) for vm, rows in several.groupby("vm", observed=True) if _are_several(rows, rules.clock.step_s)]
    if not both:
        return raw
    names = raw["vm"].astype(str)
    known = names.isin(both) & raw["host"].notna()
    apart = (names + "@" + raw["host"].astype(object).where(known, "").astype(str)).where(known, names)
    tally.apart.update(zip(apart[known], names[known], strict=True))
    kind = "VMs of one name that run on several hosts at once and are not alike, taken for several, as NAME@HOST"
    tally.add(kind, len(both), raw["vm"].nunique(), both[0])
    return raw.assign(vm=pd.Categorical(apart))


def _are_several(rows: "pd.DataFrame", step_s: float) -> bool:
    """Whether rows of one name are of several VMs: use is known of both at once for long, and differs by far or they are not of
    one size. A VM that migrates is on two hosts for some rows, of a stale copy no use is known or what the guest says is the same,
    and who is watched twice is the same."""
    if "power" in rows:
        rows = rows[rows["power"] != "off"]
    if "agg" in rows:
        rows = rows[rows["agg"] == rows["agg"].iloc[:1].squeeze()]
    use, size = ([name for name in names if name in rows] for names in (UNLIKE_USE, ("cap", "guest_total")))
    values = rows[[*use, *size]].where(rows[[*use, *size]] > 0)
    known = values[use].notna().any(axis=1)
    slot = np.round(rows["time"][known] / step_s)
    both = rows["host"][known].groupby(slot).nunique() > 1
    times = both.index[both].to_numpy()
    if len(times) < UNLIKE_ROWS or step_s * float(np.ptp(times)) < UNLIKE_S:
        return False
    at_once = values[known].groupby(slot)
    low, high = at_once.min()[both], at_once.max()[both]
    apart = ((high - low) / high).median()
    guest = apart[[name for name in use if name != "backed"]].dropna()
    return bool((apart[size] > UNLIKE_SIZE).any() or ((guest if len(guest) else apart[use]) > UNLIKE).any())


def _one_host(rows: "pd.DataFrame", rules: Rules, tally: Tally) -> "pd.DataFrame":
    """Where two hosts report a VM at once (it migrates, or a stale copy is left) the one on which it runs counts, never the sum."""
    if "host_id" not in rows:
        return rows
    keys = [name for name in ("vm_id", "uuid", "agg") if name in rows]
    codes = {name: rows[name].astype("category").cat.codes.to_numpy() for name in keys}
    slot = np.round(rows["time"].to_numpy() / rules.clock.step_s)
    memory = (
        rows.filter(["backed_bytes", "guest_used_bytes", "guest_notfree_bytes", "active_bytes"]).sum(axis=1).to_numpy()
    )
    cpu = rows["cpu_used_cores"].fillna(0).to_numpy() if "cpu_used_cores" in rows else np.zeros(len(rows))
    on = rows["power"].map({"on": 0, "unknown": 1}).fillna(2).to_numpy()
    hosts = rows["host_id"].astype("category").cat.codes.to_numpy()
    by_preference = [hosts, -memory, -cpu, on]
    order = np.lexsort([*by_preference, slot, *[codes[name] for name in reversed(keys)]])
    same = np.ones(len(rows), bool)
    for key in (*codes.values(), slot):
        same[1:] &= key[order][1:] == key[order][:-1]
    same[:1] = False
    # two scrapes of one host may round to one slot; only another host's row is a copy
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(rows))))
    copy = same & (hosts[order] != hosts[order][first])
    example = "" if not copy.any() else str(rows["vm_id"].iloc[order[np.argmax(copy)]])
    tally.add("rows of a VM that another host reports as well, left out", int(copy.sum()), len(rows), example)
    kept = rows.iloc[np.sort(order[~copy])]
    again = np.lexsort(
        [kept["time"].to_numpy(), *[kept[name].astype("category").cat.codes.to_numpy() for name in reversed(keys)]]
    )
    return kept.iloc[again].reset_index(drop=True)
