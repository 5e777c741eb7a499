"""Tuning: an agent's parameters searched by Optuna on training seeds, the best chosen on validation seeds.

    runs/tune/NAME.db      finished trials (Optuna's SQLite)
    runs/tune/NAME/        trials.csv, trials.png, trial-N/ with the networks of a learner, and progress/ (``progress``)

Trial 0 plays the agent as it is; what a trial is, see ``trial``. One whose score falls below the median is stopped
(`MedianStop`). At the end the best few and the original play the validation seeds (``tuned``). Test seeds are never
played.

A trial is recorded when it is over, whole or not at all, and what it draws depends on the seed, its number and the
trials before it. So a tuning that was killed goes on with the same command to the same result: the trial in flight
is played again from its start. More trials may be asked for later, or fewer: then the first ones count. A crew
(``workers``) plays the scenarios of a trial side by side. Left out: trials side by side, which would make the result
depend on the number of processes.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from hvgym.agents.policy import declared_by, make_policy, policy_class
from hvgym.bench import suites
from hvgym.bench.growing import edited
from hvgym.bench.progress import Progress, file_of
from hvgym.bench.space import Parameter, ends, space_of, with_values
from hvgym.bench.study import locked
from hvgym.bench.trial import Ground, Report, cost, learn, learns, play
from hvgym.bench.workers import Submit
from hvgym.envs.backends import simulator
from hvgym.envs.errors import InputError, in_words
from hvgym.envs.files import file_name
from hvgym.envs.rules import check_played
from hvgym.envs.scenario import Scenario

FORMAT = 1
"""Version of what a trial draws and plays; part of the identity."""

RANDOM_TRIALS = 10
"""Drawn at random before TPE learns from them (Optuna's default)."""

STOP_AFTER = 5
"""So many trials must have reached a point before one is stopped there (Optuna's default)."""


@dataclass(frozen=True)
class Tuning:
    """What is tuned and on what; agents and scenarios are resolved configurations. references: stock and the reference of
    the agent's seat; sources: see ``identity``, with the code of agents.
    """

    agent: dict[str, Any]
    references: tuple[dict[str, Any], ...]
    scenarios: tuple[dict[str, Any], ...]
    seeds: int
    seeds_per_report: int
    seed: int
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change within a tuning."""
        agents = (self.agent, *self.references)
        settings = [{key: value for key, value in agent.items() if key != "description"} for agent in agents]
        identity = {"format": FORMAT, "agents": settings, "scenarios": self.scenarios, "seeds": self.seeds}
        identity |= {"seeds_per_report": self.seeds_per_report, "seed": self.seed, "sources": self.sources}
        plain: dict[str, Any] = json.loads(json.dumps(identity))
        return plain

    @property
    def hash(self) -> str:
        """Of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Trial:
    """A finished trial. values: parameters by dotted key; running: the scores that it reported; stopped: early."""

    number: int
    values: dict[str, Any]
    running: tuple[float, ...]
    stopped: bool
    steps: int

    @property
    def score(self) -> float:
        """The last that it reported."""
        return self.running[-1]


@dataclass(frozen=True)
class Budget:
    """How many trials, and how many environment steps they may play together; None is no limit."""

    trials: int | None
    steps: int | None

    def allows(self, trials: Sequence[Trial], steps: int) -> bool:
        """Whether a trial of so many steps may follow these."""
        played = sum(trial.steps for trial in trials)
        return (self.trials is None or len(trials) < self.trials) and (
            self.steps is None or played + steps <= self.steps
        )


class MedianStop(optuna.pruners.BasePruner):
    """Stops a trial whose score is below the median of what earlier trials had at the same point.

    The rule is that of Golovin et al., KDD 2017 (Google Vizier), with the last point in the place of the best one so
    far, as Optuna's own median pruner has it: a learner's points are on different scenarios, and the best of them would
    hide a bad one.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to stop at the last reported point."""
        point = trial.last_step
        if point is None:
            return False
        earlier = [other.intermediate_values for other in study.get_trials(deepcopy=False) if other.state.is_finished()]
        reached = [scores[point] for scores in earlier if point in scores]
        return len(reached) >= STOP_AFTER and trial.intermediate_values[point] < float(np.median(reached))


def check(tuning: Tuning) -> None:
    """Raise `InputError` for what a trial would stumble over: the space, an agent that cannot be built, traces."""
    space = space_of(tuning.agent)
    if tuning.agent.get("checkpoint"):
        raise InputError("agent.checkpoint: a trained network has nothing to tune; leave it at null")
    file_name("agent.name", tuning.agent["name"])
    suites.training_seed(tuning.seed)
    for values in ends(space):
        _build(with_values(tuning.agent, values))
    for data in tuning.scenarios:
        file_name("scenario.name", data["name"])
        check_played(declared_by(tuning.agent), Scenario.from_dict(data), tuning.agent["name"])
        splits: tuple[suites.Split, ...] = ("train", "validation")
        for split in splits:
            simulator(suites.split_of(Scenario.from_dict(data), split)).reset([suites.FIRST_SEED[split]])


def _build(agent: Mapping[str, Any]) -> None:
    if learns(agent):
        from hvgym.agents.learned.training import trainer_of

        trainer_of(agent)
        policy_class(agent)
    else:
        make_policy(agent)


def cost_within(tuning: Tuning, budget: Budget, places: Sequence[Ground]) -> int:
    """Environment steps of a trial. Raises `InputError` when the budget has no room for a second one."""
    steps = cost(tuning.agent, places)
    if budget.steps is not None and budget.steps < 2 * steps:
        raise InputError(
            f"steps={budget.steps}: a trial takes up to {steps} and the first is the original; give at least {2 * steps}"
        )
    return steps


@contextmanager
def opened(tuning: Tuning, database: Path) -> Iterator[optuna.Study]:
    """Hold a tuning for this process alone; gives its record. `InputError` when it belongs to another tuning."""
    with locked(database.with_suffix("")):
        yield _record(database, tuning)


def run_trials(
    tuning: Tuning,
    budget: Budget,
    places: Sequence[Ground],
    database: Path,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    submit: Submit | None = None,
) -> list[Trial]:
    """Play trials on `places`, of training seeds, until the budget is used up; those that `database` has are read.

    submit: of a crew that plays a trial's scenarios side by side.

    on_trial is called for every trial, also for those that an earlier run had finished. Raises `InputError` as
    `cost_within` and `opened` do, and, naming the trial, when its agent fails.
    """
    space, steps, trials = space_of(tuning.agent), cost_within(tuning, budget, places), list[Trial]()
    with opened(tuning, database) as record:
        study = optuna.create_study(direction="maximize", pruner=MedianStop())
        study.add_trials(record.trials)
        while budget.allows(trials, steps):
            if len(trials) == len(study.get_trials(deepcopy=False)):
                record.add_trial(_play_next(study, tuning, space, places, database.with_suffix(""), submit))
            trials.append(_trial(study.get_trials(deepcopy=False)[len(trials)], space))
            on_trial(trials[-1])
    return trials


def _record(database: Path, tuning: Tuning) -> optuna.Study:
    """The record of a tuning; a new one is made whole and then moved into its place."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    identity = json.dumps(tuning.identity, sort_keys=True)
    if not database.exists():
        fresh = database.with_name(f".{database.name}.new")
        for left in (fresh, fresh.with_name(f"{fresh.name}-journal")):
            left.unlink(missing_ok=True)
        storage = optuna.storages.RDBStorage(f"sqlite:///{fresh}")
        fresh_study = optuna.create_study(storage=storage, study_name="tune", direction="maximize")
        fresh_study.set_user_attr("identity", identity)
        storage.remove_session()
        storage.engine.dispose()
        os.replace(fresh, database)
    record = optuna.load_study(study_name="tune", storage=f"sqlite:///{database}")
    if record.user_attrs["identity"] != identity:
        if said := edited(json.loads(record.user_attrs["identity"]).get("sources", {}), tuning.sources):
            raise InputError(f"{database}: {said}; choose study=NAME")
        raise InputError(f"{database}: holds a tuning of another agent, on other scenarios or seeds, or with other code; "
                         "choose study=NAME")  # fmt: skip
    return record


def _play_next(
    study: optuna.Study, tuning: Tuning, space: Sequence[Parameter], places: Sequence[Ground], folder: Path,
    submit: Submit | None,
) -> FrozenTrial:  # fmt: skip
    """Draw a trial, play it and finish it in `study`, which is in memory."""
    number = len(study.get_trials(deepcopy=False))
    if number == 0:
        study.enqueue_trial({parameter.key: parameter.original for parameter in space})
    draws = np.random.SeedSequence([tuning.seed, number]).generate_state(1)
    study.sampler = optuna.samplers.TPESampler(seed=int(draws[0]), n_startup_trials=RANDOM_TRIALS)
    trial = study.ask({parameter.key: parameter.distribution for parameter in space})
    values = _values(trial.params, space)
    place = folder / f"trial-{number}"
    shutil.rmtree(place, ignore_errors=True)
    try:
        with Progress(file_of(folder, place.name), f"trial {number}", cost(tuning.agent, places)) as progress:
            score = _play(with_values(tuning.agent, values), tuning, places, place, _reporter(trial), progress, submit)
        if score is not None:
            return study.tell(trial, score)
        shutil.rmtree(place, ignore_errors=True)
        return study.tell(trial, state=TrialState.PRUNED)
    except OSError:
        raise
    except (Exception, SystemExit) as error:
        shown = ", ".join(f"{key}={value}" for key, value in values.items())
        said = error if isinstance(error, InputError) else in_words(error)
        raise InputError(f"trial {number} ({shown}): {said}") from error


def _play(
    agent: Mapping[str, Any], tuning: Tuning, places: Sequence[Ground], folder: Path, report: Report, progress: Progress,
    submit: Submit | None,
) -> float | None:  # fmt: skip
    """The score of a trial; None of one that was stopped."""
    try:
        if learns(agent):
            return learn(agent, places, tuning.seed, folder, report, progress, submit)
        return play(agent, places, tuning.seeds_per_report, _told(report, progress, cost(agent, places)), submit)
    except optuna.TrialPruned:
        return None


def _told(report: Report, progress: Progress, total: int) -> Report:
    """Tells whoever follows first."""

    def told(score: float, steps: int, over: bool) -> None:
        progress.note("play", steps, total, score=score)
        report(score, steps, over)

    return told


def _reporter(trial: optuna.Trial) -> Report:
    """Passes a score on to Optuna, and stops the trial where the pruner says so."""
    points = 0

    def report(score: float, steps: int, over: bool) -> None:
        nonlocal points
        trial.report(score, points)
        trial.set_user_attr("steps", steps)
        points += 1
        if not over and trial.should_prune():
            raise optuna.TrialPruned

    return report


def _values(drawn: Mapping[str, Any], space: Sequence[Parameter]) -> dict[str, Any]:
    return {parameter.key: parameter.played(drawn[parameter.key]) for parameter in space}


def _trial(frozen: FrozenTrial, space: Sequence[Parameter]) -> Trial:
    running = tuple(score for _, score in sorted(frozen.intermediate_values.items()))
    stopped = frozen.state == TrialState.PRUNED
    return Trial(frozen.number, _values(frozen.params, space), running, stopped, frozen.user_attrs["steps"])
