"""Chunks by marginal utility: by hand, and against the best chunks there are."""

import itertools
import math

import numpy as np
import pytest

from hvgym.agents.policy import make_policy
from hvgym.agents.working_sets.greedy import Greedy, Guest, Law, allocate, gain_of, loss_of, spare_mib, value_per_s
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

UNDECLARED = {"declaration": None}
"""What a YAML declares is no argument of the class."""

LAW = Law()
SWAPPING = Guest(500.0, 4000.0, 1000.0, 10.0, 8.0)
ROOMY = Guest(500.0, 4000.0, 3000.0, 1500.0, 0.0)


def test_spare_memory_is_what_is_available_beyond_a_reserve_of_5_percent():
    assert spare_mib(ROOMY, 3000.0, LAW) == 1300.0
    assert spare_mib(ROOMY, 1700.0, LAW) == 0.0
    assert spare_mib(SWAPPING, 1000.0, LAW) == -190.0


def test_the_value_of_a_mib_by_hand():
    """At its size 0.5 x 8 / 1000; at four times the size an eighth of that, if it still lacked its reserve."""
    assert value_per_s(SWAPPING, 1000.0, LAW) == pytest.approx(0.004)
    assert value_per_s(SWAPPING, 1189.0, LAW) == pytest.approx(0.004 * (1000 / 1189) ** 1.5)
    assert value_per_s(SWAPPING, 1190.0, LAW) == 0.0
    assert value_per_s(SWAPPING, 250.0, LAW) == pytest.approx(0.032)


def test_a_guest_that_does_not_swap_loses_at_the_least_rate_once_its_spare_memory_is_gone():
    assert value_per_s(ROOMY, 1700.0, LAW) == 0.0
    assert value_per_s(ROOMY, 1500.0, LAW) == pytest.approx(0.5 * 0.1 / 3000 * 2**1.5)


def test_a_chunk_has_no_price_beyond_the_bounds():
    assert gain_of(SWAPPING, 3900.0, 100.0, Law(reserve_share=1.0)) > 0.0
    assert gain_of(SWAPPING, 3901.0, 100.0, Law(reserve_share=1.0)) == 0.0
    assert loss_of(SWAPPING, 600.0, 100.0, LAW)[0] == pytest.approx(value_per_s(SWAPPING, 500.0, LAW))
    assert loss_of(SWAPPING, 599.0, 100.0, LAW)[0] == math.inf
    assert loss_of(Guest(0.0, 400.0, 100.0, 0.0, 0.0), 100.0, 100.0, LAW)[0] == math.inf


def test_what_the_host_has_left_goes_to_who_gains_and_no_further_than_the_reserve():
    """190 MiB short of its reserve: two chunks of 100."""
    assert allocate([SWAPPING, ROOMY], 6000.0, 100.0, LAW) == [1200.0, 3000.0]
    assert allocate([SWAPPING, ROOMY], 4100.0, 100.0, LAW) == [1200.0, 2900.0]


def test_a_full_host_moves_chunks_from_who_has_spare_memory():
    assert allocate([SWAPPING, ROOMY], 4000.0, 100.0, LAW) == [1200.0, 2800.0]


def test_an_overfull_host_takes_from_who_has_most_to_spare():
    """600 too much: 1300 and 700 to spare, so the first gives until both have 700."""
    other = Guest(500.0, 4000.0, 3000.0, 900.0, 0.0)
    assert allocate([ROOMY, other], 5400.0, 100.0, LAW) == [2400.0, 3000.0]
    assert allocate([ROOMY, other], 5200.0, 100.0, LAW) == [2300.0, 2900.0]
    assert allocate([ROOMY, other], 5101.0, 100.0, LAW) == [2200.0, 2900.0]


def test_who_swaps_less_gives_when_nobody_has_spare_memory():
    """0.5 x 16 / 1000 against 0.5 x 2 / 1000: until x^1.5 has made up for a factor of eight (four times the size apart)."""
    strong, weak = Guest(100.0, 4000.0, 1000.0, 0.0, 16.0), Guest(100.0, 4000.0, 1000.0, 0.0, 2.0)
    law = Law(reserve_share=1.0)
    sizes = allocate([strong, weak], 2000.0, 10.0, law)
    assert sum(sizes) == 2000.0
    assert sizes == [1600.0, 400.0]


def test_nothing_moves_when_nobody_gains():
    assert allocate([ROOMY, ROOMY], 6000.0, 100.0, LAW) == [3000.0, 3000.0]
    assert allocate([SWAPPING, SWAPPING], 2050.0, 100.0, LAW) == [1000.0, 1000.0]
    assert allocate([], 1000.0, 100.0, LAW) == allocate([], -1.0, 100.0, LAW) == []


def test_minimums_that_do_not_fit_end_at_the_minimums():
    assert allocate([SWAPPING, ROOMY], 100.0, 100.0, LAW) == [500.0, 500.0]


def random_guest(rng: np.random.Generator) -> Guest:
    low = float(rng.integers(1, 10)) * 100.0
    high = low + float(rng.integers(0, 40)) * 100.0
    size = float(rng.integers(low // 100, high // 100 + 1)) * 100.0
    return Guest(low, high, size, rng.uniform(0, 0.5) * size, rng.choice([0.0, rng.uniform(0, 30)]))


def test_no_other_sizes_of_the_same_sum_save_more():
    """Every chunk has a value, falling with size, so the best sizes hold the best chunks above the minimums."""
    rng = np.random.default_rng(7)
    for _ in range(600):
        guests = [random_guest(rng) for _ in range(rng.integers(1, 7))]
        capacity = rng.uniform(0.3, 1.3) * sum(guest.size_mib for guest in guests)
        law = Law(rng.uniform(0.2, 1.5), rng.uniform(0, 0.3), rng.uniform(0, 0.2))
        sizes = allocate(guests, capacity, 100.0, law)
        chunks = [
            [value_per_s(guest, start, law) for start in np.arange(guest.min_mib, guest.memory_mib, 100.0)]
            for guest in guests
        ]
        held = [round((size - guest.min_mib) / 100.0) for guest, size in zip(guests, sizes, strict=True)]
        saved = sum(sum(values[:count]) for values, count in zip(chunks, held, strict=True))
        best = sorted(itertools.chain(*chunks), reverse=True)[: sum(held)]
        assert saved == pytest.approx(sum(best), abs=1e-12)
        assert all(g.min_mib <= size <= g.memory_mib for g, size in zip(guests, sizes, strict=True))
        assert sum(sizes) <= max(capacity, sum(guest.min_mib for guest in guests)) + 1e-9
        gains = [gain_of(guest, size, 100.0, law) for guest, size in zip(guests, sizes, strict=True)]
        assert capacity - sum(sizes) < 100.0 or max(gains) == 0.0


def reading(time_s, swap_in=(0.0, 0.0), available=(10.0, 1500.0), running=(1.0, 1.0), age=0.0, total_mib=6000.0):
    """SWAPPING and ROOMY on a host that uses 700 MiB itself; overheads are 500 each."""
    vm, host = np.zeros((1, 2), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    vm["min_mib"], vm["memory_mib"], vm["size_mib"], vm["running"] = 500.0, 4000.0, [1000.0, 3000.0], running
    vm["overhead_mib"], vm["resident_mib"] = 500.0, np.array([1500.0, 2000.0]) * running
    vm["guest_swap_in_mib"], vm["guest_available_mib"], vm["stats_age_s"] = swap_in, available, age
    host["total_mib"], host["available_mib"] = total_mib, total_mib - 700.0 - vm["resident_mib"].sum()
    return Telemetry(np.full(1, time_s), vm, host)


def started(**arguments):
    policy = Greedy(**{"chunk_mib": 100.0} | arguments)
    policy.reset(reading(0.0), seed=0)
    return policy


def test_sizes_of_a_host_by_hand():
    """6000 less 5 %, 700 and 1000 is 4000, and both use it up; 80 MiB in 10 s are 8 MiB/s."""
    policy = started()
    assert np.isnan(policy.decide(reading(0.0)).memory_mib).all()
    np.testing.assert_array_equal(policy.decide(reading(10.0, swap_in=(80.0, 0.0))).memory_mib, [[1200.0, 2800.0]])


@pytest.mark.parametrize("missing", ["guest_swap_in_mib", "guest_available_mib", "stats_age_s"])
def test_a_vm_of_which_something_is_not_known_keeps_its_size_and_what_it_uses(missing):
    """The first VM may have 4000 less the 1500 that the other uses, so 2500, and takes two chunks."""
    policy, now = started(), reading(10.0, swap_in=(80.0, 0.0))
    now.vm[missing][:, 1] = np.nan
    np.testing.assert_array_equal(policy.decide(now).memory_mib, [[1200.0, np.nan]])
    tight = reading(20.0, swap_in=(160.0, 0.0), total_mib=4210.0)
    tight.vm[missing][:, 1] = np.nan
    np.testing.assert_array_equal(policy.decide(tight).memory_mib, [[700.0, np.nan]])


def test_a_vm_that_does_not_run_is_left_alone_and_takes_nothing():
    policy = started()
    sizes = policy.decide(reading(10.0, swap_in=(80.0, 0.0), running=(1.0, 0.0), total_mib=2600.0)).memory_mib
    np.testing.assert_array_equal(sizes, [[1200.0, np.nan]])


def test_statistics_must_be_new():
    policy = started()
    assert np.isnan(policy.decide(reading(10.0, age=10.0)).memory_mib).all()


def test_reset_forgets_counters():
    policy = started()
    policy.decide(reading(10.0, swap_in=(80.0, 0.0)))
    policy.reset(reading(0.0), seed=0)
    assert np.isnan(policy.decide(reading(0.0)).memory_mib).all()
    np.testing.assert_array_equal(policy.decide(reading(10.0, swap_in=(80.0, 0.0))).memory_mib, [[1200.0, 2800.0]])


def test_a_lane_decides_alone_as_it_does_in_a_batch():
    rng, together, alone = np.random.default_rng(8), Greedy(), Greedy()
    for step in range(5):
        parts = [reading(10.0 * step, rng.uniform(90, 99, 2) * step, rng.uniform(0, 1500, 2)) for _ in range(3)]
        both = Telemetry(
            *(np.concatenate([getattr(part, field) for part in parts]) for field in ("time_s", "vm", "host"))
        )
        if step == 0:
            together.reset(both, seed=0)
            alone.reset(parts[2], seed=0)
        np.testing.assert_array_equal(together.decide(both).memory_mib[2:], alone.decide(parts[2]).memory_mib)


def test_the_packaged_policy_is_the_class_with_its_defaults():
    packaged = make_policy(load_group("agent", "greedy"))
    assert vars(packaged) | UNDECLARED == vars(Greedy()) | UNDECLARED
    assert (packaged.chunk_mib, packaged.law, packaged.period_s) == (256.0, Law(0.5, 0.05, 0.1), 10.0)
    assert packaged.visibility == Visibility.P1


def test_a_chunk_of_nothing_is_refused():
    with pytest.raises(InputError, match=r"agent\.chunk_mib=0"):
        make_policy(load_group("agent", "greedy") | {"chunk_mib": 0})


def test_it_keeps_more_of_what_workers_ask_for_than_a_fixed_division():
    scenario = load("idle-giants-short")
    greedy, fixed = (
        rollout(scenario, make_policy(load_group("agent", name)), [7]) for name in ("greedy", "proportional")
    )
    assert greedy.goodput[0] > fixed.goodput[0] + 0.05
