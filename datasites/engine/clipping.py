"""Sum clipped per-record gradients in exact integers, and step with them in an Opacus optimizer.

A gradient is scaled to norm `clipping_norm` at most, cut off toward zero at a public grid, and added as integers: the
sum is exact and does not depend on order, so adding or removing one record changes it by exactly that record's
contribution, whose L2 norm is at most `clipping_norm`. Noise is in whole grid units too (see `datasites.engine.noise`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from opacus.optimizers import DPOptimizer
from opacus.optimizers.optimizer import _check_processed_flag, _mark_as_processed
from torch import Tensor

from datasites.engine.grid import grid_of
from datasites.engine.noise import NoiseSource
from policies.errors import DatasiteError

LARGEST_BATCH = 512  # records summed in one int32: 2^9 of at most 2^21 stay below 2^31
SHRINK = 1 - 2.0**-20  # see `clipped_sum`

_BLOCK_ELEMENTS = 2**17  # handled at once, to stay in a core's cache
_NOISE_TOGETHER = 2**14  # numbers that several steps' noise is drawn at once of
_SMALL_MODEL = 2**14  # parameters up to which all are handled as one tensor


def clipped_sum(
    gradients: Sequence[Tensor], present: Tensor, *, clipping_norm: float, stability: float = 0.0
) -> Tensor:
    """The sum over records of clipped gradients, in units of `grid_of(clipping_norm)`.

    Sensitivity: one record's contribution is an integer vector k with ‖k‖ · grid ≤ clipping_norm, and zero where the
    record is absent or any of its gradient is not finite (found before clipping, since min(1, C / NaN) is NaN).

    Norms are in float64 from float32 values: their squares cannot overflow, so the norm is finite exactly where the
    gradient is, and it is off by less than 2^-30 of itself up to 5 million values. The factor
    `min(1, C · SHRINK / norm) / grid` and its products are rounded to float32, 2^-24 of themselves each. `SHRINK` takes
    2^-20 off, more than all of that together, and cutting off toward zero only shortens. Factors too small for full
    float32 precision count as zero. Automatic clipping has `C · SHRINK / (norm + stability) / grid`, which is smaller
    than C · SHRINK / norm / grid: the same argument.

    Args:
      gradients: float32 [records, ...], one tensor per parameter; 1 to 512 records.
      present: bool [records].
      clipping_norm: above 0.
      stability: 0 to shorten gradients that are longer; above 0 to bring all of them near that length.

    Returns:
      float64 [elements of all parameters], whole numbers.
    """
    records = len(present)
    if records > LARGEST_BATCH:
        raise DatasiteError(f"A batch of {records} is above {LARGEST_BATCH} records. Sum it in parts.")
    flat = [gradient.reshape(records, -1) for gradient in gradients]
    if sum(gradient.shape[1] for gradient in flat) <= _SMALL_MODEL:
        flat = [torch.cat(flat, dim=1)]  # each call costs more than the copy
    squares = torch.stack([_squares(gradient) for gradient in flat]).sum(0)
    factors = _factors(squares.sqrt(), present, clipping_norm, stability)
    return torch.cat([_sum_of_units(gradient, factors) for gradient in flat]).to(torch.float64)


def _block(gradients: Tensor) -> int:
    """How many rows are handled at once."""
    return max(1, min(len(gradients), _BLOCK_ELEMENTS // max(1, gradients.shape[1])))


def _squares(gradients: Tensor) -> Tensor:
    """The sum of squares of each row of one parameter's gradients, in float64."""
    block = _block(gradients)
    wide = torch.empty((block, gradients.shape[1]), dtype=torch.float64)
    squares = torch.empty(len(gradients), dtype=torch.float64)
    for rows, result in zip(gradients.split(block), squares.split(block), strict=True):  # type: ignore[no-untyped-call]
        values = wide[: len(rows)].copy_(rows)
        if block == 1:
            torch.dot(values[0], values[0], out=result[0])
        else:
            torch.linalg.vector_norm(values, dim=1, out=result).square_()
    return squares


def _sum_of_units(gradients: Tensor, factors: Tensor) -> Tensor:
    """The sum over rows of one parameter's gradients times factors, cut off to whole numbers, as int32."""
    block = _block(gradients)
    narrow = torch.empty((block, gradients.shape[1]), dtype=torch.float32)
    units = torch.empty(narrow.shape, dtype=torch.int32)
    total = torch.zeros(gradients.shape[1], dtype=torch.int32)
    for rows, scales in zip(gradients.split(block), factors.split(block), strict=True):  # type: ignore[no-untyped-call]
        values, whole = narrow[: len(rows)], units[: len(rows)]
        torch.mul(rows, scales, out=values)
        # NaN and infinity times the factor 0 are NaN, which becomes 0; converting to integers cuts off toward zero.
        whole.copy_(values.nan_to_num_(0.0, 0.0, 0.0))
        total.add_(whole[0] if block == 1 else whole.sum(0, dtype=torch.int32))
    return total


def _factors(norms: Tensor, present: Tensor, clipping_norm: float, stability: float) -> Tensor:
    """Factors [records, 1] that clip gradients and bring them to grid units; 0 where a record is left out."""
    largest = math.inf if stability else 1.0
    scales = (clipping_norm * SHRINK / (norms + stability)).clamp(max=largest) / grid_of(clipping_norm)
    counted = present & torch.isfinite(norms) & (scales > torch.finfo(torch.float32).smallest_normal)
    return torch.where(counted, scales, 0.0).to(torch.float32).unsqueeze(1)


class GridOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus's optimizer with exact sums, secure noise on the same grid, and FedProx's pull.

    Opacus drives the step: clip and accumulate, add noise, divide by the public expected batch size, tell the
    accountant, step. `p.grad_sample` comes from outside, as in `grad_sample_mode="no_op"`. Set `present` before each
    `step` to a bool tensor: which of the physical batch's rows are records and not padding.

    Args:
      optimizer: of torch, over float32 parameters.
      noise_multiplier: standard deviation over `clipping_norm`.
      clipping_norm: largest L2 norm of one record's gradient.
      expected_batch_size: public, above 0; need not be whole.
      noise: draws the Gaussian noise.
      proximal_mu: times the distance from the parameters' values at construction, added to the noisy gradient.
      steps: how many are meant to be taken; noise of as many as are small together is drawn at once.
      stability: of automatic clipping, 0 without it.
    """

    _params: list[Any] | None = None

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        clipping_norm: float,
        expected_batch_size: float,
        noise: NoiseSource,
        proximal_mu: float = 0.0,
        steps: int = 1,
        stability: float = 0.0,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=clipping_norm,
            expected_batch_size=expected_batch_size,
        )
        self.present = torch.zeros(0, dtype=torch.bool)
        self._noise, self._stability = noise, stability
        self._steps_left = steps
        self._drawn: Iterator[Tensor] = iter(())
        self._drawn_std = math.nan
        self._grid = grid_of(clipping_norm)
        self._proximal_mu = proximal_mu
        self._start = [p.detach().clone() for p in self.params] if proximal_mu else []

    @property
    def params(self) -> list[Any]:
        """What is trained, found once: Opacus asks thirteen times a step."""
        if self._params is None:
            self._params = super().params
        return self._params

    def clip_and_accumulate(self) -> None:
        """Add the physical batch's clipped sum, in grid units, to `p.summed_grad`."""
        for p in self.params:
            _check_processed_flag(p.grad_sample)
        total = clipped_sum(
            self.grad_samples, self.present, clipping_norm=self.max_grad_norm, stability=self._stability
        )
        for p, part in zip(self.params, torch.split(total, [p.numel() for p in self.params]), strict=True):
            p.summed_grad = part if p.summed_grad is None else p.summed_grad + part
            _mark_as_processed(p.grad_sample)

    def add_noise(self) -> None:
        """Put sum and noise, both whole grid units and exact in float64, into `p.grad`, in units of the gradient."""
        units = self.noise_multiplier * self.max_grad_norm / self._grid
        std = math.nextafter(units, math.inf)  # never less than accounted
        sizes = [p.numel() for p in self.params]
        noise = self._noise_of_a_step(sum(sizes), std)
        for p, part in zip(self.params, torch.split(noise, sizes), strict=True):
            _check_processed_flag(p.summed_grad)
            # Only from here on, where privacy is settled, does float32 round anything.
            p.grad = part.add_(p.summed_grad).mul_(self._grid).to(p.dtype).view_as(p)
            _mark_as_processed(p.summed_grad)

    def _noise_of_a_step(self, size: int, std: float) -> Tensor:
        """The next of noises that were drawn together, each used once: a draw's own cost is then shared by steps."""
        drawn = next(self._drawn, None) if std == self._drawn_std else None
        if drawn is None:
            together = max(1, min(self._steps_left, _NOISE_TOGETHER // size))
            self._steps_left -= together
            self._drawn = iter(torch.from_numpy(self._noise.gaussian_on_grid((together, size), std, 1.0)))
            self._drawn_std = std
            drawn = next(self._drawn)
        return drawn

    def scale_grad(self) -> None:
        """Divide by the public expected batch size, then pull towards the round's incoming weights."""
        super().scale_grad()
        for p, start in zip(self.params, self._start, strict=False):
            p.grad.add_(p.detach() - start, alpha=self._proximal_mu)
