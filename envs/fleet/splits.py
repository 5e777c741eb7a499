"""Which part of a history trains, validates and tests: by time, and where VMs are many by whole applications as well.

By time the parts are whole weeks, counted from the end, the last the test. Each part ends `PURGE_S` before the next begins, so that
nothing that a policy remembers reaches over. Five weeks or more: a fifth of the weeks, rounded down, is the test, as many before it
validate, the rest trains. Two to five weeks: the last week is the test, all before it trains and validates, for there is no tuning
on the test. Less than two weeks cannot be split: every part is the whole, and what is found is a replay, no claim about other weeks
(`claim`).

One test part may be an odd week. From five weeks on there are rolling origins: origin 0 is as above, origin 1 the same of the
history without its last test part, and so on. No origin trains or validates on its own test or on what comes after it; the tests of
several are disjoint, but what one tests others may train on.

By group an application's VMs (the table's group, or else VMs whose hourly changes go together) stay in one part.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal

from hvgym.envs.errors import InputError

Split = Literal["train", "validation", "test"]
Span = tuple[int, int]
"""Seconds from the beginning, the second excluded."""

DAY_S, WEEK_S = 86400, 604800

PURGE_S = DAY_S
"""Between parts: a day, more than any policy here looks back."""

MANY_VMS = 60
"""From so many VMs on whole groups are apart, where VMs are drawn."""

SPLITTABLE_WEEKS, THREE_PARTS_WEEKS = 2, 5

ORIGINS, MOST_ORIGINS = 3, 5
"""Played unless told, and at most. Three to five are usual for histories of weeks (a choice)."""

SPLIT_SHARE: dict[Split, float] = {"train": 0.5, "validation": 0.2, "test": 0.3}
"""Of VMs, where groups are apart."""


def spans(length_s: int, origin: int = 0) -> dict[Split, Span]:
    """Parts of a history of so many seconds, of a rolling origin. Raises `InputError` where there is no such origin."""
    weeks, most = length_s // WEEK_S, origins(length_s)
    if not 0 <= origin < most:
        few = f"; {weeks} weeks of history have one, {THREE_PARTS_WEEKS} have {ORIGINS}" if most == 1 else ""
        raise InputError(f"workload.origin={origin}: must be at least 0 and at most {most - 1}{few}")
    if weeks < SPLITTABLE_WEEKS:
        return {"train": (0, length_s), "validation": (0, length_s), "test": (0, length_s)}
    tested_s = _tested_weeks(weeks) * WEEK_S
    test = (length_s - (origin + 1) * tested_s, length_s - origin * tested_s)
    if weeks < THREE_PARTS_WEEKS:
        before = (0, test[0] - PURGE_S)
        return {"train": before, "validation": before, "test": test}
    validation = (test[0] - tested_s, test[0] - PURGE_S)
    return {"train": (0, validation[0] - PURGE_S), "validation": validation, "test": test}


def origins(length_s: int) -> int:
    """How many rolling origins a history has: each has a test, a validation as long, and no less before them to train on."""
    weeks = length_s // WEEK_S
    if weeks < THREE_PARTS_WEEKS:
        return 1
    return min(MOST_ORIGINS, weeks // _tested_weeks(weeks) - 2)


def _tested_weeks(weeks: int) -> int:
    return max(1, weeks // THREE_PARTS_WEEKS)


def claim(length_s: int, origin: int = 0) -> str:
    """What results on the test part say, in a line."""
    weeks = length_s / WEEK_S
    if weeks < SPLITTABLE_WEEKS:
        return f"{weeks:.1f} weeks of history: replay and sensitivity only, no claim about new weeks"
    if weeks < THREE_PARTS_WEEKS:
        return f"{weeks:.1f} weeks of history: the last week is the test, a day apart from the rest, which trains and validates"
    test = spans(length_s, origin)["test"]
    many, before = (test[1] - test[0]) // WEEK_S, (length_s - test[1]) // WEEK_S
    last = "the last week is" if many == 1 else f"the last {many} weeks are"
    last = f"origin {origin}, {last} the test" + (f" but for {before} that come after it" if before else "")
    return f"{weeks:.1f} weeks of history: {last}; training, validation and test lie a day apart, {origins(length_s)} origins"


def fill_splits(names: Sequence[str], groups: Sequence[int]) -> dict[Split, list[int]]:
    """Indices of VMs by part: each group, in the order of a hash of its names, to the part that lacks most VMs; none stays empty.

    names, groups: of each VM.
    """
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)

    def stable_hash(group: list[int]) -> bytes:
        return hashlib.sha256("\n".join(sorted(names[index] for index in group)).encode()).digest()

    splits: dict[Split, list[int]] = {name: [] for name in SPLIT_SHARE}
    for done, together in enumerate(sorted(members.values(), key=stable_hash)):
        empty = [name for name in splits if not splits[name]]
        eligible = empty if len(members) - done <= len(empty) else list(splits)
        neediest = max(eligible, key=lambda name: SPLIT_SHARE[name] * len(names) - len(splits[name]))
        splits[neediest] += together
    return splits
