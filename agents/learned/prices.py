"""All channels that the rules allow: what a page of each VM costs is learnt, and how much is kept free; one map for all VMs.

Where pages can be reclaimed by age (a Linux host) it is the rule of ``proactive.cheapest_pages`` with numbers that a search has
found: a VM's prices are multiplied by f(w . x)^2, x the VM's view (``view``), w weights that all VMs share, and each constant of
the rule by f of a weight of its own; f(z) = 1 + z above 0 and 1 / (1 - z) below. With all weights 0 it is the rule. Where sizes
are the channel it does what the linear maps of sizes named `sizes` do (``by_statistics``). Guests report free pages wherever they
can.

Fails when: as the rule and the map do; a price does not see what a VM will touch next.

Edge cases. As those of the rule. On bare metal there is reclaim and nothing else.
"""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np

from hvgym.agents.learned.by_statistics import LinearByStatistics
from hvgym.agents.learned.linear import shared
from hvgym.agents.learned.searched import Searched
from hvgym.agents.learned.view import FEATURES, View
from hvgym.agents.proactive.cheapest_pages import (
    CheapestPages,
    by_age,
    nowhere_to_go,
    prices,
    reclaimed,
    request,
    sizes_mib,
)
from hvgym.agents.proactive.swap_reads import SwapReads
from hvgym.envs.rules import Declaration
from hvgym.envs.seats import signals_of
from hvgym.envs.telemetry import Targets, Telemetry

CONSTANTS = ("keep_free_share", "keep_hot_share", "intervals", "spare_share", "swap_in_s_per_mib")
"""Of the rule; that of prices stands alone, its VMs' share it through the map's constant only where the cap does not hold."""


def factor(weight: np.ndarray) -> np.ndarray:
    """Above 0, 1 at 0, twice at 1 and half at -1."""
    return np.where(weight >= 0.0, 1.0 + weight, 1.0 / (1.0 - np.minimum(weight, 0.0)))


class SharedPrices(Searched):
    """`sizes`: weights of ``by_statistics.LinearByStatistics`` that the package brings."""

    kind = "hvgym shared prices, version 1"
    names = (*(f"rule.{name}" for name in CONSTANTS), *FEATURES)
    settings: ClassVar[Mapping[str, float | str]] = {
        "period_s": 2.0, "sizes": "learned_sizes", "visibility": "P1",
    }  # fmt: skip
    declaration = Declaration(channels=None, signals_with=(("reclaim_age_s", signals_of(["page_ages"])),))
    sizes: str

    def _take(self, weights: np.ndarray, settings: Mapping[str, Any]) -> None:
        super()._take(weights, settings)
        self._decides_s, self._channels = self.period_s, frozenset[str]()
        self._sizes: LinearByStatistics | None = None
        rule, factors = CheapestPages(), factor(self.weights[:, : len(CONSTANTS)])
        self._rule = {name: getattr(rule, name) * factors[:, i] for i, name in enumerate(CONSTANTS)}

    def granted(self, channels: Collection[str]) -> None:
        """See `Policy`."""
        self._channels = frozenset(channels)
        self._sizes = None if "reclaim_age_s" in channels else LinearByStatistics(weights=self.sizes)
        self.period_s = self._decides_s if self._sizes is None else self._sizes.period_s

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._view = View()
        self._swapped_in_mib, self._reads = first.host["swap_in_mib"][:, 0].copy(), SwapReads(first)
        if self._sizes is not None:
            self._sizes.reset(first, seed)

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        running = telemetry.vm["running"] > 0.0
        parts = self._reclaim(telemetry, running)
        if "memory_mib" in self._channels:
            parts["memory_mib"] = self._asked_mib(telemetry)
        if "report_free_pages" in self._channels:
            parts["report_free_pages"] = np.where(running, 1.0, np.nan)
        return Targets(**parts)

    def _reclaim(self, telemetry: Telemetry, running: np.ndarray) -> dict[str, np.ndarray]:
        if self._sizes is not None:
            return {}
        vm, host, rule = telemetry.vm, telemetry.host[:, 0], self._rule
        come_back_mib = host["swap_in_mib"] - self._swapped_in_mib
        self._swapped_in_mib = host["swap_in_mib"].copy()
        seen = self._view.look(telemetry.seen_with(self.visibility))
        pull = factor(shared(self.weights[:, len(CONSTANTS) :], seen))
        mib, hazard = by_age(vm)
        price = prices(vm, hazard, rule["swap_in_s_per_mib"][:, None, None]) * (pull * pull)[..., None]
        hot_mib = rule["keep_hot_share"] * host["total_mib"] + rule["intervals"] * come_back_mib
        taken = reclaimed(
            np.where(running[..., None], mib, 0.0), price,
            rule["keep_free_share"] * host["total_mib"] - host["available_mib"], hot_mib - host["available_mib"],
        )  # fmt: skip
        return request(taken, running)

    def _asked_mib(self, telemetry: Telemetry) -> np.ndarray:
        if self._sizes is None:
            host = telemetry.host[:, 0]
            short_mib = self._rule["keep_free_share"] * host["total_mib"] - host["available_mib"]
            missed_mib = self._rule["intervals"][:, None] * self._reads.since(telemetry)
            full = nowhere_to_go(host, short_mib)
            return sizes_mib(telemetry.vm, self._rule["spare_share"][:, None], full, missed_mib)
        asked = self._sizes.decide(telemetry).memory_mib
        assert asked is not None  # sizes are all that it sets
        return asked
