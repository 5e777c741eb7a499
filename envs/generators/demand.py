"""Workload ``generated``: a scenario's VMs as their classes say (``classes``), as rows of the model.

What a VM holds is split as a replayed VM's (``envs.demand``): hot; touched again within the hour; within a day; and what is left,
page cache that is seldom touched. Anonymous memory that idles is larger here than there by the class, its time between touches
longer, so that the day's share stays as published (5 min 6 %, 1 h 8-10 %, 24 h 21-25 %, 7 d 35-41 % of backed memory).

In view ``hot_set`` a VM has long touched 94-98 % of its memory and what is drawn is hot; in view ``resident`` what is drawn is
held, and a part of it hot. A VM with a JVM keeps live data and what is beside the heap hot, and what is drawn makes more of
the heap hot.
"""

import math
from collections.abc import Sequence

import numpy as np

from hvgym.envs.fleet.replay import COLD_SHARE, TAU_S, WARM_SHARE
from hvgym.envs.generators.classes import CLASSES
from hvgym.envs.generators.draws import Array, uniforms
from hvgym.envs.generators.fleet import ARRIVAL, Figures, Fleet, Span, Use, first_second
from hvgym.envs.model import params
from hvgym.envs.scenario import Scenario, VmGroup
from hvgym.envs.specs import host_spec_row, vm_spec_row

DAY_S = 86400.0


class GeneratedDemand:
    """See ``envs.demand.DemandSource``."""

    def __init__(self, scenario: Scenario, alone: bool = True) -> None:
        self.slot_s = scenario.slot_s
        self.slots = -(-scenario.duration_s // self.slot_s)
        self._scenario, self._alone, self._groups = scenario, alone, scenario.groups
        self.fleet = Fleet(
            [group.generated for group in self._groups if group.generated is not None],
            [group.memory_mib for group in self._groups],
        )
        self._vm_specs = np.zeros(len(self._groups), params.VM_SPEC)
        for row, group in enumerate(self._groups):
            vm_spec_row(group, scenario, self._vm_specs[row])
            rate = 1.0 / np.array([*TAU_S[:2], idle_s(CLASSES[self.fleet.vms[row].kind].anonymous_idle), TAU_S[3]])
            self._vm_specs[row]["tier_rate_per_s"] = rate
            self._vm_specs[row]["tier_touched_share"] = [-math.expm1(-one) for one in rate]
        self._tiers = Tiers(self._groups, self.fleet, self._vm_specs)

    def fill(self, seed: int, vm_specs: np.ndarray, host_specs: np.ndarray, demand: np.ndarray) -> None:
        """See ``envs.demand.DemandSource``."""
        figures = self.fleet.figures(seed)
        use = self.fleet.use(seed, figures, Span(first_second(seed), self.slots, float(self.slot_s)))
        vm_specs[:] = self._vm_specs
        within_s = np.array([vm.arrive_within_s for vm in self.fleet.vms])
        arrive_s = np.floor(within_s * uniforms(seed, ARRIVAL, self.fleet.own, 0)) + 1.0
        vm_specs["arrive_s"] = np.where(within_s > 0.0, arrive_s, vm_specs["arrive_s"])
        demand["tier_mib"] = self._tiers.split(figures, use).transpose(1, 0, 2)
        demand["disk_mib_per_s"], demand["net_mib_per_s"] = use.disk_mib_per_s.T, use.net_mib_per_s.T
        demand["cpu_share"] = use.cpu_share.T
        host_spec_row(self._scenario, vm_specs, host_specs[0], self._alone)


def idle_s(anonymous_idle: float) -> float:
    """Time between touches of so much idle memory, of which a day touches what it touches of `COLD_SHARE`."""
    touched = -COLD_SHARE * math.expm1(-DAY_S / TAU_S[params.COLD])
    return TAU_S[params.COLD] if anonymous_idle <= COLD_SHARE else -DAY_S / math.log1p(-touched / anonymous_idle)


class Tiers:
    """How what VMs hold is divided; sizes in MiB ``[vm]``."""

    def __init__(self, groups: Sequence[VmGroup], fleet: Fleet, specs: np.ndarray) -> None:
        self._memory = specs["memory_mib"].copy()
        self._most = self._memory - specs["kernel_mib"] - specs["kernel_cache_mib"] - specs["watermark_mib"]
        self._idle = fleet.by_class(lambda one: one.anonymous_idle)
        self._resident = np.array([vm.family == "resident" for vm in fleet.vms])
        javas = [group.jvm for group in groups]
        self._live = np.array(
            [0.0 if java is None else java.least_mib * java.live_share + java.non_heap_mib for java in javas]
        )
        self._heap = np.array([0.0 if java is None else java.xmx_mib + java.non_heap_mib for java in javas])

    def split(self, figures: Figures, use: Use) -> Array:
        """Wanted memory, MiB ``[vm, slot, tier]``; no more than the guest can hold."""
        drawn = use.share * self._memory[:, None]
        most, backed = self._most[:, None], (figures.backed * self._memory)[:, None]
        held = np.where(self._resident[:, None], drawn, np.maximum(backed, np.maximum.accumulate(drawn, axis=1)))
        held = np.minimum(np.maximum(held, self._heap[:, None]), most)
        hot = np.minimum(self._live[:, None] + drawn * figures.hot_share[:, None], held)
        warm = np.minimum(WARM_SHARE * held, held - hot)
        if self._heap.any():
            heap = self._heap[:, None]
            hot = np.where(heap > 0.0, np.minimum(hot, heap), hot)
            warm = np.where(heap > 0.0, heap - hot, warm)
        rest = held - hot - warm
        idle = np.where(
            self._resident[:, None], self._idle[:, None] * rest, np.minimum(self._idle[:, None] * held, rest)
        )
        tiers = np.zeros((*hot.shape, params.TIERS))
        tiers[..., params.HOT], tiers[..., params.WARM], tiers[..., params.COLD] = hot, warm, idle
        tiers[..., params.CACHE] = np.maximum(rest - idle, 0.0)
        return tiers
