"""Recurrent PPO of sb3-contrib: as ``ppo``, with an LSTM between encoder and head that remembers each VM's past (``shared``).

Source: the implementation is sb3-contrib's; Pleines et al., arXiv:2205.11104, on what recurrence brings to PPO.
"""

from dataclasses import dataclass
from typing import Any

from hvgym.agents.learned.ppo import PPOTrainer
from hvgym.envs.schema import number


@dataclass(frozen=True)
class RecurrentPPOTrainer(PPOTrainer):
    """The ``train`` keys of ``conf/agent/recurrent_ppo.yaml``; width is of its memory too, at least 1."""

    width: int = number(16, least=1, most=4096)

    @property
    def algorithm(self) -> Any:
        """See `SB3Trainer`."""
        from sb3_contrib import RecurrentPPO

        return RecurrentPPO

    def model(self, env: Any, seed: int) -> Any:
        """See `SB3Trainer`."""
        from hvgym.agents.learned.policies import SharedRecurrentPolicy

        return self._model(env, seed, SharedRecurrentPolicy)
