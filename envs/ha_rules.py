"""What a stack of high availability does and when, checked: the figures of real ones.

`named` gives a stack as it is shipped, `HaRules.row` writes it as the record that ``model.failure`` and ``model.restarts`` read.
Every figure has its source in a comment. "Read": in the stack's own source code or its schema of settings; "documented": in its
makers' manuals or in texts about it; "recalled": from memory, unverified; "a choice": ours. Fields of which a stack has no
such thing are left at their defaults.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.model import params
from hvgym.envs.schema import build, number, plain


@dataclasses.dataclass(frozen=True)
class HaRules:
    """A stack of high availability in general timers; what each means stands beside the fields of ``model.failure.HA``.

    None is a timer or a limit that does not exist: no host is taken for dead, none resets itself, starts are not limited, tries do
    not end; `isolated_master_s` None is `isolated_s`. `retry_s` are delays between tries, each used `retry_times` times (once where
    that is left empty), the last for ever. `power_on_s`, for which a start counts among those at once, is a guess.
    """

    name: str
    restarts: bool = True
    restarts_all: bool = False
    autostart: bool = False
    heartbeat_s: float = number(1.0, above=0)
    dead_s: float | None = number(15.0, above=0)
    grace_per_vm_s: float = number(0.0, least=0)
    grace_master_s: float = number(0.0, least=0)
    round_s: float = number(1.0, above=0)
    fence_s: float = number(0.0, least=0)
    fence_after_s: float = number(0.0, least=0)
    quiet_s: float = number(0.0, least=0)
    fencing: Literal["locks", "evicts", "resets"] = "locks"
    watchdog_s: float | None = number(None, above=0)
    isolated_s: float | None = number(None, above=0)
    isolated_master_s: float | None = number(None, above=0)
    response: Literal["leave_on", "power_off", "pause"] = "leave_on"
    response_s: float = number(0.0, least=0)
    start_s: float = number(0.0, least=0)
    power_on_s: float = number(5.0, least=0)
    by_priority: bool = True
    priority_wait_s: float = number(0.0, least=0)
    starts_per_host: int | None = number(None, least=1)
    starts_per_cluster: int | None = number(None, least=1)
    retry_s: tuple[float, ...] = number((10.0,), above=0)
    retry_times: tuple[int, ...] = number((), least=1)
    most_tries: int | None = number(None, least=1)

    def __post_init__(self) -> None:
        if not 1 <= len(self.retry_s) <= params.RETRIES:
            raise InputError(
                f"retry_s={list(self.retry_s)}: list 1 to {params.RETRIES} delays; the last is used for ever"
            )
        if self.retry_times and len(self.retry_times) != len(self.retry_s):
            raise InputError(
                f"retry_times={list(self.retry_times)}: give one for each of the {len(self.retry_s)} delays of retry_s, or none"
            )
        if self.restarts and self.dead_s is None:
            raise InputError(
                "dead_s=None: a stack that restarts VMs must take hosts for dead; give seconds, or restarts=False"
            )
        if self.response != "leave_on" and self.isolated_s is None:
            raise InputError(
                f"isolated_s=None: response={self.response!r} needs a time at which a host takes itself for isolated"
            )

    def row(self) -> Any:
        """The record for the compiled model."""
        from hvgym.envs.model.failure import (  # compiled code, which a list of names must not wait for
            FENCINGS,
            HA,
            RESPONSES,
        )

        row = params.zeros((1,), HA)[0]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("name", "fencing", "response", "retry_s", "retry_times"):
                row[field.name] = math.inf if value is None else float(value)
        row["fencing"], row["response"] = FENCINGS.index(self.fencing), RESPONSES.index(self.response)
        if self.isolated_master_s is None:
            row["isolated_master_s"] = row["isolated_s"]
        delays = len(self.retry_s)
        row["retry_s"], row["retry_times"] = self.retry_s[-1], math.inf
        row["retry_s"][:delays], row["retry_times"][:delays] = self.retry_s, self.retry_times or 1.0
        return row


STACKS: dict[str, HaRules] = {
    rules.name: rules
    for rules in (
        # vSphere HA since 5 (FDM): a primary and secondaries. Left out: it waits for room without counting tries (documented).
        HaRules(
            "vsphere",
            heartbeat_s=1.0,  # documented: vSphere's availability guide
            dead_s=15.0,  # documented, ibid.: no heartbeats, and no answer to pings
            grace_master_s=17.0,  # recalled: an election, and restarts from 35 s on
            fence_s=3.0,  # recalled: restarts begin 18 s after the failure
            isolated_s=30.0,  # documented: blogs.vmware.com 2011/11
            isolated_master_s=5.0,  # documented, ibid.
            response_s=30.0,  # recalled
            response="leave_on",  # recalled: the default since 5
            starts_per_host=32,  # recalled
            retry_s=(120.0, 240.0, 480.0),  # recalled: after 2, 4, 8, 8 min
            most_tries=5,  # documented: yellow-bricks.com, ha
        ),
        # vSphere 4's HA (AAM), of the calibration's card 13.2.
        HaRules(
            "vsphere4",
            heartbeat_s=1.0,  # documented
            dead_s=15.0,  # documented; restarts begin at once
            isolated_s=12.0,  # documented
            response="power_off",
            response_s=2.0,  # documented: off at 14 s
            starts_per_host=32,  # as above
            retry_s=(120.0, 240.0, 480.0),
            most_tries=5,
        ),
        # Proxmox HA: pve-ha-manager 5.2 NodeStatus.pm, CRM.pm, LRM.pm, PVE2.pm, watchdog-mux.c.
        # Left out: starts that fail although the VM fits.
        HaRules(
            "proxmox",
            autostart=True,  # a choice: `onboot` is set on guests outside HA
            heartbeat_s=10.0,  # read: agents renew their locks once a round
            dead_s=60.0,  # read: since the node was last online
            grace_master_s=120.0,  # read: its lock must run out; its successor's 60 s begin then
            round_s=10.0,  # read
            fence_after_s=120.0,  # read: age at which the agent's lock can be taken; recovery in the same round
            watchdog_s=70.0,  # read: silent for 60 s, then 10 s of the device
            start_s=10.0,  # read: the target's agent starts it in its next round, here a whole one later
            by_priority=False,  # read: by name
            starts_per_host=4,  # read: max_workers
            retry_s=(10.0,),  # read: every round, for ever
        ),
        # oVirt: VdsManager.java, AutoStartVmsRunner.java, 0000_config.sql. Left out: soft fencing by ssh, no fencing in
        # the 300 s after a start of the engine, storage leases.
        HaRules(
            "ovirt",
            heartbeat_s=3.0,  # read: it polls
            dead_s=60.0,  # read
            grace_per_vm_s=0.5,  # read
            grace_master_s=20.0,  # read: for the storage pool manager (SPM)
            fence_s=40.0,  # read: 30 s without kdump's messages, 10 s until the state is polled after power-off; their sum a guess
            quiet_s=180.0,  # read
            fencing="resets",  # read: stop and start through a proxy host
            priority_wait_s=600.0,  # read
            retry_s=(30.0, 1800.0),  # read
            retry_times=(10, 1),  # read
        ),
        # Masakari beside Nova: masakari's and its monitors' conf, host_failure.py. Left out: IPMI checks, reserved hosts.
        HaRules(
            "nova_masakari",
            restarts_all=True,  # read: evacuate_all; VMs marked HA_Enabled first
            heartbeat_s=1.0,  # a choice: corosync sends more often
            dead_s=3.0,  # documented: corosync's token
            round_s=60.0,  # read: the host monitor
            fence_s=210.0,  # read: 30 s for the fence, 180 s of sleep after the service is disabled
            fencing="resets",  # read: it is Pacemaker's
            by_priority=False,
            starts_per_cluster=3,  # read: threads
            retry_s=(120.0,),  # recalled: unfinished notifications are looked at
        ),
        # Hyper-V on a failover cluster of 2016. Left out: quarantine after three ungraceful exits in an hour.
        HaRules(
            "hyperv",
            autostart=True,  # recalled: VMs outside the cluster start if they ran
            heartbeat_s=1.0,  # documented: windowsitpro.com
            dead_s=10.0,  # documented: 10 lost; 20 from 2019 on (recalled)
            fence_s=240.0,  # recalled: ResiliencyDefaultPeriod; also where the node has crashed
            fencing="evicts",
            isolated_s=10.0,  # documented: the node is Isolated then
            response="pause",  # documented: on block storage; on SMB they run on
            retry_s=(3600.0,),  # recalled: RetryPeriodOnFailure
        ),
        # XenServer: xapi_ha.ml, xapi_globs.ml.
        HaRules(
            "xenserver",
            heartbeat_s=3.0,  # read: min(3, (T + 10) / 10), T = 60 s
            dead_s=60.0,  # read: T
            round_s=20.0,  # read: the monitor's
            watchdog_s=60.0,  # read: T
            by_priority=True,  # read: by order number
            retry_s=(20.0,),  # read: the monitor's rounds
        ),
        # KubeVirt. By itself a VM stays on a dead node until somebody declares that out of service; here a Node Health Check does.
        HaRules(
            "kubevirt",
            restarts_all=True,  # a choice: runStrategy Always
            autostart=True,
            heartbeat_s=10.0,  # documented: kubernetes#127352
            dead_s=40.0,  # documented, ibid.; 50 in newer ones
            round_s=5.0,  # documented, ibid.
            fence_s=300.0,  # documented: tolerations of nodes not ready; also the health check's (recalled)
            fencing="resets",  # recalled: what a health check's remediation does
            retry_s=(1.0, 2.0, 4.0, 10.0),  # recalled: the scheduler's
        ),
        # VMs are down until their host is back, and start with it (a choice: libvirt and ESXi want it set).
        HaRules("none", restarts=False, autostart=True, dead_s=None),
    )
}
"""The stacks that are named."""


def named(stack: str) -> HaRules:
    """A stack as it is shipped. Raises `InputError` for an unknown name."""
    if not isinstance(stack, str) or stack not in STACKS:
        raise InputError(f"ha={shown(stack)}: unknown{nearest(str(stack), STACKS)}; choose one of {', '.join(STACKS)}")
    return STACKS[stack]


def from_dict(data: Mapping[str, Any]) -> HaRules:
    """Check plain data; what it does not say is as in the stack that it names with `like`, or as in `none`."""
    changes = {key: value for key, value in data.items() if key != "like"}
    return build(HaRules, plain(named(data.get("like", "none"))) | changes, "ha")
