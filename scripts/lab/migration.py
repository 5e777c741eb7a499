"""``hvgym lab migrate=precopy|autoconverge|postcopy``: one guest copied to another host; what is played, and what is printed."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.scripts import configuration
from hvgym.scripts.lab.tables import print_lines, write

if TYPE_CHECKING:
    from hvgym.envs.lab.guest import LabGuest
    from hvgym.envs.lab.migration import Migrated, MigrationRow, Played

KEYS = ("other_mib", "balloon_mib", "bandwidth_mb_per_s", "downtime_limit_ms", "postcopy_after_s", "sweep", "values")
"""Keys that only this experiment heeds."""

IGNORED = ("levels", "schedule", "settle_s", "measure_s", "preset")
"""Keys of a guest that is squeezed, which this one is not."""


def check_keys(config: DictConfig) -> None:
    """Raises `InputError` for a key that the chosen experiment would ignore."""
    for override in HydraConfig.get().overrides.task:
        key = override.lstrip("+~").partition("=")[0]
        group = key.partition(".")[0]
        if config.migrate is None and group in KEYS:
            raise InputError(f"{override}: only a migration heeds {key}; give migrate=precopy too, or leave it out")
        if config.migrate is not None and group in IGNORED:
            raise InputError(f"{override}: a migration has no {key}; leave it out, or migrate={config.migrate}")
        if config.migrate is not None and config.sweep is not None and group == _swept(config):
            raise InputError(f"{override}: sweep={config.sweep} sets {key}; give its values as values=[...]")


def _swept(config: DictConfig) -> str:
    """The key that is swept."""
    return {"dirty": "touches_per_s", "bandwidth": "bandwidth_mb_per_s"}.get(str(config.sweep), "")


def run(config: DictConfig, out: Path) -> None:
    """One copy second by second, or one for each value of a sweep."""
    from hvgym.envs.lab import migration as lab

    data = {str(key): configuration.plain(value) for key, value in config.items()}
    guest, experiment = lab.setup(data)
    print(_in_words(guest, experiment))
    if experiment.sweep is None:
        _single(lab.play(guest, experiment), experiment, out)
    else:
        _several(lab.sweep(data, experiment), experiment, out)


def _single(played: "Played", experiment: "Migrated", out: Path) -> None:
    from hvgym.scripts.lab import copies

    lines = [(f"{event.time_s} s", event.words) for event in played.events]
    print_lines(None, ("after", "what happens"), lines, justify=("right", "left"))
    print(f"{played.reason}\n")
    print_lines(None, NAMES, [_line(played)])
    print(LEGEND)
    write(out, [_cells(row) for row in played.rows], copies.one(played), {"summary.json": _json(played.totals())})


def _several(sweep: "Sequence[tuple[float, Played]]", experiment: "Migrated", out: Path) -> None:
    from hvgym.envs.lab.migration import SWEEPS
    from hvgym.scripts.lab import copies

    key = SWEEPS[experiment.sweep or ""][0]
    print_lines(None, (HEADS[key], *NAMES), [(f"{value:g}", *_line(played)) for value, played in sweep])
    print(LEGEND)
    rows = [{key: f"{value:g}", **_cells(row)} for value, played in sweep for row in played.rows]
    totals = [{key: value, **played.totals()} for value, played in sweep]
    write(out, rows, copies.sweep(key, sweep), {"summary.json": _json(totals)})


NAMES = ("result", "total s", "down ms", "MiB", "rounds", "throttle", "progress")
HEADS = {"touches_per_s": "touches/s", "bandwidth_mb_per_s": "MB/s"}
LEGEND = "never: it had not ended after so many seconds. Throttle, at most; progress, mean speed of the guest while it was copied."


def _line(played: "Played") -> tuple[str, ...]:
    ended = played.result == "done"
    return (
        played.result, f"{'' if ended else '> '}{played.total_s:.2f}", f"{played.downtime_ms:.0f}" if ended else "–",
        f"{played.sent_mib:,.0f}", f"{played.rounds}", f"{played.throttle:.0%}", f"{played.progress:.2f}",
    )  # fmt: skip


def _in_words(guest: "LabGuest", experiment: "Migrated") -> str:
    size = guest.guest
    kind = "anonymous memory" if guest.page_kind == "anon" else "page cache"
    touches = "" if experiment.sweep == "dirty" else f"{experiment.touches_per_s:g} touches/s, "
    rate = "" if experiment.sweep == "bandwidth" else f"; {experiment.bandwidth_mb_per_s:g} MB/s"
    balloon = f", balloon {experiment.balloon_mib:g} MiB" if experiment.balloon_mib > 0.0 else ""
    return (
        f"guest of {size.memory_mib:g} MiB: {guest.hot_mib:g} MiB of {kind}, {touches}{guest.write_share:.0%} of touches write; "
        f"{experiment.other_mib:g} MiB of other content{balloon}; {experiment.migrate}{rate}, "
        f"downtime limit {experiment.downtime_limit_ms:g} ms"
    )


def _cells(row: "MigrationRow") -> dict[str, str]:
    """A row as text."""
    return {name: f"{round(value, 6) + 0.0:.12g}" for name, value in dataclasses.asdict(row).items()}


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=1) + "\n").encode()
