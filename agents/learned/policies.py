"""The shared network as policy classes of Stable-Baselines3 and sb3-contrib: for PPO, recurrent PPO, SAC and ARS.

Each takes `layout` (``shared.Layout``), `width` of the codes, `attention`, and `start`, the action before anything is learnt.
"""

from typing import Any

import torch
from sb3_contrib.ars.policies import ARSPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy, ContinuousCritic
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN, Actor, SACPolicy
from torch import nn

from hvgym.agents.learned.noise import HeldVmNoise, SquashedVmNoise, VmNoise
from hvgym.agents.learned.shared import Head, Latent, Layout, RecurrentLatent, Value, unpack


class _Codes(nn.Module):
    """What Stable-Baselines3 calls ``mlp_extractor``: latents of actor and critic, each with layers of its own."""

    def __init__(self, actor: nn.Module | None, critic: nn.Module | None, value: Value) -> None:
        super().__init__()
        self.actor, self.critic, self.value = actor, critic, value

    def forward(self, features: torch.Tensor) -> tuple[Any, Any]:
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: torch.Tensor) -> Any:
        return features if self.actor is None else self.actor(features)

    def forward_critic(self, features: torch.Tensor) -> Any:
        return self.value(features if self.critic is None else self.critic(features))


class _ActorCritic(ActorCriticPolicy):
    """What feedforward and recurrent PPO share."""

    _recurrent = False

    def __init__(
        self, *args: Any, layout: Layout, width: int, attention: bool = False, start: float = 0.0, **others: Any
    ) -> None:
        self._layout, self._width, self._attention, self._start = Layout(*layout), width, attention, start
        super().__init__(*args, **others)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {"layout": tuple(self._layout), "width": self._width, "attention": self._attention, "start": self._start}
        return super()._get_constructor_parameters() | own

    def _build(self, lr_schedule: Any) -> None:
        layout, width = self._layout, self._width
        size, of_value = width + layout.seen, max(width, 32)
        apart = [None if self._recurrent else Latent(layout, width, self._attention) for _ in range(2)]
        self.mlp_extractor = _Codes(apart[0], apart[1], Value(size, layout.vms, of_value))
        self.action_net = Head(size, layout, self._start)
        self.value_net = nn.Linear(of_value, 1)
        actions = layout.vms * layout.channels
        self.action_dist = HeldVmNoise(actions) if self.use_sde else VmNoise(actions)
        drawn = size if self.use_sde else 1
        self.log_std = nn.Parameter(torch.full((drawn,), float(self.log_std_init)))
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _get_action_dist_from_latent(self, latent_pi: torch.Tensor) -> VmNoise:
        codes, present = unpack(latent_pi, self._layout.vms)
        channels = self._layout.channels
        assert isinstance(self.action_dist, VmNoise)
        return self.action_dist.proba_distribution(
            self.action_net(latent_pi), self.log_std, present.repeat(1, channels), codes.repeat(1, channels, 1)
        )

    def reset_noise(self, n_envs: int = 1) -> None:
        """Draw what is held for so many lanes; an update, which draws nothing, asks too."""
        assert isinstance(self.action_dist, HeldVmNoise)
        self.action_dist.hold(self.log_std, n_envs)


class SharedPolicy(_ActorCritic):
    """For PPO."""


class SharedRecurrentPolicy(_ActorCritic, RecurrentActorCriticPolicy):
    """For recurrent PPO: a memory for each VM, in actor and critic."""

    _recurrent = True

    def __init__(self, observation_space: Any, action_space: Any, lr_schedule: Any, **others: Any) -> None:
        super().__init__(observation_space, action_space, lr_schedule, **others)
        self.lstm_actor, self.lstm_critic = (
            RecurrentLatent(self._layout, self._width, self._attention) for _ in range(2)
        )
        self.lstm_hidden_state_shape = (1, 1, self.lstm_actor.hidden_size)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)


class _Actor(Actor):
    """SAC's: mean and deviation of each VM's action from the same latents."""

    def __init__(
        self, *args: Any, layout: Layout, width: int, attention: bool, start: float, log_std_init: float, **others: Any
    ) -> None:
        super().__init__(*args, **others)
        self._vms, self._channels, size = layout.vms, layout.channels, width + layout.seen
        self.latent_pi = Latent(layout, width, attention)
        self.mu, self.log_std = Head(size, layout, start), Head(size, layout, log_std_init)
        self.action_dist = SquashedVmNoise(layout.vms * layout.channels)

    def get_action_dist_params(self, obs: Any) -> tuple[Any, Any, dict[str, Any]]:
        latent = self.latent_pi(self.extract_features(obs, self.features_extractor))
        log_std = self.log_std(latent).clamp(LOG_STD_MIN, LOG_STD_MAX)
        present = unpack(latent, self._vms)[1].repeat(1, self._channels)
        return self.mu(latent), log_std, {"present": present}


class _Worth(nn.Module):
    """SAC's critic: what an action is worth, which each VM's layers see beside its features."""

    def __init__(self, layout: Layout, width: int, attention: bool) -> None:
        super().__init__()
        self.layout = layout
        seeing = layout._replace(vm=layout.vm + layout.channels)
        self.latent = Latent(seeing, width, attention)
        self.value, self.last = Value(self.latent.size, layout.vms, max(width, 32)), nn.Linear(max(width, 32), 1)

    def forward(self, state_and_action: torch.Tensor) -> torch.Tensor:
        """Of observation and action side by side."""
        layout = self.layout
        observation, action = state_and_action[..., : layout.size], state_and_action[..., layout.size :]
        host, vms = observation.split((layout.host, layout.vms * layout.vm), dim=-1)
        acts = action.unflatten(-1, (layout.channels, layout.vms)).transpose(-1, -2)
        own = torch.cat((vms.unflatten(-1, (layout.vms, layout.vm)), acts), dim=-1).flatten(-2)
        worth: torch.Tensor = self.last(self.value(self.latent(torch.cat((host, own), dim=-1))))
        return worth


class _Critic(ContinuousCritic):
    """Two or more of `_Worth`, in the place of Stable-Baselines3's layers."""

    def __init__(self, *args: Any, layout: Layout, width: int, attention: bool, **others: Any) -> None:
        super().__init__(*args, **others)
        self.q_networks: list[nn.Module] = [_Worth(layout, width, attention) for _ in range(self.n_critics)]
        for index, network in enumerate(self.q_networks):
            setattr(self, f"qf{index}", network)


class SharedSACPolicy(SACPolicy):
    """For SAC."""

    def __init__(
        self, *args: Any, layout: Layout, width: int, attention: bool = False, start: float = 0.0,
        log_std_init: float = -1.0, **others: Any,
    ) -> None:  # fmt: skip
        self._own = {"layout": Layout(*layout), "width": width, "attention": attention}
        self._of_actor = {"start": start, "log_std_init": log_std_init}
        super().__init__(*args, net_arch=[], log_std_init=log_std_init, **others)

    def make_actor(self, features_extractor: Any = None) -> Actor:
        """See `SACPolicy`."""
        kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor) | self._own | self._of_actor
        return _Actor(**kwargs).to(self.device)

    def make_critic(self, features_extractor: Any = None) -> ContinuousCritic:
        """See `SACPolicy`."""
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor) | self._own
        return _Critic(**kwargs).to(self.device)


class SharedARSPolicy(ARSPolicy):
    """For ARS."""

    def __init__(
        self, observation_space: Any, action_space: Any, layout: Layout, width: int, attention: bool = False,
        start: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(observation_space, action_space, net_arch=[], squash_output=False)
        layout = Layout(*layout)
        self._own = {"layout": tuple(layout), "width": width, "attention": attention, "start": start}
        self.action_net = nn.Sequential(Latent(layout, width, attention), Head(width + layout.seen, layout, start))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        spaces = {"observation_space": self.observation_space, "action_space": self.action_space}
        return spaces | self._own


def actor_of(policy: BasePolicy) -> tuple[nn.Module, nn.Module]:
    """What a policy of these plays with: its latents, and its head."""
    if isinstance(policy, SACPolicy):
        return policy.actor.latent_pi, policy.actor.mu
    if isinstance(policy, ARSPolicy):
        return policy.action_net[0], policy.action_net[1]
    if isinstance(policy, SharedRecurrentPolicy):
        return policy.lstm_actor, policy.action_net
    assert isinstance(policy, SharedPolicy)
    return policy.mlp_extractor.actor, policy.action_net


def squashes(policy: BasePolicy) -> bool:
    """Whether its answers go through tanh."""
    return isinstance(policy, SACPolicy)
