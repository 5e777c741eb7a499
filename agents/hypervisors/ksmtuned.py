"""ksmtuned: how fast a host scans for equal pages, set once a minute from how full the host is.

Scanning stops when VMs would fit with a fifth of RAM to spare and that fifth is free. Else it runs: 300 pages a batch more
while less than a fifth is free, 50 fewer otherwise, between 64 and 1250 pages and 10 ms of sleep after each batch (longer
below 16 GiB of RAM). The batch starts at 0 and outlives a stop. `step` and its helpers count KiB, as the original.

Sees the host and each VM's process. Fails when: pages are large (they are not merged), nothing is equal, memory fills
faster than a minute, the scanner's CPU is missed. It moves no memory; Proxmox and oVirt hosts run such a thing beside
their balloons.

Surrogate. *Free* is MemFree, Buffers and Cached; telemetry's available memory stands for it. *Committed* is the resident
size of all VM processes; a process counts merged pages as its own, so they are added to what the host says a VM uses. The
rate is a batch a sleep: that scanning a batch takes time itself is left out, so it is a ceiling (125,000 pages/s). Left
out: waking when a VM starts or ends, memory merged before that a stop leaves merged (the model's).

Edge cases. Guests are asked nothing, so statistics that are missing, frozen or Windows' change nothing. A VM that
starts counts from the next minute; limits show in what processes hold.

Source: algorithm and constants of Red Hat's ``ksmtuned``, as in Debian's package, re-implemented from a description.
"""

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

KIB_PER_MIB = 1024
BASELINE_KIB = 16 * KIB_PER_MIB * KIB_PER_MIB
"""RAM for which the sleep between batches is given."""

LEAST_SLEEP_MS = 10
"""However much RAM there is."""


def threshold_kib(total_kib: int, percent: int = 20, least_kib: int = 2048) -> int:
    """Free memory below which a host is under pressure; the least is 2 MiB, so it never counts."""
    return max(total_kib * percent // 100, least_kib)


def sleep_ms(total_kib: int, baseline_ms: int = 10) -> int:
    """Sleep between batches: the less RAM, the longer."""
    return max(baseline_ms * BASELINE_KIB // total_kib, LEAST_SLEEP_MS)


def step(
    pages: int,
    total_kib: float,
    free_kib: float,
    committed_kib: float,
    threshold: float,
    boost_pages: int = 300,
    decay_pages: int = 50,
    least_pages: int = 64,
    most_pages: int = 1250,
) -> int | None:
    """The next batch after one of `pages`; None stops the scanner."""
    if committed_kib + threshold < total_kib and free_kib > threshold:
        return None
    changed = pages + (boost_pages if free_kib < threshold else -decay_pages)
    return min(max(changed, least_pages), most_pages)


def scan_pages_per_s(pages: int | None, slept_ms: int) -> float:
    """Rate of a scanner that takes `pages` a batch; 0 when it is stopped."""
    return 0.0 if pages is None else pages * 1000.0 / slept_ms


class Ksmtuned(Policy):
    """Applies `step` to every host of the batch."""

    period_s = 60.0
    visibility = Visibility.P0

    def __init__(
        self,
        boost_pages: int = 300,
        decay_pages: int = 50,
        least_pages: int = 64,
        most_pages: int = 1250,
        sleep_ms: int = 10,
        threshold_percent: int = 20,
        least_threshold_kib: int = 2048,
    ) -> None:
        self.batch = {"boost_pages": boost_pages, "decay_pages": decay_pages}
        self.batch |= {"least_pages": least_pages, "most_pages": most_pages}
        self.sleep_ms = sleep_ms
        self.threshold_percent = threshold_percent
        self.least_threshold_kib = least_threshold_kib

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self.pages = [0] * len(first.host)

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        rates = np.empty(telemetry.host.shape)
        for lane, host in enumerate(telemetry.host[:, 0]):
            rates[lane, 0] = self._decide(lane, host, telemetry.vm[lane])
        return Targets(scan_pages_per_s=rates)

    def _decide(self, lane: int, host: np.void, vm: np.ndarray) -> float:
        total, free = round(host["total_mib"] * KIB_PER_MIB), round(host["available_mib"] * KIB_PER_MIB)
        threshold = threshold_kib(total, self.threshold_percent, self.least_threshold_kib)
        pages = step(self.pages[lane], total, free, committed_kib(vm), threshold, **self.batch)
        self.pages[lane] = self.pages[lane] if pages is None else pages
        return scan_pages_per_s(pages, sleep_ms(total, self.sleep_ms))


def committed_kib(vm: np.ndarray) -> int:
    """Resident sizes of the processes of one host's VMs, ``[vm]`` of telemetry."""
    runs = vm["running"] > 0.0
    return round(float((vm["resident_mib"] + vm["shared_mib"])[runs].sum()) * KIB_PER_MIB)
