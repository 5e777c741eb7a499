"""Density at the SLO of several agents: one family of VMs under one hypervisor, on hosts with ever less RAM.

    runs/studies/NAME/capacity/family.json    whose density it is
                               jobs/KEY.json  one agent at one ratio, all fleets; KEY is the hash of what determines them
                               capacity.json, capacity.csv, fleets.csv, capacity.png (``capacity_report``)

A fleet is what a test seed draws: the demand of a scenario's VMs, or VMs of a trace and a time. At a ratio its host has the sum
of the VMs' configured memory over that ratio as RAM; VMs, demand, processors, disk and link stay the same, so ratios and
agents are compared on equal fleets. All fleets of a ratio are one batch. Where no VM of a scenario is critical, all are.

Misses that the same fleet has on a host with twice its memory under ``stock`` are not the overcommitment's (of want of CPU,
say). ``misses: added`` leaves them out, and such kills; ``all`` counts them.

A job's file appears whole or not at all, so the same command goes on after a kill, with the same result to the bit: what is
played next follows from what has been played (``density``). Left out: more VMs on a given host, which would change CPU
and I/O too; arrivals and departures beyond the scenario's own.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hvgym.agents.policy import declared_by
from hvgym.bench import suites
from hvgym.bench.climbing import Climb, Played, climb
from hvgym.bench.density import Curve, FloatArray, Point, Rule, Search, draws_of
from hvgym.bench.jobs import digest, read_json
from hvgym.bench.progress import Progress, file_of
from hvgym.bench.protocol import learns, played, policy_of
from hvgym.bench.rollout import rollout
from hvgym.bench.study import locked
from hvgym.bench.workers import Workers
from hvgym.envs.backends import AnySimulator
from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically
from hvgym.envs.rules import refusal as refused_by_rules
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Telemetry

FORMAT = 1
"""Version of what a job plays; part of its key."""

AMPLE_RATIO = 0.5
"""Of the host without want of memory: twice what is configured, so no hypervisor's own use or reserve is felt (a choice)."""

AGAIN = "delete it and run hvgym capacity again"

Misses = Literal["added", "all"]


@dataclass(frozen=True)
class Family:
    """Whose density is asked for: a resolved scenario, how many fleets are drawn of it, and what makes a result beside
    configuration (``identity.sources``).
    """

    scenario: dict[str, Any]
    fleets: int
    sources: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(scenario: Scenario, fleets: int, sources: dict[str, str]) -> "Family":
        """The family of a scenario's VMs, all critical if none is."""
        if not any(group.critical for group in scenario.vms):
            scenario = replace(scenario, vms=tuple(replace(group, critical=True) for group in scenario.vms))
        return Family(scenario.to_dict(), fleets, sources)

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change in a folder."""
        plain: dict[str, Any] = json.loads(json.dumps({"format": FORMAT} | asdict(self)))
        return plain

    @property
    def hash(self) -> str:
        """Of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def seeds(self) -> range:
        """One a fleet."""
        return suites.seeds("test", self.fleets)

    def at(self, ratio: float) -> Scenario:
        """The scenario on hosts of this ratio. What it says of its host's memory is replaced."""
        scenario = Scenario.from_dict(self.scenario)
        overcommit = ratio / scenario.workload.overcommit_scale
        return replace(scenario, host=replace(scenario.machine, ram_mib=None, overcommit=overcommit))

    def configured_mib(self) -> FloatArray:
        """Sum of the VMs' memory, ``[fleet]``. Raises `InputError` for whatever cannot be played with ample memory."""
        sim = Simulator(self.at(AMPLE_RATIO), self.fleets)
        sim.reset(self.seeds)
        return np.asarray(sim.vm_specs["memory_mib"].sum(axis=1))


@dataclass(frozen=True)
class Job:
    """One agent at one ratio. code: digest of the agent's own code, or ""."""

    family: Family
    agent: dict[str, Any]
    ratio: float
    code: str = ""

    @property
    def key(self) -> str:
        """Hash of everything that determines the result."""
        content = self.family.identity | {
            "agent": what_plays(self.agent, self.family.scenario["hypervisor"]),
            "ratio": self.ratio,
            "code": self.code,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.agent['name']} at ratio {self.ratio:.2f}"

    def stored(self, folder: Path) -> Point | None:
        """What it left when it was played before; None where there is nothing. Raises `InputError` that names a changed file."""
        return _stored(self, folder)

    def done(self, folder: Path) -> Point:
        """Play it, and leave its file."""
        return _done(self, folder)


def what_plays(agent: Mapping[str, Any], hypervisor: Mapping[str, Any]) -> dict[str, Any]:
    """What of an agent's configuration can make a difference. Who asks for nothing and reads nothing is the same by any name and
    in any seat, where the hypervisor ships with nothing that a seat would switch off: there `static` is `stock`."""
    config, declares = played(agent), declared_by(agent)
    if hypervisor["stock"] is None and declares.channels == () and declares.signals == frozenset():
        return {key: value for key, value in config.items() if key not in ("name", "description", "seat")}
    return config


@dataclass(frozen=True)
class Density:
    """What was found of one agent. curve: as counted, without what ample memory has too where that is left out."""

    agent: dict[str, Any]
    raw: Curve
    curve: Curve
    search: Search


@dataclass(frozen=True)
class Capacity:
    """The densities of all agents that could be played, and why the others could not. configured_mib ``[fleet]``."""

    family: Family
    rule: Rule
    misses: Misses
    configured_mib: FloatArray
    draws: FloatArray
    ample: Point
    densities: list[Density]
    refused: dict[str, str]
    codes: dict[str, str]


def play(job: Job, progress: Progress | None = None) -> Point:
    """Play all fleets of a job in one batch. Raises `InputError` naming agent, ratio, seed and second where the agent fails."""
    try:
        return _play_those(job, np.ones(job.family.fleets, np.bool_), progress)
    except InputError:
        fits = _fits(job.family.at(job.ratio), job.family.seeds)
        if fits.all():
            raise
    return _play_those(job, fits, progress)


def _play_those(job: Job, fits: npt.NDArray[np.bool_], progress: Progress | None) -> Point:
    """Play the fleets that fit; the others miss everything."""
    scenario = job.family.at(job.ratio)
    critical = sum(group.critical for group in scenario.groups)
    asked = np.full(len(fits), float(critical * scenario.duration_s))
    point = Point(asked.copy(), asked, np.zeros(len(fits)), np.zeros(len(fits)), fits.astype(np.float64))
    seeds = [seed for seed, fit in zip(job.family.seeds, fits, strict=True) if fit]
    if not seeds:
        return point
    last = list[AnySimulator]()
    tell = progress.player(len(seeds), scenario.duration_s // scenario.control_interval_s) if progress else None

    def keep(telemetry: Telemetry, sim: AnySimulator) -> None:
        last[:] = [sim]
        if tell is not None:
            tell(telemetry, sim)

    try:
        episodes = rollout(scenario, policy_of(job.agent), seeds, keep, job.agent["name"], apart=False)
    except InputError as error:
        raise InputError(f"at ratio {job.ratio:.2f}: {error}") from error
    counts = last[0].vm_specs["critical"] > 0.0
    for name, found in (("missed_s", "slo_violation_s"), ("asked_s", "asked_s")):
        getattr(point, name)[fits] = (last[0].vms[found] * counts).sum(axis=1)
    point.kills[fits], point.goodput[fits] = episodes.oom_kills, episodes.goodput
    if not all(np.isfinite(getattr(point, one.name)).all() for one in fields(Point)):
        raise InputError(f"at ratio {job.ratio:.2f}: a result is not a finite number")
    return point


def _fits(scenario: Scenario, seeds: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Whether each host holds what is guaranteed; all else that may be wrong has been found with ample memory."""
    return np.array([holds(scenario, seed) for seed in seeds])


def holds(scenario: Scenario, seed: int) -> bool:
    """Whether the host holds what is guaranteed to its VMs."""
    try:
        Simulator(scenario).reset([seed])
    except InputError:
        return False
    return True


def refusal(agent: Mapping[str, Any], family: Family) -> str | None:
    """Why an agent cannot be played at all; None where it can."""
    if learns(agent):
        return (
            f"has not been trained; hvgym train agent={agent['name']} leaves a best.zip, and "
            f"checkpoints={{{agent['name']}:best.zip}} plays it"
        )
    work = family.scenario["workload"]
    if agent.get("train") and work["kind"] in suites.REPLAYED and work.get("split") in (None, "all"):
        return "was trained on some of these VMs; workload.split=test draws fleets of the others"
    try:
        policy_of(agent)
    except InputError as error:
        return str(error)
    return refused_by_rules(declared_by(agent), Scenario.from_dict(family.scenario))


@contextmanager
def opened(family: Family, folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone. Raises `InputError` when another holds it, or it is of another family."""
    with locked(folder):
        path = folder / "family.json"
        if path.exists() and read_json(path, AGAIN) != family.identity:
            raise InputError(f"{folder}: holds {_whose(read_json(path, AGAIN), family.identity)}; choose study=NAME")
        write_atomically(path, json.dumps(family.identity, indent=1))
        yield


def _whose(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """How a family that is there differs, in words."""
    for what, keys in (("scenario", ("scenario", "name")), ("hypervisor", ("scenario", "hypervisor", "name"))):
        there, asked = (_at(data, keys) for data in (old, new))
        if there != asked:
            return f"the capacity of {what} {there!r}, not {asked!r}"
    for key in ("fleets", "sources"):
        if old.get(key) != new[key]:
            code = " (code or traces were changed)" if key == "sources" else ""
            return f"a capacity of other {key}{code}: there {old.get(key)}, asked {new[key]}"
    return "the capacity of a scenario that differs in its keys"


def _at(data: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def measure(
    family: Family, agents: Sequence[dict[str, Any]], stock: dict[str, Any], rule: Rule, misses: Misses, folder: Path,
    workers: Workers = 1, codes: Mapping[str, str] | None = None, on_point: Played = lambda job, point, share, count: None,
) -> Capacity:  # fmt: skip
    """Search every agent's density (``workers``); what the folder has is read.

    stock: who plays the hosts with ample memory. Agents that fail are left out with their reason.
    """
    configured, codes = family.configured_mib(), dict(codes or {})
    refused = {str(agent["name"]): why for agent in agents if (why := refusal(agent, family)) is not None}
    with opened(family, folder):
        ample_job = Job(family, stock, AMPLE_RATIO, codes.get(str(stock["name"]), ""))
        ample = ample_job.stored(folder) or ample_job.done(folder)
        draws = draws_of(family.fleets, int(family.hash, 16))
        taken = ample if misses == "added" else replace(ample, missed_s=0 * ample.missed_s, kills=0 * ample.kills)
        climbs, alike = dict[str, Climb](), dict[str, list[dict[str, Any]]]()
        for agent in agents:
            if agent["name"] in refused:
                continue
            job = partial(_job_at, family, agent, codes.get(str(agent["name"]), ""))
            key = job(rule.least).key
            climbs.setdefault(key, Climb(str(agent["name"]), job, rule, draws, taken, folder))
            alike.setdefault(key, []).append(agent)
        failed = climb(list(climbs.values()), folder, workers, on_point)
    found = list[Density]()
    for key, one in climbs.items():
        if one.name in failed:
            refused |= {str(agent["name"]): failed[one.name] for agent in alike[key]}
        else:
            found += [Density(agent, dict(one.raw), one.curve, one.search) for agent in alike[key]]
    found.sort(key=lambda one: (-one.search.density.value, -one.search.density.lo, one.agent["name"]))
    return Capacity(family, rule, misses, configured, draws, ample, found, refused, codes)


def _job_at(family: Family, agent: dict[str, Any], code: str, ratio: float) -> Job:
    return Job(family, agent, ratio, code)


def _job_file(job: Job, folder: Path) -> Path:
    return folder / "jobs" / f"{job.key}.json"


def _done(job: Job, folder: Path) -> Point:
    """Play a job and leave its file."""
    scenario = Scenario.from_dict(job.family.scenario)
    total = job.family.fleets * (scenario.duration_s // scenario.control_interval_s)
    with Progress(file_of(folder, job.key), job.name, total) as progress:
        point = play(job, progress)
    rows = {one.name: getattr(point, one.name).tolist() for one in fields(Point)}
    content = {"format": FORMAT, "key": job.key, "agent": job.agent["name"], "ratio": job.ratio, "fleets": rows}
    write_atomically(_job_file(job, folder), json.dumps(content | {"digest": digest(content)}, indent=1))
    return point


def _stored(job: Job, folder: Path) -> Point | None:
    """What a finished job left; None where there is nothing. Raises `InputError` that names a file that was changed."""
    path = _job_file(job, folder)
    if not path.exists():
        return None
    data = read_json(path, AGAIN)
    if data.pop("digest", None) != digest(data):
        raise InputError(f"{path}: was changed after it was written (its digest differs); {AGAIN}")
    try:
        arrays = {one.name: np.array(data["fleets"][one.name], np.float64) for one in fields(Point)}
        same = data["key"] == job.key
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: lacks a key ({error}); {AGAIN}") from None
    whole = all(len(array) == job.family.fleets and math.isfinite(array.sum()) for array in arrays.values())
    if not same or not whole:
        raise InputError(f"{path}: holds another job than {job.name}; {AGAIN}")
    return Point(**arrays)
