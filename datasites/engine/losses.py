"""The losses of one record, as torch's functions of the same names have them, but never an error; and its scores.

A loss and its public constants are one `Loss`. What it compares an output with is a class index, or the values of a
target that is no class (`policies.schema.targets.values_of`), float32, as many as the target has columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from policies.graph.graphs import Graph
from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.privacy.outcomes import OUTCOMES, Outcome
from policies.schema.schemas import Schema
from policies.schema.targets import TimeToEvent, interval_ends


@dataclass(frozen=True)
class Loss:
    """A loss with its public constants.

    Args:
      name: one of `outcomes.LOSSES`.
      weights: factors, one per class or label; () for none.
      huber_delta: in units of the scaled target.
      ends: of the intervals of time, scaled as the time is.
      values: columns of a target that is no class; 0 of a class.
    """

    name: str
    weights: tuple[float, ...] = ()
    huber_delta: float = 1.0
    ends: tuple[float, ...] = ()
    values: int = 0

    @property
    def outcome(self) -> Outcome:
        """What it is for."""
        return OUTCOMES[self.name]

    def made_up(self, count: int, classes: int, generator: torch.Generator) -> Tensor:
        """Made-up targets of as many records, of which a program is recorded."""
        if not self.values:
            return torch.randint(classes, (count,), generator=generator)
        if self.outcome is Outcome.NUMBER:
            return torch.rand((count, 1), generator=generator) * 2 - 1
        made = torch.randint(2, (count, self.values), generator=generator).to(torch.float32)
        if self.outcome is Outcome.TIME:  # in between two ends, so that no rounding says in which interval
            step = (self.ends[1] - self.ends[0]) if len(self.ends) > 1 else 1.0
            chosen = torch.randint(len(self.ends), (count,), generator=generator)
            made[:, 0] = torch.tensor(self.ends)[chosen] - step / 3
        return made


def loss_of(mechanism: DPSGD | Evaluation, schema: Schema, graph: Graph) -> Loss:
    """The loss of a mechanism on a schema with its target (`Schema.predicting`); an evaluation's has no weights."""
    outcome, target = OUTCOMES[mechanism.loss], schema.target
    values = 0 if outcome is Outcome.CLASS else len(schema.target_columns)
    weights = tuple(map(float, mechanism.class_weights)) if isinstance(mechanism, DPSGD) else ()
    ends: tuple[float, ...] = ()
    if isinstance(target, TimeToEvent):
        found = interval_ends(target, schema.column(target.time), max(1, graph.output_shape[-1]))
        ends = tuple(float(end) for end in found)
    delta = 1.0
    if isinstance(mechanism, DPSGD) and mechanism.huber_delta is not None:
        column = schema.column(schema.target_columns[0])
        delta = mechanism.huber_delta / (column.high - column.low) * 2
    return Loss(mechanism.loss, weights, delta, ends, values)


def compared_with(schema: Schema, rows: npt.NDArray[np.float64], loss: Loss) -> npt.NDArray[Any]:
    """What each row's output is compared with: int64 [N] of a class, float32 [N, values] of another target."""
    return schema.target_values(rows, loss.outcome) if loss.values else schema.targets(rows)


def as_loss(loss: Loss | str) -> Loss:
    """A loss of classes by its name alone."""
    return loss if isinstance(loss, Loss) else Loss(loss)


def record_loss(output: Tensor, target: Tensor, loss: Loss | str) -> Tensor:
    """The loss of one record, as torch's functions of the same names have it, but never an error.

    Args:
      output: of one record.
      target: int64, the class index; or float32 [values] of a target that is no class.
    """
    loss = as_loss(loss)
    if loss.name == "cross_entropy":
        return _cross_entropy(output, target, loss.weights)
    if loss.outcome is Outcome.CLASS:
        score, label = output.reshape(()), target.to(output.dtype)
        plain = loss.name == "binary_cross_entropy"
        value = (_binary_cross_entropy if plain else functional.binary_cross_entropy_with_logits)(score, label)
        if loss.weights:
            low, high = loss.weights
            value = value * (low + (high - low) * label)
        return value
    if loss.outcome is Outcome.LABELS:
        losses = functional.binary_cross_entropy_with_logits(output.reshape(-1), target, reduction="none")
        return (losses * torch.tensor(loss.weights) if loss.weights else losses).mean()
    if loss.outcome is Outcome.TIME:
        return _hazards(output.reshape(-1), target, torch.tensor(loss.ends))
    prediction, value = output.reshape(1), target
    if loss.name == "poisson":  # functional.poisson_nll_loss with log_input
        return (torch.exp(prediction) - value * prediction).sum()
    apart = prediction - value
    if loss.name == "mean_squared_error":
        return (apart * apart).sum()
    size = torch.abs(apart)
    square = torch.clamp(size, max=loss.huber_delta)  # functional.huber_loss, without a choice between branches
    return (square * (size - 0.5 * square)).sum()


def record_scores(output: Tensor, loss: Loss | str) -> Tensor:
    """What a model's output stands for under its loss.

    Of classes their probabilities: one of each class, or that of the second one. Of labels the probability of each, of
    a number what it predicts, scaled, of a count its rate; and of a time the chance of no event by each interval's end.

    Args:
      output: of one record.
    """
    output, loss = output.reshape(-1), as_loss(loss)
    if loss.name == "cross_entropy":
        return torch.softmax(output, dim=0)
    if loss.name == "binary_cross_entropy_with_logits" or loss.outcome is Outcome.LABELS:
        return torch.sigmoid(output)
    if loss.outcome is Outcome.COUNT:
        return torch.exp(output)
    if loss.outcome is Outcome.TIME:
        return torch.cumprod(torch.sigmoid(-output), dim=0)
    return output


def _cross_entropy(output: Tensor, label: Tensor, weights: tuple[float, ...]) -> Tensor:
    logarithms = functional.log_softmax(output, dim=0)
    if weights:
        logarithms = logarithms * torch.tensor(weights)
    return -logarithms.gather(0, label.unsqueeze(0)).squeeze(0)


def _hazards(logits: Tensor, target: Tensor, ends: Tensor) -> Tensor:
    """Minus the log-likelihood of one patient's time: a logit of the event for each interval that the patient reached.

    Interval k ends at `ends[k]`, which belongs to it. The event in interval k: none in those before, and one in k.
    Censored: none in every interval that was over by then. Past the horizon: none in any.
    (Singer & Willett 1993; Gensheimer & Narasimhan 2019, arXiv:1805.00917.)
    """
    time, event = target[0], target[1]
    over = (ends < time).to(logits.dtype)
    at_end = (ends <= time).to(logits.dtype) - over  # where the time is an end exactly
    begun = torch.cat([torch.ones(1, dtype=logits.dtype), over[:-1]])
    happened = event * (begun - over)
    survived = over + (1 - event) * at_end
    reached = happened + survived
    return functional.binary_cross_entropy_with_logits(logits, happened, weight=reached, reduction="sum")


def _binary_cross_entropy(score: Tensor, target: Tensor) -> Tensor:
    """torch's value (logarithms at least -100) and torch's gradient (divisor at least 1e-12).

    torch's own raises where a score is NaN or outside [0, 1], which would tell of a record. Here the loss is NaN there,
    and the record counts as zero. The gradient is written out, as `slope`: that of a clamped logarithm is NaN at 0.
    """
    detached = score.detach()
    value = -(target * detached.log().clamp(min=-100) + (1 - target) * torch.log1p(-detached).clamp(min=-100))
    slope = (detached - target) / (detached * (1 - detached)).clamp(min=1e-12)
    return value + slope * (score - detached)
