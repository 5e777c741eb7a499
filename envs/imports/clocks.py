"""When rows were taken: the unit of times, the step between rows, hours in which nobody was measured, and local time sold as UTC.

Units of times are told by their size (values overrule any header): seconds since 1970 are 1e9 to 2.2e9 until 2039, milliseconds a
thousand times that, and so on. Times under 1e8 count from a start of their own; of these the unit is that in which the step is a
usual one. Where seconds would be a second apart, or an hour in all, minutes, hours and days are as good, and nothing is guessed.
Daylight saving leaves a missing and a doubled hour in local time, by which it is told, on the days of `PUT_FORWARD`. A daily
profile that shifts by an hour is no sign of it: what people do follows local time, so it shifts in UTC too.
"""

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports.spool import Seen, Spool

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]

PER_SECOND: Mapping[str, float] = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}

UNITS: Mapping[str, float] = {**PER_SECOND, "min": 1 / 60, "h": 1 / 3600, "d": 1 / 86_400}
"""Minutes, hours and days only from a start of their own: exports number the rows of simulators so."""

SINCE_1970 = (1e9, 2.2e9)
"""Seconds, September 2001 to September 2039."""

RELATIVE = 1e8
"""Seconds; three years from a start of its own."""

USUAL_S = (
    1,
    2,
    5,
    10,
    15,
    20,
    30,
    60,
    120,
    180,
    300,
    600,
    900,
    1200,
    1800,
    3600,
    7200,
    10800,
    14400,
    21600,
    43200,
    86400,
)
"""Steps between rows."""

FAST_S, SHORT_S = 5.0, 3600.0
"""Rows that follow each other faster, and a history that is shorter, are none of seconds if another unit will do (guesses)."""

NEAR = 0.05
"""Share by which a step may miss a usual one."""

DAY_S = 86_400

MOST_SLOTS = 2**24
"""Of the whole history, for counting who is there."""

PUT_FORWARD = (
    "Europe/London", "Europe/Berlin", "Europe/Helsinki", "America/New_York", "America/St_Johns", "America/Sao_Paulo",
    "America/Santiago", "Australia/Sydney", "Pacific/Auckland", "Asia/Jerusalem",
)  # fmt: skip
"""Zones whose clocks are put forward and back by an hour, one for each rule: nearly all others do so at the same local time. The
data of zones knows the day of each year."""

HOUR_S, MOST_LATE_S = 3600.0, 600.0
"""What clocks are put forward by, and how far a missing hour may be from it, where rows are no nearer to each other (a guess)."""

OUTAGE_SHARE, OUTAGE_VMS, OUTAGE_STEPS = 0.5, 5, 3
"""Where fewer than this share of so many VMs or more are there for longer than so many steps, the collector was down (a guess)."""


@dataclass(frozen=True)
class Clock:
    """How times are read. `unit` of `UNITS`; `relative`: since a start of their own; `evidence`: why, in words; `step_s`: the
    most frequent step between rows of a VM; `start_s`, `end_s`: of all rows; `outages`: ``[interval, (start_s, end_s)]``."""

    unit: str
    relative: bool
    evidence: str
    step_s: float
    start_s: float
    end_s: float
    outages: Array
    steps: Mapping[float, float]

    @property
    def margin_s(self) -> float:
        """How far from the ends of the history a VM has to come or go to be seen coming or going."""
        return max(3 * self.step_s, 3600.0)


def clock_of(spool: Spool, said: str | None) -> Clock:
    """Of all rows. `said`: the unit, by the user. Raises `InputError` where no reading or more than one passes."""
    times = spool.seen["time"]
    steps = _steps(spool)
    unit, relative, evidence = _unit(times, steps, said, spool.seen.get("interval_s"))
    scale = UNITS[unit]
    start, end = times.least / scale, times.most / scale
    if not relative and end > time.time() + DAY_S:
        raise InputError(
            f"time: read as {unit} the last row is of {day(end)}, which is yet to come; say units={{time: …}}"
        )
    in_s = {step / scale: share for step, share in steps.items()}
    step_s = _step(in_s, end - start)
    there, living, slot_s = _presence(spool, scale, start, end, step_s)
    if not relative:
        _check_daylight_saving(_longer((living >= 1) & (there == 0), 0) * slot_s + start, slot_s)
    missing = (living >= OUTAGE_VMS) & (there < OUTAGE_SHARE * living)
    outages = _longer(missing, OUTAGE_STEPS) * slot_s + start
    return Clock(unit, relative, evidence, step_s, start, end, outages, in_s)


def day(seconds: float) -> str:
    """A time for people."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g} s"


def _unit(
    times: Seen, steps: Mapping[float, float], said: str | None, interval_s: Seen | None
) -> tuple[str, bool, str]:
    """Also whether it counts from a start of its own, and why. `interval_s`: that rows say of themselves."""
    if said is not None:
        if said not in UNITS:
            raise InputError(f"units: time={shown(said)}: choose one of {', '.join(UNITS)}")
        return said, times.most / UNITS[said] < RELATIVE, "said by units={time: …}"
    least, most = SINCE_1970
    for unit, scale in PER_SECOND.items():
        if least <= times.least / scale and times.most / scale <= most:
            return unit, False, f"{day(times.least / scale)} to {day(times.most / scale)} read as {unit}"
    step = _usual(steps)
    passing = _from_a_start(times, step, interval_s)
    if times.least >= 0 and len(passing) == 1:
        return passing[0], True, f"from a start of its own; only in {passing[0]} is the step of {step:g} a usual one"
    if times.least >= 0 and passing:
        length = times.most - times.least
        readings = " or ".join(
            f"as {unit} (every {step / UNITS[unit]:g} s, {length / UNITS[unit] / DAY_S:.3g} days in all)"
            for unit in passing
        )
        raise InputError(
            f"time: {times.least:.12g} to {times.most:.12g} every {step:g} from a start of its own can be read {readings}; say "
            f"units={{time: {passing[0]}}}, or {', '.join(passing[1:])}; if it numbers the rows write seconds"
        )
    readings = " or ".join(
        f"as {unit} {day(times.least / s)} to {day(times.most / s)}" for unit, s in PER_SECOND.items()
    )
    raise InputError(
        f"time: {times.least:.12g} to {times.most:.12g} every {step:g} can be read {readings}; "
        f"{'more than one' if passing else 'none'} of these is sound: are units mixed? say units={{time: s}}, or ms, us, ns"
    )


def _from_a_start(times: Seen, step: float, interval_s: Seen | None) -> list[str]:
    """Units in which times from a start of their own are sound. Seconds that monitoring would not have are one of several."""
    passing = [unit for unit, scale in UNITS.items() if times.most / scale < RELATIVE and _is_usual(step / scale)]
    finer = [unit for unit in passing if unit in PER_SECOND]
    odd = step < FAST_S * (1 - NEAR) or times.most - times.least < SHORT_S
    told = interval_s is not None and interval_s.least <= step * (1 + NEAR) and interval_s.most >= step * (1 - NEAR)
    return passing if not finer or (finer == ["s"] and odd and not told) else finer


def _is_usual(step_s: float) -> bool:
    return any(abs(step_s - usual) <= NEAR * usual for usual in USUAL_S)


def _steps(spool: Spool) -> dict[float, float]:
    """Steps between rows of a VM in the file's unit, rounded to three digits, and the share of each; the most frequent first."""
    counts = dict[float, int]()
    for number in range(spool.count):
        frame = spool.partition(number, ("vm", "agg", "time") if "agg" in spool.seen else ("vm", "time"))
        if frame is None:
            continue
        steps = rounded(_differences(frame))
        for value, count in zip(*np.unique(steps, return_counts=True), strict=True):
            counts[float(value)] = counts.get(float(value), 0) + int(count)
    total = sum(counts.values())
    return {step: count / total for step, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))}


def rounded(values: Array) -> Array:
    """To three digits."""
    with np.errstate(divide="ignore"):
        scale = 10.0 ** (np.floor(np.log10(np.maximum(values, 1e-12))) - 2)
    return np.round(np.round(values / scale) * scale, 9)


def _differences(frame: "pd.DataFrame") -> Array:
    """Between one row of a VM and the next, where time passes."""
    codes, times = frame["vm"].cat.codes.to_numpy(), frame["time"].to_numpy()
    order = np.lexsort((times, codes))
    codes, times = codes[order], times[order]
    steps = np.diff(times)[codes[1:] == codes[:-1]]
    return steps[steps > 0]


def _usual(steps: Mapping[float, float]) -> float:
    return next(iter(steps), 0.0)


def _step(steps: Mapping[float, float], length_s: float) -> float:
    """The most frequent one. Raises `InputError` where it is no step between measurements."""
    if not steps:
        raise InputError("time: no VM has two rows at different times; a history is needed")
    step = _usual(steps)
    if not 1 - NEAR <= step <= (1 + NEAR) * DAY_S:
        raise InputError(
            f"time: rows of a VM are {step:g} s apart, which no monitoring does (1 s to a day); is time in another unit? "
            f"say units={{time: ms}}"
        )
    return step


Counts = npt.NDArray[np.int64]


def _presence(spool: Spool, scale: float, start: float, end: float, step_s: float) -> tuple[Counts, Counts, float]:
    """By slot: VMs that are there, VMs that are there before and after; the length of a slot in seconds."""
    slot_s = max(step_s, (end - start) / MOST_SLOTS, 1.0)
    count = int((end - start) / slot_s) + 2
    there, living = np.zeros(count, np.int64), np.zeros(count + 1, np.int64)
    for number in range(spool.count):
        frame = spool.partition(number, ("vm", "time"))
        if frame is None:
            continue
        codes = frame["vm"].cat.codes.to_numpy(np.int64)
        slots = ((frame["time"].to_numpy() / scale - start) / slot_s).astype(np.int64)
        seen = np.unique(codes * count + slots)
        vms, slots = seen // count, seen % count
        there += np.bincount(slots, minlength=count)
        first = np.flatnonzero(np.r_[True, vms[1:] != vms[:-1]])
        last = np.r_[first[1:], len(vms)] - 1
        np.add.at(living, slots[first], 1)
        np.add.at(living, slots[last] + 1, -1)
    return there, np.cumsum(living)[:-1], slot_s


def _longer(flags: npt.NDArray[np.bool_], least: int) -> Array:
    """Runs of True that are longer than so many: ``[run, (first, behind the last)]``."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(np.int8)))
    runs = edges.reshape(-1, 2).astype(np.float64)
    return runs[runs[:, 1] - runs[:, 0] > least]


def _check_daylight_saving(missing: Array, slot_s: float) -> None:
    """An hour in which nobody was there, and which clocks somewhere skip."""
    for start, end in missing[is_an_hour(missing[:, 1] - missing[:, 0], slot_s)]:
        if is_skipped(0.5 * (start + end)):
            raise InputError(_local(datetime.fromtimestamp(start, UTC)))


def is_an_hour(missing_s: Array, step_s: float) -> npt.NDArray[np.bool_]:
    """Whether rows are missing for one hour, but for what rows that come late or early make of it."""
    return np.asarray(np.abs(missing_s - HOUR_S) <= min(step_s, MOST_LATE_S))


def is_skipped(local_s: float) -> bool:
    """Whether the clocks of one of `PUT_FORWARD` never show this local time, in seconds since 1970."""
    local = datetime.fromtimestamp(local_s, UTC).replace(tzinfo=None)
    return any(
        local.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local for zone in _zones()
    )


def _is_repeated(local_s: float) -> bool:
    local = datetime.fromtimestamp(local_s, UTC).replace(tzinfo=None)
    apart = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for zone in _zones() for fold in (0, 1))
    return any(second > first for first, second in zip(apart, apart, strict=True))


@functools.cache
def _zones() -> tuple[ZoneInfo, ...]:
    try:
        return tuple(ZoneInfo(name) for name in PUT_FORWARD)
    except ZoneInfoNotFoundError as error:
        raise InputError(
            "time: an hour is missing or doubled, and this machine has no data of time zones to tell whether clocks were changed; "
            "pip install tzdata"
        ) from error


def _local(when: datetime) -> str:
    return (
        f"time: the hour from {when:%Y-%m-%d %H:%M} is missing or doubled, as in local time when clocks are put forward or back; "
        f"say the zone of the files, as in zone=Europe/Berlin"
    )


def check_doubled(doubled: Mapping[int, int], vms: int) -> None:
    """Raise `InputError` where rows are doubled in one hour that clocks somewhere repeat. `doubled`: by hour since 1970, VMs that
    have two different rows of one time; `vms`: of how many in all."""
    for hour, count in doubled.items():
        if _is_repeated(hour * 3600 + 1800.0) and 2 * count >= vms:
            raise InputError(_local(datetime.fromtimestamp(hour * 3600, UTC)))
