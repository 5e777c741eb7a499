"""What a suite holds, and what it takes to play it: a hash of its contents, and minutes from short episodes played now.

The hash is of the settings, the seeds, the resolved scenarios and the content of traces (wherever they lie), not of the package's
code or of who plays: two machines with the same hash play the same demand.

The cost is an estimate: `PROBE_SEEDS` episodes of stock and one episode of a reference with its search are timed for each
scenario, and multiplied by what the suite plays. Left out: what a policy's own decisions take (its episodes are counted as
stock's), compilation, start of processes, and the training of learners, which is told in steps.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hvgym.agents.policy import make_policy
from hvgym.bench import references, suites
from hvgym.bench.identity import TRACES, digest_of_text, sources
from hvgym.bench.protocol import Protocol, learns
from hvgym.bench.rollout import rollout
from hvgym.envs.backends import simulator
from hvgym.envs.model.params import HOT
from hvgym.envs.scenario import Scenario, load_group

PROBE_SEEDS = 4

STRATA = (("roomy", 0.7), ("tight", 0.95), ("short", math.inf))
"""By the most hot memory of an episode over RAM: the hot sets fit and what is idle has to be found; they fit if all else is given
up; they do not, and somebody is slowed down. The edges are guesses."""


@dataclass(frozen=True)
class Cost:
    """Of one scenario: CPU seconds of an episode and of one of a reference, and how many of each a suite plays."""

    episode_s: float
    reference_s: float
    episodes: int
    of_references: int

    @property
    def total_s(self) -> float:
        """Of all that the suite plays on it."""
        return self.episode_s * self.episodes + self.reference_s * self.of_references


def protocol_of(suite: suites.Suite, scenarios: Sequence[Scenario]) -> Protocol:
    """The suite as its own agents play it, with stock and the references that they need."""
    plain = tuple(scenario.to_dict() for scenario in scenarios)
    agents = [load_group("agent", name) for name in suite.agents]
    ends = [load_group("agent", name) for name in references.ends_of(agents, plain)]
    return Protocol(suite, tuple(ends + [agent for agent in agents if agent not in ends]), plain)


def hash_of(protocol: Protocol) -> str:
    """Of settings, seeds and scenarios."""
    identity = protocol.identity | {
        "seeds": suites.FIRST_SEED,
        "scenarios": [_anywhere(one) for one in protocol.scenarios],
    }
    suite = {key: value for key, value in asdict(protocol.suite).items() if key not in ("real", "traces")} | {
        "agents": []
    }
    return digest_of_text(json.dumps(identity | {"suite": suite}, sort_keys=True))


def _anywhere(scenario: dict[str, Any]) -> dict[str, Any]:
    """With the digest of its traces in the place of their path."""
    if scenario["workload"]["kind"] not in suites.REPLAYED:
        return scenario
    digests = [digest for key, digest in sources([scenario]).items() if key.startswith(TRACES)]
    return scenario | {"workload": scenario["workload"] | {"path": digests}}


def hot_share(scenario: Scenario) -> float:
    """The most hot memory of an episode over the RAM of all hosts, mean over `PROBE_SEEDS` validation seeds."""
    sim = simulator(suites.split_of(scenario, "validation"), PROBE_SEEDS)
    sim.reset(suites.seeds("validation", PROBE_SEEDS))
    hot_mib = np.asarray(sim.hidden().demand["tier_mib"][..., HOT]).sum(axis=-1).max(axis=-1)
    return float((hot_mib / sim.host_specs["ram_mib"].sum(axis=-1)).mean())


def stratum(share: float) -> str:
    """The word for a share of hot memory."""
    return next(word for word, most in STRATA if share < most)


def cost_of(protocol: Protocol, scenario: Scenario) -> Cost:
    """Play a little, and count what the suite would play."""
    scenario = suites.split_of(scenario, "validation")
    players = [a for a in protocol.agents if scenario.name in protocol.plays(a["name"])]
    searching = [a for a in players if a["name"] in references.CLAIRVOYANT]
    count = protocol.suite.eval_seeds
    trainings = sum(protocol.suite.train_seeds if learns(a) else 1 for a in players if a not in searching)
    one_s = _reference_s(scenario, searching[0]) if searching else 0.0
    return Cost(_episode_s(scenario), one_s, trainings * count, len(searching) * count)


def _episode_s(scenario: Scenario) -> float:
    policy = make_policy(load_group("agent", references.STOCK))
    rollout(scenario, policy, suites.seeds("validation", 1), agent=references.STOCK)  # loads the compiled code
    start = time.process_time()
    rollout(scenario, policy, suites.seeds("validation", PROBE_SEEDS), agent=references.STOCK)
    return (time.process_time() - start) / PROBE_SEEDS


def _reference_s(scenario: Scenario, agent: dict[str, object]) -> float:
    policy, seed = make_policy(agent), suites.seeds("validation", 1)
    rollout(scenario, make_policy(agent | {"episodes": 1}), seed, agent=references.REFERENCE)  # as above
    start = time.process_time()
    rollout(scenario, policy, seed, agent=references.REFERENCE)
    return time.process_time() - start
