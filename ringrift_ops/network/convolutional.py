"""The convolutional family: a residual net over planes in torch, batched over positions.

Pre-activation residual blocks (He 2016) with group normalisation, so that training and serving
compute the same; cells off the board are zeroed after every convolution. Hexagonal boards lie in
their axial square, whose 3 x 3 neighbourhood holds the six true neighbours and the two cells that
hex8's borders also spread over. Heads: value per seat from pooled channels; a logit of a move is
``slot + one plane per role of its cells + end(from) . end(to)``, so that the policy never forgets
where things are.
"""

from __future__ import annotations

from ringrift_ops.rules.compile import jit  # isort: skip  (sets the cache folder before numba loads)

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from ringrift_ops.network import encoder
from ringrift_ops.network.policy import FROM_ROLE, ROLE_COUNT, SLOTS, THIRD_ROLE, TO_ROLE, index_parts, policy_index
from ringrift_ops.network.shapes import PAIR_WIDTH, VALUE_WIDTH
from ringrift_ops.rules.boards import H_LENGTH, H_ON_BOARD, H_PLAYERS
from ringrift_ops.rules.game import Game
from ringrift_ops.rules.layout import S_PLAYER

Array = npt.NDArray[Any]
GROUPS = 8


class Heads(NamedTuple):
    """What a forward pass gives, before a move is looked at."""

    outputs: torch.Tensor  # [B, players], relative seats; values are seat_values(outputs)
    slots: torch.Tensor  # [B, SLOTS]
    roles: torch.Tensor  # [B, ROLE_COUNT * cells + 1], last column 0: the move has no such cell
    origins: torch.Tensor  # [B, cells + 1, PAIR_WIDTH], last row 0
    landings: torch.Tensor  # [B, cells + 1, PAIR_WIDTH], last row 0


def seat_values(outputs: torch.Tensor) -> torch.Tensor:
    """Mean of tanh(o_i - o_j) over the other seats j: [B, players], mean zero, within [-1, 1]."""
    players = outputs.shape[1]
    return torch.tanh(outputs[:, :, None] - outputs[:, None, :]).sum(dim=2) / (players - 1)


class Block(nn.Module):
    """Two masked convolutions around which the input is carried."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(GROUPS, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(GROUPS, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        y = self.first(functional.relu(self.first_norm(x)) * mask) * mask
        y = self.second(functional.relu(self.second_norm(y)) * mask) * mask
        return torch.add(x, y)


class ConvolutionalNet(nn.Module):
    """Planes float32 [B, C, H, W] and globals float32 [B, G] to ``Heads``."""

    def __init__(self, rules: Game, sizes: Mapping[str, int]) -> None:
        super().__init__()
        g, c = rules.geometry, sizes["channels"]
        self.cells = int(g[H_ON_BOARD])
        size = rules.board.size
        offset = size // 2 if rules.board.is_hex else 0
        flat = torch.tensor([(x + offset) * size + y + offset for x, y in rules.board.cells])
        mask = torch.zeros(size * size)
        mask[flat] = 1.0
        self.register_buffer("flat", flat, persistent=False)
        self.register_buffer("mask", mask.view(1, 1, size, size), persistent=False)
        self.stem = nn.Conv2d(int(encoder.plane_count(g)), c, 3, padding=1, bias=False)
        self.inputs = nn.Linear(int(encoder.global_count(g)), c)
        self.blocks = nn.ModuleList(Block(c) for _ in range(sizes["blocks"]))
        self.norm = nn.GroupNorm(GROUPS, c)
        self.value_hidden = nn.Linear(2 * c, VALUE_WIDTH)
        self.value = nn.Linear(VALUE_WIDTH, int(g[H_PLAYERS]))
        self.slots = nn.Linear(2 * c, SLOTS)
        self.roles = nn.Conv2d(c, ROLE_COUNT, 1)
        self.ends = nn.Conv2d(c, 2 * PAIR_WIDTH, 1)

    def forward(self, planes: torch.Tensor, numbers: torch.Tensor) -> Heads:
        mask = self.get_buffer("mask")
        x = (self.stem(planes) + self.inputs(numbers)[:, :, None, None]) * mask
        for block in self.blocks:
            x = block(x, mask)
        x = functional.relu(self.norm(x)) * mask
        on_board = x.flatten(2)[:, :, self.get_buffer("flat")]
        pooled = torch.cat([on_board.mean(dim=2), on_board.amax(dim=2)], dim=1)
        outputs = self.value(functional.relu(self.value_hidden(pooled)))
        cells = on_board[:, :, :, None]
        roles = functional.pad(self.roles(cells).flatten(1), (0, 1))
        ends = functional.pad(self.ends(cells)[:, :, :, 0].transpose(1, 2), (0, 0, 0, 1))
        return Heads(outputs, self.slots(pooled), roles, ends[:, :, :PAIR_WIDTH], ends[:, :, PAIR_WIDTH:])

    def logits(self, heads: Heads, samples: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
        """Logits [M] of moves: ``samples`` int64 [M] says whose, ``parts`` int64 [M, 6] is ``move_columns``'s."""
        slot, to, origin, third, start, end = parts.unbind(dim=1)
        total = heads.slots[samples, slot]
        for place in (to, origin, third):
            total = total + heads.roles[samples, place]
        pair = (heads.origins[samples, start] * heads.landings[samples, end]).sum(dim=1)
        return total + pair / math.sqrt(PAIR_WIDTH)


@jit
def move_columns(G: Any, indices: Any, out: Any) -> None:
    """What ``ConvolutionalNet.logits`` looks up for policy indices [M], into int64 [M, 6]."""
    cells = G[H_ON_BOARD]
    none = ROLE_COUNT * cells
    for i in range(indices.size):
        kind, slot, to, origin, third = index_parts(G, np.int64(indices[i]), G[H_LENGTH])
        out[i, 0] = slot
        out[i, 1] = (TO_ROLE[kind] - 1) * cells + to if to >= 0 else none
        out[i, 2] = (FROM_ROLE[kind] - 1) * cells + origin if origin >= 0 else none
        out[i, 3] = (THIRD_ROLE[kind] - 1) * cells + third if third >= 0 else none
        out[i, 4] = origin if origin >= 0 else cells
        out[i, 5] = to if to >= 0 else cells


@jit
def _move_columns_of_lists(G: Any, states: Any, moves: Any, counts: Any, samples: Any, indices: Any) -> None:
    k = 0
    for i in range(states.shape[0]):
        for m in range(counts[i]):
            samples[k] = i
            indices[k] = policy_index(G, moves[i, m], states[i, S_PLAYER])
            k += 1


def build(rules: Game, sizes: Mapping[str, int], tensors: Mapping[str, Array]) -> ConvolutionalNet:
    """The module with these weights (copied); raises RuntimeError when they are not exactly its own."""
    module = ConvolutionalNet(rules, sizes)
    module.load_state_dict({name: torch.from_numpy(np.array(t)) for name, t in tensors.items()}, strict=True)
    return module


class ConvolutionalEvaluator:
    """Batched evaluation of a convolutional net on one device."""

    def __init__(self, rules: Game, sizes: Mapping[str, int], tensors: Mapping[str, Array], device: str) -> None:
        self.rules = rules
        self.device = torch.device(device)
        self.module = build(rules, sizes, tensors).to(self.device).eval()

    def evaluate(self, states: Array, moves: Array, counts: Array) -> tuple[Array, Array]:
        """As ``Network.evaluate_batch``."""
        g, size = self.rules.geometry, self.rules.board.size
        b = len(states)
        rows = np.empty((b, encoder.row_bytes(g)), dtype=np.uint8)
        planes = np.empty((b, encoder.plane_count(g), size, size), dtype=np.float32)
        numbers = np.empty((b, encoder.global_count(g)), dtype=np.float32)
        encoder.compact_states(g, states, rows)
        encoder.planes_of_rows(g, rows, planes, numbers)
        total = int(counts.sum())
        samples, indices = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int32)
        _move_columns_of_lists(g, states, moves, counts, samples, indices)
        parts = np.empty((total, 6), dtype=np.int64)
        move_columns(g, indices, parts)
        with torch.inference_mode():
            heads = self.module(torch.from_numpy(planes).to(self.device), torch.from_numpy(numbers).to(self.device))
            relative = seat_values(heads.outputs).cpu().numpy()
            flat = self.module.logits(
                heads, torch.from_numpy(samples).to(self.device), torch.from_numpy(parts).to(self.device)
            )
        logits = np.full(moves.shape, -np.inf, dtype=np.float32)
        logits[np.arange(moves.shape[1]) < counts[:, None]] = flat.cpu().numpy()
        seats = (np.arange(self.rules.players)[None, :] - (states[:, S_PLAYER] - 1)[:, None]) % self.rules.players
        return np.take_along_axis(relative, seats, axis=1), logits
