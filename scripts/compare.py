"""``hvgym compare STUDY [STUDY …]``: who is better, by how much and how sure; agents of a study, or across studies."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from hvgym.envs.errors import InputError, many, shown
from hvgym.envs.files import write_atomically
from hvgym.scripts import configuration
from hvgym.scripts.bench import study_folder

if TYPE_CHECKING:
    from hvgym.bench.comparison import Comparison


@configuration.verb("compare")
def main(config: DictConfig) -> None:
    """Print the table, and write it where a file is named."""
    from hvgym.bench import comparison, comparison_table, stopping

    out = configuration.path(config, "out")
    to, margin = configuration.text(config, "to"), configuration.number(config, "margin", least=0, whole=False)
    agents = None if configuration.plain(config.agents) is None else configuration.agent_names(config.agents, ())
    if out is not None:
        comparison_table.check_ending(out)
    names, runs = _names(config), configuration.runs_folder(config)
    folders = [study_folder(runs, name) for name in names]
    if len(set(folders)) < len(folders):
        raise InputError(f"studies={shown(names)}: one of them is there twice")
    studies = [comparison.read(folder, label) for folder, label in zip(folders, _labels(names, folders), strict=True)]
    found = comparison.compare(studies, to, agents, margin)
    _print(found)
    for study, folder in zip(studies, folders, strict=True):
        _print_lines([f"{study.name}: {line}" for line in stopping.recorded(folder)])
    if out is not None:
        _write(config, out, comparison_table.text(found, out.suffix))
        print(out)


def _write(config: DictConfig, out: Path, text: str) -> None:
    try:
        write_atomically(out, text)
    except OSError as error:
        raise InputError(
            f"out={configuration.text(config, 'out')}: cannot be written there, {error.strerror}"
        ) from None


def _names(config: DictConfig) -> list[str]:
    names = configuration.plain(config.studies)
    names = [names] if isinstance(names, (str, int, float)) else names
    if names is None:
        raise InputError("studies is missing; hvgym compare STUDY [STUDY ...]")
    if not isinstance(names, list) or not names or any(isinstance(name, (dict, list)) for name in names):
        raise InputError(f"studies={shown(names)}: expected names or folders of studies")
    return [str(name) for name in names]


def _labels(names: list[str], folders: list[Path]) -> list[str]:
    """What studies are called: the names of their folders, or as they were typed where two folders are called alike."""
    called = [folder.name for folder in folders]
    return [own if called.count(own) == 1 else name for name, own in zip(names, called, strict=True)]


def _print(found: "Comparison") -> None:
    """The table, narrow enough for 80 columns, and what must stand beside it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from hvgym.bench.comparison_table import shown_p

    others, (scenarios, seeds) = dict.fromkeys(row.other for row in found.rows), found.largest
    against = f"against {next(iter(others))}" if len(others) == 1 else "against the same agent of the first study"
    size = f"{many(scenarios, 'scenario')} x {many(seeds, 'evaluation seed')}"
    title = f"{against}: {'up to ' * found.uneven}{size}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=title)
    table.add_column("agent", overflow="fold")
    for name in ("goodput\ndifference\n(95 %)", "p\n(Holm)", "P(better)\n(95 %)"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", min_width=13)
    table.add_column("seeds\nneeded", justify="right", no_wrap=True)
    for row in found.rows:
        test, won = row.difference, row.improvement
        table.add_row(
            found.name(row), f"{test.mean:+.4f}\n({test.lo:+.4f}, {test.hi:+.4f})", shown_p(row.p_holm),
            f"{won.value:.2f}\n({won.lo:.2f}, {won.hi:.2f})", row.verdict, row.more,
        )  # fmt: skip
    Console(markup=False).print(table)
    _print_lines(found.notes)


def _print_lines(lines: Sequence[str]) -> None:
    """As wide as the table may be; names are not broken."""
    from rich.console import Console

    width = Console().width
    for line in lines:
        print(textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False))
