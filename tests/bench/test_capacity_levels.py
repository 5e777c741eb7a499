"""Capacities at three levels: the ratio that holds at all of them, and what they leave undecided."""

import json

from hvgym.bench.capacity_levels import together, undecided, write_together
from hvgym.bench.undecided import RECORD


def summaries(**densities):
    """By hand: agents with a density at low, mid and high."""
    found = {}
    for number, level in enumerate(("low", "mid", "high")):
        agents = {
            name: {"density": of_it[number], "density_lo": of_it[number] - 0.1, "density_hi": of_it[number] + 0.1,
                   "shown": f"{of_it[number]:.2f} (…)"}
            for name, of_it in densities.items()
        }  # fmt: skip
        about = {"hypervisor": "kvm", "workload": "history", "rules": "default", "fleets": 2, "slo": 0.01, "kills": 0,
                 "misses": "added", "code": {"hvgym": "x"}, "refused": {}}  # fmt: skip
        found[level] = about | {"scenario": f"own-vms-{level}", "agents": agents}
    return found


def test_the_least_density_counts_with_its_level_and_interval():
    summary = together(summaries(stock=(1.25, 1.3, 1.1), mom=(2.0, 1.5, 1.0)))
    assert list(summary["agents"]) == ["stock", "mom"]
    assert summary["agents"]["stock"] == {
        "density": 1.1, "density_lo": 1.0, "density_hi": 1.1 + 0.1, "shown": "1.10 (…), high", "level": "high",
        "levels": {"low": 1.25, "mid": 1.3, "high": 1.1},
    }  # fmt: skip
    assert summary["scenario"] == "own-vms at low, mid, high"


def test_an_order_that_changes_and_a_ratio_that_differs_are_undecided():
    assert undecided(summaries(stock=(1.25, 1.25, 1.25), mom=(2.0, 1.5, 1.0))) == [
        "undecided by your data: which is better, stock or mom; ratios 1.25 at low, 1.25 at mid, 1.25 at high against 2.00 at low, "
        "1.50 at mid, 1.00 at high",
        "undecided by your data: how far mom may go, 2.00 at low, 1.50 at mid, 1.00 at high; 1.00 holds at all of them",
        RECORD,
    ]


def test_an_order_that_stays_is_decided_although_the_ratios_are_not():
    lines = undecided(summaries(stock=(1.2, 1.1, 0.0), mom=(2.0, 1.5, 1.0)))
    assert len(lines) == 3
    assert lines[0] == (
        "undecided by your data: how far stock may go, 1.20 at low, 1.10 at mid, none at high; none holds at all of them"
    )


def test_what_is_the_same_at_all_levels_is_not_doubted(tmp_path):
    same = summaries(stock=(1.2, 1.2, 1.2), mom=(1.5, 1.5, 1.5), reference=(2.0, 1.0, 1.5))
    assert undecided(same) == []  # the reference sees the future and is no choice
    assert write_together(same, tmp_path)["undecided"] == []
    assert json.loads((tmp_path / "capacity.json").read_text())["agents"]["mom"]["density"] == 1.5
