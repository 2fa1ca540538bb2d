"""Low-rank adaptation of a frozen layer (Hu et al. 2021, arXiv:2106.09685), with the names that `peft` gives its parts.

    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = LoRALinear(64, 64, rank=4)
            self.head = nn.Linear(64, 1)

The class's text travels to the hospitals with the model that names it, for their owners to read.
"""

from __future__ import annotations

import torch
from torch import nn


class LoRALinear(nn.Module):
    """A frozen `nn.Linear` and a trained correction of low rank, which begins at zero."""

    def __init__(self, inputs: int, outputs: int, rank: int = 4, alpha: float = 8.0) -> None:
        super().__init__()
        self.base_layer = nn.Linear(inputs, outputs)
        self.lora_A = nn.Linear(inputs, rank, bias=False)
        self.lora_B = nn.Linear(rank, outputs, bias=False)
        self.scaling = alpha / rank
        self.base_layer.requires_grad_(False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        adapted: torch.Tensor = self.base_layer(x) + self.lora_B(self.lora_A(x)) * self.scaling
        return adapted
