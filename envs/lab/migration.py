"""Live migration on the laboratory bench: one guest alone on an ample host, copied by QEMU's rules to another.

`play` lets the guest run, balloons it first where asked to, and copies it second by second; what the copy holds back, its vCPUs
lack in the next second, as a limit of CPU time. `sweep` does so for several rates of writing, or bandwidths.

The bench is that of the measured guests (docs/validation.md): the cap of the bandwidth is kept in post-copy too, but not while
the guest stands still; then the link's speed counts. Memory with content beside the hot set is the guest's kernel, and free pages
that it has used before. What the model leaves out stands in ``model.migration``.
"""

import dataclasses
import importlib.resources
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import yaml

from hvgym.envs.errors import InputError
from hvgym.envs.events import Event
from hvgym.envs.lab import rounds
from hvgym.envs.lab.guest import LabGuest, checked, merged
from hvgym.envs.migration_rules import MigrationRules, named
from hvgym.envs.model import convergence, migration, params
from hvgym.envs.scenario import Scenario
from hvgym.envs.schema import number
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

Kind = Literal["precopy", "autoconverge", "postcopy"]
Result = Literal["done", "never"]

MIB_PER_MB = 1e6 / 2**20

SWITCH_MS = 2.0
"""Downtime of a guest that moved by post-copy, of which no page is sent while it stands still (measured)."""

UNTOUCHED_S = 1e7
"""Time between touches of a page of a workload without touches."""

POSTCOPY_AFTER_S = 3.0
"""When post-copy begins, unless told (as measured)."""

LEAST_S, FULL_COPIES = 600, 30.0
"""Seconds after which a copy that goes on is said never to end: these, or so many times its whole content, if that is longer."""

BALLOON_SPARE_S = 30
"""What a balloon may take beyond its speed."""

SWEEPS = {
    "dirty": ("touches_per_s", (0.0, 1000.0, 2000.0, 5000.0, 10000.0, 15000.0, 20000.0, 30000.0)),
    "bandwidth": ("bandwidth_mb_per_s", (8.0, 16.0, 32.0, 48.0, 64.0, 96.0, 128.0, 256.0, 512.0)),
}
"""What is swept, and the default values."""


@dataclasses.dataclass(frozen=True)
class Migrated:
    """The experiment beside its guest; fields as in ``conf/lab.yaml``."""

    migrate: Kind
    touches_per_s: float = number(least=0)
    other_mib: float = number(above=0)
    balloon_mib: float = number(least=0)
    bandwidth_mb_per_s: float = number(above=0)
    downtime_limit_ms: float = number(least=1)
    postcopy_after_s: float | None = number(least=0)
    duration_s: int | None = number(least=1)
    sweep: Literal["dirty", "bandwidth"] | None = None
    values: tuple[float, ...] | None = number(None, least=0)

    def __post_init__(self) -> None:
        if self.postcopy_after_s is not None and self.migrate != "postcopy":
            raise InputError(
                f"postcopy_after_s={self.postcopy_after_s:g}: migrate={self.migrate} has none; leave it out, or migrate=postcopy"
            )
        if self.values is not None and self.sweep is None:
            raise InputError(f"values={list(self.values)}: of what? give sweep=dirty or sweep=bandwidth too")
        if self.values is not None and not self.values:
            raise InputError("values=[]: expected at least one")
        if self.sweep == "bandwidth" and self.values and min(self.values) <= 0.0:
            raise InputError(f"values={list(self.values)}: a bandwidth must be above 0")

    @property
    def rules(self) -> MigrationRules:
        """QEMU's, with what the experiment sets."""
        cap = self.bandwidth_mb_per_s * MIB_PER_MB
        after_s = POSTCOPY_AFTER_S if self.postcopy_after_s is None else self.postcopy_after_s
        return dataclasses.replace(
            named("qemu"),
            bandwidth_mib_per_s=cap,
            postcopy_mib_per_s=cap,
            downtime_limit_ms=self.downtime_limit_ms,
            switch_ms=SWITCH_MS,
            throttle_most_share=0.99 if self.migrate == "autoconverge" else None,
            postcopy_after_s=after_s if self.migrate == "postcopy" else None,
        )

    def swept(self) -> list["Migrated"]:
        """An experiment for each value."""
        assert self.sweep is not None
        key, values = SWEEPS[self.sweep]
        changes: list[dict[str, Any]] = [{key: value} for value in self.values or values]
        return [dataclasses.replace(self, sweep=None, values=None, **change) for change in changes]


@dataclasses.dataclass(frozen=True)
class MigrationRow:
    """A line of lab.csv: the copy at the end of a second, or where it ended. progress: the guest's speed in that second."""

    t_s: float
    round: int
    remaining_mib: float
    sent_mib: float
    throttle: float
    progress: float


@dataclasses.dataclass(frozen=True)
class Played:
    """A copy from its beginning. total_s is the time played where it never ends; events: its time line in words; reason: why it
    ends, or does not; marks: second and name of what stands in its picture; passes_mib: what the downtime limit lets pass."""

    rows: tuple[MigrationRow, ...]
    result: Result
    total_s: float
    downtime_ms: float
    sent_mib: float
    rounds: int
    throttle: float
    progress: float
    events: tuple[Event, ...]
    reason: str
    marks: tuple[tuple[float, str], ...]
    passes_mib: float

    def totals(self) -> dict[str, Any]:
        """What summary.json says."""
        return {key: getattr(self, key) for key in ("total_s", "downtime_ms", "sent_mib", "result")}


def setup(data: Mapping[str, Any]) -> tuple[LabGuest, Migrated]:
    """Check plain data: the keys of a guest, and those of `Migrated`. Raises `InputError` that names what is wrong."""
    experiment = checked(Migrated, {field.name: data[field.name] for field in dataclasses.fields(Migrated)})
    guest = _guest({field.name: data[field.name] for field in dataclasses.fields(LabGuest)}, experiment)
    _check_sizes(guest, experiment)
    return guest, experiment


def packaged(**changes: Any) -> tuple[LabGuest, Migrated]:
    """The set-up of ``conf/lab.yaml`` with changes."""
    text = importlib.resources.files("hvgym.conf").joinpath("lab.yaml").read_text()
    return setup(merged(yaml.safe_load(text), changes))


def _guest(data: dict[str, Any], experiment: Migrated) -> LabGuest:
    """A guest that nobody touches is one whose pages are touched every four months."""
    if experiment.touches_per_s == 0.0 and isinstance(data["hot_mib"], (int, float)):
        data = data | {"touches_per_s": data["hot_mib"] * params.PAGES_PER_MIB / UNTOUCHED_S}
    return LabGuest.from_dict(data)


def _check_sizes(guest: LabGuest, experiment: Migrated) -> None:
    kernel_mib = guest.guest.kernel_mib - guest.kernel_cache_mib
    most = guest.guest.memory_mib - guest.hot_mib
    if not kernel_mib <= experiment.other_mib <= most:
        raise InputError(
            f"other_mib={experiment.other_mib:g}: must be between {kernel_mib:g}, the guest's kernel, and {most:g}, what "
            f"hot_mib={guest.hot_mib:g} leaves of guest.memory_mib={guest.guest.memory_mib:g}"
        )
    most = guest.guest.memory_mib - guest.size_for(0.0)
    if experiment.balloon_mib > most:
        raise InputError(
            f"balloon_mib={experiment.balloon_mib:g}: must be at most {most:.0f}, what kernel and watermark leave of "
            f"guest.memory_mib={guest.guest.memory_mib:g}"
        )


def play(guest: LabGuest, experiment: Migrated) -> Played:
    """Copy the guest; a copy that has not ended after `duration_s` never ends."""
    running = _Running(guest, experiment)
    longest = experiment.duration_s or math.ceil(max(LEAST_S, FULL_COPIES * running.whole_s()))
    rows = [running.row(0.0)]
    while not running.ended and len(rows) <= longest:
        running.second()
        rows.append(running.row(float(running.copy["elapsed_s"])))
    return running.played(rows)


def sweep(data: Mapping[str, Any], experiment: Migrated) -> list[tuple[float, Played]]:
    """A copy for each value that is swept."""
    key = SWEEPS[experiment.sweep or "dirty"][0]
    single = {"sweep": None, "values": None}
    return [
        (getattr(each, key), play(*setup({**data, **single, key: getattr(each, key)}))) for each in experiment.swept()
    ]


class _Running:
    """A guest under way, and its copy."""

    def __init__(self, guest: LabGuest, experiment: Migrated) -> None:
        self._sim = Simulator(_scenario(guest, experiment))
        self._sim.reset([0])
        self._vm: Any = self._sim.vms[0, 0]
        self._spec: Any = self._sim.vm_specs[0, 0]
        self._sim.host_specs["cpu_limited"] = 1.0
        self._rules = experiment.rules.row()
        self._room_mib = float(self._sim.host_specs[0, 0]["nic_mib_per_s"])
        self.copy: Any = params.zeros((1,), migration.COPY)[0]
        self._most_throttle = 0.0
        self._experiment = experiment
        self._sim.run(1, 0, 1)
        if experiment.balloon_mib > 0.0:
            self._inflate(guest, experiment.balloon_mib)
        self._mib_per_s = min(self._room_mib, float(self._rules["bandwidth_mib_per_s"]))
        self._floor_mib = rounds.floor_mib(self._vm, self._spec, self._mib_per_s)
        migration.begin(self.copy, self._vm, self._spec, self._rules)
        self._rounds = rounds.Rounds(self.copy, self._mib_per_s, experiment.downtime_limit_ms)

    def _inflate(self, guest: LabGuest, balloon_mib: float) -> None:
        self._sim.apply(Targets(np.array([[guest.guest.memory_mib - balloon_mib]])))
        for _ in range(math.ceil(2.0 * guest.move_s(balloon_mib)) + BALLOON_SPARE_S):
            self._sim.run(1, 0, 1)
        if self._vm["oom_kills"] > 0.0:
            raise InputError(
                f"balloon_mib={balloon_mib:g}: the guest runs out of memory and its workload is killed; ask for less"
            )

    @property
    def ended(self) -> bool:
        return bool(self.copy["result"] != convergence.RUNNING)

    def whole_s(self) -> float:
        """Time to send the whole content once."""
        return float(migration.content_mib(self._vm, self._spec)) / float(self._rules["bandwidth_mib_per_s"])

    def second(self) -> None:
        """Let the guest run, as far as the copy lets it, and send."""
        free = 1.0 - float(self.copy["held_back"])
        self._spec["cpu_limit"] = free * float(self._vm["cpu_want"]) if free < 1.0 else float(self._spec["vcpus"])
        self._sim.run(1, 0, 1)
        migration.advance(self.copy, self._vm, self._spec, self._rules, self._room_mib)
        self._most_throttle = max(self._most_throttle, float(self.copy["throttle"]))
        self._rounds.note(self.copy)

    def row(self, t_s: float) -> MigrationRow:
        copy = self.copy
        return MigrationRow(
            t_s, int(copy["round"]), float(convergence.left_mib(copy)), float(copy["sent_mib"]), float(copy["throttle"]),
            float(self._vm["progress"]),
        )  # fmt: skip

    def played(self, rows: Sequence[MigrationRow]) -> Played:
        copy, limit_ms = self.copy, self._experiment.downtime_limit_ms
        result: Result = "done" if self.ended else "never"
        return Played(
            tuple(rows),
            result,
            float(copy["elapsed_s"]),
            1e3 * float(copy["downtime_s"]),
            float(copy["sent_mib"]),
            int(copy["round"]),
            self._most_throttle,
            float(np.mean([row.progress for row in rows])),
            self._rounds.events(),
            rounds.reason(result, self._experiment.migrate, self._floor_mib,
                          rounds.floor_mib(self._vm, self._spec, self._mib_per_s), self._mib_per_s, limit_ms,
                          float(copy["faults"])),
            tuple(self._rounds.marks),
            1e-3 * limit_ms * self._mib_per_s,
        )  # fmt: skip


def _scenario(guest: LabGuest, experiment: Migrated) -> Scenario:
    """The guest's, with so many of its free pages used before that its content is what the experiment says."""
    kernel_mib = guest.guest.kernel_mib - guest.kernel_cache_mib
    free_mib = guest.guest.memory_mib - kernel_mib - guest.hot_mib
    return dataclasses.replace(guest.scenario(), touched_share=(experiment.other_mib - kernel_mib) / free_mib)
