"""A capacity in MLflow: an experiment of its own, with a child run an agent: density and curve (step: ratio in per cent)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hvgym.bench import usage
from hvgym.bench.capacity import Capacity, Density, Family, Job
from hvgym.bench.capacity_report import CURVE, curve_rows
from hvgym.bench.density import Rule
from hvgym.bench.density_column import FOLDER
from hvgym.bench.identity import digest_of_text
from hvgym.bench.job_times import first_ms
from hvgym.bench.parented import Figure, Tells
from hvgym.bench.progress import folder_of
from hvgym.bench.told import noted, seen_from, tell_child


class CapacityTracker:
    """Tells of a capacity. folder: its own."""

    def __init__(self, folder: Path, tells: Tells) -> None:
        self._folder, self._tells = folder, tells

    def start(self, family: Family, rule: Rule, misses: str) -> None:
        """Open the parent run."""
        scenario = family.scenario
        params = {"scenario": scenario["name"], "hypervisor": scenario["hypervisor"]["name"], "fleets": family.fleets}
        params |= asdict(rule) | {"misses": misses}
        self._tells.open(
            key=digest_of_text(json.dumps({"family": family.identity, "params": params}, sort_keys=True)),
            title=f"capacity {scenario['name']}",
            note=f"Density at the SLO of **{scenario['name']}**. Open the artifact capacity.png for the curves.",
            params=params,
            start_ms=first_ms((self._folder / "jobs").glob("*.json"), folder_of(self._folder).glob("*.jsonl")),
            files={"family.json": json.dumps(family.identity, indent=1)},
        )

    def finish(self, capacity: Capacity, summary: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        """Record every agent that is not there yet, and the files."""
        points, took = list[Figure](), dict[str, dict[str, float]]()
        for one in capacity.densities:
            name = str(one.agent["name"])
            figures = {key: value for key, value in summary["agents"][name].items() if isinstance(value, float)}
            took |= self._agent(capacity, one, figures)
            points += [(f"{name}/{key}", value, 0) for key, value in figures.items()]
        files = seen_from(self._folder, artifacts)
        self._tells.close(points=points, took=usage.together(took.values()), artifacts=files)

    def _agent(self, capacity: Capacity, one: Density, figures: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """Tell of an agent; what each of its jobs took, by key, for agents that ask for the same share their jobs."""
        name, rows = str(one.agent["name"]), curve_rows(capacity, one)
        points = [
            (figure, value, round(100 * row[1]))
            for row in rows
            for figure, value in zip(CURVE[2:], row[2:], strict=True)
        ]
        points += [(figure, value, 0) for figure, value in figures.items()]
        jobs = [Job(capacity.family, one.agent, ratio, capacity.codes.get(name, "")).key for ratio in one.raw]
        return tell_child(self._tells, self._folder, name, digest_of_text(json.dumps([rows, figures])), points, jobs)


@contextmanager
def make_capacity_tracker(kind: str, runs: Path, name: str) -> Iterator[CapacityTracker | None]:
    """`kind` is none, which gives None, mlflow, or the address of a server. What fails or is interrupted is marked so."""
    folder = runs / "studies" / name / FOLDER
    with noted(kind, runs, folder) as tells:
        yield CapacityTracker(folder, tells) if tells else None
