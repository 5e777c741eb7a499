"""A policy that is a few named numbers, which a search can find, and the file in which they are kept.

Weights are plain numbers in a JSON file, by name, which runs nothing when it is read. A class says what they are called, which of
them are not 0 before anything is learnt (`first`), and what it is besides (`settings`, numbers or text, kept in the file too). All
weights may be given for each lane apart, so that a whole generation of a search plays as one batch.
"""

import json
import math
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.files import file_name
from hvgym.envs.offers import profile_of
from hvgym.envs.telemetry import Visibility

MOST_BYTES = 2**20


class Searched(Policy):
    """`checkpoint`: a file of weights that a training wrote; `weights`: the name of one that the package brings."""

    kind: ClassVar[str]
    """What the file says that it is."""
    names: ClassVar[tuple[str, ...]]
    """Of its weights, in order."""
    first: ClassVar[Mapping[str, float]] = {}
    """Weights that a search begins with; 0 for all others."""
    settings: ClassVar[Mapping[str, float | str]] = {}
    """What it is besides, with the values of who says nothing."""
    threads: int = 1
    """On which whole episodes are played where that can be (``episodes``); changes no result."""

    def __init__(self, checkpoint: str | os.PathLike[str] | None = None, weights: str | None = None) -> None:
        if checkpoint is None and weights is None:
            raise InputError("agent.checkpoint is missing; train first (hvgym train agent=es) or name a best.json")
        content = read(type(self), shipped(weights) if checkpoint is None else Path(checkpoint))
        self._take(np.array(content["weights"]), {name: content[name] for name in self.settings})

    @classmethod
    def of(cls, weights: np.ndarray, *given: Any, **settings: Any) -> Any:
        """With these weights, ``[weight]`` or a set for each lane ``[env, weight]``, and settings in order or by name."""
        policy = cls.__new__(cls)
        policy._take(
            np.asarray(weights, float), settings_of(cls, dict(zip(cls.settings, given, strict=False)) | settings)
        )
        return policy

    def _take(self, weights: np.ndarray, settings: Mapping[str, Any]) -> None:
        self.weights = np.atleast_2d(weights)
        for name, value in settings.items():
            setattr(self, name, Visibility[value] if name == "visibility" else value)

    @property
    def chosen(self) -> dict[str, float | str]:
        """Its settings, as a file has them."""
        return {name: getattr(self, name) for name in self.settings} | {"visibility": self.visibility.name}


def settings_of(cls: type[Searched], given: Mapping[str, Any], where: str = "agent.train.policy") -> dict[str, Any]:
    """All settings of a policy of which some are given. Raises `InputError` for one that it has not, or of another kind."""
    for name in given:
        if name not in cls.settings:
            raise InputError(
                f"{where}.{name}: unknown key{nearest(name, cls.settings)}; known: {', '.join(cls.settings)}"
            )
    usual = dict(cls.settings)
    if "visibility" in usual:  # a subclass may say another
        usual["visibility"] = cls.visibility.name
    return {name: _setting(given.get(name, of), of, f"{where}.{name}") for name, of in usual.items()}


def _setting(value: Any, usual: float | str, where: str) -> float | str:
    if isinstance(usual, str):
        if not isinstance(value, str):
            raise InputError(f"{where}={shown(value)}: expected text")
        if where.endswith(".visibility"):
            profile_of(where, value)
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < math.inf:
        raise InputError(f"{where}={shown(value)}: expected a number above 0")
    return float(value)


def text(policy: Searched, made: Mapping[str, Any]) -> str:
    """What a file of a policy's weights says; made: how it came about, for people."""
    named = {name: float(weight) for name, weight in zip(policy.names, policy.weights[0], strict=True)}
    return json.dumps({"kind": policy.kind, **made, **policy.chosen, "weights": named}, indent=1) + "\n"


def shipped(name: str | None) -> Path:
    """Where weights lie that the package brings. Raises `InputError` when it has none of this name."""
    path = Path(str(files("hvgym.agents.learned") / f"{file_name('agent.weights', str(name))}.json"))
    if not path.is_file():
        there = sorted(one.stem for one in path.parent.glob("*.json"))
        raise InputError(f"agent.weights={shown(name)}: the package has none of this name; it has {', '.join(there)}")
    return path


def read(cls: type[Searched], path: Path) -> dict[str, Any]:
    """Content of a file of weights of a class, weights in the order of its names, 0 for those that it was written without. Raises
    `InputError` that names the file."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"longer than {MOST_BYTES} bytes")
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict) or content.get("kind") != cls.kind:
            raise ValueError(f"its kind is not {cls.kind!r}")
        named = content["weights"]
        if unknown := sorted(set(named) - set(cls.names)):
            raise ValueError(f"weights of {shown(unknown)}, which the view has not")
        numbers = [float(named.get(name, 0.0)) for name in cls.names]
        if not all(map(math.isfinite, numbers)):
            raise ValueError("a number in it is not finite")
        content.setdefault("visibility", cls.visibility.name)  # before there was a choice
        settings = settings_of(cls, {name: content[name] for name in cls.settings}, "settings")
    except FileNotFoundError:
        raise InputError(f"agent.checkpoint={path}: no such file; name what hvgym train agent=es left") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, InputError) as error:
        raise InputError(f"agent.checkpoint={path}: no weights as hvgym train agent=es writes them ({error})") from None
    return content | settings | {"weights": numbers}
