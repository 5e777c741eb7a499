"""Every byte that moves passes a device, within what the device can do in that second: also in the second after a squeeze.

Device time is added up here from counters, not from what the model planned: pages that guests read back, new page cache,
the applications' own I/O, what was served of the writes, and what the hypervisor read from its swap.
"""

import dataclasses
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hvgym.envs.making import scenario_of
from hvgym.envs.model.devices.io import FILE_READ_AHEAD_PAGES
from hvgym.envs.model.guest.paging import READ_AHEAD
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup, load
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
try:
    scenarios = importlib.import_module("test_conservation").scenarios
finally:
    sys.path.pop(0)

PAGES = 256.0
PLAIN = Hypervisor("plain", 1, own_mib=64.0, vm_overhead_mib=32.0, exit_us=0.0, nested_walks=False, victims="two_lists")
ROUNDING = 2e-3
"""The utilisation that VMs cause and suffer is found to a thousandth of what is free."""


def second(sim):
    """Advance; return the shares of the disk's and of an own swap device's second that were used, and the shares of each VM's
    own limit. The writes of a mapped file are not counted."""
    vms, host = sim.vms[0].copy(), sim.hosts[0, 0].copy()
    sim.advance(1)
    now, after, spec, specs = sim.vms[0], sim.hosts[0, 0], sim.host_specs[0, 0], sim.vm_specs[0]

    def rise(name):
        return now[name] - vms[name]

    on_disk = specs["zram_stored_share"] == 0.0
    anonymous = rise("swap_in_mib") / np.where(on_disk, READ_AHEAD, 1.0)
    files = rise("major_faults") / PAGES - anonymous
    new_files = rise("file_in_mib") - files
    swapped = np.where(on_disk, rise("swap_in_mib") + rise("swap_out_mib"), 0.0)
    application = rise("disk_mib") - swapped - rise("file_in_mib") - rise("file_out_mib")
    paid = np.minimum(now["replaced_mib"], now["progress"] * vms["replaced_mib_per_s"])
    runs = vms["run_share"] * paid
    missed = 1.0 - host["cache_mib"] / max(
        host["cache_mib"] + after["tick_evicted_mib"], 1e-9
    )  # by a host's page cache
    in_sequence = missed * files * specs["sequential_share"] * (1.0 - 1.0 / FILE_READ_AHEAD_PAGES)
    single = missed * (np.where(on_disk, anonymous, 0.0) + files) - in_sequence
    operations = PAGES * single + (new_files + application + in_sequence) / spec["disk_mib_per_s"] * spec["disk_iops"]
    reads = operations / spec["disk_iops"]
    writes = now["written_share"] + (paid - runs) * PAGES / spec["disk_iops"] + runs / spec["disk_mib_per_s"]
    assert (reads >= -1e-9).all()
    assert (writes >= -1e-9).all()
    queued = sum(vms[name] - now[name] for name in ("queued_single_mib", "queued_runs_mib"))
    served = queued + np.where(on_disk, rise("swap_out_mib"), 0.0) + rise("file_out_mib") - paid
    killed = (rise("oom_kills") + rise("heap_errors")) > 0.0
    assert (served >= -1e-6)[~killed].all()  # nothing is written that was not queued
    disk = float((reads + writes).sum())
    host_reads, swapped_out = (
        read_by_host(vms, now, host, spec, specs),
        float(after["swap_out_mib"] - host["swap_out_mib"]),
    )
    if spec["swap_is_disk"]:
        disk += host_reads / spec["disk_iops"]
        new, left = swapped_out, after["write_backlog_mib"] - host["write_backlog_mib"]
        own = 0.0
    else:
        own = host_reads / spec["swap_iops"]
        own += (swapped_out - (after["swap_backlog_mib"] - host["swap_backlog_mib"])) / spec["swap_mib_per_s"]
        new, left = 0.0, after["write_backlog_mib"] - host["write_backlog_mib"]
    if not spec["writes_behind"]:
        disk += (new - left) / spec["disk_mib_per_s"]
    limit = np.where(specs["disk_bucket"] > 0.0, now["disk_allowed"], specs["disk_limit"])
    return disk, own, operations / (limit * spec["disk_iops"])


def read_by_host(vms, now, host, spec, specs):
    """Reads of host swap, and the transfer of what read-ahead fetches with them as reads that take as long."""
    fetched = spec["swap_iops"] / (PAGES * spec["swap_mib_per_s"])
    in_order, evicted = PAGES * now["zeroed_mib"], PAGES * now["double_paged_mib"]
    touched = PAGES * (now["host_swap_in_mib"] - vms["host_swap_in_mib"]) - in_order - evicted
    waits = touched / (1.0 + specs["sequential_share"] * max(8.0 * host["swap_order"] - 1.0, 0.0))
    together = max(8.0 * host["swap_order"], 1.0)
    pages = evicted + waits + fetched * (touched - waits)
    return float((pages + in_order / together + fetched * (1.0 - 1.0 / together) * in_order).sum())


def squeezes(sim, rng, seconds):
    """Sudden changes of all sizes; the largest use of disk, swap device and limits in any second."""
    most = np.zeros(3)
    for turn in range(seconds):
        if turn % 15 == 3:
            sim.apply(Targets(sim.vm_specs["memory_mib"] * rng.uniform(0.2, 1.0, sim.vms.shape)))
        disk, own, limits = second(sim)
        most = np.maximum(most, [disk, own, limits.max()])
    return most


def host(seed):
    """A host of two to six VMs that page, on a disk between a hard drive and an NVMe drive."""
    rng = np.random.default_rng(seed)
    swap = rng.choice(["disk", "nvme", "hdd", "sata_ssd"])
    machine = Host(
        ram_mib=4000.0, disk_iops=10 ** rng.uniform(2, 5.3), disk_latency_us=10 ** rng.uniform(2, 3.9),
        disk_mib_per_s=10 ** rng.uniform(2, 3.2), swap=None if swap == "disk" else str(swap), swap_share=4.0,
    )  # fmt: skip
    shares = {"disk_shares": 1000.0, "disk_limit_iops": 0.3 * machine.disk_iops} if rng.random() < 0.5 else {}
    groups = tuple(
        VmGroup(
            "vm", memory_mib=1536.0, guest_swap_mib=float(rng.choice([0.0, 2048.0, 8192.0])),
            demand=Demand(hot_mib=rng.uniform(100, 700), warm_mib=200.0, cold_mib=200.0, cache_mib=rng.uniform(0, 200),
                          phase_s=20.0, phase_swing=0.3, disk_mib_per_s=float(rng.choice([0.0, 5.0]))),
            tier_tau_s=(float(rng.uniform(0.5, 20.0)), 60.0, 3000.0, 30.0), fault_parallelism=float(rng.choice([1, 8])),
            init_on_alloc=bool(rng.random() < 0.7), mergeable_share=0.0, **shares,
        ) for _ in range(rng.integers(2, 7))
    )  # fmt: skip
    sim = Simulator(Scenario("any", "", machine, PLAIN, groups, slot_s=5, episode_s=600))
    sim.reset([seed])
    return sim, rng


@pytest.mark.parametrize("seed", range(60))
def test_no_device_does_more_than_it_can_in_any_second(seed):
    disk, own, _ = squeezes(*host(seed), 120)
    assert disk <= 1.0 + ROUNDING
    assert own <= 1.0 + ROUNDING


def test_these_hosts_keep_their_devices_busy():
    """The test above would be worth little if nothing came near."""
    used = np.array([squeezes(*host(seed), 120) for seed in range(60)])
    assert (used[:, 0] > 0.9).sum() > 20
    assert (used[:, 1] > 0.9).sum() > 5


@pytest.mark.parametrize("seed", range(8))
def test_no_guest_reads_more_than_its_limit_in_the_second_after_a_squeeze(seed):
    """600 operations a second each; the real guests got 600, never more."""
    sim = Simulator(load("real-guests"))
    sim.reset([0])
    disk, own, limits = squeezes(sim, np.random.default_rng(seed), 120)
    assert limits <= 1.0 + ROUNDING
    assert max(disk, own) <= 1.0 + ROUNDING


def test_a_fast_squeeze_on_a_slow_disk_is_no_faster_than_the_disk():
    """What was seven times too much: 120 operations a second, hot pages, and a balloon that takes them at once."""
    base = load("real-guests")
    vm = dataclasses.replace(base.vms[1], disk_limit_iops=None, reclaim_mib_per_s=400.0)
    slow = dataclasses.replace(base.host, ram_mib=4096.0, disk_iops=120.0, disk_latency_us=8000.0, disk_mib_per_s=150.0)
    sim = Simulator(dataclasses.replace(base, host=slow, vms=(vm, dataclasses.replace(vm, name="other"))))
    sim.reset([0])
    sim.apply(Targets(np.full((1, 2), 384.0)))
    sim.advance(60)
    sim.apply(Targets(np.full((1, 2), 130.0)))
    used = [second(sim)[0] for _ in range(20)]
    assert max(used) <= 1.0 + ROUNDING
    assert max(used) > 0.5


@st.composite
def slow_hosts(draw):
    """Whatever a scenario may say, on a disk that is slow enough to be busy."""
    scenario, iops = draw(scenarios()), 10 ** draw(st.floats(2, 4))
    swap = draw(st.sampled_from(["hdd", "sata_ssd"])) if scenario.host.swap in ("hdd", "remote") else scenario.host.swap
    slow = dataclasses.replace(
        scenario.host, disk_iops=iops, disk_latency_us=draw(st.floats(3e5, 1e6)) / iops,
        disk_mib_per_s=10 ** draw(st.floats(1.5, 3)), swap=swap,
    )  # fmt: skip
    reserved = sum(group.disk_reservation_iops * group.count for group in scenario.vms)
    vms = tuple(dataclasses.replace(group, disk_reservation_iops=0.0) for group in scenario.vms)
    return dataclasses.replace(scenario, host=slow, vms=scenario.vms if reserved < iops else vms)


@settings(max_examples=150, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(slow_hosts(), st.integers(0, 2**32), st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_no_device_does_more_than_it_can_whatever_the_scenario(scenario, seed, actions):
    sim = Simulator(scenario)
    sim.reset([seed])
    for turn in range(120):
        if turn % 10 == 0:
            sim.apply(Targets(sim.vm_specs["memory_mib"] * actions[turn // 10 % len(actions)]))
        disk, own, limits = second(sim)
        assert disk <= 1.0 + ROUNDING
        assert own <= 1.0 + ROUNDING
        assert (limits <= 1.0 + ROUNDING).all()


@pytest.mark.parametrize("hypervisor", ["kvm", "esxi", "xen", "hyperv", "virtualbox", "workstation", "baremetal"])
@pytest.mark.parametrize("scenario", ["tight-hdd", "noisy-disk"])
def test_no_device_does_more_than_it_can_under_any_hypervisor(scenario, hypervisor):
    sim = Simulator(scenario_of(scenario, hypervisor=hypervisor, rules="open"))
    sim.reset([5])
    disk, own, _ = squeezes(sim, np.random.default_rng(5), 300)
    assert disk <= 1.0 + ROUNDING
    assert own <= 1.0 + ROUNDING


def squeezed_beside(ram_mib, **changes):
    """A VM that pages nothing, the moment before its memory is halved, beside one that fills the disk."""
    vms = tuple(
        VmGroup(name, memory_mib=2048.0, demand=Demand(hot_mib=1500.0, disk_mib_per_s=disk), tier_tau_s=(5.0,) * 4,
                guest_swap_mib=4096.0, mergeable_share=0.0, **changes)
        for name, disk in (("pages", 50.0 if "disk_limit_iops" in changes else 0.0), ("sends", 500.0))
    )  # fmt: skip
    machine = Host(ram_mib=ram_mib, disk_iops=500.0, disk_latency_us=1000.0, disk_mib_per_s=100.0)
    sim = Simulator(Scenario("any", "", machine, PLAIN, vms, slot_s=5, episode_s=600))
    sim.reset([0])
    sim.advance(5)
    sim.apply(Targets(np.array([[1024.0, 2048.0]])))
    return sim


@pytest.mark.parametrize(("changes", "faults_per_s"), [({}, 0.5), ({"disk_limit_iops": 100.0}, 20.0)])
def test_a_vm_that_must_page_on_a_full_disk_gets_some_of_it(changes, faults_per_s):
    """It stood still until its neighbour, or its own application under a limit, left the disk alone."""
    sim = squeezed_beside(8192.0, **changes)
    sim.advance(60)
    faults = float(sim.vms["major_faults"][0, 0])
    sim.advance(60)
    assert float(sim.vms["major_faults"][0, 0]) - faults > 60.0 * faults_per_s
    assert float(sim.vms["balloon_mib"][0, 0]) > 470.0


@pytest.mark.parametrize("changes", [{}, {"disk_shares": 1000.0}, {"disk_limit_iops": 100.0}])
def test_a_balloon_that_finds_free_memory_does_not_hold_its_vm_up(changes):
    """To halve the VM's memory takes 500 MiB that are free and 12 that are hot: for these the balloon waits."""
    sim = squeezed_beside(8192.0, **changes)
    before = float(sim.vms["progress"][0, 0])
    sim.advance(1)
    assert float(sim.vms["balloon_mib"][0, 0]) > 200.0
    assert float(sim.vms["progress"][0, 0]) > 0.5 * before


def test_a_vm_that_did_nothing_with_its_disk_has_its_limit_in_the_second_after_a_squeeze():
    sim = squeezed_beside(8192.0, disk_limit_iops=60.0)
    sim.demand["disk_mib_per_s"] = 0.0
    sim.advance(10)
    assert max(float(second(sim)[2].max()) for _ in range(3)) <= 1.0 + ROUNDING
    sim.apply(Targets(np.array([[400.0, 400.0]])))
    used = [float(second(sim)[2].max()) for _ in range(20)]
    assert max(used) <= 1.0 + ROUNDING
    assert max(used) > 0.5


def test_a_balloon_waits_for_a_disk_that_has_nothing_left_and_its_vm_does_not():
    sim = squeezed_beside(8192.0, disk_shares=1000.0)
    sim.advance(5)
    done = float(sim.vms["progress_s"][0, 0])
    sim.advance(10)
    assert float(sim.vms["progress_s"][0, 0]) - done > 9.0


@pytest.mark.parametrize("changes", [{}, {"disk_limit_iops": 100.0}])
def test_a_balloon_reads_back_what_the_host_swapped_though_the_disk_is_full(changes):
    """Under a limit that the application fills it took nothing: the limit is no affair of the host's own reads."""
    sim = squeezed_beside(4000.0, **changes)
    assert sim.vms["free_swapped_mib"][0, 0] > 50.0
    sim.advance(120)
    assert float(sim.vms["balloon_mib"][0, 0]) > 20.0  # a page at a time, each as long as such a disk takes
