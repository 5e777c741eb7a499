"""Limits of host memory that are set while VMs run (``Targets.limit_mib``): what they take, give back and are held to."""

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup, load_group, resolve
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

NEVER = (1e9,) * 4
"""Tiers that nobody touches."""

PROCESS_MIB, KERNEL_MIB = 50.0, 18.0

ESXI = Hypervisor("esxi", 1, 0.0, PROCESS_MIB, last_resort="esxi", admission="reservation", limits="esxi", exit_us=0.0,
                  nested_walks=False, balloon_cap_share=0.65, zip_cap_share=0.1, zip_stored_share=0.5)  # fmt: skip
CGROUP = Hypervisor("kvm", 1, 0.0, PROCESS_MIB, limits="cgroup", victims="mglru", exit_us=0.0, nested_walks=False)


def vm(hot_mib=3000.0, **changes):
    given = {"memory_mib": 4096.0, "guest_swap_mib": 4096.0, "mergeable_share": 0.0, "kernel_cache_mib": 0.0}
    return VmGroup("vm", Demand(hot_mib=hot_mib, cpu_share=0.1), **(given | {"tier_tau_s": NEVER} | changes))


def start(hypervisor, *groups, lanes=1, **host):
    """A host of 64 GiB: memory is never short."""
    machine = Host(**({"ram_mib": 65536.0} | host))
    sim = Simulator(Scenario("s", "", machine, hypervisor, groups, episode_s=10_000, touched_share=0.0), lanes)
    sim.reset(range(lanes))
    return sim


def limit(sim, *limit_mib):
    """Of the VMs of the only lane, process counted."""
    sim.apply(Targets(limit_mib=np.array([limit_mib], float)))


def all_seen(sim, name):
    """Of the VMs of the first lane, as it is now."""
    sim.read(0, sim.lanes)
    return sim.telemetry().vm[name][0].tolist()


def seen(sim, name):
    return all_seen(sim, name)[0]


# ---- lowered


def test_memory_high_that_is_lowered_takes_what_lies_above_at_the_devices_speed_and_throttles_meanwhile():
    """3,068 MiB with the process, then 2,048; the disk writes 900 a second, so 2,168 are left, 5.86 % too many: 64 x 0.0586^2 s
    for 64 pages, a quarter MiB."""
    sim = start(CGROUP, vm(), disk_mib_per_s=900.0)
    assert seen(sim, "resident_mib") == pytest.approx(3068.0)
    limit(sim, 2048.0)
    assert seen(sim, "limit_mib") == 2048.0
    sim.advance(1)
    assert seen(sim, "resident_mib") == pytest.approx(2168.0)
    assert sim.vms["throttle_s_per_mib"][0, 0] == pytest.approx(4.0 * 64.0 * (120.0 / 2048.0) ** 2)
    sim.advance(60)
    assert seen(sim, "resident_mib") == pytest.approx(2048.0)
    assert seen(sim, "host_swap_mib") == pytest.approx(1020.0)
    assert sim.vms["throttle_s_per_mib"][0, 0] == 0.0
    assert sim.vms["balloon_mib"][0, 0] == 0.0


def test_a_vm_that_grows_beyond_a_limit_that_was_set_below_it_is_as_slow_as_the_kernel_makes_it():
    """1,568 MiB are 110 % of 1,425.5: 64 pages wait 0.64 s, a MiB 2.56 s; two faults in flight make 0.78 MiB a second."""
    sim = start(CGROUP, vm(hot_mib=1500.0), swap_share=0.0)
    limit(sim, 1568.0 / 1.1)
    sim.advance(1)
    assert seen(sim, "resident_mib") == pytest.approx(1568.0)  # nothing can leave
    sim.demand["tier_mib"][..., 0] = 3500.0
    sim.advance(5)
    assert (seen(sim, "resident_mib") - 1568.0) / 5.0 == pytest.approx(2.0 / 2.56, rel=0.1)
    assert sim.vms["oom_kills"][0, 0] == 0.0


def test_esxi_balloons_a_guest_towards_a_limit_that_is_lowered_and_no_second_passes_it():
    sim = start(ESXI, vm())
    assert sim.vms["balloon_mib"][0, 0] == 0.0
    limit(sim, 2048.0 + PROCESS_MIB)
    for _ in range(60):
        sim.advance(1)
        assert seen(sim, "resident_mib") <= 2048.0 + PROCESS_MIB + 1e-6
    assert seen(sim, "size_mib") == pytest.approx(2048.0)
    assert sim.vms["oom_kills"][0, 0] == 0.0
    assert sim.vms["throttle_s_per_mib"][0, 0] == 0.0


def test_without_a_driver_esxi_compresses_and_swaps_down_to_a_lowered_limit():
    """As from the start: 970 MiB and what 409.6 MiB of slots take are out, all but 819.2 of it swapped."""
    sim = start(ESXI, vm(balloon=False))
    limit(sim, 2048.0 + PROCESS_MIB)
    sim.advance(1)
    assert seen(sim, "resident_mib") == pytest.approx(2048.0 + PROCESS_MIB)
    assert seen(sim, "compressed_mib") == pytest.approx(819.2)
    assert seen(sim, "host_swap_mib") == pytest.approx(560.4)
    assert seen(sim, "size_mib") == 4096.0


# ---- raised


@pytest.mark.parametrize("raised", [2600.0, 4096.0 + PROCESS_MIB])
def test_what_memory_high_took_comes_back_on_demand_once_it_is_raised(raised):
    """Pages touched every 8 s; in 100 s all of them are wanted."""
    sim = start(CGROUP, vm(tier_tau_s=(8.0, *NEVER[1:]), limit_mib=2048.0, limit_kind="high"), disk_iops=1e6)
    sim.advance(30)
    low = seen(sim, "resident_mib")
    limit(sim, raised)
    sim.advance(100)
    assert low < 2200.0
    assert seen(sim, "resident_mib") == pytest.approx(min(raised, 3068.0), rel=0.02)


@pytest.mark.parametrize(("raised", "size"), [(2500.0, 2500.0), (4096.0, 4096.0)])
def test_esxis_balloon_goes_to_a_limit_that_is_raised(raised, size):
    sim = start(ESXI, vm(limit_mib=2048.0))
    assert seen(sim, "size_mib") == pytest.approx(2048.0)
    limit(sim, raised + PROCESS_MIB)
    sim.advance(60)
    assert seen(sim, "size_mib") == pytest.approx(size)


# ---- left, held, lifted


def test_what_is_missing_leaves_a_limit_as_it_is_and_a_reset_takes_the_scenarios():
    sim = start(CGROUP, vm(), vm(limit_mib=3500.0, limit_kind="high"))
    assert all_seen(sim, "limit_mib") == pytest.approx([np.nan, 3500.0], nan_ok=True)
    limit(sim, 2048.0, np.nan)
    sim.apply(Targets(limit_mib=np.full((1, 2), np.nan)))
    sim.apply(Targets(np.full((1, 2), 4096.0)))
    assert all_seen(sim, "limit_mib") == [2048.0, 3500.0]
    limit(sim, np.nan, 5000.0)
    assert all_seen(sim, "limit_mib") == pytest.approx([2048.0, np.nan], nan_ok=True)
    sim.reset([0])
    assert all_seen(sim, "limit_mib") == pytest.approx([np.nan, 3500.0], nan_ok=True)


@pytest.mark.parametrize(
    ("hypervisor", "least", "held"),
    [(CGROUP, 1000.0, 1000.0), (ESXI, 1000.0, 1000.0 + PROCESS_MIB), (CGROUP, 0.0, None), (ESXI, 0.0, None)],
)
def test_a_limit_is_held_to_what_is_guaranteed_and_to_what_a_guest_boots_with(hypervisor, least, held):
    """A cgroup's limit counts the process, ESXi's does not; both leave the guest its kernel."""
    group = vm(min_mib=least)
    sim = start(hypervisor, group)
    limit(sim, 0.0)
    assert seen(sim, "limit_mib") == pytest.approx(held or group.boot_mib + PROCESS_MIB)
    assert group.boot_mib > KERNEL_MIB


def test_a_limit_that_the_telemetry_tells_is_the_limit_that_is_set():
    for hypervisor in (CGROUP, ESXI):
        sim = start(hypervisor, vm(limit_mib=2222.2, min_mib=2222.2))
        before = seen(sim, "limit_mib")
        limit(sim, before)
        assert seen(sim, "limit_mib") == pytest.approx(before, rel=1e-12)


def test_from_memory_and_process_on_there_is_no_limit_and_nothing_changes():
    """To the bit: the host does not even look for limits."""
    plain, lifted = (start(CGROUP, vm(hot_mib=1000.0)) for _ in range(2))
    limit(lifted, 4096.0 + PROCESS_MIB)
    assert np.isnan(seen(lifted, "limit_mib"))
    for sim in (plain, lifted):
        sim.advance(20)
    assert plain.vms.tobytes() == lifted.vms.tobytes()
    assert plain.hosts.tobytes() == lifted.hosts.tobytes()
    limit(lifted, 4096.0 + PROCESS_MIB - 1.0)
    assert seen(lifted, "limit_mib") == 4096.0 + PROCESS_MIB - 1.0


def test_only_lanes_with_a_limit_are_looked_at():
    sim = start(CGROUP, vm(), lanes=3)
    sim.apply(Targets(limit_mib=np.array([[np.nan], [2048.0], [1e6]])))
    assert sim.hosts["limited"][:, 0].tolist() == [0.0, 1.0, 0.0]
    sim.advance(60)
    assert sim.telemetry().vm["resident_mib"][:, 0].tolist() == pytest.approx([3068.0, 2048.0, 3068.0])


def test_a_limit_outlasts_a_kill():
    """The scenario's memory.max stays hard: nothing of 1,568 MiB can leave."""
    sim = start(CGROUP, vm(hot_mib=1500.0, limit_mib=2048.0, restart_s=5.0), swap_share=0.0)
    limit(sim, 1200.0)
    sim.advance(2)
    assert sim.vms["oom_kills"][0, 0] == 1.0
    assert seen(sim, "limit_mib") == 1200.0
    sim.advance(300)
    assert seen(sim, "resident_mib") <= 1200.0 + 1e-6


# ---- where there is none


@pytest.mark.parametrize("name", ["xen", "hyperv", "virtualbox", "workstation"])
def test_hypervisors_without_a_limit_refuse_one_at_run_time_in_one_line(name):
    sim = Simulator(resolve(load_group("scenario", "idle-giants-short"), hypervisor=load_group("hypervisor", name)))
    sim.reset([1])
    before = sim.vms.tobytes(), sim.hosts.tobytes()
    asked = np.full(sim.vms.shape, np.nan)
    sim.apply(Targets(limit_mib=asked))
    asked[0, 3] = 2048.0
    said = rf"targets\.limit_mib: hypervisor {name} has no limit below a VM's size; leave it at None"
    with pytest.raises(InputError, match=said) as error:
        sim.apply(Targets(sim.vm_specs["memory_mib"] * 0.5, limit_mib=asked))
    assert "\n" not in str(error.value)
    assert (sim.vms.tobytes(), sim.hosts.tobytes()) == before
