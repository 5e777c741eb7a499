"""Demand of somebody's own VMs (workload ``history``): each VM by name and all of them, or as many as a scenario has, drawn.

Tiers of a VM follow from its evidence at the workload's level (``evidence``): its working set is hot, touched as the synthetic VMs'
is; of what it holds beside that 4 % are touched again within an hour and, where it is not known what only swap can take, 15 %
within a day (re-touch curve of GWA-T-12), else all of it; the rest is page cache that is not touched for days. At high, page cache
that counts as working set is held like memory in constant use. These re-touch times are guesses for other fleets than that one.

A seed draws the time, or takes the next of the chosen windows. A VM that comes within the window is started then; one that is not
there in it at all is never started, and asks for nothing. The model has no departure on a host alone: a VM that leaves within
the window, or is off for a while, has no demand from then on, and what it held stays as free memory that a balloon can take.
Gaps hold the last value; windows with many of them are not drawn (`MOST_UNKNOWN`).

Left out: a JVM's heap, of which a history says nothing; migrations; times at which the host itself was down.
"""

import zlib

import numpy as np
import numpy.typing as npt

from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.fleet import splits, within
from hvgym.envs.fleet.evidence import drawn_shares
from hvgym.envs.fleet.history import Flags, History
from hvgym.envs.fleet.needs import fleet, groups_of
from hvgym.envs.fleet.own_vms import TAU_S, group_of
from hvgym.envs.model import params, rng
from hvgym.envs.scenario import Scenario
from hvgym.envs.specs import host_spec_row, vm_spec_row

__all__ = ["COLD_SHARE", "TAU_S", "WARM_SHARE", "HistoryDemand", "choice", "splits_by_time"]

WARM_SHARE, COLD_SHARE = 0.04, 0.15
"""Of what a VM holds: touched again within an hour beyond the working set, and within a day beyond that (re-touch curve of
GWA-T-12: 5 min 6 %, 1 h 8-10 %, 24 h 21-25 %)."""

MOST_UNKNOWN = 0.1
"""Of the VMs' time in a window that is drawn (a guess); where no window has so little, those with least are drawn."""


class HistoryDemand:
    """Replays a fleet; see the module."""

    def __init__(self, scenario: Scenario, alone: bool = True) -> None:
        work = scenario.workload
        self._scenario, self._alone = scenario, alone
        self._fleet = fleet(str(work.path), work.level)
        history = self._fleet.history
        self._parts = within.parts_of(history.slot_s)
        self.slot_s = history.slot_s // self._parts
        self.slots = -(-scenario.duration_s // self.slot_s)
        self._rows = -(-self.slots // self._parts)
        self._choice = choice(scenario, history)
        self._starts = self._windows()
        self._keys = np.array([zlib.crc32(vm.name.encode()) for vm in history.vms], np.uint64)

    def _windows(self) -> npt.NDArray[np.int64]:
        """First rows of the windows of this split, or those that were chosen."""
        work, history = self._scenario.workload, self._fleet.history
        if work.windows:
            return np.array([_chosen_row(start_s, self._rows, history) for start_s in work.windows])
        begin, end = 0, history.slots
        if work.split is not None and work.split != "all":
            begin_s, end_s = splits.spans(history.slots * history.slot_s, work.origin)[work.split]
            begin, end = -(-begin_s // history.slot_s), end_s // history.slot_s
        if end - begin < self._rows:
            raise InputError(
                f"{work.path}: {(end - begin) * history.slot_s / 3600:.1f} h of history in split {work.split or 'all'}, an "
                f"episode needs {self._rows * history.slot_s / 3600:.1f} h; shorten workload.episode_s"
            )
        return self._drawable(begin, end)

    def _drawable(self, begin: int, end: int) -> npt.NDArray[np.int64]:
        """Starts of windows with VMs in them of which enough is known."""
        chosen = list(self._choice)
        there, unknown = (
            _sums_of(rows[begin:end, chosen].sum(axis=1), self._rows)
            for rows in (self._fleet.present, self._fleet.unknown)
        )
        share = np.where(there > 0, unknown / np.maximum(there, 1), np.inf)
        if not np.isfinite(share).any():
            raise InputError(f"{self._scenario.workload.path}: no VM is there in this part of the history")
        return np.asarray(begin + np.flatnonzero(share <= max(MOST_UNKNOWN, float(share.min()))))

    def fill(self, seed: int, vm_specs: np.ndarray, host_specs: np.ndarray, demand: np.ndarray) -> None:
        """See ``demand.DemandSource``."""
        start = self._start(seed)
        drawn = self._drawn(seed)
        for row, (group, index) in enumerate(zip(self._scenario.groups, drawn, strict=True)):
            vm = self._fleet.history.vms[index]
            like = (
                group if self._scenario.workload.vms == "all" else group_of(group, vm, self._scenario.overcommit_scale)
            )
            vm_spec_row(like, self._scenario, vm_specs[row])
            vm_specs[row]["arrive_s"] = self._arrive_s(index, start)
        host_spec_row(self._scenario, vm_specs, host_specs[0], self._alone)
        self._fill_demand(seed, start, np.array(drawn), vm_specs, demand)

    def _start(self, seed: int) -> int:
        """First row of the episode."""
        starts = self._starts
        if self._scenario.workload.windows:
            return int(starts[seed % len(starts)])
        return int(starts[int(rng.uniform(seed, rng.STREAM_PICK, -1, 0) * len(starts))])

    def _drawn(self, seed: int) -> list[int]:
        """VMs of the scenario's rows: hers by name, or as many as it has, none twice."""
        groups = self._scenario.groups
        if self._scenario.workload.vms == "all":
            return list(self._choice)
        left, drawn = list(self._choice), list[int]()
        for turn in range(len(groups)):
            pool = left
            if drawn and rng.uniform(seed, rng.STREAM_GROUP, turn, 0) < self._scenario.workload.sibling_probability:
                of_it = groups_of(self._fleet.history)
                pool = [index for index in left if of_it[index] == of_it[drawn[-1]]] or left
            drawn.append(pool[int(rng.uniform(seed, rng.STREAM_PICK, turn, 0) * len(pool))])
            left.remove(drawn[-1])
        return drawn

    def _arrive_s(self, index: int, start: int) -> float:
        """Seconds of the episode after which a VM comes; 0 if it is there, beyond the end if it never is."""
        window = self._fleet.present[start : start + self._rows, index]
        if not window.any():
            return float(self._scenario.duration_s + 1)
        return float(int(window.argmax()) * self._fleet.history.slot_s)

    def _fill_demand(
        self, seed: int, start: int, drawn: npt.NDArray[np.int64], vm_specs: np.ndarray, demand: np.ndarray
    ) -> None:
        """Tiers, CPU and I/O of the window; demand ``[slot, vm]``."""
        data, window = self._fleet, slice(start, start + self._rows)
        working, anonymous, filled, cpu, disk, net, ratios = (
            column[window, drawn].astype(np.float64)
            for column in (data.working, data.anonymous, data.filled, data.cpu, data.disk, data.net, data.ratios)
        )
        present = data.present[window, drawn]
        for place, index in enumerate(drawn):
            shares = data.evidence[index].drawn
            if shares is not None:
                used, held_share = drawn_shares(shares, rng.uniform(seed, rng.STREAM_PHASE, int(self._keys[index]), -1))
                cap = self._fleet.history.vms[index].cap_mib
                working[:, place], filled[:, place] = used * cap, held_share * cap
        before = np.where(start > 0, data.working[max(start - 1, 0), drawn], working[0]).astype(np.float64)
        slots = within.spread(working, before, ratios, self._parts, seed, self._keys[drawn], start)

        def repeated(rows: within.Array) -> within.Array:
            return np.asarray(np.repeat(rows, self._parts, axis=0)[: self.slots])

        there = np.repeat(present, self._parts, axis=0)[: self.slots]
        most = np.array([_room_mib(spec) for spec in vm_specs])
        hot = within.bounded(np.minimum(slots[: self.slots], most), self.slot_s)
        _write_tiers(demand, hot, repeated(anonymous), repeated(filled), most, there)
        guess = [group.demand for group in self._scenario.groups]
        for name, rows in (("cpu_share", cpu), ("disk_mib_per_s", disk), ("net_mib_per_s", net)):
            unknown = np.array([0.0 if one is None else getattr(one, name) for one in guess])
            demand[name] = np.where(there, repeated(np.where(np.isnan(rows), unknown, rows)), 0.0)


def _room_mib(spec: np.void) -> float:
    """What a guest can hold with no balloon (``model.workload.fit``)."""
    return float(spec["memory_mib"] - spec["kernel_mib"] - spec["kernel_cache_mib"] - spec["watermark_mib"])


def _write_tiers(
    demand: np.ndarray,
    hot: within.Array,
    anonymous: within.Array,
    filled: within.Array,
    most: within.Array,
    there: Flags,
) -> None:
    """Tiers of demand ``[slot, vm]`` from MiB ``[slot, vm]``, cut to what the guests can hold, ``[vm]``."""
    total = np.minimum(np.maximum(filled, hot), most)
    known = ~np.isnan(anonymous)
    held_mib = np.where(known, np.clip(anonymous, hot, total), total)
    warm = np.minimum(WARM_SHARE * total, held_mib - hot)
    cold = np.where(known, held_mib - hot - warm, np.minimum(COLD_SHARE * total, total - hot - warm))
    tiers = demand["tier_mib"]
    for tier, mib in (
        (params.HOT, hot), (params.WARM, warm), (params.COLD, cold), (params.CACHE, total - hot - warm - cold),
    ):  # fmt: skip
        tiers[..., tier] = np.where(there, np.maximum(mib, 0.0), 0.0)


def _sums_of(values: npt.NDArray[np.int64], rows: int) -> npt.NDArray[np.int64]:
    """Of every window of so many rows."""
    sums = np.concatenate([[0], np.cumsum(values)])
    return np.asarray(sums[rows:] - sums[:-rows])


def _chosen_row(start_s: int, rows: int, history: History) -> int:
    row = (start_s - history.start_s) // history.slot_s
    if not 0 <= row <= history.slots - rows:
        last = history.start_s + (history.slots - rows) * history.slot_s
        raise InputError(
            f"workload.windows: {start_s}: must be at least {history.start_s} and at most {last}, seconds since 1970 at which "
            "an episode can begin"
        )
    return int(row)


def splits_by_time(scenario: Scenario, history: History) -> bool:
    """Whether parts of the history are times alone: all VMs are played, or there are too few to be apart."""
    few = len(history.vms) < splits.MANY_VMS or len(set(groups_of(history))) < len(splits.SPLIT_SHARE)
    return scenario.workload.vms == "all" or few


def choice(scenario: Scenario, history: History) -> tuple[int, ...]:
    """VMs that are played, in the order of the scenario's, or those that may be drawn. `InputError` where some are not there."""
    work, at = scenario.workload, {vm.name: index for index, vm in enumerate(history.vms)}
    if work.vms == "all":
        for group in scenario.groups:
            if group.name not in at:
                raise InputError(
                    f"{work.path}: no VM {shown(group.name)}{nearest(group.name, at)}; the scenario was made of another "
                    "table"
                )
        return tuple(at[group.name] for group in scenario.groups)
    found = [index for name, index in at.items() if name not in work.without]
    if work.split is not None and work.split != "all" and not splits_by_time(scenario, history):
        names, groups = [vm.name for vm in history.vms], groups_of(history)
        in_split = splits.fill_splits(names, groups)[work.split]
        found = [index for index in found if index in in_split]
    if len(found) < len(scenario.groups):
        raise InputError(
            f"{work.path}: {len(found)} VMs can be drawn, scenario {scenario.name} needs {len(scenario.groups)}; "
            "workload.vms=all plays all of them"
        )
    return tuple(found)
