"""Move keys, state strings and the fingerprint, written by compiled code into byte buffers.

Formats: RULES.md Appendix A and B. An *expanded key* writes a region as ``T`` and all its cells;
the recorded form ``Tc:n:h8`` is derived from it (``short_key``).
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit, jit_once  # isort: skip

import hashlib

import numpy as np

from ringrift_ops.rules.bits import has
from ringrift_ops.rules.boards import (
    H_CELL,
    H_CELLS,
    H_HEX,
    H_KEY_ORDER,
    H_LENGTH,
    H_LINE_AXES,
    H_NEIGHBOUR,
    H_ON_BOARD,
    H_ORDER,
    H_PLAYERS,
    H_RECOVERY_AXES,
    H_X,
    H_Y,
)
from ringrift_ops.rules.layout import (
    CAPTURE,
    CHAIN_CAPTURE,
    COLLAPSED,
    CONTINUE_CAPTURE,
    ELIMINATE_LINE,
    ELIMINATE_TERRITORY,
    FORCED,
    LINE_OPTION,
    LINE_PROCESSING,
    MARKER,
    MOVE,
    NO_LINE,
    NO_MOVEMENT,
    NO_PLACEMENT,
    NO_TERRITORY,
    OVERTAKE,
    PHASE_CODES,
    PHASE_NAMES,
    PLACE,
    PROCESS_LINE,
    RECOVER_FALLBACK,
    RECOVER_STRIKE,
    RECOVER_WINDOW,
    S_ACTED,
    S_CHAIN,
    S_COMPLETED,
    S_ELIMINATED,
    S_HAND,
    S_LINE_DEBT,
    S_LPS_EXCLUSIVE,
    S_LPS_FIRST,
    S_LPS_MASK,
    S_LPS_ROUNDS,
    S_MUST,
    S_PHASE,
    S_PLAYER,
    S_RECOVERED,
    S_SWAP,
    S_TERRITORY,
    S_TERRITORY_DEBT,
    S_WINNER,
    SKIP_CAPTURE,
    SKIP_PLACEMENT,
    SKIP_RECOVERY,
    SKIP_TERRITORY,
    STACK,
    SWAP_DONE,
    SWAP_OFFERED,
    SWAP_RULE,
    SWAP_SIDES,
    TERRITORY,
    TERRITORY_PROCESSING,
)
from ringrift_ops.rules.lines import cell_along
from ringrift_ops.rules.stacks import (
    NO_RING,
    cap_of,
    height_of,
    owner_of,
    ring_below,
    ring_owner,
    top_ring,
)
from ringrift_ops.rules.territory import region_cells

TEXT_BUFFER = 65_536
"""Bytes enough for any state string, fingerprint or single key."""

_PHASE_TEXT = np.zeros((8, 24), dtype=np.uint8)
_PHASE_CODE = np.zeros((8, 2), dtype=np.uint8)
for _i, (_name, _code) in enumerate(zip(PHASE_NAMES, PHASE_CODES, strict=True)):
    _PHASE_TEXT[_i, : len(_name)] = list(_name.encode())
    _PHASE_CODE[_i] = list(_code.encode())

_FIXED_KEYS = np.zeros((24, 2), dtype=np.uint8)
for _kind, _key in {
    SKIP_PLACEMENT: "-P",
    NO_PLACEMENT: "0P",
    SWAP_SIDES: "SW",
    SKIP_CAPTURE: "-C",
    NO_MOVEMENT: "0M",
    SKIP_RECOVERY: "-R",
    NO_LINE: "0L",
    SKIP_TERRITORY: "-T",
    NO_TERRITORY: "0T",
}.items():
    _FIXED_KEYS[_kind] = list(_key.encode())


@jit
def _put(out, n, char):
    out[n] = np.uint8(char)
    return n + 1


@jit
def _put_number(out, n, value):
    if value < 0:
        out[n] = np.uint8(45)
        n += 1
        value = -value
    digits = 1
    bound = 10
    while value >= bound:
        digits += 1
        bound *= 10
    for i in range(digits):
        out[n + digits - 1 - i] = np.uint8(48 + value % 10)
        value //= 10
    return n + digits


@jit
def _put_cell(G, out, n, cell):
    n = _put_number(out, n, G[G[H_X] + cell])
    n = _put(out, n, 44)
    return _put_number(out, n, G[G[H_Y] + cell])


@jit
def _put_run(G, out, n, first, direction, cells):
    """Cells in a row, in cell order, joined by '/'."""
    step = direction
    start = first
    beyond = cell_along(G, first, direction, 1)
    if G[G[H_X] + beyond] == G[G[H_X] + first] and G[G[H_Y] + beyond] < G[G[H_Y] + first]:
        start = cell_along(G, first, direction, cells - 1)
        step = 1  # hexagonal (0,-1) is written in the order of (0,1), which is direction 1
    row = G[H_NEIGHBOUR] + step * (G[H_CELLS] + 1)
    for i in range(cells):
        if i > 0:
            n = _put(out, n, 47)
        n = _put_cell(G, out, n, start)
        start = G[row + start]
    return n


@jit_once
def put_key(G, s, move, out, n, zero):
    """Write the expanded key of a move that is legal in ``s``; return the new length."""
    kind = move & 31
    to, origin, third, extra = (move >> 5) & 1023, (move >> 15) & 1023, (move >> 25) & 1023, move >> 35
    if _FIXED_KEYS[kind, 0] != 0:
        n = _put(out, n, _FIXED_KEYS[kind, 0])
        return _put(out, n, _FIXED_KEYS[kind, 1])
    if kind == PLACE:
        n = _put_cell(G, out, _put(out, n, 80), to)
        return _put_number(out, _put(out, n, 42), extra)
    if kind == MOVE:
        n = _put_cell(G, out, _put(out, n, 77), origin)
        return _put_cell(G, out, _put(out, n, 62), to)
    if kind == OVERTAKE or kind == CONTINUE_CAPTURE:
        n = _put_cell(G, out, _put(out, n, 67 if kind == OVERTAKE else 75), origin)
        n = _put_cell(G, out, _put(out, n, 62), third)
        return _put_cell(G, out, _put(out, n, 62), to)
    if RECOVER_FALLBACK <= kind <= RECOVER_WINDOW:
        n = _put_cell(G, out, _put(out, n, 82), origin)
        n = _put_cell(G, out, _put(out, n, 62), to)
        n = _put(out, n, 58)
        code = 70 if kind == RECOVER_FALLBACK else (83 if kind == RECOVER_STRIKE else 49)
        n = _put(out, n, 50 if kind == RECOVER_WINDOW else code)
        n = _put(out, n, 58)
        if kind == RECOVER_WINDOW:
            return _put_run(G, out, n, third, G[G[H_RECOVERY_AXES] + extra], G[H_LENGTH])
        return _put_cell(G, out, n, third)
    if kind == PROCESS_LINE or kind == LINE_OPTION:
        direction = G[G[H_LINE_AXES] + (extra & 7)]
        n = _put(out, n, 76 if kind == PROCESS_LINE else 79)
        n = _put_run(G, out, n, origin, direction, (extra >> 3) & 31)
        if kind == LINE_OPTION:
            n = _put_run(G, out, _put(out, n, 61), third, direction, extra >> 8)
        return n
    if kind == TERRITORY:
        n = _put(out, n, 84)
        region = region_cells(G, s, to, extra, zero)
        first = True
        for i in range(G[H_ON_BOARD]):
            cell = G[G[H_ORDER] + i]
            if has(region, cell):
                if not first:
                    n = _put(out, n, 47)
                first = False
                n = _put_cell(G, out, n, cell)
        return n
    n = _put_cell(G, out, _put(out, n, 88 if kind == FORCED else 69), to)
    if kind == FORCED:
        return n
    n = _put(out, n, 58)
    if kind == ELIMINATE_LINE:
        return _put(out, n, 108)
    return _put(out, n, 116 if kind == ELIMINATE_TERRITORY else 114)


@jit
def put_keys(G, s, moves, count, out, zero):
    """Write the expanded keys of ``moves[:count]`` joined by spaces; -1 if ``out`` might not do."""
    n = 0
    for i in range(count):
        if n + 8192 > out.size:
            return -1
        if i > 0:
            n = _put(out, n, 32)
        n = put_key(G, s, moves[i], out, n, zero)
    return n


@jit
def _put_field(G, out, n, cell):
    return _put(out, n, 45) if cell < 0 else _put_cell(G, out, n, cell)


@jit
def _put_seats(G, s, offset, out, n):
    for i in range(G[H_PLAYERS]):
        if i > 0:
            n = _put(out, n, 47)
        n = _put_number(out, n, s[offset + i])
    return n


@jit
def _put_tracker(G, s, out, n):
    n = _put_number(out, n, s[S_LPS_FIRST])
    n = _put(out, n, 47)
    for i in range(G[H_PLAYERS]):
        seen = (s[S_LPS_MASK] >> (2 * i)) & 3
        n = _put(out, n, 45 if seen == 0 else 47 + seen)
    n = _put_number(out, _put(out, n, 47), s[S_LPS_ROUNDS])
    return _put_number(out, _put(out, n, 47), s[S_LPS_EXCLUSIVE])


@jit
def _put_rings(G, s, word, out, n):
    """Rings bottom to top as digits."""
    height = height_of(word)
    ring = top_ring(word)
    i = n + height - 1
    while ring != NO_RING:
        out[i] = np.uint8(48 + ring_owner(G, s, ring))
        i -= 1
        ring = ring_below(G, s, ring)
    return n + height


@jit
def _put_cells(G, s, kind, out, n):
    first = True
    for i in range(G[H_ON_BOARD]):
        cell = G[G[H_ORDER] + i]
        word = s[G[H_CELL] + cell]
        if word & 3 == kind:
            if not first:
                n = _put(out, n, 32)
            first = False
            n = _put_cell(G, out, n, cell)
            n = _put(out, n, 58)
            if kind == STACK:
                n = _put_rings(G, s, word, out, n)
            else:
                n = _put_number(out, n, owner_of(word))
    return n


@jit_once
def put_state(G, s, out):
    """Write the state string (Appendix A); return its length."""
    over = s[S_COMPLETED] != 0
    n = _put_number(out, _put(out, 0, 112), s[S_PLAYER])
    n = _put(out, n, 59)
    n = _put(out, n, _PHASE_CODE[s[S_PHASE], 0])
    n = _put(out, n, _PHASE_CODE[s[S_PHASE], 1])
    n = _put(out, n, 59)
    n = _put_number(out, _put(out, n, 67), s[S_WINNER]) if over else _put(out, n, 65)
    n = _put(out, _put(out, n, 59), 109)
    n = _put_field(G, out, n, s[S_MUST])
    n = _put(out, _put(out, n, 59), 99)
    capturing = s[S_PHASE] == CAPTURE or s[S_PHASE] == CHAIN_CAPTURE
    n = _put_field(G, out, n, s[S_CHAIN] if capturing else -1)
    n = _put(out, _put(out, n, 59), 101)
    if s[S_PHASE] == LINE_PROCESSING and s[S_LINE_DEBT]:
        n = _put(out, n, 76)
    elif s[S_PHASE] == TERRITORY_PROCESSING and s[S_TERRITORY_DEBT]:
        n = _put(out, n, 82 if s[S_RECOVERED] else 84)
    else:
        n = _put(out, n, 45)
    n = _put(out, _put(out, n, 59), 116)
    if over or not (s[S_ACTED] or s[S_RECOVERED]):
        n = _put(out, n, 45)
    else:
        if s[S_ACTED]:
            n = _put(out, n, 97)
        if s[S_RECOVERED]:
            n = _put(out, n, 114)
    n = _put_seats(G, s, S_HAND, out, _put(out, _put(out, n, 59), 104))
    n = _put_seats(G, s, S_ELIMINATED, out, _put(out, _put(out, n, 59), 120))
    n = _put_seats(G, s, S_TERRITORY, out, _put(out, _put(out, n, 59), 103))
    n = _put(out, _put(out, n, 59), 108)
    n = _put(out, n, 45) if over else _put_tracker(G, s, out, n)
    n = _put(out, _put(out, n, 59), 121)
    if s[S_SWAP] & SWAP_RULE:
        n = _put_number(out, n, 21 if s[S_SWAP] & SWAP_DONE else 12)
        if s[S_SWAP] & SWAP_OFFERED and not over:
            n = _put(out, n, 43)
    else:
        n = _put(out, n, 45)
    n = _put_cells(G, s, STACK, out, _put(out, _put(out, n, 59), 115))
    n = _put_cells(G, s, MARKER, out, _put(out, _put(out, n, 59), 107))
    return _put_cells(G, s, COLLAPSED, out, _put(out, _put(out, n, 59), 122))


@jit
def _put_long_cell(G, out, n, cell):
    n = _put_cell(G, out, n, cell)
    if G[H_HEX]:
        n = _put(out, n, 44)
        n = _put_number(out, n, -G[G[H_X] + cell] - G[G[H_Y] + cell])
    return n


@jit_once
def put_fingerprint(G, s, out):
    """Write TS's fingerprint (Appendix B); return its length."""
    n = _put_number(out, 0, s[S_PLAYER])
    n = _put(out, n, 58)
    text = _PHASE_TEXT[s[S_PHASE]]
    i = 0
    while text[i] != 0:
        n = _put(out, n, text[i])
        i += 1
    n = _put(out, n, 58)
    for char in b"completed" if s[S_COMPLETED] else b"active":
        n = _put(out, n, char)
    n = _put_number(out, _put(out, n, 58), 1 if s[S_LINE_DEBT] else 0)
    for p in range(1, G[H_PLAYERS] + 1):
        n = _put(out, n, 35 if p == 1 else 124)
        n = _put_number(out, n, p)
        n = _put_number(out, _put(out, n, 58), s[S_HAND + p - 1])
        n = _put_number(out, _put(out, n, 58), s[S_ELIMINATED + p - 1])
        n = _put_number(out, _put(out, n, 58), s[S_TERRITORY + p - 1])
    for kind in (STACK, MARKER, COLLAPSED):
        n = _put(out, n, 35)
        first = True
        for i in range(G[H_ON_BOARD]):
            cell = G[G[H_KEY_ORDER] + i]
            word = s[G[H_CELL] + cell]
            if word & 3 == kind:
                if not first:
                    n = _put(out, n, 124)
                first = False
                n = _put_long_cell(G, out, n, cell)
                n = _put_number(out, _put(out, n, 58), owner_of(word))
                if kind == STACK:
                    n = _put_number(out, _put(out, n, 58), height_of(word))
                    n = _put_number(out, _put(out, n, 58), cap_of(word))
    return n


_LOW32 = np.uint64(0xFFFFFFFF)


@jit
def hash_lanes(text, start, end):
    """RingRift's hash of ``text[start:end]`` (Appendix B): the two 32-bit lanes (h2, h1) as int64."""
    a, b = np.uint64(0xDEADBEEF), np.uint64(0x41C6CE57)
    for i in range(start, end):
        char = np.uint64(text[i])
        a = ((a ^ char) * np.uint64(2654435761)) & _LOW32
        b = ((b ^ char) * np.uint64(1597334677)) & _LOW32
    a = (((a ^ (a >> np.uint64(16))) * np.uint64(2246822507)) & _LOW32) ^ (
        ((b ^ (b >> np.uint64(13))) * np.uint64(3266489909)) & _LOW32
    )
    b = (((b ^ (b >> np.uint64(16))) * np.uint64(2246822507)) & _LOW32) ^ (
        ((a ^ (a >> np.uint64(13))) * np.uint64(3266489909)) & _LOW32
    )
    return np.int64(b), np.int64(a)


@jit
def state_hash(G, s, out):
    """RingRift's state hash as one int64 bit pattern (h2 in the upper half)."""
    b, a = hash_lanes(out, 0, put_fingerprint(G, s, out))
    return b << 32 | a


@jit
def legal_hash(G, s, moves, count, out, zero):
    """Order-free hash of a legal list: lane sums modulo 2^32 of the hashes of the expanded keys."""
    low = np.int64(0xFFFFFFFF)
    high_sum, low_sum = np.int64(0), np.int64(0)
    for i in range(count):
        b, a = hash_lanes(out, 0, put_key(G, s, moves[i], out, 0, zero))
        high_sum = (high_sum + b) & low
        low_sum = (low_sum + a) & low
    return high_sum << 32 | low_sum


def hex16(bits: int) -> str:
    """A 64-bit pattern as 16 hex digits."""
    return f"{int(bits) & 0xFFFFFFFFFFFFFFFF:016x}"


def short_key(key: str) -> str:
    """The recorded form of an expanded key: only regions differ (``Tc:n:h8``)."""
    if not key.startswith("T"):
        return key
    cells = key[1:]
    digest = hashlib.sha256(cells.encode()).hexdigest()[:8]
    return f"T{cells.split('/', 1)[0]}:{cells.count('/') + 1}:{digest}"
