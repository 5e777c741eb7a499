"""g-swap: everything idle for longer than a threshold goes, the threshold kept where pages rarely come back.

Once a minute, for each VM by itself: the best threshold of that minute is the youngest age, at least 120 s, from which
would-be promotions (touches of pages idle for so long, wherever they are) stayed within 0.2 % of the working set a minute.
The threshold used is the K-th percentile of all minutes so far, or the last minute's where that is older, so that a spike
counts at once. For the first seconds of a VM there is too little history, and nothing is taken. The working set is what
was touched within 120 s. `best_age_s` and `threshold_s` are pure.

Fails when: promotions do not tell what they cost (TMO's criticism), a burst touches what had been idle for an hour, one bad
minute of a short life keeps everything (with fewer than 1 / (1 - K) minutes the percentile is the worst of them).

Surrogate: K and the warm-up S are tuned over a fleet and unpublished, both are guesses and parameters; ages are known at six
steps that double, not at 255 of 120 s; the rate of promotion at the reading stands for its minute; host RAM of the VMM
counts in the working set. Left out: the tuner, refusal of pages that compress badly (the host's pool decides), killing
at the limit. Where the host reports no ages the minute is skipped.

Edge cases. Guests are asked nothing, so statistics that are missing, frozen or Windows' change nothing. A VM that
starts is left alone for its warm-up. Limits are not known: at one, the original lets a job be killed.

Source: Lagar-Cavilla et al., "Software-Defined Far Memory in Warehouse-Scale Computers" (ASPLOS 2019), re-implemented from
descriptions of it.
"""

import bisect
import math
from collections.abc import Sequence

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import AGES_S, Targets, Telemetry, Visibility

MIN_COLD_AGE_S = 120
"""The paper's period of scanning accessed bits, and its youngest cold page."""
COLD_AGES_S = tuple(age for age in AGES_S if age >= MIN_COLD_AGE_S)
NEVER_S = math.inf
"""No age is old enough."""


def best_age_s(promoted_mib_per_min: Sequence[float], working_set_mib: float, slo_per_min: float) -> float:
    """The youngest of `COLD_AGES_S` whose promotions meet the objective; one rate per age."""
    most = slo_per_min * working_set_mib
    met = (age for age, rate in zip(COLD_AGES_S, promoted_mib_per_min, strict=True) if rate <= most)
    return next(met, NEVER_S)


def threshold_s(ordered: Sequence[float], last_s: float, percentile: float) -> float:
    """Age to use: of the `ordered` history (nearest rank), or of the last minute where that is older."""
    rank = max(math.ceil(percentile / 100.0 * len(ordered)), 1)
    return max(ordered[rank - 1], last_s)


class GSwap(Policy):
    """Keeps a history of best ages per VM."""

    period_s = 60.0
    visibility = Visibility.P0

    def __init__(self, percentile: float = 98.0, warmup_s: float = 120.0, slo_per_min: float = 0.002) -> None:
        self.percentile = percentile
        self.warmup_s = warmup_s
        self.slo_per_min = slo_per_min
        self._seen_s: list[list[float | None]] = []
        self._history: list[list[list[float]]] = []

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        lanes, vms = first.vm.shape
        self._seen_s = [[None] * vms for _ in range(lanes)]
        self._history = [[[] for _ in range(vms)] for _ in range(lanes)]

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        amounts_mib, ages_s = np.full(telemetry.vm.shape, np.nan), np.full(telemetry.vm.shape, np.nan)
        for lane in range(len(self._history)):
            row, now_s = telemetry.vm[lane], float(telemetry.time_s[lane])
            idle_mib = list(zip(*(row[f"idle_{age}s_mib"].tolist() for age in COLD_AGES_S), strict=True))
            rates = list(zip(*(row[f"woken_{age}s_mib_per_s"].tolist() for age in COLD_AGES_S), strict=True))
            usage = zip(row["running"].tolist(), row["resident_mib"].tolist(), strict=True)
            for index, (running, resident_mib) in enumerate(usage):
                if not running:
                    self._seen_s[lane][index], self._history[lane][index] = None, []
                    continue
                amounts_mib[lane, index] = 0.0  # what is left of the last minute's request ends
                age_s = self._minute(lane, index, now_s, resident_mib - idle_mib[index][0], rates[index])
                if age_s < NEVER_S:
                    amounts_mib[lane, index] = idle_mib[index][COLD_AGES_S.index(int(age_s))]
                    ages_s[lane, index] = age_s
        return Targets(reclaim_mib=amounts_mib, reclaim_age_s=ages_s)

    def _minute(self, lane: int, index: int, now_s: float, working_set_mib: float, rates: Sequence[float]) -> float:
        """Add the minute to a VM's history; return the threshold to use."""
        history = self._history[lane][index]
        since_s = self._seen_s[lane][index]
        if since_s is None:
            since_s = self._seen_s[lane][index] = now_s
        if math.isnan(working_set_mib + sum(rates)):
            return NEVER_S
        best_s = best_age_s([60.0 * rate for rate in rates], working_set_mib, self.slo_per_min)
        bisect.insort(history, best_s)
        return threshold_s(history, best_s, self.percentile) if now_s - since_s >= self.warmup_s else NEVER_S
