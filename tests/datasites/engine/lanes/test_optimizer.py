"""A step over sums from lanes is Opacus's step with torch's optimizer, and no other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from opacus.accountants import RDPAccountant
from opacus.optimizers import DPOptimizer
from torch import nn

from datasites.engine.grid import grid_of
from datasites.engine.lane_optimizer import LaneOptimizer
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.noise import NoiseSource
from policies.errors import DatasiteError
from tests.datasites.engine.training_factories import source

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

NORM, EXPECTED, STEPS = 0.37, 63.7, 7
SIZES = [1, 5, 15, 16, 17, 64, 385, 5000]
DESCENTS: dict[str, Make] = {
    "plain": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "decay": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.2),
    "momentum and decay": lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.5, weight_decay=0.2),
}
ADAMS: dict[str, Make] = {
    "plain": lambda p: torch.optim.Adam(p, lr=0.01),
    "decay": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
}


class Sums:
    """What the optimizer takes of `LaneSums`: weights with something behind them, and room for a sum."""

    def __init__(self, size: int, kernels: Kernels) -> None:
        rng = np.random.default_rng(size)
        room = np.zeros(size + 48, dtype=np.float32)
        begin = -room.ctypes.data % 64 // 4
        self.weights, self.behind = room[begin : begin + size], room[begin + size : begin + size + 16]
        self.weights[:], self.behind[:] = rng.normal(0, 1, size), 7
        self.total = np.zeros(size + 64, dtype=np.int32)
        self.kernels = kernels


class Written(NoiseSource):
    """Noise that a test knows, of one step after the other."""

    def __init__(self, noise: npt.NDArray[np.float64]) -> None:
        super().__init__(bytes(32))
        self.noise, self.used = noise, 0

    def fill_with_gaussians(self, out: npt.NDArray[np.float64], std: float) -> None:
        steps = len(out) // self.noise.shape[1]
        out[:] = self.noise[self.used : self.used + steps].reshape(-1)
        self.used += steps


def optimizer_for(sums: Sums, make: Make, noise: NoiseSource, mu: float = 0.0, steps: int = 3) -> LaneOptimizer:
    return LaneOptimizer(
        make([nn.Parameter(torch.from_numpy(sums.weights))]),
        sums,  # type: ignore[arg-type]
        noise_multiplier=1.0,
        clipping_norm=NORM,
        expected_batch_size=EXPECTED,
        noise=noise,
        proximal_mu=mu,
        steps=steps,
    )


def both(size: int, make: Make, mu: float, kernels: Kernels) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Weights after some steps by the kernel, and by torch's optimizer of the same noisy sums."""
    rng, sums = np.random.default_rng(1), Sums(size, kernels)
    noise = rng.normal(0, 2.0**21, (STEPS, size)).round()
    stepping = optimizer_for(sums, make, Written(noise), mu)
    theirs = nn.Parameter(torch.from_numpy(sums.weights.copy()))
    start, torchs = theirs.detach().clone(), make([theirs])
    for step in range(STEPS):
        total = rng.integers(-(2**25), 2**25, size)
        sums.total[:size] = total
        stepping.take(total if step % 2 else sums.total[:size])  # in parts, as int64, or at once
        stepping.step()
        gradient = torch.from_numpy((total + noise[step]) * grid_of(NORM)).to(torch.float32)
        gradient /= EXPECTED
        theirs.grad = gradient.add_(theirs.detach() - start, alpha=mu) if mu else gradient
        torchs.step()
    assert (sums.behind == 7).all()
    return sums.weights, theirs.detach().numpy()


@pytest.mark.parametrize("mu", [0.0, 0.3])
@pytest.mark.parametrize("how", DESCENTS)
@pytest.mark.parametrize("size", SIZES)
def test_descent_is_torchs_to_the_bit(size: int, how: str, mu: float, kernels: Kernels) -> None:
    ours, theirs = both(size, DESCENTS[how], mu, kernels)
    assert np.array_equal(ours.view(np.int32), theirs.view(np.int32))


@pytest.mark.parametrize("mu", [0.0, 0.3])
@pytest.mark.parametrize("how", ADAMS)
@pytest.mark.parametrize("size", SIZES)
def test_adam_is_torchs_but_for_its_last_places(size: int, how: str, mu: float, kernels: Kernels) -> None:
    ours, theirs = both(size, ADAMS[how], mu, kernels)
    # Torch takes the root from a library that is off by one place. A step is 0.01 at most, and is added to a weight.
    assert (np.abs(ours - theirs) <= STEPS * (0.01 * 2.0**-20 + 2.0**-24 * np.maximum(1, 2 * np.abs(theirs)))).all()
    assert np.abs(ours - Sums(size, kernels).weights).max() > 0.001


def test_opacus_drives_the_step_and_counts_it(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    pre_step = DPOptimizer.pre_step
    monkeypatch.setattr(DPOptimizer, "pre_step", lambda self, *rest: asked.append("opacus") or pre_step(self, *rest))
    for name in ("clip_and_accumulate", "add_noise", "scale_grad"):
        original = getattr(LaneOptimizer, name)
        monkeypatch.setattr(
            LaneOptimizer, name, lambda self, name=name, original=original: asked.append(name) or original(self)
        )
    accountant, sums = RDPAccountant(), Sums(40, kernels)
    stepping = optimizer_for(sums, DESCENTS["plain"], source(), steps=5)
    stepping.attach_step_hook(accountant.get_optimizer_hook_fn(sample_rate=0.25))
    for _ in range(5):
        stepping.take(sums.total[:40])
        stepping.step()
    assert accountant.history == [(1.0, 0.25, 5)]
    assert asked == ["opacus", "clip_and_accumulate", "add_noise", "scale_grad"] * 5


def test_a_sum_is_stepped_with_once(kernels: Kernels) -> None:
    accountant, sums = RDPAccountant(), Sums(40, kernels)
    stepping = optimizer_for(sums, DESCENTS["plain"], source())
    stepping.attach_step_hook(accountant.get_optimizer_hook_fn(sample_rate=0.25))
    with pytest.raises(DatasiteError, match="without a sum"):
        stepping.step()
    stepping.take(sums.total[:40])
    stepping.step()
    before = sums.weights.copy()
    with pytest.raises(DatasiteError, match="without a sum"):
        stepping.step()
    assert np.array_equal(sums.weights, before)
    assert accountant.history == [(1.0, 0.25, 1)]


@pytest.mark.parametrize("size", [3, 385, 20_000])
def test_each_step_has_noise_of_its_own(size: int, kernels: Kernels) -> None:
    sums = Sums(size, kernels)
    stepping = optimizer_for(sums, lambda p: torch.optim.SGD(p, lr=1.0), source(), steps=4)
    seen, before = [], sums.weights.copy()
    for _ in range(9):  # more than were announced
        stepping.take(sums.total[:size])
        stepping.step()
        seen.append(sums.weights - before)
        before = sums.weights.copy()
    moved = np.stack(seen)
    assert len(np.unique(moved.round(7), axis=0)) == 9
    deviation = NORM / EXPECTED
    # n s² / σ² is chi-square with n degrees of freedom: mean n, deviation √2n.
    assert abs((moved.astype(np.float64) ** 2).sum() / deviation**2 - moved.size) < 5 * math.sqrt(2 * moved.size)


def test_noise_changes_with_the_multiplier_at_once(kernels: Kernels) -> None:
    sums = Sums(100, kernels)
    stepping = optimizer_for(sums, DESCENTS["plain"], source(), steps=50)
    for multiplier, most in ((1.0, math.inf), (0.0, 0.0)):
        before = sums.weights.copy()
        stepping.noise_multiplier = multiplier
        stepping.take(sums.total[:100])
        stepping.step()
        assert 0 <= np.abs(sums.weights - before).max() <= most


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5, dampening=0.5),
        lambda p: torch.optim.Adam(p, amsgrad=True),
        lambda p: torch.optim.AdamW(p),
        lambda p: torch.optim.SGD(p, lr=0.1, maximize=True),
    ],
)
def test_a_setting_that_the_kernel_does_not_have_is_refused(make: Make, kernels: Kernels) -> None:
    with pytest.raises(DatasiteError, match="do not know"):
        optimizer_for(Sums(10, kernels), make, source())


def test_weights_in_other_memory_are_refused(kernels: Kernels) -> None:
    sums: Any = Sums(10, kernels)
    sums.weights = sums.weights.copy()
    other = nn.Parameter(torch.zeros(10))
    with pytest.raises(DatasiteError, match="memory"):
        LaneOptimizer(
            torch.optim.SGD([other], lr=0.1),
            sums,
            noise_multiplier=1.0,
            clipping_norm=NORM,
            expected_batch_size=EXPECTED,
            noise=source(),
        )
