"""One linear map for all VMs: how fast each one's memory should grow or shrink, from its view (``view``).

The size that a VM is asked to have moves by at most `step` of its configured memory each `period_s`: by step x s(w . x), with x
the VM's features, w the weights that all VMs share, and s(z) = z / (1 + |z|). So it works for any number of VMs on any host, and
what a weight does can be read. Weights are plain numbers in a JSON file, which runs nothing when it is read.
"""

import json
import math
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.learned.view import FEATURES, View
from hvgym.agents.policy import Policy
from hvgym.envs.errors import InputError, shown
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

KIND = "hvgym shared linear policy, version 1"

MOST_BYTES = 2**20


class SharedLinear(Policy):
    """`checkpoint`: a file of weights that a training wrote; `weights`: the name of one that the package brings."""

    visibility = Visibility.P1
    threads: int = 1
    """On which whole episodes are played (``episodes``); changes no result."""

    def __init__(self, checkpoint: str | os.PathLike[str] | None = None, weights: str | None = None) -> None:
        if checkpoint is None and weights is None:
            raise InputError("agent.checkpoint is missing; train first (hvgym train agent=es) or name a best.json")
        content = _read(_shipped(weights) if checkpoint is None else Path(checkpoint))
        self._take(content["weights"], float(content["step"]), float(content["period_s"]))

    @classmethod
    def of(cls, weights: np.ndarray, step: float, period_s: float) -> "SharedLinear":
        """With these weights, ``[feature]`` or a set for each lane ``[env, feature]``."""
        policy = cls.__new__(cls)
        policy._take(np.asarray(weights), step, period_s)
        return policy

    def _take(self, weights: Any, step: float, period_s: float) -> None:
        self.weights, self.step, self.period_s = np.atleast_2d(np.asarray(weights, float)), step, period_s

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._view = View()

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        seen = self._view.look(telemetry)
        pull = np.zeros(telemetry.vm.shape)
        for feature in range(len(FEATURES)):  # in this order on every machine, where a product of matrices has its own
            pull += self.weights[:, feature : feature + 1] * seen[..., feature]
        vm = telemetry.vm
        asked = np.where(np.isnan(vm["target_mib"]), vm["size_mib"], vm["target_mib"])
        wanted = asked + self.step * vm["memory_mib"] * pull / (1.0 + np.abs(pull))
        return Targets(np.clip(wanted, vm["min_mib"], vm["memory_mib"]))


def text(weights: np.ndarray, step: float, period_s: float, made: Mapping[str, Any]) -> str:
    """What a file of weights says; made: how it came about, for people."""
    named = {name: float(weight) for name, weight in zip(FEATURES, weights, strict=True)}
    return json.dumps({"kind": KIND, **made, "step": step, "period_s": period_s, "weights": named}, indent=1) + "\n"


def _shipped(name: str | None) -> Path:
    """Where weights lie that the package brings. Raises `InputError` when it has none of this name."""
    folder = Path(str(files("hvgym.agents.learned")))
    known = sorted(path.stem for path in folder.glob("*.json"))
    if name not in known:
        raise InputError(f"agent.weights={shown(name)}: the package brings {', '.join(known) or 'none'}")
    return folder / f"{name}.json"


def _read(path: Path) -> dict[str, Any]:
    """Content of a file of weights, in the order of `FEATURES`, 0 for those that it was written without. Raises `InputError` that
    names the file."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"longer than {MOST_BYTES} bytes")
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise ValueError(f"its kind is not {KIND!r}")
        named = content["weights"]
        if unknown := sorted(set(named) - set(FEATURES)):
            raise ValueError(f"weights of {shown(unknown)}, which the view has not")
        numbers = [
            *(float(named.get(name, 0.0)) for name in FEATURES),
            float(content["step"]),
            float(content["period_s"]),
        ]
        if not all(map(math.isfinite, numbers)):
            raise ValueError("a number in it is not finite")
    except FileNotFoundError:
        raise InputError(f"agent.checkpoint={path}: no such file; name what hvgym train agent=es left") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"agent.checkpoint={path}: no weights as hvgym train agent=es writes them ({error})") from None
    return content | {"weights": numbers[:-2]}
