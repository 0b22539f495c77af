"""Sixteen floats at a time: what the evaluation and training of a small net spend their time on.

Two things make plain loops slow here. LLVM unrolls vector bodies beyond 32 or 64 floats and leaves
them to scalar remainders (measured: 12 ns per 32 floats against 2); and every array handed to a
function is counted with atomic instructions (measured: half the time of an evaluation). So the few
sums that matter are written as vector instructions on addresses of float32 data, ``address(array)``,
which the caller keeps alive. All widths are multiples of ``LANES``. Nothing is checked.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Final

from ringrift_ops.rules.compile import jit  # isort: skip  (sets the cache folder before numba loads)

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES: Final = 16
FLOAT: Final = 4
"""Bytes of a float32."""
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INT64 = ir.IntType(64)
_FAST = ("contract", "reassoc", "nsz")


def _load(builder, place):
    value = builder.load(builder.inttoptr(place, _VECTOR.as_pointer()))
    value.align = FLOAT
    return value


def _store(builder, place, value):
    builder.store(value, builder.inttoptr(place, _VECTOR.as_pointer())).align = FLOAT


def _splat(builder, value):
    lanes = cgutils.get_null_value(_VECTOR)
    for i in range(LANES):
        lanes = builder.insert_element(lanes, value, ir.Constant(ir.IntType(32), i))
    return lanes


def _sum(builder, values):
    while len(values) > 1:
        values = [builder.fadd(a, b, flags=_FAST) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def _horizontal(builder, vector):
    """Sum of the lanes of a vector."""
    lanes = LANES
    while lanes > 1:
        lanes //= 2
        low, high = (
            builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), lanes), list(places)))
            for places in (range(lanes), range(lanes, 2 * lanes))
        )
        vector = builder.fadd(low, high, flags=_FAST)
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


@intrinsic
def address(typingctx, array):
    """Address (int64) of the first element of an array."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, _INT64)

    return types.int64(array), codegen


@intrinsic
def _axpy16(typingctx, target, source, factor):
    """Sixteen floats at target += factor * those at source."""

    def codegen(context, builder, signature, args):
        product = builder.fmul(_load(builder, args[1]), _splat(builder, args[2]), flags=_FAST)
        _store(builder, args[0], builder.fadd(_load(builder, args[0]), product, flags=_FAST))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), codegen


@intrinsic
def _product16(typingctx, target, source, stride, factors, count):
    """Sixteen floats at target += sum over i < count of factors[i] * those at source + i stride.

    ``count`` is a multiple of 4; the sum stays in one register.
    """

    def codegen(context, builder, signature, args):
        target, source, stride, factors, count = args
        total = cgutils.alloca_once_value(builder, _load(builder, target))
        four = ir.Constant(_INT64, 4)
        with cgutils.for_range(builder, builder.sdiv(count, four)) as loop:
            parts = []
            for k in range(4):
                i = builder.add(builder.mul(loop.index, four), ir.Constant(_INT64, k))
                at = builder.add(factors, builder.mul(i, ir.Constant(_INT64, FLOAT)))
                factor = builder.load(builder.inttoptr(at, ir.FloatType().as_pointer()))
                row = _load(builder, builder.add(source, builder.mul(i, stride)))
                parts.append(builder.fmul(row, _splat(builder, factor), flags=_FAST))
            builder.store(builder.fadd(builder.load(total), _sum(builder, parts), flags=_FAST), total)
        _store(builder, target, builder.load(total))
        return context.get_dummy_value()

    int64 = types.int64
    return types.void(int64, int64, int64, int64, int64), codegen


@intrinsic
def _add4x16(typingctx, target, a, b, c, d):
    """Sixteen floats at target += those at four places."""

    def codegen(context, builder, signature, args):
        rows = _sum(builder, [_load(builder, place) for place in args[1:]])
        _store(builder, args[0], builder.fadd(_load(builder, args[0]), rows, flags=_FAST))
        return context.get_dummy_value()

    int64 = types.int64
    return types.void(int64, int64, int64, int64, int64), codegen


@intrinsic
def dot(typingctx, x, first, second, width):
    """Scalar product (float32) of ``width`` floats at x with the sum of those at first and second."""

    def codegen(context, builder, signature, args):
        x, first, second, width = args
        total = cgutils.alloca_once_value(builder, cgutils.get_null_value(_VECTOR))
        step = ir.Constant(_INT64, LANES * FLOAT)
        with cgutils.for_range(builder, builder.sdiv(width, ir.Constant(_INT64, LANES))) as loop:
            i = builder.mul(loop.index, step)
            row = builder.fadd(
                _load(builder, builder.add(first, i)), _load(builder, builder.add(second, i)), flags=_FAST
            )
            product = builder.fmul(_load(builder, builder.add(x, i)), row, flags=_FAST)
            builder.store(builder.fadd(builder.load(total), product, flags=_FAST), total)
        return _horizontal(builder, builder.load(total))

    int64 = types.int64
    return types.float32(int64, int64, int64, int64), codegen


@intrinsic
def _copy16(typingctx, target, source):
    """Sixteen floats at target = those at source."""

    def codegen(context, builder, signature, args):
        _store(builder, args[0], _load(builder, args[1]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def _rectify16(typingctx, target):
    """Sixteen floats at target = max(0, they)."""

    def codegen(context, builder, signature, args):
        value, zero = _load(builder, args[0]), cgutils.get_null_value(_VECTOR)
        _store(builder, args[0], builder.select(builder.fcmp_ordered(">", value, zero), value, zero))
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@jit
def add_scaled(target, source, width, factor):
    """``width`` floats at target += factor * those at source."""
    for i in range(0, width * FLOAT, LANES * FLOAT):
        _axpy16(target + i, source + i, factor)


@jit
def add_product(target, source, width, factors, count):
    """``width`` floats at target += the ``count`` factors @ the matrix [count, width] at source.

    ``count`` is a multiple of 4.
    """
    for i in range(0, width * FLOAT, LANES * FLOAT):
        _product16(target + i, source + i, width * FLOAT, factors, count)


@jit
def add_four(target, a, b, c, d, width):
    """``width`` floats at target += those at four places."""
    for i in range(0, width * FLOAT, LANES * FLOAT):
        _add4x16(target + i, a + i, b + i, c + i, d + i)


@jit
def copy_floats(target, source, width):
    """``width`` floats at target = those at source."""
    for i in range(0, width * FLOAT, LANES * FLOAT):
        _copy16(target + i, source + i)


@jit
def rectify(target, width):
    """``width`` floats at target = max(0, they)."""
    for i in range(0, width * FLOAT, LANES * FLOAT):
        _rectify16(target + i)
