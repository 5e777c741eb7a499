"""``hvgym train agent=ppo scenario=…``, ``agent=es suite=…``: train a learner; the same command goes on where it stopped."""

import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from hvgym.envs.errors import InputError
from hvgym.envs.files import file_name
from hvgym.envs.rules import check_played, refusal
from hvgym.envs.scenario import resolve
from hvgym.scripts import configuration, live
from hvgym.scripts.bench import print_place, recorded_at
from hvgym.scripts.own_vms import print_one_reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hvgym.agents.learned.training import Trained, Trainer, Update, Validation
    from hvgym.bench.training_tracking import Training
    from hvgym.envs.rules import Declaration
    from hvgym.envs.scenario import Scenario

NOT_OF_IT = (
    "agent",
    "scenario",
    "scenarios",
    "hypervisors",
    "vms",
    "suite",
    "seed",
    "out",
    "runs",
    "tracking",
    "tracking.uri",
)
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
    from hvgym.bench.levels import play_levels
    from hvgym.bench.training_tracking import Training, make_training_tracker

    ground, scenarios = _ground(config)
    ground, scenarios = _spread(config, ground, scenarios, declared_by(agent))
    for scenario in scenarios:
        check_played(declared_by(agent), scenario, agent["name"])
    trainer, seed = trainer_of(agent), configuration.seed(config, most=suites.LARGEST_TRAINING_SEED)
    trainer.check(scenarios)
    validations = configuration.needed(config, "validation_seeds", least=1, most=suites.MOST_SEEDS)
    folder = _folder(config, f"{agent['name']}-{file_name('scenario.name', ground)}-{seed}")
    runs, tracking = configuration.runs_folder(config), configuration.tracking(config)
    data = tuple(scenario.to_dict() for scenario in scenarios)
    configuration.print_trace_report(data[0])
    print_one_reading(scenarios)
    print(
        f"{agent['name']} on {ground}: {trainer.total_steps:,} steps, into {folder}{recorded_at(tracking)}", flush=True
    )
    training = Training(
        agent, data, ground, seed, validations, folder, configuration.swept(*NOT_OF_IT), sources(data, [agent])
    )

    def levels(key: str) -> tuple[float | None, float | None]:
        return training.levels.get("stock"), training.levels.get("reference")

    with ExitStack() as last:
        with make_training_tracker(tracking, runs, training) as tracker, live.board(folder, levels):

            def begin() -> None:
                if tracker:
                    tracker.start()
                    for scenario in data:
                        play_levels(folder, agent, scenario, validations)

            trained = _train(training, scenarios, trainer, begin)
            last.callback(print, f"best model: {trained.model}", flush=True)  # whatever happens to its recording
            if tracker:
                tracker.finish(trained.model, [asdict(point) for point in trained.curve])
        print_place(tracking, runs, "train", folder)


def _ground(config: DictConfig) -> tuple[str, list["Scenario"]]:
    """The name of the scenario, of several or of a suite, and what is trained on. A suite's rules hold, as in its studies."""
    if OmegaConf.select(config, "suite") is None:
        found = configuration.named_scenarios(config) or [configuration.scenario(config)]
        return "-".join(scenario.name for scenario in found)[:60], found
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
    if names:
        scenarios = _on_each(scenarios, [str(name) for name in names], who)
    for count in counts or ():
        if isinstance(count, bool) or not isinstance(count, int):
            raise InputError(f"vms={count!r}: expected whole numbers")
    if counts:
        scenarios = [with_vms(scenario, count) for scenario in scenarios for count in counts]
    words = [f"on-{'-'.join(map(str, names))}"] if names else []
    words += [f"{'-'.join(map(str, counts))}vms"] if counts else []
    return "-".join([ground, *words])[:60], scenarios


def _on_each(scenarios: list["Scenario"], hypervisors: list[str], who: "Declaration") -> list["Scenario"]:
    found, left_out = list["Scenario"](), list[str]()
    for scenario in scenarios:
        for name in hypervisors:
            try:
                data = scenario.to_dict() | {"name": f"{scenario.name}-on-{name}"}
                one = resolve(data, hypervisor=configuration.packaged("hypervisor", name))
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


def _train(
    training: "Training", scenarios: "Sequence[Scenario]", trainer: "Trainer", begin: "Callable[[], None]"
) -> "Trained":
    """Train, with a line a validation, and progress that others can read; begin: called once the progress has begun."""
    from hvgym.agents.policy import declared_by
    from hvgym.bench.progress import Progress
    from hvgym.bench.training import task_of, train, validation_of

    name, began = training.agent["name"], time.monotonic()

    def report(point: "Validation", total: int) -> None:
        progress.validated(point.steps, total, goodput=point.score)
        share = point.steps / total
        print(
            f"{point.steps:>10,} of {total:,} steps ({share:4.0%})  validation goodput {point.score:.4f}  best {point.best:.4f}  "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )

    def watch(update: "Update") -> None:
        progress.trained(total=trainer.total_steps, **asdict(update))

    title = f"{name} on {training.ground}"
    with Progress(training.folder / "progress.jsonl", title, trainer.total_steps) as progress:
        begin()
        try:
            validate = validation_of(scenarios, training.validation_seeds, name)
            task = task_of(
                scenarios, training.folder, training.seed, name, validate, report, watch, training.sources,
                training.validation_seeds, declared_by(training.agent),
            )  # fmt: skip
            return train(trainer, task)
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
