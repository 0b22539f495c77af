"""Building positions that did not arise by play: the parser of state strings uses these."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip

import numpy as np

from ringrift_ops.rules.layout import (
    COLLAPSED,
    MARKER,
    S_COMPLETED,
    S_FREE_RING,
    S_PHASE,
    S_REGIONS,
    S_TERRITORY_DEBT,
    TERRITORY_PROCESSING,
)
from ringrift_ops.rules.stacks import NO_RING, collapse, put_stack, set_marker, with_ring_on_top
from ringrift_ops.rules.territory import any_region


@jit
def add_stack(G, s, cell, kind, owners):
    """Put a stack (``owners`` bottom to top), marker or collapsed cell on an empty cell.

    False when the ring nodes of the state are used up.
    """
    if kind == MARKER:
        set_marker(G, s, cell, owners[0])
    elif kind == COLLAPSED:
        collapse(G, s, cell, owners[0])
    else:
        word = np.int64(0)
        for owner in owners:
            if s[S_FREE_RING] == NO_RING:
                return False
            word = with_ring_on_top(G, s, word, owner)
        put_stack(G, s, cell, word)
    return True


@jit
def finish_setup(G, s, scratch, zero):
    """Fill what is derived from the cells."""
    waiting = s[S_PHASE] == TERRITORY_PROCESSING and not s[S_TERRITORY_DEBT] and not s[S_COMPLETED]
    s[S_REGIONS] = 1 if waiting and any_region(G, s, scratch, zero) else 0
