"""Sixteen floats at a time: what the evaluation of a small net spends its time on.

LLVM's own vectoriser turns loops over 32 or 64 floats into scalar remainders (measured: 12 ns per
32 floats against 2), because it unrolls vector bodies beyond these lengths and guards every loop
against overlapping arrays. So the two sums that matter are written as vector instructions; all
widths are multiples of ``LANES``. Places are not checked.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Final

from ringrift_ops.rules.compile import jit  # isort: skip  (sets the cache folder before numba loads)

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES: Final = 16
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_FAST = ("contract", "reassoc", "nsz")


def _pointer(context, builder, array_type, array, place):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), _VECTOR.as_pointer())


def _load(context, builder, array_type, array, place):
    value = builder.load(_pointer(context, builder, array_type, array, place))
    value.align = 4
    return value


def _store(context, builder, array_type, array, place, value):
    builder.store(value, _pointer(context, builder, array_type, array, place)).align = 4


def _splat(builder, value):
    lanes = cgutils.get_null_value(_VECTOR)
    for i in range(LANES):
        lanes = builder.insert_element(lanes, value, ir.Constant(ir.IntType(32), i))
    return lanes


def _sum(builder, values):
    while len(values) > 1:
        pairs = [builder.fadd(a, b, flags=_FAST) for a, b in zip(values[::2], values[1::2], strict=True)]
        values = pairs
    return values[0]


@intrinsic
def _axpy16(typingctx, target, at, source, start, factor):
    """target[at : at + 16] += factor * source[start : start + 16]."""
    signature = types.void(target, types.int64, source, types.int64, types.float32)

    def codegen(context, builder, sig, args):
        t, s = sig.args[0], sig.args[2]
        row = _load(context, builder, s, args[2], args[3])
        old = _load(context, builder, t, args[0], args[1])
        product = builder.fmul(row, _splat(builder, args[4]), flags=_FAST)
        _store(context, builder, t, args[0], args[1], builder.fadd(old, product, flags=_FAST))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _product16(typingctx, target, at, source, start, width, factors, first, count):
    """target[at : at + 16] += sum over i < count of factors[first + i] * source[start + i width : ... + 16].

    ``count`` is a multiple of 4; the sum stays in one register.
    """
    int64 = types.int64
    signature = types.void(target, int64, source, int64, int64, factors, int64, int64)

    def codegen(context, builder, sig, args):
        t, s, f = sig.args[0], sig.args[2], sig.args[5]
        data = context.make_array(f)(context, builder, args[5]).data
        total = cgutils.alloca_once_value(builder, _load(context, builder, t, args[0], args[1]))
        four = ir.Constant(ir.IntType(64), 4)
        with cgutils.for_range(builder, builder.sdiv(args[7], four)) as loop:
            parts = []
            for k in range(4):
                i = builder.add(builder.mul(loop.index, four), ir.Constant(ir.IntType(64), k))
                factor = builder.load(builder.gep(data, [builder.add(args[6], i)]))
                row = _load(context, builder, s, args[2], builder.add(args[3], builder.mul(i, args[4])))
                parts.append(builder.fmul(row, _splat(builder, factor), flags=_FAST))
            builder.store(builder.fadd(builder.load(total), _sum(builder, parts), flags=_FAST), total)
        _store(context, builder, t, args[0], args[1], builder.load(total))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _add4x16(typingctx, target, at, source, a, b, c, d):
    """target[at : at + 16] += the sum of four rows of source."""
    signature = types.void(target, types.int64, source, types.int64, types.int64, types.int64, types.int64)

    def codegen(context, builder, sig, args):
        t, s = sig.args[0], sig.args[2]
        w, x, y, z = (_load(context, builder, s, args[2], place) for place in args[3:])
        rows = _sum(builder, [w, x, y, z])
        old = _load(context, builder, t, args[0], args[1])
        _store(context, builder, t, args[0], args[1], builder.fadd(old, rows, flags=_FAST))
        return context.get_dummy_value()

    return signature, codegen


@jit
def add_product(target, at, source, start, width, factors, first, count):
    """target[at : at + width] += factors[first : first + count] @ the matrix [count, width] at ``start``.

    ``width`` is a multiple of LANES, ``count`` of 4.
    """
    for i in range(0, width, LANES):
        _product16(target, at + i, source, start + i, width, factors, first, count)


@jit
def add_rows(target, source, start, rows, count, width, spare):
    """target[:width] += the sum of ``rows[:count]`` of the table of ``width`` columns at ``start``.

    ``rows`` has room for three more than ``count``, which are made to point at row ``spare`` (zeros).
    """
    for k in range(count, count + 3):
        rows[k] = spare
    for k in range(0, count, 4):
        a = start + np.int64(rows[k]) * width
        b = start + np.int64(rows[k + 1]) * width
        c = start + np.int64(rows[k + 2]) * width
        d = start + np.int64(rows[k + 3]) * width
        for i in range(0, width, LANES):
            _add4x16(target, i, source, a + i, b + i, c + i, d + i)


@jit
def add_row(target, at, source, start, width):
    """target[at : at + width] += source[start : start + width]."""
    for i in range(0, width, LANES):
        _axpy16(target, at + i, source, start + i, np.float32(1.0))


@jit
def add_scaled(target, at, source, start, width, factor):
    """target[at : at + width] += factor * source[start : start + width]."""
    for i in range(0, width, LANES):
        _axpy16(target, at + i, source, start + i, factor)
