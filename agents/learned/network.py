"""A trained network as a file: weights and a few numbers, nothing that runs when it is read.

``best.zip`` is the archive that Stable-Baselines3 writes (``PPO.load`` takes it) with one member more, `MEMBER`. The archive's
``data`` holds pickled objects, which run code when SB3 reads them; here only ``policy.pth`` is read, by torch with
``weights_only``, and the layers are built from the weights' shapes. So a network from elsewhere can be played without trust.
"""

import io
import json
import os
import pickle
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.envs.errors import InputError

MEMBER = "hvgym.json"

MOST_BYTES = 2**28
"""Of weights in a file: 256 MiB, a thousand times our networks. A compressed member could grow to fill memory."""


@dataclass(frozen=True)
class Network:
    """The deterministic action of a trained actor: tanh layers, then a linear one, clipped to [-1, 1]."""

    layers: Any
    inputs: int
    control_interval_s: float

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Actions ``[env, action]`` for observations ``[env, input]``, float32; the same bits as SB3's ``predict``."""
        import torch

        with torch.no_grad():
            actions = np.asarray(np.clip(self.layers(torch.as_tensor(observations)).numpy(), -1.0, 1.0))
        if np.isnan(actions).any():
            raise InputError("the network answers NaN: its training diverged")
        return actions


def save(model: Any, path: Path, meta: dict[str, Any]) -> None:
    """Write an SB3 model with what `load` wants beside its weights, `control_interval_s` above all; there whole or not."""
    fresh = path.with_name(f".{path.stem}.new.zip")
    model.save(
        fresh, exclude=["rollout_buffer", "_last_obs", "_last_episode_starts", "ep_info_buffer", "ep_success_buffer"]
    )
    with zipfile.ZipFile(fresh, "a") as archive:
        archive.writestr(MEMBER, json.dumps({"activation": "tanh"} | meta))
    os.replace(fresh, path)


def load(path: Path) -> Network:
    """Read a network. Raises `InputError` that names the file when it is no ``best.zip``, or its weights are not finite."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no archive, or was cut short")
        with zipfile.ZipFile(path) as archive:
            meta, weights = _meta(archive, path), _weights(archive)
        network = Network(*_layers(weights), float(meta["control_interval_s"]))
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"agent.checkpoint={path}: not a best.zip as hvgym train writes it ({reason})") from None
    if not all(bool(tensor.isfinite().all()) for tensor in network.layers.state_dict().values()):
        raise InputError(f"agent.checkpoint={path}: its weights are not finite numbers; the training diverged")
    return network


def weights_of(path: Path) -> dict[str, np.ndarray]:
    """All weights in a file by name, also those that only training needs. Raises `InputError` as `load` does."""
    load(path)
    with zipfile.ZipFile(path) as archive:
        return {name: tensor.numpy() for name, tensor in _weights(archive).items()}


def _meta(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    """Beside the weights; before it lay in the archive it was ``best.json`` beside it."""
    found = archive.read(MEMBER) if MEMBER in archive.namelist() else path.with_suffix(".json").read_bytes()
    meta = json.loads(found)
    if not isinstance(meta, dict) or meta.get("activation", "tanh") != "tanh":
        raise ValueError(f"{MEMBER} says {found[:60]!r}")
    return meta


def _weights(archive: zipfile.ZipFile) -> dict[str, Any]:
    import torch

    if archive.getinfo("policy.pth").file_size > MOST_BYTES:
        raise ValueError(f"policy.pth has more than {MOST_BYTES} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weights = torch.load(io.BytesIO(archive.read("policy.pth")), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch would advise to load it all the same
        raise ValueError("its policy.pth holds code or something else than weights; not loaded") from None
    if not isinstance(weights, dict):
        raise ValueError("its policy.pth holds no weights by name")
    return weights


def _layers(weights: dict[str, Any]) -> tuple[Any, int]:
    """The actor as SB3's ``MlpPolicy`` lays it out, and the number of its inputs."""
    from torch import nn
    from torch.nn.utils import skip_init  # a drawn start would move the generator of a training that validates

    indices = sorted(int(name.split(".")[2]) for name in weights if name.startswith("mlp_extractor.policy_net.")
                     and name.endswith(".weight"))  # fmt: skip
    layers = list[Any]()
    for prefix in (*(f"mlp_extractor.policy_net.{index}" for index in indices), "action_net"):
        weight, bias = weights[f"{prefix}.weight"], weights[f"{prefix}.bias"]
        linear = skip_init(nn.Linear, weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": bias})
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1]), layers[0].in_features
