"""Free page reporting alone: guests tell which of their pages are free, and the host drops them. There is no policy.

Turned on for every VM when it runs, and nothing else: sizes stay as they are, and the hypervisor's last resort does the
rest. Returns what guests do not use at all; page cache and idle memory stay, so guests that have run for a while give
little. It pays with the first touch of what comes back. Speed and thresholds of reporting are the model's
(``model.guest.memory``).

Edge cases. The guest acts by itself: statistics that are missing, frozen or Windows' change nothing, nor do starts
(reporting is on from the next decision) and limits.

Source: Linux ``mm/page_reporting.c`` and virtio-balloon's ``free-page-reporting``; Proxmox VE turns it on for machines
since 6.2.
"""

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


class FreePageReporting(Policy):
    """Turns reporting on for VMs that run."""

    period_s = 10.0
    visibility = Visibility.P0

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        return Targets(report_free_pages=np.where(telemetry.vm["running"] > 0.0, 1.0, np.nan))
