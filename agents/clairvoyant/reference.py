"""The clairvoyant reference, score 1: it searches the best course of each episode in copies of the model, and follows it.

It knows the true state and the demand to come, and is confined to the channels of one seat on the hypervisor (``envs.rules``):
inside, what the hypervisor's own kernel could set if it knew the future; outside, what an operator's program could. Nothing else
binds it but the actuators: balloons at their rate and within their caps, reclaim at the device's speed, floors, the hypervisor's
own admission. Its course follows from scenario, seed, seat and rules alone, within a budget of `episodes` played in copies of the
model (``search``); it never looks at what other policies reach. It seeks the most goodput, or where `counts` says so the fewest
seconds in which critical VMs miss their objective; without kills either way.

It is a reference, not a bound: plans are rules, not an optimum. What no policy can pass is in ``bound``; docs/optimum.md says how
far the two are apart.
"""

from collections.abc import Collection

import numpy as np

from hvgym.agents.clairvoyant import planning
from hvgym.agents.clairvoyant.planning import OWN
from hvgym.agents.clairvoyant.search import Counts, Course, Search, Trials
from hvgym.agents.policy import ClairvoyantPolicy
from hvgym.agents.stock import beneath
from hvgym.envs.errors import InputError, shown
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import Scenario
from hvgym.envs.seats import CHANNELS, SeatName
from hvgym.envs.telemetry import HiddenState, Targets

DECIDES_S = 5
"""Seconds between decisions, unless a channel takes effect less often."""


def _answers_s(scenario: Scenario, seat: SeatName) -> int:
    """Least time between two settings that take effect, of the slowest channel of a seat."""
    capabilities = scenario.hypervisor.capabilities
    if scenario.rules == "open" or capabilities is None:
        return 1
    return max((channel.every_s for channel in capabilities.seat(seat).channels), default=1)


class Reference(ClairvoyantPolicy):
    """Searches at the start of each episode. `begin` comes first."""

    def __init__(self, seat: SeatName = "inside", episodes: int = 100, counts: Counts = "goodput") -> None:
        if not isinstance(episodes, int) or isinstance(episodes, bool) or episodes < 1:
            raise InputError(f"agent.episodes={shown(episodes)}: expected a whole number, at least 1")
        if counts not in ("goodput", "misses"):
            raise InputError(f"agent.counts={shown(counts)}: choose one of goodput, misses")
        self.episodes = episodes
        self.counts: Counts = counts
        self.declaration = Declaration(seat, channels=None, signals=frozenset())

    def begin(self, scenario: Scenario, channels: Collection[str]) -> None:
        """See `ClairvoyantPolicy`."""
        self.scenario = scenario
        self.period_s = float(max(DECIDES_S, _answers_s(scenario, self.declaration.seat)))
        self.channels = tuple(name for name in CHANNELS if name in channels)
        self._courses = dict[int, tuple[int, int, Course]]()  # by lane: seed, second of the last decision, course

    def decide(self, hidden: HiddenState) -> Targets:
        """See `ClairvoyantPolicy`."""
        lanes, vms = hidden.vms.shape
        courses = [self._course(hidden, lane) for lane in range(lanes)]
        parts = [course.at(clock_s) for course, clock_s in zip(courses, hidden.clock_s.tolist(), strict=True)]
        plans, tilts = np.empty(lanes, planning.PLAN), np.empty((lanes, vms, len(planning.TILTS)))
        for lane, (course, part) in enumerate(zip(courses, parts, strict=True)):
            plans[lane], tilts[lane] = course.plans[part], course.tilts[part]
        work = np.zeros((lanes, vms), planning.WORK)
        for index, name in enumerate(planning.TILTS):
            work[name] = tilts[..., index]
        planning.decide(
            hidden.vms, hidden.hosts, hidden.vm_specs, hidden.host_specs, hidden.demand, hidden.clock_s, hidden.slot_s, plans,
            self.period_s, work,
        )  # fmt: skip
        return self._targets(hidden, plans, work)

    def _targets(self, hidden: HiddenState, plans: np.ndarray, work: np.ndarray) -> Targets:
        """What is answered on the channels that are there; NaN where a plan leaves a thing as it is."""
        scan = plans["scan_pages_per_s"][:, None]
        reports = np.repeat(plans["reports"][:, None], work.shape[1], axis=1)
        shares = np.where(plans["shares"][:, None] > 0.0, hidden.vm_specs["weight"], np.nan)
        answers = {
            "memory_mib": work["size_mib"].copy(),
            "reclaim_mib": work["reclaim_mib"].copy(),
            "reclaim_age_s": np.full(work.shape, planning.BY_AGE_S),
            "scan_pages_per_s": np.where(scan == OWN, hidden.host_specs["scan_pages_per_s"], scan),
            "report_free_pages": np.where(reports == OWN, np.nan, reports),
            "admit": work["admit"].copy(),
            "disk_shares": shares * np.exp(work["disk_tilt"]),
            "net_shares": shares * np.exp(work["net_tilt"]),
        }
        return Targets(**{name: value for name, value in answers.items() if name in self.channels})

    def _course(self, hidden: HiddenState, lane: int) -> Course:
        """The course that a lane follows; searched when its episode is another than last time."""
        seed, clock_s = int(hidden.hosts["seed"][lane, 0]), int(hidden.clock_s[lane])
        known = self._courses.get(lane)
        if known is None or known[0] != seed or clock_s <= known[1]:
            stock = beneath(self.scenario, self.declaration)
            trials = Trials(hidden, lane, int(self.period_s), self.scenario, stock, self.counts)
            known = (seed, clock_s, Search(trials, self.channels, self.episodes).course())
        self._courses[lane] = (seed, clock_s, known[2])
        return known[2]
