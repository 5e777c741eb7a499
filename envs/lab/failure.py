"""A host that fails, on the laboratory bench: when a stack notices, when it fences, and when each VM is back at work.

Hosts alike, each with as many VMs alike, all at work and none short of memory; after `AT_S` seconds the first host fails.
`play` goes on until all its VMs are back at work, and a minute more, or for `duration_s`. Timers are those of the stack
(``envs.ha_rules``), nobody migrates.
Everything is the model of clusters (``model.failure``, ``model.restarts``), which says what it leaves out; the VMs'
sizes and work are guesses of a common web server. Which host leads the stack is the model's affair: the first one does.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.errors import InputError
from hvgym.envs.events import Event, Log
from hvgym.envs.lab.guest import checked
from hvgym.envs.lines import HALF_WORK
from hvgym.envs.model.placement import LOST, REFUSED, RESTARTING
from hvgym.envs.scenario import Scenario, resolve
from hvgym.envs.schema import build, number

AT_S = 60
"""Second in which the host fails."""

AFTER_S = 60
"""Played on after all VMs are back at work, to see them recover."""

HYPERVISORS = {"vsphere": "esxi", "hyperv": "hyperv", "xenserver": "xen"}
"""What a stack runs on, if not on kvm."""

PHASES = ("at_work", "slow", "down", "queued", "booting")
"""What a VM of the failed host is: at half of its work or more; below, though it runs; down and not fenced yet; waiting for a start
elsewhere; booting."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The machines around the failure; fields as in ``conf/lab.yaml``."""

    fails: Literal["first", "last"]
    hosts: int = number(least=2, most=64)
    host_mib: float = number(above=4096)
    vms_per_host: int = number(least=1, most=64)
    vm_mib: float = number(least=512)
    lasts_s: float = number(above=0)
    duration_s: int = number(least=1, most=100000)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Cluster":
        """Check plain data. Raises `InputError` with the key, the value, and what would be right."""
        cluster = build(Cluster, data, "cluster")
        if cluster.vms_per_host * cluster.vm_mib > cluster.host_mib:
            raise InputError(
                f"cluster.vm_mib={cluster.vm_mib:g}: {cluster.vms_per_host} of them do not fit into host_mib={cluster.host_mib:g}"
            )
        return cluster


@dataclasses.dataclass(frozen=True)
class Failing:
    """How the host fails."""

    fail: Literal["power", "crash", "isolated", "stall"]


@dataclasses.dataclass(frozen=True)
class FailureRow:
    """A line of lab.csv: a second since the failure, VMs of the failed host by phase, and the mean progress of these VMs."""

    t_s: int
    at_work: int
    slow: int
    down: int
    queued: int
    booting: int
    progress: float


@dataclasses.dataclass(frozen=True)
class Failed:
    """What happened. Times in seconds since the failure, None where it did not happen: the host taken for dead, fenced, the first
    and the last VM back at work; lost_s: VM seconds of work that were lost until then; stopped_s: played since the failure."""

    rows: tuple[FailureRow, ...]
    events: tuple[Event, ...]
    host: str
    noticed_s: float | None
    fenced_s: float | None
    first_back_s: int | None
    all_back_s: int | None
    lost_s: float
    stopped_s: int

    def totals(self) -> dict[str, Any]:
        """What summary.json says."""
        names = ("noticed_s", "fenced_s", "first_back_s", "all_back_s", "lost_s", "stopped_s")
        return {name: getattr(self, name) for name in names}


def setup(data: Mapping[str, Any], stack: Mapping[str, Any]) -> tuple[Scenario, Cluster]:
    """The scenario that a command describes: keys `fail` and `cluster`, and a stack as data. Raises `InputError`."""
    failing, cluster = checked(Failing, {"fail": data["fail"]}), Cluster.from_dict(data["cluster"])
    return scenario(failing, cluster, stack), cluster


def scenario(failing: Failing, cluster: Cluster, stack: Mapping[str, Any]) -> Scenario:
    """Hosts, VMs, and the failure."""
    host = cluster.hosts - 1 if cluster.fails == "last" else 0
    demand = {"hot_mib": 0.3 * cluster.vm_mib, "warm_mib": 0.1 * cluster.vm_mib, "cold_mib": 0.1 * cluster.vm_mib}
    vm = {"memory_mib": cluster.vm_mib, "vcpus": 2, "demand": demand, "count": cluster.vms_per_host}
    data = {
        "name": f"{failing.fail}-{stack['name']}",
        "description": "A host fails.",
        "hypervisor": HYPERVISORS.get(str(stack["name"]), "kvm"),
        "stack": dict(stack),
        "episode_s": AT_S + cluster.duration_s,
        "control_interval_s": 1,
        "hosts": [
            {"name": "host", "count": cluster.hosts, "ram_mib": cluster.host_mib, "pcpus": 4 + 2 * cluster.vms_per_host}
        ],
        "failures": [{"host": f"host-{host}", "at_s": AT_S, "kind": failing.fail, "lasts_s": cluster.lasts_s}],
        "vms": [vm | {"name": f"vm-{h}", "host": f"host-{h}"} for h in range(cluster.hosts)],
    }
    return resolve(data)


def play(scenario: Scenario) -> Failed:
    """Let the host fail."""
    sim = ClusterSimulator(scenario)
    sim.reset([0])
    host = scenario.failures[0].host
    h = scenario.host_names.index(host)
    sim.advance(AT_S)
    its = sim.arrays.residents["host"][0] == h
    log, rows = Log(sim), list[FailureRow]()
    noticed_s: float | None = None
    fenced_s: float | None = None
    while len(rows) < scenario.duration_s - AT_S and not _over(rows):
        sim.advance(1)
        log.note(sim)
        machine = sim.arrays.machines[0, h]
        noticed_s = _since(float(machine["noticed_s"]), noticed_s)
        fenced_s = _since(float(machine["fenced_s"]), fenced_s)
        rows.append(_row(sim, its))
    back = [row.t_s for before, row in itertools.pairwise(rows) if row.at_work > before.at_work]
    whole = bool(back) and rows[-1].at_work == int(its.sum())
    lost_s = float(sum(its.sum() * (1.0 - row.progress) for row in rows))
    events = tuple(Event(event.time_s - AT_S, event.words, event.style) for event in log.events)
    return Failed(
        tuple(rows),
        events,
        host,
        noticed_s,
        fenced_s,
        back[0] if back else None,
        back[-1] if whole else None,
        lost_s,
        len(rows),
    )


def _over(rows: Sequence[FailureRow]) -> bool:
    """Whether all VMs have been back at work for `AFTER_S`, after some were not."""
    latest = rows[-AFTER_S:]
    back = len(latest) == AFTER_S and all(row.slow + row.down + row.queued + row.booting == 0 for row in latest)
    return back and any(row.at_work < latest[-1].at_work for row in rows)


def _since(second: float, before: float | None) -> float | None:
    """Seconds since the failure, of the first time that this was so."""
    return second - AT_S if before is None and second >= AT_S else before


def _row(sim: ClusterSimulator, its: np.ndarray) -> FailureRow:
    counts = dict.fromkeys(PHASES, 0)
    vms, residents = sim.vms[0][its], sim.arrays.residents[0][its]
    progress = np.where(residents["host"] >= 0, vms["progress"], 0.0)
    for vm, resident, speed in zip(vms, residents, progress, strict=True):
        counts[_phase(int(resident["state"]), float(vm["down_s"]), float(speed))] += 1
    return FailureRow(int(sim.clock_s[0]) - AT_S, **counts, progress=float(progress.mean()))


def _phase(state: int, down_s: float, progress: float) -> str:
    if state == LOST:
        return "down"
    if state in (RESTARTING, REFUSED):
        return "queued"
    if down_s > 0.0:
        return "booting"
    return "at_work" if progress >= HALF_WORK else "slow"
