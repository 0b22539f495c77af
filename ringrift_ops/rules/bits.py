"""Sets of cells as bitboards of two widths: one ``uint64``, or a tuple of ten.

Rule code is written once over these primitives; the width is the type of the value, carried by the
argument ``zero`` (``ZERO1`` or ``ZERO10``). One step of every cell in a direction is one shift: a
rotation by 64 or 61 bits on the small boards (whose index space is circular), a plain shift across
words on the large ones; ``G[H_ARRIVAL]`` cuts what left the board.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, Final

from ringrift_ops.rules.compile import jit  # isort: skip  (sets the cache folder before numba loads)

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from ringrift_ops.rules.boards import H_ARRIVAL, H_CELLS, H_DIRECTIONS, H_SHIFT

ZERO1: Final = np.uint64(0)
ZERO10: Final = (np.uint64(0),) * 10


@intrinsic
def popcount64(typingctx, value):
    """Number of set bits of a uint64."""

    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@intrinsic
def lowest64(typingctx, value):
    """Index of the lowest set bit of a uint64 that is not zero."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], context.get_constant(types.boolean, True))

    return types.uint64(types.uint64), codegen


def _is_word(b) -> bool:
    return isinstance(b, types.Integer)


def _load(s, offset, zero) -> Any: ...
def _both(a, b) -> Any: ...
def _either(a, b) -> Any: ...
def _without(a, b) -> Any: ...
def _empty(a) -> Any: ...
def _same(a, b) -> Any: ...
def _count(a) -> Any: ...
def _lowest(a) -> Any: ...
def _without_lowest(a) -> Any: ...
def _single(cell, zero) -> Any: ...
def _has(a, cell) -> Any: ...
def _shift(G, direction, b) -> Any: ...


@overload(_load)
def _(s, offset, zero):
    if _is_word(zero):
        return lambda s, offset, zero: np.uint64(s[offset])
    return lambda s, offset, zero: (
        np.uint64(s[offset]),
        np.uint64(s[offset + 1]),
        np.uint64(s[offset + 2]),
        np.uint64(s[offset + 3]),
        np.uint64(s[offset + 4]),
        np.uint64(s[offset + 5]),
        np.uint64(s[offset + 6]),
        np.uint64(s[offset + 7]),
        np.uint64(s[offset + 8]),
        np.uint64(s[offset + 9]),
    )


@overload(_both)
def _(a, b):
    if _is_word(a):
        return lambda a, b: a & b
    return lambda a, b: (
        a[0] & b[0],
        a[1] & b[1],
        a[2] & b[2],
        a[3] & b[3],
        a[4] & b[4],
        a[5] & b[5],
        a[6] & b[6],
        a[7] & b[7],
        a[8] & b[8],
        a[9] & b[9],
    )


@overload(_either)
def _(a, b):
    if _is_word(a):
        return lambda a, b: a | b
    return lambda a, b: (
        a[0] | b[0],
        a[1] | b[1],
        a[2] | b[2],
        a[3] | b[3],
        a[4] | b[4],
        a[5] | b[5],
        a[6] | b[6],
        a[7] | b[7],
        a[8] | b[8],
        a[9] | b[9],
    )


@overload(_without)
def _(a, b):
    if _is_word(a):
        return lambda a, b: a & ~b
    return lambda a, b: (
        a[0] & ~b[0],
        a[1] & ~b[1],
        a[2] & ~b[2],
        a[3] & ~b[3],
        a[4] & ~b[4],
        a[5] & ~b[5],
        a[6] & ~b[6],
        a[7] & ~b[7],
        a[8] & ~b[8],
        a[9] & ~b[9],
    )


@overload(_empty)
def _(a):
    if _is_word(a):
        return lambda a: a == np.uint64(0)
    return lambda a: (a[0] | a[1] | a[2] | a[3] | a[4] | a[5] | a[6] | a[7] | a[8] | a[9]) == np.uint64(0)


@overload(_same)
def _(a, b):
    if _is_word(a):
        return lambda a, b: a == b
    return lambda a, b: (
        (
            (a[0] ^ b[0])
            | (a[1] ^ b[1])
            | (a[2] ^ b[2])
            | (a[3] ^ b[3])
            | (a[4] ^ b[4])
            | (a[5] ^ b[5])
            | (a[6] ^ b[6])
            | (a[7] ^ b[7])
            | (a[8] ^ b[8])
            | (a[9] ^ b[9])
        )
        == np.uint64(0)
    )


@overload(_count)
def _(a):
    if _is_word(a):
        return lambda a: np.int64(popcount64(a))

    def count(a):
        total = np.int64(0)
        for word in a:
            total += np.int64(popcount64(word))
        return total

    return count


@overload(_lowest)
def _(a):
    if _is_word(a):
        return lambda a: np.int64(lowest64(a))

    def lowest(a):
        base = np.int64(0)
        for word in a:
            if word != np.uint64(0):
                return base + np.int64(lowest64(word))
            base += 64
        return np.int64(-1)

    return lowest


@overload(_without_lowest)
def _(a):
    if _is_word(a):
        return lambda a: a & (a - np.uint64(1))
    return lambda a: _without(a, _single(_lowest(a), a))


@overload(_single)
def _(cell, zero):
    if _is_word(zero):
        return lambda cell, zero: np.uint64(1) << np.uint64(cell)

    def single(cell, zero):
        word, bit = cell >> 6, np.uint64(1) << np.uint64(cell & 63)
        none = np.uint64(0)
        return (
            bit if word == 0 else none,
            bit if word == 1 else none,
            bit if word == 2 else none,
            bit if word == 3 else none,
            bit if word == 4 else none,
            bit if word == 5 else none,
            bit if word == 6 else none,
            bit if word == 7 else none,
            bit if word == 8 else none,
            bit if word == 9 else none,
        )

    return single


@overload(_has)
def _(a, cell):
    if _is_word(a):
        return lambda a, cell: (a >> np.uint64(cell)) & np.uint64(1) != np.uint64(0)
    return lambda a, cell: (a[cell >> 6] >> np.uint64(cell & 63)) & np.uint64(1) != np.uint64(0)


@overload(_shift)
def _(G, direction, b):
    if _is_word(b):

        def rotate(G, direction, b):
            left = np.uint64(G[G[H_SHIFT] + direction])
            right = np.uint64(G[H_CELLS]) - left
            return ((b << left) | (b >> right)) & np.uint64(G[G[H_ARRIVAL] + direction])

        return rotate

    def shift(G, direction, b):
        step = G[G[H_SHIFT] + direction]
        m = G[H_ARRIVAL] + direction * 10
        if step > 0:
            k = np.uint64(step)
            r = np.uint64(64) - k
            return (
                (b[0] << k) & np.uint64(G[m]),
                ((b[1] << k) | (b[0] >> r)) & np.uint64(G[m + 1]),
                ((b[2] << k) | (b[1] >> r)) & np.uint64(G[m + 2]),
                ((b[3] << k) | (b[2] >> r)) & np.uint64(G[m + 3]),
                ((b[4] << k) | (b[3] >> r)) & np.uint64(G[m + 4]),
                ((b[5] << k) | (b[4] >> r)) & np.uint64(G[m + 5]),
                ((b[6] << k) | (b[5] >> r)) & np.uint64(G[m + 6]),
                ((b[7] << k) | (b[6] >> r)) & np.uint64(G[m + 7]),
                ((b[8] << k) | (b[7] >> r)) & np.uint64(G[m + 8]),
                ((b[9] << k) | (b[8] >> r)) & np.uint64(G[m + 9]),
            )
        k = np.uint64(-step)
        r = np.uint64(64) - k
        return (
            ((b[0] >> k) | (b[1] << r)) & np.uint64(G[m]),
            ((b[1] >> k) | (b[2] << r)) & np.uint64(G[m + 1]),
            ((b[2] >> k) | (b[3] << r)) & np.uint64(G[m + 2]),
            ((b[3] >> k) | (b[4] << r)) & np.uint64(G[m + 3]),
            ((b[4] >> k) | (b[5] << r)) & np.uint64(G[m + 4]),
            ((b[5] >> k) | (b[6] << r)) & np.uint64(G[m + 5]),
            ((b[6] >> k) | (b[7] << r)) & np.uint64(G[m + 6]),
            ((b[7] >> k) | (b[8] << r)) & np.uint64(G[m + 7]),
            ((b[8] >> k) | (b[9] << r)) & np.uint64(G[m + 8]),
            (b[9] >> k) & np.uint64(G[m + 9]),
        )

    return shift


@jit
def load(s, offset, zero):
    """The bitboard at an offset of a state or table, in the width of ``zero``."""
    return _load(s, offset, zero)


@jit
def both(a, b):
    return _both(a, b)


@jit
def either(a, b):
    return _either(a, b)


@jit
def without(a, b):
    return _without(a, b)


@jit
def empty(a):
    return _empty(a)


@jit
def same(a, b):
    return _same(a, b)


@jit
def count(a):
    """Number of cells (int64)."""
    return _count(a)


@jit
def lowest(a):
    """Lowest cell index of a set that is not empty."""
    return _lowest(a)


@jit
def without_lowest(a):
    """The set without its lowest cell."""
    return _without_lowest(a)


@jit
def single(cell, zero):
    """The set of one cell."""
    return _single(cell, zero)


@jit
def has(a, cell):
    return _has(a, cell)


@jit
def shift(G, direction, b):
    """Every cell of ``b`` moved one step in a direction; cells that leave the board are dropped."""
    return _shift(G, direction, b)


@jit
def copy_state(to, s):
    """Overwrite one state with another (``to[:] = s`` has Numba compile the text of a shape error everywhere)."""
    for i in range(s.size):
        to[i] = s[i]


@jit
def bit_index(bit):
    """Index of the only set bit of an int64."""
    return np.int64(lowest64(np.uint64(bit)))


@jit
def opposite(G, direction):
    half = G[H_DIRECTIONS] >> 1
    return direction + half if direction < half else direction - half
