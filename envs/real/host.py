"""A real host as a `Backend`: a source's readings become `Telemetry`, `Targets` become requests.

One lane, one host. Time is the clock's, in seconds since `reset`. What a host does not tell is NaN; statistics of guests have
the age that their time of making says. A VM that is off keeps its place in the arrays, with running 0.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np

from hvgym.envs.errors import InputError
from hvgym.envs.real.linux import Host, Machine
from hvgym.envs.real.readings import COUNTERS, HOST_COUNTERS, Rising, VmReading
from hvgym.envs.real.settings import RealHostSettings
from hvgym.envs.real.source import Source
from hvgym.envs.seats import CHANNELS
from hvgym.envs.targets import checked
from hvgym.envs.telemetry import HOST_TELEMETRY, SIGNAL_GROUPS, VM_TELEMETRY, Targets, Telemetry

NOWHERE = {
    "report_free_pages": "free page reporting is chosen as a VM is started (free-page-reporting=on of its balloon device)",
    "admit": "VMs are started by whoever starts them",
    "disk_shares": "not set by this backend",
    "net_shares": "not set by this backend",
    "limit_mib": "not set by this backend",
    "reclaim_age_s": "memory.reclaim goes by the kernel's lists; ages need DAMON or lru_gen, which this backend does not use",
}
"""Channels that no real host of these backends has, and why."""


class RealHost:
    """Of `settings`, through a source. clock: seconds that only rise; wall: seconds since 1970; sleep: lets them pass."""

    def __init__(
        self, settings: RealHostSettings, source: Source, machine: Machine | None = None,
        clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self.settings, self._source = settings, source
        self.names = tuple(settings.vms)
        self._clock, self._wall, self._sleep = clock, wall, sleep
        self._host = Host(machine or Machine(), settings.ram_mib, settings.confined_to, settings.disk, clock)
        self._rising, self._asked_mib = Rising(), np.full(len(self.names), np.nan)
        self._memory_mib = np.array([vm.memory_mib or np.nan for vm in settings.vms.values()])
        self._began_s = self._next_s = clock()

    def reset(self, seeds: Sequence[int]) -> Telemetry:
        """Begin at 0 s with what is there now. Raises `InputError` where not one VM answers."""
        self._rising, self._began_s = Rising(), self._clock()
        self._next_s = self._began_s
        first = self.read()
        if not (first.vm["running"] > 0.0).any():
            raise InputError(f"host {self.settings.name}: none of its VMs answers: {', '.join(self.names)}")
        return first

    def advance(self, seconds: float) -> Telemetry:
        """Let the clock go on until so many seconds after the last call's, and read; late readings are not caught up on."""
        self._next_s = max(self._next_s + seconds, self._clock() - seconds)
        self._sleep(max(self._next_s - self._clock(), 0.0))
        return self.read()

    def read(self) -> Telemetry:
        """Every signal now."""
        rows = np.zeros((1, len(self.names)), VM_TELEMETRY)
        for name in VM_TELEMETRY.names or ():
            rows[name] = np.nan
        for index, name in enumerate(self.names):
            self._fill(rows[0, index], index, name, self._source.read(name))
        host = np.zeros((1, 1), HOST_TELEMETRY)
        told = self._host.known(float(np.nansum(rows["resident_mib"])))
        for name in HOST_TELEMETRY.names or ():
            value = told.get(name, np.nan)
            host[name] = self._rising.add("", name, value) if name in HOST_COUNTERS else value
        return Telemetry(np.array([self._clock() - self._began_s]), rows, host)

    def _fill(self, row: np.void, index: int, name: str, reading: VmReading) -> None:
        settings, known = self.settings.vms[name], reading.known
        if np.isnan(self._memory_mib[index]) and "memory_mib" in known:
            self._memory_mib[index] = known["memory_mib"]
        for signal, value in known.items():
            row[signal] = value
        for signal in COUNTERS:
            row[signal] = self._rising.add(name, signal, known.get(signal, np.nan))
        if reading.stats_at_s is not None:
            row["stats_age_s"] = max(self._wall() - reading.stats_at_s, 0.0)
        row["memory_mib"], row["min_mib"] = self._memory_mib[index], min(settings.min_mib, self._memory_mib[index])
        row["weight"], row["critical"], row["shares"] = settings.weight, float(settings.critical), settings.shares
        row["overhead_mib"], row["cpu_reservation"], row["pinned"], row["bytecode"] = (
            settings.overhead_mib,
            0.0,
            0.0,
            0.0,
        )
        row["running"], row["waiting"] = float(reading.running), 0.0
        if not reading.running:  # started anew it has its whole size again
            self._asked_mib[index] = np.nan
        asked = self._asked_mib[index]
        row["target_mib"] = row["size_mib"] if np.isnan(asked) else asked

    def apply(self, targets: Targets) -> None:
        """Ask for it. Raises `InputError` for a channel that is not there, `TargetsError` for what no host could be told. A VM
        that does not take a request, for it went away since, is left alone."""
        asked = checked(targets, 1, len(self.names), 1)
        for channel in asked:
            if channel not in self.channels():
                raise InputError(f"targets.{channel}: this host has none; {self.lacks(channel)}")
        for index, name in enumerate(self.names):
            self._ask(index, name, asked)
        if "scan_pages_per_s" in asked and not np.isnan(rate := asked["scan_pages_per_s"][0, 0]):
            self._host.scan(float(rate))

    def _ask(self, index: int, name: str, asked: dict[str, np.ndarray]) -> None:
        size_mib = asked["memory_mib"][0, index] if "memory_mib" in asked else np.nan
        least, most = self.settings.vms[name].min_mib, self._memory_mib[index]
        try:
            if not np.isnan(size_mib) and not np.isnan(most):
                self._asked_mib[index] = min(max(size_mib, least), most)
                self._source.set_size(name, self._asked_mib[index])
            if "reclaim_mib" in asked and asked["reclaim_mib"][0, index] > 0.0 and self._source.reclaims(name):
                self._source.reclaim(name, float(asked["reclaim_mib"][0, index]))
        except InputError:
            self._asked_mib[index] = np.nan

    def ask(self, name: str, mib: float) -> None:
        """Ask one balloon for a size. Raises `InputError` where nobody takes it."""
        self._source.set_size(name, mib)

    def channels(self) -> tuple[str, ...]:
        """Fields of `Targets` that can be set here now; a balloon or control group of one VM is enough."""
        readings = [self._source.read(name) for name in self.names]
        there = {
            "memory_mib": any("size_mib" in one.known for one in readings),
            "reclaim_mib": any(self._source.reclaims(name) for name in self.names),
            "scan_pages_per_s": self._host.scans,
        }
        return tuple(name for name in CHANNELS if there.get(name))

    @staticmethod
    def lacks(channel: str) -> str:
        """Why a channel is not there."""
        reasons = {
            "memory_mib": "no VM has a balloon device whose driver runs",
            "reclaim_mib": "no VM's control group (memory.reclaim) may be written by this user",
            "scan_pages_per_s": "/sys/kernel/mm/ksm may not be written by this user",
        }
        return (reasons | NOWHERE).get(channel, "it needs several hosts and a stack")

    def signals(self, telemetry: Telemetry) -> frozenset[str]:
        """Names, as in `SIGNAL_GROUPS`, of what is known of at least one VM, or of the host."""
        known = {signal for signal in VM_TELEMETRY.names or () if not np.isnan(telemetry.vm[signal]).all()}
        known |= {f"host.{name}" for name in HOST_TELEMETRY.names or () if not np.isnan(telemetry.host[name]).all()}
        return frozenset(known | set(SIGNAL_GROUPS["config"]) | set(SIGNAL_GROUPS["balloon"]))

    @property
    def interface(self) -> str:
        """Of `rules.INTERFACES`."""
        return self._source.interface

    def close(self) -> None:
        """Hang up."""
        self._source.close()


def open_host(settings: RealHostSettings, machine: Machine | None = None) -> RealHost:
    """Raises `InputError` where its backend cannot be reached."""
    if settings.backend == "libvirt":
        from hvgym.envs.real.libvirt_source import LibvirtSource

        return RealHost(settings, LibvirtSource(settings, machine), machine)
    from hvgym.envs.real.qemu import QemuSource

    return RealHost(settings, QemuSource(settings, machine), machine)
