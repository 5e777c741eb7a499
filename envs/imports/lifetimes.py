"""When VMs were there: intervals, gaps, arrivals and departures, names that are used again.

A gap of up to three steps is filled with the row before it (flag ``imputed``). A longer one is one row that covers it:

    power      flags            when
    unknown    gap, imputed     most VMs are missing then (the collector was down), or counters went on: nobody looked
    off        -                counters began anew: the VM was off
    unknown    gap, imputed     no counters tell which

A VM arrives where its first row is later than the history's start by more than three steps or an hour, whichever is longer; else it
was there before (``left_censored``). Departures alike. Where a third of at least five VMs come or leave within the same step it is
the collector that did, and they are censored. A name is another VM (``name#2``) where its UUID is another; or its size, after a gap
of an hour in which counters began anew. Where the data cannot tell two VMs of one name from one, it is one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hvgym.envs.imports.clocks import Clock
from hvgym.envs.imports.table import FLAGS, SAMPLES
from hvgym.envs.imports.tally import Tally

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]

MOST_CARRIED = 3
"""Steps that a row is carried forward."""

GAP = 1.5
"""Of a VM's step: what is longer is a gap."""

OFF_ROWS = 3
"""Rows of nothing but 0 that say that a VM is off."""

REUSED_S = 3600.0

MASS, MASS_VMS = 1 / 3, 5


@dataclass(frozen=True)
class Series:
    """Rows sorted by series (a VM and aggregate) and time: the number of each row's series, seconds since the row before it (NaN
    for the first), and the step there."""

    codes: Codes
    seconds: Array
    step_s: Array

    @staticmethod
    def of(rows: "pd.DataFrame", clock: Clock) -> "Series":
        """Of rows in this order."""
        keys = [rows[name].astype("category").cat.codes.to_numpy() for name in ("vm_id", "uuid", "agg") if name in rows]
        begins = np.ones(len(rows), bool)
        if keys:
            begins[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
        codes = np.cumsum(begins) - 1
        seconds = np.where(begins, np.nan, np.r_[np.nan, np.diff(rows["time"].to_numpy())])
        return Series(codes, seconds, _steps(codes, seconds, clock.step_s))

    @property
    def gaps(self) -> Flags:
        """Rows before which at least one is missing."""
        with np.errstate(invalid="ignore"):
            found: Flags = self.seconds > GAP * self.step_s
        return found


def _steps(codes: Codes, seconds: Array, usual_s: float) -> Array:
    """By row: the middle step of its series, where all of its steps are near it; else that of the nine steps around it."""
    import pandas as pd

    middle = pd.Series(seconds).groupby(codes).transform("median").fillna(usual_s).to_numpy()
    with np.errstate(invalid="ignore"):
        far = (seconds > GAP * middle) | (seconds < middle / 2)
    mixed = np.flatnonzero(np.isin(codes, np.unique(codes[far])) & ~np.isnan(seconds))
    step = middle.copy()
    if len(mixed):
        around = pd.Series(seconds[mixed]).groupby(codes[mixed]).rolling(9, center=True, min_periods=1).median()
        step[mixed] = around.to_numpy()
    first = np.flatnonzero(np.isnan(seconds[:-1]) & (codes[1:] == codes[:-1]))
    step[first] = step[first + 1]
    return step


def with_lives(rows: "pd.DataFrame", clock: Clock, tally: Tally) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Samples of whole VMs in the columns of the plain table, and a row of ``vm_meta`` each; `rows` as `convert.converted`."""
    series = Series.of(rows, clock)
    rows = rows.assign(code=_incarnations(rows, series, tally))
    rows["vm_id"] = _names(rows)
    series = Series.of(rows, clock)
    rows = _timed(rows, series)
    _switch_off(rows, series)
    meta = _meta(rows)
    filled = _filled(rows, series, clock, tally)
    filled = filled.sort_values(["vm_id", "t_end_utc_s", "agg"], kind="stable", ignore_index=True)
    return filled[[name for name in SAMPLES if name in filled]], meta


def _incarnations(rows: "pd.DataFrame", series: Series, tally: Tally) -> Codes:
    """Of each name the first VM, the second, and so on, by when they were first seen."""
    import pandas as pd

    anew = series.gaps & (series.seconds > REUSED_S) & rows["restarted"].to_numpy()
    cap = rows["cap_bytes"].to_numpy()
    anew[1:] &= np.abs(cap[1:] - cap[:-1]) > 0.001 * cap[1:]
    anew[:1] = False
    within = pd.Series(anew).groupby(series.codes).cumsum().to_numpy()
    keys = pd.DataFrame(
        {"vm": rows["vm_id"].astype(object), "uuid": rows["uuid"].astype(object) if "uuid" in rows else "", "n": within}
    )
    keys["uuid"] = keys["uuid"].fillna("")
    first = rows["time"].groupby([keys["vm"], keys["uuid"], keys["n"]]).min().reset_index()
    first = first.sort_values(["vm", "time", "uuid", "n"], kind="stable")
    first["number"] = first.groupby("vm").cumcount()
    numbers = keys.merge(first, on=["vm", "uuid", "n"], how="left")["number"].to_numpy(np.int64)
    tally.add("names that another VM used again (name#2)", int((first["number"] > 0).sum()), len(first))
    return numbers


def _names(rows: "pd.DataFrame") -> "pd.Series":
    names = rows["vm_id"].astype(str)
    return names.where(rows["code"] == 0, names + "#" + (rows["code"] + 1).astype(str))


def _timed(rows: "pd.DataFrame", series: Series) -> "pd.DataFrame":
    """With interval and end. A row whose time is the start of its interval lasts until the next one, or for a step."""
    gaps, seconds = series.gaps, series.seconds
    before = np.where(np.isnan(seconds) | gaps, series.step_s, seconds)
    behind = np.r_[before[1:], np.nan]
    last = np.r_[np.isnan(seconds[1:]), True] | np.r_[gaps[1:], True]
    after = np.where(last, series.step_s, behind)
    ends = rows["end"].astype(float).to_numpy()
    ends = np.where(np.isnan(ends), rows["agg"] == "last", ends).astype(bool)
    said = rows["interval_s"].to_numpy(np.float64)
    interval = np.where(np.isnan(said), np.where(ends, before, after), said)
    end = rows["time"].to_numpy() + np.where(ends, 0.0, interval)
    return rows.assign(
        interval_s=np.maximum(np.round(interval), 1).astype(np.int32), t_end_utc_s=np.round(end).astype(np.int64)
    )


def _switch_off(rows: "pd.DataFrame", series: Series) -> None:
    """Rows of nothing but 0, several on end, are of a VM that is off; one with memory or CPU in use is on. In place."""
    import pandas as pd

    moving = rows.filter(
        [
            "cpu_used_cores",
            "disk_read_bytes_per_s",
            "disk_write_bytes_per_s",
            "net_rx_bytes_per_s",
            "net_tx_bytes_per_s",
        ]
    )
    memory = rows.filter(["guest_used_bytes", "guest_notfree_bytes", "backed_bytes", "active_bytes"])
    said = rows["power"] != "unknown"
    busy = (moving.fillna(0) > 0).any(axis=1) | (memory.fillna(0) > 0).any(axis=1)
    idle = (~busy & moving.notna().any(axis=1)).to_numpy()
    run = np.cumsum(np.r_[True, (idle[1:] != idle[:-1]) | (series.codes[1:] != series.codes[:-1])])
    off = idle & (pd.Series(idle).groupby(run).transform("size").to_numpy() >= OFF_ROWS)
    rows.loc[~said & busy, "power"] = "on"
    rows.loc[~said & off, "power"] = "off"
    rows.loc[rows["power"] == "off", list(memory.columns)] = np.nan


def _filled(rows: "pd.DataFrame", series: Series, clock: Clock, tally: Tally) -> "pd.DataFrame":
    """With rows for what is missing."""
    import pandas as pd

    missing = np.where(series.gaps, np.round(series.seconds / series.step_s) - 1, 0)
    missing = np.where(series.gaps, np.maximum(missing, 1), 0).astype(np.int64)
    short, long = np.flatnonzero((missing > 0) & (missing <= MOST_CARRIED)), np.flatnonzero(missing > MOST_CARRIED)
    tally.add(f"gaps of up to {MOST_CARRIED} steps, carried forward", len(short), len(rows))
    pieces = [rows, _carried(rows, series, short, missing[short]), _covered(rows, series, long, clock, tally)]
    return pd.concat([piece for piece in pieces if len(piece)], ignore_index=True)


def _carried(rows: "pd.DataFrame", series: Series, at: Codes, count: Codes) -> "pd.DataFrame":
    """The row before each gap again, at each step that is missing. `at`: rows behind gaps."""
    nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + 1
    made = rows.iloc[np.repeat(at - 1, count)].copy()
    step = np.repeat(series.seconds[at] / (count + 1), count)
    made["t_end_utc_s"] += np.round(nth * step).astype(np.int64)
    made["interval_s"] = np.maximum(np.round(step), 1).astype(np.int32)
    made["flags"] |= FLAGS["imputed"]
    return made


def _covered(rows: "pd.DataFrame", series: Series, at: Codes, clock: Clock, tally: Tally) -> "pd.DataFrame":
    """One row over each long gap."""
    made = rows.iloc[at - 1].copy()
    begins, ends = made["t_end_utc_s"].to_numpy(), (rows["t_end_utc_s"] - rows["interval_s"]).to_numpy()[at]
    lost = _in_outage(begins, ends, clock.outages)
    counted, restarted = rows["counted"].to_numpy()[at], rows["restarted"].to_numpy()[at]
    off = counted & restarted & ~lost
    total = len(at)
    tally.add("long gaps in which the collector was down", int(lost.sum()), total)
    tally.add("long gaps in which counters went on: nobody looked", int((counted & ~restarted & ~lost).sum()), total)
    tally.add("long gaps in which the VM was off", int(off.sum()), total)
    tally.add("long gaps of which nothing tells whether the VM was off", int((~counted & ~lost).sum()), total)
    made["t_end_utc_s"], made["interval_s"] = ends, np.maximum(ends - begins, 1).astype(np.int32)
    made["power"] = np.where(off, "off", "unknown")
    made["flags"] = np.where(off, 0, made["flags"] | FLAGS["gap"] | FLAGS["imputed"]).astype(np.int32)
    kept = ("cap_bytes", "vcpus")
    values = [name for name in SAMPLES if name in made and SAMPLES[name].type == "double" and name not in kept]
    made.loc[off, values] = np.nan
    return made[ends > begins]


def _in_outage(begins: Codes, ends: Codes, outages: Array) -> Flags:
    """Whether most of an interval is in one in which most VMs are missing."""
    overlap = np.zeros(len(begins))
    for start, end in outages:
        overlap += np.maximum(np.minimum(ends, end) - np.maximum(begins, start), 0)
    return overlap >= 0.8 * np.maximum(ends - begins, 1)


def _meta(rows: "pd.DataFrame") -> "pd.DataFrame":
    """A row a VM; whether it was seen to come and to leave is told when all VMs are known (`with_kinds`)."""
    known = rows.assign(starts=rows["t_end_utc_s"] - rows["interval_s"])
    by_vm = known.groupby("vm_id", sort=True)
    meta = by_vm.agg(arrive_s=("starts", "min"), depart_s=("t_end_utc_s", "max")).astype(float)
    for name in ("arrive_s", "depart_s"):
        said = by_vm[name].first().astype(float)
        meta[f"{name}_said"] = said.notna()
        meta[name] = said.fillna(meta[name])
    for name in ("os_family", "group", "uuid"):
        meta[name] = by_vm[name].first().astype(object) if name in known else None
    guest = known.filter(["guest_used_bytes", "guest_notfree_bytes"])
    reports = guest.notna().any(axis=1).groupby(known["vm_id"], sort=True).any()
    meta["guest_stats"] = np.where(reports, "yes", "no")
    return meta.reset_index()


def with_kinds(meta: "pd.DataFrame", clock: Clock, groups: Mapping[str, str], tally: Tally) -> "pd.DataFrame":
    """All VMs, by name, with how their arrival and departure are known, and their groups."""
    from hvgym.envs.imports.opening import by_value

    names = meta["vm_id"].astype(str).tolist()
    order = sorted(range(len(meta)), key=lambda row: by_value(names[row]))
    meta = meta.iloc[order].reset_index(drop=True)
    bare = meta["vm_id"].str.replace(r"#\d+$", "", regex=True)
    start, end = float(meta["arrive_s"].min()), float(meta["depart_s"].max())
    for name, seen, censored in (
        ("arrive", meta["arrive_s"] > start + clock.margin_s, "left_censored"),
        ("depart", meta["depart_s"] < end - clock.margin_s, "right_censored"),
    ):
        together = _together(meta[f"{name}_s"], seen, clock) & ~meta[f"{name}_s_said"]
        word = "appear" if name == "arrive" else "vanish"
        tally.add(f"VMs that {word} at once with a third of all: the collector's doing", int(together.sum()), len(meta))
        meta[f"{name}_kind"] = np.where(seen & ~together, "observed", censored)
    if "uuid" in meta:
        names_of_uuid = bare.groupby(meta["uuid"].where(meta["uuid"].astype(bool))).nunique()
        several = names_of_uuid[names_of_uuid > 1]
        first = "" if several.empty else ", ".join(bare[meta["uuid"] == several.index[0]].unique())
        words = "UUIDs under several names, each now a VM of its own (renamed, say)"
        tally.add(words, len(several), len(names_of_uuid), first)
    said = bare.map(dict(groups))
    said = said.where(said.notna(), bare.map(tally.apart).map(dict(groups)))
    meta["group"] = said.where(said.notna(), meta["group"])
    return meta


def _together(times: "pd.Series", seen: "pd.Series", clock: Clock) -> "pd.Series[Any]":
    """Whether a third of all VMs come, or leave, within the same step or so."""
    slots = (times / (2 * clock.step_s)).round()
    many = slots.where(seen).groupby(slots).transform("count")
    return seen & (len(times) >= MASS_VMS) & (many >= MASS * len(times)) & (many >= MASS_VMS - 1)
