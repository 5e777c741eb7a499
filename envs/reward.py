"""What a learner is rewarded for in a step, where it is not goodput alone.

``reward`` of an environment and ``train.reward`` of a learner are the same plain data. Weights, each of a term that reads 0 to 1
(`Weights`), say what is taken off goodput:

    {goodput: 1, slo: 0.5, p99: 0, churn: 0.1, host_cpu: 0, less_stock: false}

or ``_target_`` names a function or class of one's own, and the other keys are its arguments (``less_stock`` is not one):

    {_target_: mine.reward, price: 0.2, less_stock: true}

    def reward(step: hvgym.envs.reward.Step, price: float) -> np.ndarray | dict[str, np.ndarray]

It is given a `Step` of a batch of environments and answers float ``[env]``, or several by name, whose sum is the reward. It must
answer for each environment by that one's own rows, else a lane would depend on its neighbours.

``less_stock`` takes off what the hypervisor as shipped gets in the same step of the same demand (``paired``), a control variate:
no action changes it, so the best policy stays the best, and the luck of a seed cancels out.

Each term stands in ``info`` as ``reward_NAME``, weighted and signed, so that they add up to the reward. Scores, validation and
comparisons are of goodput, whatever a learner was rewarded for.
"""

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from hvgym.envs.errors import InputError, in_words, shown
from hvgym.envs.schema import build, number
from hvgym.envs.telemetry import Telemetry

COUNTERS = {
    "asked_s": "asked_s", "progress_s": "progress_s", "charged_s": "charged_s", "slo_s": "slo_violation_s",
    "oom_kills": "oom_kills", "failed_starts": "failed_starts", "balloon_moved_mib": "balloon_moved_mib",
}  # fmt: skip
"""Fields of `STEP_VM` by the model's counters whose rise they are."""

STEP_VM = np.dtype([(name, "f8") for name in (*COUNTERS, "weight", "critical", "memory_mib", "min_mib", "size_mib")])
"""Of a VM in a step. asked_s: seconds for which it wanted to work; progress_s: seconds' worth of its work that were done;
charged_s: what kills and failed starts are charged; slo_s: seconds in which it missed its objective, 0 of VMs that are not
critical; oom_kills, failed_starts; balloon_moved_mib. Fixed: weight, critical (0 or 1), memory_mib (configured), min_mib. At the
end: size_mib, what the balloon leaves."""

MAX_SLOWDOWN = 1000.0
"""As of ``bench.rollout``: a VM that does not move at all is slowed so many times."""


@dataclass(frozen=True)
class Step:
    """One control interval of a batch of environments.

    seconds: its length; time_s ``[env]``: of its end; terms: `stepping.TERMS` by name, float64 ``[env]``; vm ``[env, vm]`` of
    `STEP_VM`; ram_mib ``[env]``; host_cpu ``[env]``: share of the host's pCPUs that page sharing, compression, watching pages and
    the backends of devices took in the interval's last second; read: see `telemetry`.
    """

    seconds: float
    time_s: np.ndarray
    terms: Mapping[str, np.ndarray]
    vm: np.ndarray
    ram_mib: np.ndarray
    host_cpu: np.ndarray
    read: Callable[[], Telemetry]

    @property
    def telemetry(self) -> Telemetry:
        """All signals at the end of the interval, in raw units (``telemetry``); takes longer than a step of small hosts."""
        return self.read()

    @property
    def slowdown(self) -> np.ndarray:
        """1 / progress of each VM that wanted to work, else 1; float64 ``[env, vm]``, from 1 to `MAX_SLOWDOWN`."""
        asked_s = self.vm["asked_s"]
        share = np.divide(self.vm["progress_s"], asked_s, out=np.ones(asked_s.shape), where=asked_s > 0.0)
        return np.asarray(1.0 / np.clip(share, 1.0 / MAX_SLOWDOWN, 1.0))


@dataclass(frozen=True)
class Weights:
    """What a unit of each term is worth, in goodput. goodput: net of kills, as ever. The rest are taken off:

    slo: share of critical VMs' seconds that miss their objective. p99: logarithm of the 99th percentile of slowdown over the VMs
    of a step (interpolated, so of few VMs nearly the slowest), as a part of that of `MAX_SLOWDOWN`. churn: MiB that balloons moved,
    of the host's RAM. host_cpu: see `Step`.
    """

    goodput: float = number(1.0, least=0)
    slo: float = number(0.0, least=0)
    p99: float = number(0.0, least=0)
    churn: float = number(0.0, least=0)
    host_cpu: float = number(0.0, least=0)

    def __call__(self, step: Step) -> dict[str, np.ndarray]:
        """The terms whose weight is not 0, and goodput."""
        found = {"goodput": self.goodput * step.terms["goodput"]}
        for name, term in _TERMS.items():
            if (weight := getattr(self, name)) > 0.0:
                found[name] = -weight * term(step)
        return found


def _slo(step: Step) -> np.ndarray:
    critical_s = np.maximum(step.vm["critical"].sum(axis=1) * step.seconds, 1e-9)
    return np.asarray(step.terms["cost"] / critical_s)


def _p99(step: Step) -> np.ndarray:
    return np.asarray(np.log(np.quantile(step.slowdown, 0.99, axis=1)) / np.log(MAX_SLOWDOWN))


def _churn(step: Step) -> np.ndarray:
    return np.asarray(step.terms["balloon_moved_mib"] / step.ram_mib)


_TERMS: dict[str, Callable[[Step], np.ndarray]] = {
    "slo": _slo, "p99": _p99, "churn": _churn, "host_cpu": lambda step: step.host_cpu,
}  # fmt: skip


@dataclass(frozen=True)
class Reward:
    """A reward that has been read. of: the function; less_stock: see the module; best: what a step is rewarded in which nothing is
    lost, which learners take off so that returns are small; where: its key, for messages."""

    of: Callable[[Step], Any]
    less_stock: bool = False
    best: float = 0.0
    where: str = "reward"

    def terms(self, step: Step) -> dict[str, np.ndarray]:
        """Float64 ``[env]`` by name, whose sum is the reward. Raises `InputError` for an answer that is none."""
        try:
            answer = self.of(step)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{self.where}: {in_words(error)}") from error
        named = answer if isinstance(answer, Mapping) else {"own": answer}
        if not named or not all(isinstance(name, str) and name.isidentifier() for name in named):
            raise InputError(
                f"{self.where}: answers {shown(list(named))}; expected [env], or such by names that are words"
            )
        return {name: self._checked(name, value, len(step.time_s)) for name, value in named.items()}

    def _checked(self, name: str, value: Any, lanes: int) -> np.ndarray:
        try:
            numbers = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            raise InputError(f"{self.where}: {name} is {shown(value)}; expected numbers of shape ({lanes},)") from None
        if numbers.shape != (lanes,):
            raise InputError(f"{self.where}: {name} has shape {numbers.shape}; expected ({lanes},), one an environment")
        if not np.isfinite(numbers).all():
            raise InputError(f"{self.where}: {name} is {numbers[~np.isfinite(numbers)][0]}; expected finite numbers")
        return numbers


def reward_of(given: Mapping[str, Any] | None, where: str = "reward") -> Reward | None:
    """Read a ``reward``; None where it is goodput. Raises `InputError` that names the key, its value, and what would be right."""
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise InputError(f"{where}={shown(given)}: expected weights ({_KNOWN}), or a _target_ of your own")
    keys = {str(key): value for key, value in given.items()}
    less_stock = keys.pop("less_stock", False)
    if not isinstance(less_stock, bool):
        raise InputError(f"{where}.less_stock={shown(less_stock)}: expected true or false")
    if "_target_" in keys:
        return Reward(_own(keys, where), less_stock, 0.0, f"{where}._target_={keys['_target_']!r}")
    weights = build(Weights, keys, where)
    return Reward(weights, less_stock, 0.0 if less_stock else weights.goodput, where)


_KNOWN = ", ".join((*(field.name for field in fields(Weights)), "less_stock"))


def _own(keys: Mapping[str, Any], where: str) -> Callable[[Step], Any]:
    """A function with its arguments, or an object of a class made with them."""
    arguments = {key: value for key, value in keys.items() if key != "_target_"}
    target = str(keys["_target_"])
    said = f"{where}._target_={target!r}"
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        raise InputError(f"{said} cannot be loaded ({in_words(error)})") from error
    if not callable(found):
        raise InputError(f"{said} is no function or class")
    try:
        if isinstance(found, type):
            found = found(**arguments)
            if not callable(found):
                raise InputError(f"{said}: its objects are not called (no __call__)")
            return found
        inspect.signature(found).bind(None, **arguments)
    except TypeError as error:
        raise InputError(f"{said}: {error}; it is called with a step and the other keys") from None
    return functools.partial(found, **arguments)
