"""VMware Workstation's trimming: memory of VMs that goes back to the host when the host is short. A surrogate.

Published: Workstation returns unused memory of VMs to the host for other uses, which matters where memory is low and whose I/O
can disturb a guest's disk (MemTrimRate=0 in a VM's file turns it off); a choice for the whole host says how much of a VM may
be swapped (none, some, most: the preference prefvmx.minVmMemPct is presumably 100, 50 or 25 of a VM that stays).

Invented: the rest. While less than `short_share` of the host's RAM is available, every VM is trimmed by `trim_mib_per_s`, down
to `keep_share` of its memory; while more than `ample_share` is, it gets as much back. The balloon stands for the trimming of
pages, for it is what this model has inside Workstation (``conf/hypervisor/workstation.yaml``): it takes what the guest has free
first, which is the nearest to "unused" that can be told from outside the guest.

Sees the host's available memory and the VMs' sizes. Fails when: a guest needs what is taken (all are trimmed alike, and it
swaps), memory fills faster than it trims. Left out: which pages are idle, sharing of pages (the model's).

Edge cases. No guest statistics are read. Start: a VM is trimmed from the size that it has. Limits are not known; no minimum
is one of 0. A VM without a driver keeps its size, and the others are trimmed as if it were not there.

Sources: VMware's help pages on memory settings of Workstation 12 and 16; MemTrimRate and prefvmx.minVmMemPct from configuration
files that users published; that trimming is on by default is recalled. Every number is a guess; `keep_share` lies half way
between the modes that let none and some of a VM be swapped.
"""

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.agents.readings import least_mib
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


class WorkstationTrim(Policy):
    """Trims all VMs of a short host alike."""

    visibility = Visibility.P0

    def __init__(
        self,
        keep_share: float = 0.75,
        trim_mib_per_s: float = 8.0,
        short_share: float = 0.1,
        ample_share: float = 0.2,
        period_s: float = 10.0,
    ) -> None:
        self.keep_share = keep_share
        self.trim_mib_per_s = trim_mib_per_s
        self.short_share = short_share
        self.ample_share = ample_share
        self.period_s = period_s

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        vm, host = telemetry.vm, telemetry.host
        available = host["available_mib"] / host["total_mib"]
        step_mib = self.trim_mib_per_s * self.period_s
        change = np.where(
            available < self.short_share, -step_mib, np.where(available > self.ample_share, step_mib, 0.0)
        )
        least = np.maximum(self.keep_share * vm["memory_mib"], least_mib(vm))
        sizes = np.clip(vm["size_mib"] + change, np.minimum(least, vm["memory_mib"]), vm["memory_mib"])
        return Targets(np.where((vm["running"] > 0.0) & (change != 0.0), sizes, np.nan))
