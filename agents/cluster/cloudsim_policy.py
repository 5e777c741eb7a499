"""CloudSim's consolidation as a policy: every five minutes a round of ``cloudsim.optimise`` on what hosts and VMs used.

One class; detector and selector are words in its YAML. What a VM asks for is the CPU that it used and for which it waited, of the
last five minutes; its memory is what is configured, for CloudSim knows no overcommit: where that is more than a host's RAM, nothing
fits there. Histories grow by a sample a round. Hosts that are down or in maintenance take no part, and nobody empties the latter:
CloudSim knows no maintenance. Power of hosts is that of its examples, one model for hosts of even groups, the other for odd ones.

Not as in the original: VMs that fit nowhere because something stands in the way (``Reading.allowed``) are not placed there.

Edge cases. Guests' statistics are not read. Histories that are too short leave the detector's own fallback; a VM that has just
started counts with what it has used since.

Source: ``cloudsim``.
"""

import numpy as np

from hvgym.agents.cluster import cloudsim
from hvgym.agents.cluster.by_lane import LaneByLane, Move
from hvgym.agents.cluster.cloudsim import Detector, Selector
from hvgym.agents.cluster.reading import Reading
from hvgym.envs.errors import InputError, nearest
from hvgym.envs.telemetry import Visibility

DETECTORS = ("thr", "mad", "iqr", "lr")
SELECTORS = ("mmt", "mu", "mc")
"""Of the original; RS draws and is left out."""

KBIT_PER_MIB = 8 * 1024.0 * 1024.0 / 1000.0


class Histories:
    """Of one cluster: cores that VMs asked for, ``[vm, sample]``, the newest first."""

    def __init__(self, vms: int) -> None:
        self.of_vms = np.zeros((vms, cloudsim.HISTORY))

    def add(self, cores: np.ndarray) -> None:
        """A sample more; the oldest goes."""
        self.of_vms = cloudsim.remembered(self.of_vms, cores)


class CloudSim(LaneByLane[Histories]):
    """detector: thr, mad, iqr or lr; selector: mmt, mu or mc; threshold: of thr; safety: of the others."""

    period_s = cloudsim.PERIOD_S
    visibility = Visibility.P0

    def __init__(
        self, detector: str = "lr", selector: str = "mmt", threshold: float = cloudsim.THR, safety: float = cloudsim.LR_SAFETY
    ) -> None:  # fmt: skip
        for key, given, known in (("detector", detector, DETECTORS), ("selector", selector, SELECTORS)):
            if given not in known:
                raise InputError(f"agent.{key}={given!r}: choose one of {', '.join(known)}{nearest(str(given), known)}")
        self._detector = self._detect(detector, threshold if detector == "thr" else safety)
        self._selector: Selector = {
            "mmt": cloudsim.smallest_memory,
            "mu": cloudsim.lowest_use,
            "mc": cloudsim.most_correlated,
        }[selector]

    def _detect(self, name: str, number: float) -> Detector:
        rule = {"thr": cloudsim.thr, "mad": cloudsim.mad, "iqr": cloudsim.iqr, "lr": cloudsim.lr}[name]

        def overloaded(history: np.ndarray, use: float, migration_s: float) -> bool:
            return bool(rule(history, use, migration_s, number))

        return overloaded

    def remember(self, first: Reading) -> Histories:
        """See `LaneByLane`."""
        return Histories(len(first.host))

    def moves(self, now: Reading, memory: Histories) -> list[Move]:
        """See `LaneByLane`."""
        hosts = np.flatnonzero(now.targets)
        if now.since_s == 0.0:
            return []
        found = cloudsim.optimise(as_cluster(now, memory.of_vms, hosts), self._detector, self._selector)
        memory.add(now.cpu_cores + now.ready_cores)  # a history ends with the round before, as in the original
        return [(vm, int(hosts[host])) for vm, host in found]


def as_cluster(now: Reading, history: np.ndarray, hosts: np.ndarray) -> cloudsim.Cluster:
    """What ``cloudsim`` takes, of these hosts alone."""
    place = np.full(len(now.up) + 1, -1)
    place[hosts] = np.arange(len(hosts))
    allowed = now.allowed
    there = np.flatnonzero(now.host >= 0)
    allowed[there, now.host[there]] = True  # an overloaded host that is relieved may keep what it has
    odd = (now.kind[hosts] % 2)[:, None] == 1
    return cloudsim.Cluster(
        host_cores=now.pcpus[hosts],
        host_mib=now.total_mib[hosts],
        host_kbit_per_s=now.link_mib_per_s[hosts] * KBIT_PER_MIB,
        power_w=np.where(odd, cloudsim.POWER_G5_W, cloudsim.POWER_G4_W),
        vm_host=place[now.host],
        vm_demand=now.cpu_cores + now.ready_cores,
        vm_cores=now.vcpus,
        vm_mib=now.memory_mib,
        history=history,
        migrating=~now.settled,
        allowed=allowed[:, hosts],
    )
