"""From a scenario to the model: what a VM group, a hypervisor and a host mean as rows of ``model.params`` arrays."""

import math

import numpy as np

from hvgym.envs import device
from hvgym.envs.errors import InputError
from hvgym.envs.model import params
from hvgym.envs.model.guest import balloon, jvm
from hvgym.envs.model.host import cpu, states, victims
from hvgym.envs.model.host import swap_devices as devices
from hvgym.envs.scenario import Host, Hypervisor, Scenario, VmGroup

_SAME = (
    "memory_mib", "min_mib", "kernel_mib", "kernel_cache_mib", "boot_only_mib", "handed_out_last_mib", "guest_swap_mib",
    "growth_mib_per_s", "reclaim_mib_per_s",
    "restart_s", "slack", "weight", "shares", "slo_slowdown", "vcpus", "sequential_share",
    "mergeable_share", "compressible_share", "commit_ratio", "cpu_reservation", "arrive_s", "tier_write_share", "tier_is_file",
    "disk_waits_per_s", "net_waits_per_s", "net_reservation_mib_per_s", "slo_disk_mib_per_s", "slo_net_mib_per_s",
)  # fmt: skip
"""Fields of a VM group that the model takes as they are."""


NORMAL_SHARES, NORMAL_NET_SHARES = 1000.0, 50.0
"""Of a VM for which nothing is said: normal shares of disk and network (VMware's guides, recalled)."""


def vm_spec_row(group: VmGroup, scenario: Scenario, row: np.void) -> None:
    """Write one VM of a scenario into a row of `params.VM_SPEC`."""
    hypervisor, host = scenario.hypervisor, scenario.machine
    for field in _SAME:
        row[field] = getattr(group, field)
    row["critical"] = float(group.critical)
    row["kill_cost_s"] = scenario.kill_cost_s
    row["watermark_mib"] = params.default_watermark_mib(group.memory_mib)
    row["overhead_mib"] = hypervisor.overhead_mib(group)
    if group.boot_only_mib > (most_mib := group.kernel_mib + float(row["overhead_mib"])):
        raise InputError(
            f"boot_only_mib={group.boot_only_mib:g} of {group.name}: kernel and process have {most_mib:g} MiB; no more can be"
        )
    reserved = hypervisor.last_resort == "esxi" and group.min_mib >= group.memory_mib  # such a VM is never swapped
    row["committed"] = hypervisor.last_resort == "commit" or reserved
    row["zip_cap_mib"] = hypervisor.zip_cap_share * group.memory_mib
    row["zip_stored_share"] = hypervisor.zip_stored_share
    row["startup_mib"] = group.startup_mib or max(group.min_mib, 0.5 * group.memory_mib)
    row["starts_small"] = group.startup_mib is not None
    row["settled_mib"] = group.settled_mib or group.memory_mib
    row["settled_cold"] = group.settled_cold
    row["balloons"] = group.balloon
    row["stats_interval_s"] = hypervisor.stats_interval_s * (group.balloon and group.stats != "none")
    row["stats_windows"] = group.stats == "windows"
    row["stats_frozen_s"] = math.inf if group.stats_frozen_s is None else group.stats_frozen_s
    _limit_rows(group, hypervisor, row)
    _tier_rows(group, row)
    _returning_rows(group, hypervisor, row)
    _cpu_rows(group, hypervisor, row)
    _device_rows(group, hypervisor, host, row)
    row["jvm"] = np.zeros((), params.JVM)
    if group.jvm is not None:
        _jvm_rows(group, row)


def _limit_rows(group: VmGroup, hypervisor: Hypervisor, row: np.void) -> None:
    """Its limit, less what its process takes where that counts, and what one that is set at run time does. A replayed VM may be
    too small for its scenario's."""
    row["limit_mib"] = row["limit_least_mib"] = math.inf
    if hypervisor.limits == "none":
        return
    process = 0.0 if hypervisor.limits == "esxi" else float(row["overhead_mib"])
    row["limit_least_mib"] = max(group.min_mib - process, group.boot_mib)
    row["limit_balloons"] = hypervisor.limits == "esxi" and group.balloon
    row["limit_yields"] = hypervisor.limits == "cgroup" and (group.limit_mib is None or group.limit_kind == "high")
    if group.limit_mib is not None:
        row["limit_mib"] = max(group.limit_mib - process, group.boot_mib)


def _device_rows(group: VmGroup, hypervisor: Hypervisor, host: Host, row: np.void) -> None:
    """Virtual devices, its part of the real ones, and what it may expect of them."""
    disk, nic = group.disk or hypervisor.disk, group.nic or hypervisor.nic
    device.fill(disk, host.clock_ghz, host.iommu, row["disk"])
    device.fill(nic, host.clock_ghz, host.iommu, row["nic"])
    row["fault_parallelism"] = min(group.fault_parallelism, float(row["disk"]["depth"]))
    row["packets_per_mib"] = 2**20 / group.packet_bytes
    row["disk_shares"] = group.disk_shares or NORMAL_SHARES
    row["net_shares"] = group.net_shares or NORMAL_NET_SHARES
    row["disk_reservation"] = group.disk_reservation_iops / host.disk_iops
    row["disk_limit"] = math.inf if group.disk_limit_iops is None else group.disk_limit_iops / host.disk_iops
    if group.disk_burst_iops is not None:
        length_s = group.disk_burst_s or 1.0
        row["disk_bucket"] = group.disk_burst_iops * length_s / host.disk_iops
        row["disk_burst"] = group.disk_burst_iops / host.disk_iops if length_s > 1.0 else math.inf  # as QEMU does
    row["net_limit_mib_per_s"] = math.inf if group.net_limit_mib_per_s is None else group.net_limit_mib_per_s
    row["slo_disk_latency_s"] = math.inf if group.slo_disk_latency_ms is None else 1e-3 * group.slo_disk_latency_ms
    row["slo_net_latency_s"] = math.inf if group.slo_net_latency_ms is None else 1e-3 * group.slo_net_latency_ms
    row["pinned"] = any(one is not None and one.passes_through for one in (disk, nic))
    if row["pinned"]:  # all memory is reserved, as hypervisors demand before they pass a device through
        row["committed"] = 1.0
        row["limit_least_mib"] = math.inf
        row["mergeable_share"] = row["reporting_share_per_s"] = row["zip_cap_mib"] = 0.0
        if not hypervisor.unpins:
            row["min_mib"] = row["startup_mib"] = group.memory_mib


def _jvm_rows(group: VmGroup, row: np.void) -> None:
    """A JVM: the warm tier is the room in which it allocates, touched once per cycle and written each time."""
    java = group.jvm
    assert java is not None
    fields = row["jvm"]
    fields["present"], fields["heap_aware"] = 1.0, java.heap_aware
    fields["xmx_mib"], fields["xms_mib"] = java.xmx_mib, java.xms_mib
    fields["non_heap_mib"], fields["live_share"] = java.non_heap_mib, java.live_share
    fields["t0"], fields["a"], fields["b"] = java.workload.curve
    fields["gc_mib_per_s"] = jvm.GC_MIB_PER_S_PER_THREAD * group.vcpus
    fields["uncommit"] = ("never", "g1_periodic", "zgc").index(java.uncommit)
    fields["idle_s"] = java.idle_s
    live = java.least_mib * java.live_share
    cycle_s = jvm.cycle_s(java.xmx_mib, live, java.allocation_mib_per_s(group.vcpus))
    row["tier_rate_per_s"][params.WARM] = 1.0 / cycle_s
    row["tier_touched_share"][params.WARM] = -math.expm1(-1.0 / cycle_s)
    row["tier_write_share"][params.WARM] = 1.0


def _tier_rows(group: VmGroup, row: np.void) -> None:
    """How fast tiers are touched, and what evicting them does."""
    row["tier_rate_per_s"] = 1.0 / np.asarray(group.tier_tau_s)
    row["tier_touched_share"] = -np.expm1(-row["tier_rate_per_s"])
    anonymous = 1.0 - row["tier_is_file"]
    swappiness = min(max(group.swappiness, 1.0), 199.0)
    row["tier_appears"] = 1.0
    row["tier_stays"] = 1.0 + anonymous * ((200.0 - swappiness) / swappiness - 1.0)
    row["tier_leaves"] = np.maximum(row["tier_is_file"], group.guest_swap_mib > 0.0) / row["tier_stays"]
    zram = group.swap == "zram" and group.guest_swap_mib > 0.0
    row["zram_stored_share"] = group.zram_stored_share * zram
    row["zram_fault_s"] = (group.zram_load_us + group.zram_store_us) * 1e-6 * zram
    row["tier_gain"] = 1.0 - anonymous * row["zram_stored_share"]
    row["tier_keeps_copy"] = 1.0 - anonymous * zram


def _returning_rows(group: VmGroup, hypervisor: Hypervisor, row: np.void) -> None:
    """How the guest returns memory: by the kind of its driver, unless the hypervisor's profile says otherwise."""
    kind = balloon.KINDS[hypervisor.returning]
    for field, given, of_kind in (
        ("inflate_mib_per_s", hypervisor.inflate_mib_per_s, kind.inflate_mib_per_s),
        ("deflate_mib_per_s", hypervisor.deflate_mib_per_s, kind.deflate_mib_per_s),
        ("balloon_interference", hypervisor.balloon_interference, kind.interference),
    ):
        row[field] = of_kind if given is None else given
    row["first_touch_s_per_mib"] = 0.0 if row["committed"] else kind.first_touch_s_per_mib
    row["reporting_share_per_s"] = balloon.REPORTED_PER_S * hypervisor.free_page_reporting
    row["balloon_cap_mib"] = hypervisor.balloon_cap_share * group.memory_mib
    row["init_on_alloc"] = group.init_on_alloc
    row["deflate_on_oom_mib_per_s"] = hypervisor.deflate_on_oom_mib_per_s * group.deflate_on_oom


def _cpu_rows(group: VmGroup, hypervisor: Hypervisor, row: np.void) -> None:
    """Shares of the pCPUs, and what exits and page walks take."""
    row["cpu_shares"] = 1000.0 * group.vcpus if group.cpu_shares is None else group.cpu_shares
    row["cpu_limit"] = math.inf if group.cpu_limit is None else group.cpu_limit
    row["exit_tax"] = cpu.EXITS_PER_CPU_S * hypervisor.exit_us * 1e-6
    large = cpu.WALK_CYCLES_2M_2M if group.huge_pages else cpu.WALK_CYCLES_4K_2M
    if not hypervisor.large_pages:
        large = cpu.WALK_CYCLES_4K_4K
    for field, cycles in (("walk_tax_large", large), ("walk_tax_small", cpu.WALK_CYCLES_4K_4K)):
        tax = cpu.walk_tax(group.tlb_misses_per_kilo_instruction, group.instructions_per_cycle, cycles)
        row[field] = tax * hypervisor.nested_walks


def host_spec_row(scenario: Scenario, vm_specs: np.ndarray, row: np.void, alone: bool = True) -> None:
    """Write the host of these VMs (``[vm]``) into a row of `params.HOST_SPEC`; one that is not `alone` holds but some of them."""
    host, hypervisor = scenario.machine, scenario.hypervisor
    row["ram_mib"] = _ram_mib(scenario, vm_specs)
    own_mib = hypervisor.own_mib + hypervisor.own_ram_share * row["ram_mib"]
    row["own_mib"] = own_mib if host.own_mib is None else host.own_mib
    if alone:
        check_room(vm_specs, float(row["ram_mib"]), float(row["own_mib"]))
    _last_resort_rows(hypervisor, row)
    _swap_rows(host, row)
    row["pcpus"] = host.pcpus
    row["own_cpu_share"] = hypervisor.own_cpu_share
    row["cpu_limited"] = bool(np.isfinite(vm_specs["cpu_limit"]).any())
    row["commits"] = hypervisor.last_resort == "commit"
    row["disk_iops"] = host.disk_iops
    row["disk_latency_s"] = host.disk_latency_us * 1e-6
    row["disk_mib_per_s"] = host.disk_mib_per_s
    row["nic_mib_per_s"] = host.nic_mib_per_s
    row["limited"] = any(group.limit_mib is not None for group in scenario.vms)
    row["divides_disk"] = any(group.divides_disk for group in scenario.vms)
    row["divides_net"] = any(group.divides_net for group in scenario.vms)


def _ram_mib(scenario: Scenario, vm_specs: np.ndarray) -> float:
    """The host's RAM as it was given, or what the overcommit ratio makes it; only a ratio is scaled to the family of traces."""
    if scenario.machine.ram_mib is not None:
        return scenario.machine.ram_mib
    return float(np.sum(vm_specs["memory_mib"])) / ((scenario.machine.overcommit or 1.0) * scenario.overcommit_scale)


def check_room(vm_specs: np.ndarray, ram_mib: float, own_mib: float) -> None:
    """Raise `InputError` where a host cannot hold what is guaranteed."""
    fixed = float(np.sum(vm_specs["overhead_mib"] + vm_specs["kernel_mib"])) + own_mib
    if fixed > 0.8 * ram_mib:
        raise InputError(
            f"scenario.host: {ram_mib:.0f} MiB of RAM; hypervisor, VM processes and guest kernels alone need {fixed:.0f}. "
            "Lower overcommit or use fewer VMs"
        )
    there = vm_specs["arrive_s"] <= 0.0
    guaranteed = float(np.sum((vm_specs["min_mib"] + vm_specs["overhead_mib"])[there])) + own_mib
    if guaranteed > ram_mib:
        raise InputError(
            f"scenario.host: {ram_mib:.0f} MiB of RAM; the VMs' min_mib with hypervisor and VM processes add up to "
            f"{guaranteed:.0f}. Lower min_mib or overcommit"
            f"{'; passed-through devices pin all of a VM' if vm_specs['pinned'].any() else ''}"
        )


def _last_resort_rows(hypervisor: Hypervisor, row: np.void) -> None:
    """Thresholds of the hypervisor's states, and what it does from which on."""
    ram_mib = float(row["ram_mib"])
    row["block_state"], row["large_state"] = params.STATES + 1, 0.0
    row["swaps"] = hypervisor.last_resort != "commit"
    if hypervisor.last_resort == "esxi":
        least = states.esxi_min_free_mib(ram_mib)
        row["state_mib"] = np.multiply(states.ESXI_SHARES, least)
        row["min_free_mib"] = states.ESXI_SHARES[states.HARD - 1] * least
        row["goal_free_mib"] = states.RISE * row["min_free_mib"]
        row["block_state"], row["large_state"] = states.LOW, states.CLEAR
    else:
        high, low, least = states.linux_watermarks_mib(ram_mib)
        row["state_mib"] = (high, low, least, 0.5 * least)
        row["min_free_mib"], row["goal_free_mib"] = low, high
    if hypervisor.min_free_share is not None:
        row["min_free_mib"] = hypervisor.min_free_share * ram_mib
        row["goal_free_mib"] = 1.02 * row["min_free_mib"]
    row["admission"] = ("always", "reservation", "commit", "fits").index(hypervisor.admission)
    row["pages_restarts"] = hypervisor.smart_paging
    law = victims.LAWS[hypervisor.victims]
    row["victims_know_ages"], row["victims_a"], row["victims_b"] = law.knows_ages, law.a, law.b
    row["cache_weight"] = hypervisor.host_cache_swappiness / (200.0 - hypervisor.host_cache_swappiness)
    row["writes_behind"] = hypervisor.writes_behind
    row["scan_pages_per_s"] = hypervisor.scan_pages_per_s
    for field in ("scan_us_per_page", "zip_load_us", "zip_store_us"):
        row[field.replace("_us_per_page", "_cpu_s").replace("_us", "_s")] = 1e-6 * getattr(hypervisor, field)


def _swap_rows(host: Host, row: np.void) -> None:
    """The device that the hypervisor swaps to."""
    row["swap_mib"] = host.swap_share * row["ram_mib"]
    own = devices.SWAP_DEVICES.get(host.swap or "disk")
    row["swap_is_disk"] = own is None and host.swap_iops is None
    device = own or devices.SwapDevice(host.disk_latency_us, host.disk_iops, host.disk_mib_per_s)
    row["swap_latency_s"] = device.latency_us * 1e-6
    row["swap_iops"] = min(
        host.swap_iops or device.iops, params.PAGES_PER_MIB * device.mib_per_s
    )  # pages are bytes too
    row["swap_mib_per_s"] = device.mib_per_s
    row["swap_stored_share"] = device.stored_share
