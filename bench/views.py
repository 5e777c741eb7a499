"""What MLflow's UI shows of an experiment at first: rows, order, columns and charts, as its shared views.

The UI of MLflow 3.17 takes these from a link (``?viewStateShareKey=KEY`` reads the experiment's tag
``mlflow.sharedViewState.KEY``: JSON, deflated because a tag has at most 5,000 characters) or from what the browser has
stored for the experiment, which is the same JSON, and from nowhere else. The side, GenAI or model training, stands in
the link or the browser's store, too; the tag ``mlflow.experimentKind`` decides nothing any more. ``hvgym ui`` lets the
browser store the first view (``scripts.ui_page``); at a server of others the link carries it. Nothing here imports mlflow.

Left out: the interval as one column (MLflow has none for two numbers), and pinned runs (a view carries no runs).
"""

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

FIRST, CURVES = "hvgym", "hvgym-curves"
"""Keys of views: what is shown first, and the learning curves of a study."""

PREFIX = "mlflow.sharedViewState."
"""Of the tags that hold them."""

TAG = PREFIX + FIRST

MOST_SWEPT = 12
"""Keys of a sweep that are shown; more are no picture, and an experiment's tag has at most 5,000 characters."""

WIDTH, WIDTHS = (
    78,
    {
        "tags.kind": 88,
        "tags.state": 110,
        "tags.seat": 70,
        "metrics.kills": 58,
        "metrics.slo_missed_s": 98,
        "metrics.p99_slowdown": 100,
    },
)
"""Of columns, in pixels: those of a study fit beside the names on a screen of 1,440."""

LETTER, BESIDE, WIDEST = 7, 28, 200
"""Pixels of a letter of a column's name, of what stands beside it, and of a column at most."""


@dataclass(frozen=True)
class View:
    """Rows that pass a filter, with columns in their order (``tags.NAME``, ``params.NAME``, ``metrics.NAME``), best first by a
    metric; and charts: bars (a metric each), a scatter (x, y), parallel coordinates (axes as columns are, the last
    one gives the colour; a row that lacks one of them is not drawn), and lines (metrics by step, those of one entry in
    one chart).
    """

    rows: str
    columns: tuple[str, ...]
    best: str
    bars: tuple[str, ...] = ()
    against: tuple[str, str] | None = None
    axes: tuple[str, ...] = ()
    lines: tuple[tuple[str, ...], ...] = ()


STUDY = View(
    rows="tags.stage != 'job'",  # sorted by a metric, MLflow lists nested runs as rows like any other
    columns=(
        "tags.kind", "tags.seat", "metrics.score", "metrics.score_lo", "metrics.score_hi", "metrics.density",
        "metrics.goodput", "metrics.kills", "metrics.slo_missed_s", "metrics.p99_slowdown",
    ),
    best="score",
    bars=("score", "goodput", "density", "slo_missed_s", "kills", "p99_slowdown"),
    against=("slo_missed_s", "goodput"),
    axes=("metrics.kills", "metrics.slo_missed_s", "metrics.p99_slowdown", "metrics.goodput", "metrics.score"),
)  # fmt: skip

OF_TRAINING = (
    ("validation_goodput", "validation_goodput_stock", "validation_goodput_reference"),
    ("reward",),
    ("loss",),
    ("entropy",),
    ("steps_per_s",),
)
"""Lines of a training, the levels that it is to reach in one chart with it."""

TRAININGS = View(
    rows="tags.stage = 'job' and tags.trains = 'yes'",
    columns=("params.scenario", "params.train_seed", "metrics.score", "metrics.goodput", "metrics.validation_goodput"),
    best="validation_goodput",
    lines=OF_TRAINING,
)

VIEWS: dict[str, dict[str, View]] = {
    "train": {
        FIRST: View(
            "",
            ("params.scenario", "params.seed", "metrics.best_validation_goodput"),
            "best_validation_goodput",
            lines=OF_TRAINING,
        )
    },
    "tune": {FIRST: View("", ("tags.state", "metrics.score", "metrics.steps"), "score", lines=(("running_score",),))},
    "advise": {
        FIRST: View(
            "",
            ("metrics.safe_ratio", "metrics.ratio_low", "metrics.ratio_mid", "metrics.ratio_high"),
            "safe_ratio",
            bars=("safe_ratio", "ratio_mid"),
        )
    },
    **{
        verb: {FIRST: View("", ("metrics.decisions", "metrics.sent", "metrics.held"), "decisions")}
        for verb in ("shadow", "drive")
    },
    "capacity": {
        FIRST: View("", ("metrics.density", "metrics.density_lo", "metrics.density_hi"), "density", bars=("density",))
    },
}
"""Of the experiments of verbs, by key."""


def of_study(swept: Iterable[str]) -> dict[str, View]:
    """Of a study; swept: keys of a sweep, which are columns and axes, too."""
    params = tuple(f"params.{key}" for key in swept)[:MOST_SWEPT]
    axes = (*params, *STUDY.axes[-2:]) if params else STUDY.axes  # a chart is narrow
    first = replace(STUDY, columns=(*STUDY.columns[:2], *params, *STUDY.columns[2:]), axes=axes)
    return {FIRST: first, CURVES: TRAININGS}


def of_verb(verb: str, searched: Iterable[str] = ()) -> dict[str, View]:
    """Of the experiments of a verb; searched: parameters of a tuning, which are columns and axes, too, the score the last one."""
    first, params = VIEWS[verb][FIRST], tuple(f"params.{key}" for key in searched)[:MOST_SWEPT]
    axes = (*params, f"metrics.{first.best}") if params else first.axes
    return {FIRST: replace(first, columns=(*first.columns, *params), axes=axes)}


def tags_of(views: Mapping[str, View]) -> dict[str, str]:
    """Tags of an experiment that has these views."""
    kind = {"mlflow.experimentKind": "custom_model_development"}
    return kind | {PREFIX + key: _deflated(_state(view)) for key, view in views.items()}


def page(experiment: str, key: str = "", charts: bool = False) -> str:
    """Where an experiment is shown, behind a server's address. key: of a view, where the browser has not stored it."""
    shared = f"&viewStateShareKey={key}" if key else ""
    mode = "&compareRunsMode=CHART" if charts else ""
    return f"#/experiments/{quote(experiment)}/runs?workflowType=machine_learning{mode}{shared}"


def links(experiment: str, study: str = "", learners: bool = False) -> str:
    """In Markdown, what a study's description begins with, for MLflow shows one line of it: its report (study: the id of the
    run that has it), its charts, and of learners their curves."""
    found = [report(experiment, study)] if study else []
    found.append(f"[charts]({page(experiment, charts=True)})")
    if learners:
        found.append(f"[learning curves]({page(experiment, CURVES, charts=True)})")
    return ", ".join(found)


def report(experiment: str, study: str) -> str:
    """In Markdown, a link to the report of a study, by the id of its run."""
    return f"[report](#/experiments/{quote(experiment)}/runs/{study}/artifacts/report.html)"


def _deflated(state: dict[str, Any]) -> str:
    packed = zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 9)
    return "deflate;" + base64.b64encode(packed).decode()


def _quoted(column: str) -> str:
    group, _, name = column.partition(".")
    return f"{group}.`{name}`"


def _state(view: View) -> dict[str, Any]:
    """As MLflow's UI reads it."""
    columns = [_quoted(column) for column in view.columns]
    return {
        "searchFilter": view.rows, "orderByKey": f"metrics.`{view.best}`", "orderByAsc": False, "startTime": "ALL",
        "lifecycleFilter": "Active", "datasetsFilter": [], "modelVersionFilter": "All Runs",
        "selectedColumns": columns, "columnOrder": columns,
        "columnWidths": {_quoted(column): _width(column) for column in view.columns},
        "runsHiddenMode": "FIRST_20_RUNS", "hideEmptyCharts": True, "groupBy": None, "useGroupedValuesInCharts": True,
        "isAccordionReordered": True, "compareRunCharts": _charts(view), "compareRunSections": _sections(view),
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }  # fmt: skip


def _width(column: str) -> int:
    """Of a column, in pixels; that of a parameter has room for its name."""
    room = LETTER * len(column.partition(".")[2]) + BESIDE if column.startswith("params.") else 0
    return WIDTHS.get(column, min(max(WIDTH, room), WIDEST))


ALONG, BY_STEP = "along", "by-step"
"""Sections of the page of charts."""


def _charts(view: View) -> list[dict[str, Any]]:
    charts = list[tuple[str, dict[str, Any]]]()
    for name in view.bars:
        charts.append((ALONG, {"type": "BAR", "metricKey": name, "displayName": name, "runsCountToCompare": 20}))
    if view.against:
        x, y = ({"key": name, "type": "METRIC"} for name in view.against)
        charts.append((ALONG, {"type": "SCATTER", "xaxis": x, "yaxis": y, "runsCountToCompare": 300}))
    if view.axes:
        axes = {"selectedParams": _of(view.axes, "params"), "selectedMetrics": _of(view.axes, "metrics")}
        first = 0 if axes["selectedParams"] else len(charts)  # of a sweep it is what one wants to see
        charts.insert(first, (ALONG, {"type": "PARALLEL", **axes, "showAllRuns": True, "runsCountToCompare": 300}))
    charts += [(BY_STEP, _line(names)) for names in view.lines]
    common = {"deleted": False, "isGenerated": False}
    return [
        {"uuid": f"hvgym-{number}", "metricSectionId": section, **common, **chart}
        for number, (section, chart) in enumerate(charts)
    ]


def _of(columns: Iterable[str], group: str) -> list[str]:
    return [name for found, _, name in (column.partition(".") for column in columns) if found == group]


def _line(names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "type": "LINE", "metricKey": names[0], "selectedMetricKeys": list(names), "displayName": names[0],
        "xAxisKey": "step", "lineSmoothness": 0, "scaleType": "linear", "xAxisScaleType": "linear", "range": {},
        "yAxisKey": "metric", "yAxisExpressions": [], "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True,
        "runsCountToCompare": 20,
    }  # fmt: skip


def _sections(view: View) -> list[dict[str, Any]]:
    """MLflow adds a chart for every other metric to the last two; those stay folded."""
    sections = [(ALONG, "Side by side", True)] if view.bars or view.axes else []
    sections += [(BY_STEP, "By step", True)] if view.lines else []
    sections += [("model", "Model metrics", False), ("system", "System metrics", False)]
    return [
        {"uuid": uuid, "name": name, "display": unfolded, "isReordered": True, "deleted": False, "isGenerated": False}
        for uuid, name, unfolded in sections
    ]
