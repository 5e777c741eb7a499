"""One network for all VMs, in torch: what is learnt of one VM holds for each, and any number of them can be played.

An observation is flat and padded (``envs.view``): features of the host, then features of each VM in turn, the first of which is 1
where there is a VM and 0 in a place that is left empty (`Layout`).
Every VM, with its host's features beside its own, goes through the same layers (`Encoder`): a code of its own; mean and greatest
of all codes, and where `attention` is asked for what it attends to of the others'; a second code of all that. A VM's action is one
linear map of its second code and of its features (`Head`); the value of a state comes from mean and greatest of second codes
(`Value`). So permuting VMs permutes actions, and padding changes nothing (Zaheer et al., Deep Sets, arXiv:1703.06114).

The activation is x / (1 + |x|): sums, products and quotients alone, the same bits on every machine where ``actor`` plays it.
width 0 leaves the linear map of the features, as evolution strategies search it.
"""

from typing import Any, NamedTuple

import torch
from torch import nn

NOWHERE = -1e9
"""What attends to a VM that is not there; not infinite, because where nobody is (padding in time) the rest would be NaN."""


class Layout(NamedTuple):
    """Of padded observations and actions: features of the host, features of a VM, places for VMs, and what is decided of each."""

    host: int
    vm: int
    vms: int
    channels: int = 1

    @property
    def size(self) -> int:
        """Length of an observation."""
        return self.host + self.vms * self.vm

    @property
    def seen(self) -> int:
        """Features that a VM's layers see: its own, and its host's."""
        return self.vm + self.host


def split(observations: torch.Tensor, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """Features ``[..., vm, feature]`` and who is there ``[..., vm]``, of observations ``[..., input]``."""
    host, vms = observations.split((layout.host, layout.vms * layout.vm), dim=-1)
    own = vms.unflatten(-1, (layout.vms, layout.vm))
    hosts = host.unsqueeze(-2).expand(*host.shape[:-1], layout.vms, layout.host)
    return torch.cat((own, hosts), dim=-1), own[..., 0]


def pack(codes: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Flat latents, as Stable-Baselines3 hands them on: codes of all VMs, and who is there."""
    return torch.cat((codes.flatten(-2), present), dim=-1)


def unpack(latent: torch.Tensor, vms: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What `pack` packed."""
    codes, present = latent[..., :-vms], latent[..., -vms:]
    return codes.unflatten(-1, (vms, -1)), present


def pooled(codes: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Mean and greatest of the codes of VMs that are there; codes lie above -1."""
    there = present.unsqueeze(-1)
    mean = (codes * there).sum(-2) / there.sum(-2).clamp(min=1.0)
    greatest = torch.where(there > 0.0, codes, -1.0).amax(-2)
    return torch.cat((mean, greatest), dim=-1)


class Encoder(nn.Module):
    """Codes of VMs ``[..., vm, width]`` from their features; see the module."""

    def __init__(self, layout: Layout, width: int, attention: bool) -> None:
        super().__init__()
        self.layout, self.width, self.attention = layout, width, attention
        self.each = nn.Linear(layout.seen, width)
        self.both = nn.Linear((4 if attention else 3) * width, width)
        self.attend = nn.Linear(width, 3 * width) if attention else None

    def forward(self, seen: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """seen ``[..., vm, feature]``, present ``[..., vm]``."""
        codes = nn.functional.softsign(self.each(seen))
        all_of_them = pooled(codes, present).unsqueeze(-2).expand(*codes.shape[:-1], 2 * self.width)
        parts = [codes, all_of_them]
        if self.attend is not None:
            parts.append(self._attended(codes, present))
        return nn.functional.softsign(self.both(torch.cat(parts, dim=-1)))

    def _attended(self, codes: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Of all VMs, by one head of attention (Vaswani et al., arXiv:1706.03762), squashed like a code."""
        assert self.attend is not None
        asks, answers, values = self.attend(codes).chunk(3, dim=-1)
        fits = asks @ answers.transpose(-1, -2) / self.width**0.5
        weights = fits.masked_fill(present.unsqueeze(-2) <= 0.0, NOWHERE).softmax(-1)
        return nn.functional.softsign(weights @ values)


class Latent(nn.Module):
    """What a head decides on of each VM, packed: its code, and its features as they are."""

    def __init__(self, layout: Layout, width: int, attention: bool = False) -> None:
        super().__init__()
        self.layout, self.size = layout, width + layout.seen
        self.encoder = Encoder(layout, width, attention) if width else None

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Latents ``[..., packed]`` of observations ``[..., input]``."""
        seen, present = split(observations, self.layout)
        codes = seen if self.encoder is None else torch.cat((self.encoder(seen, present), seen), dim=-1)
        return pack(codes, present)


class RecurrentLatent(nn.Module):
    """As `Latent`, with a memory of its own for each VM between encoder and head: one LSTM for all. It stands where
    Stable-Baselines3 expects an ``nn.LSTM``, whose state holds that of all VMs in turn."""

    def __init__(self, layout: Layout, width: int, attention: bool = False) -> None:
        super().__init__()
        self.layout, self.width = layout, width
        self.encoder, self.cell = Encoder(layout, width, attention), nn.LSTM(width, width)
        self.input_size, self.hidden_size, self.num_layers = layout.size, layout.vms * width, 1

    def forward(self, observations: torch.Tensor, state: tuple[Any, Any]) -> tuple[torch.Tensor, tuple[Any, Any]]:
        """Latents ``[time, env, packed]`` of observations ``[time, env, input]``, and the state ``[1, env, vm x width]``."""
        seen, present = split(observations, self.layout)
        times, lanes, vms = present.shape
        codes = self.encoder(seen, present).reshape(times, lanes * vms, self.width)
        before = tuple(part.reshape(1, lanes * vms, self.width).contiguous() for part in state)
        kept, after = self.cell(codes, before)
        latent = pack(torch.cat((kept.reshape(times, lanes, vms, self.width), seen), dim=-1), present)
        hidden, cell = (part.reshape(1, lanes, vms * self.width) for part in after)
        return latent, (hidden, cell)


class Head(nn.Module):
    """What is decided of each VM, ``[..., channel x vm]`` as the environment has it, from packed latents; 0 where there is none."""

    def __init__(self, size: int, layout: Layout, start: float) -> None:
        super().__init__()
        self.vms, self.linear = layout.vms, nn.Linear(size, layout.channels)
        with torch.no_grad():
            self.linear.weight.mul_(0.01)  # as Stable-Baselines3 scales its own: nothing is preferred yet
            self.linear.bias.fill_(start)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """See the class."""
        codes, present = unpack(latent, self.vms)
        return (self.linear(codes) * present.unsqueeze(-1)).transpose(-1, -2).flatten(-2)


class Value(nn.Module):
    """A code of the whole state ``[..., width]`` from packed latents."""

    def __init__(self, size: int, vms: int, width: int) -> None:
        super().__init__()
        self.vms, self.linear = vms, nn.Linear(2 * size, width)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return nn.functional.softsign(self.linear(pooled(*unpack(latent, self.vms))))
