"""The balloon and the host against measurements on real guests."""

import pytest

from hvgym.envs.model import tick
from hvgym.envs.model.guest import balloon, paging
from hvgym.envs.model.guest import memory as guest_memory


def seconds_to(guest, done, limit=600):
    return next(s for s in range(1, limit) if guest.run(1) and done())


def test_inflating_free_memory_is_linear_in_size(lone_guest):
    took = []
    for amount in (100.0, 200.0):
        guest = lone_guest(hot_mib=64.0)
        guest.ask(512.0 - amount)
        took.append(seconds_to(guest, lambda g=guest, a=amount: g.vm["balloon_mib"] >= a - 1e-6))
    assert took == [1, 2]


def test_the_rate_limit_holds_every_second(lone_guest):
    guest = lone_guest(hot_mib=64.0)
    guest.ask(100.0)
    for _ in range(10):
        assert guest.run(1)["balloon_mib"] <= 100.0 + 1e-9
    guest.ask(512.0)
    assert guest.run(1)["balloon_mib"] == pytest.approx(-float(512.0 - guest.size_for(1.0)), abs=512)
    assert guest.vm["balloon_mib"] == 0.0  # deflating is ten times faster: 1,000 MiB/s


def test_under_pressure_inflation_falls_to_the_speed_of_guest_reclaim(lone_guest):
    guest = lone_guest()
    guest.ask(guest.size_for(0.5))
    guest.run(3)
    assert guest.run(1)["balloon_mib"] == pytest.approx(45.0, abs=0.2)


def test_without_swap_the_balloon_stalls_and_the_workload_runs_on(lone_guest):
    guest = lone_guest(guest_swap_mib=0.0, hot_mib=350.0)
    guest.ask(300.0)
    guest.run(60)
    size = 512.0 - guest.vm["balloon_mib"]
    assert size == pytest.approx(377.0, abs=5.0)  # measured: target 300, actual 377
    assert guest.vm["report_available_mib"] == pytest.approx(4.0, abs=2.0)
    assert guest.vm["progress"] == 1.0
    assert guest.vm["oom_kills"] == 0.0


def grow(guest, mib):
    guest.sim.demand[0, :, 0]["tier_mib"][:, 0] += mib


def test_the_next_growth_ends_in_a_kill_within_3_s(lone_guest):
    guest = lone_guest(guest_swap_mib=0.0, hot_mib=350.0)
    guest.ask(300.0)
    guest.run(60)
    grow(guest, 40.0)
    assert seconds_to(guest, lambda: guest.vm["oom_kills"] == 1.0) in (2, 3)
    assert guest.run(10)["progress_s"] == 0.0  # restarting


def test_unless_the_driver_deflates_on_oom(lone_guest):
    guest = lone_guest(guest_swap_mib=0.0, hot_mib=350.0, deflate_on_oom=True)
    guest.ask(300.0)
    guest.run(60)
    before = float(guest.vm["balloon_mib"])
    grow(guest, 40.0)
    guest.run(10)
    assert guest.vm["oom_kills"] == 0.0
    assert guest.vm["allocated_mib"][0] == pytest.approx(390.0)
    assert before - guest.vm["balloon_mib"] == pytest.approx(40.0, abs=16.0)


def test_deflating_raises_no_host_use_and_the_next_inflation_takes_the_same_pages(lone_guest):
    guest = lone_guest(hot_mib=64.0)
    guest.ask(300.0)
    guest.run(5)
    host = guest.sim.telemetry().vm["resident_mib"][0, 0]
    guest.ask(512.0)
    guest.run(5)
    assert guest.sim.telemetry().vm["resident_mib"][0, 0] == pytest.approx(host)
    guest.ask(300.0)
    guest.run(5)
    assert guest.sim.telemetry().vm["resident_mib"][0, 0] == pytest.approx(host)


def test_a_guest_without_driver_keeps_its_memory_and_reports_nothing(lone_guest):
    guest = lone_guest(balloon=False)
    guest.ask(100.0)
    guest.run(20)
    assert guest.vm["balloon_mib"] == 0.0
    telemetry = guest.sim.telemetry()
    assert str(telemetry.vm["guest_free_mib"][0, 0]) == "nan"
    assert telemetry.vm["resident_mib"][0, 0] > 0.0


def test_a_balloon_stops_at_its_cap_and_deflates_at_its_own_rate(lone_guest):
    guest = lone_guest(hot_mib=64.0)
    guest.spec["balloon_cap_mib"] = 120.0
    guest.ask(300.0)
    guest.run(5)
    assert guest.vm["balloon_mib"] == 120.0
    guest.spec["deflate_mib_per_s"] = 50.0
    guest.ask(512.0)
    assert [guest.run(1)["balloon_mib"] for _ in range(3)] == [-50.0, -50.0, -20.0]


def test_inflating_at_full_speed_costs_the_interference_and_at_half_speed_half_of_it(lone_guest):
    guest = lone_guest(hot_mib=64.0)
    guest.spec["balloon_interference"] = 0.1
    guest.ask(512.0 - 150.0)
    assert guest.run(1)["progress_s"] == pytest.approx(0.90)
    assert guest.run(1)["progress_s"] == pytest.approx(0.95)
    assert guest.run(1)["progress_s"] == 1.0


def free(guest, backed, deflated, untouched):
    vm = guest.vm
    vm["free_backed_mib"], vm["free_deflated_mib"], vm["free_untouched_mib"] = backed, deflated, untouched
    return lambda: [float(vm[name]) for name in ("free_backed_mib", "free_deflated_mib", "free_untouched_mib")]


def test_the_balloon_takes_what_it_let_go_then_backed_then_untouched_memory(lone_guest):
    guest = lone_guest()
    left = free(guest, backed=40.0, deflated=20.0, untouched=30.0)
    balloon.inflate(guest.vm, guest.spec, 30.0)
    assert left() == [30.0, 0.0, 30.0]
    balloon.inflate(guest.vm, guest.spec, 45.0)
    assert left() == [0.0, 0.0, 15.0]


def test_the_workload_takes_freed_pages_first_and_never_touched_ones_last(lone_guest):
    guest = lone_guest()
    left = free(guest, backed=40.0, deflated=20.0, untouched=30.0)
    paging.use_free(guest.vm, guest.spec, 50.0)
    assert left() == [0.0, 10.0, 30.0]
    paging.use_free(guest.vm, guest.spec, 25.0)
    assert left() == [0.0, 0.0, 15.0]


def test_what_a_kernel_hands_out_last_comes_after_untouched_memory(lone_guest):
    """24 of 40 MiB that the host backs are left to the end, by balloon and workload."""
    guest = lone_guest(handed_out_last_mib=24.0)
    left = free(guest, backed=40.0, deflated=20.0, untouched=30.0)
    balloon.inflate(guest.vm, guest.spec, 30.0)
    assert left() == [30.0, 0.0, 30.0]
    paging.use_free(guest.vm, guest.spec, 20.0)
    assert left() == [24.0, 0.0, 16.0]
    balloon.inflate(guest.vm, guest.spec, 20.0)
    assert left() == [20.0, 0.0, 0.0]
    paging.use_free(guest.vm, guest.spec, 5.0)
    assert left() == [15.0, 0.0, 0.0]


def test_a_balloon_reads_nothing_until_it_comes_to_what_is_in_host_swap(lone_guest):
    """All that is backed is in host swap and handed out last: 30 MiB that nobody has touched come first, and at once."""
    guest = lone_guest(handed_out_last_mib=24.0, init_on_alloc=True)
    free(
        guest, backed=20.0, deflated=0.0, untouched=guest.vm["free_backed_mib"] + guest.vm["free_untouched_mib"] - 20.0
    )
    guest.vm["free_swapped_mib"], untouched = 20.0, float(guest.vm["free_untouched_mib"])
    guest.ask(512.0 - untouched)
    assert guest.run(1)["balloon_mib"] == 100.0  # as fast as it can
    guest.run(5)
    assert guest.vm["balloon_mib"] == pytest.approx(untouched)
    assert guest.vm["host_swap_in_mib"] == 0.0
    guest.ask(512.0 - untouched - 10.0)
    guest.run(60)
    assert 10.0 <= guest.vm["host_swap_in_mib"] <= 20.0  # the workload reuses some, too


@pytest.mark.parametrize(("init_on_alloc", "read"), [(False, 5.0), (True, 10.0)])
def test_reuse_of_freed_pages_reads_back_the_share_that_the_host_swapped_out(lone_guest, init_on_alloc, read):
    """Whoever allocates; but a balloon only where the guest's kernel zeroes its pages first."""
    guest = lone_guest(init_on_alloc=init_on_alloc)
    free(guest, backed=40.0, deflated=0.0, untouched=0.0)
    guest.vm["free_swapped_mib"] = 20.0
    paging.use_free(guest.vm, guest.spec, 10.0)  # half of it is in host swap
    assert guest.vm["host_swap_in_mib"] == guest.vm["false_read_mib"] == 5.0
    assert guest.vm["free_swapped_mib"] == 15.0
    balloon.inflate(guest.vm, guest.spec, 10.0)
    assert guest.vm["host_swap_in_mib"] == read
    assert guest.vm["zeroed_mib"] == read - 5.0  # no thread of the workload waits for these
    assert guest.vm["free_swapped_mib"] == 10.0


def test_growth_that_waits_for_reclaim_holds_the_workload_up(lone_guest):
    guest = lone_guest()
    guest.squeeze(0.8)
    grow(guest, 100.0)
    assert guest.run(1)["progress_s"] == pytest.approx(0.45, abs=0.01)  # 45 of the 100 MiB it wants in this second


def test_after_a_kill_the_workload_is_as_far_as_its_memory_is_back(lone_guest):
    guest = lone_guest(restart_s=5.0, growth_mib_per_s=16.0)
    guest_memory.kill(guest.vm, guest.spec)
    assert guest.run(4)["progress_s"] == 0.0
    assert guest.run(1)["progress_s"] <= 0.01
    assert [guest.run(1)["progress_s"] for _ in range(4)] == pytest.approx([1 / 16, 2 / 16, 3 / 16, 4 / 16])
    guest.run(12)
    assert guest.run(1)["progress_s"] == 1.0


def test_starvation_kills_only_when_it_lasts(lone_guest):
    guest = lone_guest(guest_swap_mib=0.0)
    for starving in (1.0, 0.0, 1.0):
        guest.vm["starving"] = starving
        tick._answer_starvation(guest.vm, guest.spec)
    assert guest.vm["oom_kills"] == 0.0
    tick._answer_starvation(guest.vm, guest.spec)
    assert guest.vm["oom_kills"] == 1.0
