"""What an advice plays: somebody's own VMs on her hosts, at every level of what her data says, in windows of her history.

The VMs are spread over `hosts` alike, of as much RAM as she says; a ratio is configured memory over the RAM of all of them, and
stands for hosts of more or less RAM with VMs, demand and disk as they are. So her own hosts are one point of each curve. A job is
one agent at one level and ratio, all hosts and windows; its file has the counters of every VM, from which all else follows.
What identifies it is the content of the folder, not where it lies.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hvgym.bench.capacity import holds, what_plays
from hvgym.bench.density import FloatArray, Point
from hvgym.bench.jobs import digest, read_json
from hvgym.bench.progress import Progress, file_of
from hvgym.bench.protocol import policy_of
from hvgym.bench.rollout import rollout
from hvgym.envs.backends import AnySimulator
from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically
from hvgym.envs.scenario import Scenario
from hvgym.envs.telemetry import Telemetry
from hvgym.envs.vm_group import VmGroup

FORMAT = 1
"""Version of what a job plays; part of its key."""

AGAIN = "delete it and run hvgym advise again"

COUNTED = {
    "missed_s": "slo_violation_s",
    "asked_s": "asked_s",
    "progress_s": "progress_s",
    "kills": "oom_kills",
    "failed_starts": "failed_starts",
    "host_swap_in_mib": "host_swap_in_mib",
    "guest_swap_in_mib": "swap_in_mib",
    "file_in_mib": "file_in_mib",
    "balloon_moved_mib": "balloon_moved_mib",
    "host_stalled_s": "host_stalled_s",
}
"""Counters of a VM, by the names here."""


@dataclass(frozen=True)
class Case:
    """What is played. levels: scenarios by level, one a host; seeds: one a window, with weights and days as in ``advice_windows``;
    ram_mib: of each of her hosts; swap_mib: host swap of each; sources: ``identity.sources``.
    """

    levels: dict[str, tuple[dict[str, Any], ...]]
    seeds: tuple[int, ...]
    weights: tuple[float, ...]
    days: tuple[int, ...]
    ram_mib: float
    swap_mib: float
    sources: dict[str, str] = field(default_factory=dict)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the VMs, host by host."""
        return tuple(name for scenario in self._first for name in _names(scenario))

    @cached_property
    def host_of(self) -> tuple[int, ...]:
        """On which host each VM is."""
        return tuple(number for number, scenario in enumerate(self._first) for _ in _names(scenario))

    @property
    def _first(self) -> tuple[dict[str, Any], ...]:
        return next(iter(self.levels.values()))

    @property
    def hosts(self) -> int:
        """How many hosts there are."""
        return len(self._first)

    @property
    def hypervisor(self) -> dict[str, Any]:
        """Its profile."""
        found: dict[str, Any] = self._first[0]["hypervisor"]
        return found

    @cached_property
    def memory_mib(self) -> FloatArray:
        """Configured, ``[vm]``."""
        return np.array([float(group["memory_mib"]) for group in self.groups])

    @cached_property
    def groups(self) -> tuple[dict[str, Any], ...]:
        """The VMs as their scenarios have them, ``[vm]``."""
        return tuple(group for scenario in self._first for group in scenario["vms"] for _ in range(int(group["count"])))

    @cached_property
    def critical(self) -> npt.NDArray[np.bool_]:
        """Whose misses count, ``[vm]``: the critical ones', of all where none is."""
        said = np.array([bool(group["critical"]) for group in self.groups])
        return said if said.any() else np.ones(len(said), np.bool_)

    @property
    def configured_mib(self) -> float:
        """Sum of all VMs."""
        return float(self.memory_mib.sum())

    @property
    def today(self) -> float:
        """Her own ratio."""
        return self.configured_mib / (self.hosts * self.ram_mib)

    def ram_at(self, ratio: float) -> float:
        """RAM of each host at a ratio."""
        return self.ram_mib if ratio == self.today else self.configured_mib / (self.hosts * ratio)

    def at(self, level: str, ratio: float) -> list[Scenario]:
        """The scenarios of all hosts. What they say of their hosts' RAM and swap is replaced, and floors that do not fit shrink."""
        ram_mib = self.ram_at(ratio)
        return [self._on(Scenario.from_dict(data), ram_mib) for data in self.levels[level]]

    def _on(self, scenario: Scenario, ram_mib: float) -> Scenario:
        host = replace(scenario.machine, ram_mib=ram_mib, overcommit=None, swap_share=self.swap_mib / ram_mib)
        share = floor_share(scenario, ram_mib)
        return replace(scenario, host=host, vms=tuple(with_floor(group, share) for group in scenario.vms))

    def floors_mib(self, ratio: float) -> FloatArray:
        """The VMs' floors at a ratio, ``[vm]``."""
        return np.array([group.min_mib for scenario in self.at("mid", ratio) for group in scenario.groups])

    def identity(self, level: str) -> dict[str, Any]:
        """What determines the rows of a level beside agent and ratio."""
        plain: dict[str, Any] = json.loads(
            json.dumps({
                "format": FORMAT,
                "scenarios": [_nowhere(scenario) for scenario in self.levels[level]],
                "seeds": self.seeds,
                "swap_mib": self.swap_mib,
                "sources": {name.partition(" /")[0]: content for name, content in self.sources.items()},
            })
        )  # fmt: skip
        return plain

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Of the identities, by level."""
        return {level: _hash(self.identity(level)) for level in self.levels}

    @property
    def hash(self) -> str:
        """Of all that is played."""
        return _hash([self.hashes, self.ram_mib, self.weights, self.days])


def _names(scenario: Mapping[str, Any]) -> list[str]:
    return [
        str(group["name"]) if int(group["count"]) == 1 else f"{group['name']}-{number + 1}"
        for group in scenario["vms"]
        for number in range(int(group["count"]))
    ]


FLOORS_AT_MOST = 0.95
"""Of what a host has for VMs, their floors take no more, so that a balloon has room to move (a choice)."""


def floor_share(scenario: Scenario, ram_mib: float) -> float:
    """To which part the floors of a host's VMs shrink so that they fit: who has less RAM cannot guarantee as much."""
    left_mib = for_vms_mib(scenario, ram_mib) - sum(
        scenario.hypervisor.overhead_mib(group) for group in scenario.groups
    )
    floors_mib = sum(group.min_mib for group in scenario.groups)
    return min(1.0, max(0.0, FLOORS_AT_MOST * left_mib / floors_mib)) if floors_mib > 0.0 else 1.0


def for_vms_mib(scenario: Scenario, ram_mib: float) -> float:
    """What a host of so much RAM has for VMs and their processes."""
    hypervisor, machine = scenario.hypervisor, scenario.machine
    own_mib = hypervisor.own_mib + hypervisor.own_ram_share * ram_mib if machine.own_mib is None else machine.own_mib
    return ram_mib - own_mib


def with_floor(group: VmGroup, share: float) -> VmGroup:
    """A VM with a part of its floor, at least what it boots with."""
    if share >= 1.0:
        return group
    floor = min(group.min_mib, max(share * group.min_mib, group.boot_mib))
    return replace(group, min_mib=floor)


def _nowhere(scenario: Mapping[str, Any]) -> dict[str, Any]:
    return dict(scenario) | {"workload": dict(scenario["workload"]) | {"path": None}}


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Rows:
    """What a job found, ``[window, vm]`` by the names of `COUNTED`; fits ``[window, host]``: whether a host held what is guaranteed
    (where it did not, nothing started: all is missed); swapping_s ``[window, host]``: seconds with host swap traffic."""

    counted: dict[str, FloatArray]
    fits: FloatArray
    swapping_s: FloatArray

    def point(self, counts: npt.NDArray[np.bool_]) -> Point:
        """For a search of densities; counts ``[vm]``: whose misses count."""
        asked, progress = self.counted["asked_s"], self.counted["progress_s"]
        return Point(
            missed_s=(self.counted["missed_s"] * counts).sum(axis=1),
            asked_s=(asked * counts).sum(axis=1),
            kills=self.counted["kills"].sum(axis=1),
            goodput=progress.sum(axis=1) / np.maximum(asked.sum(axis=1), 1e-9),
            fits=self.fits.min(axis=1),
        )


@dataclass(frozen=True)
class Job:
    """One agent at one level and ratio. code: digest of the agent's own code, or ""."""

    case: Case
    level: str
    agent: dict[str, Any]
    ratio: float
    code: str = ""

    @cached_property
    def key(self) -> str:
        """Hash of everything that determines the result."""
        plays = what_plays(self.agent, self.case.hypervisor)
        return _hash([self.case.hashes[self.level], plays, self.case.ram_at(self.ratio), self.code])

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.agent['name']}, {self.level} demand, ratio {self.ratio:.2f}"

    def file(self, folder: Path) -> Path:
        """What it leaves."""
        return folder / "jobs" / f"{self.key}.json"

    def stored(self, folder: Path) -> Point | None:
        """What it left when it was played before, as it counts for a density; None where there is nothing."""
        rows = self.rows(folder)
        return None if rows is None else rows.point(self.case.critical)

    def rows(self, folder: Path) -> Rows | None:
        """All that it left. Raises `InputError` that names a file that was changed."""
        path = self.file(folder)
        if not path.exists():
            return None
        data = read_json(path, AGAIN)
        if data.pop("digest", None) != digest(data):
            raise InputError(f"{path}: was changed after it was written (its digest differs); {AGAIN}")
        try:
            counted = {name: np.array(data["vms"][name], np.float64) for name in COUNTED}
            rows = Rows(counted, np.array(data["fits"], np.float64), np.array(data["swapping_s"], np.float64))
            same = data["key"] == self.key
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: lacks a key ({error}); {AGAIN}") from None
        shape = (len(self.case.seeds), len(self.case.names))
        if not same or any(array.shape != shape or not math.isfinite(array.sum()) for array in counted.values()):
            raise InputError(f"{path}: holds another job than {self.name}; {AGAIN}")
        return rows

    def done(self, folder: Path) -> Point:
        """Play it, and leave its file."""
        scenarios = self.case.at(self.level, self.ratio)
        intervals = scenarios[0].duration_s // scenarios[0].control_interval_s
        total = len(self.case.seeds) * intervals * len(scenarios)
        with Progress(file_of(folder, self.key), self.name, total) as progress:
            rows = self._played(scenarios, progress)
        self.write(rows, folder)
        return rows.point(self.case.critical)

    def write(self, rows: Rows, folder: Path) -> None:
        """Leave its file, whole or not at all."""
        content = {
            "format": FORMAT, "key": self.key, "agent": self.agent["name"], "level": self.level, "ratio": self.ratio,
            "vms": {name: rows.counted[name].tolist() for name in COUNTED},
            "fits": rows.fits.tolist(), "swapping_s": rows.swapping_s.tolist(),
        }  # fmt: skip
        write_atomically(self.file(folder), json.dumps(content | {"digest": digest(content)}))

    def _played(self, scenarios: Sequence[Scenario], progress: Progress) -> Rows:
        parts = [self._on_host(scenario, progress) for scenario in scenarios]
        counted = {name: np.concatenate([part.counted[name] for part in parts], axis=1) for name in COUNTED}
        rows = Rows(
            counted, *(np.concatenate([getattr(p, name) for p in parts], axis=1) for name in ("fits", "swapping_s"))
        )
        if not all(np.isfinite(array).all() for array in counted.values()):
            raise InputError(f"{self.name}: a result is not a finite number")
        return rows

    def _on_host(self, scenario: Scenario, progress: Progress) -> Rows:
        """All windows of one host in one batch; those in which it does not hold what is guaranteed miss everything."""
        try:
            return self._those(scenario, np.ones(len(self.case.seeds), np.bool_), progress)
        except InputError as error:
            fits = np.array([holds(scenario, seed) for seed in self.case.seeds])
            if fits.all():
                raise InputError(f"at ratio {self.ratio:.2f}: {error}") from error
        return self._those(scenario, fits, progress)

    def _those(self, scenario: Scenario, fits: npt.NDArray[np.bool_], progress: Progress) -> Rows:
        shape = (len(fits), len(scenario.groups))
        counted = {name: np.zeros(shape) for name in COUNTED}
        counted["missed_s"][:], counted["asked_s"][:] = float(scenario.duration_s), float(scenario.duration_s)
        rows = Rows(counted, fits.astype(np.float64)[:, None], np.zeros((len(fits), 1)))
        seeds = [seed for seed, fit in zip(self.case.seeds, fits, strict=True) if fit]
        if not seeds:
            return rows
        last = list[AnySimulator]()
        tell = progress.player(len(seeds), scenario.duration_s // scenario.control_interval_s)

        def keep(telemetry: Telemetry, sim: AnySimulator) -> None:
            last[:] = [sim]
            tell(telemetry, sim)

        rollout(scenario, policy_of(self.agent), seeds, keep, self.agent["name"], apart=False)
        for name, found in COUNTED.items():
            counted[name][fits] = last[0].vms[found]
        rows.swapping_s[fits] = last[0].hosts["swapping_s"]
        return rows
