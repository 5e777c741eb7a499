"""``hvgym validate STUDY``: play rows of a study again from its folder alone, and compare them to the bit."""

from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hvgym.envs.errors import InputError, shown
from hvgym.scripts import configuration
from hvgym.scripts.bench import study_folder
from hvgym.scripts.failures import Stopped
from hvgym.scripts.live import printable

if TYPE_CHECKING:
    from hvgym.bench.jobs import Done
    from hvgym.bench.validate import Checked

MOST_SHOWN = 5
"""Differences of a job that are printed."""


@configuration.verb("validate")
def main(config: DictConfig) -> None:
    """Play, compare, and say what differs; ends with exit code 1 where anything does."""
    from hvgym.bench.replay import check_trusted
    from hvgym.bench.study import read_study
    from hvgym.bench.validate import check_jobs, other_here, sample

    study, rows, seed, trust = (
        configuration.text(config, "study"),
        _rows(config),
        configuration.seed(config),
        configuration.switch(config, "trust"),
    )
    workers, runs = configuration.workers(config), configuration.runs_folder(config)
    names = configuration.plain(config.agents)
    asked = None if names is None else configuration.agent_names(config.agents, ())
    if not study:
        raise InputError("study is missing; hvgym validate STUDY")
    configuration.folders()  # so that policies beside a YAML can be imported
    folder = study_folder(runs, study)
    done = _of_agents(read_study(folder)[1], asked)
    drawn = sample(done, rows, seed)
    check_trusted([result.job.agent for result, _ in drawn], trust)
    count = sum(len(seeds) for _, seeds in drawn)
    print(
        f"study {folder.name}: {count} of {sum(len(result.rows) for result in done)} rows are played again", flush=True
    )
    others, checked = other_here([result for result, _ in drawn]), list["Checked"]()
    for one in check_jobs(drawn, folder, workers):
        checked.append(one)
        print(f"[{len(checked)}/{len(drawn)}] {printable(one.done.job.name)}: {_outcome(one)}", flush=True)
    for line in others:
        print(f"other here than there: {printable(line)}")
    total, wrong = sum(one.rows for one in checked), sum(one.wrong_rows for one in checked)
    if wrong:
        why = (
            "see above what is other here" if others else "nothing that is known of is other here: were files changed?"
        )
        raise Stopped(f"{wrong} of {total} rows are not equal; {why}", 1)
    print(f"all {total} rows are equal to the bit")


def _rows(config: DictConfig) -> int | None:
    given = configuration.plain(config.rows)
    if given == "all":
        return None
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise InputError(f"rows={shown(given)}: expected a whole number, at least 1, or all")
    return given


def _of_agents(done: "list[Done]", names: list[str] | None) -> "list[Done]":
    played = list(dict.fromkeys(result.job.agent["name"] for result in done))
    for name in names or ():
        if name not in played:
            raise InputError(f"agents={shown(name)}: has no finished job in this study; has: {', '.join(played)}")
    if not done:
        raise InputError("the study has no finished job yet")
    return [result for result in done if names is None or result.job.agent["name"] in names]


def _outcome(one: "Checked") -> str:
    """In words."""
    rows = f"{one.rows} row{'s' if one.rows > 1 else ''}"
    if one.failed:
        return f"{rows}, not played: {printable(one.failed)}"
    if not one.differences:
        return f"{rows}, equal"
    shown_ones = [_difference(difference) for difference in one.differences[:MOST_SHOWN]]
    more = f", and {len(one.differences) - MOST_SHOWN} figures more" if len(one.differences) > MOST_SHOWN else ""
    return f"{one.wrong_rows} of {rows} not equal: {'; '.join(shown_ones)}{more}"


def _difference(difference: Any) -> str:
    return f"seed {difference.seed} {difference.metric} {difference.there!r} there, {difference.here!r} here"
