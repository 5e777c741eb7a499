"""The one rollout that evaluation, training and pictures call.

It keeps each policy to its own period (whole seconds, also below the control interval), its own visibility and the rules
of the scenario (``envs.rules``, ``envs.watching``), lets the hypervisor's own policy run on beneath it where it does
(``agents.stock``), replays the same demand for the same seed, and returns one row per episode. Slowdown is 1 / progress of a VM
over one control interval, capped at 1000; its 99th percentile is taken over VMs and intervals of an episode.
"""

import math
import numbers
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from hvgym.agents.policy import ClairvoyantPolicy, Policy
from hvgym.agents.stock import beneath, beneath_cluster
from hvgym.envs import losses
from hvgym.envs.backends import AnySimulator, simulator
from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.conservation import fault
from hvgym.envs.errors import InputError, in_words
from hvgym.envs.hosts_view import HostsView
from hvgym.envs.rules import channels_of, check_played, check_written, readable
from hvgym.envs.scenario import Scenario
from hvgym.envs.targets import TargetsError
from hvgym.envs.telemetry import Targets, Telemetry, visible_to
from hvgym.envs.watching import Watching, watching

MAX_SLOWDOWN = 1000.0

OUTCOMES = ("goodput", "cost", "oom_kills", "failed_starts", "host_swap_s", "p99_slowdown")
"""What an episode is judged by."""

LOSSES = tuple(f"lost_{cause}" for cause in losses.CAUSES)
"""Where goodput went (``envs.losses``); with it they make one, but for sampling once per control interval."""

OF_CLUSTERS = ("outage_s", "recovery_s", "downtime_s", "moves", "failed_moves", "moved_gib")
"""What failures and moves did; 0 on a host alone."""

METRICS = (*OUTCOMES, *LOSSES, *OF_CLUSTERS, "sim_seconds")


@dataclass(frozen=True)
class Episodes:
    """Results of a rollout, each ``[episode]`` in the order of the seeds.

    goodput: weighted progress, less what kills and failed starts are charged (``kill_cost_s``), as a share of what was asked
    for; cost: seconds in which critical VMs missed their objective; oom_kills; failed_starts: VMs whose start was given up;
    host_swap_s: seconds with host swap traffic; p99_slowdown; lost_*: shares of what was asked for that each cause took;
    sim_seconds: simulated length.

    Of a cluster, 0 on a host alone: outage_s: VM seconds without service after failures of hosts; recovery_s: the longest time
    from a failure until a VM was back at work; downtime_s: VM seconds stopped at the end of copies; moves, failed_moves,
    moved_gib: live migrations.
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
    outage_s: np.ndarray
    recovery_s: np.ndarray
    downtime_s: np.ndarray
    moves: np.ndarray
    failed_moves: np.ndarray
    moved_gib: np.ndarray
    sim_seconds: np.ndarray

    def rows(self) -> list[dict[str, float]]:
        """One dictionary an episode: eval_seed and the metrics."""
        return [
            {"eval_seed": seed} | {name: float(getattr(self, name)[i]) for name in METRICS}
            for i, seed in enumerate(self.seeds)
        ]


Watcher = Callable[[Telemetry, AnySimulator], None]
"""Called after each control interval; for pictures and the live demo."""


def rollout(
    scenario: Scenario, policy: Policy | ClairvoyantPolicy, seeds: Sequence[int], watch: Watcher | None = None,
    agent: str | None = None, apart: bool = True,
) -> Episodes:  # fmt: skip
    """Play one episode per seed, all in one batch; `watch` is called after each control interval. The rest is as of `playing`."""
    course = playing(scenario, policy, seeds, agent, apart)
    while True:
        try:
            telemetry, sim = next(course)
        except StopIteration as end:
            played: Episodes = end.value
            return played
        if watch is not None:
            watch(telemetry, sim)


def playing(
    scenario: Scenario, policy: Policy | ClairvoyantPolicy, seeds: Sequence[int], agent: str | None = None,
    apart: bool = True,
) -> Generator[tuple[Telemetry, AnySimulator], None, Episodes]:  # fmt: skip
    """A rollout that stops after each control interval, for who plays several side by side. Play one episode per seed, all in one
    batch. agent: its name for messages, instead of the name of its class; apart: False
    leaves out where goodput went (lost_* are NaN then, but for kills), a third of the time of who seldom decides.

    Raises:
        InputError: naming agent, scenario, seed and second, when the policy fails, leaves, asks for what no host could be
            told (`Targets`) or what it does not declare, or when the state of a host does not hold at the end; naming agent,
            scenario and reason where the rules refuse it.
    """
    seeds, name = tuple(int(seed) for seed in seeds), agent or type(policy).__name__
    check_played(policy.declaration, scenario, name)
    sim = simulator(scenario, len(seeds))
    telemetry = sim.reset(seeds)
    turns = _turns(scenario, policy, sim, seeds, name)
    turn = turns[0]
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
        yield telemetry, sim
    if found := fault(sim):
        lane, what = found
        raise InputError(f"{turn.where(scenario.duration_s, lane, 'by ')}: the state of the host does not hold: {what}")
    return _score(sim, seeds, np.stack(slowdowns, axis=1), lost)


def _turns(
    scenario: Scenario, policy: Policy | ClairvoyantPolicy, sim: AnySimulator, seeds: tuple[int, ...], name: str
) -> "list[_Turn]":
    """All that decides: the agent, and what runs on beneath it."""
    if isinstance(sim, ClusterSimulator):
        return _turns_of_cluster(scenario, policy, sim, seeds, name)
    if policy.of_cluster:
        raise InputError(
            f"agent {name}, scenario {scenario.name}: decides for several hosts; choose a scenario with hosts"
        )
    stock = beneath(scenario, policy.declaration)
    turn = _Turn(policy, sim, seeds, name, stock)
    return [turn] if stock is None else [turn, _Turn(stock, sim, seeds, str(scenario.hypervisor.stock))]


def _turns_of_cluster(
    scenario: Scenario, policy: Policy | ClairvoyantPolicy, sim: ClusterSimulator, seeds: tuple[int, ...], name: str
) -> "list[_Turn]":
    """Policies of the cluster see all of it, others one host each."""
    if not (isinstance(policy, Policy) or policy.of_cluster):
        raise InputError(f"agent {name}, scenario {scenario.name}: plans for one host; choose a scenario with one")
    each = HostsView(sim)
    by_host = tuple(seed for seed in seeds for _ in scenario.host_names)
    played = policy.parts if isinstance(policy, Policy) else (policy,)
    for part in played:
        check_played(part.declaration, scenario, name)
    hypervisors, stacks = beneath_cluster(scenario, played)
    if any(one is not None and one.places_starts for one in (*played, stacks)):
        sim.leave_starts_to_policies()
    stock = f"stack {scenario.stack.name}" if scenario.stack else ""
    parts: list[tuple[Policy | ClairvoyantPolicy, str, Policy | None]] = [(part, name, hypervisors) for part in played]
    parts += [(one, str(scenario.hypervisor.stock), None) for one in (hypervisors,) if one is not None]
    parts += [(one, stock, None) for one in (stacks,) if one is not None]
    return [
        _Turn(one, sim, seeds, who) if one.of_cluster else _Turn(one, each, by_host, who, below)
        for one, who, below in parts
    ]


class _Turn:
    """Asks a policy, and says where it failed. next_s: of its next decision; stock: what runs beneath it."""

    def __init__(
        self, policy: Policy | ClairvoyantPolicy, sim: AnySimulator | HostsView, seeds: tuple[int, ...], agent: str,
        stock: Policy | None = None,
    ) -> None:  # fmt: skip
        self._policy, self._sim, self._scenario, self._seeds, self._agent = policy, sim, sim.scenario, seeds, agent
        # as it was when its right to play was checked, whatever it says of itself later
        self._declaration = policy.declaration
        self._taken = () if stock is None else channels_of(stock.declaration, sim.scenario)
        self.next_s = 0.0
        self._readable = readable(policy.declaration, sim.scenario) if isinstance(policy, Policy) else None
        self._watching: Watching | None = None
        self._seen_names = frozenset[str]()
        if isinstance(policy, Policy):
            self._visibility = policy.visibility
            self._seen_names = (self._readable or frozenset()) & visible_to(policy.visibility)
            self._watching = watching(policy.declaration, sim.scenario, self._readable, sim)

    @property
    def steps_s(self) -> tuple[int, ...]:
        """Seconds at which its readings are refreshed and its settings may take effect."""
        return () if self._watching is None else self._watching.steps_s

    def _read(self, telemetry: Telemetry) -> Telemetry:
        """As it stands where the policy sits: the whole, or one host each."""
        return self._sim.split(telemetry) if isinstance(self._sim, HostsView) else telemetry

    def where(self, second: int, lane: int | None = None, by: str = "") -> str:
        """Agent, scenario, seed and second. Without a lane, all seeds of the batch are meant."""
        seeds = self._seeds if lane is None else self._seeds[lane : lane + 1]
        named = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
        return f"agent {self._agent}, scenario {self._scenario.name}, {named}, {by}second {second}"

    def reset(self, first: Telemetry) -> None:
        """Let the policy forget."""
        first = self._read(first)
        if self._watching is not None:
            self._watching.begin(first)
        with self._named(0):
            if isinstance(self._policy, Policy):
                self._policy.granted(channels_of(self._declaration, self._scenario))
                self._policy.reset(self._seen(first), seed=0)
            else:
                self._policy.begin(self._scenario, channels_of(self._declaration, self._scenario))
                # a reference may say only here what it sets, of what its seat has
                self._declaration = self._policy.declaration
                check_played(self._declaration, self._scenario, self._agent)

    def decide(self, telemetry: Telemetry, second: int) -> None:
        """Ask it, and carry out what it answers, as far as it takes effect now."""
        telemetry = self._read(telemetry)
        with self._named(second):
            if not isinstance(self._policy, Policy):
                assert not isinstance(self._sim, HostsView)  # `_turns_of_cluster`
                self._apply(self._policy.decide(self._sim.hidden()), telemetry)
                return
            if self._watching is not None:
                self._watching.note(telemetry)
                self._watching.pay_for_reading()
            self._apply(self._policy.decide(self._seen(telemetry)), telemetry)

    def carry_on(self, telemetry: Telemetry) -> None:
        """Let a second pass in which it does not decide: sources are refreshed, what was held may take effect."""
        if self._watching is not None:
            telemetry = self._read(telemetry)
            self._watching.note(telemetry)
            self._carry_out(self._watching.due(telemetry.time_s))

    def _apply(self, targets: Targets, telemetry: Telemetry) -> None:
        """Check an answer, and carry out what of it takes effect now."""
        if isinstance(targets, Targets):  # of anything else `apply` says what it is
            check_written(self._declaration, self._scenario, targets)
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

    def _seen(self, telemetry: Telemetry) -> Telemetry:
        """What it may read: its profile, and under the default rules of that what it declares or its seat has, as it has it."""
        if self._watching is not None and self._watching.changes:
            telemetry = self._watching.seen(telemetry)
        return (
            telemetry.seen_with(self._visibility)
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


def _of_cluster(sim: AnySimulator) -> dict[str, np.ndarray]:
    """Sums of what the stack counted for VMs, ``[env]``."""
    if not isinstance(sim, ClusterSimulator):
        return {name: np.zeros(sim.lanes) for name in OF_CLUSTERS}
    counted = sim.arrays.residents
    sums = {name: counted[name].sum(axis=1) for name in ("outage_s", "downtime_s", "moves", "failed_moves")}
    return sums | {"recovery_s": sim.recovery_s(), "moved_gib": counted["moved_mib"].sum(axis=1) / 1024.0}


def goodput_of(sim: AnySimulator) -> np.ndarray:
    """Of the episodes that have ended, ``[env]``."""
    vms, weight = sim.vms, sim.vm_specs["weight"]
    earned_s = vms["progress_s"] - vms["charged_s"]
    return np.asarray((weight * earned_s).sum(axis=1) / (weight * vms["asked_s"]).sum(axis=1))


def _score(sim: AnySimulator, seeds: tuple[int, ...], slowdowns: np.ndarray, lost: dict[str, np.ndarray]) -> Episodes:
    """Rows from the counters of the model; slowdowns ``[env, interval, vm]``, lost ``[env]`` by cause."""
    vms, seconds = sim.vms, sim.clock_s.astype(np.float64)
    return Episodes(
        seeds=seeds,
        goodput=goodput_of(sim),
        cost=vms["slo_violation_s"].sum(axis=1),
        oom_kills=vms["oom_kills"].sum(axis=1),
        failed_starts=vms["failed_starts"].sum(axis=1),
        host_swap_s=sim.hosts["swapping_s"].sum(axis=1),
        p99_slowdown=np.quantile(slowdowns.reshape(len(seeds), -1), 0.99, axis=1),
        **{f"lost_{cause}": share for cause, share in lost.items()},
        lost_kills=losses.kills(sim),
        **_of_cluster(sim),
        sim_seconds=seconds,
    )
