"""What a policy of memory sizes does, and why: sensitivities, a burst, and a small tree fitted to it with its own score.

Decisions are read as changes: how much the size that a VM is asked to have moves at each decision, as a share of its configured
memory. The policy is asked on episodes of the training split (seeds of tunings, which no training draws) and judged, as the tree
that stands in for it, on validation seeds. Test seeds are left alone.

Sensitivities of any policy are finite differences: at `PROBES` moments a copy of the policy sees one signal of all VMs higher by
the standard deviation that it has over time (of a counter: of its rise between readings). A policy that keeps several readings
would show more in the following decisions, which is left out. Of a linear policy the pull of each feature stands beside, by its
weights: what it would move were there no price of the host's memory and no limit of sizes, which hold much of it back on
full hosts.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from hvgym.agents.learned import tree
from hvgym.agents.learned.linear import SharedLinear
from hvgym.agents.learned.tree import Node, SizeTree
from hvgym.agents.learned.view import FEATURES, View
from hvgym.agents.policy import Policy, make_policy
from hvgym.bench import suites
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import Scenario, load_group, resolve
from hvgym.envs.telemetry import HOST_SIGNALS, VM_SIGNALS, Targets, Telemetry

PROBES = 24
"""Moments of an episode at which sensitivities are taken (a guess)."""

LEAST_SENSITIVITY = 1e-6
"""Of configured memory: what moves sizes by less is left out."""


class Recorded(Policy):
    """A policy whose decisions are written down. rows: features ``[env, vm, feature]`` and changes ``[env, vm]`` by decision."""

    def __init__(self, policy: Policy, agent: str) -> None:
        self.policy, self._agent = policy, agent
        self.visibility, self.declaration = policy.visibility, policy.declaration
        self.seen, self.changes, self.readings = list[np.ndarray](), list[np.ndarray](), list[Telemetry]()
        self.others = dict[str, None]()

    @property
    def period_s(self) -> float:  # type: ignore[override]
        """The policy's own."""
        return self.policy.period_s

    def granted(self, channels: Collection[str]) -> None:
        """See `Policy`."""
        self.policy.granted(channels)

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self.policy.reset(first, seed)
        self._view = View()

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        self.look(telemetry)
        answer = self.policy.decide(telemetry)
        self.seen.append(self._view.look(telemetry))
        self.changes.append(change(answer, telemetry, self._agent))
        self.others |= {one.name: None for one in fields(answer) if getattr(answer, one.name) is not None}
        self.readings.append(telemetry)
        return answer

    def look(self, telemetry: Telemetry) -> None:
        """Called before each decision."""


def wanted(answer: Targets, telemetry: Telemetry, agent: str) -> np.ndarray:
    """Sizes ``[env, vm]`` in MiB that an answer leaves VMs with, the last one asked for where it says nothing."""
    if answer.memory_mib is None:
        raise InputError(f"agent {agent}: sets no memory sizes; what is explained are sizes")
    vm, given = telemetry.vm, np.asarray(answer.memory_mib)
    return np.asarray(np.clip(np.where(np.isnan(given), asked(telemetry), given), vm["min_mib"], vm["memory_mib"]))


def asked(telemetry: Telemetry) -> np.ndarray:
    """Sizes last asked for, ``[env, vm]`` in MiB; where they cannot be read those that VMs have."""
    vm = telemetry.vm
    return np.asarray(np.where(np.isnan(vm["target_mib"]), vm["size_mib"], vm["target_mib"]))


def change(answer: Targets, telemetry: Telemetry, agent: str) -> np.ndarray:
    """By which share of configured memory an answer moves the size last asked for, ``[env, vm]``."""
    moved_mib = wanted(answer, telemetry, agent) - asked(telemetry)
    return np.asarray(np.nan_to_num(moved_mib / telemetry.vm["memory_mib"]))


class _Probed(Recorded):
    """A policy of which copies are asked what they would do if a signal were higher. spreads: by signal, of VMs ``vm.NAME`` and of
    the host ``host.NAME``."""

    def __init__(self, policy: Policy, agent: str, spreads: Mapping[str, float], every: int) -> None:
        super().__init__(policy, agent)
        self._spreads, self._every, self._asked = spreads, max(every, 1), 0
        self.effects: dict[str, list[np.ndarray]] = {name: [] for name in spreads}

    def look(self, telemetry: Telemetry) -> None:
        """See `Recorded`."""
        self._asked += 1
        if self._asked % self._every:
            return
        as_it_is = self._would(telemetry)
        for name, spread in self._spreads.items():
            self.effects[name].append(np.nan_to_num(self._would(_raised(telemetry, name, spread)) - as_it_is))

    def _would(self, telemetry: Telemetry) -> np.ndarray:
        try:
            other = copy.deepcopy(self.policy)
        except Exception as error:
            raise InputError(f"agent {self._agent}: cannot be copied, so it is not probed ({error})") from None
        return np.asarray(wanted(other.decide(telemetry), telemetry, self._agent) / telemetry.vm["memory_mib"])


def _raised(telemetry: Telemetry, name: str, by: float) -> Telemetry:
    of, _, signal = name.partition(".")
    vm, host = telemetry.vm.copy(), telemetry.host.copy()
    (vm if of == "vm" else host)[signal] += by
    return Telemetry(telemetry.time_s.copy(), vm, host, telemetry.places)


@dataclass(frozen=True)
class Sensitivity:
    """Of a signal or feature: how much it varies over time (in its own unit), and what one standard deviation more of it moves
    sizes by in a decision, as shares of configured memory: the mean, and the mean of its size."""

    name: str
    spread: float
    moves: float
    most: float


@dataclass(frozen=True)
class Explained:
    """All that is told of a policy. fidelity: of the tree to the policy on validation seeds, R² of changes, and mean difference as
    a share of configured memory; goodput: on validation seeds, of policy, tree and stock."""

    agent: str
    scenario: str
    seeds: int
    features: tuple[Sensitivity, ...]
    signals: tuple[Sensitivity, ...]
    tree: Node
    fidelity: Mapping[str, float]
    goodput: Mapping[str, float]
    kills: Mapping[str, float]
    decisions: int
    course: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    """Channels that it sets beside sizes, and that are not explained."""


def explain(
    scenario: Scenario, agent: Mapping[str, Any], policy: Policy, leaves: int, seeds: int
) -> tuple[Explained, SizeTree]:
    """Ask a policy, fit a tree to it, and play both. Raises `InputError` for one that sets no sizes."""
    name = str(agent.get("name", type(policy).__name__))
    fitted = Recorded(policy, name)
    rollout(suites.split_of(scenario, "train"), fitted, suites.tuning_seeds(seeds), agent=name, apart=False)
    seen, changes = _rows(fitted)
    grown = tree.grow(seen, changes, leaves)
    stand_in = SizeTree.of(grown, policy.period_s, policy.visibility)
    stand_in.declaration = policy.declaration
    stand_in.keep_floor(getattr(policy, "policy", policy))  # of a shield, what it holds back
    apart, ground = suites.seeds("validation", seeds), suites.split_of(scenario, "validation")
    held_out = Recorded(policy, name)
    stock = make_policy(load_group("agent", "stock"))
    played = {
        who: rollout(ground, one, apart, agent=who, apart=False)
        for who, one in ((name, held_out), ("tree", stand_in), ("stock", stock))
    }
    told = Explained(
        name, scenario.name, seeds, _pulls(policy, seen), _signals(scenario, policy, name, fitted.readings, seeds), grown,
        _fidelity(grown, *_rows(held_out)), {who: float(one.goodput.mean()) for who, one in played.items()},
        {who: float(one.oom_kills.mean()) for who, one in played.items()}, len(changes), _burst(scenario, policy, name),
        tuple(channel for channel in fitted.others if channel != "memory_mib"),
    )  # fmt: skip
    return told, stand_in


def _rows(recorded: Recorded) -> tuple[np.ndarray, np.ndarray]:
    """Features ``[row, feature]`` and changes ``[row]`` of all VMs that ran."""
    runs = np.stack([reading.vm["running"] for reading in recorded.readings]) != 0.0
    return np.stack(recorded.seen)[runs], np.stack(recorded.changes)[runs]


def _fidelity(grown: Node, seen: np.ndarray, changes: np.ndarray) -> dict[str, float]:
    apart = tree.answers(grown, seen) - changes
    varies = float(((changes - changes.mean()) ** 2).sum())
    explained = 1.0 - float((apart**2).sum()) / varies if varies > 0.0 else 1.0
    return {
        "r2": explained,
        "mean_difference": float(np.abs(apart).mean()),
        "mean_change": float(np.abs(changes).mean()),
    }


def _pulls(policy: Policy, seen: np.ndarray) -> tuple[Sensitivity, ...]:
    """Of a linear policy, the derivative of its pull alone by each feature, mean over what it saw, times what it varies."""
    inner = getattr(policy, "policy", policy)  # of a shield
    if not isinstance(inner, SharedLinear):
        return ()
    weights = inner.applied[0]
    pull = seen @ weights
    slope = inner.step / (1.0 + np.abs(pull)) ** 2
    found = [
        Sensitivity(
            name, float(spread), float((slope * weight * spread).mean()), float(abs(weight * spread) * slope.mean())
        )
        for name, weight, spread in zip(FEATURES, weights, seen.std(axis=0), strict=True)
    ]
    return _sorted([one for one in found if one.most > LEAST_SENSITIVITY])


def _signals(
    scenario: Scenario, policy: Policy, name: str, readings: Sequence[Telemetry], seeds: int
) -> tuple[Sensitivity, ...]:
    """Of any policy, by finite differences."""
    spreads = _spreads(readings)
    probed = _Probed(policy, name, spreads, len(readings) // PROBES)
    rollout(suites.split_of(scenario, "train"), probed, suites.tuning_seeds(min(seeds, 2)), agent=name, apart=False)
    found = []
    for signal, effects in probed.effects.items():
        moved = np.stack(effects)
        found.append(Sensitivity(signal, spreads[signal], float(moved.mean()), float(np.abs(moved).mean())))
    return _sorted([one for one in found if one.most > LEAST_SENSITIVITY])


def _spreads(readings: Sequence[Telemetry]) -> dict[str, float]:
    """What each signal that is there varies over time: mean over VMs of its standard deviation, of a counter that of its rise."""
    found = {}
    for of, signals in (("vm", VM_SIGNALS), ("host", HOST_SIGNALS)):
        for signal in signals:
            course = np.stack([getattr(reading, of)[signal.name] for reading in readings])
            course = course[:, ~np.isnan(course).any(axis=0)]
            if not course.size:
                continue
            rises = np.diff(course, axis=0)
            counter = bool((rises >= 0.0).all() and (rises > 0.0).any())
            spread = float((rises if counter else course).std(axis=0).mean())
            if spread > 0.0:
                found[f"{of}.{signal.name}"] = spread
    return found


def _sorted(found: Sequence[Sensitivity]) -> tuple[Sensitivity, ...]:
    return tuple(sorted(found, key=lambda one: (-one.most, one.name)))


BURST: dict[str, Any] = {
    "name": "burst",
    "description": "Four VMs of 4 GiB on a host of 10: one grows from 1 to 3 GiB after ten minutes, for ten minutes.",
    "workload": "story",
    "episode_s": 1800,
    "host": {"ram_mib": 10240},
    "vms": [
        {
            "name": name, "count": count, "memory_mib": 4096, "min_mib": 512, "guest_swap_mib": 4096,
            "story": {
                "tiers": [
                    {"name": "rows", "retouch_s": 20}, {"name": "files", "retouch_s": 300, "page_cache": True, "write_share": 0},
                ],
                "steps": [{"at_s": at_s, "mib": {"rows": rows, "files": 600}, "cpu_share": 0.3} for at_s, rows in steps],
            },
        }
        for name, count, steps in (("bursting", 1, ((0, 1000), (600, 3000), (1200, 1000))), ("steady", 3, ((0, 1500),)))
    ],
}  # fmt: skip
"""What a policy is watched on; all of its sizes are guesses. Every seed is the same."""


def _burst(scenario: Scenario, policy: Policy, name: str) -> dict[str, Any]:
    """Its sizes and its VMs' progress on the burst, on the scenario's hypervisor."""
    recorded = Recorded(policy, name)
    data = BURST | {"hypervisor": scenario.to_dict()["hypervisor"], "rules": scenario.rules}
    ground = resolve(data)
    played = rollout(ground, recorded, [0], agent=name, apart=False)
    vm = np.stack([reading.vm[0] for reading in recorded.readings])
    return {
        "vms": [group.name for group in ground.groups],
        "minutes": np.array([float(reading.time_s[0]) / 60.0 for reading in recorded.readings]),
        "asked_mib": np.where(np.isnan(vm["target_mib"]), vm["size_mib"], vm["target_mib"]),
        "size_mib": vm["size_mib"],
        "needs_mib": {step["at_s"] / 60.0: step["mib"]["rows"] for step in BURST["vms"][0]["story"]["steps"]},
        "goodput": float(played.goodput[0]),
        "kills": float(played.oom_kills[0]),
    }
