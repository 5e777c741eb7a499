"""SAC of Stable-Baselines3 with the shared network (``sb3``, ``shared``): learns from a buffer of what it has seen, off policy.

The entropy that it seeks is -1 for each VM of the mean host, as Haarnoja et al. have it for each dimension of an action. The
buffer is part of every checkpoint: `buffer_size` decisions of 2 x 4 x (features of a padded host) bytes.

Source: Haarnoja et al., arXiv:1812.05905; the implementation is Stable-Baselines3's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hvgym.agents.learned.sb3 import SB3Trainer
from hvgym.envs.schema import number


@dataclass(frozen=True)
class SACTrainer(SB3Trainer):
    """The ``train`` keys of ``conf/agent/sac.yaml``. train_freq: decisions of each host between two updates; gradient_steps: of an
    update; learning_starts: decisions before the first."""

    buffer_size: int = number(50_000, least=1)
    learning_starts: int = number(5_000, least=0)
    batch_size: int = number(256, least=1)
    tau: float = number(0.005, above=0, most=1)
    train_freq: int = number(4, least=1)
    gradient_steps: int = number(4, least=1)
    log_std_init: float = number(-1.0)

    @property
    def at_once(self) -> int:
        """See `SB3Trainer`."""
        return self.train_freq * self.envs

    @property
    def algorithm(self) -> Any:
        """See `SB3Trainer`."""
        from stable_baselines3 import SAC

        return SAC

    def model(self, env: Any, seed: int) -> Any:
        """See `SB3Trainer`."""
        from hvgym.agents.learned.policies import SharedSACPolicy

        played = [len(part.scenario.groups) * self.acting.answers for part in env.parts]
        return self.algorithm(
            SharedSACPolicy,
            env,
            buffer_size=self.buffer_size,
            learning_starts=self.learning_starts,
            batch_size=self.batch_size,
            tau=self.tau,
            train_freq=(self.train_freq, "step"),
            gradient_steps=self.gradient_steps,
            learning_rate=self.learning_rate,
            gamma=self.gamma,
            target_entropy=-float(np.mean(played)),
            policy_kwargs=self.network_of(env) | {"log_std_init": self.log_std_init},
            seed=seed,
            device="cpu",
        )
