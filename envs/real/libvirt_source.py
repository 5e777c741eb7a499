"""VMs of libvirt, through libvirt-python (extra ``hvgym[libvirt]``).

``domainListGetStats`` for state, vCPUs, disks, links and balloon; ``memoryStats`` for what the guest reports, with the time of its
report; ``setMemoryStatsPeriod`` turns the reports on. Figures are KiB and nanoseconds. "available" is what the guest calls its
total memory, "usable" what it could give without swapping, "unused" what is free. Names that libvirt cannot find are off. A
connection that broke is opened again at the next reading.

Source: libvirt's API reference of virDomainMemoryStats and virConnectGetAllDomainStats; imports.md of what exporters make of it.
"""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

from hvgym.envs.errors import InputError
from hvgym.envs.real.linux import KIB_PER_MIB, Group, Machine, Process
from hvgym.envs.real.readings import UNSET, VmReading
from hvgym.envs.real.settings import RealHostSettings

STATISTICS = {
    "guest_free_mib": "unused", "guest_available_mib": "usable", "guest_total_mib": "available", "guest_caches_mib": "disk_caches",
    "guest_swap_in_mib": "swap_in", "guest_swap_out_mib": "swap_out", "size_mib": "actual", "resident_mib": "rss",
}  # fmt: skip
"""Signals in MiB and libvirt's names of them, in KiB."""

GUESTS = ("unused", "usable", "available", "disk_caches", "swap_in", "swap_out", "major_fault")
"""Of them, what the guest says."""

RUNNING = (1, 2, 3)
"""States running, blocked and paused of virDomainState: it holds its memory here."""


def _open(uri: str) -> Any:
    try:
        import libvirt
    except ImportError:
        raise InputError("backend=libvirt: libvirt-python is not installed; pip install 'hvgym[libvirt]'") from None
    libvirt.registerErrorHandler(lambda *_: None, None)  # it would print what is raised as well
    try:
        return libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise InputError(f"uri={uri}: libvirt does not answer ({error}); is this user in the group libvirt?") from None


class LibvirtSource:
    """See `Source`."""

    interface = "libvirt"

    def __init__(self, settings: RealHostSettings, machine: Machine | None = None) -> None:
        self._settings, self._machine = settings, machine or Machine()
        self._connection: Any = _open(settings.uri)
        import libvirt

        self._error = libvirt.libvirtError
        self._reports = set[str]()

    def _domain(self, name: str) -> Any:
        """The domain, None where libvirt has none of this name, or does not answer."""
        try:
            if not self._connection.isAlive():
                self._connection, self._reports = _open(self._settings.uri), set()
            return self._connection.lookupByName(name)
        except (self._error, InputError):
            return None

    def read(self, name: str) -> VmReading:
        """See `Source`."""
        domain = self._domain(name)
        if domain is None:
            return VmReading(running=False)
        try:
            running = domain.state()[0] in RUNNING
            if not running:
                self._reports.discard(name)
                return VmReading(running=False)
            self._ask_for_reports(name, domain)
            known = {"memory_mib": domain.maxMemory() / KIB_PER_MIB} | self._counters(domain)
            return self._with_memory(domain, known)
        except self._error:
            return VmReading(running=False)

    def _ask_for_reports(self, name: str, domain: Any) -> None:
        if name not in self._reports:
            self._reports.add(name)
            with contextlib.suppress(self._error):  # no balloon, or a driver that has none
                domain.setMemoryStatsPeriod(self._settings.stats_every_s, 1)  # of the running VM alone

    def _with_memory(self, domain: Any, known: dict[str, float]) -> VmReading:
        try:
            told: Mapping[str, int] = domain.memoryStats()
        except self._error:
            told = {}
        at_s = float(told.get("last_update", 0)) or None
        for name, told_as in STATISTICS.items():
            value = told.get(told_as, UNSET)
            if 0 <= value < UNSET // 1024 and (at_s or told_as not in GUESTS):
                known[name] = value / KIB_PER_MIB
        if at_s and "major_fault" in told:
            known["guest_major_faults"] = float(told["major_fault"])
        process = self._process(domain)
        return VmReading(True, known | (process.known() if process else {}), at_s)

    def _counters(self, domain: Any) -> dict[str, float]:
        """CPU, disks and links, as far as this driver counts them."""
        try:
            ((_, stats),) = self._connection.domainListGetStats([domain], 0, 0)
        except (self._error, ValueError):
            return {"cpu_s": domain.info()[4] / 1e9, "vcpus": float(domain.info()[3])}
        found = {"vcpus": float(stats.get("vcpu.current", math.nan)), "cpu_s": stats.get("cpu.time", math.nan) / 1e9}
        for signal, group, parts in (
            ("disk_mib", "block", ("rd.bytes", "wr.bytes")), ("net_mib", "net", ("rx.bytes", "tx.bytes")),
        ):  # fmt: skip
            keys = [f"{group}.{i}.{part}" for i in range(int(stats.get(f"{group}.count", 0))) for part in parts]
            if values := [stats[key] for key in keys if key in stats]:
                found[signal] = sum(values) / 2**20
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def _process(self, domain: Any) -> Process | None:
        """Its QEMU, where this machine runs it and says so."""
        pid = (self._machine.text(f"/run/libvirt/qemu/{domain.name()}.pid") or "").strip()
        return Process(self._machine, int(pid)) if pid.isdigit() else None

    def set_size(self, name: str, mib: float) -> None:
        """See `Source`."""
        domain = self._domain(name)
        try:
            if domain is None:
                raise InputError(f"{name}: libvirt has no VM of this name now")
            domain.setMemoryFlags(int(mib * KIB_PER_MIB), 1)  # of the running VM alone
        except self._error as error:
            raise InputError(f"{name}: libvirt does not set its memory ({error})") from None

    def _group(self, name: str) -> Group | None:
        domain = self._domain(name)
        process = self._process(domain) if domain is not None else None
        return process.group if process else None

    def reclaims(self, name: str) -> bool:
        """See `Source`."""
        group = self._group(name)
        return group is not None and group.reclaims is not None

    def reclaim(self, name: str, mib: float) -> None:
        """See `Source`."""
        group = self._group(name)
        if group is None or group.reclaims is None:
            raise InputError(f"{name}: its control group may not be written; run as root, or leave reclaim out")
        group.reclaim(mib)

    def close(self) -> None:
        """See `Source`."""
        with contextlib.suppress(self._error):
            self._connection.close()
