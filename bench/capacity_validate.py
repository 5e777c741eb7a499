"""Whether the points of a capacity come out here as they stand in its folder, to the bit.

A job's file names its agent and its ratio and has a key of all that determines the result, but not the agent's settings. They are
looked for in the study beside it, in the package, and there with what ``hvgym capacity`` tells clairvoyants; settings of which the
key comes out are those that played. Where none does, it is said. Left out: the search for the ratio, which follows from the points.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import hvgym.conf
from hvgym.bench.capacity import Family, Job, play
from hvgym.bench.density import Point
from hvgym.bench.identity import code_of, sources
from hvgym.bench.jobs import digest, read_json
from hvgym.bench.replay import outside_code
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load_group

AGAIN = "delete it and run hvgym capacity again"


@dataclass(frozen=True)
class CheckedPoint:
    """A point that was played again: how many fleets, what differs in words, and why it could not be played."""

    name: str
    fleets: int
    differences: tuple[str, ...] = ()
    failed: str = ""

    @property
    def wrong(self) -> bool:
        """Whether it is not equal."""
        return bool(self.failed or self.differences)


def points_of(folder: Path) -> list[dict[str, Any]]:
    """The contents of the files of a capacity's finished jobs, in order; none where there is no capacity. Raises `InputError` for
    a file that is damaged or was edited."""
    found = list[dict[str, Any]]()
    for path in sorted((folder / "jobs").glob("*.json")) if (folder / "family.json").exists() else ():
        data = read_json(path, AGAIN)
        if data.pop("digest", None) != digest(data):
            raise InputError(f"{path}: was changed after it was written (its digest differs); {AGAIN}")
        found.append(data)
    return sorted(found, key=lambda one: (str(one["agent"]), float(one["ratio"])))


def sample(points: Sequence[Mapping[str, Any]], rows: int | None, seed: int) -> list[Mapping[str, Any]]:
    """Points with so many fleets together, one at least; None is all."""
    if rows is None or not points:
        return list(points)
    count = max(1, rows // len(points[0]["fleets"]["goodput"]))
    drawn = np.random.default_rng(seed).permutation(len(points))[:count]
    return [points[int(i)] for i in sorted(drawn)]


def check_points(
    drawn: Sequence[Mapping[str, Any]], folder: Path, agents: Sequence[Mapping[str, Any]], trust: bool
) -> Iterator[CheckedPoint]:
    """Play points again, each as it is finished. agents: of the study beside the capacity; trust: run code outside the package."""
    data = read_json(folder / "family.json", AGAIN)
    family = Family(data["scenario"], data["fleets"], data["sources"])
    for one in drawn:
        name, fleets = f"{one['agent']} at ratio {one['ratio']:.2f}", one["fleets"]
        try:
            job = _job_of(one, family, agents, trust)
            yield CheckedPoint(name, family.fleets, tuple(_differences(fleets, play(job), family.seeds)))
        except InputError as error:
            yield CheckedPoint(name, family.fleets, failed=str(error))


def code_apart(folder: Path) -> list[str]:
    """What is other here than where the points were played, a line a difference."""
    there = read_json(folder / "family.json", AGAIN)
    now = sources([there["scenario"]])
    return [
        f"{key}: {value} there, {now.get(key) or 'nothing'} here"
        for key, value in there["sources"].items()
        if now.get(key) != value
    ]


def _job_of(one: Mapping[str, Any], family: Family, agents: Sequence[Mapping[str, Any]], trust: bool) -> Job:
    """The job of a file, by its key. Raises `InputError` where the settings of its agent are nowhere, or would run other code."""
    for agent in _candidates(str(one["agent"]), agents):
        if (code := outside_code(agent)) and not trust:
            raise InputError(f"would run code outside the package, {code}; read it, then trust=true runs it")
        job = Job(family, agent, float(one["ratio"]), code_of(agent))
        if job.key == one["key"]:
            return job
    raise InputError(
        "the settings of its agent stand nowhere here: in no study beside it, and in the package they are others"
    )


def _candidates(name: str, agents: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    told = yaml.safe_load((Path(hvgym.conf.__path__[0]) / "capacity.yaml").read_text())["reference"]
    named = [dict(agent) for agent in agents if agent["name"] == name]
    with suppress(InputError):  # one of the user's own
        named.append(load_group("agent", name))
    for agent in named:
        yield agent
        yield agent | told


def _differences(there: Mapping[str, Sequence[float]], here: Point, seeds: Sequence[int]) -> Iterator[str]:
    for one in fields(Point):
        for seed, old, new in zip(seeds, there[one.name], getattr(here, one.name).tolist(), strict=True):
            if json.dumps(old) != json.dumps(new):
                yield f"seed {seed} {one.name} {old!r} there, {new!r} here"
