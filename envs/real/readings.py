"""What a source says of a VM at one moment, and how a sequence of them becomes signals.

Counters of a source fall back to 0 when a VM is started anew or was moved; the signals' go on from where they were: a counter
that is lower than before counts from 0. What a source does not have is NaN; QEMU writes 2^64 - 1 where a guest does not report.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

UNSET = 2**64 - 1
"""QEMU's figure for a statistic that no guest has set."""

COUNTERS = (
    "host_swap_in_mib", "host_swap_out_mib", "host_psi_some_s", "disk_mib", "net_mib", "cpu_s", "cpu_ready_s",
    "guest_swap_in_mib", "guest_swap_out_mib", "guest_major_faults",
)  # fmt: skip
"""Signals of a VM that only rise."""

HOST_COUNTERS = ("swap_in_mib", "swap_out_mib")

MIB = 2.0**20


@dataclass(frozen=True)
class VmReading:
    """One VM now. running: False where it is off, gone or moved away; known: signals by name, in the units of their names, those
    that are not there left out; stats_at_s: when the guest reported last, by the guest's host's wall clock; None never."""

    running: bool
    known: Mapping[str, float] = field(default_factory=dict)
    stats_at_s: float | None = None


def bytes_as_mib(value: object) -> float:
    """MiB; NaN where nobody has set it, or it is no number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < UNSET:
        return math.nan
    return float(value) / MIB


def count(value: object) -> float:
    """A plain counter; NaN as of `bytes_as_mib`."""
    return bytes_as_mib(value) * MIB


class Rising:
    """Counters that only rise, whatever their source does."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], float] = {}
        self._sum: dict[tuple[str, str], float] = {}

    def add(self, of: str, name: str, value: float) -> float:
        """The counter after this reading; NaN until there was one, and while it is missing the last."""
        key = of, name
        if math.isnan(value):
            return self._sum.get(key, math.nan)
        last = self._last.get(key)
        gone_by = 0.0 if last is None else value - last if value >= last else value
        self._last[key] = value
        self._sum[key] = self._sum.get(key, 0.0) + gone_by
        return self._sum[key]
