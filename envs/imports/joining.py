"""Series of one quantity each, as monitoring systems keep them, joined to rows of a VM at a time.

What a host says of a VM at one time is one row. Devices of a VM (disks, interfaces, vCPUs) are added up: before its first
sample a device has counted nothing, after its last it counts no more, and in a gap of one device the sum is unknown. Of two
series of one thing (a restarted exporter) the earlier in the file speaks first. A VM on two hosts has rows for each.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvgym.envs.imports.source import Batch, Column

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 50_000
"""Of a batch."""


@dataclass(frozen=True)
class Series:
    """Values of one quantity over time. `column`: what it is, or ``power`` (values are str) or ``reported_s``. `rank`: of several
    columns of one quantity the least that says anything is taken. `device`: parts of a VM that are added up."""

    vm: str
    host: str | None
    uuid: str | None
    group: str | None
    agg: str
    column: Column | str
    rank: int
    device: tuple[str, ...]
    times: np.ndarray
    values: np.ndarray

    @property
    def quantity(self) -> str:
        """The name of its column in a batch."""
        return self.column if isinstance(self.column, str) else self.column.quantity


def joined(file: Path, series: Iterable[Series]) -> Iterator[Batch]:
    """Batches of rows, VM by VM in the order in which they come."""
    rows = dict[tuple[str, str | None, str], list[Series]]()
    for one in series:
        rows.setdefault((one.vm, one.host, one.agg), []).append(one)
    waiting, columns, many = list["pd.DataFrame"](), dict[str, Column](), 0
    for (vm, host, agg), ones in rows.items():
        chosen = _chosen(ones)
        own = {
            one.quantity: one.column for group in chosen.values() for one in group[:1] if isinstance(one.column, Column)
        }
        if waiting and (many >= MOST_ROWS or any(_unlike(columns.get(name), column) for name, column in own.items())):
            yield _batch(file, waiting, columns)
            waiting, columns, many = [], {}, 0
        for frame in _slices(_frame(vm, host, agg, ones, chosen)):
            if waiting and many + len(frame) > MOST_ROWS:
                yield _batch(file, waiting, columns)
                waiting, columns, many = [], {}, 0
            waiting.append(frame)
            columns = {**own, **columns}
            many += len(frame)
    if waiting:
        yield _batch(file, waiting, columns)


def _unlike(one: Column | None, other: Column) -> bool:
    """Whether two columns of a quantity cannot be one."""
    return one is not None and (one.unit, one.kind, one.zero) != (other.unit, other.kind, other.zero)


def _chosen(ones: Sequence[Series]) -> dict[str, list[Series]]:
    """By quantity the series of one metric: of the least rank among those that say anything."""
    chosen = dict[str, list[Series]]()
    for quantity in dict.fromkeys(one.quantity for one in ones):
        having = [one for one in ones if one.quantity == quantity]
        saying = [
            one for one in having if isinstance(one.column, str) or bool(np.any(np.nan_to_num(one.values) != 0))
        ] or having
        least = min(one.rank for one in saying)
        chosen[quantity] = [one for one in having if one.rank == least]
    return chosen


def _frame(
    vm: str, host: str | None, agg: str, ones: Sequence[Series], chosen: dict[str, list[Series]]
) -> "pd.DataFrame":
    import pandas as pd

    times = np.unique(np.concatenate([one.times for group in chosen.values() for one in group]))
    frame = pd.DataFrame({"vm": vm, "time": times, "agg": agg})
    for name, value in (
        ("host", host),
        ("uuid", _first(one.uuid for one in ones)),
        ("group", _first(one.group for one in ones)),
    ):
        if value is not None:
            frame[name] = value
    for quantity, group in chosen.items():
        frame[quantity] = _added(times, group)
    return frame


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value is not None), None)


def _added(times: np.ndarray, group: Sequence[Series]) -> np.ndarray:
    devices = dict[tuple[str, ...], np.ndarray]()
    for one in group:
        own = _placed(times, one)
        before = devices.get(one.device)
        devices[one.device] = own if before is None else np.where(_said(before), before, own)
    if len(devices) == 1:
        return next(iter(devices.values()))
    return np.sum([_held(values) for values in devices.values()], axis=0)


def _placed(times: np.ndarray, one: Series) -> np.ndarray:
    text = one.values.dtype == object
    found = np.full(len(times), None if text else np.nan, dtype=object if text else np.float64)
    found[np.searchsorted(times, one.times)] = one.values
    return found


def _said(values: np.ndarray) -> np.ndarray:
    return np.array([value is not None for value in values]) if values.dtype == object else np.isfinite(values)


def _held(values: np.ndarray) -> np.ndarray:
    """A device's counter at times of the VM's other devices too: 0 before it was there, its last count when it is gone."""
    known = np.flatnonzero(np.isfinite(values))
    if len(known) == 0:
        return np.zeros(len(values))
    values = values.copy()
    values[: known[0]] = 0.0
    values[known[-1] + 1 :] = values[known[-1]]
    return values


def _slices(frame: "pd.DataFrame") -> Iterator["pd.DataFrame"]:
    for start in range(0, len(frame), MOST_ROWS):
        yield frame.iloc[start : start + MOST_ROWS]


def _batch(file: Path, waiting: Sequence["pd.DataFrame"], columns: dict[str, Column]) -> Batch:
    import pandas as pd

    return Batch(file, pd.concat(waiting, ignore_index=True), tuple(columns.values()))
