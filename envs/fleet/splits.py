"""Which part of a history trains, validates and tests: by time where VMs are few, by whole applications where they are many.

By time the parts are whole weeks, counted from the end, the last the test. Each part ends `PURGE_S` before the next begins, so that
nothing that a policy remembers reaches over. Five weeks or more: 60, 20 and 20 %. Two to five weeks: the last week is the test,
all before it trains and validates, for there is no tuning on the test. Less than two weeks cannot be split: every part is the
whole, and what is found is a replay, no claim about other weeks (`claim`).

By group an application's VMs (the table's group, or else VMs whose hourly changes go together) stay in one part.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal

Split = Literal["train", "validation", "test"]
Span = tuple[int, int]
"""Seconds from the beginning, the second excluded."""

DAY_S, WEEK_S = 86400, 604800

PURGE_S = DAY_S
"""Between parts: a day, more than any policy here looks back."""

MANY_VMS = 60
"""From so many VMs on whole groups are apart, where VMs are drawn."""

SPLITTABLE_WEEKS, THREE_PARTS_WEEKS = 2, 5

SPLIT_SHARE: dict[Split, float] = {"train": 0.5, "validation": 0.2, "test": 0.3}
"""Of VMs, where groups are apart."""


def spans(length_s: int) -> dict[Split, Span]:
    """Parts of a history of so many seconds."""
    weeks = length_s // WEEK_S
    if weeks < SPLITTABLE_WEEKS:
        return {"train": (0, length_s), "validation": (0, length_s), "test": (0, length_s)}
    tested = max(1, round(0.2 * weeks))
    test = (length_s - tested * WEEK_S, length_s)
    if weeks < THREE_PARTS_WEEKS:
        before = (0, test[0] - PURGE_S)
        return {"train": before, "validation": before, "test": test}
    validation = (test[0] - tested * WEEK_S, test[0] - PURGE_S)
    return {"train": (0, validation[0] - PURGE_S), "validation": validation, "test": test}


def claim(length_s: int) -> str:
    """What results on the test part say, in a line."""
    weeks = length_s / WEEK_S
    if weeks < SPLITTABLE_WEEKS:
        return f"{weeks:.1f} weeks of history: replay and sensitivity only, no claim about new weeks"
    if weeks < THREE_PARTS_WEEKS:
        return f"{weeks:.1f} weeks of history: the last week is the test, a day apart from the rest, which trains and validates"
    test = (spans(length_s)["test"][1] - spans(length_s)["test"][0]) // WEEK_S
    last = "the last week is" if test == 1 else f"the last {test} weeks are"
    return f"{weeks:.1f} weeks of history: {last} the test; training, validation and test lie a day apart"


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
