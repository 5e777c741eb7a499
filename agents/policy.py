"""What a policy is, and how a configuration names one.

A `Policy` sees `Telemetry` restricted to its `visibility` and answers with `Targets`, every `period_s`. It works on a
batch: arrays are ``[env, vm]``. A `ClairvoyantPolicy` sees the hidden state instead; it is a bound, not a contender.
To add a policy, write one class in one file here and one YAML in ``conf/agent`` whose ``_target_`` names it.
"""

import abc
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from hvgym.envs.errors import InputError, nearest
from hvgym.envs.telemetry import HiddenState, Targets, Telemetry, Visibility

META_KEYS = frozenset({"name", "description", "_target_", "needs", "train", "tune", "checkpoint", "checkpoint_sha256"})
"""Keys of an agent's YAML that are not arguments of its class. `needs: arrivals`: it only decides who starts."""


class Policy(abc.ABC):
    """Decides memory sizes from what an operator can read."""

    period_s: float = 10.0
    """Its own control period; the rollout keeps it."""
    visibility: Visibility = Visibility.P1
    """The profile of signals it may read; the rest arrives as NaN."""

    def reset(self, first: Telemetry, seed: int) -> None:  # noqa: B027
        """Forget the past; `first` is the first reading of the episodes to come, `seed` is for policies that draw."""

    @abc.abstractmethod
    def decide(self, telemetry: Telemetry) -> Targets:
        """Return memory sizes, ``[env, vm]`` in MiB; NaN leaves a VM as it is."""


class ClairvoyantPolicy(abc.ABC):
    """Decides from the hidden state: an upper bound."""

    period_s: float = 10.0

    @abc.abstractmethod
    def decide(self, hidden: HiddenState) -> Targets:
        """Return memory sizes, ``[env, vm]`` in MiB."""


def make_policy(config: Mapping[str, Any], **extra: Any) -> Policy | ClairvoyantPolicy:
    """Build the policy that an agent's configuration describes.

    Raises:
        InputError: naming the key and what would be right.
    """
    name = config.get("name", "?")
    target = str(config.get("_target_", ""))
    module, _, cls = target.rpartition(".")
    try:
        made = getattr(importlib.import_module(module), cls)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"agent {name}: _target_={target!r} cannot be loaded ({error})") from None
    arguments = {key: value for key, value in config.items() if key not in META_KEYS} | extra
    for key, parameter in inspect.signature(made).parameters.items():
        if parameter.annotation in (int, float) and not _is_number(arguments.get(key, 0)):
            raise InputError(f"agent.{key}={arguments[key]!r}: expected a number")
    try:
        policy = made(**arguments)
    except TypeError as error:
        known = list(inspect.signature(made).parameters)
        wrong = [key for key in arguments if key not in known]
        hint = f"unknown key {wrong[0]!r}{nearest(wrong[0], known)}; known: {', '.join(known)}" if wrong else str(error)
        raise InputError(f"agent {name}: {hint}") from None
    if not isinstance(policy, (Policy, ClairvoyantPolicy)):
        raise InputError(f"agent {name}: _target_={target!r} is not a Policy")
    return policy


def profile_of(config: Mapping[str, Any]) -> str:
    """Name of the profile of signals that an agent sees; "all" for one that sees the hidden state."""
    if config.get("train"):  # it cannot be made before it is trained
        module, _, cls = str(config["_target_"]).rpartition(".")
        return str(getattr(importlib.import_module(module), cls).visibility.name)
    policy = make_policy(config)
    return policy.visibility.name if isinstance(policy, Policy) else "all"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
