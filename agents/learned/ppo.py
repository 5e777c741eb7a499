"""PPO from Stable-Baselines3: training with checkpoints and validation, and the trained network as a `Policy`.

The learner sees the observation of ``features`` (profile P1) and acts every control interval. The best model by
validation score, on seeds that training never draws, is what training returns. A checkpoint holds the network, its
optimiser, the hosts in mid-episode and every generator, so that a resumed training ends in the same bits as one that
was never interrupted.

Source: Schulman et al., arXiv:1707.06347; the implementation is Stable-Baselines3's. Hyperparameters are in
``conf/agent/ppo.yaml``.
"""

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.errors import InputError
from hvgym.envs.features import Observer, observation_size, targets_mib
from hvgym.envs.scenario import Scenario
from hvgym.envs.schema import build, number
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


@dataclass(frozen=True)
class TrainSettings:
    """The ``train`` keys of a learner's YAML."""

    total_steps: int = number(1_000_000, least=1)
    envs: int = number(256, least=1)
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


@dataclass(frozen=True)
class Validation:
    """One point of the learning curve: environment steps so far, score on validation seeds, best score so far."""

    steps: int
    score: float
    best: float


@dataclass(frozen=True)
class Trained:
    """What a training left: the best model and its learning curve."""

    model: Path
    curve: tuple[Validation, ...]


class PPOPolicy(Policy):
    """A trained network. `checkpoint` is the ``best.zip`` that training wrote, with ``best.json`` beside it."""

    visibility = Visibility.P1

    def __init__(self, checkpoint: str | os.PathLike[str] | None = None) -> None:
        if checkpoint is None:
            raise InputError("agent.checkpoint is missing; train first (hvgym train agent=ppo) or name a best.zip")
        path = Path(checkpoint)
        if not path.is_file():
            raise InputError(f"agent.checkpoint={path}: no such file; name the best.zip that hvgym train wrote")
        from stable_baselines3 import PPO

        try:
            self.model = PPO.load(path, device="cpu")
            self.period_s = float(json.loads(path.with_suffix(".json").read_text())["control_interval_s"])
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"agent.checkpoint={path}: not a best.zip with best.json as hvgym train writes them ({reason})"
            ) from None
        self._observer = Observer()

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        vms = first.vm.shape[1]
        size = self.model.observation_space.shape[0]
        if size != observation_size(vms):
            raise InputError(
                f"agent.checkpoint: trained on observations of {size}; this host has {vms} VMs ({observation_size(vms)})"
            )
        self._observer = Observer()

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        actions, _ = self.model.predict(self._observer.observe(telemetry), deterministic=True)
        return Targets(targets_mib(actions, telemetry))


def train(
    scenario: Scenario,
    settings: TrainSettings,
    folder: Path,
    seed: int,
    first_seed: int,
    validate: Callable[[Policy], float],
    report: Callable[[Validation, int], None] = lambda point, total: None,
) -> Trained:
    """Train on `scenario` with demand seeds from `first_seed` on; go on where `folder` holds a checkpoint.

    validate: score of a policy on validation seeds. report: called after each validation with the total number of
    steps. Raises `InputError` when the folder belongs to another training.
    """
    import torch

    torch.set_num_threads(1)  # faster than two for small networks, and the sum order is fixed
    folder.mkdir(parents=True, exist_ok=True)
    identity = {"scenario": scenario.to_dict(), "settings": asdict(settings), "seed": seed, "first_seed": first_seed}
    _claim(folder, json.loads(json.dumps(identity)))
    model, curve = _restore(folder) or (_new_model(scenario, settings, seed, first_seed), [])
    every = -(-settings.total_steps // settings.validations)
    while not curve or curve[-1].steps < settings.total_steps:
        goal = min(every * (len(curve) + 1), settings.total_steps)
        model.learn(goal - model.num_timesteps, reset_num_timesteps=False, progress_bar=False)
        curve.append(_validate(model, scenario, curve, folder, validate))
        _save_checkpoint(folder, model, curve)
        report(curve[-1], settings.total_steps)
    return Trained(folder / "best.zip", tuple(curve))


def _claim(folder: Path, identity: Mapping[str, Any]) -> None:
    path = folder / "training.json"
    if not path.exists():
        path.write_text(json.dumps(identity, indent=1))
    elif json.loads(path.read_text()) != identity:
        raise InputError(f"{folder}: holds a training with other settings; name another folder or delete it")


def _new_model(scenario: Scenario, settings: TrainSettings, seed: int, first_seed: int) -> Any:
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
    candidate = folder / "candidate.zip"
    model.save(
        candidate,
        exclude=["rollout_buffer", "_last_obs", "_last_episode_starts", "ep_info_buffer", "ep_success_buffer"],
    )
    meta = {"control_interval_s": scenario.control_interval_s, "scenario": scenario.name, "steps": model.num_timesteps}
    candidate.with_suffix(".json").write_text(json.dumps(meta))
    score = validate(PPOPolicy(candidate))
    best = max((point.best for point in curve), default=-np.inf)
    if score > best:
        os.replace(candidate.with_suffix(".json"), folder / "best.json")
        os.replace(candidate, folder / "best.zip")
    else:
        candidate.unlink()
        candidate.with_suffix(".json").unlink()
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
    """The state of an interrupted training, or None."""
    kept = folder / "checkpoint"
    if not kept.exists():
        kept = folder / "checkpoint.old"
    if not (kept / "state.pkl").exists():
        return None
    import torch
    from stable_baselines3 import PPO

    state = pickle.loads((kept / "state.pkl").read_bytes())
    model = PPO.load(kept / "model.zip", env=state["env"], device="cpu", force_reset=False)
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])
    return model, list(state["curve"])


def settings_of(config: Mapping[str, Any]) -> TrainSettings:
    """Check the ``train`` keys of an agent's configuration."""
    return build(TrainSettings, config.get("train") or {}, "agent.train")
