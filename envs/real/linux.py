"""What Linux says of a host and of the process of a VM: /proc, and its control group, version 2 or 1.

Memory of a process is RssAnon and RssShmem of its status (VmRSS counts tens of MiB of libraries that all VMs share). Pages read
back from host swap are its major faults, a page each: read-ahead is not counted, and faults of its files are. Version 1 of control
groups has no memory.reclaim: there its limit is lowered for a moment, which reclaims what lies above it.

A host may be a part of a machine (`Confines`): a control group in which all its VMs run, with a limit that stands for its RAM.

Sources: proc(5), Linux cgroup-v2.rst and cgroup-v1/memory.rst, psi.rst, ksm.rst.
"""

import contextlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PAGE_MIB = 4096 / 2**20
KIB_PER_MIB = 1024.0
UNLIMITED = 2**60
"""Bytes; version 1 writes a limit near 2^63 where there is none."""


@dataclass(frozen=True)
class Machine:
    """Where its files lie; a folder elsewhere in tests."""

    root: Path = Path("/")

    def text(self, path: str | Path) -> str | None:
        """A file, None where it is not there or may not be read."""
        try:
            return (self.root / str(path).lstrip("/")).read_text()
        except (OSError, UnicodeDecodeError):
            return None

    def number(self, path: str | Path) -> float:
        """A file that is one number; NaN."""
        text = (self.text(path) or "").strip()
        return float(text) if text.isdigit() else math.nan

    def keyed(self, path: str | Path) -> dict[str, float]:
        """Lines of a name and a number, as in meminfo and memory.stat."""
        found = {}
        for line in (self.text(path) or "").splitlines():
            words = line.replace(":", " ").split()
            if len(words) > 1 and words[1].isdigit():
                found[words[0]] = float(words[1])
        return found

    def write(self, path: str | Path, value: str) -> None:
        """Raises OSError."""
        with (self.root / str(path).lstrip("/")).open("w") as file:
            file.write(value)

    def writable(self, path: str | Path) -> bool:
        """Whether it is there and this user may write it."""
        return os.access(self.root / str(path).lstrip("/"), os.W_OK)


def stalled(text: str | None) -> dict[str, float]:
    """The line ``some`` of a PSI file: some10 as a share, some_s as seconds so far."""
    for line in (text or "").splitlines():
        kind, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        if kind == "some" and {"avg10", "total"} <= values.keys():
            with contextlib.suppress(ValueError):
                return {"some10": float(values["avg10"]) / 100.0, "some_s": float(values["total"]) / 1e6}
    return {}


class Group:
    """The control group of memory of a process."""

    def __init__(self, machine: Machine, folder: str, version: int) -> None:
        self._machine, self.folder, self.version = machine, folder, version

    @classmethod
    def of(cls, machine: Machine, pid: int) -> "Group | None":
        """Where /proc says it is; None in the root group, which is everybody's."""
        for line in (machine.text(f"/proc/{pid}/cgroup") or "").splitlines():
            number, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "", "/")
            if path == "/":
                continue
            if "memory" in controllers.split(","):
                return cls(machine, f"/sys/fs/cgroup/memory{path}", 1)
            if number == "0" and machine.text(f"/sys/fs/cgroup{path}/memory.current") is not None:
                return cls(machine, f"/sys/fs/cgroup{path}", 2)
        return None

    @classmethod
    def at(cls, machine: Machine, folder: str) -> "Group | None":
        """In a folder that was named."""
        for version, name in ((2, "memory.current"), (1, "memory.usage_in_bytes")):
            if machine.text(f"{folder}/{name}") is not None:
                return cls(machine, folder, version)
        return None

    def known(self) -> dict[str, float]:
        """Signals of a VM that it gives."""
        psi = stalled(self._machine.text(f"{self.folder}/memory.pressure"))
        io = stalled(self._machine.text(f"{self.folder}/io.pressure"))
        stat = self._machine.keyed(f"{self.folder}/memory.stat")
        found = {
            "host_psi_some10": psi.get("some10"),
            "host_psi_some_s": psi.get("some_s"),
            "host_io_psi_some10": io.get("some10"),
        }
        found |= {
            f"host_swap_{way}_mib": stat[f"pswp{way}"] * PAGE_MIB for way in ("in", "out") if f"pswp{way}" in stat
        }
        if (weight := self._machine.keyed(f"{self.folder}/io.weight").get("default")) is not None:
            found["disk_shares"] = weight
        return {name: value for name, value in found.items() if value is not None}

    @property
    def limit_mib(self) -> float:
        """Infinite without one."""
        name = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
        found = self._machine.number(f"{self.folder}/{name}")
        return found / 2**20 if found < UNLIMITED else math.inf

    @property
    def used_mib(self) -> float:
        """All that is charged to it."""
        return (
            self._machine.number(f"{self.folder}/{'memory.current' if self.version == 2 else 'memory.usage_in_bytes'}")
            / 2**20
        )

    @property
    def cache_mib(self) -> float:
        """File pages of it that are not in use."""
        stat = self._machine.keyed(f"{self.folder}/memory.stat")
        return stat.get("total_inactive_file", stat.get("inactive_file", 0.0)) / 2**20

    @property
    def reclaims(self) -> str | None:
        """The file by which memory is taken, where this user may write it."""
        name = "memory.reclaim" if self.version == 2 else "memory.limit_in_bytes"
        path = f"{self.folder}/{name}"
        return path if self._machine.writable(path) else None

    def reclaim(self, mib: float) -> None:
        """Take so much now; what the kernel does not find it leaves."""
        path, wanted = self.reclaims, int(mib * 2**20)
        if path is None or wanted <= 0:
            return
        if self.version == 2:
            with contextlib.suppress(OSError):  # EAGAIN: less than asked
                self._machine.write(path, str(wanted))
            return
        before = self._machine.text(path)
        try:
            with contextlib.suppress(OSError):  # EBUSY: less than asked
                self._machine.write(path, str(max(int(self.used_mib * 2**20) - wanted, 0)))
        finally:
            self._machine.write(path, (before or "-1").strip())


class Process:
    """A QEMU process."""

    def __init__(self, machine: Machine, pid: int) -> None:
        self._machine, self.pid, self.group = machine, pid, Group.of(machine, pid)

    def known(self) -> dict[str, float]:
        """Signals of a VM that it and its control group give."""
        status = self._machine.keyed(f"/proc/{self.pid}/status")
        found = dict[str, float]()
        if "RssAnon" in status:
            found["resident_mib"] = (status["RssAnon"] + status.get("RssShmem", 0.0)) / KIB_PER_MIB
            found["host_swap_mib"] = status.get("VmSwap", 0.0) / KIB_PER_MIB
        fields = (self._machine.text(f"/proc/{self.pid}/stat") or "").rpartition(")")[2].split()
        if len(fields) > 12:
            tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
            found |= {
                "cpu_s": (float(fields[11]) + float(fields[12])) * tick_s,
                "host_swap_in_mib": float(fields[9]) * PAGE_MIB,
            }
        if (shared := self._machine.number(f"/proc/{self.pid}/ksm_merging_pages")) >= 0.0:
            found["shared_mib"] = shared * PAGE_MIB
        waited = (self._machine.text(f"/proc/{self.pid}/schedstat") or "").split()
        if len(waited) > 1:
            found["cpu_ready_s"] = float(waited[1]) / 1e9
        return found | (self.group.known() if self.group else {})


class Host:
    """Signals of the host. ram_mib: what counts as its RAM, for its VMs alone, None all; confined_to: folder of the control group
    that all VMs run in; disk: block device whose utilisation counts, as in /proc/diskstats."""

    def __init__(
        self,
        machine: Machine,
        ram_mib: float | None,
        confined_to: str | None,
        disk: str | None,
        clock: Callable[[], float],
    ) -> None:
        self._machine, self._ram_mib, self._disk, self._clock = machine, ram_mib, disk, clock
        self._group = Group.at(machine, confined_to) if confined_to else None
        self._busy: tuple[float, float] | None = None
        self._io: tuple[float, float] | None = None

    def known(self, vms_mib: float) -> dict[str, float]:
        """Signals by name. vms_mib: what the VMs hold."""
        memory, vmstat = self._machine.keyed("/proc/meminfo"), self._machine.keyed("/proc/vmstat")
        mib = {name: value / KIB_PER_MIB for name, value in memory.items()}
        found = {
            "total_mib": mib.get("MemTotal", math.nan), "free_mib": mib.get("MemFree", math.nan),
            "available_mib": mib.get("MemAvailable", math.nan), "swap_total_mib": mib.get("SwapTotal", math.nan),
            "swap_used_mib": mib.get("SwapTotal", math.nan) - mib.get("SwapFree", math.nan),
            "swap_in_mib": vmstat.get("pswpin", math.nan) * PAGE_MIB, "swap_out_mib": vmstat.get("pswpout", math.nan) * PAGE_MIB,
            "cpu_utilisation": self._cpu(), "disk_utilisation": self._disk_share(),
            "psi_some10": stalled(self._machine.text("/proc/pressure/memory")).get("some10", math.nan),
        }  # fmt: skip
        return found | self._confined(found, vms_mib) | self._sharing()

    def _confined(self, whole: dict[str, float], vms_mib: float) -> dict[str, float]:
        """Of the part of the machine that counts."""
        if self._group is None:
            return {} if self._ram_mib is None else self._part_of(whole, vms_mib)
        limit_mib = min(self._group.limit_mib, self._ram_mib or math.inf)
        total = limit_mib if limit_mib < math.inf else whole["total_mib"]
        free = max(total - self._group.used_mib, 0.0)
        return {"total_mib": total, "free_mib": free, "available_mib": min(free + self._group.cache_mib, total)}

    def _part_of(self, whole: dict[str, float], vms_mib: float) -> dict[str, float]:
        """RAM of which only VMs take; there is no more of it than the machine has."""
        assert self._ram_mib is not None
        left = max(self._ram_mib - vms_mib, 0.0)
        return {"total_mib": self._ram_mib} | {name: min(whole[name], left) for name in ("free_mib", "available_mib")}

    def _cpu(self) -> float:
        line = (self._machine.text("/proc/stat") or "").partition("\n")[0].split()[1:9]
        if len(line) < 8:
            return math.nan
        spent = [float(part) for part in line]
        all_s, busy_s = sum(spent), sum(spent) - spent[3] - spent[4]  # idle and iowait
        before, self._busy = self._busy, (busy_s, all_s)
        if before is None or all_s <= before[1]:
            return 0.0
        return min(max((busy_s - before[0]) / (all_s - before[1]), 0.0), 1.0)

    def _disk_share(self) -> float:
        for line in (self._machine.text("/proc/diskstats") or "").splitlines() if self._disk else ():
            words = line.split()
            if len(words) > 12 and words[2] == self._disk:
                now, before = (float(words[12]) / 1000.0, self._clock()), self._io
                self._io = now
                if before is None or now[1] <= before[1]:
                    return 0.0
                return min(max((now[0] - before[0]) / (now[1] - before[1]), 0.0), 1.0)
        return math.nan

    def _sharing(self) -> dict[str, float]:
        ksm = "/sys/kernel/mm/ksm"
        if self._machine.text(f"{ksm}/run") is None:
            return {}
        pages, sleep_ms = (self._machine.number(f"{ksm}/{name}") for name in ("pages_to_scan", "sleep_millisecs"))
        runs = self._machine.number(f"{ksm}/run") == 1.0
        return {
            "shared_mib": self._machine.number(f"{ksm}/pages_sharing") * PAGE_MIB,
            "scan_pages_per_s": pages / max(sleep_ms, 1.0) * 1000.0 if runs else 0.0,
        }

    @property
    def scans(self) -> bool:
        """Whether this user may set the rate of page sharing."""
        return all(self._machine.writable(f"/sys/kernel/mm/ksm/{name}") for name in ("run", "pages_to_scan"))

    def scan(self, pages_per_s: float) -> None:
        """Set the rate of page sharing; at 0 it stops, and what is shared stays so."""
        sleep_ms = max(self._machine.number("/sys/kernel/mm/ksm/sleep_millisecs"), 1.0)
        if pages_per_s > 0.0:
            self._machine.write("/sys/kernel/mm/ksm/pages_to_scan", str(max(round(pages_per_s * sleep_ms / 1000.0), 1)))
        self._machine.write("/sys/kernel/mm/ksm/run", "1" if pages_per_s > 0.0 else "0")
