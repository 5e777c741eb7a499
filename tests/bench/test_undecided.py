"""Own data that do not tell policies apart are said to be undecided, and one VM's part of a comparison is counted by hand."""

import numpy as np
import pytest

from hvgym.bench import statistics, undecided


def scenarios(*names):
    return [
        {"name": name, "workload": {"kind": "history", "level": name.rpartition("-")[2]}} for name in names
    ]  # fmt: skip


LEVELS = scenarios("own-vms-low", "own-vms-mid", "own-vms-high")


def goodput(*levels):
    return np.array(levels)[:, None, None] * np.ones((len(levels), 1, 4))


def test_an_order_that_changes_between_levels_is_undecided():
    found = undecided.lines({"a": goodput(0.9, 0.8, 0.5), "b": goodput(0.8, 0.8, 0.6)}, LEVELS)
    assert found[0] == (
        "undecided by your data, own-vms: a less b in goodput is +0.1000 at low, +0.0000 at mid, -0.1000 at high"
    )
    assert "usable" in found[1]
    assert "PSI" in found[1]


@pytest.mark.parametrize("b", [(0.8, 0.7, 0.4), (0.9, 0.8, 0.4), (0.9005, 0.8, 0.4)])
def test_an_order_that_stays_is_decided(b):
    assert undecided.lines({"a": goodput(0.9, 0.8, 0.5), "b": goodput(*b)}, LEVELS) == []


def test_clairvoyants_and_other_scenarios_do_not_count():
    flipped = {"a": goodput(0.9, 0.8, 0.5), "b": goodput(0.8, 0.8, 0.6)}
    assert undecided.lines({"a": flipped["a"], "reference": flipped["b"]}, LEVELS) == []
    other = [scenario | {"workload": {"kind": "phases", "level": "mid"}} for scenario in LEVELS]
    assert undecided.lines(flipped, other) == []
    assert undecided.lines({name: values[:1] for name, values in flipped.items()}, LEVELS[:1]) == []


def test_many_pairs_are_counted():
    rising, falling = goodput(0.1, 0.5, 0.9), goodput(0.9, 0.5, 0.1)
    agents = {f"a{i}": rising for i in range(3)} | {f"b{i}": falling for i in range(3)}
    found = undecided.lines(agents, LEVELS)
    assert len(found) == 8
    assert found[6] == "undecided by your data: 3 more pairs"


def test_days_are_drawn_whole():
    """Two days of equal windows: a bootstrap over windows would take six alike values for six independent ones."""
    values, days = [0.0] * 3 + [1.0] * 3, [1, 1, 1, 2, 2, 2]
    found = statistics.day_bootstrap(values, days, np.random.default_rng(0))
    assert (found.value, found.lo, found.hi) == (0.5, 0.0, 1.0)
    apart = statistics.day_bootstrap(values, range(6), np.random.default_rng(0))
    assert apart.lo > 0.0
    assert apart.hi < 1.0
    one = statistics.day_bootstrap([1.0, 2.0], [5, 5], np.random.default_rng(0))
    assert (one.lo, one.value, one.hi) == (1.5, 1.5, 1.5)
    again = statistics.day_bootstrap(values, days, np.random.default_rng(0))
    assert again == found
