"""Where an episode's demand comes from: the synthetic generator, replayed traces, somebody's own VMs (``fleet.replay``) or a story,
chosen by a scenario's ``workload``.

A `DemandSource` writes, for one seed, the specification of each VM, of the host, and the demand of the whole episode.
Draws are by counter (``model.rng``): the same seed gives the same demand under every policy, in every lane.
"""

import dataclasses
import functools
from typing import Protocol

import numpy as np

from hvgym.envs.errors import InputError
from hvgym.envs.fleet import splits
from hvgym.envs.fleet.replay import COLD_SHARE, TAU_S, WARM_SHARE, HistoryDemand
from hvgym.envs.generators.demand import GeneratedDemand
from hvgym.envs.java import JvmGuest
from hvgym.envs.model import params, rng, workload
from hvgym.envs.scenario import Scenario, VmGroup
from hvgym.envs.specs import host_spec_row, vm_spec_row
from hvgym.envs.traces.bitbrains import TraceSet, TraceVm, read_bitbrains, split_clusters


class DemandSource(Protocol):
    """Writes one episode. `alone`, where a source is made: the scenario's host holds all of its VMs, and must have room for them;
    a host of a cluster holds some."""

    slots: int
    slot_s: int

    def fill(self, seed: int, vm_specs: np.ndarray, host_specs: np.ndarray, demand: np.ndarray) -> None:
        """Fill vm_specs ``[vm]``, host_specs ``[host]``, demand ``[slot, vm]`` for this seed."""


class SyntheticDemand:
    """Phases, bursts and groups from a scenario's own VMs."""

    def __init__(self, scenario: Scenario, alone: bool = True) -> None:
        groups = scenario.groups
        self.slot_s = scenario.slot_s
        self.slots = -(-scenario.duration_s // self.slot_s)
        self._patterns = np.zeros(len(groups), workload.PATTERN)
        self._vm_specs = np.zeros(len(groups), params.VM_SPEC)
        self._host_specs = np.zeros(1, params.HOST_SPEC)
        for row, group in enumerate(groups):
            vm_spec_row(group, scenario, self._vm_specs[row])
            assert group.demand is not None  # a scenario's check
            for field in dataclasses.fields(group.demand):
                self._patterns[row][field.name] = getattr(group.demand, field.name)
            if group.jvm is not None:
                _heap_pattern(group.jvm, self._patterns[row])
        host_spec_row(scenario, self._vm_specs, self._host_specs[0], alone)

    def fill(self, seed: int, vm_specs: np.ndarray, host_specs: np.ndarray, demand: np.ndarray) -> None:
        """See `DemandSource`."""
        vm_specs[:] = self._vm_specs
        host_specs[:] = self._host_specs
        workload.fill(demand, self._patterns, vm_specs, seed, float(self.slot_s))


def _heap_pattern(java: JvmGuest, pattern: np.void) -> None:
    """Live data and what is beside the heap are hot, the rest of the heap is warm; phases and bursts are live data's."""
    live = java.least_mib * java.live_share
    pattern["hot_mib"] += live + java.non_heap_mib
    pattern["warm_mib"] += java.xmx_mib - live
    pattern["heap"] = 1.0


class ToldDemand:
    """The stories of a scenario's VMs, a slot a second; the seed changes nothing."""

    slot_s = 1

    def __init__(self, scenario: Scenario, alone: bool = True) -> None:
        groups = scenario.groups
        self.slots = scenario.duration_s
        self._vm_specs = np.zeros(len(groups), params.VM_SPEC)
        self._host_specs = np.zeros(1, params.HOST_SPEC)
        self._demand = np.zeros((self.slots, len(groups)), params.DEMAND)
        for row, group in enumerate(groups):
            assert group.story is not None  # a scenario's check
            vm_spec_row(group.told(), scenario, self._vm_specs[row])
            group.story.fill(self._demand[:, row])
            told = self._vm_specs[row]
            first_used = told["tier_rate_per_s"] * np.where(told["tier_is_file"] > 0.0, 1.0, told["tier_write_share"])
            told["tier_appears"] = np.where(group.story.by_touch, -np.expm1(-first_used), 1.0)
        host_spec_row(scenario, self._vm_specs, self._host_specs[0], alone)

    def fill(self, seed: int, vm_specs: np.ndarray, host_specs: np.ndarray, demand: np.ndarray) -> None:
        """See `DemandSource`."""
        vm_specs[:], host_specs[:], demand[:] = self._vm_specs, self._host_specs, self._demand


class ReplayedDemand:
    """VMs of a trace in place of the scenario's: sizes and demand are the trace's, importance and devices the
    scenario's.

    A seed draws the VMs (siblings of one correlation cluster come together with `sibling_probability`) and the start
    time. A split is of VMs, whole clusters, and of time; of time alone where it would have fewer VMs than the scenario
    (``fleet.splits``).
    """

    def __init__(self, scenario: Scenario, traces: TraceSet, alone: bool = True) -> None:
        self._alone = alone
        work = scenario.workload
        self._scenario, self._traces = scenario, traces
        self.slot_s = int(traces.slot_s)
        self.slots = -(-scenario.duration_s // self.slot_s)
        self._choice, (begin, end) = _part(scenario, traces)
        self._first, self._starts = begin, end - begin - self.slots + 1
        if self._starts < 1:
            raise InputError(f"{work.path}: {end - begin} rows of {self.slot_s} s; an episode needs {self.slots}")
        if len(self._choice) < len(scenario.groups):
            raise InputError(
                f"{work.path}: {len(self._choice)} VMs; scenario {scenario.name} needs {len(scenario.groups)}. hvgym import "
                "bitbrains makes a table of them, whose VMs are all played by name (workload=TABLE)"
            )

    def fill(self, seed: int, vm_specs: np.ndarray, host_specs: np.ndarray, demand: np.ndarray) -> None:
        """See `DemandSource`."""
        start = self._first + int(rng.uniform(seed, rng.STREAM_PICK, -1, 0) * self._starts)
        for row, (group, index) in enumerate(zip(self._scenario.groups, self._draw(seed), strict=True)):
            trace = self._traces.vms[index]
            like = _like_trace(group, trace, self._scenario.overcommit_scale)
            vm_spec_row(like, self._scenario, vm_specs[row])
            vm_specs[row]["tier_rate_per_s"] = 1.0 / np.asarray(TAU_S)
            vm_specs[row]["tier_touched_share"] = -np.expm1(-vm_specs[row]["tier_rate_per_s"])
            _trace_demand(trace, slice(start, start + self.slots), demand[:, row])
            for slot in range(self.slots):
                workload.fit(demand[slot, row], vm_specs[row])
        host_spec_row(self._scenario, vm_specs, host_specs[0], self._alone)

    def _draw(self, seed: int) -> list[int]:
        """Choose as many VMs as the scenario has, without repetition."""
        left, drawn = list(self._choice), list[int]()
        for turn in range(len(self._scenario.groups)):
            pool = left
            if drawn and rng.uniform(seed, rng.STREAM_GROUP, turn, 0) < self._scenario.workload.sibling_probability:
                cluster = self._traces.vms[drawn[-1]].cluster
                pool = [index for index in left if self._traces.vms[index].cluster == cluster] or left
            drawn.append(pool[int(rng.uniform(seed, rng.STREAM_PICK, turn, 0) * len(pool))])
            left.remove(drawn[-1])
        return drawn


def _part(scenario: Scenario, traces: TraceSet) -> tuple[tuple[int, ...], tuple[int, int]]:
    """VMs and rows of the scenario's split."""
    split, rows = scenario.workload.split, len(traces.vms[0].hot_mib)
    everyone = tuple(range(len(traces.vms)))
    if split is None or split == "all":
        return everyone, (0, rows)
    slot_s = int(traces.slot_s)
    begin_s, end_s = splits.spans(rows * slot_s, scenario.workload.origin)[split]
    there = split_clusters(traces, split) if by_clusters(scenario, traces) else everyone
    return there, (-(-begin_s // slot_s), end_s // slot_s)


def by_clusters(scenario: Scenario, traces: TraceSet) -> bool:
    """Whether every split has VMs enough of its own."""
    if len({vm.cluster for vm in traces.vms}) < len(splits.SPLIT_SHARE):
        return False
    parts: tuple[splits.Split, ...] = ("train", "validation", "test")
    return all(len(split_clusters(traces, part)) >= len(scenario.groups) for part in parts)


def split_by_time(traces: TraceSet) -> str:
    """What to say where VMs are too few to be apart."""
    length_s = len(traces.vms[0].hot_mib) * int(traces.slot_s)
    return f"too few VMs to have others in every split, so splits are of time; {splits.claim(length_s)}"


def _like_trace(group: VmGroup, trace: TraceVm, overcommit_scale: float) -> VmGroup:
    """The scenario's VM at the trace's size: what is given in MiB scales with memory.

    A JVM is left out, for a trace says nothing of its heap. Guarantees shrink as the host is filled more than the scenario
    says, else they would add up to more than its RAM, but nobody guarantees less than a kernel runs with.
    """
    scale = trace.configured_mib / group.memory_mib
    least_mib = group.boot_mib_at(trace.configured_mib)
    min_mib = group.scaled_min_mib(scale / max(overcommit_scale, 1.0), least_mib)
    return dataclasses.replace(
        group,
        memory_mib=trace.configured_mib,
        min_mib=min_mib,
        guest_swap_mib=group.guest_swap_mib * scale,
        startup_mib=None if group.startup_mib is None else max(group.startup_mib * scale, least_mib),
        settled_mib=None if group.settled_mib is None else max(group.settled_mib * scale, least_mib),
        limit_mib=None if group.limit_mib is None else max(group.limit_mib * scale, min_mib),
        vcpus=float(trace.cores),
        jvm=None,
        story=None,
    )


def _trace_demand(trace: TraceVm, window: slice, demand: np.ndarray) -> None:
    """Backed memory and hot set drive the tiers, disk and network columns the I/O; demand ``[slot]``."""
    backed, hot = trace.backed_mib[window], trace.hot_mib[window]
    warm = np.minimum(WARM_SHARE * backed, backed - hot)
    cold = np.minimum(COLD_SHARE * backed, backed - hot - warm)
    tiers = demand["tier_mib"]
    tiers[:, params.HOT], tiers[:, params.WARM], tiers[:, params.COLD] = hot, warm, cold
    tiers[:, params.CACHE] = backed - hot - warm - cold
    demand["cpu_share"] = trace.cpu_share[window]
    demand["disk_mib_per_s"] = trace.disk_mib_per_s[window]
    demand["net_mib_per_s"] = trace.net_mib_per_s[window]


@functools.lru_cache(maxsize=4)
def read_traces(path: str) -> TraceSet:
    """Read a trace folder once per process."""
    return read_bitbrains(path)


def demand_source(scenario: Scenario, alone: bool = True) -> DemandSource:
    """The source that a scenario's workload names; `alone` as in `DemandSource`."""
    if scenario.workload.kind == "phases":
        return SyntheticDemand(scenario, alone)
    if scenario.workload.kind == "story":
        return ToldDemand(scenario, alone)
    if scenario.workload.kind == "history":
        return HistoryDemand(scenario, alone)
    if scenario.workload.kind == "generated":
        return GeneratedDemand(scenario, alone)
    return ReplayedDemand(scenario, read_traces(str(scenario.workload.path)), alone)
