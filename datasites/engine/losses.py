"""The losses of one record, as torch's functions of the same names have them, but never an error; and its scores."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def record_loss(output: Tensor, label: Tensor, loss: str) -> Tensor:
    """The loss of one record, as torch's functions of the same names have it, but never an error.

    Args:
      output: of one record.
      label: int64, the class index.
    """
    if loss == "cross_entropy":
        return -functional.log_softmax(output, dim=0).gather(0, label.unsqueeze(0)).squeeze(0)
    score, target = output.reshape(()), label.to(output.dtype)
    if loss == "binary_cross_entropy":
        return _binary_cross_entropy(score, target)
    return functional.binary_cross_entropy_with_logits(score, target)


def record_scores(output: Tensor, loss: str) -> Tensor:
    """The probabilities that a model's output stands for under its loss: one of each class, or that of the second one.

    Args:
      output: of one record.
    """
    output = output.reshape(-1)
    if loss == "cross_entropy":
        return torch.softmax(output, dim=0)
    return torch.sigmoid(output) if loss == "binary_cross_entropy_with_logits" else output


def _binary_cross_entropy(score: Tensor, target: Tensor) -> Tensor:
    """torch's value (logarithms at least -100) and torch's gradient (divisor at least 1e-12).

    torch's own raises where a score is NaN or outside [0, 1], which would tell of a record. Here the loss is NaN there,
    and the record counts as zero. The gradient is written out, as `slope`: that of a clamped logarithm is NaN at 0.
    """
    detached = score.detach()
    value = -(target * detached.log().clamp(min=-100) + (1 - target) * torch.log1p(-detached).clamp(min=-100))
    slope = (detached - target) / (detached * (1 - detached)).clamp(min=1e-12)
    return value + slope * (score - detached)
