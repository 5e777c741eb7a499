"""Victims of the host: random where the vendor says so, else the oldest pages of whichever VM, as the host's lists know them."""

import dataclasses
import itertools

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.model.host import overcommit, victims
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup, load
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

KNOWING = ("mglru_before_6_12", "two_lists", "mglru")
"""From the worst to the best: ChromeOS beside a VM opened tabs in 2.56, 1.32 and 1.12 s."""

NEVER_S = 1e9

INSTANT = {"disk_iops": 1e9, "disk_latency_us": 1e-3, "disk_mib_per_s": 1e9}
"""A disk that no one waits for."""


def vm(name="vm", hot_mib=0.0, cold_mib=0.0, hot_s=10.0, cold_s=NEVER_S, warm_mib=0.0, warm_s=1000.0, **changes):
    taus = (hot_s, warm_s, cold_s, NEVER_S)
    demand = Demand(hot_mib=hot_mib, warm_mib=warm_mib, cold_mib=cold_mib, cpu_share=0.0)
    given = {"memory_mib": 4096.0, "guest_swap_mib": 4096.0, "kernel_cache_mib": 0.0, "mergeable_share": 0.0}
    return VmGroup(name, demand, **(given | {"tier_tau_s": taus} | changes))


def start(kind, *groups, touched_share=0.0, limits="none", **host):
    hypervisor = Hypervisor("host", 1, 0.0, 0.0, victims=kind, limits=limits, exit_us=0.0, nested_walks=False)
    scenario = Scenario("s", "", Host(**host), hypervisor, groups, episode_s=100_000, touched_share=touched_share)
    sim = Simulator(scenario)
    sim.reset([0])
    return sim


def out_mib(sim):
    """By VM and tier."""
    return sim.vms["host_swapped_mib"][0].copy()


# ---- The measured host: 802 MiB for three guests of whom one idles


def play_static(kind):
    """Two minutes of the measured guests at full size, which have run for long and of which nothing was used only for booting
    (that would go first); what each has in host swap at most, MiB; their slowest second since the
    burst began; host faults."""
    scenario = load("real-guests")
    vms = tuple(dataclasses.replace(vm, settled_cold=False, boot_only_mib=0.0) for vm in scenario.vms)
    sim = Simulator(
        dataclasses.replace(scenario, vms=vms, hypervisor=dataclasses.replace(scenario.hypervisor, victims=kind))
    )
    sim.reset([0])
    sim.apply(Targets(sim.vm_specs["memory_mib"].copy()))
    most_out_mib, least_progress = np.zeros(3), np.ones(3)
    for second in range(120):
        sim.advance(1)
        most_out_mib = np.maximum(most_out_mib, out_mib(sim).sum(axis=1) + sim.vms["free_swapped_mib"][0])
        if second >= 40:
            least_progress = np.minimum(least_progress, sim.vms["progress"][0])
    return most_out_mib, least_progress, 256.0 * sim.vms["host_swap_in_mib"][0].sum()


@pytest.mark.parametrize("kind", KNOWING)
def test_the_idle_giant_gives_what_the_burst_needs_and_nobody_faults(kind):
    """Measured: the giant's resident memory fell by 151 MiB from 286; 92-159 host faults in all; steady and burst at 1.0. Measured
    again (docs/fidelity.md): it fell by 85 MiB from 300."""
    (giant, steady, burst), progress, faults = play_static(kind)
    assert 70.0 < giant < 160.0
    assert max(steady, burst) < 1.0
    assert progress.min() > 0.98
    assert faults < 159.0


def test_random_victims_take_hot_pages_of_the_busy_too():
    """As the model had it: 29 MiB of steady and 51 of burst out, and progress down to 0.4."""
    (_, steady, burst), progress, faults = play_static("random")
    assert min(steady, burst) > 10.0
    assert progress[1:].max() < 0.8
    assert faults > 5_000.0


@pytest.mark.parametrize("kind", ["random", *KNOWING])
def test_an_episode_begins_where_the_host_stays(kind):
    """Ten minutes in which nothing changes change nothing, although pages come and go."""
    busy = vm("busy", 1200.0, 800.0, hot_s=10.0, cold_s=3000.0, warm_mib=700.0, warm_s=200.0)
    idle = vm("idle", 100.0, 2500.0, hot_s=20.0, cold_s=20_000.0)
    sim = start(kind, busy, idle, ram_mib=4400.0, **INSTANT)
    began = out_mib(sim)
    sim.advance(600)
    assert sim.vms["host_swap_in_mib"].sum() > 10.0
    np.testing.assert_allclose(out_mib(sim), began, rtol=0.03, atol=2.0)


# ---- Which pages


def share_out(kind, x):
    """Share of pages out in the long run, touched x times while an untouched one leaves."""
    law = victims.LAWS[kind]
    return 1.0 / (1.0 + x * (1.0 + law.a * x + law.b * x * x))


@pytest.mark.parametrize(("kind", "stages"), [("random", 1), ("two_lists", 2), ("mglru", 3)])
@pytest.mark.parametrize("x", [0.0, 0.1, 1.0, 30.0])
def test_pages_leave_after_so_many_stages_untouched(kind, stages, x):
    assert share_out(kind, x) == pytest.approx((1.0 + x / stages) ** -stages)


@pytest.mark.parametrize("kind", ["random", *KNOWING])
def test_the_long_run_is_that_of_the_law_with_one_age_for_all_vms(kind):
    """Two VMs touched at three rates: the ages that their shares out imply agree."""
    groups = [vm("one", 1500.0, 1000.0, cold_s=500.0), vm("other", 1500.0, 1000.0, hot_s=50.0, cold_s=500.0)]
    sim = start(kind, *groups, ram_mib=4000.0, **INSTANT)
    sim.advance(10_000)
    out = out_mib(sim)[:, [0, 2]] / sim.vms["resident_mib"][0][:, [0, 2]]
    x = np.logspace(-4, 4, 100_001)
    implied = np.interp(-np.log(out), -np.log(share_out(kind, x)), x) * np.array([[10.0, 500.0], [50.0, 500.0]])
    np.testing.assert_allclose(implied, implied.mean(), rtol=0.1)


def faults_mib_per_s(kind):
    """Of a host whose VMs are touched at rates from seconds to an hour, in the long run."""
    group = vm("vm", 1500.0, 500.0, cold_s=3600.0, warm_mib=800.0, warm_s=300.0, count=2)
    sim = start(kind, group, ram_mib=4200.0, **INSTANT)
    sim.advance(3000)
    before = sim.vms["host_swap_in_mib"].sum()
    sim.advance(600)
    return (sim.vms["host_swap_in_mib"].sum() - before) / 600.0


def test_the_better_a_host_knows_ages_the_fewer_faults_it_causes():
    """Random, one look, two lists, three generations; each at least a tenth better than the one before."""
    faults = [faults_mib_per_s(kind) for kind in ("random", *KNOWING)]
    assert all(later < 0.9 * sooner for sooner, later in itertools.pairwise(faults)), faults


def hot_taken_share(kind):
    """After a calm a host needs 300 MiB at once: the share of it that is touched every 30 s; 1,000 MiB of another VM are idle."""
    sim = start(kind, vm("busy", 1000.0, hot_s=30.0), vm("idle", 0.0, 1000.0), ram_mib=65536.0, **INSTANT)
    sim.hosts["lru_age_s"], sim.hosts["calm_s"] = 1000.0, 0.0
    written = overcommit.swap_some(sim.vms[0], sim.vm_specs[0], sim.hosts[0, 0], sim.host_specs[0, 0], 300.0)
    assert written == pytest.approx(300.0)
    assert out_mib(sim).sum() == pytest.approx(300.0)
    return out_mib(sim)[0].sum() / 300.0


def test_a_squeeze_takes_what_is_idle_and_less_of_the_rest_the_better_it_is_known():
    shares = [hot_taken_share(kind) for kind in ("random", *KNOWING)]
    assert shares[0] == pytest.approx(0.5)
    assert shares == sorted(shares, reverse=True)
    assert shares[1] < 0.1


def test_pages_of_equal_age_leave_in_equal_shares_of_every_vm():
    """1,000 and 500 MiB untouched, none older than 1,000 s: the oldest fifth of both is 300 MiB, all older than 800 s."""
    sim = start("mglru", vm("one", 0.0, 1000.0), vm("other", 0.0, 500.0), ram_mib=65536.0)
    args = (sim.vms[0], sim.vm_specs[0], sim.host_specs[0, 0])
    age_s, leaves_mib = victims.find_age(*args, 1000.0, 0.0, 300.0)
    assert leaves_mib == pytest.approx(1500.0 * (1.0 - age_s / 1000.0), rel=1e-4)
    assert age_s == pytest.approx(800.0, abs=3.0)


def test_reclaim_after_a_pause_catches_up_with_what_has_come_of_age_since():
    """Nothing has left for 100 s: pages go as far as they have come of age meanwhile, and ages stay; more lowers the age."""
    sim = start("mglru", vm("one", 0.0, 1000.0), ram_mib=65536.0, **INSTANT)
    host = sim.hosts[0, 0]
    host["lru_age_s"], host["calm_s"] = 900.0, 100.0
    of_age = 1000.0 * (1.0 - np.exp(-100.0 / 1000.0))
    overcommit.swap_some(sim.vms[0], sim.vm_specs[0], host, sim.host_specs[0, 0], 0.25 * of_age)
    assert host["lru_age_s"] + host["calm_s"] == pytest.approx(1000.0)
    assert host["calm_s"] == pytest.approx(75.0)
    overcommit.swap_some(sim.vms[0], sim.vm_specs[0], host, sim.host_specs[0, 0], 500.0)
    assert host["lru_age_s"] < 600.0
    assert host["calm_s"] == 0.0


def test_a_host_that_wants_all_there_is_gets_it():
    sim = start("two_lists", vm("one", 300.0, 700.0), ram_mib=65536.0, **INSTANT)
    rows = sim.vms[0], sim.vm_specs[0], sim.hosts[0, 0], sim.host_specs[0, 0]
    assert overcommit.swap_some(*rows, 2000.0) == pytest.approx(1000.0, abs=1e-3)
    assert overcommit.swap_some(*rows, 10.0) == pytest.approx(0.0, abs=1e-3)


def test_a_guest_that_reclaims_for_itself_leaves_its_host_nothing_older():
    """Both have 1,000 MiB untouched; in the first nothing is older than 100 s, so all comes of the other."""
    sim = start("mglru", vm("squeezed", 0.0, 1000.0), vm("other", 0.0, 1000.0), ram_mib=65536.0, **INSTANT)
    sim.vms["oldest_s"][0, 0] = 100.0
    sim.hosts["lru_age_s"], sim.hosts["calm_s"] = 1000.0, 0.0
    overcommit.swap_some(sim.vms[0], sim.vm_specs[0], sim.hosts[0, 0], sim.host_specs[0, 0], 300.0)
    squeezed, other = out_mib(sim).sum(axis=1)
    assert squeezed == 0.0
    assert other == pytest.approx(300.0)


# ---- What was used only while a VM booted


def booted(sim):
    """By VM: what its kernel and process used while it booted, and the rest that is out."""
    vms = sim.vms[0]
    return vms["boot_swapped_mib"].tolist(), (vms["host_swapped_mib"].sum(axis=1) + vms["free_swapped_mib"]).tolist()


BOOTED = {"kernel_mib": 70.0, "boot_only_mib": 60.0}


@pytest.mark.parametrize("kind", KNOWING)
def test_what_was_used_only_while_booting_goes_first_of_each_vm_the_same_share(kind):
    sim = start(kind, vm("idle", 0.0, 1000.0, **BOOTED), vm("busy", 1000.0, 0.0, **BOOTED), ram_mib=65536.0, **INSTANT)
    rows = sim.vms[0], sim.vm_specs[0], sim.hosts[0, 0], sim.host_specs[0, 0]
    used = [overcommit.used_mib(sim.vms[0, v], sim.vm_specs[0, v]) for v in range(2)]
    assert overcommit.swap_some(*rows, 30.0) == pytest.approx(30.0)
    assert booted(sim) == ([15.0, 15.0], [0.0, 0.0])
    assert overcommit.swap_some(*rows, 190.0) == pytest.approx(190.0)
    boot, rest = booted(sim)
    assert boot == pytest.approx([60.0, 60.0])
    assert sum(rest) == pytest.approx(100.0)
    assert rest[0] > 95.0
    left = [overcommit.used_mib(sim.vms[0, v], sim.vm_specs[0, v]) for v in range(2)]
    assert np.subtract(used, left).tolist() == pytest.approx(np.add(boot, rest).tolist())
    read = sim.vms["host_swap_in_mib"].sum()
    sim.advance(60)
    assert booted(sim)[0] == pytest.approx([60.0, 60.0])  # nobody reads it back
    assert sim.vms["host_swap_in_mib"].sum() - read == pytest.approx(rest[1], abs=0.1)


def test_an_episode_begins_with_it_out_before_anything_that_workloads_hold():
    """2,140 MiB on 2,100: the 40 missing and what the host wants free come of the 120."""
    sim = start(
        "two_lists", vm("idle", 0.0, 1000.0, **BOOTED), vm("busy", 1000.0, 0.0, **BOOTED), ram_mib=2100.0, **INSTANT
    )
    boot, rest = booted(sim)
    assert 40.0 <= sum(boot) < 120.0
    assert rest == [0.0, 0.0]


def test_reclaim_that_a_policy_asks_for_and_a_limit_take_it_first_too():
    sim = start(
        "mglru", vm("one", 100.0, 500.0, limit_mib=600.0, **BOOTED), limits="cgroup", ram_mib=65536.0, **INSTANT
    )
    boot, rest = booted(sim)
    assert boot[0] == 60.0
    assert boot[0] + rest[0] == pytest.approx(70.0)  # 670 under a limit of 600
    sim = start("mglru", vm("one", 100.0, 500.0, **BOOTED), ram_mib=65536.0, **INSTANT)
    sim.apply(Targets(np.full((1, 1), np.nan), reclaim_mib=np.array([[50.0]])))
    sim.advance(5)
    assert booted(sim) == ([50.0], [0.0])


def test_a_vm_has_no_more_of_it_than_kernel_and_process():
    with pytest.raises(InputError, match=r"boot_only_mib=80 of vm: kernel and process have 70 MiB; no more can be"):
        start("mglru", vm(kernel_mib=70.0, boot_only_mib=80.0), ram_mib=65536.0)


# ---- A limit has lists of its own


@pytest.mark.parametrize("kind", KNOWING)
def test_a_limit_takes_the_idle_pages_of_its_vm_before_those_in_use(kind):
    """1,100 MiB under a limit of 1,000 and 200 more that are touched: what leaves is never touched again."""
    sim = start(kind, vm("vm", 300.0, 800.0, limit_mib=1018.0), limits="cgroup", ram_mib=65536.0, **INSTANT)
    assert out_mib(sim)[0, 0] < 0.1
    sim.demand["tier_mib"][0, :, 0, 0] = 500.0
    sim.advance(60)
    assert out_mib(sim)[0, 2] == pytest.approx(300.0, abs=1.0)
    assert out_mib(sim)[0, 0] < 0.1
