"""Imitation of the clairvoyant: the shared network is regressed on what the reference would do, in the states that it leads to.

In the first round the reference acts; from the second on the network does, and the reference says at each decision what it would
have done there (DAgger). Each round plays new demand of the training split, adds its decisions to all before, and regresses on
them.
The reference (``agents.clairvoyant``) knows true state and coming demand; it is confined to memory sizes, as the network is, and
what it asks for is read as the network's own action (`labels`). What of it rests on the future alone cannot be learnt, so this is a
start for others (``train.start`` of ppo and sac) as much as a policy.

Source: Ross, Gordon and Bagnell, A Reduction of Imitation Learning and Structured Prediction to No-Regret Online Learning, AISTATS
2011, with beta = 1 in the first round and 0 after it. Loss: mean square over VMs that are there. The rest are guesses.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hvgym.agents.clairvoyant.reference import Reference
from hvgym.agents.learned import checkpoints, network
from hvgym.agents.learned.sb3 import check_period, check_settable, check_signals, keep_best
from hvgym.agents.learned.seeing import HOST, VM, Acting
from hvgym.agents.learned.training import Task, Trained, Trainer, Update, Validation, shared_out
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import Scenario
from hvgym.envs.schema import number
from hvgym.envs.telemetry import Telemetry

LEAST_SPAN_MIB = 1.0
"""Of a VM that cannot be sized; any action is right."""


@dataclass(frozen=True)
class Imitation(Trainer):
    """The ``train`` keys of ``conf/agent/imitation.yaml``. total_steps: decisions, over all rounds, which are as many as
    validations; episodes: that the reference plays in its search of each; epochs: through all decisions, each round."""

    total_steps: int = number(50_000, least=1)
    episodes: int = number(30, least=1)
    epochs: int = number(20, least=1)
    batch_size: int = number(256, least=1)
    learning_rate: float = number(1e-3, above=0)
    period_s: float = number(10.0, least=1)
    action: Literal["relative", "absolute", "water_filling"] = "relative"
    step: float = number(0.1, above=0, most=1)
    width: int = number(32, least=0, most=4096)
    attention: bool = False
    visibility: Literal["P0", "P1", "P2", "P3", "P4"] = "P1"
    threads: int = number(1, least=1)
    validations: int = number(6, least=1)

    @property
    def acting(self) -> Acting:
        """How actions are read."""
        return Acting(self.action, self.step)

    def check(self, scenarios: Sequence[Scenario]) -> None:
        """See `Trainer`."""
        check_period(self.period_s, scenarios)

    def check_declared(self, who: Declaration, scenarios: Sequence[Scenario]) -> None:
        """See `Trainer`."""
        check_signals(who, scenarios)
        check_settable(who, self.acting, scenarios)

    def hosts(self, scenarios: Sequence[Scenario]) -> int:
        """Episodes of a round: the fewest with which the rounds that are asked for have all decisions."""
        steps = [scenario.duration_s // int(self.period_s) for scenario in scenarios]
        of_round = -(-self.total_steps // self.validations)
        hosts = max(len(steps), of_round // max(steps))
        while np.dot(steps, np.diff(shared_out(hosts, len(steps)))) < of_round:
            hosts += 1
        return hosts

    def train(self, task: Task) -> Trained:
        """See `Trainer`."""
        import torch

        self.check(task.scenarios)
        self.check_declared(task.declaration, task.scenarios)
        torch.set_num_threads(1)
        task.claim(self)
        school = _restore(task.folder) or _School(self, task)
        while not school.curve or school.curve[-1].steps < self.total_steps:
            loss = school.round(self, task)
            made = {"trained_on": [one.name for one in task.scenarios], "seed": task.seed, "steps": school.steps}
            candidate = task.folder / "candidate.zip"
            words = network.words_of(self.acting, self.period_s, made | {"algorithm": "DAgger"}, False, self.visibility)
            network.write(candidate, words, network.arrays_of(school.latent, school.head))
            school.curve.append(keep_best(candidate, school.steps, school.curve, task))
            checkpoints.swap(task.folder, {"school.pkl": pickle.dumps(school, protocol=5)})
            if task.watch:
                task.watch(Update(school.steps, school.goodput, loss, float("nan")))
            task.report(school.curve[-1], self.total_steps)
        return Trained(task.folder / "best.zip", tuple(school.curve))


class _School:
    """The state of a training. seen ``[decision, input]``, wanted ``[decision, vm]``."""

    def __init__(self, settings: Imitation, task: Task) -> None:
        import torch

        from hvgym.agents.learned.shared import Head, Latent, Layout

        self.vms = max(len(scenario.groups) for scenario in task.scenarios)
        layout = Layout(HOST, VM, self.vms)
        self.generator = torch.Generator().manual_seed(task.seed)
        with torch.random.fork_rng():
            torch.manual_seed(task.seed)
            self.latent = Latent(layout, settings.width, settings.attention)
            self.head = Head(self.latent.size, layout, 0.0)
        self.parameters = [*self.latent.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.Adam(self.parameters, lr=settings.learning_rate)
        self.seen, self.wanted = np.zeros((0, layout.size), np.float32), np.zeros((0, self.vms), np.float32)
        self.curve: list[Validation] = []
        self.rounds, self.episodes, self.goodput = 0, 0, 0.0

    @property
    def steps(self) -> int:
        """Decisions so far."""
        return len(self.seen)

    def round(self, settings: Imitation, task: Task) -> float:
        """Play, add, regress; the loss after it."""
        seen, wanted = self._play(settings, task)
        self.seen, self.wanted = np.concatenate([self.seen, seen]), np.concatenate([self.wanted, wanted])
        self.rounds += 1
        return self._regress(settings)

    def _play(self, settings: Imitation, task: Task) -> tuple[np.ndarray, np.ndarray]:
        """An episode of each host: observations, and what the reference would have done."""
        import torch

        from hvgym.agents.learned.vec_env import HostVecEnv

        hosts = settings.hosts(task.scenarios)
        paced = [replace(scenario, control_interval_s=int(settings.period_s)) for scenario in task.scenarios]
        env = HostVecEnv(paced, hosts, settings.acting, threads=settings.threads, stagger=False, who=task.declaration,
                         visibility=settings.visibility)  # fmt: skip
        teachers = [_teacher(part.scenario, settings) for part in env.parts]
        first = task.first_seed + self.episodes
        self.episodes += hosts
        observations, running = env.begin(list(range(first, first + hosts))), np.ones(hosts, bool)
        seen, wanted, rewards = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
        while running.any():
            told = np.zeros((hosts, self.vms), np.float32)
            for (part, start, end), teacher in zip(env.places(), teachers, strict=True):
                if running[start:end].any():
                    sizes = teacher.decide(part.simulator.hidden()).memory_mib
                    assert sizes is not None  # of a teacher with no other channel
                    told[start:end, : sizes.shape[1]] = labels(sizes, part.simulator.telemetry(), settings)
            seen.append(observations[running])
            wanted.append(told[running])
            with torch.no_grad():
                own = self.head(self.latent(torch.as_tensor(observations))).clamp(-1.0, 1.0).numpy()
            observations, reward, dones, _ = env.step(own if self.rounds else told)
            rewards.append(reward[running])
            running &= ~dones
        self.goodput = float(np.concatenate(rewards).mean())
        return np.concatenate(seen), np.concatenate(wanted)

    def _regress(self, settings: Imitation) -> float:
        """On all decisions so far."""
        import torch

        from hvgym.agents.learned.shared import split

        total = 0.0
        for _ in range(settings.epochs):
            total = 0.0
            for batch in torch.randperm(self.steps, generator=self.generator).split(settings.batch_size):
                observations = torch.as_tensor(self.seen[batch.numpy()])
                present = split(observations, self.latent.layout)[1]
                apart = (self.head(self.latent(observations)) - torch.as_tensor(self.wanted[batch.numpy()])) * present
                loss = (apart**2).sum() / present.sum()
                self.optimiser.zero_grad()
                loss.backward()
                self.optimiser.step()
                total += loss.item() * len(batch)
        return total / self.steps


def _teacher(scenario: Scenario, settings: Imitation) -> Reference:
    reference = Reference(episodes=settings.episodes)
    reference.begin(scenario, ["memory_mib"])
    reference.period_s = settings.period_s
    return reference


def labels(sizes_mib: Any, telemetry: Telemetry, settings: Imitation) -> np.ndarray:
    """The action ``[env, vm]`` that asks for these sizes, as near as an action can."""
    vm = telemetry.vm
    memory, least = vm["memory_mib"], vm["min_mib"]
    asked = np.where(np.isnan(vm["target_mib"]), vm["size_mib"], vm["target_mib"])
    wanted = np.where(np.isnan(sizes_mib), asked, sizes_mib)
    if settings.action == "relative":
        found = (wanted - asked) / (settings.step * memory)
    elif settings.action == "absolute":
        found = 2.0 * (wanted - least) / np.maximum(memory - least, LEAST_SPAN_MIB) - 1.0
    else:  # shares of one level, of which the greatest is all
        share = wanted / memory
        found = 2.0 * share / share.max(axis=1, keepdims=True) - 1.0
    return np.clip(found, -1.0, 1.0)


def _restore(folder: Path) -> _School | None:
    """The state of an interrupted training, or None; says so where it cannot be read. It is one's own working file."""

    def read(kept: Path) -> _School:
        school = pickle.loads((kept / "school.pkl").read_bytes())
        assert isinstance(school, _School)
        return school

    return checkpoints.first_whole(folder, read)
