"""Ten policies on three real guests against the same policies on the model (``rank.py``; docs/validation.md has the table)."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from hvgym.envs.scenario import load
from hvgym.envs.simulator import Simulator

sys.path.insert(0, str(Path(__file__).resolve().parent))
try:
    rank = importlib.import_module("rank")
finally:
    sys.path.pop(0)


SHORT_TAU = {"progress": 0.035, "misses": 0.0}
"""Three pairs of 45 are in another order, by .003, .001 and .008 in the model and by .014, .004 and .005 in the measurement, one
run of which differs from the next by .02. Two of the three the second measurement has as the model does (`rank.AGAIN`)."""


@pytest.fixture(scope="module")
def runs():
    return rank.play_all()


@pytest.mark.parametrize("what", ["progress", "misses"])
def test_the_model_ranks_policies_as_real_guests_do(runs, what):
    agreed = rank.agreement(runs, what)
    assert agreed.tau >= rank.WANTED_TAU - SHORT_TAU[what], rank.table(runs)
    assert agreed.near >= rank.WANTED_NEAR[what], rank.table(runs)


def test_the_model_has_all_policies_in_order_that_the_measurement_tells_apart(runs):
    alike, pairs = rank.decided(runs, "progress")
    assert alike == pairs > 35


def test_where_guests_were_measured_twice_the_model_is_near_to_the_second(runs):
    for i, what in enumerate(rank.WANTED_NEAR):
        got = dict(zip(rank.REAL, rank.means(runs, what), strict=True))
        again = {name: pair[i] for name, pair in rank.AGAIN.items()}
        assert {name: got[name] for name in again} == pytest.approx(again, abs=rank.NEAR)


def test_a_real_episode_is_counted_by_touches(tmp_path):
    """One VM of three works a half as long as the burst asks for 220 MiB, from 40 to 90 s; 60 MiB else."""
    seconds = np.ones((120, 3))
    seconds[40:90, 2] = 0.5
    path = tmp_path / "episode.json"
    path.write_text(json.dumps({"seconds": seconds.tolist(), "faults": {"giant": 6000, "steady": 0, "burst": 0}}))
    done = (60 * 70 + 0.5 * 220 * 50) / (60 * 70 + 220 * 50)
    assert f"progress {(2 + done) / 3:.3f} by touches, {(2 + 95 / 120) / 3:.3f} by seconds, misses" in rank.by_touches(
        path
    )
    assert rank.by_touches(path).endswith(f"misses {6000 / (24 * 256 / 12.3 * 120) / 3:.3f}")


def test_every_policy_moved_what_it_should(runs):
    """The comparison is one of policies: no two played alike, and nothing was killed."""
    last = {name: run.vms[-1] for name, run in runs.items()}
    assert all((rows["oom_kills"] == 0.0).all() for rows in last.values())
    assert len({rows["balloon_mib"].tobytes() for rows in last.values()}) == len(runs)
    assert (last["static"]["balloon_mib"] == 0.0).all()
    sizes = 120.0 + 0.15 * (np.array([512.0, 384.0, 384.0]) - 120.0)
    assert np.array([512.0, 384.0, 384.0]) - last["best_constant"]["balloon_mib"] == pytest.approx(sizes, abs=0.1)


def test_the_set_up_begins_at_the_division_that_the_proportional_policy_makes(runs):
    """0.95 x 802 - 3 x 58 = 587.9 MiB for 1,280 configured."""
    first = runs["proportional"].vms[0]["balloon_mib"]
    assert np.array([512.0, 384.0, 384.0]) - first == pytest.approx(587.9 / 1280 * np.array([512, 384, 384]), abs=0.05)
    assert runs["proportional"].vms[-1]["balloon_mib"] == pytest.approx(first, abs=0.05)


def test_the_clairvoyant_gives_hot_sets_and_kernels_and_divides_what_is_short():
    scenario = load("real-guests")
    sim, policy = Simulator(scenario), rank.HotFirst(scenario)
    sim.reset([0])
    calm = policy.decide(sim.hidden()).memory_mib[0]
    watermark = 0.0112 * 384
    assert calm == pytest.approx([120.0, 150 + 68 + watermark, 60 + 68 + watermark])
    sim.advance(40)
    burst = policy.decide(sim.hidden()).memory_mib[0]
    free = sim.host_specs["min_free_mib"][0, 0]
    assert burst.sum() == pytest.approx(802.0 - 3 * 58.0 - free)
    taken = np.array([150.0, 220.0]) - (burst[1:] - 68 - watermark)
    assert taken[0] / taken[1] == pytest.approx(150 / 220)
    assert burst[0] == 120.0


def test_tau_counts_pairs():
    """Five concordant and one discordant pair of six: (5 - 1) / 6; ties of one ranking leave the square root of its pairs."""
    assert rank.kendall([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    assert rank.kendall([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert rank.kendall([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / np.sqrt(2 * 3))


def test_the_interval_is_that_of_the_published_comparison():
    """.82 [.55, 1] for the figures that an older model gave for these policies."""
    older = [0.984, 0.915, 0.967, 0.917, 0.844, 0.829, 0.771, 0.789, 0.729, 0.738]
    measured = [real.progress for real in rank.REAL.values()]
    assert rank.kendall(measured, older) == pytest.approx(37 / 45)
    assert rank.interval(measured, older) == pytest.approx((0.55, 1.0), abs=0.01)


def test_a_listing_adds_up_to_the_run(runs):
    """Seconds of progress in steps of 10 s are the progress of the episode."""
    lines = rank.listing("proxmox", load("real-guests"))
    steps = [float(line.split()[6]) for line in lines if line[:4].strip().isdigit()]
    for v in range(3):
        assert np.mean(steps[12 * v : 12 * v + 12]) == pytest.approx(runs["proxmox"].by_second[v], abs=1e-3)


def test_progress_counts_touches_and_by_second_seconds(runs):
    """The burst asks for 60 MiB in 16 s, and in 50 of 120 s for 220, where it does less: touches make it less than seconds do."""
    asked = rank.asked_touches(load("real-guests"))[:, 2]
    assert asked[0] == pytest.approx(60 * 256 / 16, rel=1e-3)
    assert asked[60] == pytest.approx(220 * 256 / 16, rel=1e-3)
    run = runs["proportional"]
    assert run.progress[1] == pytest.approx(
        run.by_second[1], abs=1e-3
    )  # the steady VM asks for the same in every second
    lost = 1.0 - run.by_second[2]  # in the burst, all but some
    assert 1.0 - run.progress[2] == pytest.approx(lost * asked[60] / asked.mean(), rel=0.1)
