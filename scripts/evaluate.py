"""``hvgym evaluate agent=… [suite=… | scenario=…]``: play one agent and print its figures.

Every episode is a row of ``out``: agent, scenario, what else the command changed, seed, figures. Rows of other commands
stay; the same command finds its own again and replaces them. So ``-m`` leaves one table of all its jobs.
"""

import csv
import hashlib
import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from hvgym.bench import suites
from hvgym.envs.errors import InputError
from hvgym.envs.rules import check_played
from hvgym.scripts import configuration
from hvgym.scripts.own_vms import print_one_reading

IDENTITY = ("agent", "scenario", "changed", "code", "eval_seed")
"""What a row is of; the other columns are what came out. code: digest of the code that made it, as in a study."""

UNCHANGING = ("agent", "scenario", "scenarios", "suite", "seeds", "out", "runs")
"""Keys that rows carry by other names, or that make no difference to a row."""

WIDE = 160
"""Characters of the table where it is no terminal that reads it."""


@configuration.verb("evaluate")
def main(config: DictConfig) -> None:
    """Play the test seeds; print a line a scenario; add every episode to ``out`` if given. In a multirun it always is."""
    from hvgym.agents.policy import declared_by, make_policy
    from hvgym.bench.rollout import rollout

    agent = configuration.chosen_agent(config)
    count, scenarios = _plan(config)
    configuration.runs_folder(config)
    out = configuration.path(config, "out")
    if out is not None:
        _read(out)
        _try(out)
    checkpoint = {"checkpoint": agent["checkpoint"]} if "checkpoint" in agent else {}
    configuration.print_trace_report(scenarios[0].to_dict())
    print_one_reading(scenarios)
    rows: list[dict[str, Any]] = []
    for scenario in scenarios:
        check_played(declared_by(agent), scenario, agent["name"])
    for scenario in scenarios:
        policy = make_policy(agent, **checkpoint)
        episodes = rollout(suites.split_of(scenario, "test"), policy, suites.seeds("test", count), agent=agent["name"])
        head = {
            "agent": agent["name"],
            "scenario": scenario.name,
            "changed": _changed(),
            "code": _code(agent, scenario),
            "hosts": len(scenario.host_names),
        }
        rows += [head | row for row in episodes.rows()]
    if not configuration.multirun():
        print_table(rows)
    else:
        print(
            f"{agent['name']} on {', '.join(scenario.name for scenario in scenarios)} {_changed()}".strip(), flush=True
        )
    if out is not None:
        _add(out, rows)
        if not configuration.multirun():
            print(out)


def _plan(config: DictConfig) -> tuple[int, list[Any]]:
    """Number of seeds and scenarios: those that the command names, or the suite's, or the one of the default."""
    given = configuration.number(config, "seeds", least=1, most=suites.MOST_SEEDS)
    named = configuration.named_scenarios(config)
    if configuration.chosen(config, "suite") is None:
        return given or 8, named or [configuration.scenario(config)]
    suite = configuration.suite(config)
    return given or suite.eval_seeds, named or configuration.of_suite(config, suite)


def _code(agent: Mapping[str, Any], scenario: Any) -> str:
    """Digest of all that makes a row beside configuration: code, traces, a network."""
    from hvgym.bench.identity import digest_of_text, sources

    made_by = sources([scenario.to_dict()], [agent])
    if agent.get("checkpoint"):
        made_by["checkpoint"] = hashlib.sha256(Path(str(agent["checkpoint"])).read_bytes()).hexdigest()
    return digest_of_text(json.dumps(made_by, sort_keys=True))


def _changed() -> str:
    """What the command changed beside agent and scenario, in words of the command line."""
    return " ".join(
        sorted(
            word.lstrip("+") for word in configuration.words() if word.partition("=")[0].lstrip("+~") not in UNCHANGING
        )
    )


def _try(out: Path) -> None:
    """Find out whether a file can be written there before anything is played. Raises `OSError`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out.parent):
        pass


def _add(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put rows into the file, in the place of those that are of the same."""
    from hvgym.envs.files import write_atomically

    with _alone(out):
        fresh = [{name: _cell(value) for name, value in row.items()} for row in rows]
        replaced = {_identity(row) for row in fresh}
        kept = [row for row in _read(out) if _identity(row) not in replaced]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(fresh[0]), lineterminator="\n", restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept + fresh)
        write_atomically(out, text.getvalue())


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Jobs of a multirun may run at once."""
    from filelock import FileLock

    lock = out.with_name(f".{out.name}.lock")
    with FileLock(lock):  # stays: whoever waits for it must find the same file
        yield


def _identity(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in IDENTITY)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _read(out: Path) -> list[dict[str, str]]:
    """Rows that are there. Raises `InputError` for a file of something else, which is not to be lost."""
    if not out.exists():
        return []
    if not out.is_file():
        raise InputError(f"out={out}: not a file; name a CSV file, as in out={out / 'rows.csv'}")
    try:
        with out.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error):
        rows, reader = [], csv.DictReader([""])
    if set(IDENTITY) - set(reader.fieldnames or ()) or any(None in row or None in row.values() for row in rows):
        raise InputError(f"out={out}: holds something else than rows of hvgym evaluate; name another file")
    return rows


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Means over seeds, a line for each agent, scenario and change."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from hvgym.scripts import tables

    groups = dict[tuple[str, ...], list[Mapping[str, Any]]]()
    for row in rows:
        groups.setdefault(tuple(row[name] for name in IDENTITY[:-1]), []).append(row)
    codes = {key[3] for key in groups}
    shown = [
        name for name in IDENTITY[:-1] if name in IDENTITY[:2] or any(key[2] for key in groups) * (name == "changed")
    ]
    shown += ["code"] if len(codes) > 1 else []
    counts = sorted({len(of_it) for of_it in groups.values()})
    title = f"means over {' or '.join(map(str, counts))} test seeds"
    console = Console(markup=False)
    console = console if console.is_terminal else Console(markup=False, width=max(console.width, WIDE))

    def print_figures(labels: Mapping[str, str], title: str) -> None:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=title)
        for name in shown:
            table.add_column(name, overflow="fold", min_width=8)
        for label in labels.values():
            table.add_column(label, justify="right", no_wrap=True)
        for key, of_it in groups.items():
            cells = dict(zip(IDENTITY, key, strict=False))
            table.add_row(*(cells[name] for name in shown), *(_mean(of_it, name) for name in labels))
        console.print(table)

    print_figures(tables.LABELS, title)
    print(tables.KEY)
    if any(int(row.get("hosts") or 1) > 1 for row in rows):
        print_figures(tables.OF_CLUSTERS, "failures and moves")
        print(tables.KEY_OF_CLUSTERS)


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Of a figure; nothing where rows of an older version lack it."""
    figures = [row.get(name, "") for row in rows]
    return "" if "" in figures else f"{sum(map(float, figures)) / len(figures):.4g}"


class TableOfAll(Callback):
    """Prints the rows of all jobs when a multirun has ended."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """See Hydra."""
        out = OmegaConf.select(config, "out")
        if isinstance(out, str) and Path(out).is_file():
            print_table(_read(Path(out)))
            print(Path(out).resolve())
