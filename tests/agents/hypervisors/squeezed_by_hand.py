"""squeezed's passes with dictionaries of domains in place of the compiled arrays, so that tests read as sums."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hvgym.agents.hypervisors import squeezing
from hvgym.agents.hypervisors.squeezing import ABSENT, BALLOONS, MUTE, NOTHING, VM


@dataclass(frozen=True)
class Domain:
    """One VM; KiB. balloons: whether its driver has shown itself; without one all four are the same."""

    minimum: int
    maximum: int
    target: int
    actual: int
    balloons: bool = True


@dataclass(frozen=True)
class Progress:
    """What was last seen of a domain on its way to its target."""

    actual: int
    moved_at_s: float
    stuck: bool = False


@dataclass(frozen=True)
class Pass:
    """One pass: verdict, targets to send, and what the next pass must know."""

    verdict: int = squeezing.ADJUST
    targets: dict[int, int] = field(default_factory=dict)
    progress: Mapping[int, Progress] = field(default_factory=dict)
    inactive: frozenset[int] = frozenset()


def rows_of(domains: Mapping[int, Domain]) -> np.ndarray:
    """The array of domains, each at its number."""
    rows = np.zeros(max(domains, default=-1) + 1, VM)
    rows["kind"], rows["told"] = ABSENT, NOTHING
    for key, vm in domains.items():
        rows[key]["kind"] = BALLOONS if vm.balloons else MUTE
        for name in ("minimum", "maximum", "target", "actual"):
            rows[key][name] = getattr(vm, name)
    return rows


def freeable(domain: Domain) -> int:
    return int(squeezing.freeable(rows_of({0: domain})[0]))


def kept(domain: Domain) -> int:
    return int(squeezing.kept(rows_of({0: domain})[0]))


def proportional(domains: Mapping[int, Domain], free: int, keep_free: int) -> dict[int, int]:
    rows = rows_of(domains)
    rows["active"][list(domains)] = 1
    squeezing.share_out(rows, free, keep_free)
    return {key: int(rows["ideal"][key]) for key in domains}


def watched(past: Progress | None, domain: Domain, now_s: float, stuck_after_s: float = 5.0) -> Progress:
    rows = rows_of({0: domain})
    _remember(rows, {} if past is None else {0: past})
    squeezing.watch(rows[0], now_s, stuck_after_s)
    return _progress(rows, 0)


def iterate(
    past: Pass, domains: Mapping[int, Domain], free: int, keep_free: int, enough: bool, now_s: float,
    stuck_after_s: float = 5.0,
) -> Pass:  # fmt: skip
    rows = rows_of(domains)
    _remember(rows, {key: seen for key, seen in past.progress.items() if key in domains})
    rows["lost"][[key for key in past.inactive if key in domains]] = 1
    verdict = squeezing.iterate(rows, free, keep_free, enough, now_s, stuck_after_s)
    told = {key: int(rows["told"][key]) for key in domains if rows["told"][key] != NOTHING}
    lost = frozenset(key for key in domains if rows["lost"][key])
    return Pass(verdict, told, {key: _progress(rows, key) for key in domains}, lost)


def _remember(rows: np.ndarray, progress: Mapping[int, Progress]) -> None:
    for key, seen in progress.items():
        rows["seen"][key] = 1
        rows["was"][key], rows["moved_at_s"][key], rows["stuck"][key] = seen.actual, seen.moved_at_s, seen.stuck


def _progress(rows: np.ndarray, key: int) -> Progress:
    row = rows[key]
    return Progress(int(row["was"]), float(row["moved_at_s"]), bool(row["stuck"]))
