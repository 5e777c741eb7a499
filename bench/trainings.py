"""A training of ``hvgym train``, played in this process or in another, by one at a time; its folder goes on where it stopped."""

from collections.abc import Callable
from dataclasses import asdict

from hvgym.agents.learned.training import Task, Trained, Update, Validation, trainer_of
from hvgym.agents.policy import declared_by
from hvgym.bench.claims import claims_of, held
from hvgym.bench.levels import play_levels
from hvgym.bench.progress import Progress
from hvgym.bench.training import task_of, train, validation_of
from hvgym.bench.training_tracking import Training
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import Scenario


def title_of(training: Training) -> str:
    """For people."""
    return f"{training.agent['name']} on {training.ground}"


def check_folder(training: Training) -> None:
    """Raise `InputError` that names a training whose folder holds another one. It writes nothing, for what it would write into is
    that other's."""
    try:
        _task(training).holds(trainer_of(training.agent))
    except InputError as error:
        raise InputError(f"{title_of(training)}: {error}") from error


def _task(
    training: Training, report: Callable[[Validation, int], None] = lambda point, total: None,
    watch: Callable[[Update], None] | None = None,
) -> Task:  # fmt: skip
    scenarios, name = [Scenario.from_dict(data) for data in training.scenarios], training.agent["name"]
    return task_of(
        scenarios, training.folder, training.seed, name, validation_of(scenarios, training.validation_seeds, name), report, watch,
        training.sources, training.validation_seeds, declared_by(training.agent),
    )  # fmt: skip


def run_training(
    training: Training,
    begin: Callable[[], None] = lambda: None,
    report: Callable[[Validation, int], None] = lambda point, total: None,
) -> Trained:
    """Train, with progress that others can read. begin: called once the progress has begun; report: told of each validation.

    Raises `InputError` that names the training when it fails.
    """
    trainer = trainer_of(training.agent)

    def validated(point: Validation, total: int) -> None:
        progress.validated(point.steps, total, goodput=point.score)
        report(point, total)

    def watch(update: Update) -> None:
        progress.trained(total=trainer.total_steps, **asdict(update))

    file = training.folder / "progress.jsonl"
    trains = f"trains in {training.folder}"
    with held(claims_of(training.folder), "training", lambda: False, waits=trains):
        check_folder(training)  # again: who held it may have begun meanwhile
        with Progress(file, title_of(training), trainer.total_steps) as progress:
            begin()
            try:
                return train(trainer, _task(training, validated, watch))
            except InputError as error:
                raise InputError(f"{title_of(training)}: {error}") from error


def run_with_levels(training: Training, levels: bool) -> Trained:
    """The same in a worker; levels: whether stock and the reference play the validation seeds, for MLflow."""
    return run_training(training, lambda: play_levels_of(training) if levels else None)


def play_levels_of(training: Training) -> None:
    """What the learning curve is looked at beside."""
    for scenario in training.scenarios:
        play_levels(training.folder, training.agent, scenario, training.validation_seeds)
