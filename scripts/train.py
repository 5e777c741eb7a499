"""``hvgym train agent=ppo scenario=…``, ``agent=es suite=…``: train a learner, or one a seed.

The same command goes on where it stopped.
"""

import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from hvgym.envs.errors import InputError
from hvgym.envs.files import file_name
from hvgym.envs.rules import check_played
from hvgym.scripts import configuration, live
from hvgym.scripts.bench import print_place, recorded_at

if TYPE_CHECKING:
    from hvgym.agents.learned.training import Validation
    from hvgym.bench.training_tracking import Training
    from hvgym.bench.workers import Workers
    from hvgym.envs.scenario import Scenario

NOT_OF_IT = ("agent", "scenario", "scenarios", "suite", "seed", "out", "runs", "tracking", "tracking.uri", "workers",
             "engine")  # fmt: skip
"""Keys that a run in MLflow has anyway, or that change no network."""


@configuration.verb("train")
def main(config: DictConfig) -> None:
    """Train, print the learning curve, and end with the path of the best model."""
    agent = configuration.chosen_agent(config)
    if not agent.get("train"):
        raise InputError(
            f"agent={agent['name']}: does not learn; hvgym train takes an agent with train keys, such as ppo or es"
        )
    from hvgym.agents.learned.training import trainer_of
    from hvgym.agents.policy import declared_by
    from hvgym.bench import suites
    from hvgym.bench.identity import sources
    from hvgym.bench.training_tracking import Training

    ground, scenarios = _ground(config)
    for scenario in scenarios:
        check_played(declared_by(agent), scenario, agent["name"])
    trainer, seeds = trainer_of(agent), configuration.seeds(config, most=suites.LARGEST_TRAINING_SEED)
    trainer.check(scenarios)
    validations = configuration.needed(config, "validation_seeds", least=1, most=suites.MOST_SEEDS)
    name = f"{agent['name']}-{file_name('scenario.name', ground)}"
    folders = [_folder(config, f"{name}-{seed}", len(seeds) > 1) for seed in seeds]
    runs, tracking = configuration.runs_folder(config), configuration.tracking(config)
    workers = configuration.workers(config, otherwise=1 if len(seeds) == 1 else None)
    data = tuple(scenario.to_dict() for scenario in scenarios)
    configuration.print_trace_report(data[0])
    where = folders[0] if len(seeds) == 1 else f"{len(seeds)} folders of {folders[0].parent}"
    print(
        f"{agent['name']} on {ground}: {trainer.total_steps:,} steps, into {where}{recorded_at(tracking)}", flush=True
    )
    swept, made_by = configuration.swept(*NOT_OF_IT), sources(data, [agent])
    trainings = [
        Training(agent, data, ground, seed, validations, folder, swept, made_by)
        for seed, folder in zip(seeds, folders, strict=True)
    ]
    if len(trainings) == 1 and isinstance(workers, int):
        _train(trainings[0], runs, tracking)
    else:
        _train_each(trainings, runs, tracking, workers)
    print_place(tracking, runs, "train", folders[0])


def _train(training: "Training", runs: Path, tracking: str) -> None:
    """Train in this process, with a line a validation."""
    from hvgym.bench.training_tracking import make_training_tracker
    from hvgym.bench.trainings import play_levels_of, run_training

    began = time.monotonic()

    def levels(key: str) -> tuple[float | None, float | None]:
        return training.levels.get("stock"), training.levels.get("reference")

    def report(point: "Validation", total: int) -> None:
        share = point.steps / total
        print(
            f"{point.steps:>10,} of {total:,} steps ({share:4.0%})  validation goodput {point.score:.4f}  best {point.best:.4f}  "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )

    with ExitStack() as last, make_training_tracker(tracking, runs, training) as tracker:
        with live.board(training.folder, levels):

            def begin() -> None:
                if tracker:
                    tracker.start()
                    play_levels_of(training)

            trained = run_training(training, begin, report)
        last.callback(print, f"best model: {trained.model}", flush=True)  # whatever happens to its recording
        if tracker:
            tracker.finish(trained.model, [asdict(point) for point in trained.curve])


def _train_each(trainings: list["Training"], runs: Path, tracking: str, workers: "Workers") -> None:
    """Train with several seeds (``bench.workers``), with a line for each that is finished."""
    from hvgym.bench.training_tracking import make_training_tracker
    from hvgym.bench.trainings import run_with_levels, title_of
    from hvgym.bench.workers import each

    with ExitStack() as last:
        trackers = {one.seed: last.enter_context(make_training_tracker(tracking, runs, one)) for one in trainings}
        for tracker in trackers.values():
            if tracker:
                tracker.start()
        levels, folder = tracking != "none", trainings[0].folder.parent
        finished = each(
            trainings, lambda submit, one: submit(run_with_levels, one, levels), workers, folder,
            lambda one: f"{title_of(one)} seed {one.seed}",
        )  # fmt: skip
        for count, (training, trained) in enumerate(finished, 1):
            best = max(point.best for point in trained.curve)
            said = f"{title_of(training)} seed {training.seed}: best validation goodput {best:.4f}"
            print(f"[{count}/{len(trainings)}] {said}, {trained.model}", flush=True)
            if tracker := trackers[training.seed]:
                tracker.finish(trained.model, [asdict(point) for point in trained.curve])


def _ground(config: DictConfig) -> tuple[str, list["Scenario"]]:
    """The name of the scenario, of several or of a suite, and what is trained on. A suite's rules hold, as in its studies."""
    if OmegaConf.select(config, "suite") is None:
        found = configuration.named_scenarios(config) or [configuration.scenario(config)]
        return "-".join(scenario.name for scenario in found)[:60], found
    if configuration.named_scenarios(config):
        raise InputError("suite=: stands beside scenario=; give one of the two")
    suite = configuration.suite(config)
    return suite.name, configuration.scenarios(config, suite.scenarios)


def _folder(config: DictConfig, title: str, several: bool) -> Path:
    """Where the training lives; each of several seeds and each job of a multirun has a folder of its own."""
    swept = configuration.swept_name("agent", "scenario", "seed")
    title = f"{title}-{swept}" if swept else title
    runs, given = configuration.runs_folder(config), configuration.path(config, "out")
    if given is None:
        return runs / "training" / title
    return given / title if several or configuration.multirun() else given
