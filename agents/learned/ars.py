"""Augmented random search of sb3-contrib with the shared network: whole episodes with weights moved one way and the other.

sb3-contrib plays one set of weights after the other, each on demand of its own. Here all sets of an update play at once, on the
same `seeds` of every scenario, so the luck of a seed cancels out between them; what is done with the returns is sb3-contrib's. A
lane's reward is the part of an episode's goodput that was not lost.

Source: Mania et al., arXiv:1803.07055 (its version 2 scales observations; ours are in [0, 1] as they are).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sb3_contrib import ARS

from hvgym.agents.learned.sb3 import SB3Trainer
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import Scenario
from hvgym.envs.schema import number


@dataclass(frozen=True)
class ARSTrainer(SB3Trainer):
    """The ``train`` keys of ``conf/agent/ars.yaml``. n_delta: directions of an update, each tried both ways; n_top: those used;
    seeds: episodes of each set on each scenario."""

    width: int = number(0, least=0, most=4096)
    learning_rate: float = number(0.05, above=0)
    n_delta: int = number(8, least=1)
    n_top: int = number(4, least=1)
    delta_std: float = number(0.1, above=0)
    seeds: int = number(2, least=1)

    @property
    def algorithm(self) -> Any:
        """See `SB3Trainer`."""
        return CommonSeedsARS

    def hosts(self, scenarios: Sequence[Scenario]) -> int:
        """See `SB3Trainer`: a lane for each set, seed and scenario."""
        return 2 * self.n_delta * self.seeds * len(scenarios)

    def check(self, scenarios: Sequence[Scenario]) -> None:
        """See `Trainer`."""
        super().check(scenarios)
        if self.n_top > self.n_delta:
            raise InputError(f"agent.train.n_top={self.n_top}: at most n_delta, {self.n_delta}")

    def model(self, env: Any, seed: int) -> Any:
        """See `SB3Trainer`."""
        from hvgym.agents.learned.policies import SharedARSPolicy

        return CommonSeedsARS(
            SharedARSPolicy,
            env,
            n_delta=self.n_delta,
            n_top=self.n_top,
            learning_rate=self.learning_rate,
            delta_std=self.delta_std,
            zero_policy=False,
            n_eval_episodes=self.seeds,
            policy_kwargs=self.network_of(env),
            seed=seed,
            device="cpu",
        )


class CommonSeedsARS(ARS):
    """ARS whose sets of weights play side by side; lanes lie by scenario, then by set, then by seed."""

    first_seed = 0

    def evaluate_candidates(self, candidate_weights: torch.Tensor, callback: Any, async_eval: Any) -> torch.Tensor:
        """Mean reward of a step ``[set]``."""
        env: Any = self.env
        self.ep_info_buffer: Any = []
        callback.on_rollout_start()
        sets, shape = _stacked(self.policy.action_net, candidate_weights), (-1, self.pop_size, self.n_eval_episodes)
        first = self.first_seed + self._n_updates * self.n_eval_episodes
        lanes = np.arange(env.num_envs) % self.n_eval_episodes
        observations, total, steps = env.begin((first + lanes).tolist()), np.zeros(env.num_envs), np.zeros(env.num_envs)
        running = np.ones(env.num_envs, bool)
        while running.any():
            seen = torch.as_tensor(observations).reshape(*shape, observations.shape[-1]).transpose(0, 1).flatten(1, 2)
            answered = torch.func.vmap(self._answer)(sets, seen)
            actions = answered.unflatten(1, (-1, self.n_eval_episodes)).transpose(0, 1).flatten(0, 2).clamp(-1.0, 1.0)
            observations, rewards, dones, _ = env.step(actions.numpy())
            total += rewards * running
            steps += running
            running &= ~dones
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            callback.on_step()
        callback.on_rollout_end()
        returns = (total / steps).reshape(shape).mean(axis=(0, 2))
        return torch.as_tensor(returns, dtype=candidate_weights.dtype)

    def _answer(self, weights: dict[str, torch.Tensor], seen: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = torch.func.functional_call(self.policy.action_net, weights, (seen,))
        return answer


def _stacked(network: torch.nn.Module, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
    """Parameters by name, each with a first axis for sets, in the order of `torch.nn.utils.parameters_to_vector`."""
    found, at = {}, 0
    for name, parameter in network.named_parameters():
        found[name] = vectors[:, at : at + parameter.numel()].reshape(len(vectors), *parameter.shape)
        at += parameter.numel()
    return found
