"""What happens to a guest that is copied, in words: rounds, throttle, post-copy, the stop; and why the copy ends, or does not.

`Rounds` is told of the copy after each second, so what happens carries the second that it happened in; rounds that leave about
the same are one line. `floor_mib` is what pre-copy never gets below (the fixed point of ``model.migration``): what a round leaves
when what was dirtied during the last one takes as long to send.
"""

from dataclasses import dataclass
from typing import Any

from hvgym.envs.events import Event
from hvgym.envs.model import convergence, migration

ALIKE = 0.05
"""Share by which what rounds begin with may differ within one line."""

LINES = 40
"""Most lines of a time line; those that follow are left out, and counted (a guess of what somebody reads)."""

SETTLED = 1e-4
"""Share by which what is found of a fixed point may still change."""

MOST_STEPS = 10_000
"""Rounds of the search for it: each is nearer, and near the border between ending and not they are many."""


def floor_mib(vm: Any, spec: Any, mib_per_s: float) -> float:
    """What a round leaves in the long run, at the guest's present speed and so much sent a second."""
    left = float(migration.content_mib(vm, spec))
    for _ in range(MOST_STEPS):
        dirtied = float(migration.dirtied_mib(vm, spec, left / mib_per_s))
        if abs(dirtied - left) <= SETTLED * left:
            break
        left = dirtied
    return left


@dataclass
class _Alike:
    """Rounds that begin with about the same."""

    time_s: float
    first: int
    last: int
    mib: float
    falling: bool  # several within a second, of which mib is the last

    @property
    def words(self) -> str:
        which = f"round {self.first}" if self.first == self.last else f"rounds {self.first} to {self.last}"
        about = "" if self.first == self.last else "down to " if self.falling else "about "
        return f"{which}: {about}{_mib(self.mib)} to send, dirtied meanwhile"


class Rounds:
    """The time line of one copy. mib_per_s: what it may send; limit_ms: what the last round may take."""

    def __init__(self, copy: Any, mib_per_s: float, limit_ms: float) -> None:
        self._mib_per_s, self._limit_ms = mib_per_s, limit_ms
        self._round, self._phase, self._throttle = 1, int(copy["phase"]), 0.0
        self._last_mib = float(copy["round_mib"])
        said = f"round 1: {_mib(self._last_mib)} to send, at {mib_per_s:.0f} MiB/s"
        self._found: list[Event | _Alike] = [Event(0, said, "")]
        self.marks = list[tuple[float, str]]()

    def note(self, copy: Any) -> None:
        """A second has passed, or the copy has ended in it."""
        now_s = float(copy["elapsed_s"])
        stopped = copy["phase"] == convergence.STOPPED
        if copy["round"] > self._round and not (stopped and copy["round"] == self._round + 1):
            self._add_round(now_s, int(copy["round"]) - stopped, float(copy["round_mib"]))
        self._round = int(copy["round"])
        if copy["throttle"] > self._throttle:
            self._say(now_s, f"vCPUs are held back for {copy['throttle']:.0%} of their time, for too much is dirtied")
        self._throttle = max(self._throttle, float(copy["throttle"]))
        if copy["phase"] != self._phase:
            self._phase = int(copy["phase"])
            self._say_phase(now_s, float(copy["round_mib"]))
        if copy["result"] == convergence.DONE:
            self._say(now_s, f"done: the guest stood still for {1e3 * copy['downtime_s']:.0f} ms")

    def _say_phase(self, now_s: float, mib: float) -> None:
        if self._phase == convergence.STOPPED:
            self.marks.append((now_s, "stands still"))
            self._say(now_s, f"{_mib(mib)} are left, within the {_mib(self._limit_mib)} that {self._limit_ms:g} ms let pass: "
                             "the guest stands still")  # fmt: skip
        elif self._phase == convergence.POSTCOPY:
            self.marks.append((now_s, "post-copy"))
            self._say(
                now_s, "post-copy: the guest runs at the target; a touch of a page that is missing there waits for it"
            )

    @property
    def _limit_mib(self) -> float:
        return 1e-3 * self._limit_ms * self._mib_per_s

    def _add_round(self, now_s: float, last: int, mib: float) -> None:
        latest = self._found[-1]
        if isinstance(latest, _Alike) and abs(mib - latest.mib) <= ALIKE * latest.mib:
            latest.last, latest.falling = last, False
            return
        falling = last > self._round + 1 and mib < self._last_mib
        self._last_mib = mib
        self._found.append(_Alike(now_s, self._round + 1, last, mib, falling))

    def _say(self, now_s: float, words: str) -> None:
        self._found.append(Event(round(now_s), words, ""))

    def events(self) -> tuple[Event, ...]:
        """The time line, the middle of a long one left out."""
        events = [one if isinstance(one, Event) else Event(round(one.time_s), one.words, "") for one in self._found]
        if len(events) <= LINES:
            return tuple(events)
        out = len(events) - LINES + 1
        half = LINES // 2
        return (*events[:half], Event(events[half].time_s, f"({out} more like these)", ""), *events[half + out :])


def reason(
    result: str, kind: str, floor: float, throttled_floor: float, mib_per_s: float, limit_ms: float, faults: float
) -> str:
    """Why a copy ends, or does not. floor, throttled_floor: `floor_mib` at the guest's own speed, and at that of its last
    second."""
    passes = 1e-3 * limit_ms * mib_per_s
    if kind == "postcopy" and faults > 0.0:
        return f"It ends however much the guest writes, for it runs at the target already; {faults:,.0f} touches waited for a page."
    own = f"At its own speed the guest dirties {_mib(floor)} while as much is sent"
    if result == "done" and floor <= passes:
        shrink = f"towards {_mib(floor)}" if floor >= 1.0 else "to nothing"
        return (
            f"It ends by itself: rounds would shrink {shrink}, and {limit_ms:g} ms of downtime let {_mib(passes)} pass."
        )
    if result == "done":
        return f"{own}, more than the {_mib(passes)} that {limit_ms:g} ms let pass; held back, it dirties less, so the copy ends."
    needed = throttled_floor / mib_per_s
    return (
        f"{own}, and {limit_ms:g} ms of downtime let {_mib(passes)} pass: rounds get no smaller. A downtime limit above "
        f"{1e3 * needed:,.0f} ms would end it, or migrate=autoconverge, migrate=postcopy, a faster link."
    )


def _mib(size: float) -> str:
    """In words."""
    return f"{size:,.0f} MiB" if size >= 10.0 else f"{size:.1f} MiB"
