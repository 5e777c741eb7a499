"""PPO in one file, read from top to bottom, on hvgym's batched environment: torch, numpy and gymnasium, no Stable-Baselines3.

    python docs/cleanrl_ppo.py --scenario idle-giants --steps 300000 --out mine/best.npz
    hvgym bench scenario=[idle-giants] agents=[single_file,proxmox] checkpoints={single_file:mine/best.npz} \\
        --config-dir docs/bring_your_own

What it trains is a small network that all VMs share: features of one VM and of its host in, one number in [-1, 1] out, by which the
size that the VM is asked to have moves. The class that plays it in ``bench`` is docs/bring_your_own/agent/single_file.py, its YAML
beside it. It follows the habits of CleanRL's ppo_continuous_action.py (Huang et al., JMLR 23, 2022); the code is our own.
"""

import argparse
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch import nn

import hvgym  # noqa: F401 - registers hvgym/Host
from hvgym.envs.view import HOST_FEATURES, VM_FEATURES

HOST, VM = len(HOST_FEATURES), len(VM_FEATURES)


def arguments() -> argparse.Namespace:
    """What one may choose, and what it is otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="idle-giants")
    parser.add_argument("--hypervisor", default=None)
    parser.add_argument("--out", type=Path, default=Path("best.npz"))
    parser.add_argument(
        "--seed", type=int, default=0, help="of the network and of its demand, whose seeds it counts on from"
    )
    parser.add_argument("--steps", type=int, default=300_000, help="control intervals of a host, all in all")
    parser.add_argument("--envs", type=int, default=32)
    parser.add_argument("--rollout", type=int, default=64, help="control intervals between two updates")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--minibatches", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--gae-lambda", type=float, default=0.95)
    parser.add_argument("--clip", type=float, default=0.2)
    parser.add_argument("--entropy", type=float, default=0.0)
    parser.add_argument("--width", type=int, default=32)
    return parser.parse_args()


def layers(inputs: int, width: int, last_gain: float) -> nn.Sequential:
    """Two layers, drawn orthogonally."""
    made = nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, 1))
    for layer, gain in ((made[0], 2**0.5), (made[2], last_gain)):
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)
    return made


class Agent(nn.Module):
    """An actor for each VM, the same for all, and a critic of the whole host: the mean over VMs of what it makes of each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.actor, self.critic = layers(VM + HOST, width, 0.01), layers(VM + HOST, width, 1.0)
        self.log_std = nn.Parameter(torch.tensor(-1.0))

    def forward(self, observations: torch.Tensor) -> tuple[torch.distributions.Normal, torch.Tensor]:
        """How actions ``[env, vm]`` are drawn, and values ``[env]``."""
        host, vms = observations[:, :HOST], observations[:, HOST:].unflatten(1, (-1, VM))
        seen = torch.cat((vms, host.unsqueeze(1).expand(-1, vms.shape[1], -1)), dim=2)
        means, values = self.actor(seen).squeeze(2), self.critic(seen).squeeze(2).mean(dim=1)
        return torch.distributions.Normal(means, self.log_std.exp()), values


Rollout = dict[str, torch.Tensor]
"""Parts ``[step, env, …]``; `last` is what was seen in the end, and `ended` ``[env]`` which lanes' episodes were over then."""


def play(env: gym.vector.VectorEnv, agent: Agent, seen: torch.Tensor, ended: torch.Tensor, steps: int) -> Rollout:
    """Go on from where the last rollout ended. A reward is ten times the goodput that was lost, negative. A lane whose episode is
    over begins anew in the next step, which counts for nothing: `begins`."""
    kept: dict[str, list[torch.Tensor]] = {
        name: [] for name in ("seen", "action", "log_prob", "value", "reward", "begins")
    }
    for _ in range(steps):
        with torch.no_grad():
            drawn, value = agent(seen)
            action = drawn.sample()
        following, goodput, _, truncated, _ = env.step(action.numpy().clip(-1.0, 1.0))
        reward = torch.as_tensor(10.0 * (goodput - 1.0), dtype=torch.float32)
        log_prob = drawn.log_prob(action).sum(1)
        for name, part in zip(kept, (seen, action, log_prob, value, reward, ended), strict=True):
            kept[name].append(part)
        seen, ended = torch.as_tensor(following), torch.as_tensor(truncated, dtype=torch.float32)
    return {name: torch.stack(parts) for name, parts in kept.items()} | {"last": seen, "ended": ended}


def advantages(rollout: Rollout, last_value: torch.Tensor, gamma: float, lam: float) -> torch.Tensor:
    """Generalised advantage estimates ``[step, env]``; an episode ends by the clock, so what comes after still has its value."""
    values = torch.cat((rollout["value"], last_value[None]))
    found, following = torch.zeros_like(rollout["reward"]), torch.zeros_like(last_value)
    for step in reversed(range(len(found))):
        begins = rollout["begins"][step]  # this step only resets the lane: nothing of what follows is due to it
        error = rollout["reward"][step] + gamma * values[step + 1] - values[step]
        following = (1.0 - begins) * (error + gamma * lam * following)
        found[step] = following
    return found


def update(agent: Agent, optimiser: torch.optim.Optimizer, rollout: Rollout, chosen: argparse.Namespace) -> float:
    """PPO's clipped objective over a rollout; the last loss."""
    with torch.no_grad():
        gained = advantages(rollout, agent(rollout["last"])[1], chosen.gamma, chosen.gae_lambda)
    flat = {name: part.flatten(0, 1) for name, part in rollout.items() if name not in ("last", "ended")}
    gains, counts = gained.flatten(), flat["begins"] == 0.0
    goals = gains + flat["value"]
    loss = torch.zeros(())
    for _ in range(chosen.epochs):
        for rows in torch.randperm(len(gains)).chunk(chosen.minibatches):
            rows = rows[counts[rows]]
            drawn, value = agent(flat["seen"][rows])
            ratio = (drawn.log_prob(flat["action"][rows]).sum(1) - flat["log_prob"][rows]).exp()
            gain = (gains[rows] - gains[rows].mean()) / (gains[rows].std() + 1e-8)
            bound = ratio.clamp(1.0 - chosen.clip, 1.0 + chosen.clip)
            loss = -torch.min(ratio * gain, bound * gain).mean() + 0.5 * (value - goals[rows]).pow(2).mean()
            loss = loss - chosen.entropy * drawn.entropy().sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimiser.step()
    return loss.item()


def save(agent: Agent, path: Path) -> None:
    """Plain arrays, which run nothing when they are read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: tensor.numpy() for name, tensor in agent.actor.state_dict().items()})


def main(chosen: argparse.Namespace) -> None:
    """Train, a line an update; the last network is what is left."""
    torch.manual_seed(chosen.seed)
    torch.set_num_threads(1)
    keywords = {} if chosen.hypervisor is None else {"hypervisor": chosen.hypervisor}
    env = gym.make_vec("hvgym/Host-v1", num_envs=chosen.envs, scenario=chosen.scenario, channels=["memory"], **keywords)
    agent = Agent(chosen.width)
    optimiser = torch.optim.Adam(agent.parameters(), lr=chosen.learning_rate, eps=1e-5)
    seen, ended, began = (
        torch.as_tensor(env.reset(seed=chosen.seed * 1_000_000)[0]),
        torch.zeros(chosen.envs),
        time.monotonic(),
    )
    at_once = chosen.rollout * chosen.envs
    for number in range(1, -(-chosen.steps // at_once) + 1):
        rollout = play(env, agent, seen, ended, chosen.rollout)
        seen, ended = rollout["last"], rollout["ended"]
        goodput = 1.0 + float(rollout["reward"][rollout["begins"] == 0.0].mean()) / 10.0
        loss = update(agent, optimiser, rollout, chosen)
        save(agent, chosen.out)
        steps, per_s = number * at_once, number * at_once / (time.monotonic() - began)
        print(f"{steps:>10,} steps  goodput {goodput:.4f}  loss {loss:.3f}  {per_s:,.0f} steps/s", flush=True)
    print(chosen.out)


if __name__ == "__main__":
    main(arguments())
