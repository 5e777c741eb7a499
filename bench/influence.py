"""How much of a comparison hangs on one VM: the difference of two policies without each VM of theirs in turn.

The VM is left out of the figure, not of the host: what it takes from its neighbours stays. So a policy that wins by what it
does to one VM is told apart from one that wins for all. What the host would be without that VM is another question
(``workload.without``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Influence:
    """The difference of goodput without one VM, and whether its sign is the other one then."""

    vm: str
    difference: float
    flips: bool


@dataclass(frozen=True)
class Work:
    """What VMs of a policy earned and were asked for in seconds, ``[window, vm]``, and their weights ``[vm]``."""

    earned_s: npt.NDArray[np.float64]
    asked_s: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]

    def goodput(self, counts: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.float64]:
        """Of the VMs that count (all if not told), ``[window]``; NaN in a window in which they are asked for nothing."""
        weight = self.weight if counts is None else self.weight * counts
        asked = self.asked_s @ weight
        return np.asarray(np.divide(self.earned_s @ weight, asked, out=np.full(len(asked), np.nan), where=asked > 0.0))


def influence(one: Work, other: Work, names: Sequence[str]) -> list[Influence]:
    """The mean difference (one less other) over windows without each VM, the largest change first; none where there is one VM.

    Raises ValueError where the two are not of the same windows and VMs.
    """
    if one.earned_s.shape != other.earned_s.shape or one.earned_s.shape[1] != len(names):
        raise ValueError(
            f"shapes {one.earned_s.shape} and {other.earned_s.shape} with {len(names)} names; they must agree"
        )
    if len(names) < 2:
        return []
    whole = _difference(one, other, np.ones(len(names), np.bool_))
    found = list[Influence]()
    for vm, name in enumerate(names):
        left = _difference(one, other, np.arange(len(names)) != vm)
        found.append(Influence(name, left, left * whole < 0.0))
    return sorted(found, key=lambda each: (-abs(each.difference - whole), each.vm))


def _difference(one: Work, other: Work, counts: npt.NDArray[np.bool_]) -> float:
    return float(np.nanmean(one.goodput(counts) - other.goodput(counts)))
