"""Every byte that moves passes a device, within what the device can do in that second: also in the second after a squeeze.

Device time is added up here from counters, not from what the model planned: pages that guests read back, new page cache,
the applications' own I/O, what was served of the writes, and what the hypervisor read from its swap.
"""

import dataclasses

import numpy as np
import pytest

from hvgym.envs.model.guest.memory import READ_AHEAD
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup, load
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

PAGES = 256.0
PLAIN = Hypervisor("plain", 1, own_mib=64.0, vm_overhead_mib=32.0, exit_us=0.0, nested_walks=False, victims="two_lists")
ROUNDING = 2e-3
"""The utilisation that VMs cause and suffer is found to a thousandth of what is free."""


def second(sim):
    """Advance; return the shares of the disk's and of an own swap device's second that were used, and the shares of each VM's
    own limit."""
    vms, host = sim.vms[0].copy(), sim.hosts[0, 0].copy()
    sim.advance(1)
    now, after, spec, specs = sim.vms[0], sim.hosts[0, 0], sim.host_specs[0, 0], sim.vm_specs[0]

    def rise(name):
        return now[name] - vms[name]

    anonymous = rise("swap_in_mib") / READ_AHEAD
    files = rise("major_faults") / PAGES - anonymous
    new_files = rise("file_in_mib") - files
    paging = rise("swap_in_mib") + rise("swap_out_mib") + rise("file_in_mib") + rise("file_out_mib")
    application = rise("disk_mib") - paging
    paid = np.minimum(now["replaced_mib"], now["progress"] * vms["replaced_mib_per_s"])
    runs = vms["swap_order"] * paid
    reads = rise("major_faults") / spec["disk_iops"] + (new_files + application) / spec["disk_mib_per_s"]
    writes = now["written_share"] + (paid - runs) * PAGES / spec["disk_iops"] + runs / spec["disk_mib_per_s"]
    assert (reads >= -1e-9).all()
    assert (writes >= -1e-9).all()
    queued = sum(vms[name] - now[name] for name in ("queued_single_mib", "queued_runs_mib"))
    served = queued + rise("swap_out_mib") + rise("file_out_mib") - paid
    assert (served >= -1e-6).all()  # nothing is written that was not queued
    disk = float((reads + writes).sum())
    in_order = float(now["zeroed_mib"].sum()) * PAGES
    alone = float(rise("host_swap_in_mib").sum()) * PAGES - in_order
    together = max(8.0 * host["swap_order"], 1.0)
    host_reads = alone + in_order / together  # operations, and the transfer of what read-ahead fetches with them
    host_reads += (1.0 - 1.0 / together) * in_order * spec["swap_iops"] / (PAGES * spec["swap_mib_per_s"])
    swapped_out = float(after["swap_out_mib"] - host["swap_out_mib"])
    if spec["swap_is_disk"]:
        disk += host_reads / spec["disk_iops"]
        new, left = swapped_out, after["write_backlog_mib"] - host["write_backlog_mib"]
        own = 0.0
    else:
        own = host_reads / spec["swap_iops"]
        own += (swapped_out - (after["swap_backlog_mib"] - host["swap_backlog_mib"])) / spec["swap_mib_per_s"]
        new, left = 0.0, after["write_backlog_mib"] - host["write_backlog_mib"]
    disk += (new - left) / spec["disk_mib_per_s"]
    operations = rise("major_faults") + (new_files + application) / spec["disk_mib_per_s"] * spec["disk_iops"]
    return disk, own, operations / (specs["disk_limit"] * spec["disk_iops"])


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
