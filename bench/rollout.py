"""The one rollout that evaluation, training and pictures call.

It keeps each policy to its own period (whole seconds, also below the control interval) and its own visibility, replays
the same demand for the same seed, and returns one row per episode. Slowdown is 1 / progress of a VM over one control
interval, capped at 1000; its 99th percentile is taken over VMs and intervals of an episode.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hvgym.agents.policy import ClairvoyantPolicy, Policy
from hvgym.envs import losses
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Telemetry

MAX_SLOWDOWN = 1000.0

OUTCOMES = ("goodput", "cost", "oom_kills", "host_swap_s", "p99_slowdown")
"""What an episode is judged by."""

LOSSES = tuple(f"lost_{cause}" for cause in losses.CAUSES)
"""Where goodput went (``envs.losses``); with it they make one, but for sampling once per control interval."""

METRICS = (*OUTCOMES, *LOSSES, "sim_seconds")


@dataclass(frozen=True)
class Episodes:
    """Results of a rollout, each ``[episode]`` in the order of the seeds.

    goodput: weighted progress as a share of what was asked for; cost: seconds in which critical VMs missed their
    objective; oom_kills; host_swap_s: seconds with host swap traffic; p99_slowdown; lost_*: shares of what was asked for that
    each cause took; sim_seconds: simulated length.
    """

    seeds: tuple[int, ...]
    goodput: np.ndarray
    cost: np.ndarray
    oom_kills: np.ndarray
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
    scenario: Scenario, policy: Policy | ClairvoyantPolicy, seeds: Sequence[int], watch: Watcher | None = None
) -> Episodes:
    """Play one episode per seed, all in one batch."""
    sim = Simulator(scenario, len(seeds))
    telemetry = sim.reset(seeds)
    if isinstance(policy, Policy):
        policy.reset(telemetry.seen_with(policy.visibility), seed=0)
    interval = scenario.control_interval_s
    stride = math.gcd(interval, max(int(policy.period_s), 1))  # a held target makes k short steps one long one, exactly
    next_decision, slowdowns = 0.0, []
    lost = {cause: np.zeros(len(seeds)) for cause in losses.CAUSES}
    done = sim.vms["progress_s"].copy()
    for now in range(0, scenario.duration_s, stride):
        if now >= next_decision:
            sim.apply(policy.decide(telemetry.seen_with(policy.visibility)) if isinstance(policy, Policy)
                      else policy.decide(sim.hidden()))  # fmt: skip
            next_decision += policy.period_s
        telemetry = sim.advance(stride)
        if (now + stride) % interval:
            continue
        progress = (sim.vms["progress_s"] - done) / interval
        done = sim.vms["progress_s"].copy()
        slowdowns.append(1.0 / np.maximum(progress, 1.0 / MAX_SLOWDOWN))
        for cause, share in losses.shares(sim).items():
            lost[cause] += share * (interval / scenario.duration_s)
        if watch is not None:
            watch(telemetry, sim)
    return _score(sim, tuple(int(seed) for seed in seeds), np.stack(slowdowns, axis=1), lost)


def _score(sim: Simulator, seeds: tuple[int, ...], slowdowns: np.ndarray, lost: dict[str, np.ndarray]) -> Episodes:
    """Rows from the counters of the model; slowdowns ``[env, interval, vm]``, lost ``[env]`` by cause."""
    weight, seconds = sim.vm_specs["weight"], sim.clock_s.astype(np.float64)
    return Episodes(
        seeds=seeds,
        goodput=(weight * sim.vms["progress_s"]).sum(axis=1) / (weight * sim.vms["asked_s"]).sum(axis=1),
        cost=sim.vms["slo_violation_s"].sum(axis=1),
        oom_kills=sim.vms["oom_kills"].sum(axis=1),
        host_swap_s=sim.hosts["swapping_s"].sum(axis=1),
        p99_slowdown=np.quantile(slowdowns.reshape(len(seeds), -1), 0.99, axis=1),
        **{f"lost_{cause}": share for cause, share in lost.items()},
        sim_seconds=seconds,
    )
