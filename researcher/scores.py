"""From released score histograms to AUC, ROC curve, accuracy, calibration and confusion, with uncertainty.

A hospital's evaluation is a histogram of a model's scores on its hold-out: [2, bins] by true class and score bin, or
[classes, classes, bins] by true class, predicted class and bin of the largest probability. Every cell carries two-sided
geometric noise of parameter p = exp(-ε), variance 2p/(1-p)². Everything below is arithmetic on that release.

Standard errors come from the delta method. Noise enters every cell alike, the empty ones too, and is weighted by the
figure's derivative there; sampling enters as multinomial draws of patients, plugged in from the released counts. The
95 % intervals do not plug in: an accuracy, a rate and an AUC are ratios of noisy sums, and `figures.accepted` finds all
values that these sums leave possible, so that nothing is divided by a number that noise may have made, and 0 of 7 has
an interval too. Bins are equal in width over [0, 1]; two scores in one bin count as tied, so an AUC reads slightly low
when bins are few.

Where a class has no more patients than noise could make up, the figures that divide by it say so and no number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from policies.errors import WeightsRefused
from policies.numbers import places_for, to_places, with_error
from policies.privacy.mechanisms import Evaluation
from policies.privacy.shared_mechanisms import shared_draws
from policies.schema.noise_scales import LAPLACE_95
from researcher.figures import NORMAL_95, SHARE, Estimate, FloatArray, accepted, counted_patients

NO_AUC = "no AUC: of one class no more patients are held out than noise could make up"
NO_SHARE = "unknown: no more patients are held out than noise could make up"
UNKNOWN = Estimate(0.5, 0.5, bounds=SHARE)


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
        return counted_patients(float(self.counts.sum()), math.sqrt(self.counts.size * self.noise_variance))


@dataclass(frozen=True)
class Roc:
    """A ROC curve: a point per bin edge, from (0, 0) to (1, 1), both rates rising.

    Args:
      thresholds: edges, from 1 down to 0; a patient is called positive at or above it.
      false_positive_rate, true_positive_rate: in [0, 1].
      false_positive_error, true_positive_error: standard errors, noise and sampling together: half of what a 95 %
        interval reaches to its farther side, over 0.98.
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
      errors: standard errors of `observed`, noise and sampling together, made as those of a ROC curve.
      patients: noisy numbers of patients in the bins.
    """

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    errors: tuple[float, ...]
    patients: tuple[float, ...]

    def __str__(self) -> str:
        if not self.predicted:
            return "no bin has more patients than noise could make up"
        rows = zip(self.predicted, self.observed, self.errors, self.patients, strict=True)
        lines = [f"{p:9.3f}  {with_error(o, e):>16}  {n:8.0f}" for p, o, e, n in rows]
        return "\n".join(["predicted          observed  patients", *lines])


@dataclass(frozen=True, eq=False)
class Confusion:
    """Numbers of patients by true class (rows) and predicted class (columns), and each number's standard error."""

    classes: tuple[str, ...]
    counts: FloatArray
    noise_error: float

    @property
    def reach(self) -> float:
        """How far off a number may be, 95 % of the time; half a patient more than its noise, as all are whole."""
        return LAPLACE_95 * self.noise_error + 0.5

    def __str__(self) -> str:
        width = max(8, *map(len, self.classes))
        head = " " * width + " ".join(f"{name:>{width}}" for name in self.classes)
        body = zip(self.classes, self.counts, strict=True)
        places = places_for(self.noise_error)
        rows = [
            f"{name:<{width}}" + " ".join(f"{to_places(float(count), places):>{width}}" for count in row)
            for name, row in body
        ]
        error = to_places(self.noise_error, places)
        return "\n".join([head, *rows, f"each ± {error}; rows are true, columns predicted"])


def read_scores(scores: npt.ArrayLike, mechanism: Evaluation, hospitals: int = 1) -> Scores:
    """The tensor `"scores"` of an evaluation's release, or of the sum over so many hospitals.

    Raises `WeightsRefused` where it is not one of its shape.
    """
    counts = np.asarray(scores, dtype=np.float64)
    two = counts.ndim == 2 and counts.shape[0] == 2
    more = counts.ndim == 3 and counts.shape[0] == counts.shape[1] > 2
    if not (two or more) or counts.shape[-1] != mechanism.bins or not np.isfinite(counts).all():
        raise WeightsRefused(
            f"Scores of shape {counts.shape} are not [2, {mechanism.bins}] or [classes, classes, {mechanism.bins}]."
        )
    shared = shared_draws(mechanism)
    if shared is not None:
        return Scores(counts, shared.standard_error(0, hospitals=hospitals) ** 2)
    return Scores(counts, hospitals * geometric_variance(mechanism.draws[0]))  # subgroups have their share of ε


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
    of both classes' noise, negligible for large hold-outs, is added as a second order.

    The interval is of U - θ n0 n1, with U the sum over pairs, which is 0 at the true θ but for noise and sampling. For
    the latter, U's variance is that of Hanley & McNeil 1982 (doi:10.1148/radiology.143.1.7063747) as Newcombe 2006
    (doi:10.1002/sim.2324, method 5) puts it, with the same number of either class in its last factor.

    Where a class may be noise alone, nothing is known, and the note says so: 0.5 ± 0.5.
    """
    h0, h1 = _binary(scores)
    n0, n1 = float(h0.sum()), float(h1.sum())
    bins, noise = len(h0), scores.noise_variance
    if min(n0, n1) < _least_of(bins * noise):
        return replace(UNKNOWN, note=NO_AUC)
    below = (np.cumsum(h0) - h0 / 2) / n0
    above = 1 - (np.cumsum(h1) - h1 / 2) / n1
    area = float(h1 @ below) / n1
    to_h1, to_h0 = (below - area) / n1, (above - area) / n0
    first = noise * float(to_h1 @ to_h1 + to_h0 @ to_h0)
    wins = np.tri(bins, k=-1) + np.eye(bins) / 2  # [positive's bin, negative's bin]
    second = noise**2 * float(((wins - below[:, None] - above[None, :] + area) ** 2).sum()) / (n0 * n1) ** 2
    # Noisy cells may push these sums below 0, where nothing of them is left to see.
    sampling = max(float(h1 @ to_h1**2), 0.0) + max(float(h0 @ to_h0**2), 0.0)
    value = min(max(area, 0.0), 1.0)
    noise_error, sampling_error = (min(math.sqrt(part), 0.5) for part in (first + second, sampling))
    # Of U - θ n0 n1, the sum over cells of h1 h0 (wins - θ): noise in h0, in h1, and in both.
    won, lost = h1 @ wins, wins @ h0
    spread = (
        noise * float(won @ won + lost @ lost) + noise**2 * float((wins**2).sum()),
        -2 * noise * float(n1 * won.sum() + n0 * lost.sum()) - 2 * noise**2 * float(wins.sum()),
        noise * bins * (n0**2 + n1**2) + noise**2 * bins**2,
    )
    mean = (n0 + n1) / 2
    drawn = n0 * n1 * (1 + (mean - 1) * ((1 - value) / (2 - value) + value / (1 + value)))
    # Counts are whole: at an AUC near 1 one patient in a bin with the other class, a tie, is the next value there is.
    ends = accepted(float(lost @ h1), n0 * n1, spread, drawn, SHARE, step=max(n0, n1) / 2)
    return Estimate(value, noise_error, sampling_error, bounds=SHARE, ends=ends)


def joint_auc(hospitals: Mapping[str, Scores]) -> Estimate:
    """Of all hospitals' patients together, but for hospitals that have no AUC of their own, which the note names.

    Where none has one they may have one together, as where one class is at one hospital and the other at another.
    """
    left_out = [name for name, scores in hospitals.items() if auc(scores).note]
    kept = {name: scores for name, scores in hospitals.items() if name not in left_out}
    if not kept or not left_out:
        return auc(combine_scores(hospitals.values()))
    return replace(auc(combine_scores(kept.values())), note=f"without {', '.join(left_out)}: no AUC there")


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
    # A bin of nobody is above this by noise in one release of forty, over all bins.
    tail = math.log(40 * bins) / math.sqrt(2) + 1
    kept = np.flatnonzero(total > max(10.0, tail * math.sqrt(sum(cells) * scores.noise_variance)))
    rates = np.clip(hits[kept] / total[kept], 0.0, 1.0)
    errors = [
        _error_of(float(hit), float(all_), scores.noise_variance, cells)
        for hit, all_ in zip(hits[kept], total[kept], strict=True)
    ]
    return Calibration(_plain((kept + 0.5) / bins), _plain(rates), tuple(errors), _plain(total[kept]))


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
    if total < _least_of(bins * noise):
        return at / bins, np.where((at == 0) | (at == bins), 0.0, 0.5)
    hits = np.r_[0.0, np.cumsum(counts[::-1])]
    rates = np.maximum.accumulate(np.clip(hits / total, 0.0, 1.0))
    rates[-1] = 1.0
    errors = np.array(
        [
            _error_of(float(hit), total, noise, (edge, bins - edge), shown=rate)
            for hit, edge, rate in zip(hits, at, rates, strict=True)
        ]
    )
    errors[[0, -1]] = 0.0  # no patient scores above 1 and all score 0 or more, whatever the noise
    return rates, np.minimum(errors, 0.5)


def _share(hits: float, scores: Scores, *, cells: int, others: int) -> Estimate:
    total = float(scores.counts.sum())
    if total < _least_of(scores.counts.size * scores.noise_variance):
        return replace(UNKNOWN, note=NO_SHARE)
    share = min(max(hits / total, 0.0), 1.0)
    noise = math.sqrt(scores.noise_variance * (cells * (1 - share) ** 2 + others * share**2)) / total
    ends = _share_ends(hits, total, scores.noise_variance, (cells, others))
    sampling = math.sqrt(share * (1 - share) / total)
    return Estimate(share, min(noise, 0.5), sampling, bounds=SHARE, ends=ends)


def _share_ends(hits: float, total: float, noise: float, cells: tuple[int, int]) -> tuple[float, float]:
    """95 % interval of the share of patients who fall into the first `cells`, and not into the second."""
    inside, outside = cells
    spread = (noise * inside, -2 * noise * inside, noise * (inside + outside))
    return accepted(hits, total, spread, max(total, 1.0), SHARE, step=1.0)


def _error_of(hits: float, total: float, noise: float, cells: tuple[int, int], *, shown: float | None = None) -> float:
    """The standard error of a share whose interval reaches as far as the farther end of what is possible."""
    value = min(max(hits / total, 0.0), 1.0) if shown is None else shown
    return max(abs(end - value) for end in _share_ends(hits, total, noise, cells)) / NORMAL_95


def _least_of(variance: float) -> float:
    """A number of patients that stands out of noise of this variance: two deviations, and at least one patient."""
    return max(1.0, 2 * math.sqrt(variance))


def _plain(values: npt.NDArray[np.generic]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
