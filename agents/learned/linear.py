"""One linear map for all VMs: how fast each one's memory should grow or shrink, from its view (``view``).

The size that a VM is asked to have moves by at most `step` of its configured memory each `period_s`: by step x s(w . x), with x
the VM's features, w the weights that all VMs share, and s(z) = z / (1 + |z|). So it works for any number of VMs on any host, and
what a weight does can be read.

Fails when: what matters is not in the view (what a VM will touch next); demand differs from all that it was trained on.

Edge cases. Statistics that are missing (none, Windows', frozen, not of this hypervisor) read 0, and a feature says so. Weights
decide what that means. A VM that is not running is left alone. Minimums hold, limits are features; a VM that starts grows from
the size that it was told to start with.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from hvgym.agents.learned.searched import Searched
from hvgym.agents.learned.view import FEATURES, View
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


class SharedLinear(Searched):
    """Sizes of memory; `first` makes VMs grow until something is learnt."""

    kind = "hvgym shared linear policy, version 1"
    names = FEATURES
    first: ClassVar[Mapping[str, float]] = {"constant": 0.3}
    settings: ClassVar[Mapping[str, float | str]] = {"step": 0.1, "period_s": 10.0}
    visibility = Visibility.P1
    step: float
    least_share: float = 0.0
    """Of its memory, below which no VM is asked to go."""

    @property
    def applied(self) -> np.ndarray:
        """Weights by which it decides, ``[1 or env, feature]``."""
        return self.weights

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._view = View()

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        pull = shared(self.applied, self._view.look(telemetry.seen_with(self.visibility)))
        vm = telemetry.vm
        asked = np.where(np.isnan(vm["target_mib"]), vm["size_mib"], vm["target_mib"])
        wanted = asked + self.step * vm["memory_mib"] * pull / (1.0 + np.abs(pull))
        least = np.maximum(np.nan_to_num(vm["min_mib"]), self.least_share * vm["memory_mib"])
        held = np.clip(wanted, least, vm["memory_mib"])
        return Targets(np.where(vm["running"] > 0.0, held, np.nan))


def shared(weights: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Sum of weights ``[lane, feature]`` (one lane for all, or each its own) x features ``[env, vm, feature]``: ``[env, vm]``."""
    found = np.zeros(seen.shape[:-1])
    for feature in range(seen.shape[-1]):  # in this order on every machine, where a product of matrices has its own
        found += weights[:, feature : feature + 1] * seen[..., feature]
    return found
