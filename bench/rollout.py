"""The one rollout that evaluation, training and pictures call.

It keeps each policy to its own period (whole seconds, also below the control interval), its own visibility and the rules
of the scenario (``envs.rules``, ``envs.watching``), lets the hypervisor's own policy run on beneath it where it does
(``agents.stock``), replays the same demand for the same seed, and returns one row per episode. Slowdown is 1 / progress of a VM
over one control interval, capped at 1000; its 99th percentile is taken over VMs and intervals of an episode.
"""

import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from hvgym.agents.policy import ClairvoyantPolicy, Policy
from hvgym.agents.stock import beneath
from hvgym.envs import losses
from hvgym.envs.conservation import fault
from hvgym.envs.errors import InputError, in_words
from hvgym.envs.rules import channels_of, check_played, check_written, readable
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator
from hvgym.envs.targets import TargetsError
from hvgym.envs.telemetry import Targets, Telemetry, visible_to
from hvgym.envs.watching import Watching, watching

MAX_SLOWDOWN = 1000.0

OUTCOMES = ("goodput", "cost", "oom_kills", "failed_starts", "host_swap_s", "p99_slowdown")
"""What an episode is judged by."""

LOSSES = tuple(f"lost_{cause}" for cause in losses.CAUSES)
"""Where goodput went (``envs.losses``); with it they make one, but for sampling once per control interval."""

METRICS = (*OUTCOMES, *LOSSES, "sim_seconds")


@dataclass(frozen=True)
class Episodes:
    """Results of a rollout, each ``[episode]`` in the order of the seeds.

    goodput: weighted progress, less what kills and failed starts are charged (``kill_cost_s``), as a share of what was asked
    for; cost: seconds in which critical VMs missed their objective; oom_kills; failed_starts: VMs whose start was given up;
    host_swap_s: seconds with host swap traffic; p99_slowdown; lost_*: shares of what was asked for that each cause took;
    sim_seconds: simulated length.
    """

    seeds: tuple[int, ...]
    goodput: np.ndarray
    cost: np.ndarray
    oom_kills: np.ndarray
    failed_starts: np.ndarray
    host_swap_s: np.ndarray
    p99_slowdown: np.ndarray
    lost_exits: np.ndarray
    lost_page_walks: np.ndarray
    lost_collections: np.ndarray
    lost_cpu: np.ndarray
    lost_guest_paging: np.ndarray
    lost_host_paging: np.ndarray
    lost_io_waits: np.ndarray
    lost_waiting: np.ndarray
    lost_kills: np.ndarray
    sim_seconds: np.ndarray

    def rows(self) -> list[dict[str, float]]:
        """One dictionary an episode: eval_seed and the metrics."""
        return [
            {"eval_seed": seed} | {name: float(getattr(self, name)[i]) for name in METRICS}
            for i, seed in enumerate(self.seeds)
        ]


Watcher = Callable[[Telemetry, Simulator], None]
"""Called after each control interval; for pictures and the live demo."""


def rollout(
    scenario: Scenario, policy: Policy | ClairvoyantPolicy, seeds: Sequence[int], watch: Watcher | None = None,
    agent: str | None = None, apart: bool = True,
) -> Episodes:  # fmt: skip
    """Play one episode per seed, all in one batch. agent: its name for messages, instead of the name of its class; apart: False
    leaves out where goodput went (lost_* are NaN then, but for kills), a third of the time of who seldom decides.

    Raises:
        InputError: naming agent, scenario, seed and second, when the policy fails, leaves, asks for what no host could be
            told (`Targets`) or what it does not declare, or when the state of a host does not hold at the end; naming agent,
            scenario and reason where the rules refuse it.
    """
    seeds = tuple(int(seed) for seed in seeds)
    check_played(policy.declaration, scenario, agent or type(policy).__name__)
    stock = beneath(scenario, policy.declaration)
    sim = Simulator(scenario, len(seeds))
    telemetry = sim.reset(seeds)
    turn = _Turn(policy, sim, seeds, agent or type(policy).__name__, stock)
    turns = [turn] if stock is None else [turn, _Turn(stock, sim, seeds, str(scenario.hypervisor.stock))]
    for one in turns:
        one.reset(telemetry)
    interval = scenario.control_interval_s
    stride = math.gcd(
        interval, *(step for one in turns for step in (max(int(one.period_s(0)), 1), *one.steps_s))
    )  # a held target makes k short steps one long one, exactly
    slowdowns = []
    lost = {cause: np.full(len(seeds), 0.0 if apart else np.nan) for cause in losses.SAMPLED}
    done = sim.vms["progress_s"].copy()
    for now in range(0, scenario.duration_s, stride):
        for one in turns:
            if now >= one.next_s:
                one.decide(telemetry, now)
                one.next_s += one.period_s(now)
            else:
                one.carry_on(telemetry)
        telemetry = sim.advance(stride)
        if (now + stride) % interval:
            continue
        progress = (sim.vms["progress_s"] - done) / interval
        done = sim.vms["progress_s"].copy()
        slowdowns.append(1.0 / np.maximum(progress, 1.0 / MAX_SLOWDOWN))
        for cause, share in losses.shares(sim).items() if apart else ():
            lost[cause] += share * (interval / scenario.duration_s)
        if watch is not None:
            watch(telemetry, sim)
    if found := fault(sim):
        lane, what = found
        raise InputError(f"{turn.where(scenario.duration_s, lane, 'by ')}: the state of the host does not hold: {what}")
    return _score(sim, seeds, np.stack(slowdowns, axis=1), lost)


class _Turn:
    """Asks a policy, and says where it failed. next_s: of its next decision; stock: what runs beneath it."""

    def __init__(
        self, policy: Policy | ClairvoyantPolicy, sim: Simulator, seeds: tuple[int, ...], agent: str,
        stock: Policy | None = None,
    ) -> None:  # fmt: skip
        self._policy, self._sim, self._scenario, self._seeds, self._agent = policy, sim, sim.scenario, seeds, agent
        self._taken = () if stock is None else channels_of(stock.declaration, sim.scenario)
        self.next_s = 0.0
        self._readable = readable(policy.declaration, sim.scenario) if isinstance(policy, Policy) else None
        self._watching: Watching | None = None
        self._seen_names = frozenset[str]()
        if isinstance(policy, Policy):
            self._seen_names = (self._readable or frozenset()) & visible_to(policy.visibility)
            self._watching = watching(policy.declaration, sim.scenario, self._readable, sim)

    @property
    def steps_s(self) -> tuple[int, ...]:
        """Seconds at which its readings are refreshed and its settings may take effect."""
        return () if self._watching is None else self._watching.steps_s

    def where(self, second: int, lane: int | None = None, by: str = "") -> str:
        """Agent, scenario, seed and second. Without a lane, all seeds of the batch are meant."""
        seeds = self._seeds if lane is None else self._seeds[lane : lane + 1]
        named = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
        return f"agent {self._agent}, scenario {self._scenario.name}, {named}, {by}second {second}"

    def reset(self, first: Telemetry) -> None:
        """Let the policy forget."""
        if self._watching is not None:
            self._watching.begin(first)
        with self._named(0):
            if isinstance(self._policy, Policy):
                self._policy.reset(self._seen(first, self._policy), seed=0)
            else:
                self._policy.begin(self._scenario, channels_of(self._policy.declaration, self._scenario))

    def decide(self, telemetry: Telemetry, second: int) -> None:
        """Ask it, and carry out what it answers, as far as it takes effect now."""
        with self._named(second):
            if not isinstance(self._policy, Policy):
                self._apply(self._policy.decide(self._sim.hidden()), telemetry)
                return
            if self._watching is not None:
                self._watching.note(telemetry)
                self._watching.pay_for_reading()
            self._apply(self._policy.decide(self._seen(telemetry, self._policy)), telemetry)

    def carry_on(self, telemetry: Telemetry) -> None:
        """Let a second pass in which it does not decide: sources are refreshed, what was held may take effect."""
        if self._watching is not None:
            self._watching.note(telemetry)
            self._carry_out(self._watching.due(telemetry.time_s))

    def _apply(self, targets: Targets, telemetry: Telemetry) -> None:
        """Check an answer, and carry out what of it takes effect now."""
        if isinstance(targets, Targets):  # of anything else `apply` says what it is
            check_written(self._policy.declaration, self._scenario, targets)
            self._check_free(targets)
            if self._watching is not None:
                self._carry_out(self._watching.due(telemetry.time_s, targets))
                return
        self._sim.apply(targets)

    def _carry_out(self, targets: Targets | None) -> None:
        if targets is not None and self._watching is not None:
            self._sim.apply(targets)
            self._watching.pay_for_asking(targets)

    def _check_free(self, targets: Targets) -> None:
        """Raise `InputError` for an answer on a channel that the policy beneath sets (open rules let others through)."""
        for name in self._taken:
            if getattr(targets, name) is not None:
                stock = self._scenario.hypervisor.stock
                raise InputError(
                    f"targets.{name}: {stock} runs on beneath and sets it; declare it in channels to take its place"
                )

    def _seen(self, telemetry: Telemetry, policy: Policy) -> Telemetry:
        """What it may read: its profile, and under the default rules of that what it declares or its seat has, as it has it."""
        if self._watching is not None and self._watching.changes:
            telemetry = self._watching.seen(telemetry)
        return (
            telemetry.seen_with(policy.visibility)
            if self._readable is None
            else telemetry.restricted_to(self._seen_names)
        )

    def period_s(self, second: int) -> float:
        """Its own control period as it is now."""
        with self._named(second):
            period = self._policy.period_s
        if isinstance(period, bool) or not isinstance(period, numbers.Real) or not 0.0 < period < math.inf:
            raise InputError(f"{self.where(second)}: period_s={period!r}: expected a positive number of seconds")
        return float(period)

    @contextmanager
    def _named(self, second: int) -> Iterator[None]:
        """Every failure of a policy is its user's affair, `sys.exit` included: a result must not be missing in silence."""
        try:
            yield
        except TargetsError as error:
            raise InputError(f"{self.where(second, error.lane)}: {error}") from error
        except InputError as error:
            raise InputError(f"{self.where(second)}: {error}") from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise InputError(f"{self.where(second)}: {in_words(error)}") from error


def _score(sim: Simulator, seeds: tuple[int, ...], slowdowns: np.ndarray, lost: dict[str, np.ndarray]) -> Episodes:
    """Rows from the counters of the model; slowdowns ``[env, interval, vm]``, lost ``[env]`` by cause."""
    weight, seconds = sim.vm_specs["weight"], sim.clock_s.astype(np.float64)
    earned_s = sim.vms["progress_s"] - sim.vms["charged_s"]
    return Episodes(
        seeds=seeds,
        goodput=(weight * earned_s).sum(axis=1) / (weight * sim.vms["asked_s"]).sum(axis=1),
        cost=sim.vms["slo_violation_s"].sum(axis=1),
        oom_kills=sim.vms["oom_kills"].sum(axis=1),
        failed_starts=sim.vms["failed_starts"].sum(axis=1),
        host_swap_s=sim.hosts["swapping_s"].sum(axis=1),
        p99_slowdown=np.quantile(slowdowns.reshape(len(seeds), -1), 0.99, axis=1),
        **{f"lost_{cause}": share for cause, share in lost.items()},
        lost_kills=losses.kills(sim),
        sim_seconds=seconds,
    )
