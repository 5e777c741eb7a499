"""The clairvoyant reference: it tries plans in copies of the very model, and follows the one that gets most work done.

Every `review_s` each plan of `PLANS` is played for the next `horizon_s` from the true state, with the demand to come, and
the one with the most weighted progress, less what kills and failed starts are charged, is kept until the next review. To
never reclaim is among them, so the oracle does not fall behind it. Which plan wins is the hypervisor's affair: where the host
can take idle pages by age, that is best; where memory is committed, balloons divide it (``planning``). Nothing binds it but
the actuators: balloons at their rate and within their caps, reclaim at the device's speed, floors, the hypervisor's own
admission, and a decision every five seconds. It answers every channel that helps: sizes, reclaim, reporting of free pages,
admission, and the rate of page sharing (where scanning splits large pages it stops the scanner: their page walks cost more
than sharing brings). It leaves disk and link as the scenario divides them, and takes a JVM's heap for memory that is always
needed.

It is a reference, not a bound. A plan is a rule, not an optimum; plans are compared by progress within the horizon alone,
not by the state they leave; one plan holds for all VMs. What no policy can pass is in ``bound``; docs/optimum.md says how
far the two are apart.
"""

from collections.abc import Sequence

import numpy as np

from hvgym.agents.clairvoyant import planning
from hvgym.agents.clairvoyant.planning import HOLD, OWN, PLAN, RECLAIM, SQUEEZE
from hvgym.agents.policy import ClairvoyantPolicy
from hvgym.envs.model import tick
from hvgym.envs.telemetry import HiddenState, Targets

PLANS = np.array(
    [
        # kind, reports, scan_pages_per_s, whole, horizon_s, shrink_mib_per_s, fills
        (HOLD, 0, OWN, 0, 0, 0, 0),  # what static does
        (HOLD, 1, 0, 0, 0, 0, 0),
        (RECLAIM, 1, 0, 0, 100, 0, 0),
        (RECLAIM, 1, 0, 0, 1000, 0, 0),
        (RECLAIM, 1, 0, 1, 1000, 0, 0),
        (HOLD, 1, 100e3, 0, 0, 0, 0),
        (RECLAIM, 1, 100e3, 0, 100, 0, 0),
        (SQUEEZE, 1, 0, 0, 30, 12, 0),
        (SQUEEZE, 1, 0, 0, 100, 30, 0),
        (RECLAIM, 1, 0, 0, 1000, 0, 0.9),
        (RECLAIM, 1, 0, 0, 1000, 0, 1.0),
        (RECLAIM, 1, 0, 0, 1000, 0, 1.1),
    ],
    PLAN,
)
"""What is tried; of equals the first wins. Numbers were found on training seeds, and matter little."""


class Oracle(ClairvoyantPolicy):
    """Reviews its plan every `review_s`, by what each would bring in the next `horizon_s`."""

    period_s = 5.0

    def __init__(self, review_s: int = 900, horizon_s: int = 1800) -> None:
        self.review_s = review_s
        self.horizon_s = horizon_s
        self._kept: dict[int, tuple[int, int]] = {}  # lane -> seed of its episode and index of its plan

    def decide(self, hidden: HiddenState) -> Targets:
        """See `ClairvoyantPolicy`."""
        lanes, vms = hidden.vms.shape
        plans = PLANS[[self._plan(hidden, lane) for lane in range(lanes)]]
        work = np.zeros((lanes, vms), planning.WORK)
        _decide(hidden, plans, self.period_s, work)
        scan = plans["scan_pages_per_s"][:, None]
        return Targets(
            memory_mib=work["size_mib"].copy(),
            reclaim_mib=work["reclaim_mib"].copy(),
            reclaim_age_s=np.full((lanes, vms), planning.BY_AGE_S),
            scan_pages_per_s=np.where(scan == OWN, hidden.host_specs["scan_pages_per_s"], scan),
            report_free_pages=np.repeat(plans["reports"][:, None], vms, axis=1),
            admit=work["admit"].copy(),
        )

    def _plan(self, hidden: HiddenState, lane: int) -> int:
        """The plan that a lane follows; reviewed on the clock, and when its episode is another than last time."""
        seed, clock_s = int(hidden.hosts["seed"][lane, 0]), int(hidden.clock_s[lane])
        kept_seed, plan = self._kept.get(lane, (None, 0))
        if clock_s % self.review_s == 0 or kept_seed != seed:
            choice = candidates(hidden, lane)
            plan = choice[int(np.argmax(self.gains(hidden, lane, choice)))]
            self._kept[lane] = (seed, plan)
        return plan

    def gains(self, hidden: HiddenState, lane: int, choice: Sequence[int]) -> np.ndarray:
        """Weighted seconds of progress that each of these plans brings a lane within the horizon, less what kills and failed
        starts are charged, ``[plan]``."""
        trial = _copies(hidden, lane, len(choice))
        plans, work = PLANS[list(choice)], np.zeros(trial.vms.shape, planning.WORK)
        left_s = hidden.demand.shape[1] * hidden.slot_s - int(hidden.clock_s[lane])
        for _ in range(0, max(min(self.horizon_s, left_s), 1), int(self.period_s)):
            _decide(trial, plans, self.period_s, work)
            planning.apply(trial.vms, trial.hosts, trial.vm_specs, trial.host_specs, plans, work)
            tick.advance(
                trial.vms, trial.hosts, trial.vm_specs, trial.host_specs, trial.demand, trial.clock_s, trial.slot_s,
                int(self.period_s), 0, len(choice),
            )  # fmt: skip
        done: np.ndarray = trial.vms["progress_s"] - hidden.vms["progress_s"][lane]
        charged: np.ndarray = trial.vms["charged_s"] - hidden.vms["charged_s"][lane]
        return np.asarray((trial.vm_specs["weight"] * (done - charged)).sum(axis=1))


def candidates(hidden: HiddenState, lane: int) -> list[int]:
    """The plans that can differ from those before them on this host, as indices of `PLANS`."""
    host, spec = hidden.hosts[lane, 0], hidden.host_specs[lane, 0]
    useful = (PLANS["kind"] != RECLAIM) | (spec["swaps"] > 0.0)
    useful &= (PLANS["whole"] == 0.0) | (spec["large_state"] > 0.0)
    walks = hidden.vm_specs["walk_tax_small"][lane] - hidden.vm_specs["walk_tax_large"][lane]
    useful &= (PLANS["scan_pages_per_s"] <= 0.0) | bool((walks <= 0.0).all())
    useful &= (PLANS["fills"] == 0.0) | (host["waiting"] > 0.0)
    return [int(index) for index in np.flatnonzero(useful)]


def _copies(hidden: HiddenState, lane: int, count: int) -> HiddenState:
    """`count` copies of one lane, to be changed."""
    fields = ("vms", "hosts", "vm_specs", "host_specs", "demand", "clock_s")
    rows = {name: np.repeat(getattr(hidden, name)[lane : lane + 1], count, axis=0) for name in fields}
    return HiddenState(**rows, slot_s=hidden.slot_s)


def _decide(hidden: HiddenState, plans: np.ndarray, period_s: float, work: np.ndarray) -> None:
    planning.decide(
        hidden.vms, hidden.hosts, hidden.vm_specs, hidden.host_specs, hidden.demand, hidden.clock_s, hidden.slot_s,
        plans, period_s, work,
    )  # fmt: skip
