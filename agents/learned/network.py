"""A trained network as a file, and as a `Policy`: weights and a few words, nothing that runs when it is read.

``best.zip`` is the archive that Stable-Baselines3 writes (its own ``load`` takes it) with two members more: `WORDS`, what
it is for, and `WEIGHTS`, the arrays of what plays (``actor``). The archive's ``data`` and ``policy.pth`` may hold objects that run
code when they are read; playing reads neither, and the arrays without pickles. So a network from elsewhere can be played without
trust, and without torch.
"""

import io
import json
import os
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.learned import seeing
from hvgym.agents.learned.actor import Actor, Memory
from hvgym.agents.policy import Policy
from hvgym.envs.errors import InputError, shown
from hvgym.envs.offers import profile_of
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

WORDS, WEIGHTS, POLICY = "hvgym.json", "hvgym.npz", "policy.pth"

KIND = "hvgym shared network, version 1"

MOST_BYTES = 2**26
"""Of weights in a file: 64 MiB, a thousand times our networks. A compressed member could grow to fill memory."""


@dataclass(frozen=True)
class Network:
    """What plays, how its actions are read, and how often it decides."""

    actor: Actor
    acting: seeing.Acting
    period_s: float
    visibility: Visibility = Visibility.P1
    """The profile of which it was trained to read the signals."""


class SharedNetwork(Policy):
    """A trained network on any number of VMs. `checkpoint` is the ``best.zip`` that training wrote."""

    def __init__(self, checkpoint: str | os.PathLike[str] | None = None) -> None:
        if checkpoint is None:
            raise InputError("agent.checkpoint is missing; train first (hvgym train agent=…) or name a best.zip")
        path = Path(checkpoint)
        if not path.is_file():
            raise InputError(f"agent.checkpoint={path}: no such file; name the best.zip that hvgym train wrote")
        self._take(load(path))

    @classmethod
    def of(cls, network: Network) -> "SharedNetwork":
        """Of a network that is at hand."""
        policy = cls.__new__(cls)
        policy._take(network)
        return policy

    def _take(self, network: Network) -> None:
        self.network, self.period_s, self.visibility = network, network.period_s, network.visibility
        self._eyes, self._memory = seeing.Eyes(), Memory()

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._eyes, self._memory = seeing.Eyes(), Memory()

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        actions = self.network.actor.act(self._eyes.look(telemetry), self._memory)
        if np.isnan(actions).any():
            raise InputError("the network answers NaN: its training diverged")
        return self.network.acting.targets(actions, telemetry)


def save(
    model: Any, path: Path, acting: seeing.Acting, period_s: float, made: dict[str, Any], visibility: str = "P1"
) -> None:
    """Write an SB3 model with what plays of it; there whole or not. made: how it came about, for people."""
    from hvgym.agents.learned.policies import actor_of, squashes

    fresh = path.with_name(f".{path.stem}.new.zip")
    model.save(
        fresh, exclude=["rollout_buffer", "_last_obs", "_last_episode_starts", "ep_info_buffer", "ep_success_buffer"]
    )
    made = made | {"algorithm": type(model).__name__}
    words = words_of(acting, period_s, made, squashes(model.policy), visibility)
    _add(fresh, words, arrays_of(*actor_of(model.policy)))
    os.replace(fresh, path)


def write(path: Path, words: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write what plays alone, without an SB3 model; there whole or not."""
    fresh = path.with_name(f".{path.stem}.new.zip")
    fresh.unlink(missing_ok=True)
    _add(fresh, words, arrays)
    os.replace(fresh, path)


def words_of(
    acting: seeing.Acting, period_s: float, made: dict[str, Any], squashed: bool, visibility: str
) -> dict[str, Any]:
    """What a network is for."""
    played = {"period_s": period_s, "features": list(seeing.FEATURES), "acting": acting.plain(), "squashed": squashed}
    return {"kind": KIND, **made, **played, "visibility": visibility}


def arrays_of(latent: Any, head: Any) -> dict[str, np.ndarray]:
    """Weights of the layers of ``shared`` by name."""
    arrays = {f"latent.{name}": tensor.numpy() for name, tensor in latent.state_dict().items()}
    return arrays | {f"head.{name}": tensor.numpy() for name, tensor in head.state_dict().items()}


def _add(archive: Path, words: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    with zipfile.ZipFile(archive, "a") as members:
        members.writestr(WORDS, json.dumps(words, indent=1))
        members.writestr(WEIGHTS, content.getvalue())


def load(path: Path) -> Network:
    """Read a network. Raises `InputError` that names the file when it is no ``best.zip``, or its weights are not finite."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no archive, or was cut short")
        with zipfile.ZipFile(path) as archive:
            words, weights = _words(archive), _arrays(archive, WEIGHTS)
        acting, period_s = seeing.Acting.of(words["acting"]), float(words["period_s"])
        visibility = profile_of("visibility", words.get("visibility", "P1"))  # before there was a choice, P1
        network = Network(Actor(weights, words["squashed"] is True), acting, period_s, visibility)
        _check(network, words)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        IndexError,
        NotImplementedError,  # a zip of a version to come
        zipfile.BadZipFile,
        RecursionError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"agent.checkpoint={path}: not a best.zip as hvgym train writes it ({reason})") from None
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise InputError(f"agent.checkpoint={path}: its weights are not finite numbers; the training diverged")
    return network


def begin_with(path: Path, policy: Any, acting: seeing.Acting) -> None:
    """Give an SB3 policy the weights of a network in a file. Raises `InputError` where they are for another one."""
    import torch

    from hvgym.agents.learned.policies import actor_of

    found = load(path)
    layers = dict(zip(("latent", "head"), actor_of(policy), strict=True))
    shapes = {name: array.shape for name, array in arrays_of(*layers.values()).items()}
    if found.acting != acting or {name: array.shape for name, array in found.actor.weights.items()} != shapes:
        raise InputError(
            f"agent.train.start={path}: a network of another form, for {shown(found.acting.plain())}; expected the same width, "
            "attention, action, step and channels as agent.train says"
        )
    with torch.no_grad():
        for name, array in found.actor.weights.items():
            layer, _, parameter = name.partition(".")
            layers[layer].get_parameter(parameter).copy_(torch.as_tensor(array))


def weights_of(path: Path) -> dict[str, np.ndarray]:
    """All weights in a file by name, also those that only training needs. Raises `InputError` as `load` does."""
    import torch

    load(path)
    with zipfile.ZipFile(path) as archive:
        if POLICY not in archive.namelist():
            return _arrays(archive, WEIGHTS)
        try:
            weights = torch.load(io.BytesIO(_member(archive, POLICY)), map_location="cpu", weights_only=True)
            return {name: tensor.numpy() for name, tensor in weights.items()}
        except (
            pickle.UnpicklingError,
            AttributeError,
            RuntimeError,
            ValueError,
            EOFError,
        ):  # torch would advise to load it
            raise InputError(
                f"agent.checkpoint={path}: its {POLICY} holds something else than weights; not loaded"
            ) from None


def _words(archive: zipfile.ZipFile) -> dict[str, Any]:
    words = json.loads(_member(archive, WORDS))
    if not isinstance(words, dict) or words.get("kind") != KIND:
        raise ValueError(f"{WORDS} does not say {KIND!r}; train it again with this version")
    if words["features"] != list(seeing.FEATURES):
        raise ValueError(
            f"it sees features {shown(sorted(set(words['features']) ^ set(seeing.FEATURES)))} that differ here"
        )
    if not 1.0 <= float(words["period_s"]) <= 1e6:
        raise ValueError(f"period_s={shown(words['period_s'])}")
    return words


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        raise ValueError(f"{name} is not in it")
    if archive.getinfo(name).file_size > MOST_BYTES:
        raise ValueError(f"{name} has more than {MOST_BYTES} bytes")
    return archive.read(name)


def _arrays(archive: zipfile.ZipFile, name: str) -> dict[str, np.ndarray]:
    content = _member(archive, name)
    with zipfile.ZipFile(io.BytesIO(content)) as inner:
        if sum(one.file_size for one in inner.infolist()) > MOST_BYTES:
            raise ValueError(f"{name} grows to more than {MOST_BYTES} bytes")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {key: np.asarray(arrays[key], np.float32) for key in arrays.files}


def _check(network: Network, words: dict[str, Any]) -> None:
    """Play it once on one VM, so that arrays which do not fit together are found before a rollout."""
    actor = network.actor
    if actor.inputs != len(seeing.FEATURES):
        raise ValueError(f"it takes {actor.inputs} features; there are {len(seeing.FEATURES)}")
    with np.errstate(all="ignore"):
        answered = actor.act(np.zeros((1, 1, actor.inputs)), Memory())
    if answered.shape != (1, network.acting.answers, 1):
        raise ValueError(f"it answers {answered.shape[1]} numbers a VM; its channels are {shown(words['acting'])}")
