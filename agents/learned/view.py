"""The view of learners (``envs.view``) as `SharedLinear` takes it: of each VM its own features, then those of its host."""

import numpy as np

from hvgym.envs import view
from hvgym.envs.telemetry import Telemetry

FEATURES = ("constant", *view.VM_FEATURES[1:], *view.HOST_FEATURES)
"""Names of the last axis of what `View.look` answers; ``present`` of a VM that is there is the constant, 1."""


class View:
    """Looks at successive readings and keeps their averages."""

    def __init__(self) -> None:
        self._view = view.View()

    def look(self, telemetry: Telemetry) -> np.ndarray:
        """Features ``[env, vm, feature]``; of the first reading rates are 0, and averages are that reading."""
        vms, hosts = self._view.look(telemetry)
        return np.concatenate([vms, np.broadcast_to(hosts, (*vms.shape[:2], hosts.shape[2]))], axis=2)
