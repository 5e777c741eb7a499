"""Strict building of dataclasses from plain configuration: a typo or a wrong value ends in one line, never in silence."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from hvgym.envs.errors import InputError, nearest, shown

T = TypeVar("T")

MOST_NUMBER = 1e15
"""Beyond it sums of products lose their units' last digits, and far beyond their finiteness (a guess)."""


def number(
    default: Any = dataclasses.MISSING, *, least: float = -math.inf, most: float = math.inf, above: float = -math.inf
) -> Any:
    """A numeric field with its allowed range: ``least`` and ``most`` inclusive, ``above`` exclusive."""
    return dataclasses.field(default=default, metadata={"least": least, "most": most, "above": above})


def build(cls: type[T], data: Any, where: str) -> T:
    """Build dataclass `cls` from a mapping.

    Raises:
        InputError: naming the key (as `where`.key), its value, and what would be right.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: expected a group of keys, got {shown(data)}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise InputError(f"{where}.{key}: unknown key{nearest(str(key), fields)}; known: {', '.join(fields)}")
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], f"{where}.{name}", field.metadata)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            if _optional(hints[name]):
                values[name] = None
                continue
            raise InputError(f"{where}.{name}: missing; it has no default")
    try:
        return cls(**values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def plain(value: Any) -> Any:
    """Return a dataclass tree as JSON-ready values, the inverse of `build`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return value


def _optional(hint: Any) -> bool:
    """Whether None is a value: a field of this kind that has no default may be left out."""
    return type(None) in typing.get_args(hint)


def _convert(hint: Any, value: Any, where: str, limits: Mapping[str, float]) -> Any:
    if hint is Any:
        return value
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _convert(typing.get_args(hint)[0], value, where, limits)
    if origin is typing.Literal:
        if value not in typing.get_args(hint) or isinstance(value, bool):
            choices = ", ".join(map(str, typing.get_args(hint)))
            raise InputError(
                f"{where}={shown(value)}: choose one of {choices}{nearest(str(value), map(str, typing.get_args(hint)))}"
            )
        return value
    if origin is tuple:
        return _convert_tuple(typing.get_args(hint), value, where, limits)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise InputError(f"{where}={shown(value)}: expected a group of keys, each with a value")
        kind = typing.get_args(hint)[1]
        return {str(key): _convert(kind, item, f"{where}.{key}", limits) for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type[Any], hint), value, where)
    if hint is bool or hint is str:
        if not isinstance(value, hint):
            raise InputError(f"{where}={shown(value)}: expected {'true or false' if hint is bool else 'text'}")
        return value
    return _convert_number(hint, value, where, limits)


def _convert_tuple(args: tuple[Any, ...], value: Any, where: str, limits: Mapping[str, float]) -> tuple[Any, ...]:
    if isinstance(value, (str, Mapping)) or not hasattr(value, "__len__"):
        raise InputError(f"{where}={shown(value)}: expected a list")
    if args[-1] is Ellipsis:
        return tuple(_convert(args[0], item, f"{where}[{i}]", limits) for i, item in enumerate(value))
    if len(value) != len(args):
        raise InputError(f"{where}={shown(list(value))}: expected {len(args)} values, got {len(value)}")
    return tuple(
        _convert(arg, item, f"{where}[{i}]", limits) for i, (arg, item) in enumerate(zip(args, value, strict=True))
    )


def _convert_number(hint: Any, value: Any, where: str, limits: Mapping[str, float]) -> Any:
    kind = "a whole number" if hint is int else "a number"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
        raise InputError(f"{where}={shown(value)}: expected {kind}")
    if hint is int and value != int(value):
        raise InputError(f"{where}={shown(value)}: expected a whole number")
    least, most, above = (
        limits.get(key, bound) for key, bound in (("least", -math.inf), ("most", math.inf), ("above", -math.inf))
    )
    if value < least or value > most or value <= above:
        bounds = [f"above {above:g}" if above > -math.inf else "", f"at least {least:g}" if least > -math.inf else ""]
        bounds.append(f"at most {most:g}" if most < math.inf else "")
        raise InputError(f"{where}={shown(value)}: must be {' and '.join(filter(None, bounds))}")
    if abs(value) > MOST_NUMBER:
        raise InputError(f"{where}={shown(value)}: must be at most {MOST_NUMBER:g} in size")
    return hint(value)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False
