"""A capacity in MLflow: an experiment of its own, with a child run an agent: density and curve (step: ratio in per cent)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hvgym.bench import store
from hvgym.bench.capacity import Capacity, Density, Family
from hvgym.bench.capacity_report import CURVE, curve_rows
from hvgym.bench.density import Rule
from hvgym.bench.identity import digest_of_text
from hvgym.bench.tracking import Experiment, marked


class CapacityTracker(Experiment):
    """Records a capacity."""

    def __init__(self, runs: Path, name: str) -> None:
        super().__init__(runs, f"capacity/{name}")

    def start(self, family: Family, rule: Rule, misses: str) -> None:
        """Open the parent run."""
        scenario = family.scenario
        params = {"scenario": scenario["name"], "hypervisor": scenario["hypervisor"]["name"], "fleets": family.fleets}
        params |= asdict(rule) | {"misses": misses}
        key = digest_of_text(json.dumps({"family": family.identity, "params": params}, sort_keys=True))
        note = f"Density at the SLO of **{scenario['name']}**. Open the artifact capacity.png for the curves."
        with store.explained(self._runs):
            self._open_parent(key, f"capacity {scenario['name']}", note, params)
            self._client.log_dict(self._parent, family.identity, "family.json")

    def finish(self, capacity: Capacity, summary: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        """Record every agent that is not there yet, and the files."""
        points = list[tuple[str, float, int]]()
        with store.explained(self._runs):
            for one in capacity.densities:
                name = str(one.agent["name"])
                figures = {key: value for key, value in summary["agents"][name].items() if isinstance(value, float)}
                self._agent(one, curve_rows(capacity, one), figures)
                points += [(f"{name}/{key}", value, 0) for key, value in figures.items()]
            self._close_parent(points, artifacts)

    def _agent(self, one: Density, rows: list[list[Any]], figures: Mapping[str, float]) -> None:
        key = digest_of_text(json.dumps([rows, figures]))
        if key in self._recorded:
            return
        run_id = self._open_child(key, str(one.agent["name"]))
        self._log_params(run_id, {"agent": one.agent["name"]})
        curve = [
            (name, value, round(100 * row[1])) for row in rows for name, value in zip(CURVE[2:], row[2:], strict=True)
        ]
        self._log_metrics(run_id, [*curve, *((name, value, 0) for name, value in figures.items())])
        self._close_child(run_id, key)


@contextmanager
def make_capacity_tracker(kind: str, runs: Path, name: str) -> Iterator[CapacityTracker | None]:
    """`kind` is mlflow or none, which gives None. What fails or is interrupted is marked so."""
    if kind == "none":
        yield None
        return
    with marked(CapacityTracker(runs, name)) as tracker:
        yield tracker
