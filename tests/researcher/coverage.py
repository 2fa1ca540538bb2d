"""How often 95 % intervals hold what they are about, over sizes, ε and shapes: `python -m tests.researcher.coverage`.

Hospitals' records are drawn from a known population, released by the datasite's own engine and read as a researcher
reads them. Counts, sums and cells are held against the hospital's records, means, variances, quantiles, shares and the
figures of an evaluation against the population. Noise of an evaluation is drawn by numpy, of the distribution that the
engine's is tested for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from datasites.engine.noise import NoiseSource
from datasites.engine.statistics import answer
from policies.privacy.mechanisms import Evaluation, Query, Statistics
from policies.schema.columns import Column
from policies.schema.schemas import Schema
from researcher import scores as reading
from researcher.estimates import Statistic, combine_statistics, read_statistics
from researcher.figures import NORMAL_95, Cells, Estimate, Quantiles

FloatArray = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], FloatArray]

WANTED = 0.93
DOUBT = 1e-4  # chance with which a coverage of `WANTED` would be taken for less
RANKS = (0.05, 0.25, 0.5, 0.75, 0.95)
LOW, HIGH = 0.0, 10.0
SCHEMA = Schema(
    name="visits",
    population="town",
    patient="id",
    target="ill",
    columns=(
        Column(name="x", kind="real", minimum=LOW, maximum=HIGH),
        Column(name="alone", kind="real", minimum=LOW, maximum=HIGH),
        Column(name="ill", kind="boolean"),
    ),
)
# `x` has both its mean and its variance released, `alone`, the same numbers, its mean and not its variance.
QUERIES = (
    Query("count"),
    Query("sum", ("x",)),
    Query("mean", ("x",)),
    Query("variance", ("x",)),
    Query("mean", ("alone",)),
    Query("quantiles", ("x",), RANKS),
    Query("histogram", ("x",)),
    Query("crosstab", ("x", "ill")),
)
BINS, ILL = 5, 0.3
SHAPES: dict[str, Draw] = {
    "even": lambda rng, n: rng.uniform(LOW, HIGH, n),
    "bell": lambda rng, n: rng.normal(4, 1, n).clip(LOW, HIGH),
    "narrow": lambda rng, n: rng.normal(3, 0.05, n),
    "skewed": lambda rng, n: rng.exponential(0.8, n).clip(LOW, HIGH),
    "all at a bound": lambda rng, n: np.zeros(n),
    "3 % far off": lambda rng, n: np.where(rng.random(n) < 0.03, HIGH, LOW),
    "all alike": lambda rng, n: np.full(n, 5.001),
}


@dataclass
class Coverage:
    """How often one statistic's interval held in one place of the grid."""

    statistic: str
    place: str
    held: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the intervals that held."""
        return float(np.mean(self.held))

    @property
    def short(self) -> bool:
        """Whether so few held that a coverage of 93 % would have come to it once in ten thousand times."""
        return float(binom.cdf(round(sum(self.held)), len(self.held), WANTED)) < DOUBT

    def __str__(self) -> str:
        return f"{self.statistic:<22} {self.place:<40} {self.share:.3f} of {len(self.held)}"


class Tally:
    """All coverages of a run, by statistic and place."""

    def __init__(self) -> None:
        self.all: dict[tuple[str, str], Coverage] = {}

    def add(self, statistic: str, place: str, held: float) -> None:
        """One interval (or a share of several, which belong together) held, or did not."""
        self.all.setdefault((statistic, place), Coverage(statistic, place)).held.append(float(held))

    def worst(self) -> list[Coverage]:
        """The least covered place of each statistic."""
        by_statistic: dict[str, list[Coverage]] = {}
        for coverage in self.all.values():
            by_statistic.setdefault(coverage.statistic, []).append(coverage)
        return [min(coverages, key=lambda coverage: coverage.share) for coverages in by_statistic.values()]

    def pooled(self) -> list[Coverage]:
        """Of each statistic over all places."""
        whole: dict[str, Coverage] = {}
        for coverage in self.all.values():
            pool = whole.setdefault(coverage.statistic, Coverage(coverage.statistic, "all places"))
            pool.held += coverage.held
        return [*whole.values()]


@dataclass(frozen=True)
class Truth:
    """Of a population: what intervals about it have to hold."""

    mean: float
    variance: float
    quantiles: tuple[float, ...]
    shares: FloatArray

    @classmethod
    def of(cls, draw: Draw, rng: np.random.Generator) -> Truth:
        """From so many draws that their own error does not show."""
        many = draw(rng, 400_000)
        shares = np.histogram(many, BINS, (LOW, HIGH))[0] / len(many)
        return cls(float(many.mean()), float(many.var()), tuple(np.quantile(many, RANKS)), shares)


def statistics_tally(
    shapes: Mapping[str, Draw], sizes: Sequence[int], epsilons: Sequence[float], trials: int, *, seed: int = 0
) -> Tally:
    """Of every statistic, one hospital each."""
    rng, source, tally = np.random.default_rng(seed), NoiseSource.from_os(), Tally()
    for name, draw in shapes.items():
        truth = Truth.of(draw, rng)
        for patients in sizes:
            for epsilon in epsilons:
                mechanism = Statistics(queries=QUERIES, epsilon=epsilon * len(QUERIES), bins=BINS)
                place = f"{name}, {patients} patients, ε = {epsilon:g}"
                for _ in range(trials):
                    table = drawn(rng, draw, patients)
                    released = answer(mechanism, SCHEMA, table, source)
                    read = read_statistics(released, mechanism, SCHEMA, patients=patients)
                    tally_one(tally, place, read, table, truth)
    return tally


def combined_tally(sizes: Mapping[str, int], epsilons: Sequence[float], trials: int, *, seed: int = 0) -> Tally:
    """Of hospitals of other shapes and sizes, together."""
    rng, source, tally = np.random.default_rng(seed), NoiseSource.from_os(), Tally()
    patients = {name: float(size) for name, size in sizes.items()}

    def mixture(rng: np.random.Generator, n: int) -> FloatArray:
        parts = rng.multinomial(n, np.array([*patients.values()]) / sum(patients.values()))
        return np.concatenate([SHAPES[name](rng, part) for name, part in zip(patients, parts, strict=True)])

    truth = Truth.of(mixture, rng)
    for epsilon in epsilons:
        mechanism = Statistics(queries=QUERIES, epsilon=epsilon * len(QUERIES), bins=BINS)
        for _ in range(trials):
            tables = {name: drawn(rng, SHAPES[name], size) for name, size in sizes.items()}
            reads = {
                name: read_statistics(
                    answer(mechanism, SCHEMA, table, source), mechanism, SCHEMA, patients=patients[name]
                )
                for name, table in tables.items()
            }
            together = combine_statistics(reads, patients=patients)
            whole = np.concatenate([*tables.values()])
            tally_one(tally, f"{len(sizes)} hospitals, ε = {epsilon:g}", together, whole, truth)
    return tally


def drawn(rng: np.random.Generator, draw: Draw, patients: int) -> FloatArray:
    """A hospital's table, a record each."""
    x = draw(rng, patients)
    return np.column_stack([np.arange(patients), np.zeros(patients), x, x, rng.random(patients) < ILL])


def tally_one(tally: Tally, place: str, read: Mapping[str, Statistic], table: FloatArray, truth: Truth) -> None:
    """Hold every interval of a release against what it is about."""
    x, ill = table[:, 2], table[:, 4]
    counts = np.histogram(x, BINS, (LOW, HIGH))[0]
    crossed = np.stack([np.histogram(x[ill == value], BINS, (LOW, HIGH))[0] for value in (0, 1)], axis=1)
    expected = {"count": len(x), "sum/x": x.sum(), "mean/x": truth.mean, "variance/x": truth.variance}
    for key, value in {**expected, "mean/alone": truth.mean}.items():
        estimate = read[key]
        assert isinstance(estimate, Estimate)
        statistic = key.removesuffix("/x").replace("/alone", ", variance unknown")
        tally.add(statistic, place, holds(estimate.interval, value))
    quantiles, cells, table_ = (read[query.key] for query in QUERIES[-3:])
    assert isinstance(quantiles, Quantiles)
    assert isinstance(cells, Cells)
    assert isinstance(table_, Cells)
    for rank, interval, value in zip(RANKS, quantiles.intervals, truth.quantiles, strict=True):
        tally.add(f"quantile {rank:g}", place, holds(interval, value))
    for index, count in enumerate(counts):
        tally.add("histogram", place, holds(cells.estimate(index).interval, count))
        tally.add("share", place, holds(tuple(cells.share_intervals[index]), truth.shares[index]))
    for index in np.ndindex(crossed.shape):
        tally.add("crosstab", place, holds(table_.estimate(*index).interval, crossed[index]))


def holds(interval: tuple[float, float], value: float) -> bool:
    """Whether a value is in it, and it in order."""
    return interval[0] - 1e-9 <= value <= interval[1] + 1e-9


@dataclass(frozen=True)
class Scored:
    """A model's scores in a population.

    Args:
      apart: how far the two classes' scores are apart, in deviations before the sigmoid.
      ill: share of the second class.
    """

    apart: float
    ill: float
    bins: int = 20

    def shares(self, rng: np.random.Generator) -> FloatArray:
        """Of scores in each bin, by class."""
        draws = (rng.normal(side * self.apart / 2, 1, 400_000) for side in (-1, 1))
        return np.stack(
            [np.histogram(1 / (1 + np.exp(-1.5 * each)), self.bins, (0, 1))[0] / len(each) for each in draws]
        )


def evaluation_tally(
    models: Sequence[Scored], sizes: Sequence[int], epsilons: Sequence[float], trials: int, *, seed: int = 0
) -> Tally:
    """Of what an evaluation gives, one hospital each and three together."""
    rng, tally = np.random.default_rng(seed), Tally()
    for model in models:
        shares = model.shares(rng)
        truths = _truths(shares, model)
        for patients in sizes:
            for epsilon in epsilons:
                about = f"{model.apart:g} apart, {model.ill:.0%} ill, {model.bins} bins"
                place = f"{about}, {patients} held out, ε = {epsilon:g}"
                for index, scores in enumerate(_released(rng, shares, model, patients, epsilon, 3 * trials)):
                    if index % 3:
                        continue
                    _tally_scores(tally, place, scores, truths, curves=index % 12 == 0)
                for parts in _threes(_released(rng, shares, model, patients, epsilon, trials)):
                    whole = reading.combine_scores([scores for scores, _ in parts])
                    counts = np.sum([exact for _, exact in parts], axis=0)
                    _tally_scores(tally, f"3 × {place}", (whole, counts), truths, curves=False)
    return tally


def _threes(scores: Iterator[tuple[reading.Scores, FloatArray]]) -> Iterator[list[tuple[reading.Scores, FloatArray]]]:
    parts = list(scores)
    for begin in range(0, len(parts) - 2, 3):
        yield parts[begin : begin + 3]


def _released(
    rng: np.random.Generator, shares: FloatArray, model: Scored, patients: int, epsilon: float, trials: int
) -> Iterator[tuple[reading.Scores, FloatArray]]:
    """Score histograms as released, and without noise."""
    ill = rng.binomial(patients, model.ill, trials)
    exact = np.stack([rng.multinomial(patients - ill, shares[0]), rng.multinomial(ill, shares[1])], axis=1)
    noisy = exact + geometric(rng, epsilon, exact.shape)
    mechanism = Evaluation(loss="binary_cross_entropy", epsilon=epsilon, bins=model.bins)
    for released, counted in zip(noisy, exact, strict=True):
        yield reading.read_scores(released, mechanism), counted.astype(np.float64)


def geometric(rng: np.random.Generator, epsilon: float, shape: tuple[int, ...]) -> FloatArray:
    """Discrete Laplace noise: the difference of two geometric draws."""
    chance = -math.expm1(-epsilon)
    return (rng.geometric(chance, shape) - rng.geometric(chance, shape)).astype(np.float64)


@dataclass(frozen=True)
class _Truths:
    auc: float
    accuracy: float
    true_positive_rate: FloatArray
    observed: FloatArray


def _truths(shares: FloatArray, model: Scored) -> _Truths:
    both = np.array([1 - model.ill, model.ill])[:, None] * shares
    cut = model.bins // 2
    return _Truths(
        reading.auc(reading.Scores(shares * 1e9, 0.0)).value,
        float(both[0, :cut].sum() + both[1, cut:].sum()),
        np.r_[0.0, np.cumsum(shares[1, ::-1])],
        both[1] / np.maximum(both.sum(axis=0), 1e-300),
    )


def _tally_scores(
    tally: Tally, place: str, scored: tuple[reading.Scores, FloatArray], truths: _Truths, *, curves: bool
) -> None:
    scores, exact = scored
    tally.add("AUC", place, holds(reading.auc(scores).interval, truths.auc))
    tally.add("accuracy", place, holds(reading.accuracy(scores).estimate.interval, truths.accuracy))
    tally.add("held-out patients", place, holds(scores.patients.interval, exact.sum()))
    if not curves:
        return
    roc, calibration = reading.roc(scores), reading.calibration(scores)
    gaps = np.abs(np.array(roc.true_positive_rate) - truths.true_positive_rate)
    tally.add("ROC curve", place, (gaps <= NORMAL_95 * np.array(roc.true_positive_error) + 1e-9)[1:-1].mean())
    confusion, cut = reading.confusion(scores, ("no", "yes")), exact.shape[1] // 2
    wanted = np.stack([exact[:, :cut].sum(axis=1), exact[:, cut:].sum(axis=1)], axis=1)
    tally.add("confusion", place, (np.abs(confusion.counts - wanted) <= confusion.reach).mean())
    bins = np.rint(np.array(calibration.predicted) * exact.shape[1] - 0.5).astype(int)
    missed = np.abs(np.array(calibration.observed) - truths.observed[bins]) > NORMAL_95 * np.array(calibration.errors)
    tally.add("calibration", place, 1 - missed.mean() if len(bins) else 1.0)


MODELS = (
    *(Scored(apart, ill) for apart in (0.0, 1.2, 3.0, 8.0) for ill in (0.5, 0.02)),
    Scored(1.2, 0.5, 5),
    Scored(1.2, 0.1, 100),
    Scored(8.0, 0.02, 5),
)


def everything(*, trials: int) -> list[Tally]:
    """The whole grid; with 500 trials some three minutes."""
    return [
        statistics_tally(SHAPES, (12, 60, 400), (0.1, 1.0, 5.0), trials),
        statistics_tally(SHAPES, (2500,), (0.1, 1.0, 5.0), max(trials // 4, 1)),
        combined_tally({"bell": 400, "narrow": 60, "skewed": 12}, (0.3, 1.0, 5.0), trials),
        combined_tally({"even": 100, "3 % far off": 300}, (0.3, 1.0, 5.0), trials),
        evaluation_tally(MODELS, (6, 20, 100, 1000), (0.2, 1.0, 5.0), trials),
    ]


def main() -> None:
    """Print the worst place of each statistic."""
    for tally in everything(trials=500):
        for worst, pool in zip(tally.worst(), tally.pooled(), strict=True):
            print(f"{worst}; over all places {pool.share:.3f}", flush=True)


if __name__ == "__main__":
    main()
