"""``hvgym tune agent=… [suite=… | scenario=…]``: search an agent's parameters; ends with a YAML of the best.

Stopped at any point, the same command goes on where it was; with more trials or steps it goes on from the last one.
"""

import re
import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hvgym.bench import suites
from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically
from hvgym.scripts import configuration, live
from hvgym.scripts.bench import print_place, recorded_at
from hvgym.scripts.own_vms import print_one_reading

if TYPE_CHECKING:
    from hvgym.bench.trial import Ground
    from hvgym.bench.trial_tracking import TrialTracker
    from hvgym.bench.tuned import Outcome
    from hvgym.bench.tuning import Budget, Trial, Tuning
    from hvgym.bench.workers import Submit
    from hvgym.envs.scenario import Scenario


@configuration.verb("tune")
def main(config: DictConfig) -> None:
    """Play the trials, validate the best, and leave the tuned YAML."""
    from hvgym.bench.progress import folder_of
    from hvgym.bench.trial import grounds
    from hvgym.bench.trial_tracking import make_trial_tracker
    from hvgym.bench.tuning import check, cost_within, opened, run_trials
    from hvgym.bench.workers import crew
    from hvgym.envs.scenario import Scenario

    ground, tuning = _tuning(config)
    budget, name = (
        _budget(config),
        configuration.name(config, "study") or f"{tuning.agent['name']}-{ground}-{tuning.hash[:8]}",
    )
    out = _out(config, name)
    finalists = configuration.needed(config, "finalists", least=1)
    validation_seeds = configuration.needed(config, "validation_seeds", least=1, most=suites.MOST_SEEDS)
    runs, tracking = configuration.runs_folder(config), configuration.tracking(config)
    workers = configuration.workers(config, otherwise=1)
    database = runs / "tune" / f"{name}.db"
    check(tuning)
    configuration.print_trace_report(tuning.scenarios[0])
    print_one_reading(map(Scenario.from_dict, tuning.scenarios))
    told = recorded_at(tracking)
    print(
        f"tuning {name}: {tuning.seeds} training seeds of each of {len(tuning.scenarios)} scenarios{told}", flush=True
    )
    folder, under_way = database.with_suffix(""), [scenario["name"] for scenario in tuning.scenarios]
    with ExitStack() as last:
        submit = last.enter_context(crew(workers, folder, lambda: under_way)) if workers != 1 else None
        last.enter_context(live.board(folder_of(folder)))
        places = grounds(tuning.scenarios, tuning.references, "train", tuning.seeds, _ends(runs), folder, submit)
        _print_left_out(tuning, places)
        cost_within(tuning, budget, places)
        last.enter_context(opened(tuning, database))
        tracker = last.enter_context(make_trial_tracker(tracking, runs, name))
        if tracker:
            tracker.start(tuning)
        trials = run_trials(tuning, budget, places, database, _printer(budget, tracker), submit)
        outcome = _outcome(config, ground, tuning, trials, finalists, validation_seeds, folder, submit)
        files = _write(outcome, folder, out)
        if tracker:
            tracker.finish(outcome, files)
    _print_outcome(outcome)
    print("\n".join(str(file) for file in files))
    print(f"play both: {_command(outcome, out)}")
    print_place(tracking, runs, f"tune/{name}", folder)


def _tuning(config: DictConfig) -> tuple[str, "Tuning"]:
    """The name of the suite or scenario, and what is tuned."""
    from hvgym.agents.policy import declared_by
    from hvgym.bench.identity import sources
    from hvgym.bench.references import STOCK, are_clusters, reference_of, rules_of
    from hvgym.bench.tuning import Tuning

    agent = configuration.chosen_agent(config)
    if named := configuration.named_scenarios(config):
        scenarios = named
        ground, train_steps = configuration.titled("-".join(scenario.name for scenario in scenarios)), None
    else:
        suite = configuration.suite(config)
        scenarios = configuration.of_suite(config, suite)
        ground, train_steps = suite.name, suite.train_steps
    train_steps = configuration.number(config, "train_steps", least=1) or train_steps
    if agent.get("train") and train_steps:
        agent |= {"train": {**agent["train"], "total_steps": train_steps}}
    plain = tuple(scenario.to_dict() for scenario in _played(agent, scenarios))
    ends = (STOCK, reference_of(declared_by(agent).seat, rules_of(plain), are_clusters(plain)))
    references = tuple(configuration.agent(name) for name in ends)
    made_by = sources(plain, [agent, *references])
    seeds = configuration.needed(config, "seeds", least=1, most=suites.MOST_SEEDS)
    per_report = configuration.needed(config, "seeds_per_report", least=1)
    return ground, Tuning(agent, references, plain, seeds, per_report, configuration.seed(config), made_by)


def _played(agent: dict[str, Any], scenarios: "Sequence[Scenario]") -> "Sequence[Scenario]":
    """Those on which the rules let it play, the others named; one alone is refused later. Raises `InputError` where it plays
    on none."""
    from hvgym.agents.policy import declared_by
    from hvgym.envs.rules import refusal

    reasons = {scenario.name: refusal(declared_by(agent), scenario) for scenario in scenarios}
    if all(reasons.values()):
        if len(scenarios) == 1:
            return scenarios
        why = "; ".join(dict.fromkeys(str(reason) for reason in reasons.values()))
        opened = "; rules=open opens every channel to everybody" if scenarios[0].rules != "open" else ""
        raise InputError(f"agent {agent['name']}: plays on none of these {len(scenarios)} scenarios: {why}{opened}")
    for name, reason in reasons.items():
        if reason:
            print(f"{name}: {agent['name']} {reason}, so it is not tuned for it")
    return [scenario for scenario in scenarios if reasons[scenario.name] is None]


def _budget(config: DictConfig) -> "Budget":
    from hvgym.bench.tuning import Budget

    trials, steps = configuration.number(config, "trials", least=2), configuration.number(config, "steps", least=1)
    if trials is None and steps is None:
        raise InputError("trials=None and steps=None: one of them must end the tuning")
    return Budget(trials, steps)


def _out(config: DictConfig, name: str) -> Path:
    """Where the tuned YAML goes: beside the user's own agents if there are any, so that a study finds both. Jobs of a multirun
    tune one agent several times, so each has a folder of its own unless told."""
    own, given = configuration.folders(), configuration.path(config, "out")
    place = configuration.runs_folder(config) / "tune"
    default = Path(own[0]).resolve() if own else place / name if configuration.multirun() else place
    folder = given or default / "agent"
    if folder.name != "agent":
        raise InputError(f"out={config.out}: must be a folder named agent; --config-dir then takes the one it is in")
    return folder


def _print_left_out(tuning: "Tuning", places: Sequence["Ground"]) -> None:
    from hvgym.bench.references import SMALLEST_GAP

    kept, reference = [place.scenario.name for place in places], tuning.references[1]["name"]
    for scenario in tuning.scenarios:
        if scenario["name"] not in kept:
            print(
                f"{scenario['name']}: {reference} gains less than {SMALLEST_GAP:g} over stock there, so it is not played"
            )


def _printer(budget: "Budget", tracker: "TrialTracker | None") -> Callable[["Trial"], None]:
    """Records and prints each trial."""
    best, steps = 0.0, 0

    def on_trial(trial: "Trial") -> None:
        nonlocal best, steps
        if tracker:
            tracker.trial(trial)
        first, steps = trial.number == 0, steps + trial.steps
        best = trial.score if first else best if trial.stopped else max(best, trial.score)
        done = f"{trial.number + 1}/{budget.trials}" if budget.trials else f"{steps / (budget.steps or 1):4.0%}"
        what = "the original: score" if first else "stopped at" if trial.stopped else "score"
        print(f"[{done}] trial {trial.number}, {what} {trial.score:.4f}, best {best:.4f}", flush=True)

    return on_trial


def _outcome(
    config: DictConfig, ground: str, tuning: "Tuning", trials: list["Trial"], finalists: int, seeds: int, folder: Path,
    submit: "Submit | None",
) -> "Outcome":  # fmt: skip
    """Validate the best trials."""
    from hvgym.bench.trial import grounds
    from hvgym.bench.tuned import Outcome, validate

    ends = _ends(configuration.runs_folder(config))
    places = grounds(tuning.scenarios, tuning.references, "validation", seeds, ends, folder, submit)
    validated = validate(tuning, trials, finalists, places, folder, submit)
    command = shlex.join(["hvgym", "tune", *configuration.words()])
    return Outcome(configuration.chosen_agent(config), ground, command, tuning.seeds, seeds, trials, validated)


def _ends(runs: Path) -> Path:
    """Where what stock and the references reach is kept for all tunings."""
    return runs / "tune" / "ends"


def _write(outcome: "Outcome", folder: Path, out: Path) -> list[Path]:
    from hvgym.bench.tuned import csv_text, picture, yaml_text

    tuned = out / f"{outcome.name}.yaml"
    write_atomically(folder / "trials.csv", csv_text(outcome.trials))
    write_atomically(folder / "trials.png", picture(outcome))
    write_atomically(tuned, yaml_text(outcome))
    return [folder / "trials.csv", folder / "trials.png", tuned]


def _print_outcome(outcome: "Outcome") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = f"{outcome.validation_seeds} validation seeds a scenario: score 0 = stock, 1 = reference"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=title)
    table.add_column("trial")
    for name in ("validation", "training"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("parameters", overflow="fold")
    for one in sorted(outcome.validated, key=lambda one: (-one.score, one.trial.number)):
        shown = ", ".join(f"{key} {value}" for key, value in one.trial.values.items())
        label = str(one.trial.number) if one.trial.number else "0 (original)"
        table.add_row(label, f"{one.score:.4f}", f"{one.trial.score:.4f}", shown)
    Console(markup=False).print(table)
    if not outcome.changes:
        print(f"no trial beat the original on validation seeds: {outcome.name} keeps its values")


def _command(outcome: "Outcome", out: Path) -> str:
    """The study that shows both; packaged agents need no folder."""
    import hvgym.conf

    words = [
        word
        for word in configuration.words()
        if re.match(r"[+~]*(suite|scenarios?|hypervisor|disk|nic|workload|rules)\b", word)
    ]
    words.append(f"agents=[{outcome.agent['name']},{outcome.name}]")
    packaged = out.parent in [Path(place).resolve() for place in hvgym.conf.__path__]
    return shlex.join(["hvgym", "bench", *words, *([] if packaged else ["--config-dir", str(out.parent)])])
