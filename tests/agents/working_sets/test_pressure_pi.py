"""The PI controller: its law by hand, what it does to a simple guest, and what it must not remember."""

import numpy as np
import pytest

from hvgym.agents.policy import make_policy
from hvgym.agents.working_sets.pressure_pi import PressurePi, change_share, error_of, project
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

UNDECLARED = {"declaration": None}
"""What a YAML declares is no argument of the class."""


@pytest.mark.parametrize(
    ("pressure", "error"), [(0.0, -1.0), (1.0, -0.5), (2.0, 0.0), (3.0, 0.5), (22.0, 10.0), (24.0, 10.0)]
)
def test_the_error_is_relative_and_capped_above(pressure, error):
    assert error_of(pressure, 2.0, 10.0) == pytest.approx(error)


def test_the_law_by_hand():
    """0.005 of a rise by 3, and 0.0005 a second of an error of 2 for 10 s."""
    assert change_share(2.0, -1.0, 0.005, 0.0005, 10.0) == pytest.approx(0.005 * 3 + 0.0005 * 10 * 2)
    assert change_share(-1.0, -1.0, 0.005, 0.0005, 10.0) == pytest.approx(-0.005)
    assert change_share(0.0, 4.0, 0.005, 0.0005, 10.0) == pytest.approx(-0.02)


@pytest.mark.parametrize(
    ("capacity", "expected"),
    [
        (9000.0, [2000.0, 5000.0]),
        (7000.0, [2000.0, 5000.0]),
        (4500.0, [1500.0, 3000.0]),
        (2000.0, [1000.0, 1000.0]),
        (500.0, [1000.0, 1000.0]),
    ],
)
def test_a_projection_by_hand(capacity, expected):
    """Above their minimums of 1000 they ask for 1000 and (cut to the configured size) 4000."""
    assert project([2000.0, 7000.0], [1000.0] * 2, [6000.0, 5000.0], capacity) == pytest.approx(expected)


def test_a_projection_raises_to_the_minimum():
    assert project([200.0, 1500.0], [1000.0, 1000.0], [4000.0, 4000.0], 9000.0) == [1000.0, 1500.0]


def test_projections_keep_bounds_capacity_and_order():
    rng = np.random.default_rng(5)
    for _ in range(3000):
        count = int(rng.integers(1, 9))
        low = rng.uniform(0, 2000, count)
        high = low + rng.uniform(0, 6000, count)
        asked, capacity = rng.uniform(-500, 9000, count), rng.uniform(0, 40_000)
        sizes = np.array(project(asked.tolist(), low.tolist(), high.tolist(), capacity))
        assert (sizes >= low).all()
        assert (sizes <= high + 1e-9).all()
        clipped = np.clip(asked, low, high)
        assert sizes.sum() == pytest.approx(max(min(clipped.sum(), capacity), low.sum()))
        more = np.array(project(asked.tolist(), low.tolist(), high.tolist(), capacity + 100.0))
        assert (more >= sizes - 1e-9).all()


def reading(time_s, swap_in=(0.0, 0.0), faults=(0.0, 0.0), size=(4000.0, 2000.0), running=(1.0, 1.0), age=0.0,
            total_mib=20_000.0, psi=(0.0, 0.0)):  # fmt: skip
    """One host of two VMs; it uses 1000 MiB itself, VMs use 3100 and 1100, overheads of 100 included."""
    vm, host = np.zeros((1, 2), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    vm["min_mib"], vm["memory_mib"], vm["size_mib"], vm["running"] = 500.0, [8000.0, 4000.0], size, running
    vm["overhead_mib"], vm["resident_mib"] = 100.0, np.array([3100.0, 1100.0]) * running
    vm["guest_swap_in_mib"], vm["guest_major_faults"], vm["stats_age_s"] = swap_in, np.array(faults) * 256.0, age
    vm["guest_psi_some10"] = psi
    host["total_mib"], host["available_mib"] = total_mib, total_mib - 1000.0 - vm["resident_mib"].sum()
    return Telemetry(np.full(1, time_s), vm, host)


def started(policy, first=None):
    policy.reset(first or reading(0.0), seed=0)
    return policy


def test_sizes_of_a_host_by_hand():
    """No pressure, then 6 MiB/s against a setpoint of 2: an error of 2, up by 3 from -1."""
    policy = started(PressurePi())
    assert np.isnan(policy.decide(reading(0.0)).memory_mib).all()
    calm = policy.decide(reading(10.0)).memory_mib
    np.testing.assert_allclose(calm, [[4000 - 8000 * 0.005, 2000 - 4000 * 0.005]])
    pressed = policy.decide(reading(20.0, swap_in=(60.0, 0.0))).memory_mib
    np.testing.assert_allclose(pressed, [[4000 + 8000 * (0.015 + 0.01), 2000 - 4000 * 0.005]])


def test_a_page_swapped_in_is_one_refault_though_two_counters_count_it():
    """Swap-ins of 40 MiB with as many faults are 4 MiB/s; files read again count by faults alone."""
    policy = started(PressurePi())
    sizes = policy.decide(reading(10.0, swap_in=(40.0, 0.0), faults=(38.0, 60.0))).memory_mib
    np.testing.assert_allclose(sizes, [[4000 + 8000 * 0.005, 2000 + 4000 * 0.01]])


def test_what_the_host_does_not_have_is_taken_from_all_above_their_minimums():
    """7000 less 5 %, 1000 of its own and 200 of overheads leaves 5450; 3460 and 1480 above 500 each must become 4450."""
    policy = started(PressurePi(), reading(0.0, total_mib=7000.0))
    sizes = policy.decide(reading(10.0, total_mib=7000.0)).memory_mib[0]
    np.testing.assert_allclose(sizes, [500 + 3460 * 4450 / 4940, 500 + 1480 * 4450 / 4940])


def test_it_starts_from_where_the_balloon_is_so_that_nothing_winds_up():
    """After an hour at its configured size under pressure, a VM without any shrinks at once."""
    policy = started(PressurePi())
    for step in range(1, 361):
        policy.decide(reading(10.0 * step, swap_in=(999.0 * step, 0.0), size=(8000.0, 2000.0)))
    sizes = policy.decide(reading(3610.0, swap_in=(999.0 * 360, 0.0), size=(8000.0, 2000.0))).memory_mib
    assert sizes[0, 0] == pytest.approx(8000.0 * (1.0 - 0.005 * 11 - 0.005))


def test_it_settles_at_the_setpoint_on_a_guest_whose_refaults_fall_with_memory():
    """4 MiB/s at 3000 MiB, halved every 200 MiB: 2 MiB/s are met at 3200."""
    policy, size, swapped_in, sizes = started(PressurePi()), 5000.0, 0.0, []
    for step in range(1, 1200):
        swapped_in += 10.0 * 4.0 * 0.5 ** ((size - 3000.0) / 200.0)
        size = policy.decide(reading(10.0 * step, swap_in=(swapped_in, 0.0), size=(size, 2000.0))).memory_mib[0, 0]
        sizes.append(size)
    assert sizes[50] < 4000.0
    assert size == pytest.approx(3200.0, abs=1.0)


@pytest.mark.parametrize("missing", ["guest_swap_in_mib", "guest_major_faults", "stats_age_s"])
def test_a_vm_whose_pressure_is_not_known_keeps_its_size_and_what_it_uses(missing):
    """6000 less 5 %, 1000, 200, and the 1000 that the other VM uses leave 3500, below the 3960 asked for."""
    policy = started(PressurePi(), reading(0.0, total_mib=6000.0))
    now = reading(10.0, total_mib=6000.0)
    now.vm[missing][:, 1] = np.nan
    np.testing.assert_allclose(policy.decide(now).memory_mib, [[3500.0, np.nan]])


def test_a_vm_that_does_not_run_is_left_alone():
    policy = started(PressurePi())
    assert np.isnan(policy.decide(reading(10.0, running=(1.0, 0.0))).memory_mib[0, 1])
    psi = started(PressurePi(signal="psi"))
    assert np.isnan(psi.decide(reading(10.0, running=(1.0, 0.0))).memory_mib[0, 1])


def test_without_newer_statistics_nothing_is_decided_and_the_next_rate_spans_both_periods():
    policy = started(PressurePi())
    policy.decide(reading(10.0))
    assert np.isnan(policy.decide(reading(20.0, swap_in=(80.0, 0.0), age=10.0)).memory_mib).all()
    sizes = policy.decide(reading(30.0, swap_in=(80.0, 0.0))).memory_mib
    assert sizes[0, 0] == pytest.approx(4000 + 8000 * (0.005 * 2 + 0.005 * 1))


def test_a_counter_that_went_back_is_not_a_rate():
    policy = started(PressurePi(), reading(0.0, swap_in=(500.0, 0.0)))
    assert np.isnan(policy.decide(reading(10.0, swap_in=(20.0, 0.0))).memory_mib[0, 0])
    sizes = policy.decide(reading(20.0, swap_in=(80.0, 0.0))).memory_mib
    assert sizes[0, 0] == pytest.approx(4000 + 8000 * 0.005 * 2)


def test_the_first_statistics_of_a_vm_are_no_rate_the_second_are():
    silent = reading(0.0)
    silent.vm["stats_age_s"], silent.vm["guest_swap_in_mib"] = np.nan, np.nan
    policy = started(PressurePi(), silent)
    assert np.isnan(policy.decide(reading(10.0, swap_in=(999.0, 999.0))).memory_mib).all()
    sizes = policy.decide(reading(20.0, swap_in=(1019.0, 999.0))).memory_mib
    np.testing.assert_allclose(sizes, [[4000.0, 2000 - 4000 * 0.005]])


def test_guest_psi_serves_as_the_pressure_when_asked_for():
    """3 % against a setpoint of 1 % is an error of 2; the first error is no rise."""
    policy = started(PressurePi(signal="psi", setpoint=0.01))
    sizes = policy.decide(reading(10.0, psi=(0.03, 0.0), swap_in=(999.0, 999.0))).memory_mib
    np.testing.assert_allclose(sizes, [[4000 + 8000 * 0.01, 2000 - 4000 * 0.005]])
    unknown = policy.decide(reading(20.0, psi=(np.nan, 0.0))).memory_mib
    np.testing.assert_allclose(unknown, [[np.nan, 2000 - 4000 * 0.005]])


def test_reset_forgets_counters_and_errors():
    fresh, used = started(PressurePi()), started(PressurePi())
    for step in (1, 2, 3):
        used.decide(reading(10.0 * step, swap_in=(500.0 * step, 90.0)))
    used.reset(reading(0.0), seed=0)
    for step in (0, 1, 2):
        now = reading(10.0 * step, swap_in=(30.0 * step, 0.0))
        np.testing.assert_array_equal(used.decide(now).memory_mib, fresh.decide(now).memory_mib)


@pytest.mark.parametrize("name", ["pressure_pi", "pressure_pi_psi"])
def test_a_lane_decides_alone_as_it_does_in_a_batch(name):
    def of_lane(telemetry, lane):
        return Telemetry(telemetry.time_s[lane:][:1], telemetry.vm[lane:][:1], telemetry.host[lane:][:1])

    rng, (together, alone) = np.random.default_rng(6), (make_policy(load_group("agent", name)) for _ in range(2))
    for step in range(6):
        parts = [reading(10.0 * step, swap_in=rng.uniform(90, 99, 2) * step, size=rng.uniform(900, 4000, 2),
                         psi=rng.uniform(0, 0.1, 2), total_mib=9000.0) for _ in range(3)]  # fmt: skip
        both = Telemetry(
            *(np.concatenate([getattr(part, field) for part in parts]) for field in ("time_s", "vm", "host"))
        )
        if step == 0:
            together.reset(both, seed=0)
            alone.reset(of_lane(both, 2), seed=0)
        np.testing.assert_array_equal(together.decide(both).memory_mib[2:], alone.decide(of_lane(both, 2)).memory_mib)


def test_packaged_policies_see_what_they_need_and_no_more():
    refaults, psi = (make_policy(load_group("agent", name)) for name in ("pressure_pi", "pressure_pi_psi"))
    assert vars(refaults) | UNDECLARED == vars(PressurePi()) | UNDECLARED
    assert (refaults.visibility, psi.visibility) == (Visibility.P1, Visibility.P4)
    assert (psi.signal, psi.setpoint) == ("psi", 0.01)


@pytest.mark.parametrize(("key", "value"), [("signal", "swap"), ("setpoint", 0)])
def test_a_wrong_argument_is_named(key, value):
    with pytest.raises(InputError, match=f"agent.{key}={value!r}"):
        make_policy(load_group("agent", "pressure_pi") | {key: value})


def test_workers_gain_from_idle_giants_within_ten_minutes():
    seen = []
    policy = make_policy(load_group("agent", "pressure_pi"))
    rollout(load("idle-giants-short"), policy, [7], lambda now, sim: seen.append(now.vm["size_mib"][0].copy()))
    assert seen[-1][:2].max() < 0.6 * 16_384
    assert seen[-1][2:].sum() > seen[20][2:].sum()
