"""Live migration of a real guest beside ``hvgym lab migrate=``: what is moved, kept, and what the model says of it.

Rates of writing go from one that a copy hardly notices to one that it never catches up with. What a guest holds beside its hot
set is an input of the model, and is measured by moving one that has written its hot set and rests; nothing else is taken from them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hvgym.bench.fidelity import TRIES, Say
from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically
from hvgym.envs.lab import migration as lab
from hvgym.envs.real.guests.moving import Move, Moved

IDLE = "no writes"

MOVES: Mapping[str, Move] = {
    IDLE: Move(512, 128, 0, 1.0, 64, 300, 60),
    "2,000 writes/s": Move(512, 128, 2000, 1.0, 64, 300, 60),
    "10,000 writes/s": Move(512, 128, 10000, 1.0, 64, 300, 60),
    "20,000 writes/s": Move(512, 128, 20000, 1.0, 64, 300, 60),
}
"""Rows of those that were measured before (docs/validation.md, migrations), in which a page is written each time."""

PACED = 0.98
"""A workload that did less of its touches than this did not write at the rate that the model is given; a guess."""


def file_of(name: str, folder: Path) -> Path:
    """Where a move lies."""
    return folder / "moves" / f"{name.split()[0].replace(',', '')}.json"


def identity(name: str) -> str:
    """Of what is moved."""
    return hashlib.sha256(json.dumps(asdict(MOVES[name])).encode()).hexdigest()[:16]


def read(name: str, folder: Path) -> dict[str, Any] | None:
    """What was kept; None where there is nothing of this move."""
    try:
        found = json.loads(file_of(name, folder).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("identity") == identity(name) else None


def busy(move: Moved) -> str | None:
    """Why nothing can be read from it."""
    if move.pace < PACED:
        return f"the workload did {move.pace:.1%} of its touches (at least {PACED:.0%})"
    return move.crowding.busy


def move_all(folder: Path, mover: Callable[[Move], Moved], say: Say = print) -> list[str]:
    """Move what was not. Returns the names of those that are still missing, or were moved on a busy machine."""
    for name, move in MOVES.items():
        if counts(read(name, folder)):
            continue
        for _ in range(TRIES):
            try:
                got = mover(move)
            except InputError as error:
                say(f"move, {name}: not made: {error}")
                continue
            kept = {"identity": identity(name), "busy": busy(got), **asdict(got)}
            write_atomically(file_of(name, folder), json.dumps(kept) + "\n")
            say(f"move, {name}: {got.result}, {got.total_s:.2f} s, {got.sent_mb:.0f} MB{_but(kept['busy'])}")
            if not kept["busy"]:
                break
    return [name for name in MOVES if not counts(read(name, folder))]


def _but(reason: str | None) -> str:
    return f"; but {reason}" if reason else ""


def counts(found: Mapping[str, Any] | None) -> bool:
    """Whether it was moved while the machine was not busy."""
    return found is not None and not found.get("busy")


def in_model(move: Move, other_mib: float) -> lab.Played:
    """The same on the bench of the model."""
    return lab.play(
        *lab.packaged(
            migrate="precopy",
            guest={"memory_mib": move.memory_mib},
            hot_mib=move.hot_mib,
            touches_per_s=move.touches_per_s,
            write_share=move.write_share,
            bandwidth_mb_per_s=move.bandwidth_mb_per_s,
            downtime_limit_ms=move.downtime_limit_ms,
            other_mib=other_mib,
            duration_s=int(move.longest_s),
        )
    )


def idle_mib(folder: Path) -> float | None:
    """What a guest that rests holds beside its hot set; None where it was not measured."""
    found = read(IDLE, folder)
    return found["pages_mib"] - MOVES[IDLE].hot_mib if found is not None and counts(found) else None


def rows(folder: Path) -> list[list[str]]:
    """Of the page: measured and modelled, side by side; empty where the idle guest was not moved."""
    other_mib = idle_mib(folder)
    if other_mib is None:
        return []
    lines = []
    for name, move in MOVES.items():
        found = read(name, folder)
        if name == IDLE or found is None or not counts(found):
            continue
        played = in_model(move, other_mib)
        sent_mb = played.sent_mib * 2**20 / 1e6
        ends = found["result"] == "done" and played.result == "done"
        cells = [name, found["result"], played.result]
        cells += [f"{found['total_s']:.2f}", f"{played.total_s:.2f}", _off(played.total_s, found["total_s"], ends)]
        cells += [f"{found['sent_mb']:.0f}", f"{sent_mb:.0f}", _off(sent_mb, found["sent_mb"], ends)]
        down = [f"{value:.0f}" if value is not None else "–" for value in (found["downtime_ms"], played.downtime_ms)]
        lines.append([*cells, *(down if ends else ["–", "–"])])
    return lines


def _off(got: float, measured: float, ends: bool) -> str:
    return f"{got / measured - 1.0:+.1%}" if ends else "–"
