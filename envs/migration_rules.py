"""What each virtualisation stack fixes about live migration, checked: caps, limits, schedules, time-outs.

`named` gives a stack as it is shipped, `MigrationRules.row` writes it as the record that ``model.migration`` reads. Sources,
read in the stacks' own code and documentation unless a comment says otherwise: QEMU ``migration/options.c``, ``migration/ram.c``;
Proxmox ``QemuMigrate.pm`` and ``QemuServer.pm``; Nova ``conf/libvirt.py`` and ``virt/libvirt/migration.py``; oVirt
``0000_config.sql``, ``ConvergenceSchedule.java``, vdsm ``virt/migration.py``; KubeVirt ``virt-config.go`` and
``live-migration-source.go``.

Left out: delta compression (Proxmox turns XBZRLE on), Hyper-V's compression (its ratio is not published), several streams of
one copy.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from hvgym.envs.errors import InputError, nearest
from hvgym.envs.model import params
from hvgym.envs.schema import build, number, plain

SWITCH_MS = 50.0
"""Fixed part of a downtime: device state, announcing the new place; published as 20-100 ms."""


@dataclasses.dataclass(frozen=True)
class MigrationRules:
    """Rules of one stack. A field that may be None is then without limit, or off.

    `schedule` is a list of (count, downtime limit in ms): from that count on the limit may be set, one step per look of the
    watcher (every `poll_s`); `schedule_counts` says of what. `schedule_then` comes one step later, at `schedule_then_at`.
    `parallel_out`, `parallel_in` and `parallel_per_cluster` are how many copies a host sends, a host receives and the cluster has
    at once; with `vmotion_pools` copies are charged in ESXi's pools too. The rest wait.
    """

    name: str
    bandwidth_mib_per_s: float | None = number(None, above=0)
    postcopy_mib_per_s: float | None = number(None, above=0)
    caps_last_round: bool = False
    compression_ratio: float = number(1.0, least=1)
    prepare_s_per_gib: float = number(0.0, least=0)
    switch_ms: float = number(SWITCH_MS, least=0)
    downtime_limit_ms: float = number(300.0, least=0)
    stop_below_mib: float = number(0.0, least=0)
    most_rounds: int | None = number(None, least=1)
    throttle_trigger_share: float = number(0.5, above=0)
    throttle_period_s: float = number(1.0, least=0)
    throttle_periods: int = number(2, least=1)
    throttle_first_share: float = number(0.2, above=0, most=0.99)
    throttle_step_share: float = number(0.1, least=0, most=0.99)
    throttle_most_share: float | None = number(None, above=0, most=0.99)
    slow_to_share: float | None = number(None, above=0, most=0.99)
    poll_s: float | None = number(None, least=0.1)
    schedule_counts: Literal["rounds", "s_per_gib", "growths"] = "rounds"
    schedule: tuple[tuple[float, float], ...] = number((), least=0)
    schedule_then: tuple[Literal["abort", "postcopy"], ...] = ()
    postcopy_after_s: float | None = number(None, least=0)
    remote_fault_ms: float = number(0.5, least=0)
    timeout_s_per_gib: float | None = number(None, above=0)
    least_gib: float = number(0.0, least=0)
    on_timeout: Literal["abort", "postcopy", "stop"] = "abort"
    progress_timeout_s: float | None = number(None, above=0)
    progress_since: Literal["lowest", "last_look"] = "lowest"
    parallel_out: int | None = number(None, least=1)
    parallel_in: int | None = number(None, least=1)
    parallel_per_cluster: int | None = number(None, least=1)
    vmotion_pools: bool = False

    def __post_init__(self) -> None:
        if len(self.schedule) + len(self.schedule_then) > params.SCHEDULE_STEPS:
            raise InputError(
                f"schedule: {len(self.schedule) + len(self.schedule_then)} steps; at most {params.SCHEDULE_STEPS} are known"
            )
        watched = [
            key
            for key in ("schedule", "schedule_then", "timeout_s_per_gib", "progress_timeout_s")
            if getattr(self, key)
        ]
        if watched and self.poll_s is None:
            raise InputError(f"poll_s=None: {watched[0]} needs a watcher that looks; give poll_s")

    def row(self) -> Any:
        """The record for the compiled model."""
        from hvgym.envs.model import convergence, migration  # compiled code, which a list of names must not wait for

        counts = {
            "rounds": convergence.ROUNDS,
            "s_per_gib": convergence.SECONDS_PER_GIB,
            "growths": convergence.GROWTHS,
        }
        answers = {"abort": convergence.ABORT, "postcopy": convergence.TO_POSTCOPY, "stop": convergence.STOP}
        last_steps = {"abort": convergence.STEP_ABORT, "postcopy": convergence.STEP_POSTCOPY}
        row = params.zeros((1,), migration.MIGRATION)[0]
        for field in dataclasses.fields(self):
            if field.name in _PLAIN:
                row[_PLAIN[field.name]] = _value(self, field.name)
        row["step_counts"], row["on_timeout"] = counts[self.schedule_counts], answers[self.on_timeout]
        row["progress_since_last_look"] = self.progress_since == "last_look"
        does = [(at, limit_ms / 1e3) for at, limit_ms in self.schedule] + [
            (0.0, last_steps[last]) for last in self.schedule_then
        ]
        row["steps"] = len(does)
        for i, (at, does_what) in enumerate(does):
            row["step_at"][i], row["step_does"][i] = at, does_what
        return row


_PLAIN = {
    "bandwidth_mib_per_s": "bandwidth_mib_per_s",
    "postcopy_mib_per_s": "postcopy_mib_per_s",
    "caps_last_round": "caps_last_round",
    "compression_ratio": "compression_ratio",
    "prepare_s_per_gib": "prepare_s_per_gib",
    "switch_ms": "switch_s",
    "downtime_limit_ms": "downtime_limit_s",
    "stop_below_mib": "stop_below_mib",
    "most_rounds": "most_rounds",
    "throttle_trigger_share": "throttle_trigger",
    "throttle_period_s": "throttle_period_s",
    "throttle_periods": "throttle_periods",
    "throttle_first_share": "throttle_first",
    "throttle_step_share": "throttle_step",
    "throttle_most_share": "throttle_most",
    "slow_to_share": "slow_to_share",
    "poll_s": "poll_s",
    "postcopy_after_s": "postcopy_after_s",
    "remote_fault_ms": "remote_fault_s",
    "timeout_s_per_gib": "timeout_s_per_gib",
    "least_gib": "least_gib",
    "progress_timeout_s": "progress_timeout_s",
}
"""Fields that are one number, and their names in the record."""

_WITHOUT_LIMIT = ("bandwidth_mib_per_s", "postcopy_mib_per_s", "postcopy_after_s")


def _value(rules: MigrationRules, name: str) -> float:
    value = getattr(rules, name)
    if value is None:
        return params.NEVER_S if name in _WITHOUT_LIMIT else 0.0
    return float(value) / (1e3 if name.endswith("_ms") else 1.0)


def named(stack: str) -> MigrationRules:
    """A stack as it is shipped. Raises `InputError` for an unknown name."""
    if stack not in STACKS:
        raise InputError(f"migration={stack!r}: unknown{nearest(str(stack), STACKS)}; choose of {', '.join(STACKS)}")
    return STACKS[stack]


def from_dict(data: Mapping[str, Any]) -> MigrationRules:
    """Check plain data; what it does not say is as in the stack that it names with `like`, or as in QEMU."""
    changes = {key: value for key, value in data.items() if key != "like"}
    return build(MigrationRules, plain(named(data.get("like", "qemu"))) | changes, "migration")


MOST_DOWNTIME_MS = 2e6
"""Of QEMU."""


def _doubling() -> tuple[tuple[float, float], ...]:
    """Proxmox: each time that more was left than before in more than 5 looks, twice the limit, up to QEMU's most."""
    steps, limit_ms = list[tuple[float, float]](), 100.0
    while limit_ms < MOST_DOWNTIME_MS:
        limit_ms = min(2.0 * limit_ms, MOST_DOWNTIME_MS)
        steps.append((6.0 * (len(steps) + 1), limit_ms))
    return tuple(steps)


_OVIRT = ((2.0, 150.0), (3.0, 200.0), (4.0, 300.0), (5.0, 400.0), (7.0, 500.0))
"""Downtime in ms after more than 1, 2, 3, 4 and 6 iterations; it begins with 100."""

_AUTO_CONVERGE = 0.99
"""QEMU: trigger 50 %, initial 20 %, increment 10 %, at most 99 %; bad twice, periods of at least a second. Off unless asked."""

STACKS: dict[str, MigrationRules] = {
    rules.name: rules
    for rules in (
        MigrationRules("qemu", bandwidth_mib_per_s=128.0, downtime_limit_ms=300.0),
        MigrationRules(
            "proxmox",
            bandwidth_mib_per_s=16384.0,  # forced, unless a limit is given
            downtime_limit_ms=100.0,
            throttle_most_share=_AUTO_CONVERGE,
            poll_s=1.0,
            schedule_counts="growths",
            schedule=_doubling(),
            parallel_out=4,  # max_workers of the HA manager's agent on each node
        ),
        MigrationRules(
            "nova",
            downtime_limit_ms=50.0,
            poll_s=5.0,
            schedule_counts="s_per_gib",
            schedule=tuple((75.0 * i, 50.0 + 45.0 * i) for i in range(1, 11)),  # 10 steps, 75 s per GB, up to 500 ms
            timeout_s_per_gib=800.0,
            least_gib=2.0,  # recalled, not read
            parallel_out=1,  # max_concurrent_live_migrations
        ),
        MigrationRules(
            "ovirt_minimal_downtime",
            downtime_limit_ms=100.0,
            throttle_most_share=_AUTO_CONVERGE,
            poll_s=10.0,
            schedule=_OVIRT,
            schedule_then=("abort",),  # limit -1: at the next iteration that is seen
            parallel_out=2,  # maxMigrations of the policy; so below
            parallel_in=2,
        ),
        MigrationRules(
            "ovirt_suspend_workload",
            downtime_limit_ms=100.0,
            throttle_most_share=_AUTO_CONVERGE,
            poll_s=10.0,
            schedule=(*_OVIRT, (0.0, 5000.0)),
            schedule_then=("abort",),
            parallel_out=1,
            parallel_in=1,
        ),
        MigrationRules(
            "ovirt_postcopy",
            downtime_limit_ms=100.0,
            throttle_most_share=_AUTO_CONVERGE,
            poll_s=10.0,
            schedule=_OVIRT[:2],
            schedule_then=("postcopy", "abort"),
            parallel_out=2,  # a guess: as minimal downtime
            parallel_in=2,
        ),
        MigrationRules(
            "kubevirt",
            poll_s=0.4,
            timeout_s_per_gib=150.0,
            progress_timeout_s=150.0,
            progress_since="last_look",
            parallel_out=2,  # parallelOutboundMigrationsPerNode
            parallel_per_cluster=5,
        ),
        MigrationRules(
            "esxi",
            downtime_limit_ms=500.0,  # goal of the switch-over: 0.5 to 1 s, recalled
            slow_to_share=0.5,  # a guess: a round is at most half of the one before
            vmotion_pools=True,
        ),
        MigrationRules(
            "hyperv",
            downtime_limit_ms=500.0,  # a guess
            most_rounds=10,  # a guess
            parallel_out=2,  # MaximumVirtualMachineMigrations; that it holds for both ends alike is a guess
            parallel_in=2,
        ),
        MigrationRules(
            "xen",
            downtime_limit_ms=0.0,
            stop_below_mib=50.0 / params.PAGES_PER_MIB,  # 50 pages, recalled
            most_rounds=5,  # recalled
            parallel_per_cluster=3,  # Xen Orchestra's limit of a pool
        ),
    )
}
