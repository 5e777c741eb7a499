"""When the host is short, it reclaims the pages that have been idle for longest, whosever they are; guests report free pages.

Twenty lines that need no thought where the host knows the age of every page: far ahead of most policies that go by sizes. It is a
baseline, so that a scenario in which it closes most of the way to the reference is known to ask for nothing more. It cannot play
where there is no reclaim by age (ESXi, Xen, Hyper-V), unless rules are open.

Short is what the host lacks of `keep_free_share` of its RAM. The age is the oldest of those that the host tracks at which the idle
pages of all VMs together suffice; each VM gives what has been idle for longer, and its part of what lies between that age and the
next one.

Fails when: VMs matter unequally, for it knows no importance; what has long been idle is about to be used; free pages that its
guest will use again soon are taken first.

Edge cases. Guests are asked nothing, so statistics that are missing, frozen or Windows' change nothing. A VM whose pages' ages are
not known gives nothing. One that starts reports free pages from the next decision on. Minimums are not looked at, limits are the
hypervisor's.
"""

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import AGES_S, Targets, Telemetry, Visibility


def parts_mib(idle_mib: np.ndarray, short_mib: float) -> tuple[np.ndarray, float]:
    """What each VM gives, oldest pages first, and from which age on, of pages by age ``[age, vm]``, oldest first."""
    older = np.zeros(idle_mib.shape[1])
    for age_s, idle in zip(reversed(AGES_S), idle_mib, strict=True):
        idle = np.maximum(idle, older)
        if idle.sum() >= short_mib:
            between = idle - older
            return older + between * ((short_mib - older.sum()) / max(between.sum(), 1e-9)), float(age_s)
        older = idle
    return older, float(AGES_S[0])


class ColdestFirst(Policy):
    """Reclaims what the host is short of, by age alone."""

    period_s = 5.0
    visibility = Visibility.P0

    def __init__(self, keep_free_share: float = 0.03) -> None:
        self.keep_free_share = keep_free_share

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        vm, host = telemetry.vm, telemetry.host[:, 0]
        running = vm["running"] > 0.0
        amounts_mib, ages_s = np.zeros(vm.shape), np.zeros(vm.shape)
        for lane in range(len(vm)):
            short_mib = self.keep_free_share * host["total_mib"][lane] - host["available_mib"][lane]
            if short_mib > 0.0:
                idle = np.stack([vm[f"idle_{age}s_mib"][lane] for age in reversed(AGES_S)])
                idle = np.where(np.isfinite(idle) & running[lane], idle, 0.0)
                amounts_mib[lane], ages_s[lane] = parts_mib(idle, float(short_mib))
        return Targets(
            reclaim_mib=np.where(running, amounts_mib, np.nan),
            reclaim_age_s=np.where(running, ages_s, np.nan),
            report_free_pages=np.where(running, 1.0, np.nan),
        )
