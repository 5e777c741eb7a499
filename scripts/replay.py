"""``hvgym replay STUDY agent=… scenario=… seed=…``: a row of a study played again, live in the terminal or as a GIF."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hvgym.envs.errors import InputError, nearest
from hvgym.envs.files import write_atomically
from hvgym.scripts import configuration
from hvgym.scripts.bench import study_folder
from hvgym.scripts.stage import stage

if TYPE_CHECKING:
    from hvgym.bench.jobs import Done


@configuration.verb("replay")
def main(config: DictConfig) -> None:
    """Play the row, show it, and say whether it came out as it stands in the study."""
    from hvgym.bench.replay import check_trusted
    from hvgym.bench.study import read_study

    study, agent, scenario = (
        configuration.text(config, "study"),
        configuration.named(config, "agent"),
        configuration.named(config, "scenario"),
    )
    seed, train_seed = (
        configuration.number(config, "seed", least=0),
        configuration.number(config, "train_seed", least=0),
    )
    speed = configuration.number(config, "speed", least=0, whole=False)
    trust, out, runs = (
        configuration.switch(config, "trust"),
        configuration.gif(config, "out"),
        configuration.runs_folder(config),
    )
    if not study:
        raise InputError("study is missing; hvgym replay STUDY agent=NAME scenario=NAME")
    configuration.folders()  # so that policies beside a YAML can be imported
    folder = study_folder(runs, study)
    done = _job(read_study(folder)[1], agent, scenario, train_seed, seed)
    check_trusted([done.job.agent], trust)
    row = _row(done, seed)
    eval_seed = int(row["eval_seed"])
    print(f"{done.job.name}, evaluation seed {eval_seed}: goodput {row['goodput']:.4f}", flush=True)
    played = _film(done, folder, eval_seed, out) if out else _show(done, folder, eval_seed, speed)
    _print_compared(done, played)
    if out is not None:
        print(out)


def _job(
    done: "Sequence[Done]", agent: str | None, scenario: str | None, train_seed: int | None, seed: int | None
) -> "Done":
    """The finished job that the keys name; agent and scenario may be left out where the study has one only."""
    done = _chosen(done, "agent", agent, lambda result: str(result.job.agent["name"]))
    done = _chosen(done, "scenario", scenario, lambda result: str(result.job.scenario["name"]))
    first = str(min(result.job.train_seed for result in done))
    wanted = first if train_seed is None else str(train_seed)
    done = _chosen(done, "train_seed", wanted, lambda result: str(result.job.train_seed))
    found = next((result for result in done if any(_is(row, number, seed) for number, row in _numbered(result))), None)
    if found is None:
        seeds = sorted(int(row["eval_seed"]) for result in done for row in result.rows)
        raise InputError(
            f"seed={seed}: not played; the evaluation seeds are {seeds[0]} to {seeds[-1]}, or 0 to {len(seeds) - 1} for short"
        )
    return found


def _chosen(done: "Sequence[Done]", key: str, given: str | None, of: "Callable[[Done], str]") -> "Sequence[Done]":
    known = list(dict.fromkeys(map(of, done)))
    if not known:
        raise InputError("the study has no finished job yet")
    if given is None and len(known) > 1:
        raise InputError(f"{key} is missing; this study has: {', '.join(known)}")
    if given is not None and given not in known:
        near = nearest(given, known)
        raise InputError(f"{key}={given}: has no finished job in this study{near}; has: {', '.join(known)}")
    return [result for result in done if given is None or of(result) == given]


def _numbered(done: "Done") -> "Iterator[tuple[int, dict[str, float]]]":
    """Rows of a job by their numbers among all evaluation seeds of a study, which may have grown."""
    return enumerate(done.rows, done.job.first_eval_seed)


def _is(row: Any, number: int, seed: int | None) -> bool:
    """Whether a row is the one that is asked for: by its evaluation seed, or by its number."""
    return seed is None or seed in (int(row["eval_seed"]), number)


def _row(done: "Done", seed: int | None) -> dict[str, float]:
    return next(row for number, row in _numbered(done) if _is(row, number, seed))


def _show(done: "Done", folder: Path, seed: int, speed: float | None) -> dict[str, float]:
    from hvgym.bench import suites
    from hvgym.bench.replay import play_again
    from hvgym.envs.scenario import Scenario

    scenario = suites.split_of(Scenario.from_dict(done.job.scenario), "test")
    title = f"{scenario.name} under {done.job.agent['name']}"
    with stage(scenario, seed, [title], speed or 0.0) as shown_on:  # who quits is told of the whole row all the same
        return play_again(done, folder, [seed], lambda _, sim: shown_on.show(sim))[0]


def _film(done: "Done", folder: Path, seed: int, out: Path) -> dict[str, float]:
    from hvgym.bench import suites
    from hvgym.bench.film import Film
    from hvgym.bench.replay import play_again
    from hvgym.envs.scenario import Scenario

    scenario = suites.split_of(Scenario.from_dict(done.job.scenario), "test")
    title = f"{scenario.name}, {scenario.hypervisor.name}: {done.job.agent['name']}"
    film = Film(scenario, seed, title)
    row = play_again(done, folder, [seed], film.watch)[0]
    write_atomically(out, film.gif())
    return row


def _print_compared(done: "Done", row: dict[str, float]) -> None:
    from hvgym.bench.replay import differences
    from hvgym.bench.validate import other_here

    found = differences(done, [row])
    if not found:
        print("the row is equal to that of the study, to the bit")
        return
    print(f"not the row of the study: {', '.join(f'{d.metric} {d.there!r} there, {d.here!r} here' for d in found[:5])}")
    for line in other_here([done]):
        print(f"other here than there: {line}")
