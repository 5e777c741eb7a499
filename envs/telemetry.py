"""What an operator can read, and what a policy may answer.

`Telemetry` holds two structured arrays, ``vm`` as ``[env, vm]`` and ``host`` as ``[env, host]``. Each field is a
`Signal`: unit in the name, where a real host gets it, and the lowest visibility profile that includes it. Missing is
NaN, never 0. Counters are cumulative since the start; guest statistics are as old as ``stats_age_s``. A simulator and
a real host fill the same structure, so a policy cannot tell which it drives. What no operator can read is
`HiddenState`, another type.
"""

import dataclasses
import enum
import functools
from collections.abc import Collection

import numpy as np

from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.model.guest import activity
from hvgym.envs.model.host import overcommit


class Visibility(enum.IntEnum):
    """Profiles of what a policy sees, and the lowest of them that has a signal."""

    P0 = 0  # host only
    P1 = 1  # P0 and balloon statistics
    P2 = 2  # P1 and committed memory
    P3 = 3  # P0 and sampled activity
    P4 = 4  # P2 and an agent in the guest

    @property
    def includes(self) -> frozenset["Visibility"]:
        """The profiles whose signals this one sees."""
        chain = {Visibility.P3: (0, 3), Visibility.P4: (0, 1, 2, 4)}.get(self, tuple(range(self + 1)))
        return frozenset(Visibility(profile) for profile in chain)


@dataclasses.dataclass(frozen=True)
class Signal:
    """One field of the telemetry."""

    name: str
    source: str
    visibility: Visibility = Visibility.P0


AGES_S = (5, 15, 30, 60, 120, 240, 480, 960, 1920, 3840)
"""Ages for which the host's idle-page tracking counts pages."""

_CONTROL, _VMM, _STATS = "control plane", "VMM process and its cgroup", "balloon statistics queue"

VM_SIGNALS = (
    Signal("memory_mib", _CONTROL),
    Signal("min_mib", _CONTROL),
    Signal("startup_mib", "control plane: size with which it was told to start"),
    Signal("limit_mib", "control plane: most host memory behind it, its process counted as in resident_mib"),
    Signal("shares", _CONTROL),
    Signal("weight", _CONTROL),
    Signal("critical", _CONTROL),
    Signal("size_mib", "VMM: memory less actual balloon"),
    Signal("target_mib", "VMM: memory size last asked for"),
    Signal("resident_mib", _VMM),
    Signal("host_swap_mib", _VMM),
    Signal("host_swap_in_mib", _VMM),
    Signal("host_swap_out_mib", _VMM),
    Signal("host_psi_some10", _VMM),
    Signal("host_psi_some_s", _VMM),
    Signal("host_io_psi_some10", _VMM),
    Signal("shared_mib", _VMM),
    Signal("compressed_mib", _VMM),
    Signal("running", _CONTROL),
    Signal("waiting", "control plane: asked to start and not started"),
    Signal("overhead_mib", _CONTROL),
    Signal("vcpus", _CONTROL),
    Signal("cpu_reservation", _CONTROL),
    Signal("disk_mib", _VMM),
    Signal("disk_latency_s", "VMM: latency of its last disk operations"),
    Signal("disk_shares", _CONTROL),
    Signal("net_mib", _VMM),
    Signal("net_shares", _CONTROL),
    Signal(
        "pinned", "control plane: 1 where a passed-through device pins its memory, so that no request for memory is met"
    ),
    Signal("bytecode", "control plane: 1 where its service can be started on another processor architecture"),
    Signal("cpu_s", _VMM),
    Signal("cpu_ready_s", _VMM),
    Signal("guest_free_mib", _STATS, Visibility.P1),
    Signal("guest_available_mib", _STATS, Visibility.P1),
    Signal("guest_total_mib", _STATS, Visibility.P1),
    Signal("guest_caches_mib", _STATS, Visibility.P1),
    Signal("guest_swap_in_mib", _STATS, Visibility.P1),
    Signal("guest_swap_out_mib", _STATS, Visibility.P1),
    Signal("guest_major_faults", _STATS, Visibility.P1),
    Signal("stats_age_s", "time since the driver's last answer", Visibility.P1),
    Signal("guest_committed_mib", "guest agent's or driver's Committed_AS", Visibility.P2),
    Signal("active_share", "hypervisor: of 100 pages sampled, touched in the last full period", Visibility.P3),
    Signal("active_now_share", "hypervisor: ... touched so far in the period that runs", Visibility.P3),
    Signal("active_periods", "hypervisor: periods of sampling that have ended", Visibility.P3),
    Signal("guest_psi_some10", "agent in the guest", Visibility.P4),
    Signal("heap_mib", "agent in the guest: heap of its JVM", Visibility.P4),
    Signal("heap_ballooned_mib", "... taken out of it by a balloon that sits in it", Visibility.P4),
    Signal("gc_share", "... time spent collecting", Visibility.P4),
    *(Signal(f"idle_{age}s_mib", "idle-page tracking of the VMM process: idle for so long") for age in AGES_S),
    *(Signal(f"woken_{age}s_mib_per_s", "... touched per second after being idle for so long") for age in AGES_S),
)

_PROC = "/proc of the host"

HOST_SIGNALS = (
    Signal("total_mib", _PROC),
    Signal("free_mib", _PROC),
    Signal("available_mib", _PROC),
    Signal("psi_some10", _PROC),
    Signal("swap_total_mib", _PROC),
    Signal("swap_used_mib", _PROC),
    Signal("swap_in_mib", _PROC),
    Signal("swap_out_mib", _PROC),
    Signal("disk_utilisation", _PROC),
    Signal("cpu_utilisation", _PROC),
    Signal("shared_mib", "page sharing: merged away"),
    Signal("scan_pages_per_s", "page sharing: scan rate"),
    Signal("memory_state", "hypervisor: 0 is ample, 4 the worst of its states"),
)

SIGNAL_GROUPS: dict[str, tuple[str, ...]] = {
    "config": (
        "memory_mib", "min_mib", "startup_mib", "limit_mib", "shares", "weight", "critical", "running", "waiting",
        "overhead_mib", "vcpus", "cpu_reservation", "disk_shares", "net_shares", "pinned", "bytecode",
    ),
    "balloon": ("size_mib", "target_mib"),
    "usage": (
        "resident_mib", "host_swap_mib", "host_swap_in_mib", "host_swap_out_mib", "shared_mib", "compressed_mib",
    ),
    "pressure": ("host_psi_some10", "host_psi_some_s", "host_io_psi_some10", "host.psi_some10"),
    "io": ("disk_mib", "disk_latency_s", "net_mib", "cpu_s", "cpu_ready_s"),
    "guest_stats": (
        "guest_free_mib", "guest_available_mib", "guest_total_mib", "guest_caches_mib", "guest_swap_in_mib",
        "guest_swap_out_mib", "guest_major_faults", "stats_age_s",
    ),
    "committed": ("guest_committed_mib",),
    "activity": ("active_share", "active_now_share", "active_periods"),
    "agent": ("guest_psi_some10", "heap_mib", "heap_ballooned_mib", "gc_share"),
    "page_ages": (*(f"idle_{age}s_mib" for age in AGES_S), *(f"woken_{age}s_mib_per_s" for age in AGES_S)),
    "host": tuple(f"host.{signal.name}" for signal in HOST_SIGNALS if signal.name != "psi_some10"),
}  # fmt: skip
"""Signals that a hypervisor has or lacks together; those of hosts begin with ``host.``. Each signal is in one group."""

VM_TELEMETRY = np.dtype([(signal.name, "f8") for signal in VM_SIGNALS], align=True)
HOST_TELEMETRY = np.dtype([(signal.name, "f8") for signal in HOST_SIGNALS], align=True)


def visible_to(visibility: Visibility) -> frozenset[str]:
    """Names, as in `SIGNAL_GROUPS`, of all that a profile includes."""
    seen = visibility.includes
    vm = (signal.name for signal in VM_SIGNALS if signal.visibility in seen)
    host = (f"host.{signal.name}" for signal in HOST_SIGNALS if signal.visibility in seen)
    return frozenset((*vm, *host))


VM_PLACES = np.dtype([
    ("host", "f8"),  # index; NaN where it has none
    ("state", "f8"),  # of `placement.STATES`
    ("moving_to", "f8"),  # host to which it is copied; NaN
    ("wanted", "f8"),  # host to which somebody wants it; NaN
    ("copied_mib", "f8"),  # sent by the copy that runs
    ("remaining_mib", "f8"),  # ... of its round
    ("round", "f8"),
    ("throttle", "f8"),  # share of the time for which its vCPUs are held back for it
    ("blocked", "f8"),  # of `placement.OBSTACLES`: why the last wish was not met
    ("since_lost_s", "f8"),  # seconds since its host failed, until it is back at work; NaN
    ("restart_priority", "f8"),
    ("restarts", "f8"),  # 1: high availability restarts it
    ("tries", "f8"),  # starts since it was lost
    ("moves", "f8"),  # counter
], align=True)  # fmt: skip
"""What the stack says of a VM: its placement, and the copy that runs."""

HOST_PLACES = np.dtype([
    ("state", "f8"),  # of `placement.MACHINE_STATES`, as far as others know: a dead host is up until it is noticed
    ("maintenance", "f8"),  # 1: is to be emptied, and nothing is started there
    ("deadline_s", "f8"),  # seconds until it must be empty; NaN
    ("pcpus", "f8"),
    ("clock_ghz", "f8"),
    ("kind", "f8"),  # group of hosts alike
    ("link_mib_per_s", "f8"),  # for copies
    ("nic_mib_per_s", "f8"),  # for VMs
    ("net_mib_per_s", "f8"),  # of VMs
    ("copies_mib_per_s", "f8"),  # of copies, the busier way
    ("outgoing", "f8"),  # copies
    ("incoming", "f8"),
    ("vms", "f8"),
], align=True)  # fmt: skip
"""What the stack says of a host."""


@dataclasses.dataclass(frozen=True)
class Places:
    """The stack's view of a cluster. vm ``[env, vm]`` of `VM_PLACES`, host ``[env, host]`` of `HOST_PLACES`; obstacles ``[env, vm,
    host]`` (int8): what stands in the way of a VM's move to, or start on, each host, of `placement.OBSTACLES`, limits on copies
    aside."""

    vm: np.ndarray
    host: np.ndarray
    obstacles: np.ndarray

    def copy(self) -> "Places":
        """One of its own, for who may write into it."""
        return Places(self.vm.copy(), self.host.copy(), self.obstacles.copy())


@dataclasses.dataclass(frozen=True)
class Telemetry:
    """One reading of every signal. vm ``[env, vm]`` of `VM_TELEMETRY`, host ``[env, host]`` of `HOST_TELEMETRY`, time_s
    ``[env]``; places: of a cluster, None of a host alone.
    """

    time_s: np.ndarray
    vm: np.ndarray
    host: np.ndarray
    places: Places | None = None

    def seen_with(self, visibility: Visibility) -> "Telemetry":
        """Return a copy in which every signal that `visibility` does not include is NaN."""
        vm, host, seen = self.vm.copy(), self.host.copy(), visibility.includes
        for signals, array in ((VM_SIGNALS, vm), (HOST_SIGNALS, host)):
            for signal in signals:
                if signal.visibility not in seen:
                    array[signal.name] = np.nan
        return Telemetry(self.time_s.copy(), vm, host, None if self.places is None else self.places.copy())

    def restricted_to(self, signals: Collection[str]) -> "Telemetry":
        """Return a copy in which every signal but these is NaN; names as in `SIGNAL_GROUPS`."""
        arrays = []
        for array, kept in zip((self.vm, self.host), _kept(frozenset(signals)), strict=True):
            values = np.ascontiguousarray(array).view(np.float64).reshape(*array.shape, -1)
            arrays.append(np.where(kept, values, np.nan).view(array.dtype)[..., 0])
        places = None if self.places is None else self.places.copy()
        return Telemetry(self.time_s.copy(), arrays[0], arrays[1], places)


@functools.lru_cache(maxsize=64)
def _kept(signals: frozenset[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which signals of VMs and of hosts these names mean, each ``[signal]``."""
    vm = [signal.name in signals for signal in VM_SIGNALS]
    return np.array(vm), np.array([f"host.{signal.name}" in signals for signal in HOST_SIGNALS])


MOST_SCANNED_PER_S = 1e9
"""4 TB/s of 4 KiB pages, more than any memory carries (a guess: ksmd's own limit, 2^32 pages a wake-up, says nothing)."""

MOST_SHARES = 1e6
"""The largest custom number of shares that ESXi takes; cgroup's io.weight ends at 10,000."""


@dataclasses.dataclass(frozen=True)
class Targets:
    """What a policy decides; None or NaN leaves a thing as it is. Infinity, another shape and what lies outside of the ranges
    below are refused (``envs.targets``); the rollout then ends with the agent, scenario, seed and second.

    memory_mib ``[env, vm]``: size that each VM's balloon should leave; held within the VM's minimum and configured size.
    reclaim_mib ``[env, vm]``: memory that the host shall take of each VM now, oldest pages first (cgroup reclaim); what is
    left of an earlier request is replaced; at least 0.
    reclaim_age_s ``[env, vm]``: ... from pages idle for at least this long; without it in the order of the kernel's lists; at
    least 0.
    scan_pages_per_s ``[env, host]``: rate of page sharing's scanner, 0 stops it; at most `MOST_SCANNED_PER_S`.
    report_free_pages ``[env, vm]``: 1 turns free page reporting on, 0 off.
    admit ``[env, vm]``: 0 keeps a VM that has not been started waiting, 1 leaves it to the hypervisor.
    disk_shares, net_shares ``[env, vm]``: weights by which disk and link are divided when they are short, from 0 (what others
    leave) to `MOST_SHARES`; from the first on the host divides them, beside the reservations and limits of its scenario.
    limit_mib ``[env, vm]``: most host memory behind each VM, its process counted as in the signal of that name, by the
    hypervisor's own means (``model.host.limits``); held to at least what is guaranteed to the VM and what it boots with. From
    memory_mib + overhead_mib on it is no limit. It goes with a VM that moves and outlasts a kill; one that is started anew in a
    cluster has its scenario's. Refused where the hypervisor has no limits.
    move_to ``[env, vm]``: in a cluster, host to which a VM that runs shall move, or on which one that waits shall start; its own
    host calls off what was wanted and a copy that runs.
    maintenance ``[env, host]``: 1 lets nothing start there or move there, 0 ends that.
    restart_priority ``[env, vm]``: order in which VMs are started again after a failure, high first; at least 0.
    """

    memory_mib: np.ndarray | None = None
    reclaim_mib: np.ndarray | None = None
    reclaim_age_s: np.ndarray | None = None
    scan_pages_per_s: np.ndarray | None = None
    report_free_pages: np.ndarray | None = None
    admit: np.ndarray | None = None
    disk_shares: np.ndarray | None = None
    net_shares: np.ndarray | None = None
    limit_mib: np.ndarray | None = None
    move_to: np.ndarray | None = None
    maintenance: np.ndarray | None = None
    restart_priority: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class HiddenState:
    """What no operator can read; for clairvoyant bounds and scorers only. Arrays of ``model.params``, not to be
    changed.

    vms, vm_specs ``[env, vm]``; hosts, host_specs ``[env, host]``; demand ``[env, slot, vm]`` with slots of slot_s;
    clock_s ``[env]``.
    """

    vms: np.ndarray
    hosts: np.ndarray
    vm_specs: np.ndarray
    host_specs: np.ndarray
    demand: np.ndarray
    clock_s: np.ndarray
    slot_s: int


@compiled
def _told(vm, spec) -> float:  # type: ignore[no-untyped-def]
    """1, or NaN where the guest has told nothing."""
    return 1.0 if spec.stats_interval_s > 0.0 and vm.report_answered > 0.0 else np.nan


@compiled
def read_vm(vm, spec, signal) -> None:  # type: ignore[no-untyped-def]
    """Fill the telemetry of one VM, but for samples and page ages."""
    told = _told(vm, spec)
    signal.memory_mib = spec.memory_mib
    signal.min_mib = spec.min_mib
    signal.critical = spec.critical
    signal.size_mib = spec.memory_mib - vm.balloon_mib
    signal.target_mib = vm.asked_mib
    signal.resident_mib = overcommit.used_mib(vm, spec)
    signal.host_swap_mib = overcommit.host_swapped_mib(vm) - vm.zipped_mib
    signal.host_swap_in_mib = vm.host_swap_in_mib
    signal.disk_mib = vm.disk_mib
    signal.cpu_s = vm.cpu_s
    signal.guest_free_mib = told * vm.report_free_mib
    signal.guest_available_mib = told * vm.report_available_mib
    signal.guest_caches_mib = told * vm.report_caches_mib
    signal.guest_swap_in_mib = told * vm.report_swap_in_mib
    signal.guest_swap_out_mib = told * vm.report_swap_out_mib
    signal.startup_mib = spec.startup_mib if spec.starts_small > 0.0 else np.nan
    signal.limit_mib = vm.limit_mib + spec.overhead_mib if vm.limit_mib < np.inf else np.nan
    signal.shares = spec.shares
    signal.weight = spec.weight
    signal.host_swap_out_mib = vm.host_swap_out_mib
    signal.host_psi_some10 = vm.host_psi_some10
    signal.host_psi_some_s = vm.host_stalled_s
    own = vm.psi_some10 if spec.zram_stored_share == 0.0 else 0.0  # the VMM waits where its guest waits for its disk
    signal.host_io_psi_some10 = min(own + vm.host_psi_some10, 1.0)
    signal.shared_mib = vm.shared_mib
    signal.compressed_mib = vm.zipped_mib
    signal.running = vm.admitted
    signal.waiting = 1.0 if vm.admitted == 0.0 and vm.arrive_in_s <= 0.0 else 0.0
    signal.overhead_mib = spec.overhead_mib
    signal.vcpus = spec.vcpus
    signal.cpu_reservation = spec.cpu_reservation
    signal.disk_latency_s = vm.disk_latency_s
    signal.disk_shares = vm.disk_shares
    signal.net_mib = vm.net_mib
    signal.net_shares = vm.net_shares
    signal.pinned = spec.pinned
    signal.bytecode = spec.jvm.present
    signal.cpu_ready_s = vm.ready_s
    signal.guest_total_mib = told * vm.report_total_mib
    signal.guest_major_faults = told * vm.report_major_faults
    signal.stats_age_s = told * vm.report_age_s
    signal.guest_committed_mib = told * vm.report_committed_mib
    signal.guest_psi_some10 = vm.psi_some10 if spec.stats_windows == 0.0 else np.nan  # Windows has no PSI
    runs = 1.0 if spec.jvm.present > 0.0 else np.nan
    signal.heap_mib = runs * vm.heap_mib
    signal.heap_ballooned_mib = runs * vm.heap_ballooned_mib
    signal.gc_share = runs * vm.gc_share


@compiled
def _read_host(host, spec, signal) -> None:  # type: ignore[no-untyped-def]
    """A host's own signals."""
    signal.total_mib = spec.ram_mib
    signal.free_mib = max(host.free_mib, 0.0)
    signal.available_mib = max(host.free_mib + host.cache_mib, 0.0)  # as MemAvailable, page cache included
    signal.swap_total_mib = spec.swap_mib
    signal.swap_used_mib = host.swap_used_mib
    signal.swap_in_mib = host.swap_in_mib
    signal.swap_out_mib = host.swap_out_mib
    signal.disk_utilisation = host.disk_utilisation
    signal.cpu_utilisation = min(host.cpu_utilisation, 1.0)
    signal.memory_state = host.state
    signal.shared_mib = host.shared_mib
    signal.scan_pages_per_s = host.scan_pages_per_s


@compiled
def read_host(vms, host, vm_specs, host_spec, vm_signals, host_signal) -> None:  # type: ignore[no-untyped-def]
    """Fill the telemetry of one host; vms, vm_specs and vm_signals are rows ``[vm]`` of its VMs and no others."""
    calm = 1.0
    for v in range(len(vms)):
        read_vm(vms[v], vm_specs[v], vm_signals[v])
        calm *= 1.0 - vms[v].host_psi_some10
    _read_host(host, host_spec, host_signal)
    host_signal.psi_some10 = 1.0 - calm


@compiled
def read(vms, hosts, vm_specs, host_specs, vm_signals, host_signals, first, last) -> None:  # type: ignore[no-untyped-def]
    """Fill the telemetry arrays of environments first..last-1, of one host each, from the model."""
    for e in range(first, last):
        read_host(vms[e], hosts[e, 0], vm_specs[e], host_specs[e, 0], vm_signals[e], host_signals[e, 0])


@compiled
def read_ages(vm, host, spec, v, signal) -> None:  # type: ignore[no-untyped-def]
    """Fill samples and page ages of one VM; `v` is its index in the environment, by which its samples are drawn."""
    signal.active_share = activity.last_sample(vm, host.seed, v)
    signal.active_now_share = activity.present_sample(vm, spec, host.seed, v)
    signal.active_periods = vm.sample_periods
    signal.idle_5s_mib = activity.idle_mib(vm, spec, 5.0)
    signal.idle_15s_mib = activity.idle_mib(vm, spec, 15.0)
    signal.idle_30s_mib = activity.idle_mib(vm, spec, 30.0)
    signal.idle_60s_mib = activity.idle_mib(vm, spec, 60.0)
    signal.idle_120s_mib = activity.idle_mib(vm, spec, 120.0)
    signal.idle_240s_mib = activity.idle_mib(vm, spec, 240.0)
    signal.idle_480s_mib = activity.idle_mib(vm, spec, 480.0)
    signal.idle_960s_mib = activity.idle_mib(vm, spec, 960.0)
    signal.idle_1920s_mib = activity.idle_mib(vm, spec, 1920.0)
    signal.idle_3840s_mib = activity.idle_mib(vm, spec, 3840.0)
    signal.woken_5s_mib_per_s = activity.woken_mib_per_s(vm, spec, 5.0)
    signal.woken_15s_mib_per_s = activity.woken_mib_per_s(vm, spec, 15.0)
    signal.woken_30s_mib_per_s = activity.woken_mib_per_s(vm, spec, 30.0)
    signal.woken_60s_mib_per_s = activity.woken_mib_per_s(vm, spec, 60.0)
    signal.woken_120s_mib_per_s = activity.woken_mib_per_s(vm, spec, 120.0)
    signal.woken_240s_mib_per_s = activity.woken_mib_per_s(vm, spec, 240.0)
    signal.woken_480s_mib_per_s = activity.woken_mib_per_s(vm, spec, 480.0)
    signal.woken_960s_mib_per_s = activity.woken_mib_per_s(vm, spec, 960.0)
    signal.woken_1920s_mib_per_s = activity.woken_mib_per_s(vm, spec, 1920.0)
    signal.woken_3840s_mib_per_s = activity.woken_mib_per_s(vm, spec, 3840.0)


@compiled
def read_activity(vms, hosts, vm_specs, vm_signals, first, last) -> None:  # type: ignore[no-untyped-def]
    """Fill samples and page ages of environments first..last-1, of one host each; apart, for what learners see has none of
    them."""
    for e in range(first, last):
        for v in range(vms.shape[1]):
            read_ages(vms[e, v], hosts[e, 0], vm_specs[e, v], v, vm_signals[e, v])


VM_COUNTERS = np.dtype(
    [(name, "f8") for name in ("host_swap_in_mib", "disk_mib", "cpu_s", "guest_swap_in_mib", "guest_swap_out_mib")]
)
HOST_COUNTERS = np.dtype([(name, "f8") for name in ("swap_in_mib", "swap_out_mib")])
"""Signals from whose rise ``features`` takes rates."""


@inlined
def watch(vms, host, vm_specs, host_spec, pages, vm_signals, host_signal) -> None:  # type: ignore[no-untyped-def]
    """Read what learners see of one host; vms, vm_specs and vm_signals are rows ``[vm]`` of its VMs and no others. Samples and ages
    of pages stay as they were but for who looks at `pages`."""
    read_host(vms, host, vm_specs, host_spec, vm_signals, host_signal)
    if pages:
        for v in range(len(vms)):
            read_ages(vms[v], host, vm_specs[v], v, vm_signals[v])
