"""Memory is conserved on every tick, whatever the scenario, the demand and the actions."""

import dataclasses
import itertools

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hvgym.envs.device import DeviceModel
from hvgym.envs.java import JvmGuest, Workload
from hvgym.envs.lab import bench as lab
from hvgym.envs.lab.guest import LabGuest
from hvgym.envs.model import params
from hvgym.envs.model.host.victims import LAWS
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup, group_files, load_group
from hvgym.envs.schema import build
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

TOLERANCE_MIB = 1e-6

sizes = st.floats(0.0, 3000.0)

DISKS, NICS = (
    [build(DeviceModel, load_group(kind, name), kind) for name in sorted(group_files(kind))] for kind in ("disk", "nic")
)


@st.composite
def heaps(draw, memory):
    """A JVM that fits; now and then one whose live data do not."""
    threads = draw(st.sampled_from([1.0, 50.0]))
    most = (memory - 250.0 - threads - params.default_watermark_mib(memory)) / 1.1
    if most < 20.0 or draw(st.booleans()):
        return None
    xmx = most * draw(st.floats(0.2, 1.0))
    workload = Workload(
        "any", "", 100.0, draw(st.sampled_from([None, 10.0, 1e4])), 1.0, draw(st.floats(0.5, 1)), draw(st.floats(0, 1)),
        draw(st.floats(-1, 0.9)), (), 1.3, 10.0,
    )  # fmt: skip
    return JvmGuest(
        workload, xmx, xmx * draw(st.floats(0, 1)), xmx / draw(st.floats(1.05, 8)), threads=threads,
        heap_aware=draw(st.booleans()), uncommit=draw(st.sampled_from(["never", "g1_periodic", "zgc"])),
        idle_s=draw(st.floats(1, 20)),
    )  # fmt: skip


@st.composite
def disk_limits(draw, least):
    """A limit of the disk, now and then, and now and then bursts beyond it."""
    limit, factor, length_s = draw(
        st.tuples(st.sampled_from([None, None, least, 5000.0]), st.floats(1, 9), st.floats(1, 9))
    )
    if limit is None or draw(st.booleans()):
        return {"disk_limit_iops": limit}
    return {"disk_limit_iops": limit, "disk_burst_iops": factor * limit, "disk_burst_s": length_s}


@st.composite
def services(draw):
    """Devices, parts of disk and link, waits and objectives: whatever a scenario may say of a VM's I/O."""
    disk, net = draw(st.sampled_from([0.0, 15.0])), draw(st.sampled_from([0.0, 90.0]))
    waits = st.sampled_from([0.0, 0.0, 10.0, 1000.0])
    return {
        "disk": draw(st.sampled_from([None, None, *DISKS])), "nic": draw(st.sampled_from([None, None, *NICS])),
        "packet_bytes": draw(st.sampled_from([64.0, 1500.0, 65536.0])), "disk_waits_per_s": draw(waits),
        "net_waits_per_s": draw(waits), "disk_shares": draw(st.sampled_from([None, None, 1.0, 2000.0])),
        "net_shares": draw(st.sampled_from([None, None, 1.0, 100.0])), "disk_reservation_iops": disk,
        **draw(disk_limits(disk + 1.0)), "net_reservation_mib_per_s": net,
        "net_limit_mib_per_s": draw(st.sampled_from([None, None, net + 1.0, 5000.0])), "critical": draw(st.booleans()),
        "slo_disk_latency_ms": draw(st.sampled_from([None, 1.0])), "slo_net_latency_ms": draw(st.sampled_from([None, 1.0])),
        "slo_disk_mib_per_s": draw(st.sampled_from([0.0, 20.0])), "slo_net_mib_per_s": draw(st.sampled_from([0.0, 20.0])),
    }  # fmt: skip


@st.composite
def groups(draw):
    memory = draw(st.sampled_from([512.0, 1024.0, 4096.0]))
    java = draw(heaps(memory))
    demand = Demand(
        hot_mib=draw(sizes if java is None else st.sampled_from([0.0, 0.0, 300.0])),
        warm_mib=draw(sizes), cold_mib=draw(sizes), cache_mib=draw(sizes), phase_s=draw(st.floats(5, 60)),
        phase_swing=draw(st.floats(0, 1)), burst_mib=draw(sizes), burst_every_s=draw(st.floats(10, 100)),
        burst_length_s=draw(st.floats(1, 30)), cpu_share=draw(st.one_of(st.floats(0, 1), st.floats(0, 0.04))),
        disk_mib_per_s=draw(st.one_of(st.just(0.0), st.floats(0.001, 50))),
        net_mib_per_s=draw(st.one_of(st.just(0.0), st.floats(0.001, 500))),
    )  # fmt: skip
    return VmGroup(
        name="vm", memory_mib=memory, demand=demand, count=draw(st.integers(1, 3)), balloon=draw(st.booleans()),
        swap=draw(st.sampled_from(["disk", "disk", "zram"])), zram_stored_share=draw(st.floats(0.05, 0.95)),
        swappiness=draw(st.floats(0, 200)), mergeable_share=draw(st.floats(0, 1)), compressible_share=draw(st.floats(0, 1)),
        sequential_share=draw(st.floats(0, 1)), arrive_s=draw(st.sampled_from([0.0, 0.0, 0.0, 7.0])),
        cpu_limit=draw(st.sampled_from([None, 0.5])), cpu_shares=draw(st.sampled_from([None, 0.0, 100.0])),
        guest_swap_mib=draw(st.sampled_from([0.0, 100.0, 4096.0])), deflate_on_oom=draw(st.booleans()), restart_s=5.0,
        growth_mib_per_s=draw(st.floats(1, 500)), reclaim_mib_per_s=draw(st.floats(1, 500)),
        tier_tau_s=draw(st.tuples(*(st.floats(0.1, 1e6),) * 4)), tier_write_share=draw(st.tuples(*(st.floats(0, 1),) * 4)),
        boot_only_mib=draw(st.sampled_from([0.0, 40.0])), handed_out_last_mib=draw(st.sampled_from([0.0, 24.0])),
        min_mib=draw(st.sampled_from([0.0, 0.0, 0.0, memory])), jvm=java, stats=draw(st.sampled_from(["linux", "windows"])),
        **draw(services()),
    )  # fmt: skip


def started_and_limited(draw, group, hypervisor):
    """The VM with a starting memory and a limit, now and then, as far as the hypervisor has such things."""
    changes = {"stats": draw(st.sampled_from([group.stats, "none"]))}
    if draw(st.booleans()) and not passes_through(group) and (group.balloon or hypervisor.startup == "assigned"):
        least = max(group.boot_mib, group.min_mib)
        changes["startup_mib"] = least + draw(st.floats(0, 1)) * (group.memory_mib - least)
    if draw(st.booleans()) and not passes_through(group) and hypervisor.limits != "none":
        least = max(group.boot_mib + hypervisor.overhead_mib(group), group.min_mib)
        changes["limit_mib"] = least + draw(st.floats(0, 1)) * group.memory_mib
        changes["limit_kind"] = draw(st.sampled_from([None, "max", "high"])) if hypervisor.limits == "cgroup" else None
    if changes["stats"] != "none" and group.balloon:
        changes["stats_frozen_s"] = draw(st.sampled_from([None, 0.0, 20.0]))
    return dataclasses.replace(group, **changes)


def passes_through(group):
    return any(one is not None and one.passes_through for one in (group.disk, group.nic))


def guaranteed(group):
    """Whether all of its memory is spoken for."""
    return group.min_mib == group.memory_mib or passes_through(group)


@st.composite
def scenarios(draw):
    vms = tuple(draw(st.lists(groups(), min_size=1, max_size=3)))
    last_resort = draw(st.sampled_from(["linux", "linux", "esxi", "commit"]))
    rules = ["commit"] if last_resort == "commit" else ["always", "reservation", "fits"]
    hypervisor = Hypervisor(
        "any", 1, 64.0, 32.0, draw(st.floats(0.001, 0.1)), inflate_mib_per_s=draw(st.floats(1, 2000)), last_resort=last_resort,
        admission=draw(st.sampled_from(rules)), smart_paging=last_resort == "commit" and draw(st.booleans()),
        victims=draw(st.sampled_from(sorted(LAWS))), host_cache_swappiness=draw(st.sampled_from([0.0, 60.0])),
        writes_behind=draw(st.booleans()), scan_pages_per_s=draw(st.sampled_from([0.0, 100.0, 1e6])),
        zip_cap_share=draw(st.sampled_from([0.0, 0.1])), free_page_reporting=draw(st.booleans()),
        returning=draw(st.sampled_from(["balloon_4k", "balloon_2m", "hyperalloc", "virtio_mem_vfio"])),
        startup=draw(st.sampled_from(["balloon", "assigned"])),
        limits={"linux": "cgroup", "esxi": "esxi", "commit": "none"}[last_resort], disk_limits="iops_bursts",
        stats_interval_s=draw(st.sampled_from([0.0, 1.0, 5.0])),
    )  # fmt: skip
    vms = tuple(started_and_limited(draw, group, hypervisor) for group in vms)
    swap = draw(st.sampled_from([None, "hdd", "zram", "remote"]))
    memory = sum(group.memory_mib * group.count for group in vms)
    fixed = 64.0 + sum((32.0 + group.kernel_mib) * group.count for group in vms)
    promised = sum((group.memory_mib if guaranteed(group) else 0.0) * group.count for group in vms)
    host = Host(ram_mib=max(memory / draw(st.floats(0.7, 3.0)), 1.5 * fixed, promised + fixed),
                nic_mib_per_s=draw(st.sampled_from([900.0, 5000.0])), iommu=draw(st.sampled_from(["pinned", "deferred", "strict"])),
                swap_share=draw(st.sampled_from([0.0, 0.1, 3.0])),
                swap=swap if last_resort != "commit" or hypervisor.smart_paging else None,
                disk_iops=draw(st.sampled_from([200.0, 1e5])))  # fmt: skip
    return Scenario("any", "", host, hypervisor, vms, episode_s=300, slot_s=draw(st.integers(1, 20)), control_interval_s=5,
                    touched_share=draw(st.floats(0, 1)))  # fmt: skip


def check_guarantees(sim):
    """Pinned memory stays where it is, whole unless it may be resized; reserved memory of ESXi is not swapped."""
    vm, scenario = sim.vms[0], sim.scenario
    pinned = np.array([passes_through(group) for group in scenario.groups])
    esxi = scenario.hypervisor.last_resort == "esxi"
    reserved = np.array([esxi and group.min_mib >= group.memory_mib for group in scenario.groups])
    assert (sim.vm_specs["pinned"][0] == pinned).all()
    for name in ("free_swapped_mib", "boot_swapped_mib", "zipped_mib"):
        assert (vm[name][pinned | reserved] <= TOLERANCE_MIB).all(), name
    assert (vm["host_swapped_mib"][pinned | reserved] <= TOLERANCE_MIB).all()
    assert (vm["shared_mib"][pinned] <= TOLERANCE_MIB).all()
    if not scenario.hypervisor.unpins:
        assert (vm["balloon_mib"][pinned] <= TOLERANCE_MIB).all()


def check_limits(sim):
    """A hard limit is held at the end of every second; as an episode begins, as far as swap has room and pages are there to be
    taken (a guest's zram is none)."""
    vm, spec, host, host_spec = sim.vms[0], sim.vm_specs[0], sim.hosts[0, 0], sim.host_specs[0, 0]
    held = sim.vm_signals["resident_mib"][0] - spec["overhead_mib"]
    hard = (spec["limit_yields"] == 0.0) & (vm["admitted"] > 0.0)
    full = host_spec["swap_mib"] - host["swap_used_mib"] <= TOLERANCE_MIB
    left_mib = (
        (vm["resident_mib"] - vm["host_swapped_mib"]).sum(axis=1) + vm["free_backed_mib"] - vm["free_swapped_mib"]
    )
    stays = (sim.clock_s[0] == 0) & (full | (left_mib <= TOLERANCE_MIB))
    assert (held <= vm["limit_mib"] + 2.0 * TOLERANCE_MIB)[hard & ~stays].all()
    assert (vm["throttle_s_per_mib"] >= 0.0).all()


def check_starts(sim):
    """Who boots as the episode begins has its starting memory and nothing but its kernel."""
    vm, spec = sim.vms[0], sim.vm_specs[0]
    small = (spec["starts_small"] > 0.0) & (vm["admitted"] > 0.0)
    size = spec["memory_mib"] - vm["balloon_mib"]
    np.testing.assert_allclose(size[small], spec["startup_mib"][small])
    assert (vm["allocated_mib"][small] == 0.0).all()


def check_heaps(sim):
    vm, java = sim.vms[0], sim.vm_specs["jvm"][0]
    here = java["present"] > 0.0
    assert (vm["heap_mib"][here] <= java["xmx_mib"][here] + TOLERANCE_MIB).all()
    assert (vm["heap_ballooned_mib"][here] >= -TOLERANCE_MIB).all()
    assert (vm["heap_ballooned_mib"][~here] == 0.0).all()
    assert ((vm["gc_share"] >= 0.0) & (vm["gc_share"] <= 1.0)).all()


MAY_BE_INFINITE = ("heap_time", "full_pause_s", "unqueued_s", "limit_mib")
"""Times of what never gets done, and the limit of a VM that has none."""


def check_numbers(sim):
    """Nothing has become infinite, or no number at all."""
    for rows in (sim.vms[0], sim.hosts[0]):
        finite = rows.copy()
        if "limit_mib" in rows.dtype.names:
            finite["limit_mib"][np.isposinf(rows["limit_mib"])] = 0.0
        numbers = np.ascontiguousarray(finite).view(float)  # all at once, for there are two hundred fields
        if np.isfinite(numbers).all():
            continue
        for name in rows.dtype.names:
            assert not np.isnan(rows[name]).any(), name
            assert name in MAY_BE_INFINITE or np.isfinite(rows[name]).all(), name


def test_every_field_of_the_state_has_numbers_of_eight_bytes():
    """`check_numbers` reads all of them as floats first; an integer that looks like none is looked at by name."""
    for kind in (params.VM, params.HOST):
        assert {kind[name].base for name in kind.names or ()} <= {np.dtype("f8"), np.dtype("i8")}


def check(sim):
    check_guarantees(sim)
    check_heaps(sim)
    check_limits(sim)
    check_numbers(sim)
    vm, spec = sim.vms[0], sim.vm_specs[0]
    tiers = vm["resident_mib"].sum(axis=1)
    free = vm["free_backed_mib"] + vm["free_deflated_mib"] + vm["free_untouched_mib"]
    missing = vm["allocated_mib"] - vm["resident_mib"]
    pool = (missing[:, :3].sum(axis=1)) * spec["zram_stored_share"]
    total = spec["kernel_mib"] + tiers + pool + vm["balloon_mib"] + free
    here = vm["admitted"] > 0.0
    assert (np.abs(total - spec["memory_mib"])[here] <= TOLERANCE_MIB).all(), (total, spec["memory_mib"])
    for name in ("free_backed_mib", "free_deflated_mib", "free_untouched_mib", "balloon_mib", "free_swapped_mib"):
        assert vm[name].min() >= -TOLERANCE_MIB, name
    for low, high in (
        ("host_swapped_mib", "resident_mib"),
        ("clean_mib", "resident_mib"),
        ("slot_mib", "resident_mib"),
        ("resident_mib", "allocated_mib"),
    ):
        assert (vm[low] >= -TOLERANCE_MIB).all(), low
        assert (vm[low] <= vm[high] + TOLERANCE_MIB).all(), (low, high)
    assert (vm["free_swapped_mib"] <= vm["free_backed_mib"] + TOLERANCE_MIB).all()
    assert ((vm["progress"] >= 0.0) & (vm["progress"] <= 1.0)).all()
    assert (missing[:, :3].sum(axis=1) <= spec["guest_swap_mib"] + TOLERANCE_MIB).all()
    assert ((vm["psi_some10"] >= 0.0) & (vm["psi_some10"] <= 1.0) & (vm["host_psi_some10"] <= 1.0)).all()
    assert ((vm["large_share"] >= 0.0) & (vm["large_share"] <= 1.0) & (vm["cpu_grant"] <= 1.0)).all()
    here_mib = (vm["resident_mib"] - vm["host_swapped_mib"]).sum(axis=1)
    assert ((vm["shared_mib"] >= -TOLERANCE_MIB) & (vm["shared_mib"] <= here_mib + TOLERANCE_MIB)).all()
    assert (vm["zipped_mib"] >= -TOLERANCE_MIB).all()
    assert (vm["zipped_mib"] * spec["zip_stored_share"] <= spec["zip_cap_mib"] + TOLERANCE_MIB).all()
    host, host_spec, signals = sim.hosts[0, 0], sim.host_specs[0, 0], sim.vm_signals[0]
    used = signals["resident_mib"].sum() + host_spec["own_mib"] + host["free_mib"] + host["cache_mib"]
    used += host["swap_used_mib"] * host_spec["swap_stored_share"]
    assert abs(used - host_spec["ram_mib"]) <= TOLERANCE_MIB
    assert host["cache_mib"] >= 0.0
    assert 0.0 <= host["state"] <= 4.0
    assert host["swap_used_mib"] <= host_spec["swap_mib"] + TOLERANCE_MIB


MORE = ("reclaim_mib", "reclaim_age_s", "scan_pages_per_s", "report_free_pages", "admit", "disk_shares", "net_shares")


def limits_at(sim, turn):
    """From nothing, which is held to the least, to more than a VM can use; a third is left alone."""
    share = np.random.default_rng([turn, 1]).uniform(0.0, 1.5, sim.vms.shape)
    return np.where(share < 1.0, share * sim.vm_specs["memory_mib"], np.where(share < 1.25, np.nan, 1e6))


@settings(max_examples=150, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(scenarios(), st.integers(0, 2**32), st.lists(st.floats(0, 1), min_size=1, max_size=12), st.booleans())
def test_memory_is_conserved_on_every_tick(scenario, seed, actions, extra):
    sim = Simulator(scenario)
    sim.reset([seed])
    check(sim)
    check_starts(sim)
    for turn in range(120):
        if turn % 10 == 0:
            action = actions[turn // 10 % len(actions)]
            full, flag = np.ones(sim.vms.shape), float(action > 0.5)
            rate = np.full(sim.hosts.shape, 1e5 * flag)
            shares = np.maximum(np.random.default_rng(turn).uniform(-10.0, 1000.0, full.shape), 0.0)
            given = (full * 500.0 * action, full * 60.0 * flag, rate, full * flag, full, shares, shares / 10.0)
            more = dict(zip(MORE, given, strict=True)) if extra else {}
            if extra and scenario.hypervisor.limits != "none":
                more["limit_mib"] = limits_at(sim, turn)
            sim.apply(Targets(sim.vm_specs["memory_mib"] * action, **more))
        sim.advance(1)
        check(sim)


@st.composite
def settled_scenarios(draw):
    """Scenarios whose VMs begin with less than their memory, for long or since they filled it."""
    scenario = draw(scenarios())
    vms = list(scenario.vms)
    for index, group in enumerate(vms):
        if group.balloon and group.startup_mib is None and group.arrive_s == 0.0 and not passes_through(group):
            least = max(group.boot_mib, group.min_mib)
            size = least + draw(st.floats(0, 1)) * (group.memory_mib - least)
            vms[index] = dataclasses.replace(group, settled_mib=size, settled_cold=draw(st.booleans()))
    return dataclasses.replace(scenario, vms=tuple(vms))


@settings(max_examples=60, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(settled_scenarios(), st.integers(0, 2**32), st.floats(0, 1))
def test_memory_is_conserved_from_a_start_with_less_of_it(scenario, seed, action):
    sim = Simulator(scenario)
    sim.reset([seed])
    check(sim)
    for turn in range(40):
        if turn == 20:
            sim.apply(Targets(sim.vm_specs["memory_mib"] * action))
        sim.advance(1)
        check(sim)


@settings(max_examples=40, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(scenarios(), st.integers(0, 2**32))
def test_a_balloon_never_makes_host_use_grow(scenario, seed):
    free, squeezed = Simulator(scenario), Simulator(scenario)
    for sim in (free, squeezed):
        sim.reset([seed])
    size = squeezed.vm_specs["memory_mib"] - squeezed.vms["balloon_mib"]
    squeezed.apply(Targets(np.minimum(size, squeezed.vm_specs["memory_mib"] * 0.5)))
    for _ in range(5):
        size = squeezed.vm_specs["memory_mib"] - squeezed.vms["balloon_mib"]
        squeezed.advance(1)
        size = np.maximum(
            size, squeezed.vm_specs["memory_mib"] - squeezed.vms["balloon_mib"]
        )  # a driver may answer an OOM
        compressed = squeezed.vm_signals["compressed_mib"] * (1.0 - squeezed.vm_specs["zip_stored_share"])
        backed = squeezed.vm_signals["resident_mib"] + squeezed.vm_signals["host_swap_mib"] + compressed
        assert (backed <= size + squeezed.vm_specs["overhead_mib"] + TOLERANCE_MIB).all()


def test_more_memory_never_means_more_misses_in_steady_state(lone_guest):
    misses = [lone_guest(tier_tau_s=(13.1,) * 4).squeeze(level)["miss"] for level in np.arange(0.3, 1.1, 0.05)]
    assert all(a >= b - 1e-4 for a, b in itertools.pairwise(misses))


@st.composite
def lab_guests(draw):
    pattern = draw(st.sampled_from(["uniform", "zipf", "mixture"]))
    changes = {
        "pattern": pattern,
        "zipf_exponent": draw(st.floats(0.3, 1.5)),
        "tiers": [[0.5, 8.0], [0.3, 60.0], [0.2, 600.0]] if pattern == "mixture" else None,
        "hot_mib": draw(st.floats(64.0, 400.0)),
        "touches_per_s": draw(st.floats(500.0, 8000.0)),
        "page_kind": draw(st.sampled_from(["anon", "file"])),
        "guest": {"swap": draw(st.sampled_from(["disk", "zram"])), "memory_mib": 512.0},
    }
    return LabGuest.packaged(**changes)


@settings(max_examples=25, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(lab_guests())
def test_more_memory_never_means_more_misses_in_steady_state_whatever_the_guest(guest):
    misses = [row.miss for row in lab.steady(guest, [1.1, 1.0, 0.9, 0.8, 0.75, 0.7])]
    alive = [miss for miss in misses if not np.isnan(miss)]
    assert all(more <= less + 2e-3 for more, less in itertools.pairwise(alive)), misses
