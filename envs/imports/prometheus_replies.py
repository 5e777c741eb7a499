"""Replies of Prometheus as series: what ``/api/v1/query_range`` answers, promtool prints, VictoriaMetrics exports.

A reply is read series by series: of its text no more than one of them is in memory, and the numbers of all (16 bytes a sample).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports.reading import documents, elements

AGAIN = (
    "repeat the query (a day or an hour at a time, or with a larger step, where it says that there are too many points)"
)

RANGE = "ask for a range (/api/v1/query_range with start, end and step)"

WRONG = (TypeError, ValueError, OverflowError, IndexError, KeyError)
"""What reading a sample raises that is no pair of numbers; whole numbers of 309 digits and more overflow."""


@dataclass(frozen=True)
class Found:
    """A series as it stands in a file. `metric`: empty for the result of an expression."""

    metric: str
    labels: Mapping[str, str]
    times: np.ndarray
    values: np.ndarray


def series_of(file: Path) -> list[Found]:
    """Of all replies of a file. Raises `InputError` for errors that Prometheus answered, and what is no range of a series."""
    found = [_series(file, number, series) for number, series in enumerate(elements(file, "result"), 1)]
    if not found:
        found = [_series(file, number, series) for number, series in enumerate(_lines(file), 1)]
    return found


def _lines(file: Path) -> Iterator[Any]:
    """Documents that are a series each, of which replies without a series are none."""
    for document in documents(file):
        if isinstance(document, dict) and document.get("status") == "error":
            said = shown(f"{document.get('errorType', '')}: {document.get('error', '')}", 200)
            raise InputError(f"{file}: Prometheus answered with an error, {said}; {AGAIN}")
        data = document.get("data", document) if isinstance(document, dict) else document
        if not isinstance(data, dict) or data.get("resultType") == "vector":
            raise InputError(f"{file}: {shown(document)} is of one instant, or no reply; {RANGE}")
        if "result" not in data:
            yield data


def _series(file: Path, number: int, series: Any) -> Found:
    if not isinstance(series, dict) or not isinstance(series.get("metric"), dict) or "values" not in series:
        raise InputError(f"{file}: series {number} is {shown(series)}, without metric and values; {RANGE}")
    labels = {str(key): str(value) for key, value in series["metric"].items()}
    times, values = _samples(file, labels, series)
    return Found(labels.get("__name__", ""), labels, times, values)


def _samples(file: Path, labels: Mapping[str, str], series: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    pairs = zip(series["timestamps"], series["values"], strict=True) if "timestamps" in series else series["values"]
    try:
        read_in = [(float(time), float("nan" if value is None else value)) for time, value in pairs]
    except WRONG as error:
        raise InputError(
            f'{file}: a sample of {shown(dict(labels), 120)} is {_faulty(series)}; expected [seconds, "number"]'
        ) from error
    table = np.array(read_in, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], np.where(np.isfinite(table[:, 1]), table[:, 1], np.nan)


def _faulty(series: Mapping[str, Any]) -> str:
    """The first sample that is no pair of a time and a number."""
    for number, sample in enumerate(series["values"] if isinstance(series["values"], list) else [series["values"]], 1):
        try:
            float(sample[0]), float("nan" if sample[1] is None else sample[1])
        except WRONG:
            return f"{shown(sample)} (number {number})"
    return "without its time"
