"""VMs by which units are decided: all rows of some, in the units of the file, and what tests ask of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hvgym.envs.imports.merging import merged
from hvgym.envs.imports.spool import Spool

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]

ROWS = 400_000
"""Of the sample; then no further partition is read. Every check is repeated over all rows when they are converted."""


APART, LEAST_FLEET = 100.0, 3
"""A VM with so many times what the VM in the middle has at its peak, or so small a part, is named where units are doubted (a guess:
units are 1,000 apart, VMs of a fleet seldom 100); of so many VMs at least."""


@dataclass(frozen=True)
class Evidence:
    """Rows sorted by VM, aggregate, host and time, as they stand in the files but for times, which are in seconds. `cap_bytes`: by
    row, NaN until it is known."""

    frame: "pd.DataFrame"
    cap_bytes: Array

    @staticmethod
    def of(spool: "Spool", per_second: float) -> "Evidence":
        """Of the first partitions; `per_second`: units of time."""
        import pandas as pd

        frames, rows = [], 0
        for frame in spool.partitions():
            frames.append(frame.astype({"vm": object}))
            rows += len(frame)
            if rows >= ROWS:
                break
        whole = pd.concat(frames, ignore_index=True)
        whole["vm"] = whole["vm"].astype("category")
        ordered = in_order(whole, per_second)
        return Evidence(ordered, np.full(len(ordered), np.nan))

    def __contains__(self, quantity: str) -> bool:
        return quantity in self.frame

    def values(self, quantity: str) -> Array:
        """By row; 0 of columns that are 0 throughout counts as nothing said."""
        return self.frame[quantity].to_numpy(np.float64)

    @property
    def vms(self) -> npt.NDArray[np.int64]:
        """Number of the VM by row."""
        return np.asarray(self.frame["vm"].cat.codes, np.int64)

    def most_by_vm(self, values: Array) -> Array:
        """Of each VM of which anything is known."""
        known = ~np.isnan(values)
        most = np.full(int(self.vms.max(initial=-1)) + 1, -np.inf)
        np.maximum.at(most, self.vms[known], values[known])
        return most[np.isfinite(most)]

    def steps(self, values: Array) -> tuple[Array, Array]:
        """Change from a row to the next of the same VM, aggregate and host, and the seconds between, where both are known."""
        same = same_series(self.frame)[1:]
        change, seconds = np.diff(values), np.diff(self.frame["time"].to_numpy())
        known = same & ~np.isnan(change) & (seconds > 0)
        return change[known], seconds[known]

    def example(self, quantity: str) -> tuple[str, float]:
        """A VM, and the middle of what it has of a quantity: the one with most rows that say something."""
        values, code = self.values(quantity), self.example_vm(quantity)
        known = ~np.isnan(values) & (values != 0)
        return str(self.frame["vm"].cat.categories[code]), float(np.median(values[known & (self.vms == code)]))

    def example_vm(self, quantity: str) -> int:
        """Its number."""
        values = self.values(quantity)
        return int(np.argmax(np.bincount(self.vms[~np.isnan(values) & (values != 0)])))

    def apart(self, quantity: str) -> tuple[str, float, float, float] | None:
        """The VM whose largest value lies furthest from the others', that value, and the least and the most of theirs; None where
        no VM is `APART` from the one in the middle."""
        values = np.nan_to_num(self.values(quantity))
        most = np.zeros(int(self.vms.max(initial=-1)) + 1)
        np.maximum.at(most, self.vms, values)
        known = np.flatnonzero(most > 0)
        if len(known) < LEAST_FLEET:
            return None
        middle = float(np.median(most[known]))
        far = known[np.argmax(np.abs(np.log(most[known] / middle)))]
        if middle / APART < most[far] < middle * APART:
            return None
        others = most[known[known != far]]
        return str(self.frame["vm"].cat.categories[far]), float(most[far]), float(others.min()), float(others.max())

    def with_caps(self, cap_bytes: Array) -> "Evidence":
        """The same, with configured memory known."""
        return Evidence(self.frame, cap_bytes)


def in_order(frame: "pd.DataFrame", per_second: float) -> "pd.DataFrame":
    """Sorted by VM (by name), aggregate, host and time; times in seconds, both ends of lives too."""
    for name in ("time", "arrive_s", "depart_s"):
        if name in frame:
            frame[name] = frame[name] / per_second
    by = [name for name in ("vm", "uuid", "agg", "host") if name in frame]
    frame = merged(frame)
    keys = {name: frame[name].astype("category").cat.codes.to_numpy() for name in by}
    order = np.lexsort([frame["time"].to_numpy(), *[keys[name] for name in reversed(by)]])
    return frame.iloc[order].reset_index(drop=True)


def same_series(frame: "pd.DataFrame", besides: Mapping[str, bool] | None = None) -> npt.NDArray[np.bool_]:
    """Whether a row is of the same VM, aggregate and host as the one above it."""
    same = np.ones(len(frame), bool)
    for name in ("vm", "uuid", "agg", "host"):
        if name in frame and not (besides or {}).get(name):
            codes = frame[name].astype("category").cat.codes.to_numpy()
            same[1:] &= codes[1:] == codes[:-1]
    same[:1] = False
    return same
