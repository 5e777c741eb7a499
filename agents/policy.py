"""What a policy is, and how a configuration names one.

A `Policy` sees `Telemetry` restricted to its `visibility` and answers with `Targets`, every `period_s`. It works on a
batch: arrays are ``[env, vm]``. A `ClairvoyantPolicy` sees the hidden state instead; it is no contender.
To add a policy, write one class in one file of the room that it belongs to and one YAML in ``conf/agent`` whose ``_target_``
names it; one of your own may lie beside its YAML in any folder (``beside``).
"""

import abc
import importlib
import inspect
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from hvgym.agents.beside import refuse_shadowed
from hvgym.envs.errors import InputError, in_words, nearest, shown
from hvgym.envs.rules import Declaration, declared
from hvgym.envs.scenario import Scenario
from hvgym.envs.telemetry import HiddenState, Targets, Telemetry, Visibility

DECLARED_KEYS = frozenset({"seat", "channels", "signals", "interfaces", "signals_with"})
"""What an agent's YAML declares for the rules (``envs.rules``)."""

SEES_ALL = "all"
"""What a `ClairvoyantPolicy` sees, where others have a profile."""

META_KEYS = DECLARED_KEYS | {
    "name", "description", "_target_", "needs", "train", "tune", "checkpoint", "checkpoint_sha256", "shield",
}  # fmt: skip
"""Keys of an agent's YAML that are not arguments of its class. `needs: arrivals`: it only decides who starts. `shield`: true
or limits put a shield around it (``shield``)."""


class Policy(abc.ABC):
    """Decides memory sizes from what an operator can read."""

    period_s: float = 10.0
    """Its own control period; the rollout keeps it."""
    visibility: Visibility = Visibility.P1
    """The profile of signals it may read; the rest arrives as NaN."""
    declaration: Declaration = Declaration()
    """Where it sits and what it needs there, from its YAML; without one it sits inside and sets sizes."""
    of_cluster: bool = False
    """Whether it decides for all hosts of a cluster at once, by ``Telemetry.places``; else one of it runs on every host."""

    places_starts: bool = False
    """Whether it says where VMs of a cluster start, in place of the stack's own rule."""

    @property
    def parts(self) -> tuple["Policy", ...]:
        """What runs: itself, or several policies that know nothing of each other."""
        return (self,)

    def granted(self, channels: Collection[str]) -> None:  # noqa: B027
        """Told before the first reading which channels it has there: what it declares, or with ``channels: any`` what its seat
        has. A policy that does the same everywhere need not listen."""

    def reset(self, first: Telemetry, seed: int) -> None:  # noqa: B027
        """Forget the past; `first` is the first reading of the episodes to come, `seed` is for policies that draw."""

    @abc.abstractmethod
    def decide(self, telemetry: Telemetry) -> Targets:
        """Return memory sizes, ``[env, vm]`` in MiB, and what else it wants; NaN leaves a thing as it is.

        Infinity, another shape and what lies outside of the ranges of `Targets` end the rollout, as an exception does.
        """


class ClairvoyantPolicy(abc.ABC):
    """Decides from the hidden state: a reference, not a contender."""

    period_s: float = 10.0
    declaration: Declaration = Declaration(channels=None, signals=frozenset())
    """Its seat, whose channels it is held to; from its YAML."""
    of_cluster: bool = False
    """Whether it plans for all hosts of a cluster, and not for a host alone."""
    places_starts: bool = False
    """As of `Policy`."""

    def begin(self, scenario: Scenario, channels: Collection[str]) -> None:  # noqa: B027
        """Told before the first decision what is played, and which channels it has: an answer on another ends the rollout."""

    @abc.abstractmethod
    def decide(self, hidden: HiddenState) -> Targets:
        """Return memory sizes, ``[env, vm]`` in MiB."""


def make_policy(config: Mapping[str, Any], **extra: Any) -> Policy | ClairvoyantPolicy:
    """Build the policy that an agent's configuration describes.

    Raises:
        InputError: naming the key and what would be right.
    """
    name = config.get("name", "?")
    if config.get("needs") not in (None, "arrivals"):
        raise InputError(f"agent.needs={shown(config['needs'])}: expected arrivals, or to be left out")
    made = policy_class(config)
    arguments = {key: value for key, value in config.items() if key not in META_KEYS} | extra
    for key, parameter in inspect.signature(made).parameters.items():
        if parameter.annotation in (int, float) and not _is_number(arguments.get(key, 0)):
            raise InputError(f"agent.{key}={shown(arguments[key])}: expected a number, finite")
    declaration = declared_by(config)
    if "seat" in inspect.signature(made).parameters:
        arguments["seat"] = declaration.seat
    try:
        policy = made(**arguments)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, TypeError):
            _check_arguments(config, made, arguments)
        raise InputError(f"agent {name}: cannot be made: {in_words(error)}") from error
    policy.declaration = declaration
    if config.get("shield", False) is not False:
        from hvgym.agents.shield import shielded  # which needs what a policy is

        return shielded(policy, config["shield"])
    return policy


def check_keys(config: Mapping[str, Any]) -> None:
    """Raise `InputError` for a key that an agent's policy does not take, as `make_policy` does, but without making it."""
    _check_arguments(config, policy_class(config), [key for key in config if key not in META_KEYS])


def _check_arguments(config: Mapping[str, Any], made: type, arguments: Iterable[str]) -> None:
    parameters = inspect.signature(made).parameters
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    if wrong := [key for key in arguments if key not in parameters and not takes_any]:
        hint = f"unknown key {wrong[0]!r}{nearest(wrong[0], parameters)}; known: {', '.join(parameters)}"
        raise InputError(f"agent {config.get('name', '?')}: {hint}") from None


def declared_by(config: Mapping[str, Any]) -> Declaration:
    """What an agent declares (``envs.rules``). Raises `InputError` that names agent and key."""
    name = config.get("name", "?")
    try:
        return declared(config)
    except InputError as error:
        raise InputError(f"agent {name}: {error}") from None


def policy_class(config: Mapping[str, Any]) -> type[Policy] | type[ClairvoyantPolicy]:
    """The class that an agent's `_target_` names; nothing is called before it is known to be a policy.

    Raises:
        InputError: when there is no such class, with its new place if it has moved, or when it is no policy.
    """
    name, target = config.get("name", "?"), str(config.get("_target_", ""))
    module, _, cls = target.rpartition(".")
    if not module or not cls:
        said = f"_target_={target!r}: names no class" if target else "_target_ is missing"
        raise InputError(
            f"agent {name}: {said}; expected FILE.Class of a Python file beside your YAML, or package.module.Class"
        )
    refuse_shadowed(module.partition(".")[0], f"agent {name}: _target_={target!r}")
    try:
        found = getattr(importlib.import_module(module), cls)
    except (Exception, SystemExit) as error:
        if (moved := _packaged_target(cls)) and isinstance(error, (ImportError, AttributeError, ValueError)):
            raise InputError(f"agent {name}: _target_={target!r}: it is now {moved}") from None
        expected = isinstance(error, (ImportError, AttributeError, ValueError))
        reason = str(error) if expected else in_words(error)
        raise InputError(f"agent {name}: _target_={target!r} cannot be loaded ({reason})") from error
    if not (isinstance(found, type) and issubclass(found, (Policy, ClairvoyantPolicy))):
        raise InputError(f"agent {name}: _target_={target!r} is not a Policy")
    return found


def _packaged_target(cls: str) -> str | None:
    """Where the package defines a class of this name."""
    here = Path(__file__).parent
    for file in sorted(here.rglob("*.py")):
        if cls and f"\nclass {cls}(" in file.read_text():
            return ".".join(("hvgym.agents", *file.relative_to(here).with_suffix("").parts, cls))
    return None


def profile_of(policy: Policy | ClairvoyantPolicy) -> str:
    """Name of the profile of signals that a policy sees; `SEES_ALL` for one that sees the hidden state."""
    return policy.visibility.name if isinstance(policy, Policy) else SEES_ALL


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf
