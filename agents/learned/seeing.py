"""What the shared network sees of a host's VMs, and how its answers are read: the same in training and when it plays."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hvgym.envs.actions import KEYS, STEP, ActionMap
from hvgym.envs.errors import InputError, shown
from hvgym.envs.telemetry import Targets, Telemetry
from hvgym.envs.view import HOST_FEATURES, VM_FEATURES, View

FEATURES = (*VM_FEATURES, *HOST_FEATURES)
"""Of a VM, its host's beside its own; the first is 1 where there is a VM."""

HOST, VM = len(HOST_FEATURES), len(VM_FEATURES)


@dataclass(frozen=True)
class Acting:
    """How answers are read (``envs.actions``). The network answers for each VM; what is the host's (``OF_HOSTS``) is the mean of
    what it says beside its VMs. Raises `InputError` for channels that there are not."""

    action: str = "relative"
    step: float = STEP
    channels: tuple[str, ...] = ("memory",)

    def __post_init__(self) -> None:
        if not self.channels or any(channel not in KEYS for channel in self.channels):
            raise InputError(f"channels={shown(list(self.channels))}: choose of {', '.join(KEYS)}")
        self._map(1)

    @property
    def answers(self) -> int:
        """How many numbers the network says beside each VM."""
        return len(self.channels)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @staticmethod
    def of(data: Any) -> "Acting":
        """What `plain` gave. Raises `ValueError` for anything else."""
        try:
            return Acting(str(data["action"]), float(data["step"]), tuple(map(str, data["channels"])))
        except (InputError, KeyError, TypeError) as error:
            raise ValueError(f"acting: {error}") from None

    def _map(self, vms: int) -> ActionMap:
        return ActionMap(vms, self.action, self.step, self.channels)

    def targets(self, answers: np.ndarray, telemetry: Telemetry) -> Targets:
        """What answers ``[env, channel, vm]`` in [-1, 1] ask for."""
        vms = answers.shape[-1]
        return self._map(vms).targets(self.actions(answers.astype(np.float32), vms), telemetry)

    def actions(self, answers: np.ndarray, vms: int) -> np.ndarray:
        """As an environment takes them, ``[env, entry]``: answers ``[env, channel, place]``, of which the first places are VMs."""
        of_vms = self._map(vms).of_vms
        found = answers[:, : len(of_vms)].reshape(len(answers), -1)
        if len(of_vms) == len(self.channels):
            return found
        total = np.zeros((len(answers), len(self.channels) - len(of_vms)))
        for vm in range(vms):  # in their order, however many lanes there are
            total += answers[:, len(of_vms) :, vm]
        return np.concatenate([found, (total / vms).astype(found.dtype)], axis=1)


class Eyes:
    """Looks at successive readings of a batch."""

    def __init__(self) -> None:
        self._view = View()

    def look(self, telemetry: Telemetry) -> np.ndarray:
        """Features ``[env, vm, feature]``, in the order of `FEATURES`."""
        vm, host = self._view.look(telemetry)
        return np.concatenate([vm, np.broadcast_to(host, (*vm.shape[:2], HOST))], axis=-1)
