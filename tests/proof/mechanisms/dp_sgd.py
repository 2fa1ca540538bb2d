"""Training: rounds of noisy steps, sampled by patient, watched along the one patient's gradient."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import torch
from dp_accounting.pld import privacy_loss_distribution as distributions
from opacus.optimizers import DPOptimizer
from scipy.stats import binom, chi2, norm

from datasites.engine import clipping, sampling, training
from datasites.engine.clipping import GridOptimizer, clipped_sum
from datasites.engine.gaps import gaps_for
from datasites.engine.grid import grid_of
from datasites.engine.lane_optimizer import LaneOptimizer
from datasites.engine.matrix import PATIENT
from datasites.engine.noise import KEY_BYTES, NoiseSource
from datasites.engine.sampling import PatientRows, Rows
from datasites.jobs import child
from policies.privacy import accountant
from policies.privacy.mechanisms import DPSGD, Mechanism
from tests.proof.attacker import FloatArray, seen_in_training
from tests.proof.cases import release
from tests.proof.curves import INTERVAL
from tests.proof.neighbours import PUBLISHED, Matrix, Weights, crowd, direction, loud, overflowing, pair, patient, quiet
from tests.proof.registry import STATIC, Case, Fault, Plant, Proof, cases, noise_of

NARROW, MIDDLE, WIDE = 4, 32, 4096  # hidden units: 21, 161 and 20,481 parameters
LOSS = "binary_cross_entropy_with_logits"
CLIPPING_NORM = 0.5  # of a gradient of length 2
COARSE_INTERVAL = 1e-2  # where noise is so small that losses run to a hundred

FULL = "every patient, one step"
AUTOMATIC = "automatic clipping, one step"
ROUNDS = "four rounds, all seen"
REPLAY = "a loud round, then a quiet one"
SAMPLED = "two steps at rate 1/2"
COUNTED = "20,481 parameters, 1007 or 1008"
EDGE = "physical batches, 1024 or 1025"
ALONE = "one patient trains, or nobody"
MANY = "a patient with 20 records"
POISON = "a gradient that is not finite"


def watching(hidden: int, *weights: Callable[[int], Weights], published: int = PUBLISHED) -> Any:
    """Watch all rounds of training, each from weights of its own; all `loud` if none are named."""

    def watch(declared: Mechanism, table: Matrix) -> FloatArray:
        assert isinstance(declared, DPSGD)
        mechanism = accountant.resolve(declared)
        assert isinstance(mechanism, DPSGD)
        sent = [made(hidden) for made in weights or (loud,) * mechanism.rounds]
        released = [release(mechanism, table, each, hidden, published) for each in sent]
        batch = declared.sampling_rate * published
        unit = mechanism.learning_rate * mechanism.clipping_norm / batch
        return seen_in_training(sent, released, _direction(hidden), unit)

    return watch


@cache
def _direction(hidden: int) -> FloatArray:
    return direction(hidden)


def sgd(**changes: Any) -> DPSGD:
    """One step over everybody; the learning rate is small beside the loud weights."""
    fields: dict[str, Any] = {
        "loss": LOSS,
        "rounds": 1,
        "steps": 1,
        "sampling_rate": 1.0,
        "clipping_norm": CLIPPING_NORM,
        "noise_multiplier": 0.6,
        "learning_rate": 1.0,
    }
    return DPSGD(**(fields | changes))


def one_among_held_out() -> tuple[Matrix, Matrix]:
    """1007 patients, none of whom trains, and one more who does."""
    others = crowd(PUBLISHED, held_out=True)
    return others, np.concatenate([others, patient(PUBLISHED)])


def pairs() -> list[Case]:
    """Of training."""
    four = sgd(rounds=4, noise_multiplier=None, epsilon=8.0)
    half = sgd(sampling_rate=0.5, steps=2, noise_multiplier=0.15)
    wide = sgd(sampling_rate=1 / 16, noise_multiplier=1.0)
    return [
        Case(FULL, sgd(), lambda: pair(1007), watching(NARROW), NARROW),
        Case(AUTOMATIC, sgd(clipping="automatic"), lambda: pair(1007), watching(NARROW)),
        Case("every patient, 1006 or 1007", sgd(), lambda: pair(1006), watching(NARROW)),
        Case("every patient, 1024 or 1025", sgd(), lambda: pair(1024), watching(NARROW, published=1024)),
        Case(ROUNDS, four, lambda: pair(1007), watching(NARROW)),
        Case(REPLAY, sgd(rounds=2, noise_multiplier=2.0), lambda: pair(1007), watching(NARROW, loud, quiet)),
        Case(SAMPLED, half, lambda: pair(1007), watching(NARROW)),
        Case(COUNTED, wide, lambda: pair(1007), watching(WIDE)),
        Case("20,481 parameters, 1006 or 1007", wide, lambda: pair(1006), watching(WIDE), each_night=True),
        Case("20,481 parameters, 1024 or 1025", wide, lambda: pair(1024), watching(WIDE, published=1024)),
        Case(EDGE, sgd(noise_multiplier=4.0), lambda: pair(1024), watching(MIDDLE, published=1024)),
        Case(ALONE, sgd(sampling_rate=0.5), one_among_held_out, watching(NARROW)),
        Case(MANY, sgd(noise_multiplier=4.0), lambda: pair(1007, records=20), watching(NARROW)),
        Case("a record that is not finite", sgd(), lambda: pair(1007, value=np.nan), watching(NARROW)),
        Case(POISON, sgd(), lambda: pair(1007), watching(NARROW, overflowing)),
    ]


def loss_of(mechanism: DPSGD) -> Any:
    """Steps of Poisson-sampled Gaussians."""
    assert mechanism.noise_multiplier is not None
    step = distributions.from_gaussian_mechanism(
        mechanism.noise_multiplier,
        value_discretization_interval=INTERVAL if mechanism.noise_multiplier >= 0.3 else COARSE_INTERVAL,
        sampling_prob=mechanism.sampling_rate,
    )
    return step.self_compose(mechanism.steps)


# -- in the optimizer ------------------------------------------------------------------------------------------------


class _NoisyBy(DPOptimizer):  # type: ignore[misc]
    """Noise of another size than the accountant was told, in whatever optimizer of ours comes after it."""

    factor = 1.0

    def add_noise(self) -> None:
        told, self.noise_multiplier = self.noise_multiplier, self.noise_multiplier * self.factor
        super().add_noise()
        self.noise_multiplier = told


class NoNoise(_NoisyBy, GridOptimizer):
    factor = 0.0


class HalfNoise(_NoisyBy, GridOptimizer):
    factor = 0.5


class NoNoiseInLanes(_NoisyBy, LaneOptimizer):
    factor = 0.0


class HalfNoiseInLanes(_NoisyBy, LaneOptimizer):
    factor = 0.5


class ClipsEachTensor(GridOptimizer):
    """Brings each tensor of a gradient to the clipping norm, and not all of them together."""

    def clip_and_accumulate(self) -> None:
        parts = [clipped_sum([each], self.present, clipping_norm=self.max_grad_norm) for each in self.grad_samples]
        super().clip_and_accumulate()
        for p, part in zip(self.params, parts, strict=True):
            p.summed_grad = part


class NoiseEachPass(_NoisyBy, GridOptimizer):
    """Adds noise to every physical batch, so that how much there is tells how many there were."""

    factor = 0.0

    def clip_and_accumulate(self) -> None:
        super().clip_and_accumulate()
        std = self.noise_multiplier * self.max_grad_norm / grid_of(self.max_grad_norm)
        for p in self.params:
            p.summed_grad += torch.from_numpy(self._noise.gaussian_on_grid(p.numel(), std, 1.0))


class SkipsEmpty(GridOptimizer):
    """Counts a step over nobody, and does not take it."""

    def pre_step(self, closure: Any = None) -> bool | None:
        if not self.present.any():
            self.step_hook(self)
            return False
        return super().pre_step(closure)  # type: ignore[no-any-return]


class PoisonsTheSum(GridOptimizer):
    """Clips by a factor of min(1, C / norm), as stock Opacus does: one NaN in a gradient is NaN in the sum."""

    def clip_and_accumulate(self) -> None:
        taken = [each[self.present].double() for each in self.grad_samples]
        norms = torch.stack([each.flatten(1).norm(dim=1) for each in taken]).norm(dim=0)
        factors = (self.max_grad_norm / norms).clamp(max=1.0) / grid_of(self.max_grad_norm)
        super().clip_and_accumulate()
        for p, each in zip(self.params, taken, strict=True):
            p.summed_grad = factors @ each.flatten(1)


def _optimizer(other: type[DPOptimizer]) -> Plant:
    name = "LaneOptimizer" if issubclass(other, LaneOptimizer) else "GridOptimizer"
    return lambda: mock.patch.object(training, name, other)


# -- in sampling -----------------------------------------------------------------------------------------------------


class Shuffles(PatientRows):
    """Deals everybody out over an epoch, once each, instead of sampling."""

    __slots__ = ("_left",)

    def __init__(self, records: Any, *, held_out: bool) -> None:
        super().__init__(records, held_out=held_out)
        self._left = np.zeros(0, dtype=np.intp)

    def samples(self, rate: float, count: int, patients: NoiseSource, records: NoiseSource) -> list[Rows]:
        return [self._deal(rate, patients, records) for _ in range(count)]

    def _deal(self, rate: float, patients: NoiseSource, records: NoiseSource) -> Rows:
        if not len(self._left):
            self._left = np.argsort(patients.uniforms(len(self._begins) - 1))
        size = math.ceil(rate * (len(self._begins) - 1))
        taken, self._left = self._left[:size], self._left[size:]
        return self._one_of_each(np.sort(taken), records)


class EveryRecord(PatientRows):
    """Takes each record for a patient of its own."""

    __slots__ = ()

    def __init__(self, records: Any, *, held_out: bool) -> None:
        own = np.array(records)
        own[:, PATIENT] = np.arange(len(own))
        super().__init__(own, held_out=held_out)


def sampled_more_often() -> AbstractContextManager[Any]:
    """The tables that samples are drawn by are those of another rate than the one that was declared and accounted."""
    return mock.patch.object(sampling, "gaps_for", lambda rate: gaps_for(_more_often(rate)))


def _more_often(rate: float) -> float:
    return 1 - (1 - rate) ** 4


# -- in what goes round ----------------------------------------------------------------------------------------------


@contextmanager
def rate_from_rows() -> Iterator[None]:
    """Rate and divisor as stock `make_private` has them: 1 / len(loader) and int(rows · rate), at batches of 64."""
    real = training.train_round

    def train_round(
        graph: Any, mechanism: DPSGD, schema: Any, published: int, records: Any, *rest: Any, **named: Any
    ) -> Any:
        rate = 1 / math.ceil(len(records) / 64)
        divisor = int(len(records) * rate)
        return real(
            graph,
            replace(mechanism, sampling_rate=rate),
            schema,
            divisor / rate,
            records,
            *rest,
            **named,  # type: ignore[arg-type]
        )

    with mock.patch.object(training, "train_round", train_round):
        yield


@contextmanager
def buffers_leave() -> Iterator[None]:
    """A running mean of the inputs, as a normalising layer keeps it, goes out with the weights."""
    real = training.train_round

    def train_round(
        graph: Any, mechanism: Any, schema: Any, published: int, records: Any, *rest: Any, **named: Any
    ) -> Any:
        released = real(graph, mechanism, schema, published, records, *rest, **named)
        mean = torch.from_numpy(np.asarray(records)[:, 2:-1].mean(0).astype(np.float32))
        return {**released, "norm.running_mean": mean}

    with mock.patch.object(training, "train_round", train_round):
        yield


@contextmanager
def forgets_rounds() -> Iterator[None]:
    """The accountant begins anew each round: noise for one round's ε is all that each of them gets."""
    real = accountant.resolve

    def resolve(mechanism: Mechanism) -> Mechanism:
        if not isinstance(mechanism, DPSGD):
            return real(mechanism)
        one = real(replace(mechanism, rounds=1))
        return replace(one, rounds=mechanism.rounds)

    with mock.patch.object(accountant, "resolve", resolve):
        yield


@contextmanager
def one_key() -> Iterator[None]:
    """Two jobs after one another have the same key, as children of a parent that drew it before it forked."""
    asked, key = 0, b""

    def from_os() -> NoiseSource:
        nonlocal asked, key
        if asked % 2 == 0:
            key = os.urandom(KEY_BYTES)
        asked += 1
        return NoiseSource(key)

    with mock.patch.object(NoiseSource, "from_os", from_os):
        yield


@contextmanager
def trusts_gradients() -> Iterator[None]:
    """No loss, output or gradient is looked at for what is not finite."""
    with (
        mock.patch.object(torch, "isfinite", lambda each: torch.ones_like(each, dtype=torch.bool)),
        mock.patch.object(training, "GridOptimizer", PoisonsTheSum),
    ):
        yield


def clips_by_what_is_added() -> AbstractContextManager[Any]:
    """Automatic clipping divides by what it adds to the norm, and forgets the norm."""
    real = clipping._factors
    return mock.patch.object(
        clipping, "_factors", lambda norms, *rest: real(torch.where(torch.isfinite(norms), 0.0, norms), *rest)
    )


# -- what each one comes to ------------------------------------------------------------------------------------------


def shifted(deviations: float) -> tuple[float, float]:
    """Chances of the better half of two Gaussians that are so many deviations apart."""
    return float(norm.sf(deviations / 2)), float(norm.cdf(deviations / 2))


def _half() -> tuple[float, float]:
    return shifted(2 / noise_of(FULL))


def _per_tensor() -> tuple[float, float]:
    # Four tensors, each of the clipping norm: together √4 of it, along the same direction.
    return shifted(2 / noise_of(FULL))


def _shuffled() -> tuple[float, float]:
    # In an epoch of two steps everybody comes exactly once; the noise of both steps adds up.
    return shifted(1 / (math.sqrt(2) * noise_of(SAMPLED)))


def _more_sampled() -> tuple[float, float]:
    # Two steps at rate 15/16 in place of 1/2, each of which moves the sum by 1: more than 3/4 is seldom noise.
    rate, deviation = _more_often(0.5), math.sqrt(2) * noise_of(SAMPLED)
    chances = [binom.pmf(steps, 2, rate) * norm.sf((0.75 - steps) / deviation) for steps in range(3)]
    return float(norm.sf(0.75 / deviation)), float(sum(chances))


def _per_pass() -> tuple[float, float]:
    # 1024 patients fill two physical batches of 512, 1025 take three: variances of 2 and 3 over 160 free directions.
    return tuple(chi2.sf(160 * math.sqrt(6) / passes, 160) for passes in (2, 3))  # type: ignore[return-value]


def _reset() -> tuple[float, float]:
    declared = cases()[ROUNDS].declared
    assert isinstance(declared, DPSGD)
    one = accountant.resolve(replace(declared, rounds=1))
    assert isinstance(one, DPSGD)
    assert one.noise_multiplier is not None
    return shifted(math.sqrt(declared.rounds) / one.noise_multiplier)


def _row_rate() -> tuple[float, float]:
    # 1007 // 16 = 62 and 1008 // 16 = 63 divide the same noise: the event is "smaller than between the two".
    return float(chi2.cdf(20480 * 62 / 63, 20480)), float(chi2.cdf(20480 * 63 / 62, 20480))


FAULTS = (
    Fault("no noise", _optimizer(NoNoise), FULL, chances=lambda: (0.0, 1.0)),
    Fault("half noise", _optimizer(HalfNoise), FULL, chances=_half),
    Fault("wrong clip: each tensor by itself", _optimizer(ClipsEachTensor), FULL, chances=_per_tensor),
    Fault(
        "shuffling instead of Poisson",
        lambda: mock.patch.object(training, "PatientRows", Shuffles),
        SAMPLED,
        chances=_shuffled,
    ),
    Fault("noise per micro-batch", _optimizer(NoiseEachPass), EDGE, chances=_per_pass),
    Fault("accountant reset per round", forgets_rounds, ROUNDS, chances=_reset),
    Fault("rate from the row count", rate_from_rows, COUNTED, chances=_row_rate),
    Fault("buffers released", buffers_leave, FULL, detector=STATIC),
    Fault("seed reuse", one_key, REPLAY, chances=lambda: (0.0, 1.0)),
    # Nobody never moves the weights; one patient at rate 1/2 does half of the time.
    Fault("skipped empty batch", _optimizer(SkipsEmpty), ALONE, chances=lambda: (0.0, 0.5)),
    Fault(
        "per record where per patient is claimed",
        lambda: mock.patch.object(training, "PatientRows", EveryRecord),
        MANY,
        # 20 records of one patient, each of the clipping norm, along one direction.
        chances=lambda: shifted(20 / noise_of(MANY)),
    ),
)

# The same where training runs in lanes, whose optimizer and sampling are parts of their own.
IN_LANES = (
    Fault("no noise in lanes", _optimizer(NoNoiseInLanes), FULL, chances=lambda: (0.0, 1.0)),
    Fault("half noise in lanes", _optimizer(HalfNoiseInLanes), FULL, chances=_half),
    Fault(
        "shuffling instead of Poisson, in lanes",
        lambda: mock.patch.object(training, "PatientRows", Shuffles),
        SAMPLED,
        chances=_shuffled,
    ),
    Fault("sampled more often than declared, in lanes", sampled_more_often, SAMPLED, chances=_more_sampled),
    Fault(
        "per record where per patient is claimed, in lanes",
        lambda: mock.patch.object(training, "PatientRows", EveryRecord),
        MANY,
        chances=lambda: shifted(20 / noise_of(MANY)),
    ),
)

# Beside them, so that pairs which none of those names are seen to be able to fail.
CONTROLS = (
    Fault("a gradient that is not finite is summed", trusts_gradients, POISON, chances=lambda: (0.0, 1.0)),
    Fault("automatic clipping without the norm", clips_by_what_is_added, AUTOMATIC, chances=lambda: (0.0, 1.0)),
)

PROOF = Proof(cases=pairs, faults=FAULTS, controls=CONTROLS, declared=DPSGD, job=child.train, loss=loss_of)
