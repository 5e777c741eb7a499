"""What a training tells of itself after each rollout and the update that follows; it looks, and changes no bit."""

import math
from collections.abc import Callable

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from hvgym.agents.learned.training import Update


class Updates(BaseCallback):
    """Calls `watch` after every update. Stable-Baselines3 has no hook there: the next rollout begins, or the training ends."""

    def __init__(self, watch: Callable[[Update], None]) -> None:
        super().__init__()
        self._watch, self._rewards, self._updated = watch, list[float](), False

    def _on_step(self) -> bool:
        # taken now: Stable-Baselines3 later adds the value of what a time limit cut off
        self._rewards.append(float(np.mean(self.locals["rewards"])))
        return True

    def _on_rollout_end(self) -> None:
        self._updated = True

    def _on_rollout_start(self) -> None:
        self._tell()

    def _on_training_end(self) -> None:
        self._tell()

    def _tell(self) -> None:
        if not self._updated:
            return
        known = self.logger.name_to_value
        loss = float(
            known.get("train/loss", known.get("train/critic_loss", math.nan))
        )  # SAC has two, of which one is told
        entropy = -float(known.get("train/entropy_loss", math.nan))
        held = getattr(self.training_env, "lagrangian", None)
        bound = (held.multiplier, held.seconds) if held is not None else ()
        self._watch(Update(self.num_timesteps, float(np.mean(self._rewards)), loss, entropy, *bound))
        self._rewards, self._updated = [], False
