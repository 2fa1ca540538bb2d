"""Opacus's optimizer over sums from lanes: every step as Opacus drives it, its arithmetic in one pass by a kernel."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from opacus.optimizers import DPOptimizer
from torch import nn

from datasites.engine.grid import grid_of
from datasites.engine.lanes.instructions import LANES
from datasites.engine.lanes.sums import LaneSums
from datasites.engine.noise import NoiseSource
from policies.errors import DatasiteError

GRID, DIVISOR, PULL, DECAY, RATE, MOMENTUM, TAKEN, KEPT, SQUARED, CORRECTION, EPSILON = range(11)
SETTINGS = 11
WITH_MOMENTUM, WITH_ADAM, WITH_PULL, WITH_DECAY = 1, 2, 4, 8
"""Places of the kernel's settings, and what it does beside plain descent; as `kernels.steps` numbers them."""

_NOISE_TOGETHER = 2**14  # numbers that several steps' noise is drawn at once of

Sums = npt.NDArray[np.int32] | npt.NDArray[np.int64]


class LaneOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus's optimizer for exact clipped sums, with secure noise on the same grid and FedProx's pull.

    Opacus drives the step: clip and accumulate, add noise, divide by the public expected batch size, tell the
    accountant, step. Clipping was done in lanes: give each step's sum to `take` before `step`. Noise is drawn where
    Opacus asks for it; the rest is one pass over all parameters at the step's end, by torch's own formulas and with the
    settings of torch's optimizer.

    Args:
      optimizer: torch's SGD or Adam over one flat parameter, whose memory is `sums.weights`.
      sums: what the sums come from.
      noise_multiplier: standard deviation over `clipping_norm`.
      clipping_norm: largest L2 norm of one record's contribution.
      expected_batch_size: public, above 0; need not be whole.
      noise: draws the Gaussian noise.
      proximal_mu: times the distance from the parameters' values at construction, added to the noisy gradient.
      steps: how many are meant to be taken; noise of as many as are small together is drawn at once.

    Raises:
      DatasiteError: torch's optimizer has a setting that the kernel knows nothing of.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        sums: LaneSums,
        *,
        noise_multiplier: float,
        clipping_norm: float,
        expected_batch_size: float,
        noise: NoiseSource,
        proximal_mu: float = 0.0,
        steps: int = 1,
    ) -> None:
        self._parameters: list[nn.Parameter] = [p for group in optimizer.param_groups for p in group["params"]]
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=clipping_norm,
            expected_batch_size=expected_batch_size,
        )
        if len(self._parameters) != 1 or self._parameters[0].data_ptr() != sums.weights.ctypes.data:
            raise DatasiteError("Lanes step with one parameter, whose memory is the sums' weights.")
        self._sums, self._noise, self._grid = sums, noise, grid_of(clipping_norm)
        self._size, self._steps_left, self._taken_steps = len(sums.weights), steps, 0
        self._given: Sums | None = None
        self._drawn, self._drawn_std, self._next = np.zeros((0, self._size)), math.nan, 0
        room = -(-self._size // LANES) * LANES
        self._start, self._first, self._second = (np.zeros(room, dtype=np.float32) for _ in range(3))
        if proximal_mu:
            self._start[: self._size] = sums.weights
        self._settings, how = _settings(optimizer)
        self._settings[[GRID, DIVISOR, PULL]] = self._grid, expected_batch_size, proximal_mu
        how |= WITH_PULL if proximal_mu else 0
        self._noise_at = ctypes.c_void_p()
        self._group, self._adam = optimizer.param_groups[0], bool(how & WITH_ADAM)
        self._prepare(how)

    @property
    def params(self) -> list[nn.Parameter]:
        """The one flat parameter."""
        return self._parameters

    @property
    def grad_samples(self) -> list[Any]:
        """What was given for this step, in place of a gradient for each record."""
        return [self._given]

    @property
    def accumulated_iterations(self) -> int:
        """A sum is of one whole Poisson sample."""
        return 1

    def take(self, total: Sums) -> None:
        """The clipped sum over one whole Poisson sample, in grid units: for the next step, and for no other."""
        self._given = total

    def clip_and_accumulate(self) -> None:
        """Nothing but a look whether a sum was given: lanes have clipped and added."""
        if self._given is None:
            raise DatasiteError("A step without a sum of its own. Nothing is released; please report this.")

    def add_noise(self) -> None:
        """Draw this step's noise in whole grid units; it meets the sum in the pass at the step's end, in float64."""
        units = self.noise_multiplier * self.max_grad_norm / self._grid
        std = math.nextafter(units, math.inf)  # never less than accounted
        if self._next == len(self._drawn) or std != self._drawn_std:
            self._draw(std)
        self._noise_at.value = self._drawn.ctypes.data + self._next * self._drawn.strides[0]
        self._noisy = self._drawn[self._next]
        self._next += 1

    def scale_grad(self) -> None:
        """Nothing yet: the divisor is a setting of the pass."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Opacus's own step but for the last line."""
        if self.pre_step(closure):
            self._update()
        return None

    def _draw(self, std: float) -> None:
        """Noise of several steps, each used once: a draw's own cost is then shared by steps."""
        together = max(1, min(self._steps_left, _NOISE_TOGETHER // self._size))
        self._steps_left -= together
        if len(self._drawn) < together:
            # Whole vectors are read; and memory is the same at each draw, which is a large part of a large model's.
            self._room = np.zeros(together * self._size + LANES)
        self._drawn = self._room[: together * self._size].reshape(together, self._size)
        self._noise.fill_with_gaussians(self._drawn.reshape(-1), std)
        self._drawn_std, self._next = std, 0

    def _update(self) -> None:
        """Sum and noise to a gradient, pull towards the start, decay, and step."""
        given, self._given = self._given, None
        self._taken_steps += 1
        self._settings[RATE] = self._group["lr"]  # which a schedule may have changed
        if self._adam:
            first, second = self._group["betas"]
            self._settings[RATE] /= 1 - first**self._taken_steps
            self._settings[CORRECTION] = math.sqrt(1 - second**self._taken_steps)
        if given is not None and given.dtype == np.int64:
            self._noisy += given  # whole numbers below 2^53
            self._sums.total[:] = 0
        if self._entry(*self._arguments):
            raise DatasiteError("A kernel reported an error, which none of them can: please report this.")

    def _prepare(self, how: int) -> None:
        """The kernel's arguments, made once."""
        self._entry = self._sums.kernels.entries["step"]
        self._noisy, spare, result = self._drawn, np.zeros(LANES, dtype=np.float32), np.zeros(4, dtype=np.int64)
        self._kept = (spare, result)
        pointer, size = ctypes.c_void_p, ctypes.c_int64
        first, second, total = (pointer(array.ctypes.data) for array in (self._first, self._second, self._sums.total))
        self._arguments: list[Any] = [
            pointer(result.ctypes.data), pointer(result.ctypes.data + 8), size(how), total, self._noise_at,
            pointer(self._start.ctypes.data), first, second, pointer(self._sums.weights.ctypes.data), size(self._size),
            pointer(self._settings.ctypes.data), pointer(spare.ctypes.data),
        ]  # fmt: skip


def _settings(optimizer: torch.optim.Optimizer) -> tuple[npt.NDArray[np.float64], int]:
    """The kernel's settings for torch's optimizer, and which of its parts they ask for."""
    group, settings = optimizer.param_groups[0], np.zeros(SETTINGS)
    settings[DECAY], settings[RATE] = group["weight_decay"], group["lr"]
    how = WITH_DECAY if group["weight_decay"] else 0
    if type(optimizer) is torch.optim.SGD:
        unknown = group["dampening"] or group["nesterov"] or group["maximize"]
        settings[MOMENTUM] = group["momentum"]
        how |= WITH_MOMENTUM if group["momentum"] else 0
    elif type(optimizer) is torch.optim.Adam:
        unknown = group["amsgrad"] or group["maximize"] or group["decoupled_weight_decay"]
        first, second = group["betas"]
        settings[[TAKEN, KEPT, SQUARED, EPSILON]] = 1 - first, second, 1 - second, group["eps"]
        how |= WITH_ADAM
    else:
        unknown = True
    if unknown:
        raise DatasiteError(f"Lanes do not know {type(optimizer).__name__} with these settings.")
    return settings, how
