"""Asking the processor for memory before it is needed, so that the arithmetic of one environment hides the wait for the next.

The state of a thousand environments does not fit into any near cache, and a record is read here and there, in no order that
hardware foresees. A hint, no load: it changes no result, and a processor may ignore it.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from hvgym.envs.model.params import LINE_BYTES, SELDOM

_READ, _SECOND_LEVEL, _DATA = 0, 2, 1
"""LLVM's words for what is to be done with it, where it is to be kept and what it is. The first level holds the environment
that is being worked on."""


def _prefetch(typingctx, record):  # type: ignore[no-untyped-def]
    """Fetch the cache lines of a record up to the fields that are looked at seldom."""
    needed = min([record.fields[name].offset for name in record.fields if name in SELDOM], default=record.size)

    def emit(context, builder, sig, args):  # type: ignore[no-untyped-def]
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        start = builder.bitcast(args[0], byte)
        for line in range(0, needed, LINE_BYTES):
            address = builder.gep(start, [ir.Constant(ir.IntType(64), line)])
            builder.call(fetch, [address, number(_READ), number(_SECOND_LEVEL), number(_DATA)])
        return context.get_dummy_value()

    return types.void(record), emit


prefetch: Any = intrinsic(_prefetch)
