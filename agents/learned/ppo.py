"""PPO of Stable-Baselines3 with the shared network (``sb3``, ``shared``).

`exploration` says how actions are drawn: each anew (gaussian), or by weights that are held for `held` decisions (gsde).

Source: Schulman et al., arXiv:1707.06347; the implementation is Stable-Baselines3's. docs/learning-ppo.md says which of the keys
of ``conf/agent/ppo.yaml`` matter.
"""

from dataclasses import dataclass
from typing import Any, Literal

from hvgym.agents.learned.sb3 import SB3Trainer
from hvgym.envs.schema import number


@dataclass(frozen=True)
class PPOTrainer(SB3Trainer):
    """The ``train`` keys of ``conf/agent/ppo.yaml``."""

    n_steps: int = number(32, least=1)
    batch_size: int = number(1024, least=2)
    n_epochs: int = number(4, least=1)
    gae_lambda: float = number(0.95, above=0, most=1)
    clip_range: float = number(0.2, above=0)
    ent_coef: float = number(0.0, least=0)
    exploration: Literal["gaussian", "gsde"] = "gaussian"
    held: int = number(8, least=1)
    log_std_init: float = number(-1.0)

    @property
    def decisions_between(self) -> int:
        """See `SB3Trainer`: a rollout."""
        return self.n_steps

    @property
    def at_once(self) -> int:
        """See `SB3Trainer`."""
        return self.n_steps * self.envs

    @property
    def algorithm(self) -> Any:
        """See `SB3Trainer`."""
        from stable_baselines3 import PPO

        return PPO

    def model(self, env: Any, seed: int) -> Any:
        """See `SB3Trainer`."""
        from hvgym.agents.learned.policies import SharedPolicy

        return self._model(env, seed, SharedPolicy)

    def _model(self, env: Any, seed: int, policy: Any) -> Any:
        return self.algorithm(
            policy,
            env,
            n_steps=self.n_steps,
            batch_size=min(self.batch_size, self.at_once),
            n_epochs=self.n_epochs,
            learning_rate=self.learning_rate,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
            clip_range=self.clip_range,
            ent_coef=self.ent_coef,
            use_sde=self.exploration == "gsde",
            sde_sample_freq=self.held if self.exploration == "gsde" else -1,
            policy_kwargs=self.network_of(env) | {"log_std_init": self.log_std_init},
            seed=seed,
            device="cpu",
        )
