"""From released score histograms to AUC, ROC curve, accuracy, calibration and confusion, with uncertainty.

A hospital's evaluation is a histogram of a model's scores on its hold-out: [2, bins] by true class and score bin, or
[classes, classes, bins] by true class, predicted class and bin of the largest probability. Every cell carries two-sided
geometric noise of parameter p = exp(-ε), variance 2p/(1-p)². Everything below is arithmetic on that release.

Errors come from the delta method. Noise enters every cell alike, the empty ones too, and is weighted by the figure's
derivative there; sampling enters as multinomial draws of patients, plugged in from the released counts. Bins are equal
in width over [0, 1]; two scores in one bin count as tied, so an AUC reads slightly low when bins are few.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.errors import WeightsRefused
from policies.privacy.mechanisms import Evaluation
from researcher.figures import COUNTED, SHARE, Estimate, FloatArray


@dataclass(frozen=True, eq=False)
class Scores:
    """Noisy counts of held-out patients by class and score.

    Args:
      counts: [2, bins] or [classes, classes, bins]; cells may be below 0.
      noise_variance: of each cell.
    """

    counts: FloatArray
    noise_variance: float

    @property
    def patients(self) -> Estimate:
        """How many held-out patients were scored."""
        noise = math.sqrt(self.counts.size * self.noise_variance)
        return Estimate(float(self.counts.sum()), noise, unit="patients", bounds=COUNTED)


@dataclass(frozen=True)
class Roc:
    """A ROC curve: a point per bin edge, from (0, 0) to (1, 1), both rates rising.

    Args:
      thresholds: edges, from 1 down to 0; a patient is called positive at or above it.
      false_positive_rate, true_positive_rate: in [0, 1].
      false_positive_error, true_positive_error: standard errors, noise and sampling together.
      auc: with its errors.
    """

    thresholds: tuple[float, ...]
    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    false_positive_error: tuple[float, ...]
    true_positive_error: tuple[float, ...]
    auc: Estimate

    def __str__(self) -> str:
        return f"ROC curve of {len(self.thresholds)} points, AUC {self.auc}"


@dataclass(frozen=True)
class Accuracy:
    """Share of patients called right at a threshold, which lies on a bin edge; None for more than two classes."""

    estimate: Estimate
    threshold: float | None

    def __str__(self) -> str:
        at = "" if self.threshold is None else f" at threshold {self.threshold:g}"
        return f"accuracy {self.estimate}{at}"


@dataclass(frozen=True)
class Calibration:
    """How often what was predicted came true, per score bin with enough patients to tell.

    Args:
      predicted: middles of the bins.
      observed: share in which it came true, in [0, 1].
      errors: standard errors of `observed`, noise and sampling together.
      patients: noisy numbers of patients in the bins.
    """

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    errors: tuple[float, ...]
    patients: tuple[float, ...]

    def __str__(self) -> str:
        rows = zip(self.predicted, self.observed, self.errors, self.patients, strict=True)
        lines = [f"{p:9.3f}  {o:8.3f} ± {e:.3f}  {n:8.0f}" for p, o, e, n in rows]
        return "\n".join(["predicted  observed          patients", *lines])


@dataclass(frozen=True, eq=False)
class Confusion:
    """Numbers of patients by true class (rows) and predicted class (columns), and each number's standard error."""

    classes: tuple[str, ...]
    counts: FloatArray
    noise_error: float

    def __str__(self) -> str:
        width = max(8, *map(len, self.classes))
        head = " " * width + " ".join(f"{name:>{width}}" for name in self.classes)
        body = zip(self.classes, self.counts, strict=True)
        rows = [f"{name:<{width}}" + " ".join(f"{count:>{width}.0f}" for count in row) for name, row in body]
        return "\n".join([head, *rows, f"each ± {self.noise_error:.2g}; rows are true, columns predicted"])


def read_scores(scores: npt.ArrayLike, mechanism: Evaluation) -> Scores:
    """The tensor `"scores"` of an evaluation's release. Raises `WeightsRefused` where it is not one of its shape."""
    counts = np.asarray(scores, dtype=np.float64)
    two = counts.ndim == 2 and counts.shape[0] == 2
    more = counts.ndim == 3 and counts.shape[0] == counts.shape[1] > 2
    if not (two or more) or counts.shape[-1] != mechanism.bins or not np.isfinite(counts).all():
        raise WeightsRefused(
            f"Scores of shape {counts.shape} are not [2, {mechanism.bins}] or [classes, classes, {mechanism.bins}]."
        )
    return Scores(counts, geometric_variance(mechanism.epsilon))


def geometric_variance(epsilon: float) -> float:
    """Variance of two-sided geometric noise, P(x) ∝ exp(-ε|x|): 2p/(1-p)² with p = exp(-ε)."""
    return 2 * math.exp(-epsilon) / math.expm1(-epsilon) ** 2


def combine_scores(hospitals: Iterable[Scores]) -> Scores:
    """All hospitals' held-out patients in one histogram: of the same model, with the same bins. Noise adds up."""
    parts = list(hospitals)
    if not parts or any(part.counts.shape != parts[0].counts.shape for part in parts):
        raise WeightsRefused("Only scores of one shape can be combined. Ask every hospital for the same bins.")
    return Scores(np.sum([part.counts for part in parts], axis=0), sum(part.noise_variance for part in parts))


def auc(scores: Scores) -> Estimate:
    """Area under the ROC curve: the chance that a positive's score is above a negative's, ties counted half.

    With counts h0, h1, ranks F(b) = share of negatives below bin b (half of its own) and G(b) = share of positives
    above it: ∂AUC/∂h1(b) = (F - AUC)/n1 and ∂AUC/∂h0(b) = (G - AUC)/n0; sampling as in DeLong et al. 1988. The product
    of both classes' noise, negligible for large hold-outs, is added as a second order. Where the noise could make up a
    whole class, nothing is known: 0.5 ± 0.5.
    """
    h0, h1 = _binary(scores)
    n0, n1 = float(h0.sum()), float(h1.sum())
    bins, noise = len(h0), scores.noise_variance
    if min(n0, n1) < max(1.0, 2 * math.sqrt(noise * bins)):
        return Estimate(0.5, 0.5, bounds=SHARE)
    below = (np.cumsum(h0) - h0 / 2) / n0
    above = 1 - (np.cumsum(h1) - h1 / 2) / n1
    area = float(h1 @ below) / n1
    to_h1, to_h0 = (below - area) / n1, (above - area) / n0
    first = noise * float(to_h1 @ to_h1 + to_h0 @ to_h0)
    wins = np.tri(bins, k=-1) + np.eye(bins) / 2  # [positive's bin, negative's bin]
    second = noise**2 * float(((wins - below[:, None] - above[None, :] + area) ** 2).sum()) / (n0 * n1) ** 2
    # Noisy cells may push these sums below 0, where nothing of them is left to see.
    sampling = max(float(h1 @ to_h1**2), 0.0) + max(float(h0 @ to_h0**2), 0.0)
    noise_error, sampling_error = (min(math.sqrt(part), 0.5) for part in (first + second, sampling))
    return Estimate(min(max(area, 0.0), 1.0), noise_error, sampling_error, bounds=SHARE)


def roc(scores: Scores) -> Roc:
    """The ROC curve at every bin edge, made to rise, with errors per point."""
    h0, h1 = _binary(scores)
    edges = np.linspace(1.0, 0.0, len(h0) + 1)
    (false, false_error), (true, true_error) = _rates(h0, scores.noise_variance), _rates(h1, scores.noise_variance)
    return Roc(_plain(edges), _plain(false), _plain(true), _plain(false_error), _plain(true_error), auc(scores))


def accuracy(scores: Scores, threshold: float = 0.5) -> Accuracy:
    """Share of patients called right: by the bin edge nearest to `threshold`, or by the predicted class if more than
    two. ∂/∂(a cell called right) = (1 - a)/n, ∂/∂(another) = -a/n."""
    right = np.zeros(scores.counts.shape, dtype=bool)
    edge: float | None = None
    if scores.counts.ndim == 2:
        bins = scores.counts.shape[1]
        cut = int(min(max(round(threshold * bins), 0), bins))
        right[0, :cut], right[1, cut:] = True, True
        edge = cut / bins
    else:
        right[np.arange(len(right)), np.arange(len(right))] = True
    cells = int(right.sum())
    estimate = _share(float(scores.counts[right].sum()), scores, cells=cells, others=right.size - cells)
    return Accuracy(estimate, edge)


def calibration(scores: Scores) -> Calibration:
    """Observed against predicted, for bins whose number of patients stands out of the noise.

    For two classes: the share of positives by score. For more: the share called right by largest probability.
    """
    if scores.counts.ndim == 2:
        hits, misses, cells = scores.counts[1], scores.counts[0], (1, 1)
    else:
        classes = len(scores.counts)
        hits = np.einsum("iib->b", scores.counts)
        misses = scores.counts.sum(axis=(0, 1)) - hits
        cells = (classes, classes * (classes - 1))
    bins, total = len(hits), hits + misses
    # Above three standard deviations of its noise, and above ten patients, a bin says something.
    kept = np.flatnonzero(total > max(10.0, 3 * math.sqrt(sum(cells) * scores.noise_variance)))
    rates = np.clip(hits[kept] / total[kept], 0.0, 1.0)
    noise = scores.noise_variance * (cells[0] * (1 - rates) ** 2 + cells[1] * rates**2) / total[kept] ** 2
    errors = np.sqrt(noise + _binomial(rates, total[kept]))
    return Calibration(_plain((kept + 0.5) / bins), _plain(rates), _plain(errors), _plain(total[kept]))


def confusion(scores: Scores, classes: tuple[str, ...], threshold: float = 0.5) -> Confusion:
    """Numbers by true and predicted class; for two classes at the bin edge nearest to `threshold`.

    The stated error is that of the noisiest cell.
    """
    counts, bins = scores.counts, scores.counts.shape[-1]
    if counts.ndim == 3:
        return Confusion(classes, counts.sum(axis=2), math.sqrt(bins * scores.noise_variance))
    cut = int(min(max(round(threshold * bins), 0), bins))
    table = np.stack([counts[:, :cut].sum(axis=1), counts[:, cut:].sum(axis=1)], axis=1)
    return Confusion(classes, table, math.sqrt(max(cut, bins - cut) * scores.noise_variance))


def _binary(scores: Scores) -> tuple[FloatArray, FloatArray]:
    if scores.counts.ndim != 2:
        raise WeightsRefused(
            "A ROC curve is of two classes, and these scores have more. Ask for accuracy or confusion."
        )
    return scores.counts[0], scores.counts[1]


def _rates(counts: FloatArray, noise: float) -> tuple[FloatArray, FloatArray]:
    """Share of a class at or above each edge from 1 down to 0, and its standard error."""
    bins, total = len(counts), float(counts.sum())
    at = np.arange(bins + 1)
    if total < 1:
        return at / bins, np.where((at == 0) | (at == bins), 0.0, 0.5)
    raw = np.r_[0.0, np.cumsum(counts[::-1])] / total
    rates = np.maximum.accumulate(np.clip(raw, 0.0, 1.0))
    rates[-1] = 1.0
    # cells above the edge: ∂ = (1 - rate)/n, at of them; below: -rate/n, bins - at of them.
    spread = noise * (at * (1 - rates) ** 2 + (bins - at) * rates**2) / total**2
    errors = np.sqrt(spread + _binomial(rates, np.full(bins + 1, total)))
    errors[[0, -1]] = 0.0  # no patient scores above 1 and all score 0 or more, whatever the noise
    return rates, np.minimum(errors, 0.5)


def _share(hits: float, scores: Scores, *, cells: int, others: int) -> Estimate:
    total = float(scores.counts.sum())
    if total < max(1.0, 2 * math.sqrt(scores.counts.size * scores.noise_variance)):
        return Estimate(0.5, 0.5, bounds=SHARE)
    share = min(max(hits / total, 0.0), 1.0)
    noise = math.sqrt(scores.noise_variance * (cells * (1 - share) ** 2 + others * share**2)) / total
    return Estimate(share, min(noise, 0.5), math.sqrt(share * (1 - share) / total), bounds=SHARE)


def _binomial(rates: FloatArray, totals: FloatArray) -> FloatArray:
    """Sampling variance of shares; half a patient is added to either side, so that 0 and 1 have an error too."""
    smoothed = (rates * totals + 0.5) / (totals + 1)
    return np.asarray(smoothed * (1 - smoothed) / totals, dtype=np.float64)


def _plain(values: npt.NDArray[np.generic]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
