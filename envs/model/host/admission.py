"""Whether the hypervisor starts a VM that arrives; until it does, the VM's demand counts as lost.

Rules, each by what the hypervisor really checks:
 - `RESERVATION` (ESXi): memory not reserved by others covers its reservation and overhead, and swap its size beyond that;
 - `COMMIT` (Xen, Hyper-V): its startup memory is free, for it is given at once. Hyper-V pages what is missing to its
   minimum when a VM is starting (Smart Paging), and then only;
 - `FITS` (a desktop hypervisor): RAM less the host system's own covers its minimum beside what runs, swap included;
 - `ALWAYS` (a Linux process: memory is promised, not given; the reckoning comes later).
A policy may keep a VM waiting that the hypervisor would start; it cannot start one that the hypervisor would not.

A start is given up (`GIVEN_UP_S`) by the operator's tool, once a VM: it is charged as a kill is (``kill_cost_s``). The VM goes on
waiting, for somebody tries again.

A VM that starts boots with nothing but its kernel, and is as far as its memory has grown (``guest.kill`` ends so too). One
for which a starting memory is given (``starts_small``) starts with that: all but it is in the balloon before the workload
runs, and the size asked for is that size until somebody asks for another; what was asked while it waited is forgotten. The
seconds in which a booting guest has its whole memory in view and no driver yet are left out, for nothing touches it then.

Left out: high-availability slots, CPU admission, queues by priority (VMs are tried in the order of their index).

Sources: VMware's resource management guide; Hyper-V's documentation of startup memory and Smart Paging; Xen populates a
domain before it runs; VMware Workstation and VirtualBox check host memory at power-on (recalled).
"""

import math

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.guest import memory as guest
from hvgym.envs.model.host import overcommit
from hvgym.envs.model.params import HostRecord, HostSpecRecord, VmRecord, VmSpecRecord

ALWAYS, RESERVATION, COMMIT, FITS = range(4)

GIVEN_UP_S = 300.0
"""Seconds after which a VM that has asked to run and still waits counts as a failed start: five minutes are the default of
Vagrant's ``boot_timeout`` (its documentation, recalled). Other tools wait for shorter and for longer."""


@compiled
def _reserved_mib(vms, vm_specs) -> float:  # type: ignore[no-untyped-def]
    """Reservations and overheads of the VMs that run on the host."""
    reserved = 0.0
    for v in range(len(vms)):
        if vms[v].admitted > 0.0:
            reserved += vm_specs[v].min_mib + vm_specs[v].overhead_mib
    return reserved


@compiled
def missing_mib(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord, spec: VmSpecRecord) -> float:  # type: ignore[no-untyped-def]
    """Memory that a VM of this specification lacks to be started beside those of the host; 0 or less starts it."""
    swap_left = host_spec.swap_mib - host.swap_used_mib
    if host_spec.admission == RESERVATION:
        unreserved = host_spec.ram_mib - host_spec.own_mib - _reserved_mib(vms, vm_specs)
        return max(spec.min_mib + spec.overhead_mib - unreserved, spec.memory_mib - spec.min_mib - swap_left)
    if host_spec.admission == COMMIT:
        taken = spec.overhead_mib + host_spec.min_free_mib - host.free_mib
        if host_spec.pages_restarts > spec.pinned:  # Smart Paging bridges from minimum to startup, as swap has room
            least = max(spec.min_mib, spec.kernel_mib)  # a kernel does not boot from swap
            return max(least + taken, spec.startup_mib + taken - swap_left)
        return spec.startup_mib + taken
    if host_spec.admission == FITS:
        return spec.startup_mib + spec.overhead_mib - max(host.free_mib + host.cache_mib, 0.0) - swap_left
    return 0.0


@compiled
def boot(vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord) -> None:
    """Start with an empty guest: at its startup size where that is given, or where memory is committed, as far as memory is
    free."""
    vm.admitted = 1.0
    vm.refilling = 1.0
    vm.down_s = spec.restart_s
    vm.large_share = 1.0
    vm.heap_mib = spec.jvm.xmx_mib
    vm.run_share = 1.0
    vm.free_runs_mib = spec.guest_swap_mib
    vm.lru_age_s = 1e4
    vm.oldest_s = guest.MAX_AGE_S
    vm.missing_goal_mib = -1.0
    vm.free_untouched_mib = spec.memory_mib - spec.kernel_mib
    if spec.stats_frozen_s < math.inf:  # what it is to keep on saying must be its own
        vm.report_answered = 0.0
    if spec.starts_small > 0.0:
        vm.asked_mib = spec.startup_mib
    if spec.committed > 0.0 or spec.starts_small > 0.0:
        vm.balloon_mib = spec.memory_mib - spec.startup_mib
        vm.free_untouched_mib -= vm.balloon_mib
        short = spec.startup_mib + spec.overhead_mib + host_spec.min_free_mib - host.free_mib
        if short > 0.0 and host_spec.commits > spec.pinned:  # Smart Paging: it lies in swap until ballooned
            vm.free_untouched_mib -= short
            vm.free_backed_mib = vm.free_swapped_mib = short


@compiled
def admit(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """Let one second pass for the VMs of the host that wait, and start those that the rule allows."""
    for v in range(len(vms)):
        if vms[v].admitted == 0.0:
            vms[v].arrive_in_s -= 1.0
    start_arrived(vms, vm_specs, host, host_spec)
    for v in range(len(vms)):
        if vms[v].admitted == 0.0:
            _give_up(vms[v], vm_specs[v])


@compiled
def _give_up(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Count and charge a start that has taken too long, once."""
    if vm.arrive_in_s <= -GIVEN_UP_S and vm.failed_starts == 0.0:
        vm.failed_starts = 1.0
        vm.charged_s += spec.kill_cost_s


@compiled
def start_arrived(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """Start those of the VMs of the host that have arrived that the rule allows."""
    for v in range(len(vms)):
        vm, spec = vms[v], vm_specs[v]
        if vm.admitted == 0.0 and vm.arrive_in_s <= 0.0 and vm.may_start > 0.0:
            overcommit.account(vms, vm_specs, host, host_spec)
            if missing_mib(vms, vm_specs, host, host_spec, spec) <= 0.0:
                boot(vm, spec, host, host_spec)
                host.waiting -= 1.0
                overcommit.account(vms, vm_specs, host, host_spec)
