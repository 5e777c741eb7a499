"""How many migrations run at once: limits of each stack, and ESXi's pools of cost.

Most stacks count copies that a host sends, that a host receives, and of a cluster (`may_start`; the counts are in
``envs.migration_rules``). ESXi charges each operation on hosts, networks and datastores, in units of which each has so many
(`charge`); an operation that would exceed one of them waits (`fits_pools`).

Left out: storage operations of other stacks than ESXi; that hosts share a datastore (its 128 units hold 8 vMotions of each of 16
hosts, so that hosts' own 8 units come first).

Sources: VMware vSphere 6.5, vCenter Server and Host Management, "Limits on Simultaneous Migrations"; frankdenneman.nl
2012/12/04 for CPU.
"""

import numpy as np

from hvgym.envs.model.compiled import compiled

NETWORK, DATASTORE, HOST = range(3)
"""Pools of one operation's cost; a datastore and a network have their own, each end's host has one."""

VMOTION, STORAGE_VMOTION, SHARED_NOTHING, PROVISIONING = range(4)
"""Operations: memory moves, disks move, both move, a VM is cloned or powered off and moved."""

POOL_COST = np.array(
    [
        [1.0, 1.0, 1.0],
        [0.0, 16.0, 4.0],
        [1.0, 16.0, 4.0],
        [0.0, 0.0, 1.0],
    ]
)
"""``[operation, pool]``. That disks of a shared-nothing move cost what those of Storage vMotion do is a guess."""

DATASTORE_MOST, HOST_MOST = 128.0, 8.0


def network_most(link_gbit_per_s: float) -> float:
    """Units of a host's migration network: 8 at 10 Gb/s, else 4."""
    return 8.0 if link_gbit_per_s >= 10.0 else 4.0


def pool_most(link_gbit_per_s: float) -> np.ndarray:
    """Units of each pool, ``[pool]``."""
    return np.array([network_most(link_gbit_per_s), DATASTORE_MOST, HOST_MOST])


def reserved_cores(link_gbit_per_s: float) -> float:
    """CPU that a host sets aside while vMotions run: a tenth of a core for each Gb/s, at least 0.3."""
    return max(0.3, 0.1 * link_gbit_per_s)


@compiled
def fits_pools(used: np.ndarray, operation: int, most: np.ndarray) -> bool:
    """Whether an operation may start beside what runs, both ``[pool]``; ask for each end. If not, it waits."""
    fits = True
    for pool in range(len(most)):
        fits = fits and used[pool] + POOL_COST[operation, pool] <= most[pool]
    return fits


@compiled
def charge(used: np.ndarray, operation: int, sign: float) -> None:
    """An operation begins (`sign` 1) or ends (-1) at a host, ``used[pool]``."""
    for pool in range(len(used)):
        used[pool] += sign * POOL_COST[operation, pool]


@compiled
def may_start(
    sends: float, receives: float, cluster: float, most_sends: float, most_receives: float, most_cluster: float
) -> bool:
    """Whether a copy may start beside those that its source sends, its target receives, and the cluster has."""
    return sends < most_sends and receives < most_receives and cluster < most_cluster
