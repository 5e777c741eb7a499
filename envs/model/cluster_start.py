"""The beginning of an episode of a cluster: VMs lie where ``cluster_specs`` has put them, and each host has been running so for a
while (``start``)."""

from typing import Any

from hvgym.envs.model import failure, starting
from hvgym.envs.model import start as host_start
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.placement import NOWHERE, lay_out


@compiled
def start(c: Any, touched_share: float, first: int, last: int) -> None:
    """Put clusters first..last-1 (``cluster.Arrays``) at the start of an episode; residents say where VMs are."""
    for e in range(first, last):
        for v in range(c.residents.shape[1]):
            resident, kind = c.residents[e, v], 0
            if resident.host != NOWHERE:
                kind = c.machine_specs[resident.host].kind
            resident.row = v
            c.vm_specs[e, v] = c.kinds[e, kind, v]
        lay_out(c.vms[e], c.vm_specs[e], c.residents[e], c.machines[e], c.order[e], c.spare_vms[e], c.spare_specs[e])
        for row in range(c.now.shape[1]):
            c.now[e, row] = c.demand[e, 0, c.order[e, row]]
        failure.begin(c.machines[e], c.machine_specs, c.hosts[e, 0].seed)
        for h in range(c.machines.shape[1]):
            _start_host(c, e, h, touched_share)
        for v in range(c.residents.shape[1]):
            if c.residents[e, v].host == NOWHERE:
                starting.power_off(c, e, c.residents[e, v].row)


@compiled
def _start_host(c: Any, e: int, h: int, touched_share: float) -> None:
    machine = c.machines[e, h]
    machine.emptied_s = -1.0
    first, last = machine.first, machine.first + machine.count
    vms, specs, now = c.vms[e, first:last], c.vm_specs[e, first:last], c.now[e, first:last]
    for row in range(len(vms)):
        host_start.boot(vms[row], specs[row], now[row], touched_share)
    host_start.start_host(vms, c.hosts[e, h], specs, c.host_specs[e, h])
    for row in range(len(vms)):
        host_start.finish(vms[row], specs[row], now[row])


@compiled
def restart_host(c: Any, e: int, h: int) -> None:
    """A host is back, empty and with its caches cold."""
    host = c.hosts[e, h]
    host.cache_mib = host.shared_mib = host.swap_used_mib = host.waiting = host.calm_s = host.reclaims = 0.0
    host.disk_utilisation = host.swap_utilisation = host.cpu_utilisation = host.tax_cpu = host.pass_left_s = 0.0
    host.tick_net_mib_per_s = 0.0
    machine = c.machines[e, h]
    first, last = machine.first, machine.first + machine.count
    host_start.start_host(c.vms[e, first:last], host, c.vm_specs[e, first:last], c.host_specs[e, h])
    host.waiting = 0.0  # who waits in a cluster waits for no host
