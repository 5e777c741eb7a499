"""Episodes as data sets for offline learning, in Minari's format: what agents did in ``hvgym/Host``, step by step.

An agent's sizes become the actions of the environment, and what is stored is what happened: observation, action, reward and
the next observation of that environment. Agents play at their own period and see what they may; between their decisions the sizes
stand that they asked for last. Episode i is the i-th training seed's, played by agent i modulo their number, so that demand and
behaviour do not go together. A data set is of one scenario, for its spaces are.

Left out: other channels than memory sizes (an agent that answers one is refused), and policies of the hypervisor beneath.
"""

import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from hvgym.agents.policy import Policy
from hvgym.agents.stock import beneath
from hvgym.bench import suites
from hvgym.envs.actions import RELATIVE
from hvgym.envs.errors import InputError
from hvgym.envs.lanes import HostLanes
from hvgym.envs.rules import channels_of, check_played, readable
from hvgym.envs.scenario import Scenario
from hvgym.envs.telemetry import Targets, Telemetry

ENVIRONMENT = "hvgym/Host-v1"

KINDS = ("relative", "absolute")
"""Of ``actions``, those by which any size can be asked for, if not in one step."""


def _keywords(action: str, reward: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of the environment that is played."""
    return {"channels": ["memory"], "action": action} | ({} if reward is None else {"reward": dict(reward)})


@dataclass(frozen=True)
class Episode:
    """observations ``[step + 1, feature]`` and actions ``[step, entry]``, float32, rewards ``[step]``; goodput: mean of its steps;
    cost_s: seconds in which critical VMs missed their objective."""

    agent: str
    seed: int
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    goodput: float
    cost_s: float


def collect(
    scenario: Scenario,
    policies: Mapping[str, Policy],
    episodes: int,
    seed: int,
    reward: Mapping[str, Any] | None = None,
    action: str = "relative",
) -> list[Episode]:
    """Play so many episodes, dealt out among the policies. seed: of the training whose seeds these are."""
    ground, first, found = suites.split_of(scenario, "train"), suites.training_seed(seed), list[Episode]()
    for turn, (name, policy) in enumerate(policies.items()):
        check_played(policy.declaration, ground, name)
        for index in range(turn, episodes, len(policies)):
            found.append(_played(ground, name, policy, first + index, _keywords(action, reward)))
    return sorted(found, key=lambda episode: episode.seed)


def _played(scenario: Scenario, name: str, policy: Policy, seed: int, keywords: dict[str, Any]) -> Episode:
    lanes = HostLanes(scenario, 1, beneath=beneath, **keywords)
    lanes.reset(0, seed)
    observations, actions, rewards = [lanes.seen()[0]], list[np.ndarray](), list[float]()
    behaviour, goodput, cost_s = _Behaviour(policy, name, lanes, seed), 0.0, 0.0
    while not lanes.ended().all():
        action = behaviour.act()
        lanes.take(action)
        lanes.step()
        actions.append(action[0])
        observations.append(lanes.seen()[0])
        rewards.append(lanes.rewards()[0])
        goodput += float(lanes.terms[0, 0])
        cost_s += float(lanes.costs()[0])
    return Episode(
        name, seed, np.stack(observations), np.stack(actions), np.array(rewards), goodput / len(rewards), cost_s
    )


class _Behaviour:
    """What a policy does, as actions of the environment. seed: of the draws of one that draws, the episode's own: an agent that
    drew the same in every episode would explore nothing."""

    def __init__(self, policy: Policy, name: str, lanes: HostLanes, seed: int) -> None:
        self._policy, self._name, self._lanes = policy, name, lanes
        self._readable = readable(policy.declaration, lanes.scenario)
        first = self._seen()
        self._wanted_mib = lanes.simulator.vm_specs["memory_mib"].copy()
        self._next_s = 0.0
        policy.granted([name for name in channels_of(policy.declaration, lanes.scenario) if name == "memory_mib"])
        policy.reset(first, seed)

    def _seen(self) -> Telemetry:
        reading = self._lanes.simulator.telemetry().seen_with(self._policy.visibility)
        return reading if self._readable is None else reading.restricted_to(self._readable)

    def act(self) -> np.ndarray:
        """Actions ``[env, entry]`` of the coming step, float32."""
        reading = self._seen()
        if reading.time_s[0] >= self._next_s:
            self._next_s += self._policy.period_s
            wanted = self._sizes(self._policy.decide(reading))
            self._wanted_mib = np.where(np.isnan(wanted), self._wanted_mib, wanted)
        return action_of(self._lanes, self._wanted_mib)

    def _sizes(self, answer: Targets) -> np.ndarray:
        others = [f.name for f in fields(answer) if f.name != "memory_mib" and getattr(answer, f.name) is not None]
        if others:
            raise InputError(f"agent {self._name}: answers {others[0]}; actions of {ENVIRONMENT} are memory sizes")
        unset = np.full(self._wanted_mib.shape, np.nan)
        return unset if answer.memory_mib is None else np.asarray(answer.memory_mib)


def action_of(lanes: HostLanes, wanted_mib: np.ndarray) -> np.ndarray:
    """The actions that ask for these sizes ``[env, vm]``, or come as near as one step may."""
    least, most = (lanes.simulator.vm_specs[name] for name in ("min_mib", "memory_mib"))
    if lanes.map.kind == RELATIVE:
        moved = (wanted_mib - lanes.simulator.vms["asked_mib"]) / (lanes.map.step * most)
        return np.asarray(np.clip(moved, -1.0, 1.0), np.float32)
    share = np.divide(wanted_mib - least, most - least, out=np.ones(least.shape), where=most > least)
    return np.asarray(np.clip(2.0 * share - 1.0, -1.0, 1.0), np.float32)


def write(
    episodes: Sequence[Episode],
    scenario: Scenario,
    folder: Path,
    name: str,
    made: str,
    reward: Mapping[str, Any] | None = None,
    action: str = "relative",
    own: Path | None = None,
) -> str:
    """Write a data set below a folder; its id. own: the folder of a reward of one's own, which the recovered environment looks
    into. Raises `InputError` where there is one already, or Minari is missing."""
    minari = needed()
    dataset = f"hvgym/{scenario.name}-{name}-v0"
    if (folder / dataset).exists():
        raise InputError(f"out={folder}: holds {dataset} already; name another folder or set name=")
    keywords = _keywords(action, reward)
    if own is not None and "_target_" in (reward or {}):
        keywords["config_dir"] = str(own.absolute())
    env = gymnasium.make(ENVIRONMENT, scenario=scenario.to_dict(), **keywords)
    with _written_to(folder) as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari misses an author's address
        data = minari.create_dataset_from_buffers(
            dataset, [_buffer(episode, index) for index, episode in enumerate(episodes)], env=env.spec, algorithm_name=made,
            author="hvgym", data_format="arrow", description=f"{scenario.description} Behaviour: {made}.", requirements=["hvgym"],
        )  # fmt: skip
        metadata = [
            {"agent": one.agent, "demand_seed": one.seed, "goodput": one.goodput, "cost_s": one.cost_s}
            for one in episodes
        ]
        data.storage.update_episode_metadata(metadata)
        (folder / dataset).parent.mkdir(parents=True, exist_ok=True)
        os.replace(place / dataset, folder / dataset)
    return dataset


def needed() -> Any:
    """Minari. Raises `InputError` where it is missing."""
    try:
        import minari
    except ImportError:
        raise InputError("Minari is not installed; pip install 'hvgym[minari]'") from None
    return minari


def _buffer(episode: Episode, index: int) -> Any:
    from minari.data_collector.episode_buffer import EpisodeBuffer

    steps = len(episode.rewards)
    ends = np.zeros(steps, np.bool_)
    ends[-1] = True
    return EpisodeBuffer(
        id=index, seed=episode.seed, observations=episode.observations, actions=episode.actions, rewards=episode.rewards,
        terminations=np.zeros(steps, np.bool_), truncations=ends,
    )  # fmt: skip


@contextmanager
def _written_to(folder: Path) -> Iterator[Path]:
    """A place below the folder to which Minari writes; whatever is left there afterwards goes."""
    place, before = folder / ".new", os.environ.get("MINARI_DATASETS_PATH")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    os.environ["MINARI_DATASETS_PATH"] = str(place)
    try:
        yield place
    finally:
        os.environ.pop("MINARI_DATASETS_PATH")
        if before is not None:
            os.environ["MINARI_DATASETS_PATH"] = before
        shutil.rmtree(place, ignore_errors=True)
