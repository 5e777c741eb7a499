"""A scenario with another number of VMs, on a host that is as much larger.

Groups keep their parts of the VMs (largest remainders; a group that is left with none is gone). RAM that is given, pCPUs, the
disk's operations and throughput and the NIC's go with the number of VMs, so that what a VM has of the host stays as it is; an
overcommit ratio does so by itself. Latency of the disk and what the hypervisor needs for itself do not.
"""

import dataclasses

from hvgym.envs.errors import InputError
from hvgym.envs.machine import Host
from hvgym.envs.scenario import Scenario

_WITH_VMS = ("ram_mib", "swap_iops", "pcpus", "disk_iops", "disk_mib_per_s", "nic_mib_per_s")

MOST_VMS = 4096
"""As of a group."""


def with_vms(scenario: Scenario, vms: int) -> Scenario:
    """As many VMs of the same kinds, under a name that says so. Raises `InputError` for a cluster, or a number that is none."""
    if not 1 <= vms <= MOST_VMS:
        raise InputError(f"vms={vms}: must be at least 1 and at most {MOST_VMS}")
    if scenario.is_cluster:
        raise InputError(f"vms={vms}: scenario {scenario.name} has several hosts; choose one with a single host")
    now = [group.count for group in scenario.vms]
    parts = [count * vms / sum(now) for count in now]
    counts = [int(part) for part in parts]
    by_remainder = sorted(range(len(parts)), key=lambda i: (counts[i] - parts[i], i))
    for index in by_remainder[: vms - sum(counts)]:
        counts[index] += 1
    groups = tuple(
        dataclasses.replace(group, count=count) for group, count in zip(scenario.vms, counts, strict=True) if count
    )
    host = _as_large(scenario.machine, vms / sum(now))
    return dataclasses.replace(scenario, name=f"{scenario.name}-{vms}vms", vms=groups, host=host)


def _as_large(host: Host, times: float) -> Host:
    given = {name: getattr(host, name) for name in _WITH_VMS}
    return dataclasses.replace(host, **{name: times * value for name, value in given.items() if value is not None})
