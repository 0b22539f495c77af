"""Names, shapes and random starts of the tensors of both families, without importing torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from ringrift_ops.network import encoder, sparse
from ringrift_ops.network.policy import ROLE_COUNT, SLOTS
from ringrift_ops.network.sparse import SizeError
from ringrift_ops.rules.boards import H_PLAYERS

Family = Literal["sparse", "convolutional"]
Floats = npt.NDArray[np.float32]

VALUE_WIDTH: Final = 64
"""Hidden units of a convolutional net's value head."""
PAIR_WIDTH: Final = 16
"""Length of the vectors whose product joins the two ends of a move."""


def _convolutional_shapes(G: Any, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    if set(sizes) != {"blocks", "channels"}:
        raise SizeError(f"a convolutional net has the sizes blocks and channels, not {sorted(sizes)}")
    blocks, c = sizes["blocks"], sizes["channels"]
    if not 1 <= blocks <= 64:
        raise SizeError(f"size blocks of a convolutional net is 1 to 64, not {blocks}")
    if not 8 <= c <= 1024 or c % 8:
        raise SizeError(f"size channels of a convolutional net is a multiple of 8 up to 1024, not {c}")
    players = int(G[H_PLAYERS])
    shapes: dict[str, tuple[int, ...]] = {
        "stem.weight": (c, int(encoder.plane_count(G)), 3, 3),
        "inputs.weight": (c, int(encoder.global_count(G))),
        "inputs.bias": (c,),
    }
    for i in range(blocks):
        for half in ("first", "second"):
            shapes |= {
                f"blocks.{i}.{half}_norm.weight": (c,),
                f"blocks.{i}.{half}_norm.bias": (c,),
                f"blocks.{i}.{half}.weight": (c, c, 3, 3),
            }
    return shapes | {
        "norm.weight": (c,),
        "norm.bias": (c,),
        "value_hidden.weight": (VALUE_WIDTH, 2 * c),
        "value_hidden.bias": (VALUE_WIDTH,),
        "value.weight": (players, VALUE_WIDTH),
        "value.bias": (players,),
        "slots.weight": (SLOTS, 2 * c),
        "slots.bias": (SLOTS,),
        "roles.weight": (ROLE_COUNT, c, 1, 1),
        "roles.bias": (ROLE_COUNT,),
        "ends.weight": (2 * PAIR_WIDTH, c, 1, 1),
        "ends.bias": (2 * PAIR_WIDTH,),
    }


def tensor_shapes(G: Any, family: str, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor (float32) of a net. Raises SizeError, also for an unknown family."""
    if family == "sparse":
        return sparse.sparse_shapes(G, sizes)
    if family == "convolutional":
        return _convolutional_shapes(G, sizes)
    raise SizeError(f"there is no family {family!r}; there are: {', '.join(get_args(Family))}")


def random_tensors(G: Any, family: str, sizes: Mapping[str, int], seed: int) -> dict[str, Floats]:
    """A random start: values near 0, nearly uniform priors. Raises SizeError."""
    shapes = tensor_shapes(G, family, sizes)
    rng = np.random.default_rng(seed)
    if family == "sparse":
        return sparse.initial_tensors(G, sizes, rng)
    small = {"value.weight": 0.02, "slots.weight": 0.01, "roles.weight": 0.01, "ends.weight": 0.1}
    tensors: dict[str, Floats] = {}
    for name, shape in shapes.items():
        if name.endswith("norm.weight"):
            tensors[name] = np.ones(shape, dtype=np.float32)
        elif len(shape) == 1:
            tensors[name] = np.zeros(shape, dtype=np.float32)
        else:
            scale = small.get(name, math.sqrt(2.0 / math.prod(shape[1:])))
            tensors[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
    return tensors
