"""The bound: by hand where it is reached, against brute force, and never passed by any policy on any scenario."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from hvgym.agents.clairvoyant import bound, curves
from hvgym.agents.clairvoyant.reference import Reference
from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import rollout
from hvgym.envs.device import DeviceModel
from hvgym.envs.errors import InputError
from hvgym.envs.rules import channels_of, of_hosts
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup, group_files, load, load_group, resolve
from hvgym.envs.schema import build
from hvgym.envs.seats import CHANNELS
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

PLAIN = Hypervisor("plain", 1, 100.0, 50.0, exit_us=0.0, nested_walks=False)
"""Costs nothing but 100 MiB, and 50 for each VM."""

DISK = {"disk_iops": 1e9, "disk_latency_us": 100.0, "disk_mib_per_s": 1e6}
"""Never queues: an operation takes 100 us."""

VM = {"memory_mib": 4096.0, "guest_swap_mib": 4096.0, "mergeable_share": 0.0, "kernel_mib": 18.0}


def started(host, *groups, hypervisor=PLAIN, **changes):
    """A host at the start of an episode of 1000 s in slots of 100."""
    settings = {"episode_s": 1000, "control_interval_s": 1, "slot_s": 100} | changes
    sim = Simulator(Scenario("s", "", Host(**({"pcpus": 64.0} | DISK | host)), hypervisor, groups, **settings))
    sim.reset([0])
    return sim


def pieces_of(sim, seconds=1000):
    return curves.cut(sim.hidden(), 0, seconds)


def played(sim, seconds, answer=lambda now: None):
    """Goodput of an episode played second by second, and the least that was ever free."""
    least = np.inf
    for now in range(seconds):
        targets = answer(now)
        if targets is not None:
            sim.apply(targets)
        sim.run(1, 0, 1)
        least = min(least, float(sim.hosts["free_mib"][0, 0]))
    weight, earned_s = sim.vm_specs["weight"], sim.vms["progress_s"] - sim.vms["charged_s"]
    return float((weight * earned_s).sum() / (weight * sim.vms["asked_s"]).sum()), least


# ---- where it is reached


def test_with_nothing_short_it_is_what_exits_and_page_walks_leave_and_static_reaches_it():
    """kvm: 2,000 exits of 0.6 us a second of CPU; 0.289 misses per 1,000 instructions at 1.38 a cycle, 45 cycles each."""
    kvm = Hypervisor("kvm", 1, 100.0, 50.0, exit_us=0.6)
    sim = started({"ram_mib": 8192.0}, VmGroup("vm", Demand(hot_mib=500.0), **VM), hypervisor=kvm)
    most = bound.goodput(sim.hidden(), 1000)[0]
    assert most == pytest.approx(1.0 / (1.0012 * (1.0 + 0.289e-3 * 1.38 * 45.0)), rel=1e-11)
    got, _ = played(sim, 1000)
    assert most * (1.0 - 1e-11) < got <= most


def test_four_vms_on_two_processors_get_a_quarter_and_reach_it():
    """Each wants two pCPUs; the hypervisor takes none."""
    groups = [VmGroup(f"vm{i}", Demand(hot_mib=100.0, cpu_share=1.0), **VM) for i in range(4)]
    sim = started({"ram_mib": 16384.0, "pcpus": 2.0}, *groups)
    most = bound.goodput(sim.hidden(), 1000)[0]
    assert most == pytest.approx(0.25, rel=1e-11)
    got, _ = played(sim, 1000)
    assert most * (1.0 - 1e-9) < got <= most


def cold_host(spare_mib=0.0, **changes):
    """RAM for the 1,000 hot MiB (and `spare_mib`), a 100 MiB hypervisor, 50 MiB process and 18 MiB kernel; 500 MiB are cold."""
    tiers = {"tier_tau_s": (1.0, 1000.0, 1.0, 1.0), "restart_s": 1e6}
    group = VmGroup("vm", Demand(hot_mib=1000.0, warm_mib=500.0), **(VM | tiers | changes))
    sim = started({"ram_mib": 1168.0 + spare_mib}, group)
    sim.vms["host_swapped_mib"][0, 0] = [0.0, 500.0, 0.0, 0.0]
    return sim


def test_ram_for_the_hot_pages_alone_costs_the_touches_of_the_cold_ones():
    """500 MiB of which 1 - exp(-1/1000) are touched a second, at 100 us over two faults in flight."""
    most = bound.goodput(cold_host().hidden(), 1000)[0]
    assert most == pytest.approx(1.0 / (1.0 + 500.0 * 256.0 * -math.expm1(-0.001) * 50e-6), rel=1e-6)


def test_a_spare_of_half_the_cold_pages_is_halfway_between():
    """Between its points a curve is a chord, and so is the bound."""
    all_out = 1.0 / (1.0 + 500.0 * 256.0 * -math.expm1(-0.001) * 50e-6)
    sim = cold_host(250.0)
    pieces = pieces_of(sim)
    runs = pieces.asked
    none_out = curves.curves(pieces, 0.0 * curves.outside_mib(pieces))
    price = bound._price(pieces, runs, none_out)
    memory = price * bound.ram_mib(pieces) + bound._worth(pieces, runs, price, none_out).sum(axis=1)
    np.testing.assert_allclose(memory, 0.5 * (1.0 + all_out), rtol=1e-6)


def test_an_operation_may_be_a_little_faster_than_idle_because_the_queue_is_solved_so_far_only():
    sim = started({"ram_mib": 4096.0, "disk_iops": 100.0}, VmGroup("vm", Demand(hot_mib=10.0), **VM))
    place = curves.places(sim.vm_specs[0, 0], sim.host_specs[0, 0], 0)[1]
    assert place == pytest.approx((0.0, 0.5 * (100e-6 - 1e-3 / 100.0)))


# ---- places and curves


@pytest.mark.parametrize(
    ("found", "hull"),
    [
        ([(1.0, 0.0)], [(1.0, 0.0)]),
        ([(1.0, 0.0), (0.0, 6.0)], [(0.0, 6.0), (1.0, 0.0)]),
        ([(1.0, 0.0), (0.0, 6.0), (0.5, 1.0)], [(0.0, 6.0), (0.5, 1.0), (1.0, 0.0)]),
        ([(1.0, 0.0), (0.0, 6.0), (0.5, 3.0)], [(0.0, 6.0), (1.0, 0.0)]),
        ([(1.0, 0.0), (0.4, 2.0), (0.3, 2.0)], [(0.3, 2.0), (1.0, 0.0)]),
        ([(1.0, 0.0), (0.2, 1.0), (0.3, 2.0)], [(0.2, 1.0), (1.0, 0.0)]),
    ],
)
def test_only_places_below_every_chord_are_worth_a_page(found, hull):
    assert curves.lower_hull(found) == hull


def specs(host=None, hypervisor=PLAIN, **changes):
    sim = started(
        {"ram_mib": 8192.0} | (host or {}), VmGroup("vm", Demand(hot_mib=10.0), **(VM | changes)), hypervisor=hypervisor
    )
    return sim.vm_specs[0, 0], sim.host_specs[0, 0]


def test_where_a_page_can_be_and_what_a_touch_then_costs():
    """RAM; guest disk or zram; host swap. Two faults in flight; 20 us of exits on two vCPUs cost 10."""
    disk = DeviceModel("trap", "", "emulated", guest_cycles=1.0, exits=2.0, exit_cycles=27e3, depth=32.0)
    exits = dataclasses.replace(PLAIN, exit_us=20.0, disk=disk)
    ram, guest, host = curves.places(*specs(hypervisor=exits), 0)
    assert (ram, guest, host) == ((1.0, 0.0), pytest.approx((0.0, 60e-6)), pytest.approx((0.0, 60e-6)))
    assert curves.places(*specs(swap="zram"), 0)[1] == pytest.approx((0.38, 3.25e-6))
    assert curves.places(*specs(swap="zram"), 3)[1] == pytest.approx((0.0, 50e-6))  # page cache is not compressed
    assert curves.places(*specs({"swap": "zram"}), 0)[2] == pytest.approx((1.0 / 2.6, 1.25e-6), rel=1e-3)
    assert curves.places(*specs({"swap_share": 0.0}, guest_swap_mib=0.0), 0) == [(1.0, 0.0)]
    commits = dataclasses.replace(PLAIN, last_resort="commit", admission="commit")
    assert len(curves.places(*specs(hypervisor=commits), 0)) == 2


def test_sequential_reads_wait_for_one_page_in_32_and_for_the_transfer():
    """... of files; the host's read-ahead fetches eight pages at once. 1 us a MiB over two faults in flight."""
    found = curves.places(*specs(sequential_share=1.0), 3)
    assert found[1] == pytest.approx((0.0, 50e-6 / 32.0 + 31.0 / 32.0 / 256.0 * 0.5e-6))
    assert found[2] == pytest.approx((0.0, 50e-6 / 8.0 + 7.0 / 8.0 / 256.0 * 0.5e-6))
    assert curves.places(*specs(sequential_share=1.0), 0)[1] == pytest.approx((0.0, 50e-6))


def test_slack_hides_a_stall_up_to_its_own_length():
    """Half the second is idle, so progress is whole until the stall is 0.5 s: 500 MiB of 1,000 at 1 s each."""
    group = VmGroup("vm", Demand(hot_mib=1000.0), **(VM | {"slack": 0.5, "tier_tau_s": (256.0, 1.0, 1.0, 1.0)}))
    sim = started({"ram_mib": 8192.0, "disk_latency_us": 1.0 / 1000.0 * 2e6 / 256.0 / -math.expm1(-1.0 / 256.0)}, group)
    pieces = pieces_of(sim)
    curve = curves.curves(pieces, 0.0 * curves.outside_mib(pieces))
    assert (curve.ram_mib[0, 0, 0], curve.progress[0, 0, 0]) == pytest.approx((500.0, 1.0))
    points = sorted(zip(curve.ram_mib[0, 0].tolist(), curve.progress[0, 0].tolist(), strict=True))
    assert points[0] == pytest.approx((0.0, 1.0 / 1.5))
    assert points[-1] == pytest.approx((1000.0, 1.0))


def test_a_cpu_limit_bounds_progress():
    """One pCPU of the two that it wants."""
    sim = started({"ram_mib": 8192.0}, VmGroup("vm", Demand(hot_mib=10.0, cpu_share=1.0), **(VM | {"cpu_limit": 1.0})))
    assert bound.goodput(sim.hidden(), 1000)[0] == pytest.approx(0.5)


def test_split_pages_are_whole_again_by_a_six_hundredth_a_second_at_most():
    """Walks of 90 cycles until then, of 45 after; both by 0.289 / 1000 * 1.38."""
    walks = dataclasses.replace(PLAIN, nested_walks=True)
    sim = started({"ram_mib": 8192.0}, VmGroup("vm", Demand(hot_mib=10.0), **VM), hypervisor=walks)
    sim.vms["large_share"] = 0.0
    pieces = pieces_of(sim)
    last = list(pieces.end_s).index(300.0)
    cycles = 45.0 * (1.0 + (599.0 / 600.0) ** 300)
    assert curves.speeds(pieces)[0][last, 0] == pytest.approx(1.0 + 0.289e-3 * 1.38 * cycles)


def test_pages_that_are_out_at_the_start_fade_as_they_are_touched_until_their_kind_of_demand_changes():
    """Anonymous memory moves at 200 s, page cache never."""
    sim = cold_host(spare_mib=-400.0)
    sim.demand["tier_mib"][0, :, 0, 3] = 50.0
    sim.vms["allocated_mib"][0, 0] = [1000.0, 500.0, 0.0, 50.0]
    sim.vms["resident_mib"][0, 0] = [1000.0, 400.0, 0.0, 50.0]
    sim.vms["host_swapped_mib"][0, 0] = [64.0, 0.0, 0.0, 8.0]
    sim.demand["tier_mib"][0, 2:, 0, 0] += 1.0
    sim.vm_specs["tier_rate_per_s"][0, 0] = [0.1, 0.01, 1.0, 0.001]
    pieces = pieces_of(sim)
    out = curves.outside_mib(pieces)[:, 0]
    at = list(pieces.end_s).index(100.0)
    np.testing.assert_allclose(out[at], [64.0 * math.exp(-10.0), 100.0 * math.exp(-1.0), 0.0, 8.0 * math.exp(-0.1)])
    after = pieces.end_s > 200.0
    assert (out[after, :3] == 0.0).all()
    np.testing.assert_allclose(out[after, 3], 8.0 * np.exp(-0.001 * pieces.end_s[after]))
    pieces.spec["cache_weight"] = 0.5
    assert (curves.outside_mib(pieces) == 0.0).all()


def test_what_is_out_at_the_start_stalls_even_where_ram_is_ample():
    """100 MiB out, touched once a second, 50 us each: in the first second what is left at its end."""
    sim = started({"ram_mib": 8192.0}, VmGroup("vm", Demand(hot_mib=1000.0), **(VM | {"tier_tau_s": (1.0,) * 4})))
    sim.vms["host_swapped_mib"][0, 0, 0] = 100.0
    pieces = pieces_of(sim)
    curve = curves.curves(pieces, curves.outside_mib(pieces))
    stall = 100.0 * math.exp(-1.0) * 256.0 * -math.expm1(-1.0) * 50e-6
    assert curve.progress[0, 0, -1] == pytest.approx(1.0 / (1.0 + stall))
    assert curve.ram_mib[0, 0, -1] == pytest.approx(1000.0 - 100.0 * math.exp(-1.0))


def test_pieces_cover_the_episode_and_break_at_slots_arrivals_and_starts():
    late = VmGroup("late", Demand(hot_mib=10.0), **(VM | {"arrive_s": 250.5, "restart_s": 30.0}))
    pieces = pieces_of(started({"ram_mib": 8192.0}, VmGroup("vm", Demand(hot_mib=10.0), **VM), late), 990)
    assert pieces.length_s.sum() == 990.0
    np.testing.assert_array_equal(pieces.end_s - pieces.length_s, np.append(0.0, pieces.end_s[:-1]))
    assert {100.0, 250.0, 279.0, 280.0, 990.0} <= set(pieces.end_s)
    np.testing.assert_array_equal(pieces.asked[:, 1], pieces.end_s > 250.0)
    np.testing.assert_array_equal(pieces.slot, (pieces.end_s - 1.0) // 100.0)


# ---- RAM, processors, arrivals, kills, lags


def test_ram_is_what_kernels_and_processes_leave_and_what_merging_and_compressing_add():
    """10,000 less 100, two of 18 + 50; 5 % of 1,000 and of 500; a tenth of two of 4,096, at half a page a slot."""
    zips = dataclasses.replace(PLAIN, zip_cap_share=0.1)
    groups = [
        VmGroup(f"vm{i}", Demand(hot_mib=hot), **(VM | {"mergeable_share": 0.05}))
        for i, hot in enumerate((1000.0, 500.0))
    ]
    pieces = pieces_of(started({"ram_mib": 10_000.0}, *groups, hypervisor=zips))
    np.testing.assert_allclose(bound.ram_mib(pieces), 10_000.0 - 100.0 - 136.0 + 75.0 + 819.2)


def test_swap_that_is_kept_in_ram_may_be_more_than_there_is():
    """1,500 MiB at a ratio of 2.6 take 577, of 182 that are there."""
    tight = started({"ram_mib": 350.0, "swap": "zram"}, VmGroup("vm", Demand(hot_mib=1500.0), **VM))
    assert bound.ram_mib(pieces_of(tight))[0] == pytest.approx(1500.0 / 2.6)


def test_processors_serve_first_what_is_worth_most_per_pcpu():
    """Two pCPUs: the first takes 1 for a weight of 4, the third the rest, half of its 2 for a weight of 3; or all for 3."""
    shares = ((4.0, 0.5), (1.0, 0.5), (3.0, 1.0))
    groups = [
        VmGroup(f"vm{i}", Demand(hot_mib=10.0, cpu_share=share), **(VM | {"weight": w}))
        for i, (w, share) in enumerate(shares)
    ]
    pieces = pieces_of(started({"ram_mib": 16384.0, "pcpus": 2.0}, *groups))
    np.testing.assert_allclose(bound._on_processors(pieces, pieces.asked), 4.0 + 1.5)
    np.testing.assert_allclose(bound._on_processors(pieces, pieces.asked & np.array([False, True, True])), 3.0)


def arrivals(hypervisor, ram_mib, *mins):
    groups = [VmGroup("first", Demand(hot_mib=10.0), **(VM | {"min_mib": 1000.0}))]
    groups += [
        VmGroup(f"late{i}", Demand(hot_mib=10.0), **(VM | {"min_mib": least, "startup_mib": 2000.0, "arrive_s": 10.0}))
        for i, least in enumerate(mins)
    ]
    sets = bound.startable(pieces_of(started({"ram_mib": ram_mib}, *groups, hypervisor=hypervisor)))
    return {"".join("x" if runs else "." for runs in one) for one in sets}


def test_reservations_tell_which_late_vms_can_run_together():
    """3,250 less 100 and the first's 1,050: room for 2,100."""
    reserves = dataclasses.replace(PLAIN, admission="reservation")
    assert arrivals(reserves, 3250.0, 1000.0, 1000.0) == {"xxx"}
    assert arrivals(reserves, 3249.0, 1000.0, 1000.0) == {"xx.", "x.x"}
    assert arrivals(reserves, 3249.0, 500.0, 1000.0, 1200.0) == {"xxx.", "xx.x"}
    assert arrivals(reserves, 1200.0, 1000.0) == {"x."}
    assert arrivals(reserves, 3249.0, *[1000.0] * 13) == {"x" * 14}  # too many to try
    assert arrivals(PLAIN, 3249.0, 1000.0, 1000.0) == {"xxx"}


def test_commitments_count_the_least_that_balloons_leave():
    """A cap of half leaves 2,048 of 4,096, but a start takes 2,000: 100 + 2,098 + 2 * 2,050, and 82.5 that stay free."""
    commits = dataclasses.replace(
        PLAIN, last_resort="commit", admission="commit", startup="assigned", balloon_cap_share=0.5
    )
    assert arrivals(commits, 6380.5, 1000.0, 1000.0) == {"xxx"}
    assert arrivals(commits, 6380.0, 1000.0, 1000.0) == {"xx.", "x.x"}
    assert arrivals(dataclasses.replace(commits, smart_paging=True), 6380.0, 1000.0, 1000.0) == {"xxx"}


def test_a_late_vm_loses_its_start_and_what_it_cannot_have_grown():
    """It asks from 99 s on, is up at 128, and grows 100 MiB/s towards 1,000 MiB: at 5 s it works at half at most."""
    group = VmGroup("late", Demand(hot_mib=990.0), **(VM | {"arrive_s": 100.0}))
    sim = started({"ram_mib": 8192.0}, VmGroup("vm", Demand(hot_mib=10.0), **VM), group)
    pieces = pieces_of(sim)
    back = bound._back(pieces)
    assert (back[:, 0] == 1.0).all()
    assert (back[pieces.end_s <= 128.0, 1] == 0.0).all()
    assert back[list(pieces.end_s).index(131.0), 1] == pytest.approx(300.0 / (0.99 * 990.0))
    assert (back[pieces.end_s > 139.0, 1] == 1.0).all()
    got, _ = played(sim, 1000)
    assert got < bound.goodput(started({"ram_mib": 8192.0}, *sim.scenario.groups).hidden(), 1000)[0] < got + 0.005


def test_once_back_a_vm_is_back_though_its_demand_doubles():
    group = VmGroup("late", Demand(hot_mib=100.0), **(VM | {"arrive_s": 1.0, "restart_s": 1.0}))
    sim = started({"ram_mib": 8192.0}, group)
    sim.demand["tier_mib"][0, 1:, 0, 0] = 4000.0
    assert bound._back(pieces_of(sim))[-1, 0] == 1.0
    assert bound._back(pieces_of(sim))[pieces_of(sim).end_s > 5.0].min() == 1.0


def test_the_best_moment_for_a_kill_weighs_the_restart_against_what_is_forgotten():
    """Worth 0.2 a second for 400 s and 1 after, killed 1 always; a restart of 11 s loses 10. At once: 990 against 680."""
    group = VmGroup("vm", Demand(hot_mib=10.0), **(VM | {"restart_s": 11.0}))
    pieces = pieces_of(started({"ram_mib": 8192.0}, group, kill_cost_s=0.0))
    before = np.where(pieces.end_s <= 400.0, 0.2, 1.0)[:, None]
    assert bound._kills(pieces, before, np.ones_like(before)) == pytest.approx([990.0 - 680.0])
    assert bound._kills(pieces, np.ones_like(before), np.ones_like(before)) == pytest.approx([0.0])
    late = np.where(pieces.end_s <= 400.0, 1.0, 0.2)[:, None]  # 400 s, a restart, 590 s against 120
    assert bound._kills(pieces, late, np.ones_like(late)) == pytest.approx([990.0 - 520.0])


def test_a_kill_that_costs_more_than_it_brings_is_not_chosen():
    """As above, it brings 310 to a VM of weight 2: less 2 * 100, or nothing. A JVM may run out of memory for nothing."""
    group = VmGroup("vm", Demand(hot_mib=10.0), **(VM | {"restart_s": 11.0, "weight": 2.0}))
    for cost, gain in ((0.0, 310.0), (100.0, 110.0), (155.0, 0.0), (600.0, 0.0)):
        pieces = pieces_of(started({"ram_mib": 8192.0}, group, kill_cost_s=cost))
        before = np.where(pieces.end_s <= 400.0, 0.2, 1.0)[:, None]
        assert bound._kills(pieces, before, np.ones_like(before)) == pytest.approx([gain])
    pieces.specs["jvm"]["present"] = 1.0
    assert bound._kills(pieces, before, np.ones_like(before)) == pytest.approx([310.0])


def test_a_start_that_cannot_come_about_is_charged_if_the_episode_waits_for_it():
    """The first of weight 2 has reserved the host; the late one, of weight 3, has asked since 10 s."""
    first = VmGroup("first", Demand(hot_mib=10.0), **(VM | {"min_mib": 1000.0, "weight": 2.0}))
    late = VmGroup("late", Demand(hot_mib=10.0), **(VM | {"min_mib": 1000.0, "arrive_s": 10.0, "weight": 3.0}))
    sim = started({"ram_mib": 1200.0}, first, late, hypervisor=dataclasses.replace(PLAIN, admission="reservation"))
    for seconds, charged in ((309, 0.0), (310, 3.0 * 600.0), (1000, 3.0 * 600.0)):
        (runs,) = bound.startable(pieces_of(sim, seconds))
        assert bound._failed(pieces_of(sim, seconds), runs) == charged
    most = bound.goodput(sim.hidden(), 1000)[0]
    got, _ = played(sim, 1000)
    assert got <= most < got + 1e-6
    assert most == pytest.approx((2.0 * 1000.0 - 1800.0) / (2.0 * 1000.0 + 3.0 * 991.0))


def test_lags_by_hand():
    """One rise of 300 MiB at 100 a second, from 500: 2 * (3 + 1) s of at most 300 MiB; 4 s below half speed count twice.
    1,000 s hold 1000 / (29 + 0.99 * 5) refills of 100 * (2 sqrt 8 + 1) + 300 * 2 * (0.01 * 8 + 1) MiB seconds;
    all but the first less what a kill costs at that price, 1e-4 s of work being 100 MiB seconds."""
    last = 100.0 * (2.0 * math.sqrt(8.0) + 1.0) + 648.0
    for cost, refills in ((0.0, 1000.0 / 33.95 * last), (1e-4, 1000.0 / 33.95 * (last - 100.0) + 100.0), (600.0, last)):
        sim = started({"ram_mib": 8192.0}, VmGroup("vm", Demand(hot_mib=500.0), **VM), kill_cost_s=cost)
        sim.demand["tier_mib"][0, 4:6, 0, 0] = 800.0
        lags = bound._lags(pieces_of(sim), 1e-6, np.array([4.0]))
        assert lags == pytest.approx([1e-6 * (300.0 * (8.0 + 8.0) + refills)])


# ---- the division against brute force


@pytest.mark.parametrize("seed", range(20))
def test_no_division_of_ram_brings_more_than_any_price_proves(seed):
    """Random VMs and prices; the price that is found proves what the best mixture of points reaches."""
    rng = np.random.default_rng(seed)
    groups = [
        VmGroup(
            f"vm{i}",
            Demand(hot_mib=rng.uniform(100, 900), warm_mib=rng.uniform(0, 900), cache_mib=rng.uniform(0, 900)),
            **(
                VM
                | {
                    "weight": rng.uniform(1, 3),
                    "tier_tau_s": tuple(10.0 ** rng.uniform(-1, 3, 4)),
                    "slack": rng.choice([0.0, 0.3]),
                }
            ),
        )
        for i in range(2)
    ]
    sim = started({"ram_mib": rng.uniform(500, 4000), "disk_latency_us": 1000.0, "disk_iops": 1e9}, *groups)
    pieces = pieces_of(sim)
    curve = curves.curves(pieces, 0.0 * curves.outside_mib(pieces))
    ram, runs, weight = bound.ram_mib(pieces)[0], pieces.asked, pieces.specs["weight"]
    price = bound._price(pieces, runs, curve)
    proven = (price * ram + bound._worth(pieces, runs, price, curve).sum(axis=1))[0]
    for worse in (0.1 * price, 3.0 * price, price + 1e-5, 0.0 * price):
        assert proven <= (worse * ram + bound._worth(pieces, runs, worse, curve).sum(axis=1))[0] * (1.0 + 1e-9)
    best = 0.0
    points = [list(zip(curve.ram_mib[0, v], weight[v] * curve.progress[0, v], strict=True)) for v in range(2)]
    for (m1, x1), (m2, x2) in itertools.product(*points):  # at best one VM lies between two of its points
        if m1 + m2 <= ram + 1e-9:
            best = max(best, x1 + x2)
        for own, other in ((points[0], (m2, x2)), (points[1], (m1, x1))):
            for (a, xa), (b, xb) in itertools.combinations(own, 2):
                left = ram - other[0]
                if min(a, b) < left < max(a, b):
                    best = max(best, other[1] + xa + (xb - xa) * (left - a) / (b - a))
    everything = (price[0] * pieces.wanted_mib[0]).sum()
    assert best <= proven * (1.0 + 1e-9)
    if (
        bound._worth(pieces, runs, price, curve)[0] > 1.001 * price[0] * pieces.wanted_mib[0]
    ).all() or everything == 0.0:
        assert proven == pytest.approx(best, rel=1e-6)


def test_a_bound_is_of_a_whole_episode():
    sim = started({"ram_mib": 8192.0}, VmGroup("vm", Demand(hot_mib=10.0), **VM))
    assert bound.goodput(sim.hidden()) == bound.goodput(sim.hidden(), 1000)
    sim.advance(5)
    with pytest.raises(ValueError, match="at the start"):
        bound.goodput(sim.hidden())


# ---- channels


def test_without_a_rate_of_sharing_nothing_is_merged_unless_the_hypervisor_scans():
    """On Xen a twentieth of memory could be merged if somebody scanned; ESXi scans by itself."""
    for hypervisor, lower in (("xen", True), ("esxi", False)):
        scenario = resolve(load_group("scenario", "idle-giants-short"), load_group("hypervisor", hypervisor))
        sim = Simulator(scenario)
        sim.reset([0])
        before = sim.vm_specs.tobytes()
        free, confined = (bound.goodput(sim.hidden(), 900, channels)[0] for channels in (None, ("memory_mib",)))
        assert (confined < free) == lower
        assert bound.goodput(sim.hidden(), 900, ("memory_mib", "scan_pages_per_s"))[0] == free
        assert sim.vm_specs.tobytes() == before


@pytest.mark.parametrize("hypervisor", ["esxi", "kvm", "xen", "hyperv"])
@pytest.mark.parametrize("seat", ["inside", "outside"])
def test_the_reference_of_a_seat_stays_below_that_of_its_channels(hypervisor, seat):
    scenario = resolve(
        load_group("scenario", "idle-giants-short"), load_group("hypervisor", hypervisor), rules="default"
    )
    sim, policy = Simulator(scenario, 2), Reference(seat, episodes=30)
    sim.reset([0, 1])
    most = bound.goodput(sim.hidden(), scenario.duration_s, channels_of(policy.declaration, scenario))
    assert (rollout(scenario, policy, [0, 1]).goodput < most).all()


# ---- nothing passes it


def played_agents():
    """Packaged agents that need no training and do more than decide who starts."""
    configs = {name: load_group("agent", name) for name in group_files("agent")}
    return [
        name
        for name, c in configs.items()
        if not {"train", "checkpoint"} & c.keys() and "admission" not in c["_target_"] and not of_hosts(c)
    ]


REFERENCES = ("reference", "reference_outside")
"""Who comes nearest, so they play everywhere; each of the others in one place of several, for there are dozens."""


def those_of(place, places):
    """Who plays in one of these places."""
    others = [name for name in played_agents() if name not in REFERENCES]
    return [*REFERENCES, *others[places.index(place) :: len(places)]]


TIGHT = ("esxi", "kvm", "xen", "virtualbox")


@pytest.mark.parametrize("hypervisor", TIGHT)
def test_no_packaged_policy_passes_it_and_none_passes_the_reference(hypervisor):
    scenario = resolve(load_group("scenario", "idle-giants-short"), load_group("hypervisor", hypervisor))
    sim = Simulator(scenario, 2)
    sim.reset([0, 1])
    most = bound.goodput(sim.hidden(), scenario.duration_s)
    names = those_of(hypervisor, TIGHT)
    got = {name: rollout(scenario, make_policy(load_group("agent", name)), [0, 1]).goodput for name in names}
    assert not [name for name, goodput in got.items() if (goodput >= most).any()]
    assert max(got, key=lambda name: got[name].mean()) in REFERENCES


OF_DEVICES = ("emulated-nic", "noisy-disk", "java-heaps")


@pytest.mark.parametrize("name", OF_DEVICES)
def test_no_packaged_policy_passes_it_where_devices_shares_and_heaps_decide(name):
    scenario = dataclasses.replace(load(name), episode_s=600)
    sim = Simulator(scenario, 2)
    sim.reset([0, 1])
    most = bound.goodput(sim.hidden(), scenario.duration_s)
    names = those_of(name, OF_DEVICES)
    got = {agent: rollout(scenario, make_policy(load_group("agent", agent)), [0, 1]).goodput for agent in names}
    assert not [agent for agent, goodput in got.items() if (goodput >= most).any()]


NEAR = ("idle-giants", "sibling-bursts", "cache-hogs", "tight-hdd", "late-arrivals", "no-guest-swap-short")
"""Where it is tight: hosts on which the important VMs do not outbid the others for most of RAM and disk."""


@pytest.mark.parametrize("name", sorted({*NEAR, *load_group("suite", "quick")["scenarios"]}))
def test_the_reference_stays_below_it_in_every_episode(name):
    scenario, seeds = load(name), range(2_000_000_000, 2_000_000_002)
    sim = Simulator(scenario, 2)
    sim.reset(seeds)
    most = bound.goodput(sim.hidden(), scenario.duration_s)
    got = rollout(scenario, Reference(episodes=40), seeds).goodput
    assert (got < most).all()
    assert name not in NEAR or (most - got).max() < 0.04  # and it is not far


HYPERVISORS = ("baremetal", "kvm", "esxi", "xen", "hyperv", "virtualbox", "workstation")

DISKS = (
    {"disk_iops": 80000.0, "disk_latency_us": 150.0, "disk_mib_per_s": 500.0},
    {"disk_iops": 2000.0, "disk_latency_us": 5000.0, "disk_mib_per_s": 400.0},
    {"disk_iops": 200.0, "disk_latency_us": 5000.0, "disk_mib_per_s": 100.0},
)


def any_vm(rng, index):
    """A VM of any kind, its demand in motion."""
    memory = float(rng.choice([768, 1024, 2048]))

    def perhaps(most):
        return float(rng.choice([0.0, rng.uniform(0.0, most)]))

    demand = {
        "hot_mib": rng.uniform(5.0, 0.5 * memory),
        "warm_mib": perhaps(0.4 * memory),
        "cold_mib": perhaps(0.5 * memory),
        "cache_mib": perhaps(0.6 * memory),
        "phase_s": rng.choice([40, 100, 300]),
        "phase_swing": rng.choice([0.0, 0.3, 1.0]),
        "burst_mib": perhaps(0.6 * memory),
        "burst_every_s": rng.choice([60, 150]),
        "burst_length_s": rng.choice([10, 40]),
        "cpu_share": rng.uniform(0.0, 1.0),
        "disk_mib_per_s": perhaps(20.0),
        "net_mib_per_s": perhaps(20.0),
    }
    numbers = {
        "min_mib": memory * rng.choice([0.0, 0.1, 0.4]),
        "guest_swap_mib": memory * rng.choice([0.0, 0.1, 1.0]),
        "swappiness": rng.choice([10, 60, 180]),
        "sequential_share": rng.choice([0.0, 0.8]),
        "mergeable_share": rng.choice([0.0, 0.05, 0.6]),
        "compressible_share": rng.choice([0.2, 0.69, 1.0]),
        "vcpus": rng.choice([1, 2, 4]),
        "weight": rng.choice([1, 2, 7]),
        "slack": rng.choice([0.0, 0.0, 0.5, 0.9]),
        "fault_parallelism": rng.choice([1, 4]),
        "restart_s": rng.choice([0, 1, 5, 30]),
        "growth_mib_per_s": rng.choice([5, 30, 100, 500]),
        "reclaim_mib_per_s": rng.choice([20, 200]),
        "tlb_misses_per_kilo_instruction": rng.choice([0.289, 5.0]),
        "arrive_s": rng.choice([0, 0, 0, 7, 30.5]),
    }
    tiers = {
        "tier_tau_s": tuple(rng.choice([0.5, 2, 8, 60, 300, 20000], 4).tolist()),
        "tier_is_file": (0.0, 0.0, float(rng.random() < 0.3), 1.0),
    }
    flags = {"deflate_on_oom": bool(rng.random() < 0.3), "huge_pages": bool(rng.random() < 0.5)}
    rest = {"name": f"vm{index}", "memory_mib": memory, "swap": str(rng.choice(["disk", "zram"]))}
    limit = {"cpu_limit": None if rng.random() < 0.8 else 0.5}
    plain = {
        name: {key: float(value) for key, value in group.items()} for name, group in {"d": demand, "n": numbers}.items()
    }
    return rest | plain["n"] | tiers | flags | limit | {"demand": plain["d"]}


def with_memory_keys(rng, vm, hypervisor):
    """A VM that starts small or has a limit, now and then, where the hypervisor has such things."""
    if hypervisor["startup"] != "none" and rng.random() < 0.4:
        vm["startup_mib"] = max(vm["min_mib"], float(rng.choice([0.2, 0.5, 1.0])) * vm["memory_mib"])
    if hypervisor.get("limits", "none") != "none" and rng.random() < 0.4:
        vm["limit_mib"] = max(vm["min_mib"], float(rng.choice([0.3, 0.6])) * vm["memory_mib"])
        if hypervisor["limits"] == "cgroup":
            vm["limit_kind"] = str(rng.choice(["max", "high"]))
    return vm


def any_host(rng):
    """A simulator of any host that can be built; None if these figures do not fit together."""
    of_memory = rng.spawn(1)[0]
    hypervisor = load_group("hypervisor", str(rng.choice(HYPERVISORS)))
    hypervisor |= {"own_mib": float(rng.choice([64, 256])), "vm_overhead_mib": float(rng.choice([4, 40]))}
    commits = hypervisor["last_resort"] == "commit"
    if not commits:
        hypervisor["deflate_on_oom_mib_per_s"] = float(rng.choice([0, 15]))
    host = {
        "pcpus": float(rng.choice([2, 4, 16])),
        "overcommit": float(rng.uniform(0.7, 3.0)),
        **DISKS[rng.integers(len(DISKS))],
    }
    host["swap_share"] = float(rng.choice([0.0, 0.2, 4.0]))
    swap = rng.choice(["disk", "nvme", "zram", "hdd", "remote"])
    if not commits:
        host["swap"] = str(swap)
    vms = [with_memory_keys(of_memory, any_vm(rng, index), hypervisor) for index in range(rng.integers(1, 5))]
    data = {
        "name": "any",
        "description": "",
        "host": host,
        "hypervisor": hypervisor,
        "vms": vms,
        "control_interval_s": 1,
    }
    data |= {
        "episode_s": int(rng.choice([60, 200])),
        "slot_s": int(rng.choice([5, 20])),
        "touched_share": float(rng.choice([0.0, 0.95, 1.0])),
        "kill_cost_s": float(of_memory.choice([0.0, 1.0, 20.0, 600.0])),
    }
    try:
        return Simulator(build(Scenario, data, "scenario"))
    except InputError:
        return None


def sizes_and_reclaim(rng, sim):
    spec = sim.vm_specs
    sizes = spec["min_mib"] + rng.random(spec.shape) ** 2 * (spec["memory_mib"] - spec["min_mib"])
    amounts = rng.choice([0.0, 50.0, 500.0], spec.shape)
    return Targets(
        np.where(rng.random(spec.shape) < 0.5, np.nan, sizes), amounts, rng.choice([0.0, 1.0, 100.0], spec.shape)
    )


def every_channel(rng, sim):
    flags = rng.integers(0, 2, (2, *sim.vms.shape)).astype(float)
    scan = np.full(sim.hosts.shape, rng.choice([0.0, 1e3, 1e5, 1e7]))
    return dataclasses.replace(
        sizes_and_reclaim(rng, sim), scan_pages_per_s=scan, report_free_pages=flags[0], admit=flags[1]
    )


def squeeze_and_release(rng, sim):
    return Targets(np.where(rng.random(sim.vms.shape) < 0.5, sim.vm_specs["min_mib"], sim.vm_specs["memory_mib"]))


def players(rng, sim):
    """Policies by name: none, three that draw and answer at their own pace, and the reference in a hurry."""
    every, reference = int(rng.choice([1, 5, 20])), Reference(episodes=40)
    reference.begin(sim.scenario, CHANNELS)
    drawn = {draw.__name__: draw for draw in (sizes_and_reclaim, every_channel, squeeze_and_release)}
    yield "nothing", lambda now: None
    for name, draw in drawn.items():
        yield name, lambda now, draw=draw: None if now % every else draw(rng, sim)
    yield "reference", lambda now: None if now % 5 else reference.decide(sim.hidden())


@pytest.mark.parametrize("seed", range(60))
def test_no_random_policy_passes_it_on_any_host(seed):
    """... and RAM is never used twice, but by swap that lies in it and by what a paged start still lacks."""
    rng = np.random.default_rng(seed)
    sim = None
    while sim is None:
        sim = any_host(rng)
    seconds, episode = sim.scenario.duration_s, int(rng.integers(1000))
    sim.reset([episode])
    most, debt = bound.goodput(sim.hidden(), seconds)[0], min(float(sim.hosts["free_mib"][0, 0]), 0.0)
    host = sim.host_specs[0, 0]
    may_owe = max(host["swap_stored_share"], host["pages_restarts"], sim.vm_specs["zram_stored_share"].max()) > 0.0
    for name, answer in players(rng, sim):
        sim.reset([episode])
        got, least = played(sim, seconds, answer)
        assert got <= most, name
        assert least >= debt - 1e-6 or may_owe, name
