"""PPO from Stable-Baselines3: training with checkpoints and validation, and the trained network as a `Policy`.

The learner sees the observation of ``view`` (profile P1) and acts every control interval. The best model by
validation score, on seeds that training never draws, is what training returns. A checkpoint holds the network, its
optimiser, the hosts in mid-episode and every generator, so that a resumed training ends in the same bits as one that
was never interrupted. It is a pickle, one's own working file: go on with trainings of your own only. The network that is
played (``network``) is weights alone.

Source: Schulman et al., arXiv:1707.06347; the implementation is Stable-Baselines3's. Hyperparameters are in
``conf/agent/ppo.yaml``.
"""

import os
import pickle
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.learned import network
from hvgym.agents.learned.training import Task, Trained, Trainer, Update, Validation
from hvgym.agents.policy import Policy
from hvgym.envs.actions import ActionMap
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import Scenario
from hvgym.envs.schema import number
from hvgym.envs.telemetry import Targets, Telemetry, Visibility
from hvgym.envs.view import View, observation_size


@dataclass(frozen=True)
class PPOTrainer(Trainer):
    """The ``train`` keys of ``conf/agent/ppo.yaml``."""

    total_steps: int = number(1_000_000, least=1)
    envs: int = number(256, least=1, most=1_000_000)
    threads: int = number(2, least=1)
    n_steps: int = number(32, least=1)
    batch_size: int = number(2048, least=2)
    n_epochs: int = number(4, least=1)
    learning_rate: float = number(1e-3, above=0)
    gamma: float = number(0.95, above=0, most=1)
    gae_lambda: float = number(0.9, above=0, most=1)
    ent_coef: float = number(0.0, least=0)
    log_std_init: float = number(-1.0)
    initial_action: float = number(0.5, least=-1, most=1)
    hidden: tuple[int, ...] = number((64, 64), least=1)
    validations: int = number(8, least=1)

    @property
    def played_steps(self) -> int:
        """See `Trainer`: whole rollouts are played."""
        at_once = self.n_steps * self.envs
        return at_once * -(-self.total_steps // at_once)

    def check(self, scenarios: Sequence[Scenario]) -> None:
        """See `Trainer`."""
        if len(scenarios) > 1:
            names = ", ".join(scenario.name for scenario in scenarios)
            raise InputError(
                f"ppo: its network is of one number of VMs, and trains on one scenario of {names}; es takes several"
            )

    def train(self, task: Task) -> Trained:
        """See `Trainer`."""
        import torch
        from stable_baselines3.common.logger import Logger

        self.check(task.scenarios)
        (scenario,) = task.scenarios
        torch.set_num_threads(1)  # faster than two for small networks, and the sum order is fixed
        task.claim(self)
        model, curve = _restore(task.folder) or (_new_model(scenario, self, task.seed, task.first_seed), [])
        model.set_logger(
            Logger(folder=None, output_formats=[])
        )  # SB3's own would leave a folder in /tmp for each stage
        every = -(-self.total_steps // self.validations)
        while not curve or curve[-1].steps < self.total_steps:
            # a rollout may go beyond several goals: a network is validated once, at the last one that it passed
            goal = min(every * (model.num_timesteps // every + 1), self.total_steps)
            _learn(model, goal - model.num_timesteps, task.seed, task.watch)
            curve.append(_validate(model, scenario, curve, task.folder, task.validate))
            _save_checkpoint(task.folder, model, curve)
            task.report(curve[-1], self.total_steps)
        return Trained(task.folder / "best.zip", tuple(curve))


class PPOPolicy(Policy):
    """A trained network. `checkpoint` is the ``best.zip`` that training wrote."""

    visibility = Visibility.P1

    def __init__(self, checkpoint: str | os.PathLike[str] | None = None) -> None:
        if checkpoint is None:
            raise InputError("agent.checkpoint is missing; train first (hvgym train agent=ppo) or name a best.zip")
        path = Path(checkpoint)
        if not path.is_file():
            raise InputError(f"agent.checkpoint={path}: no such file; name the best.zip that hvgym train wrote")
        self.network = network.load(path)
        self.period_s = self.network.control_interval_s
        self._view = View()

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        vms = first.vm.shape[1]
        if self.network.inputs != observation_size(vms):
            raise InputError(
                f"agent.checkpoint: trained on observations of {self.network.inputs}; "
                f"this host has {vms} VMs ({observation_size(vms)})"
            )
        self._view = View()

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        answer = self.network.act(self._view.observe(telemetry))
        return ActionMap(telemetry.vm.shape[1]).targets(answer, telemetry)


def _learn(model: Any, steps: int, seed: int, watch: Callable[[Update], None] | None) -> None:
    """Train on. Raises `InputError` when weights or answers of the network are no longer finite numbers."""
    from hvgym.agents.learned.updates import Updates

    try:
        model.learn(steps, Updates(watch) if watch else None, reset_num_timesteps=False, progress_bar=False)
        finite = all(bool(tensor.isfinite().all()) for tensor in model.policy.state_dict().values())
    except ValueError as error:
        if not str(error).startswith("Expected parameter "):  # torch's, of a distribution that cannot be drawn from
            raise
        finite = False
    if not finite:
        raise InputError(
            f"the training with seed {seed} diverged by step {model.num_timesteps}: the network is no longer made of finite "
            "numbers; lower agent.train.learning_rate"
        ) from None


def _new_model(scenario: Scenario, settings: PPOTrainer, seed: int, first_seed: int) -> Any:
    import torch
    from stable_baselines3 import PPO

    from hvgym.agents.learned.vec_env import HostVecEnv

    env = HostVecEnv(scenario, settings.envs, threads=settings.threads)
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=settings.n_steps,
        batch_size=min(settings.batch_size, settings.envs * settings.n_steps),
        n_epochs=settings.n_epochs,
        learning_rate=settings.learning_rate,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        ent_coef=settings.ent_coef,
        policy_kwargs={"net_arch": list(settings.hidden), "log_std_init": settings.log_std_init},
        seed=seed,
        device="cpu",
    )
    with torch.no_grad():
        model.policy.action_net.bias.fill_(settings.initial_action)
    env.seed(first_seed)
    model._last_obs = env.reset()
    model._last_episode_starts = np.ones(settings.envs, dtype=bool)
    return model


def _validate(
    model: Any, scenario: Scenario, curve: list[Validation], folder: Path, validate: Callable[[Policy], float]
) -> Validation:
    """Score the model, and keep it when it is the best so far."""
    from stable_baselines3 import PPO

    candidate = folder / "candidate.zip"
    meta = {"control_interval_s": scenario.control_interval_s, "scenario": scenario.name, "steps": model.num_timesteps}
    network.save(model, candidate, meta)
    PPO.load(candidate, device="cpu")  # seeds every generator: the part up to the next validation starts from the seed
    score = validate(PPOPolicy(candidate))
    best = max((point.best for point in curve), default=-np.inf)
    if score > best:
        os.replace(candidate, folder / "best.zip")
    else:
        candidate.unlink()
    return Validation(model.num_timesteps, score, max(score, best))


def _save_checkpoint(folder: Path, model: Any, curve: list[Validation]) -> None:
    """Write the whole state of training beside the old one, then swap: a kill leaves one of the two."""
    import torch

    fresh, kept = folder / "checkpoint.new", folder / "checkpoint"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    model.save(fresh / "model.zip")
    state = {
        "env": model.get_env(),
        "curve": curve,
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - SB3 draws minibatches from it
        "python": random.getstate(),
    }
    (fresh / "state.pkl").write_bytes(pickle.dumps(state))
    shutil.rmtree(folder / "checkpoint.old", ignore_errors=True)
    if kept.exists():
        kept.rename(folder / "checkpoint.old")
    fresh.rename(kept)
    shutil.rmtree(folder / "checkpoint.old", ignore_errors=True)


def _restore(folder: Path) -> tuple[Any, list[Validation]] | None:
    """The state of an interrupted training, or None; says so where a checkpoint cannot be read."""
    for kept in (folder / "checkpoint", folder / "checkpoint.old"):
        if not kept.exists():
            continue
        try:
            model, curve = _read_checkpoint(kept)
            network.load(folder / "best.zip")
            return model, curve
        except Exception as error:  # a damaged pickle raises anything
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            print(f"{kept}: damaged ({reason}); the training goes on without it", file=sys.stderr, flush=True)
    return None


def _read_checkpoint(kept: Path) -> tuple[Any, list[Validation]]:
    import torch
    from stable_baselines3 import PPO

    state = pickle.loads((kept / "state.pkl").read_bytes())
    model = PPO.load(kept / "model.zip", env=state["env"], device="cpu", force_reset=False)
    curve = list(state["curve"])
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])
    return model, curve
