"""What learners see of a host and of any number of VMs: for each VM and for the host the same features in [0, 1], from what an
operator can read.

Shares are of the VM's configured memory, its present size or the host's RAM; a rate r reads r / (r + `HALF_MIB_PER_S`). What
changes from reading to reading (`NOW`, and of the host `HOST_NOW`) stands three times: now, and as its exponential average over
`AVERAGED_S`. A signal that is missing reads 0, and so does its mask (`MASKS`). Scales are fixed constants, they belong to the view
and not to a trained policy. Only sums, products and quotients are taken, which are the same bits on every machine.

The flat observation is a flattening: the host's `HOST_FEATURES`, then VM by VM its `VM_FEATURES`; places for VMs that are not there
read 0, ``present`` too.

Source of the choice: a prototype on the packaged scenarios, in which averages and the host's figures gained .016 of score over a
reading alone, and a hidden layer over a linear map nothing. What `MORE` adds has not been weighed yet.
"""

from collections.abc import Collection

import numpy as np

from hvgym.envs import telemetry as tele
from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.telemetry import Telemetry

NOW = (
    "guest_free", "guest_available", "guest_caches", "guest_swap_in_rate", "guest_swap_out_rate", "host_swap_in_rate",
    "host_swap", "resident", "disk_rate", "cpu", "host_psi",
)  # fmt: skip
"""Of a VM: parts of its size, rates, parts of its memory, part of its CPUs, and share of time stalled in the host."""

HOST_NOW = ("available", "swap_used", "swap_in_rate", "swap_out_rate", "disk_utilisation")

AVERAGED_S = (60.0, 600.0)

STILL = ("size", "target", "minimum", "share_of_ram", "critical", "weight", "shares", "limit", "running", "waiting")
"""Of a VM, now alone: sizes as shares of memory, its weight and shares beside the others' mean, its limit (0: none)."""

MORE = (
    "host_swap_out_rate", "host_io_psi", "shared", "compressed", "cpu_ready", "net_rate", "committed", "guest_psi", "active",
    "idle_for_60s", "idle_for_480s", "woken_after_60s", "woken_after_480s",
)  # fmt: skip
"""Of a VM, now alone: what only some learners, hypervisors or seats have, the last four for who watches ages of pages."""

MASKS = {
    "reports": "guest_free_mib",
    "has_balloon": "size_mib",
    "has_pressure": "host_psi_some10",
    "has_committed": "guest_committed_mib",
    "has_agent": "guest_psi_some10",
    "has_activity": "active_share",
    "has_page_ages": "idle_60s_mib",
}
"""1 where this signal is there; of the guest's statistics, of which some hypervisors have a part, also where another of
`REPORTED` is."""

REPORTED = ("guest_free_mib", "guest_available_mib", "guest_caches_mib", "guest_swap_in_mib", "guest_swap_out_mib")

HOST_STILL = ("cpu_utilisation", "state", "overcommit", "free", "psi", "shared_share", "scan_rate", "sizes", "has_psi")
"""overcommit, sizes: all that its VMs could use, and the sizes of those that run, over `MOST_OVERCOMMIT` times its RAM."""


def _with_averages(names: tuple[str, ...]) -> tuple[str, ...]:
    return (*names, *(f"{name}_{seconds:.0f}s" for seconds in AVERAGED_S for name in names))


VM_FEATURES = ("present", *_with_averages(NOW), *STILL, *MORE, *MASKS)
HOST_FEATURES = (*_with_averages(HOST_NOW), *HOST_STILL)

HALF_MIB_PER_S = 16.0
"""The rate that reads one half: what a slow disk reads at random (a guess)."""

MOST_WEIGHT, MOST_OVERCOMMIT = 4.0, 2.0
"""A weight of so many means, and VMs of so many times the RAM, read 1."""

WORST_STATE = 4.0
"""The last of ESXi's memory states, as ``telemetry`` counts them."""

MOST_SCANNED = 125_000.0
"""Pages a second: ksmtuned's most, 1,250 each 10 ms."""

OBSERVED = frozenset(REPORTED) | frozenset(MASKS.values()) | {
    "memory_mib", "min_mib", "limit_mib", "shares", "weight", "critical", "running", "waiting", "overhead_mib", "vcpus",
    "target_mib", "resident_mib", "host_swap_mib", "host_swap_in_mib", "host_swap_out_mib", "shared_mib", "compressed_mib",
    "host_io_psi_some10", "disk_mib", "net_mib", "cpu_s", "cpu_ready_s", "idle_480s_mib", "woken_60s_mib_per_s",
    "woken_480s_mib_per_s", "host.total_mib", "host.free_mib", "host.available_mib", "host.psi_some10", "host.swap_total_mib",
    "host.swap_used_mib", "host.swap_in_mib", "host.swap_out_mib", "host.disk_utilisation", "host.cpu_utilisation",
    "host.shared_mib", "host.scan_pages_per_s", "host.memory_state",
}  # fmt: skip
"""All signals that a view is made of."""

PAGES = frozenset(tele.SIGNAL_GROUPS["activity"] + tele.SIGNAL_GROUPS["page_ages"])
"""Signals that take more to read than others: samples and ages of pages."""

_VM_COUNTERS = (
    "guest_swap_in_mib", "guest_swap_out_mib", "host_swap_in_mib", "host_swap_out_mib", "disk_mib", "net_mib", "cpu_s",
    "cpu_ready_s",
)  # fmt: skip

VM_MEMORY = np.dtype(
    [
        *((name, "f8") for name in _VM_COUNTERS),
        ("now", "f8", (len(NOW),)),
        ("averages", "f8", (len(AVERAGED_S), len(NOW))),
    ]
)
"""What a view keeps of a VM from reading to reading: counters, and averages of features."""

HOST_MEMORY = np.dtype(
    [
        ("read", "f8"),  # 1: there has been a reading
        ("time_s", "f8"),  # ... then
        ("swap_in_mib", "f8"),
        ("swap_out_mib", "f8"),
        ("now", "f8", (len(HOST_NOW),)),
        ("averages", "f8", (len(AVERAGED_S), len(HOST_NOW))),
    ]
)

_N, _HOST_N, _HOST_WIDTH, _VM_WIDTH = len(NOW), len(HOST_NOW), len(HOST_FEATURES), len(VM_FEATURES)
_STILL_AT, _MORE_AT, _MASKS_AT = (VM_FEATURES.index(name) for name in (STILL[0], MORE[0], next(iter(MASKS))))
_HOST_STILL_AT = HOST_FEATURES.index(HOST_STILL[0])
_LENGTHS = len(AVERAGED_S)


def observation_size(vms: int, hosts: int = 1) -> int:
    """Length of a flat observation."""
    return hosts * len(HOST_FEATURES) + vms * len(VM_FEATURES)


@inlined
def _share(part: float, whole: float) -> float:
    """In [0, 1]; 0 where one is missing, or there is nothing of which it could be a part."""
    if not whole > 0.0:
        return 0.0
    share = part / whole
    return min(share, 1.0) if share > 0.0 else 0.0


@inlined
def _saturated(per_s: float) -> float:
    return per_s / (per_s + HALF_MIB_PER_S) if per_s > 0.0 else 0.0


@inlined
def _rate(now: float, before: float, seconds: float) -> float:
    return _saturated((now - before) / seconds)


@inlined
def _known(signal: float) -> float:
    return 0.0 if np.isnan(signal) else 1.0


@inlined
def _keep_vm(vm, memory) -> None:  # type: ignore[no-untyped-def]
    memory.guest_swap_in_mib = vm.guest_swap_in_mib
    memory.guest_swap_out_mib = vm.guest_swap_out_mib
    memory.host_swap_in_mib = vm.host_swap_in_mib
    memory.host_swap_out_mib = vm.host_swap_out_mib
    memory.disk_mib = vm.disk_mib
    memory.net_mib = vm.net_mib
    memory.cpu_s = vm.cpu_s
    memory.cpu_ready_s = vm.cpu_ready_s


@inlined
def _average(now, averages, first: bool, seconds: float, out) -> None:  # type: ignore[no-untyped-def]
    """Follow what is read now, and write all of it: now, then each average."""
    width = len(now)
    for i in range(width):
        out[i] = now[i]
    for a in range(_LENGTHS):
        part = seconds / (seconds + AVERAGED_S[a])
        for i in range(width):
            average = now[i] if first else averages[a, i] + part * (now[i] - averages[a, i])
            averages[a, i] = average
            out[(a + 1) * width + i] = average


@inlined
def _look_at_vm(vm, memory, first, seconds, ram_mib, weight, shares, ages, out) -> None:  # type: ignore[no-untyped-def]
    """weight, shares: means of the host's VMs."""
    if first:
        _keep_vm(vm, memory)
    now, size, whole = memory.now, vm.size_mib, vm.memory_mib
    now[0] = _share(vm.guest_free_mib, size)
    now[1] = _share(vm.guest_available_mib, size)
    now[2] = _share(vm.guest_caches_mib, size)
    now[3] = _rate(vm.guest_swap_in_mib, memory.guest_swap_in_mib, seconds)
    now[4] = _rate(vm.guest_swap_out_mib, memory.guest_swap_out_mib, seconds)
    now[5] = _rate(vm.host_swap_in_mib, memory.host_swap_in_mib, seconds)
    now[6] = _share(vm.host_swap_mib, whole)
    now[7] = _share(vm.resident_mib, whole)
    now[8] = _rate(vm.disk_mib, memory.disk_mib, seconds)
    now[9] = _share(vm.cpu_s - memory.cpu_s, vm.vcpus * seconds)
    now[10] = _share(vm.host_psi_some10, 1.0)
    out[0] = 1.0
    _average(now, memory.averages, first, seconds, out[1:])
    _look_at_still(vm, ram_mib, weight, shares, out[_STILL_AT:])
    _look_at_more(vm, memory, seconds, ages, out[_MORE_AT:])
    _mask(vm, ages, out[_MASKS_AT:])
    _keep_vm(vm, memory)


@inlined
def _look_at_still(vm, ram_mib, weight, shares, out) -> None:  # type: ignore[no-untyped-def]
    whole = vm.memory_mib
    out[0] = _share(vm.size_mib, whole)
    out[1] = _share(vm.target_mib, whole)
    out[2] = _share(vm.min_mib, whole)
    out[3] = _share(whole, ram_mib)
    out[4] = _share(vm.critical, 1.0)
    out[5] = _share(vm.weight, MOST_WEIGHT * weight)
    out[6] = _share(vm.shares, MOST_WEIGHT * shares)
    out[7] = _share(vm.limit_mib, whole)
    out[8] = _share(vm.running, 1.0)
    out[9] = _share(vm.waiting, 1.0)


@inlined
def _look_at_more(vm, memory, seconds, ages, out) -> None:  # type: ignore[no-untyped-def]
    whole = vm.memory_mib
    out[0] = _rate(vm.host_swap_out_mib, memory.host_swap_out_mib, seconds)
    out[1] = _share(vm.host_io_psi_some10, 1.0)
    out[2] = _share(vm.shared_mib, whole)
    out[3] = _share(vm.compressed_mib, whole)
    out[4] = _share(vm.cpu_ready_s - memory.cpu_ready_s, vm.vcpus * seconds)
    out[5] = _rate(vm.net_mib, memory.net_mib, seconds)
    out[6] = _share(vm.guest_committed_mib, whole)
    out[7] = _share(vm.guest_psi_some10, 1.0)
    out[8] = _share(vm.active_share, 1.0)
    for i in range(9, 13):
        out[i] = 0.0
    if ages:
        out[9] = _share(vm.idle_60s_mib, whole)
        out[10] = _share(vm.idle_480s_mib, whole)
        out[11] = _saturated(vm.woken_60s_mib_per_s)
        out[12] = _saturated(vm.woken_480s_mib_per_s)


@inlined
def _mask(vm, ages, out) -> None:  # type: ignore[no-untyped-def]
    reports = max(_known(vm.guest_free_mib), _known(vm.guest_available_mib), _known(vm.guest_caches_mib))
    out[0] = max(reports, _known(vm.guest_swap_in_mib), _known(vm.guest_swap_out_mib))
    out[1] = _known(vm.size_mib)
    out[2] = _known(vm.host_psi_some10)
    out[3] = _known(vm.guest_committed_mib)
    out[4] = _known(vm.guest_psi_some10)
    out[5] = _known(vm.active_share)
    out[6] = _known(vm.idle_60s_mib) if ages else 0.0


@inlined
def _look_at_host(host, memory, first, seconds, could_mib, sizes_mib, out) -> None:  # type: ignore[no-untyped-def]
    """could_mib, sizes_mib: configured memory of all its VMs, and sizes of those that run."""
    if first:
        memory.swap_in_mib, memory.swap_out_mib = host.swap_in_mib, host.swap_out_mib
    now, ram_mib = memory.now, host.total_mib
    now[0] = _share(host.available_mib, ram_mib)
    now[1] = _share(host.swap_used_mib, host.swap_total_mib)
    now[2] = _rate(host.swap_in_mib, memory.swap_in_mib, seconds)
    now[3] = _rate(host.swap_out_mib, memory.swap_out_mib, seconds)
    now[4] = _share(host.disk_utilisation, 1.0)
    _average(now, memory.averages, first, seconds, out)
    still = out[_HOST_STILL_AT:]
    still[0] = _share(host.cpu_utilisation, 1.0)
    still[1] = _share(host.memory_state, WORST_STATE)
    still[2] = _share(could_mib, MOST_OVERCOMMIT * ram_mib)
    still[3] = _share(host.free_mib, ram_mib)
    still[4] = _share(host.psi_some10, 1.0)
    still[5] = _share(host.shared_mib, ram_mib)
    still[6] = _share(host.scan_pages_per_s, MOST_SCANNED)
    still[7] = _share(sizes_mib, MOST_OVERCOMMIT * ram_mib)
    still[8] = _known(host.psi_some10)
    memory.swap_in_mib, memory.swap_out_mib = host.swap_in_mib, host.swap_out_mib


@inlined
def look(vms, host, time_s: float, ages: bool, of_vms, of_host, out) -> None:  # type: ignore[no-untyped-def]
    """Write one host's flat observation; vms, of_vms are rows ``[vm]``, out ``[feature]``, of which places for VMs that are not
    there stay as they are. ages: whether ages of pages are for this learner."""
    first = of_host.read == 0.0
    seconds = 1.0 if first else max(time_s - of_host.time_s, 1.0)
    of_host.read, of_host.time_s = 1.0, time_s
    could = sizes = weight = shares = 0.0
    for v in range(len(vms)):
        could += vms[v].memory_mib
        sizes += vms[v].size_mib * vms[v].running
        weight += vms[v].weight
        shares += vms[v].shares
    weight, shares = weight / len(vms), shares / len(vms)
    _look_at_host(host, of_host, first, seconds, could, sizes, out)
    for v in range(len(vms)):
        own = out[_HOST_WIDTH + v * _VM_WIDTH : _HOST_WIDTH + (v + 1) * _VM_WIDTH]
        _look_at_vm(vms[v], of_vms[v], first, seconds, host.total_mib, weight, shares, ages, own)


@compiled
def look_all(vms, hosts, time_s, ages, of_vms, of_hosts, out) -> None:  # type: ignore[no-untyped-def]
    """Write flat observations ``[env, feature]`` from a reading: vms, of_vms ``[env, vm]``, hosts, of_hosts ``[env, host]``."""
    for e in range(len(out)):
        look(vms[e], hosts[e, 0], time_s[e], ages, of_vms[e], of_hosts[e, 0], out[e])


Pair = tuple[np.ndarray, np.ndarray]
"""Of VMs, ``[env, vm]``, and of hosts, ``[env, host]``."""


def memory_of(lanes: int, vms: int) -> Pair:
    """What a view of so many lanes remembers, of whose episodes nothing has been read."""
    return np.zeros((lanes, vms), VM_MEMORY), np.zeros((lanes, 1), HOST_MEMORY)


def reading_of(lanes: int, vms: int) -> Pair:
    """Room for readings, in which samples and ages of pages are missing until somebody reads them."""
    return np.full((lanes, vms), np.nan, tele.VM_TELEMETRY), np.zeros((lanes, 1), tele.HOST_TELEMETRY)


def numbers_of(reading: Pair) -> Pair:
    """The same memory as plain numbers, ``[env, row, signal]``."""
    vm, host = (one.view(np.float64).reshape(*one.shape, -1) for one in reading)
    return vm, host


def forget(of_vms: np.ndarray, of_hosts: np.ndarray, lanes: slice | int = slice(None)) -> None:
    """Begin anew in these lanes."""
    of_vms[lanes] = np.zeros((), VM_MEMORY)
    of_hosts[lanes] = np.zeros((), HOST_MEMORY)


def hidden(signals: Collection[str]) -> tuple[np.ndarray, np.ndarray]:
    """Columns of readings, of VMs and of hosts, that a learner with these signals must not see, of those that views are made of."""
    vm = [i for i, one in enumerate(tele.VM_SIGNALS) if one.name in OBSERVED and one.name not in signals]
    names = [f"host.{one.name}" for one in tele.HOST_SIGNALS]
    host = [i for i, name in enumerate(names) if name in OBSERVED and name not in signals]
    return np.array(vm, np.int64), np.array(host, np.int64)


class View:
    """Looks at successive readings of a batch and keeps their averages. page_ages: whether those are looked at, where they are."""

    def __init__(self, page_ages: bool = False) -> None:
        self._page_ages = page_ages
        self._memory: Pair | None = None

    def look(self, telemetry: Telemetry) -> tuple[np.ndarray, np.ndarray]:
        """Features of VMs ``[env, vm, feature]`` and of hosts ``[env, host, feature]``; of the first reading rates are 0, and
        averages are that reading."""
        lanes, vms = telemetry.vm.shape
        out = np.empty((lanes, observation_size(vms)))
        self._write(telemetry, out)
        hosts = out[:, :_HOST_WIDTH].reshape(lanes, 1, _HOST_WIDTH)
        return out[:, _HOST_WIDTH:].reshape(lanes, vms, _VM_WIDTH), hosts

    def observe(self, telemetry: Telemetry, most_vms: int | None = None) -> np.ndarray:
        """Flat observations, float32 ``[env, feature]``, with places for `most_vms` VMs."""
        lanes, vms = telemetry.vm.shape
        out = np.zeros((lanes, observation_size(most_vms or vms)), np.float32)
        self._write(telemetry, out)
        return out

    def _write(self, telemetry: Telemetry, out: np.ndarray) -> None:
        vm, host = telemetry.vm, telemetry.host
        if self._memory is None:
            self._memory = memory_of(*vm.shape)
        look_all(vm, host, telemetry.time_s, self._page_ages, *self._memory, out)
