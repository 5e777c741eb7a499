"""``hvgym train agent=ppo scenario=…``, ``agent=es suite=…``: train a learner, or one a seed.

The same command goes on where it stopped.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from hvgym.envs.errors import InputError, shown
from hvgym.envs.files import file_name
from hvgym.envs.rules import check_played, refusal
from hvgym.envs.scenario import resolve
from hvgym.scripts import configuration, live
from hvgym.scripts.bench import print_place, recorded_at
from hvgym.scripts.own_vms import print_one_reading

if TYPE_CHECKING:
    from hvgym.agents.learned.training import Validation
    from hvgym.bench.training_tracking import Training
    from hvgym.bench.workers import Workers
    from hvgym.envs.rules import Declaration
    from hvgym.envs.scenario import Scenario

NOT_OF_IT = (
    "agent", "scenario", "scenarios", "hypervisors", "vms", "suite", "seed", "out", "runs", "tracking", "tracking.uri", "workers",
    "engine",
)  # fmt: skip
"""Keys that a run in MLflow has anyway, or that change no network."""


@configuration.verb("train")
def main(config: DictConfig) -> None:
    """Train, print the learning curve, and end with the path of the best model."""
    agent = configuration.chosen_agent(config)
    if not agent.get("train"):
        raise InputError(
            f"agent={agent['name']}: does not learn; hvgym train takes an agent with train keys, such as ppo or es"
        )
    _check_untrained(agent)
    from hvgym.agents.learned.training import trainer_of
    from hvgym.agents.policy import check_keys, declared_by
    from hvgym.bench import suites
    from hvgym.bench.identity import sources
    from hvgym.bench.training_tracking import Training
    from hvgym.bench.trainings import check_folder

    check_keys(agent)
    ground, scenarios = _ground(config)
    ground, scenarios = _spread(config, ground, scenarios, declared_by(agent))
    for scenario in scenarios:
        check_played(declared_by(agent), scenario, agent["name"])
    trainer, seeds = trainer_of(agent), configuration.seeds(config, most=suites.LARGEST_TRAINING_SEED)
    trainer.check(scenarios)
    trainer.check_declared(declared_by(agent), scenarios)
    validations = configuration.needed(config, "validation_seeds", least=1, most=suites.MOST_SEEDS)
    name = f"{agent['name']}-{file_name('scenario.name', ground)}"
    folders = [_folder(config, f"{name}-{seed}", len(seeds) > 1) for seed in seeds]
    runs, tracking = configuration.runs_folder(config), configuration.tracking(config)
    workers = configuration.workers(config, otherwise=1 if len(seeds) == 1 else None)
    data = tuple(scenario.to_dict() for scenario in scenarios)
    swept, made_by = configuration.swept(*NOT_OF_IT), sources(data, [agent])
    trainings = [
        Training(agent, data, ground, seed, validations, folder, swept, made_by)
        for seed, folder in zip(seeds, folders, strict=True)
    ]
    for training in trainings:
        check_folder(training)
    configuration.print_trace_report(data[0])
    print_one_reading(scenarios)
    where = folders[0] if len(seeds) == 1 else f"{len(seeds)} folders of {folders[0].parent}"
    print(
        f"{agent['name']} on {ground}: {trainer.total_steps:,} steps, into {where}{recorded_at(tracking)}", flush=True
    )
    if len(trainings) == 1 and isinstance(workers, int):
        _train(trainings[0], runs, tracking)
    else:
        _train_each(trainings, runs, tracking, workers)
        print_place(tracking, runs, "train", folders[0])


def _check_untrained(agent: Mapping[str, Any]) -> None:
    """Raise `InputError` for keys that say how a trained agent plays: a training would not heed them."""
    if given := agent.get("checkpoint"):
        raise InputError(
            f"agent.checkpoint={shown(given)}: is what plays; a training begins with a network by agent.train.start="
        )
    if agent.get("shield"):
        raise InputError("agent.shield=true: a training has none; give it where the policy plays, in evaluate or bench")


def _train(training: "Training", runs: Path, tracking: str) -> None:
    """Train in this process, with a line a validation."""
    from hvgym.bench.training_tracking import make_training_tracker
    from hvgym.bench.trainings import play_levels_of, run_training

    began, trained_now = time.monotonic(), False

    def levels(key: str) -> tuple[float | None, float | None]:
        return training.levels.get("stock"), training.levels.get("reference")

    def report(point: "Validation", total: int) -> None:
        nonlocal trained_now
        trained_now = True
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
        if not trained_now:
            print(f"trained already, {trained.curve[-1].steps:,} steps; the best of all of them counts", flush=True)
        last.callback(print, f"best model: {trained.model}", flush=True)  # whatever happens to its recording
        last.callback(print_place, tracking, runs, "train", training.folder)  # before it: callbacks run last to first
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
        return "-".join(scenario.name for scenario in found), found
    if configuration.named_scenarios(config):
        raise InputError("suite=: stands beside scenario=; give one of the two")
    suite = configuration.suite(config)
    return suite.name, configuration.of_suite(config, suite)


def _spread(
    config: DictConfig, ground: str, scenarios: list["Scenario"], who: "Declaration"
) -> tuple[str, list["Scenario"]]:
    """Each scenario on each hypervisor and with each number of VMs that the command lists. What a hypervisor cannot have, or
    where its rules refuse the agent, is left out, and said."""
    from hvgym.envs.scaled import with_vms

    names, counts = configuration.listed(config, "hypervisors"), configuration.listed(config, "vms")
    if names and not all(isinstance(name, str) for name in names):
        raise InputError(f"hypervisors={shown(names)}: expected names; hvgym list hypervisors shows them")
    if names:
        scenarios = _on_each(scenarios, names, who)
    for count in counts or ():
        if isinstance(count, bool) or not isinstance(count, int):
            raise InputError(f"vms={count!r}: expected whole numbers")
    if counts:
        scenarios = [with_vms(scenario, count) for scenario in scenarios for count in counts]
    words = [f"on-{'-'.join(map(str, names))}"] if names else []
    words += [f"{'-'.join(map(str, counts))}vms"] if counts else []
    return configuration.titled("-".join([ground, *words])), scenarios


def _on_each(scenarios: list["Scenario"], hypervisors: list[str], who: "Declaration") -> list["Scenario"]:
    found, left_out = list["Scenario"](), list[str]()
    known = {name: configuration.packaged("hypervisor", name) for name in hypervisors}
    for scenario in scenarios:
        for name, hypervisor in known.items():
            try:
                data = scenario.to_dict() | {"name": f"{scenario.name}-on-{name}"}
                one = resolve(data, hypervisor=hypervisor, folders=configuration.folders())
                reason = refusal(who, one)
            except InputError as error:
                reason = str(error)
            if reason is None:
                found.append(one)
            else:
                left_out.append(f"{scenario.name} on {name} is left out: {reason}")
    if not found:
        raise InputError(f"hypervisor=[{','.join(hypervisors)}]: nothing is left to train on; {left_out[0]}")
    print("".join(f"{line}\n" for line in left_out), end="", flush=True)
    return found


def _folder(config: DictConfig, title: str, several: bool) -> Path:
    """Where the training lives; each of several seeds and each job of a multirun has a folder of its own."""
    swept = configuration.swept_name("agent", "scenario", "seed")
    title = f"{title}-{swept}" if swept else title
    runs, given = configuration.runs_folder(config), configuration.path(config, "out")
    if given is not None and given.is_file():
        raise InputError(f"out={configuration.text(config, 'out')}: is a file; a training lives in a folder")
    if given is None:
        return runs / "training" / title
    return given / title if several or configuration.multirun() else given
