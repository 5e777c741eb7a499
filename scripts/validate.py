"""``hvgym validate STUDY``: play rows of a study again from its folder alone, and compare them to the bit."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hvgym.bench.density_column import FOLDER
from hvgym.envs.errors import InputError, many, shown
from hvgym.scripts import configuration
from hvgym.scripts.bench import study_folder
from hvgym.scripts.failures import Stopped
from hvgym.scripts.live import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hvgym.bench.capacity_validate import CheckedPoint
    from hvgym.bench.jobs import Done
    from hvgym.bench.validate import Checked
    from hvgym.bench.workers import Workers

MOST_SHOWN = 5
"""Differences of a job that are printed."""


@configuration.verb("validate")
def main(config: DictConfig) -> None:
    """Play, compare, and say what differs; ends with exit code 1 where anything does."""
    study, runs = configuration.text(config, "study"), configuration.runs_folder(config)
    names = configuration.plain(config.agents)
    asked = Asked(
        rows=_rows(config),
        seed=configuration.seed(config),
        agents=None if names is None else tuple(configuration.agent_names(config.agents, ())),
        trust=configuration.switch(config, "trust"),
        train=configuration.switch(config, "train"),
        workers=configuration.workers(config),
    )
    if not study:
        raise InputError("study is missing; hvgym validate STUDY")
    configuration.folders()  # so that policies beside a YAML can be imported
    folder = _folder(runs, study)
    others = list[str]()
    checked = _check_rows(folder, asked, others) if (folder / "protocol.json").exists() else []
    densities = _check_densities(folder, asked, others)
    _judge(checked, densities, others)


@dataclass(frozen=True)
class Asked:
    """What is to be played again, and how."""

    rows: int | None
    seed: int
    agents: tuple[str, ...] | None
    trust: bool
    train: bool
    workers: "Workers"


def _folder(runs: Path, study: str) -> Path:
    """Of a study, or of a capacity alone."""
    given = [place for place in (runs / "studies" / study, Path(study).expanduser()) if _has_densities(place)]
    return given[0].resolve() if given else study_folder(runs, study)


def _has_densities(folder: Path) -> bool:
    return (folder / FOLDER / "family.json").exists()


def _check_rows(folder: Path, asked: Asked, others: list[str]) -> "list[Checked]":
    """Play rows of a study again, with a line a job. others: gets what is other here."""
    from hvgym.bench.replay import check_trusted
    from hvgym.bench.study import read_study
    from hvgym.bench.validate import check_jobs, other_here, sample, trainings

    everything = read_study(folder)[1]
    done = _of_agents(everything, asked.agents)
    drawn = sample(done, asked.rows, asked.seed)
    firsts = trainings(drawn, everything) if asked.train else {}
    check_trusted([result.job.agent for result, _ in drawn], asked.trust)
    count, of = sum(len(seeds) for _, seeds in drawn), sum(len(result.rows) for result in done)
    again = f", {many(len(firsts), 'training')} done again" if asked.train else ""
    print(f"study {folder.name}: {count} of {of} rows are played again{again}", flush=True)
    _say_others(other_here([result for result, _ in drawn]), others)
    checked = list["Checked"]()
    for one in check_jobs(drawn, folder, asked.workers, firsts):
        checked.append(one)
        print(f"[{len(checked)}/{len(drawn)}] {printable(one.done.job.name)}: {_outcome(one)}", flush=True)
    return checked


def _check_densities(folder: Path, asked: Asked, others: list[str]) -> "list[CheckedPoint]":
    """Play points of the capacity in a study's folder again, with a line each; nothing where there is none."""
    if not _has_densities(folder):
        return []
    from hvgym.bench.capacity_validate import check_points, code_apart, points_of, sample
    from hvgym.bench.study import read_protocol

    place, found = folder / FOLDER, list["CheckedPoint"]()
    points = [one for one in points_of(place) if asked.agents is None or one["agent"] in asked.agents]
    drawn = sample(points, asked.rows, asked.seed)
    agents = read_protocol(folder).agents if (folder / "protocol.json").exists() else ()
    print(f"densities: {len(drawn)} of {len(points)} points are played again", flush=True)
    _say_others(code_apart(place), others)
    for one in check_points(drawn, place, agents, asked.trust):
        found.append(one)
        print(f"[{len(found)}/{len(drawn)}] {printable(one.name)}: {_outcome_of_point(one)}", flush=True)
    return found


def _say_others(lines: list[str], others: list[str]) -> None:
    for line in lines:
        print(f"other here than there: {printable(line)}")
    others += lines


def _judge(checked: "list[Checked]", densities: "list[CheckedPoint]", others: list[str]) -> None:
    """Say what came out. Raises `Stopped` where anything is not equal."""
    groups = {
        "rows": (sum(one.wrong_rows for one in checked), sum(one.rows for one in checked)),
        "points of densities": (sum(one.wrong for one in densities), len(densities)),
    }
    if wrong := [f"{count} of {of} {name}" for name, (count, of) in groups.items() if count]:
        why = (
            "see above what is other here" if others else "nothing that is known of is other here: were files changed?"
        )
        raise Stopped(f"{' and '.join(wrong)} are not equal; {why}", 1)
    print(f"all {' and '.join(f'{of} {name}' for name, (_, of) in groups.items() if of)} are equal to the bit")


def _rows(config: DictConfig) -> int | None:
    given = configuration.plain(config.rows)
    if given == "all":
        return None
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise InputError(f"rows={shown(given)}: expected a whole number, at least 1, or all")
    return given


def _of_agents(done: "list[Done]", names: "Sequence[str] | None") -> "list[Done]":
    played = list(dict.fromkeys(result.job.agent["name"] for result in done))
    for name in names or ():
        if name not in played:
            raise InputError(f"agents={shown(name)}: has no finished job in this study; has: {', '.join(played)}")
    if not done:
        raise InputError("the study has no finished job yet")
    return [result for result in done if names is None or result.job.agent["name"] in names]


def _outcome(one: "Checked") -> str:
    """In words."""
    rows = many(one.rows, "row")
    if one.failed:
        return f"{rows}, not played: {printable(one.failed)}"
    if one.apart:
        more = f", and {len(one.apart) - MOST_SHOWN} more" if len(one.apart) > MOST_SHOWN else ""
        return f"{rows}, trained again, not equal: {'; '.join(one.apart[:MOST_SHOWN])}{more}"
    if not one.differences:
        return f"{rows}, {'trained again, curve, weights and rows equal' if one.trained else 'equal'}"
    shown_ones = [_difference(difference) for difference in one.differences[:MOST_SHOWN]]
    more = f", and {len(one.differences) - MOST_SHOWN} figures more" if len(one.differences) > MOST_SHOWN else ""
    return f"{one.wrong_rows} of {rows} not equal: {'; '.join(shown_ones)}{more}"


def _outcome_of_point(one: "CheckedPoint") -> str:
    fleets = f"{one.fleets} fleets"
    if one.failed:
        return f"{fleets}, not played: {printable(one.failed)}"
    more = f", and {len(one.differences) - MOST_SHOWN} figures more" if len(one.differences) > MOST_SHOWN else ""
    return f"{fleets} not equal: {'; '.join(one.differences[:MOST_SHOWN])}{more}" if one.wrong else f"{fleets}, equal"


def _difference(difference: Any) -> str:
    return f"seed {difference.seed} {difference.metric} {difference.there!r} there, {difference.here!r} here"
