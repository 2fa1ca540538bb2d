"""Load released weights into a torch model, and draw a model's first ones."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from policies.errors import InvalidRequest
from researcher.state import Tensors

if TYPE_CHECKING:
    from torch import nn


DRAWING = threading.RLock()
"""Held while a model is made from a seed: torch draws from one generator of the whole process."""


def load_parameters(model: nn.Module, weights: Tensors) -> None:
    """Put `weights` into a model's parameters. Raises `InvalidRequest` where names or shapes differ."""
    import torch

    parameters = dict(model.named_parameters())
    if set(parameters) != set(weights):
        raise InvalidRequest(
            f"The weights are those of another model: {', '.join(sorted(set(parameters) ^ set(weights)))} differ."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            if tuple(parameter.shape) != tuple(weights[name].shape):
                raise InvalidRequest(f"{name} has shape {tuple(weights[name].shape)}, not {tuple(parameter.shape)}.")
            parameter.copy_(torch.from_numpy(weights[name].copy()))
