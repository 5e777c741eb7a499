"""What MLflow's UI shows of an experiment at first: rows, order, columns and charts, as one of its shared views.

The UI of MLflow 3.17 takes these from a link (``?viewStateShareKey=KEY`` reads the experiment's tag
``mlflow.sharedViewState.KEY``: JSON, deflated because a tag has at most 5,000 characters) or from what the browser has
stored for the experiment, which is the same JSON, and from nowhere else. The side, GenAI or model training, stands in
the link or the browser's store, too; the tag ``mlflow.experimentKind`` decides nothing any more. ``hvgym ui`` lets the
browser store the view (``scripts.ui_page``); at a server of others the link carries it. Nothing here imports mlflow.

Left out: the interval as one column (MLflow has none for two numbers), and pinned runs (a view carries no runs).
"""

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

KEY = "hvgym"
"""Of the shared view."""

TAG = f"mlflow.sharedViewState.{KEY}"
"""Of an experiment: its view."""

MOST_CHARACTERS = 5000
"""Of an experiment's tag."""

TOP = "tags.`mlflow.parentRunId` IS NULL"
"""The filter for runs that are not nested: sorted by a metric, MLflow lists nested runs as rows like any other."""

WIDTHS = {"tags": 90, "metrics": 88, "params": 100}
"""Of columns, in pixels: ten of them fit beside the names on a screen of 1,440."""

ALONG, CURVES = "along", "curves"
"""Sections of the page of charts: agents side by side, and learning curves."""


@dataclass(frozen=True)
class View:
    """Columns in their order, the metric by which rows are sorted (best first), and the charts.

    bars: metrics of bar charts; against: metrics of a scatter (x, y); curves: metrics with steps; swept: parameters that differ
    between rows and all of them have, the axes of parallel coordinates beside `bars`.
    """

    tags: tuple[str, ...]
    metrics: tuple[str, ...]
    best: str
    bars: tuple[str, ...] = ()
    against: tuple[str, str] | None = None
    curves: tuple[str, ...] = ()
    swept: tuple[str, ...] = ()


STUDY = View(
    tags=("kind", "seat"),
    metrics=("score", "score_lo", "score_hi", "density", "goodput", "kills", "slo_missed_s", "p99_slowdown"),
    best="score",
    bars=("score", "goodput", "density", "slo_missed_s", "kills", "p99_slowdown"),
    against=("slo_missed_s", "goodput"),
)


def tags(view: View) -> dict[str, str]:
    """Tags of an experiment that is shown so."""
    return {"mlflow.experimentKind": "custom_model_development", TAG: _text(view)}


def page(experiment: str, key: str = "") -> str:
    """Where an experiment is shown, behind a server's address. key: of a view, where the browser has not stored it."""
    shared = f"&viewStateShareKey={key}" if key else ""
    return f"#/experiments/{quote(experiment)}/runs?workflowType=machine_learning{shared}"


def _text(view: View) -> str:
    """As MLflow's UI reads it; parameters that do not fit are left out."""
    swept = list(view.swept)
    while len(text := _deflated(_state(view, swept))) > MOST_CHARACTERS and swept:
        swept.pop()
    return text


def _deflated(state: dict[str, Any]) -> str:
    packed = zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 9)
    return "deflate;" + base64.b64encode(packed).decode()


def _state(view: View, swept: Sequence[str]) -> dict[str, Any]:
    columns = [f"tags.`{name}`" for name in view.tags]
    columns += [f"params.`{name}`" for name in swept]
    columns += [f"metrics.`{name}`" for name in view.metrics]
    return {
        "searchFilter": TOP, "orderByKey": f"metrics.`{view.best}`", "orderByAsc": False, "startTime": "ALL",
        "lifecycleFilter": "Active", "datasetsFilter": [], "modelVersionFilter": "All Runs",
        "selectedColumns": columns, "columnOrder": columns,
        "columnWidths": {column: WIDTHS[column.partition(".")[0]] for column in columns},
        "runsHiddenMode": "FIRST_20_RUNS", "hideEmptyCharts": True, "groupBy": None, "useGroupedValuesInCharts": True,
        "isAccordionReordered": True, "compareRunCharts": _charts(view, swept), "compareRunSections": _sections(view),
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }  # fmt: skip


def _charts(view: View, swept: Sequence[str]) -> list[dict[str, Any]]:
    charts: list[dict[str, Any]] = [
        {"type": "BAR", "metricKey": name, "displayName": name, "runsCountToCompare": 20} for name in view.bars
    ]
    if view.against:
        x, y = ({"key": name, "type": "METRIC"} for name in view.against)
        charts.append({"type": "SCATTER", "xaxis": x, "yaxis": y, "runsCountToCompare": 300})
    if len(swept) + len(view.bars) > 1:
        axes = {"selectedParams": list(swept), "selectedMetrics": [*view.bars[:0:-1], *view.bars[:1]]}
        charts.append({"type": "PARALLEL", **axes, "showAllRuns": True, "runsCountToCompare": 300})
    lines = [
        {"type": "LINE", "metricKey": name, "selectedMetricKeys": [name], "displayName": name, "xAxisKey": "step",
         "lineSmoothness": 0, "scaleType": "linear", "xAxisScaleType": "linear", "range": {}, "yAxisKey": "metric",
         "yAxisExpressions": [], "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True, "runsCountToCompare": 20}
        for name in view.curves
    ]  # fmt: skip
    placed = [(chart, ALONG) for chart in charts] + [(chart, CURVES) for chart in lines]
    common = {"deleted": False, "isGenerated": False}
    return [
        {"uuid": f"{KEY}-{number}", "metricSectionId": section, **common, **chart}
        for number, (chart, section) in enumerate(placed)
    ]


def _sections(view: View) -> list[dict[str, Any]]:
    """MLflow adds a chart for every other metric to the last two; those stay folded."""
    sections = [(ALONG, "Side by side", True), (CURVES, "Learning curves", True)]
    sections += [("model", "Model metrics", False), ("system", "System metrics", False)]
    return [
        {"uuid": uuid, "name": name, "display": unfolded, "isReordered": True, "deleted": False, "isGenerated": False}
        for uuid, name, unfolded in sections
        if uuid != CURVES or view.curves
    ]
