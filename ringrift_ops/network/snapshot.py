"""A net under training, its optimizer and torch's generator, as tensors by name: to keep, and to go back to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Array = npt.NDArray[Any]


def begin(module: nn.Module, optimizer: torch.optim.AdamW, start: Mapping[str, Array]) -> None:
    """Give the net the weights of ``start`` and an optimizer that has seen nothing, allocated now: no step has to."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(np.array(start[name])))
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }


def take(module: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, Array]:
    """Return everything as arrays of the machine's memory; those of a CPU net are views."""
    tensors: dict[str, Array] = {"rng": torch.get_rng_state().numpy()}
    for name, parameter in module.named_parameters():
        tensors[f"model.{name}"] = parameter.detach().cpu().numpy()
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{name}.{key}"] = value.detach().cpu().numpy()
    return tensors


def restore(module: nn.Module, optimizer: torch.optim.AdamW, tensors: Mapping[str, Array]) -> None:
    """Put everything back as it was taken, after :func:`begin`."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(np.array(tensors[f"model.{name}"])))
            for key, value in optimizer.state[parameter].items():
                kept = torch.from_numpy(np.array(tensors[f"optimizer.{name}.{key}"]))
                value.copy_(kept.view(value.shape))  # safetensors keeps no scalars: they come back as [1]
    torch.set_rng_state(torch.from_numpy(np.array(tensors["rng"])))
