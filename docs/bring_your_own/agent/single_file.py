"""What docs/cleanrl_ppo.py trained, as a policy: the same features, the same small network, the same reading of its numbers."""

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.actions import ActionMap
from hvgym.envs.errors import InputError
from hvgym.envs.telemetry import Targets, Telemetry, Visibility
from hvgym.envs.view import View


class SingleFile(Policy):
    """`checkpoint`: the .npz that it left. It decides every 5 s, the control interval on which it was trained."""

    visibility = Visibility.P1

    def __init__(self, checkpoint: str | None = None, period_s: float = 5.0) -> None:
        if checkpoint is None:
            raise InputError("agent.checkpoint is missing; name what docs/cleanrl_ppo.py left")
        self.period_s = period_s
        with np.load(checkpoint, allow_pickle=False) as kept:
            self._first, self._last = ((kept[f"{at}.weight"], kept[f"{at}.bias"]) for at in (0, 2))

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._view = View()

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        vms, hosts = self._view.look(telemetry)
        seen = np.concatenate((vms, np.broadcast_to(hosts, (*vms.shape[:2], hosts.shape[2]))), axis=2).astype(
            np.float32
        )
        code = np.tanh(seen @ self._first[0].T + self._first[1])
        numbers = np.clip((code @ self._last[0].T + self._last[1])[..., 0], -1.0, 1.0)
        return ActionMap(vms.shape[1]).targets(numbers.astype(np.float32), telemetry)
