"""``hvgym train agent=ppo scenario=…``: train a learner; the same command goes on from the last checkpoint."""

import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.envs.files import file_name
from hvgym.envs.rules import check_played
from hvgym.scripts import configuration, live
from hvgym.scripts.bench import print_place, recorded_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from hvgym.agents.learned.ppo import Trained, TrainSettings, Validation
    from hvgym.agents.policy import Policy
    from hvgym.bench.training_tracking import Training
    from hvgym.envs.scenario import Scenario

NOT_OF_IT = ("agent", "scenario", "seed", "out", "runs", "tracking", "tracking.uri")
"""Keys that a run in MLflow has anyway, or that change no network."""


@configuration.verb("train")
def main(config: DictConfig) -> None:
    """Train, print the learning curve, and end with the path of the best model."""
    agent = configuration.chosen_agent(config)
    if not agent.get("train"):
        raise InputError(
            f"agent={agent['name']}: does not learn; hvgym train takes an agent with train keys, such as ppo"
        )
    from hvgym.agents.learned.ppo import settings_of
    from hvgym.agents.policy import declared_by
    from hvgym.bench import suites
    from hvgym.bench.identity import sources
    from hvgym.bench.levels import play_levels, read_levels
    from hvgym.bench.training_tracking import Training, make_training_tracker

    scenario = configuration.scenario(config)
    check_played(declared_by(agent), scenario, agent["name"])
    settings, seed = settings_of(agent), configuration.seed(config, most=suites.LARGEST_TRAINING_SEED)
    validations = configuration.needed(config, "validation_seeds", least=1, most=suites.MOST_SEEDS)
    folder = _folder(config, f"{agent['name']}-{file_name('scenario.name', scenario.name)}-{seed}")
    runs, tracking = configuration.runs_folder(config), configuration.tracking(config)
    configuration.print_trace_report(scenario.to_dict())
    print(
        f"{agent['name']} on {scenario.name}: {settings.total_steps:,} steps on {settings.envs} hosts, into {folder}"
        f"{recorded_at(tracking)}",
        flush=True,
    )
    code = sources([scenario.to_dict()], [agent])
    training = Training(agent, scenario.to_dict(), seed, validations, folder, configuration.swept(*NOT_OF_IT), code)

    def levels(key: str) -> tuple[float | None, float | None]:
        found = read_levels(folder, agent, training.scenario, validations)
        return found.get("stock"), found.get("reference")

    with ExitStack() as last:
        with make_training_tracker(tracking, runs, training) as tracker, live.board(folder, levels):

            def begin() -> None:
                if tracker:
                    tracker.start()
                    play_levels(folder, agent, scenario.to_dict(), validations)

            trained = _train(training, scenario, settings, begin)
            last.callback(print, f"best model: {trained.model}", flush=True)  # whatever happens to its recording
            if tracker:
                tracker.finish(trained.model, [asdict(point) for point in trained.curve])
        print_place(tracking, runs, "train", folder)


def _train(
    training: "Training", scenario: "Scenario", settings: "TrainSettings", begin: "Callable[[], None]"
) -> "Trained":
    """Train, with a line a validation, and progress that others can read; begin: called once the progress has begun."""
    from hvgym.agents.learned.ppo import train
    from hvgym.bench import suites
    from hvgym.bench.progress import Progress
    from hvgym.bench.rollout import rollout

    name, began = training.agent["name"], time.monotonic()
    validation, seeds = suites.split_of(scenario, "validation"), suites.seeds("validation", training.validation_seeds)

    def validate(policy: "Policy") -> float:
        return float(rollout(validation, policy, seeds, agent=name).goodput.mean())

    def report(point: "Validation", total: int) -> None:
        progress.validated(point.steps, total, goodput=point.score)
        share = point.steps / total
        print(
            f"{point.steps:>10,} of {total:,} steps ({share:4.0%})  validation goodput {point.score:.4f}  best {point.best:.4f}  "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )

    title = f"{name} on {scenario.name}"
    with Progress(training.folder / "progress.jsonl", title, settings.total_steps) as progress:
        begin()
        try:
            return train(
                suites.split_of(scenario, "train"),
                settings,
                training.folder,
                training.seed,
                suites.training_seed(training.seed),
                validate,
                report,
                training.sources,
                lambda update: progress.trained(total=settings.total_steps, **asdict(update)),
            )
        except InputError as error:
            raise InputError(f"{title}: {error}") from error


def _folder(config: DictConfig, title: str) -> Path:
    """Where the training lives; each job of a multirun has a folder of its own."""
    swept = configuration.swept_name("agent", "scenario", "seed")
    title = f"{title}-{swept}" if swept else title
    runs, given = configuration.runs_folder(config), configuration.path(config, "out")
    if given is None:
        return runs / "training" / title
    return given / title if configuration.multirun() else given
