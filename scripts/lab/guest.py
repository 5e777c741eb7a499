"""``hvgym lab``: one guest, squeezed level by level or by a schedule, or as the measured guests were; what is played, and
what is printed."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hvgym.envs.errors import InputError, nearest
from hvgym.envs.schema import number
from hvgym.scripts import configuration
from hvgym.scripts.lab.tables import print_lines, write

if TYPE_CHECKING:
    from hvgym.envs.lab.bench import Measured, Row
    from hvgym.envs.lab.guest import LabGuest

PRESETS = ("ground-truth",)

FREE_BESIDE_PRESET = ("preset", "out", "runs", "machine", "zram_stored_share", "settle_s", "measure_s")
"""Keys that a preset leaves to the command; the measurements fix the others."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What is done to the guest: levels or a schedule."""

    levels: tuple[float, ...] | None = number(above=0)
    schedule: tuple[tuple[float, float], ...] | None = number(least=0)
    duration_s: int | None = number(least=1)

    def __post_init__(self) -> None:
        if self.levels is not None and self.schedule is not None:
            raise InputError(f"levels={list(self.levels)}: schedule is given too; give one of levels, schedule")
        if self.duration_s is not None and self.schedule is None:
            raise InputError(f"duration_s={self.duration_s}: only a schedule has a duration; give schedule too")


def run(config: DictConfig, out: Path) -> None:
    """The experiment of the command."""
    from hvgym.envs.lab import bench as lab
    from hvgym.envs.lab.guest import checked
    from hvgym.scripts.lab import pictures

    setup = _setup(config, {})
    experiment = checked(Experiment, _part(config, Experiment))
    if experiment.schedule is not None:
        rows = lab.transient(setup, experiment.schedule, experiment.duration_s)
        picture = pictures.schedule(rows)
        print(_in_words(setup))
        _print_steps(rows, experiment.schedule)
    else:
        levels = lab.default_levels(setup) if experiment.levels is None else experiment.levels
        rows = lab.steady(setup, levels)
        picture = pictures.levels(rows)
        print(_in_words(setup))
        _print_levels(rows)
    write(out, [_cells(row) for row in rows], picture)


def compare(config: DictConfig, out: Path) -> None:
    """Every set-up that was measured, beside what was measured."""
    from hvgym.envs.lab import bench as lab
    from hvgym.scripts.lab import pictures

    _check_preset(config)
    rows = {name: lab.steady(_setup(config, truth.changes), lab.LEVELS) for name, truth in lab.GROUND_TRUTH.items()}
    _print_comparison(rows, lab.GROUND_TRUTH)
    write(
        out,
        [{"setup": name} | _cells(row) for name, played in rows.items() for row in played],
        pictures.comparison(rows, lab.GROUND_TRUTH),
    )


def _check_preset(config: DictConfig) -> None:
    if config.preset not in PRESETS:
        raise InputError(
            f"preset={config.preset!r}: choose one of {', '.join(PRESETS)}{nearest(str(config.preset), PRESETS)}"
        )
    for override in HydraConfig.get().overrides.task:
        key = override.lstrip("+~").partition("=")[0]
        if key.partition(".")[0] not in FREE_BESIDE_PRESET:
            raise InputError(f"{override}: fixed by preset={config.preset}; leave {key} out, or the preset")


def _setup(config: DictConfig, changes: Mapping[str, Any]) -> "LabGuest":
    from hvgym.envs.lab.guest import LabGuest, merged

    return LabGuest.from_dict(merged(_part(config, LabGuest), changes))


def _part(config: DictConfig, cls: type[Any]) -> dict[str, Any]:
    """The keys of a dataclass."""
    return {field.name: configuration.plain(config[field.name]) for field in dataclasses.fields(cls)}


def _cells(row: "Row") -> dict[str, str]:
    """A row as text; an empty level belongs to a schedule."""
    cells = {name: f"{round(value, 6) + 0.0:.12g}" for name, value in dataclasses.asdict(row).items()}
    return cells | ({"level": ""} if math.isnan(row.level) else {})


def _in_words(setup: "LabGuest") -> str:
    guest = setup.guest
    swap = {"none": "no swap", "disk": "swap on disk", "zram": f"zram storing {setup.zram_stored_share:g}"}[guest.swap]
    tiers = ", ".join(
        f"{share:.3g} every {1.0 / rate:.3g} s" for share, rate in zip(*setup.pages, strict=True) if share > 0.0
    )
    kind = "anonymous memory" if setup.page_kind == "anon" else "page cache"
    return f"guest of {guest.memory_mib:g} MiB, {swap}; {setup.hot_mib:g} MiB of {kind}, {setup.pattern}: {tiers}"


def _print_levels(rows: Sequence["Row"]) -> None:
    names = ("level", "target", "actual", "miss", "faults", "in", "out", "avail", "swap", "PSI", "OOM")
    lines = [
        (
            f"{row.level:g}", f"{row.target_mib:.0f}", f"{row.actual_mib:.0f}", _share(row.miss),
            f"{row.major_faults_per_s:.0f}", f"{row.swap_in_pages_per_s:.0f}", f"{row.swap_out_pages_per_s:.0f}",
            f"{row.available_mib:.0f}", f"{row.swap_used_mib:.0f}", f"{row.psi_some10:.1f}", f"{row.oom_killed or ''}",
        )
        for row in rows
    ]  # fmt: skip
    print_lines(None, names, lines)
    print("Memory in MiB; faults, in and out, pages per second; avail, MemAvailable; PSI, some avg10 in %; OOM, kills.")


def _print_steps(rows: Sequence["Row"], schedule: Sequence[tuple[float, float]]) -> None:
    """A line per target: when it was reached, and what it cost until the next."""
    names = ("from s", "target", "reached after s", "actual", "worst miss", "miss at end", "max PSI", "OOM")
    ends = [*(int(time_s) for time_s, _ in schedule[1:]), len(rows)]
    lines = []
    for (start, target), end in zip(schedule, ends, strict=True):
        step = rows[int(start) : end]
        reached = next((f"{row.t_s - start:.0f}" for row in step if abs(row.actual_mib - target) < 0.5), "never")
        misses = [row.miss for row in step if not math.isnan(row.miss)]
        lines.append((
            f"{start:g}", f"{target:g}", reached, f"{step[-1].actual_mib:.0f}", _share(max(misses, default=math.nan)),
            _share(step[-1].miss), f"{max(row.psi_some10 for row in step):.1f}", f"{step[-1].oom_killed or ''}",
        ))  # fmt: skip
    print_lines(None, names, lines)
    print("MiB; PSI, some avg10 in %; OOM, kills so far.")


def _share(miss: float) -> str:
    return "–" if math.isnan(miss) else f"{miss:.3f}"


def _print_comparison(played: Mapping[str, Sequence["Row"]], truths: Mapping[str, "Measured"]) -> None:
    from hvgym.envs.lab.bench import LEVELS, mean_error

    lines = []
    for i, level in enumerate(LEVELS):
        both = ((truths[name].miss[i], _miss(rows[i])) for name, rows in played.items())
        lines.append([f"{level:g}", *(_cell(miss) for pair in both for miss in pair)])
    errors = (("", f"{mean_error(rows, truths[name]):.3f}") for name, rows in played.items())
    lines.append(["error", *(cell for pair in errors for cell in pair)])
    words = [name.replace("/", "\n").replace("uniform", "uni-\nform").split("\n") for name in played]
    most = max(map(len, words))
    heads = (("\n" * (most - len(name)) + "\n".join([*name, "real"]), "\n" * most + "model") for name in words)
    names = ("\n" * most + "level", *(head for pair in heads for head in pair))
    print_lines("Share of touches that miss: measured on real guests, and of the model", names, lines)
    print("Error: mean absolute error over levels up to 1 without an OOM kill; sampling error of a cell 0.003.")


def _miss(row: "Row") -> float | None:
    return None if row.oom_killed else row.miss


def _cell(miss: float | None) -> str:
    return "OOM" if miss is None else f"{miss:.3f}"
