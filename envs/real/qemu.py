"""QEMU processes without libvirt: their monitors, and what Linux says of them.

Size is ``query-balloon``, which QEMU refuses where there is no balloon device or the guest's driver does not run. Statistics are
the property ``guest-stats`` of the balloon device, which a guest fills each ``guest-stats-polling-interval``: unset ones are
2^64 - 1, and while a guest hangs the last ones stay, with the time of their making. A QEMU that hangs runs, and nothing is known
of it; one that was stopped, moved away or killed is off until it answers again.

Sources: QEMU's QMP reference, ``docs/interop/virtio-balloon-stats``, re-implemented.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hvgym.envs.errors import InputError
from hvgym.envs.real.linux import Machine, Process
from hvgym.envs.real.qmp import Monitor, MonitorError, MonitorRefusedError, MonitorSilentError
from hvgym.envs.real.readings import MIB, VmReading, bytes_as_mib, count
from hvgym.envs.real.settings import RealHostSettings

STATISTICS = {
    "guest_free_mib": "stat-free-memory", "guest_available_mib": "stat-available-memory", "guest_total_mib": "stat-total-memory",
    "guest_caches_mib": "stat-disk-caches", "guest_swap_in_mib": "stat-swap-in", "guest_swap_out_mib": "stat-swap-out",
}  # fmt: skip
"""Signals in MiB and QEMU's names of them, in bytes."""

HERE = ("running", "paused", "debug", "io-error", "watchdog", "suspended")
"""States in which a VM is on this host and holds its memory."""

_BALLOON = "virtio-balloon"
_PLACES = ("/machine/peripheral", "/machine/peripheral-anon")


class _Vm:
    """One QEMU process."""

    def __init__(self, socket: str, stats_every_s: int, timeout_s: float, machine: Machine) -> None:
        self._monitor, self._machine = Monitor(Path(socket), timeout_s), machine
        self._stats_every_s = stats_every_s
        self._pid: int | None = None
        self.process: Process | None = None
        self._device: str | None = None

    def read(self) -> VmReading:
        """See `Source`."""
        try:
            state = str(self._monitor.execute("query-status").get("status"))
            if self._monitor.pid != self._pid:
                self._begin()
            known = self._sizes() | self._disks() | {"vcpus": float(len(self._monitor.execute("query-cpus-fast")))}
            statistics, at_s = self._statistics()
        except MonitorRefusedError:  # of a command that every QEMU has: it is starting, or ending
            return VmReading(running=True)
        except MonitorSilentError:
            return VmReading(running=True)
        except (MonitorError, AttributeError, TypeError, KeyError, ValueError):  # gone, or no replies of QEMU
            self.close()
            return VmReading(running=False)
        known |= statistics | (self.process.known() if self.process else {})
        return VmReading(state in HERE, known if state in HERE else {}, at_s)

    def _begin(self) -> None:
        """A process that was not there before."""
        self._pid = self._monitor.pid
        self.process = Process(self._machine, self._pid) if self._pid is not None else None
        self._device = self._balloon()
        if self._device is not None:
            self._monitor.execute(
                "qom-set", path=self._device, property="guest-stats-polling-interval", value=self._stats_every_s
            )

    def _balloon(self) -> str | None:
        """Path of the balloon device."""
        for place in _PLACES:
            try:
                devices = self._monitor.execute("qom-list", path=place)
            except MonitorRefusedError:
                continue
            for device in devices:
                if str(device.get("type", "")).startswith(f"child<{_BALLOON}"):
                    return f"{place}/{device['name']}"
        return None

    def _sizes(self) -> dict[str, float]:
        summary = self._monitor.execute("query-memory-size-summary")
        known = {"memory_mib": bytes_as_mib(summary.get("base-memory"))}
        try:
            known["size_mib"] = bytes_as_mib(self._monitor.execute("query-balloon").get("actual"))
        except MonitorRefusedError as refusal:  # no device, or nobody who drives it
            if refusal.kind not in ("DeviceNotActive", "KVMMissingCap", "GenericError"):
                raise
        return known

    def _disks(self) -> dict[str, float]:
        """Bytes read and written by all of its disks."""
        try:
            disks = self._monitor.execute("query-blockstats")
        except MonitorRefusedError:
            return {}
        parts = [count(disk.get("stats", {}).get(f"{way}_bytes")) for disk in disks for way in ("rd", "wr")]
        return {"disk_mib": sum(part for part in parts if not math.isnan(part)) / MIB} if parts else {}

    def _statistics(self) -> tuple[dict[str, float], float | None]:
        if self._device is None:
            return {}, None
        try:
            told = self._monitor.execute("qom-get", path=self._device, property="guest-stats")
        except MonitorRefusedError:
            return {}, None
        at_s, stats = told.get("last-update"), told.get("stats", {})
        if not isinstance(at_s, (int, float)) or at_s <= 0 or not isinstance(stats, Mapping):
            return {}, None
        known = {name: bytes_as_mib(stats.get(told_as)) for name, told_as in STATISTICS.items()}
        known["guest_major_faults"] = count(stats.get("stat-major-faults"))
        return {name: value for name, value in known.items() if not math.isnan(value)}, float(at_s)

    def set_size(self, mib: float) -> None:
        """See `Source`."""
        self._monitor.execute("balloon", value=int(mib * MIB))

    def close(self) -> None:
        """Hang up, and forget whom it was."""
        self._monitor.close()
        self._pid = self.process = self._device = None


class QemuSource:
    """See `Source`."""

    interface = "qmp"

    def __init__(self, settings: RealHostSettings, machine: Machine | None = None) -> None:
        self._vms = {
            name: _Vm(str(vm.qmp), settings.stats_every_s, settings.timeout_s, machine or Machine())
            for name, vm in settings.vms.items()
        }

    def read(self, name: str) -> VmReading:
        """See `Source`."""
        return self._vms[name].read()

    def set_size(self, name: str, mib: float) -> None:
        """See `Source`."""
        self._vms[name].set_size(mib)

    def _group(self, name: str) -> Any:
        process = self._vms[name].process
        return process.group if process else None

    def reclaims(self, name: str) -> bool:
        """See `Source`."""
        group = self._group(name)
        return group is not None and group.reclaims is not None

    def reclaim(self, name: str, mib: float) -> None:
        """See `Source`."""
        if not self.reclaims(name):
            raise InputError(f"{name}: its control group may not be written; run as its owner, or leave reclaim out")
        self._group(name).reclaim(mib)

    def close(self) -> None:
        """See `Source`."""
        for vm in self._vms.values():
            vm.close()
