"""A number for each recency tier in one vector register: ``tiers(vm.resident_mib)`` reads one, `put` writes it back.

The physics treats the tiers of a VM alike, so it is written once for all of them: ``+ - * /``, `min`, `max`, ``<``,
``>`` and `where` work tier by tier, and a plain number stands for the same number in every tier. Arithmetic is IEEE
double, the sum of `total` is taken in one fixed order, so every machine gets the same bits. Numba has no such type;
this file adds it (LLVM's ``<4 x double>``) and knows nothing of memory. Outside compiled code there is no such value.
"""

import operator
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models
from numba.core.extending import intrinsic, lower_builtin, lower_cast, register_model
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from hvgym.envs.model.params import TIERS

Tiers = Any
"""One float per tier."""

_VECTOR = ir.VectorType(ir.DoubleType(), TIERS)
_BITS = ir.VectorType(ir.IntType(1), TIERS)


class _TiersType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Tiers")


class _MaskType(types.Type):
    def __init__(self) -> None:
        super().__init__(name="TiersMask")


_TIERS, _MASK = _TiersType(), _MaskType()


@register_model(_TiersType)
class _TiersModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type) -> None:  # type: ignore[no-untyped-def]
        super().__init__(manager, fe_type, _VECTOR)


@register_model(_MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type) -> None:  # type: ignore[no-untyped-def]
        super().__init__(manager, fe_type, _BITS)


def _splat(builder: Any, number: Any) -> Any:
    """The same number in every tier."""
    index = ir.IntType(32)
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, index(0))
    return builder.shuffle_vector(
        first, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.VectorType(index, TIERS), [0] * TIERS)
    )


@lower_cast(types.Float, _TiersType)
def _number_to_tiers(context, builder, fromty, toty, value):  # type: ignore[no-untyped-def]
    return _splat(builder, context.cast(builder, value, fromty, types.float64))


def _binary(function, result, emit) -> None:  # type: ignore[no-untyped-def]
    """Make `function` of two tier values (or one and a number) emit one vector instruction."""

    class Template(AbstractTemplate):
        def generic(self, args, kws):  # type: ignore[no-untyped-def]
            if len(args) == 2 and _TIERS in args and all(a == _TIERS or isinstance(a, types.Float) for a in args):
                return signature(result, _TIERS, _TIERS)
            return None

    infer_global(function)(Template)

    @lower_builtin(function, _TIERS, _TIERS)
    def _lower(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return emit(builder, *args)


def _operation(function: Any) -> Any:
    """An intrinsic that type checkers take as it is called, without numba's typing context."""
    return intrinsic(function)


def _compare(sign: str) -> Any:
    return lambda builder, a, b: builder.fcmp_ordered(sign, a, b)


def _choose(sign: str) -> Any:
    return lambda builder, a, b: builder.select(builder.fcmp_ordered(sign, a, b), a, b)


for _plus, _minus, _times, _over in (
    (operator.add, operator.sub, operator.mul, operator.truediv),
    (operator.iadd, operator.isub, operator.imul, operator.itruediv),
):
    _binary(_plus, _TIERS, lambda builder, a, b: builder.fadd(a, b))
    _binary(_minus, _TIERS, lambda builder, a, b: builder.fsub(a, b))
    _binary(_times, _TIERS, lambda builder, a, b: builder.fmul(a, b))
    _binary(_over, _TIERS, lambda builder, a, b: builder.fdiv(a, b))
_binary(operator.lt, _MASK, _compare("<"))
_binary(operator.gt, _MASK, _compare(">"))
_binary(min, _TIERS, _choose("<"))
_binary(max, _TIERS, _choose(">"))


@_operation
def tiers(typingctx, field):  # type: ignore[no-untyped-def]
    """Read a record's per-tier field, ``[tier]``."""

    def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.load(_address(context, builder, sig, args), align=8)

    return _TIERS(field), emit


@_operation
def put(typingctx, field, value):  # type: ignore[no-untyped-def]
    """Write a record's per-tier field, ``[tier]``."""

    def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
        builder.store(args[1], _address(context, builder, sig, args), align=8)
        return context.get_dummy_value()

    return types.void(field, _TIERS), emit


def _address(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    array = context.make_array(sig.args[0])(context, builder, args[0])
    return builder.bitcast(array.data, _VECTOR.as_pointer())


@_operation
def where(typingctx, mask, one, other):  # type: ignore[no-untyped-def]
    """`one` in the tiers where the comparison holds, else `other`."""

    def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.select(*args)

    return _TIERS(_MASK, _TIERS, _TIERS), emit


@_operation
def total(typingctx, value):  # type: ignore[no-untyped-def]
    """Sum over the tiers, always in the order (0 + 2) + (1 + 3)."""

    def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
        index = ir.IntType(32)
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        pairs = ir.VectorType(index, 2)
        low = builder.shuffle_vector(args[0], undefined, ir.Constant(pairs, [0, 1]))
        high = builder.shuffle_vector(args[0], undefined, ir.Constant(pairs, [2, 3]))
        both = builder.fadd(low, high)
        return builder.fadd(builder.extract_element(both, index(0)), builder.extract_element(both, index(1)))

    return types.float64(_TIERS), emit
