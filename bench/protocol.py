"""What a study compares: suite, agents and scenarios as resolved configurations, and the jobs that follow from them.

A job's key is the hash of all that determines its rows: the agent and its own code, the scenario and the seeds, the code that
all rows come from and the traces. These last two identify the whole study, too. Evaluation seeds
that were added later (``growing``) are blocks of jobs of their own; a learner's later blocks play what the first has trained.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from hvgym.agents.learned.searched import Searched
from hvgym.agents.policy import ClairvoyantPolicy, Policy, declared_by, make_policy, policy_class
from hvgym.bench import references, suites
from hvgym.bench.suites import Suite
from hvgym.envs.backends import simulator
from hvgym.envs.errors import InputError
from hvgym.envs.files import file_name
from hvgym.envs.rules import refusal
from hvgym.envs.scenario import Scenario

FORMAT = 2
"""Version of job and row layout; part of every key."""


@dataclass(frozen=True)
class Job:
    """One agent on one scenario with one training seed, on a block of evaluation seeds. code: digest of the agent's own code,
    or ""; sources: digests of the code that all share and of traces (``identity.sources``); first_eval_seed: how many
    evaluation seeds come before this block; trained_by: key of the job whose network a learner's later block plays.
    """

    agent: dict[str, Any]
    scenario: dict[str, Any]
    train_seed: int
    eval_seeds: int
    validation_seeds: int
    code: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    first_eval_seed: int = 0
    trained_by: str = ""

    def plain(self) -> dict[str, Any]:
        """As plain data. What only later blocks have is left out of a first one: keys and files stay those of before there were
        blocks."""
        later = ("first_eval_seed", "trained_by")
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {key: value for key, value in found.items() if value or key not in later}

    @cached_property
    def key(self) -> str:
        """Hash of everything that determines the result."""
        text = json.dumps({"format": FORMAT} | self.plain() | {"agent": played(self.agent)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def seeds(self) -> range:
        """Its evaluation seeds."""
        return suites.seeds("test", self.first_eval_seed + self.eval_seeds)[self.first_eval_seed :]

    @property
    def name(self) -> str:
        """For people."""
        seed = f" seed {self.train_seed}" if self.agent.get("train") else ""
        first = self.first_eval_seed
        last = first + self.eval_seeds - 1
        block = f", evaluation seed{f's {first} to' if last > first else ''} {last}" if first else ""
        return f"{self.agent['name']} on {self.scenario['name']}{seed}{block}"


@dataclass(frozen=True)
class Protocol:
    """What a study compares; agents and scenarios in order. sources, codes: see ``identity``; codes by agent.

    Of one that has grown, and no part of its identity: blocks: how many evaluation seeds each block has, none where there is one
    block; sources_of: the sources of a scenario's jobs where they are not the study's, for it was played before others came.
    """

    suite: Suite
    agents: tuple[dict[str, Any], ...]
    scenarios: tuple[dict[str, Any], ...]
    sources: dict[str, str] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    blocks: tuple[int, ...] = ()
    sources_of: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change within a study."""
        suite = {key: value for key, value in asdict(self.suite).items() if key not in suites.NO_PART_OF_IT}
        if self.suite.rules is None:  # as in studies of before there were rules
            del suite["rules"]
        identity = {"format": FORMAT, "suite": suite, "scenarios": self.scenarios, "sources": self.sources}
        plain: dict[str, Any] = json.loads(json.dumps(identity))
        return plain

    @property
    def hash(self) -> str:
        """Of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]

    def code(self, agent: str) -> str:
        """Digest of the code that makes an agent's rows: its own, or the package's."""
        return self.codes.get(agent) or self.sources.get("code", "")

    @property
    def rules(self) -> str:
        """Those of the scenarios, which a suite or a command sets for all of them."""
        return references.rules_of(self.scenarios)

    def seat(self, agent: str) -> str:
        """Where an agent sits."""
        return next(declared_by(config).seat for config in self.agents if config["name"] == agent)

    def reference(self, agent: str) -> str:
        """The agent that is an agent's score of 1: the clairvoyant of its seat."""
        return (
            agent
            if agent in references.CLAIRVOYANT
            else references.reference_of(self.seat(agent), self.rules, references.are_clusters(self.scenarios))
        )

    @cached_property
    def refusals(self) -> dict[str, dict[str, str]]:
        """Why an agent does not play, by agent and scenario; those that play everywhere are not there."""
        scenarios = [Scenario.from_dict(data) for data in self.scenarios]
        found = dict[str, dict[str, str]]()
        for agent in self.agents:
            reasons = {scenario.name: _refusal(agent, scenario) for scenario in scenarios}
            if refused := {name: reason for name, reason in reasons.items() if reason}:
                found[agent["name"]] = refused
        return found

    def plays(self, agent: str) -> tuple[str, ...]:
        """The scenarios on which an agent is not refused."""
        names = (scenario["name"] for scenario in self.scenarios)
        return tuple(name for name in names if name not in self.refusals.get(agent, {}))

    def jobs(self) -> list[Job]:
        """All jobs, learners (the long ones) first."""
        return sorted(self.in_order(), key=lambda job: not learns(job.agent))

    def in_order(self) -> list[Job]:
        """All jobs, agent by agent; what the rules refuse is none."""
        return [
            job
            for agent in self.agents
            for scenario in self.scenarios
            if scenario["name"] not in self.refusals.get(agent["name"], {})
            for seed in range(self.suite.train_seeds if learns(agent) else 1)
            for job in self._blocks_of(agent, scenario, seed)
        ]

    def _blocks_of(self, agent: dict[str, Any], scenario: dict[str, Any], train_seed: int) -> list[Job]:
        """One job a block of evaluation seeds."""
        ends = list(accumulate(self.blocks or (self.suite.eval_seeds,)))
        sources = self.sources_of.get(scenario["name"], self.sources)
        first = Job(self._budgeted(agent), scenario, train_seed, ends[0], self.suite.validation_seeds,
                    self.codes.get(agent["name"], ""), sources)  # fmt: skip
        trained_by = first.key if learns(agent) and len(ends) > 1 else ""
        later = [
            replace(first, first_eval_seed=start, eval_seeds=end - start, trained_by=trained_by)
            for start, end in pairwise(ends)
        ]
        return [first, *later]

    def _budgeted(self, agent: dict[str, Any]) -> dict[str, Any]:
        if not learns(agent) or self.suite.train_steps is None:
            return agent
        return agent | {"train": {**agent["train"], "total_steps": self.suite.train_steps}}


def _refusal(agent: Mapping[str, Any], scenario: Scenario) -> str | None:
    """Why the rules refuse an agent, or why it cannot play on several hosts."""
    if scenario.is_cluster:
        if agent["name"] in references.OF_ONE_HOST:
            return "plans for one host"
        if agent.get("train") and not issubclass(policy_class(agent), Searched):
            return "learns for one host"
    return refusal(declared_by(agent), scenario)


def check(protocol: Protocol) -> None:
    """Raise `InputError` for whatever a job would stumble over: names, traces that cannot be read, agents that cannot be
    built.
    """
    for group, configs in (("agent", protocol.agents), ("scenario", protocol.scenarios)):
        names = [file_name(f"{group}.name", config["name"]) for config in configs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"{group}s: two are named {twice[0]!r}; give the YAML of one of them another name")
    for data in protocol.scenarios:
        scenario = Scenario.from_dict(data)
        learning = any(learns(agent) for agent in protocol.agents)
        for split in ("train", "validation", "test") if learning else ("test",):
            simulator(suites.split_of(scenario, split)).reset([0])
    for agent in protocol.agents:
        if learns(agent):
            from hvgym.agents.learned.training import trainer_of

            trainer_of(agent)
            policy_class(agent)
        else:
            policy_of(agent)


def policy_of(agent: Mapping[str, Any]) -> Policy | ClairvoyantPolicy:
    """The policy of an agent, with the network that its configuration names."""
    checkpoint = {"checkpoint": agent["checkpoint"]} if agent.get("checkpoint") else {}
    return make_policy(agent, **checkpoint)


def learns(agent: Mapping[str, Any]) -> bool:
    """Whether a job of this agent is a training."""
    return bool(agent.get("train")) and not agent.get("checkpoint")


def trains(job: Job) -> bool:
    """Whether a job trains its network; later blocks of evaluation seeds play with that of the first."""
    return learns(job.agent) and not job.trained_by


def played(agent: Mapping[str, Any]) -> dict[str, Any]:
    """The agent without what changes nothing that is played: its search space, and where a network lies whose content is
    known.
    """
    left_out = {"tune", "checkpoint"} if agent.get("checkpoint_sha256") else {"tune"}
    return {key: value for key, value in agent.items() if key not in left_out}
