"""A capacity in MLflow: an experiment of its own, with a child run an agent: density and curve (step: ratio in per cent)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hvgym.bench.capacity import Capacity, Density, Family, Job
from hvgym.bench.capacity_report import CURVE, curve_rows
from hvgym.bench.delivery import at_server
from hvgym.bench.density import Rule
from hvgym.bench.density_column import FOLDER
from hvgym.bench.identity import digest_of_text
from hvgym.bench.job_times import first_ms, span_ms
from hvgym.bench.parented import Parented
from hvgym.bench.progress import file_of, folder_of, read
from hvgym.bench.recording import marked


class CapacityTracker(Parented):
    """Records a capacity."""

    def __init__(self, runs: Path, name: str, server: str = "") -> None:
        super().__init__(runs, f"capacity/{name}", "capacity", server)
        self._folder = runs / "studies" / name / FOLDER

    def start(self, family: Family, rule: Rule, misses: str) -> None:
        """Open the parent run."""
        scenario = family.scenario
        params = {"scenario": scenario["name"], "hypervisor": scenario["hypervisor"]["name"], "fleets": family.fleets}
        params |= asdict(rule) | {"misses": misses}
        key = digest_of_text(json.dumps({"family": family.identity, "params": params}, sort_keys=True))
        note = f"Density at the SLO of **{scenario['name']}**. Open the artifact capacity.png for the curves."
        began = first_ms((self._folder / "jobs").glob("*.json"), folder_of(self._folder).glob("*.jsonl"))
        parent = self.open(key, f"capacity {scenario['name']}", note, params, began)
        self.experiment.text(parent, json.dumps(family.identity, indent=1), "family.json")

    def finish(self, capacity: Capacity, summary: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        """Record every agent that is not there yet, and the files."""
        points = list[tuple[str, float, int]]()
        for one in capacity.densities:
            name = str(one.agent["name"])
            figures = {key: value for key, value in summary["agents"][name].items() if isinstance(value, float)}
            self._agent(one, curve_rows(capacity, one), figures, self._span_ms(capacity, one))
            points += [(f"{name}/{key}", value, 0) for key, value in figures.items()]
        self.close(points, artifacts)

    def _agent(self, one: Density, rows: list[list[Any]], figures: Mapping[str, float], span: tuple[int, int]) -> None:
        key, name = digest_of_text(json.dumps([rows, figures])), str(one.agent["name"])
        points = [
            (figure, value, round(100 * row[1]))
            for row in rows
            for figure, value in zip(CURVE[2:], row[2:], strict=True)
        ]
        points += [(figure, value, 0) for figure, value in figures.items()]
        self.child(key, name, points, {"agent": name}, span)

    def _span_ms(self, capacity: Capacity, one: Density) -> tuple[int, int]:
        """From the first of an agent's jobs to the last."""
        code = capacity.codes.get(str(one.agent["name"]), "")
        keys = [Job(capacity.family, one.agent, ratio, code).key for ratio in one.raw]
        spans = [span_ms(self._folder / "jobs" / f"{key}.json", read(file_of(self._folder, key))) for key in keys]
        return min(start for start, _ in spans), max(end for _, end in spans)


@contextmanager
def make_capacity_tracker(kind: str, runs: Path, name: str) -> Iterator[CapacityTracker | None]:
    """`kind` is none, which gives None, mlflow, or the address of a server. What fails or is interrupted is marked so."""
    if kind == "none":
        yield None
        return
    if kind != "mlflow":
        with at_server(kind, lambda: CapacityTracker(runs, name, kind)) as tracker:
            yield tracker
        return
    with marked(CapacityTracker(runs, name)) as tracker:
        yield tracker
