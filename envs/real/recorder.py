"""A real host as the history of its VMs: rows of the plain table (``envs.imports.table``), each on disk when it is made.

A row covers the time since the reading before. Sizes are those at its end, rates are means over it. What the guest said more than
an interval and `STALE_S` ago is unknown, and flagged stale. What disks and links moved is not split into directions by what these
hosts say, and left out. A row that a kill cut in half is removed when recording goes on.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from hvgym.envs.errors import InputError
from hvgym.envs.imports.table import FLAGS
from hvgym.envs.telemetry import Telemetry

STALE_S = 10.0

SIZES = {
    "cap_bytes": "memory_mib", "granted_bytes": "size_mib", "guest_cache_bytes": "guest_caches_mib", "backed_bytes": "resident_mib",
    "host_swapped_bytes": "host_swap_mib",
}  # fmt: skip
RATES = {
    "guest_swap_in_bytes_per_s": ("guest_swap_in_mib", 2.0**20), "guest_swap_out_bytes_per_s": ("guest_swap_out_mib", 2.0**20),
    "guest_major_faults_per_s": ("guest_major_faults", 1.0), "psi_mem_some_pct": ("host_psi_some_s", 100.0),
    "cpu_used_cores": ("cpu_s", 1.0), "cpu_wait_cores": ("cpu_ready_s", 1.0),
}  # fmt: skip
"""Counters of the telemetry, and by what their rise per second is multiplied."""

OF_GUEST = (
    "guest_used_bytes",
    "guest_notfree_bytes",
    "guest_cache_bytes",
    *(name for name in RATES if name.startswith("guest_")),
)

COLUMNS = (
    "vm_id", "t_end_utc_s", "interval_s", "agg", "power", "host_id", "cap_bytes", "granted_bytes", "guest_used_bytes",
    "guest_notfree_bytes", "guest_cache_bytes", "backed_bytes", "host_swapped_bytes", *RATES, "vcpus", "flags",
)  # fmt: skip


def rows(names: Sequence[str], host: str, at_utc_s: int, before: Telemetry, now: Telemetry) -> Iterator[dict[str, str]]:
    """A row a VM whose configured memory is known."""
    seconds = max(round(float(now.time_s[0] - before.time_s[0])), 1)
    for index, name in enumerate(names):
        vm, old = now.vm[0, index], before.vm[0, index]
        if math.isnan(vm["memory_mib"]):
            continue
        found = {column: float(vm[signal]) * 2.0**20 for column, signal in SIZES.items()}
        found["guest_used_bytes"] = float(vm["guest_total_mib"] - vm["guest_available_mib"]) * 2.0**20
        found["guest_notfree_bytes"] = float(vm["guest_total_mib"] - vm["guest_free_mib"]) * 2.0**20
        found |= {
            column: float(vm[signal] - old[signal]) / seconds * factor for column, (signal, factor) in RATES.items()
        }
        found["vcpus"] = float(vm["vcpus"])
        stale = vm["stats_age_s"] > seconds + STALE_S
        if stale:
            found |= dict.fromkeys(OF_GUEST, math.nan)
        yield {
            "vm_id": name, "t_end_utc_s": str(at_utc_s), "interval_s": str(seconds), "agg": "last",
            "power": "on" if vm["running"] > 0.0 else "off", "host_id": host, "flags": str(FLAGS["stale"] if stale else 0),
            **{column: _cell(value) for column, value in found.items()},
        }  # fmt: skip


def _cell(value: float) -> str:
    """Whole bytes, six digits of what is less than a million."""
    return "" if math.isnan(value) else f"{value:.6g}" if value < 1e6 else f"{value:.0f}"


class Recorder:
    """Adds rows to ``vm_samples.csv`` in a folder. Raises `InputError` where that holds something else."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "vm_samples.csv"
        if folder.is_dir() and any(folder.iterdir()) and not self.file.exists():
            raise InputError(f"out={folder}: holds other files; choose a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        fresh = not self.file.exists() or self._mended() == 0
        self._out = self.file.open("a", newline="")
        self._writer = csv.DictWriter(self._out, COLUMNS, lineterminator="\n")
        if fresh:
            self._writer.writeheader()

    def _mended(self) -> int:
        """Remove a half row, and see that the table is one of these; bytes that stay."""
        content = self.file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole and whole.partition(b"\n")[0] != ",".join(COLUMNS).encode():
            raise InputError(f"{self.file}: has other columns than hvgym record writes; choose a new folder")
        if len(whole) < len(content):
            with self.file.open("r+b") as file:
                file.truncate(len(whole))
        return len(whole)

    def add(self, found: Iterator[dict[str, str]]) -> None:
        """Write rows through to the disk."""
        self._writer.writerows(found)
        self._out.flush()

    def close(self) -> None:
        """No more rows."""
        self._out.close()
