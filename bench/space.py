"""The search space of an agent: the ``tune`` key of its YAML, laid out as the agent's own keys are.

    tune:
      target_share: [0.5, 0.98]                            # from, to
      max_change_mib: {low: 10, high: 1000, log: true}     # by magnitude
      train: {batch_size: {choices: [1024, 2048, 4096]}}

A range between whole numbers around a whole number is searched in whole numbers. The agent's own value must lie in
its range, because it is the first trial. Other numbers are rounded to `DIGITS` before they are played, so that what a
tuned YAML says is what was played.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from hvgym.agents.policy import META_KEYS
from hvgym.envs.errors import InputError, nearest
from hvgym.envs.schema import build

DIGITS = 4


@dataclass(frozen=True)
class Range:
    """The keys of a range."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Parameter:
    """One dimension. key: dotted, as in ``train.gamma``; original: the agent's own value."""

    key: str
    original: Any
    distribution: BaseDistribution

    def played(self, drawn: Any) -> Any:
        """The value that a trial plays."""
        if not isinstance(self.distribution, FloatDistribution) or drawn == self.original:
            return drawn
        return min(max(float(f"{drawn:.{DIGITS}g}"), self.distribution.low), self.distribution.high)


def space_of(agent: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """The parameters to search. Raises `InputError` naming the key and what would be right."""
    if not agent.get("tune"):
        raise InputError(
            f"agent={agent['name']}: has no search space; give its YAML a key tune, as in tune: {{KEY: [LOW, HIGH]}}"
        )
    own = {key: value for key, value in agent.items() if key not in META_KEYS or key == "train"}
    return tuple(_parameters(agent["tune"], own, ""))


def _parameters(space: Any, own: Mapping[str, Any], prefix: str) -> Iterator[Parameter]:
    where = f"agent.tune.{prefix}"
    if not isinstance(space, Mapping):
        raise InputError(f"{where.rstrip('.')}={space!r}: expected parameters with their ranges")
    for key, given in space.items():
        if key not in own:
            raise InputError(f"{where}{key}: no such parameter{nearest(str(key), own)}; known: {', '.join(own)}")
        if isinstance(own[key], Mapping):
            yield from _parameters(given, own[key], f"{prefix}{key}.")
        else:
            yield Parameter(f"{prefix}{key}", own[key], _distribution(given, own[key], f"{where}{key}"))


def _distribution(given: Any, original: Any, where: str) -> BaseDistribution:
    if isinstance(given, list):
        given = _pair(given, where)
    if isinstance(given, Mapping) and "choices" in given:
        return _choice(given, original, where)
    limits = build(Range, given, where)
    if not limits.low < limits.high:
        raise InputError(f"{where}: low={given['low']!r} must be below high={given['high']!r}")
    if limits.log and limits.low <= 0:
        raise InputError(f"{where}.low={given['low']!r}: must be above 0 where log is true")
    if isinstance(original, bool) or not isinstance(original, (int, float)):
        raise InputError(f"{where}: the agent's own value {original!r} is no number; use choices")
    if not limits.low <= original <= limits.high:
        raise InputError(f"{where}: the agent's own value {original!r} is outside [{given['low']}, {given['high']}]")
    if all(isinstance(value, int) for value in (given["low"], given["high"], original)):
        return IntDistribution(given["low"], given["high"], log=limits.log)
    return FloatDistribution(limits.low, limits.high, log=limits.log)


def _pair(given: list[Any], where: str) -> dict[str, Any]:
    if len(given) != 2:
        raise InputError(f"{where}={given!r}: expected [LOW, HIGH], or {{choices: [...]}}")
    return {"low": given[0], "high": given[1]}


def _choice(given: Mapping[str, Any], original: Any, where: str) -> CategoricalDistribution:
    choices = given["choices"]
    if len(given) > 1 or not isinstance(choices, list) or not all(_is_scalar(choice) for choice in choices):
        raise InputError(f"{where}={given!r}: expected choices alone, a list of numbers, words, true or false")
    if len(choices) < 2 or len({str(choice) for choice in choices}) != len(choices):
        raise InputError(f"{where}.choices={choices!r}: expected two or more, none twice")
    if original not in choices:
        raise InputError(f"{where}.choices={choices!r}: the agent's own value {original!r} is not among them")
    return CategoricalDistribution(choices)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))


def with_values(agent: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The agent, without its search space, with these values (by dotted key) in the place of its own."""
    result = {key: value for key, value in agent.items() if key != "tune"}
    for dotted, value in values.items():
        *groups, leaf = dotted.split(".")
        node = result
        for group in groups:
            node[group] = dict(node[group])
            node = node[group]
        node[leaf] = value
    return result


def ends(space: Sequence[Parameter]) -> list[dict[str, Any]]:
    """Values at the low ends of all ranges, at the high ends, and each choice: what an agent must be able to play."""
    ranges, result = dict[str, tuple[float, float]](), list[dict[str, Any]]()
    for parameter in space:
        if isinstance(parameter.distribution, (FloatDistribution, IntDistribution)):
            ranges[parameter.key] = parameter.distribution.low, parameter.distribution.high
        elif isinstance(parameter.distribution, CategoricalDistribution):
            result += [{parameter.key: choice} for choice in parameter.distribution.choices]
    return [{key: ends[i] for key, ends in ranges.items()} for i in (0, 1)] + result
