"""How actions of VMs are drawn while a policy learns: VMs that are not there draw nothing, and count for nothing.

Three ways, all normal around what the network says. `VmNoise` draws each VM's action anew at each decision. `HeldVmNoise` holds
what it draws: a weight for each entry of a VM's latent, for a rollout or some decisions of it, so that what is tried is a
policy (gSDE: Raffin et al., arXiv:2005.05719; each VM's draw is its own). `SquashedVmNoise` is SAC's, squashed by tanh.
"""

from typing import Any

import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution, SquashedDiagGaussianDistribution
from torch.distributions import Normal

LEAST_STD = 1e-3
"""Of held noise, where a latent is all zero: a density needs some width (a guess)."""


class VmNoise(DiagGaussianDistribution):
    """One deviation for all VMs."""

    present: torch.Tensor

    def proba_distribution(self, mean: Any, log_std: Any, present: Any = None, codes: Any = None) -> "VmNoise":
        """mean, present ``[env, vm]``; codes: what held noise weighs."""
        self.present = torch.ones_like(mean) if present is None else present
        self.distribution = Normal(mean, self._std(mean, log_std, codes))
        return self

    def _std(self, mean: torch.Tensor, log_std: torch.Tensor, codes: Any) -> torch.Tensor:
        return torch.ones_like(mean) * log_std.exp()

    def log_prob(self, actions: torch.Tensor) -> torch.Tensor:
        """Of actions ``[env, vm]``, sum over VMs that are there."""
        return (self.distribution.log_prob(actions) * self.present).sum(-1)

    def entropy(self) -> torch.Tensor:
        """Sum over VMs that are there."""
        return (self.distribution.entropy() * self.present).sum(-1)

    def sample(self) -> torch.Tensor:
        """Actions ``[env, vm]``; 0 where there is no VM."""
        return self.distribution.rsample() * self.present


class HeldVmNoise(VmNoise):
    """`hold` draws weights; they serve until the next."""

    def __init__(self, vms: int) -> None:
        super().__init__(vms)
        self.weights = torch.zeros(0)

    def hold(self, log_std: torch.Tensor, lanes: int) -> None:
        """Draw for so many lanes."""
        shape = (lanes, self.action_dim, len(log_std))
        self.weights = torch.randn(shape) * log_std.detach().exp()

    def _std(self, mean: torch.Tensor, log_std: torch.Tensor, codes: Any) -> torch.Tensor:
        self._codes = codes.detach()
        return ((self._codes**2) @ (2.0 * log_std).exp()).add(LEAST_STD**2).sqrt()

    def sample(self) -> torch.Tensor:
        """See `VmNoise`."""
        return (self.distribution.mean + (self._codes * self.weights).sum(-1)) * self.present


class SquashedVmNoise(SquashedDiagGaussianDistribution):
    """Of SAC; a deviation for each VM and state."""

    def proba_distribution(self, mean: Any, log_std: Any, present: Any = None) -> "SquashedVmNoise":
        """All ``[env, vm]``."""
        self.present = present
        self.distribution = Normal(mean, torch.ones_like(mean) * log_std.exp())
        return self

    def actions_from_params(self, mean: Any, log_std: Any, deterministic: bool = False, present: Any = None) -> Any:
        """Draw, or take the mode."""
        self.proba_distribution(mean, log_std, present)
        return self.get_actions(deterministic) * present

    def log_prob_from_params(self, mean: Any, log_std: Any, present: Any = None) -> tuple[Any, Any]:
        """Drawn actions, and their density over VMs that are there."""
        self.proba_distribution(mean, log_std, present)
        drawn = self.distribution.rsample()
        actions = torch.tanh(drawn)
        dense = self.distribution.log_prob(drawn) - torch.log(1.0 - actions**2 + self.epsilon)
        return actions * present, (dense * present).sum(-1)
