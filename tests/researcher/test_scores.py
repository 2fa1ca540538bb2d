"""Score histograms as a researcher reads them: closed forms, coverage of the intervals, combinations."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from policies.errors import WeightsRefused
from policies.privacy.mechanisms import Evaluation
from policies.schema.noise_scales import LAPLACE_95
from researcher import scores as reading
from researcher.figures import SHARE, Estimate, accepted, counted_patients
from researcher.scores import Scores, geometric_variance

FloatArray = npt.NDArray[np.float64]
BINS = 20


def evaluation(epsilon: float = 1.0, bins: int = BINS) -> Evaluation:
    return Evaluation(loss="binary_cross_entropy", epsilon=epsilon, bins=bins)


def geometric(random: np.random.Generator, epsilon: float, shape: tuple[int, ...]) -> FloatArray:
    """Two-sided geometric noise: the difference of two geometric draws."""
    p = 1 - math.exp(-epsilon)
    return (random.geometric(p, shape) - random.geometric(p, shape)).astype(np.float64)


def drawn(random: np.random.Generator, positives: int, negatives: int) -> FloatArray:
    """Scores of a calibrated-looking model, sigmoid of two normals 1.3 apart, as counts."""
    table = []
    for centre, n in ((-0.9, negatives), (0.4, positives)):
        score = 1 / (1 + np.exp(-random.normal(centre, 1.0, n)))
        table.append(np.histogram(score, bins=BINS, range=(0, 1))[0].astype(np.float64))
    return np.array(table)


def exact(counts: FloatArray) -> Scores:
    return Scores(counts, 0.0)


def inside(estimate: Estimate, truth: float) -> bool:
    low, high = estimate.interval
    return low <= truth <= high


def test_geometric_variance_is_that_of_the_noise() -> None:
    # Closed form against the sum over the distribution (1-p)/(1+p) p^|x|.
    for epsilon in (0.05, 1.0, 8.0):
        x, p = np.arange(-4000, 4001), math.exp(-epsilon)
        weights = (1 - p) / (1 + p) * p ** np.abs(x).astype(np.float64)
        assert reading.geometric_variance(epsilon) == pytest.approx(float((weights * x**2).sum()))


@given(
    st.lists(st.integers(0, 4), min_size=4, max_size=4).filter(any),
    st.lists(st.integers(0, 4), min_size=4, max_size=4).filter(any),
)
def test_auc_without_noise_is_scikit_learns_on_the_same_bins(h0: list[int], h1: list[int]) -> None:
    bins = np.arange(4)
    labels = np.repeat([0, 1], [sum(h0), sum(h1)])
    expected = roc_auc_score(labels, np.r_[np.repeat(bins, h0), np.repeat(bins, h1)])
    found = reading.auc(exact(np.array([h0, h1], dtype=np.float64)))
    assert found.value == pytest.approx(expected)
    assert found.noise_error == 0


@pytest.mark.parametrize(("positives", "negatives", "epsilon"), [(600, 1200, 1.0), (150, 400, 1.0), (60, 80, 2.0)])
def test_auc_intervals_cover_the_true_auc(positives: int, negatives: int, epsilon: float) -> None:
    random = np.random.default_rng(positives)
    truth = reading.auc(exact(drawn(random, 400_000, 400_000))).value
    hits, errors, values = 0, [], []
    for _ in range(800):
        noisy = drawn(random, positives, negatives) + geometric(random, epsilon, (2, BINS))
        found = reading.auc(reading.read_scores(noisy, evaluation(epsilon)))
        hits += inside(found, truth)
        errors.append(found.error)
        values.append(found.value)
    # sd of a share of 95 % over 800 draws: 0.8 %. The intervals' Laplace factor makes them a little wide.
    assert 0.925 <= hits / 800 <= 0.995
    assert np.median(errors) == pytest.approx(np.std(values), rel=0.25)
    assert np.mean(values) == pytest.approx(truth, abs=0.25 * np.std(values))


def test_auc_noise_error_matches_noise_alone() -> None:
    random = np.random.default_rng(3)
    counts = drawn(random, 500, 700)
    found = [
        reading.auc(reading.read_scores(counts + geometric(random, 0.5, (2, BINS)), evaluation(0.5)))
        for _ in range(1500)
    ]
    spread = np.std([each.value for each in found])
    assert np.median([each.noise_error for each in found]) == pytest.approx(spread, rel=0.15)


UNKNOWN = Estimate(0.5, 0.5, bounds=SHARE, note=reading.NO_AUC)


def test_auc_of_noise_alone_is_not_known() -> None:
    random = np.random.default_rng(0)
    unknown = sum(
        reading.auc(reading.read_scores(geometric(random, 0.5, (2, BINS)), evaluation(0.5))) == UNKNOWN
        for _ in range(200)
    )
    assert unknown >= 185
    assert reading.auc(exact(np.zeros((2, BINS)))) == UNKNOWN


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_accuracy_intervals_cover_the_true_accuracy(threshold: float) -> None:
    random = np.random.default_rng(7)
    truth = reading.accuracy(exact(drawn(random, 200_000, 400_000)), threshold).estimate.value
    hits = 0
    for _ in range(600):
        positives = random.binomial(450, 1 / 3)
        noisy = drawn(random, positives, 450 - positives) + geometric(random, 1.0, (2, BINS))
        found = reading.accuracy(reading.read_scores(noisy, evaluation()), threshold)
        assert found.threshold == threshold
        hits += inside(found.estimate, truth)
    assert 0.925 <= hits / 600 <= 0.995


def test_accuracy_threshold_is_the_nearest_bin_edge_and_says_so() -> None:
    found = reading.accuracy(exact(np.ones((2, 4))), 0.6)
    assert found.threshold == 0.5
    assert "threshold 0.5" in str(found)


def test_roc_without_noise_is_exact_and_its_area_is_the_auc() -> None:
    counts = np.array([[6.0, 3.0, 1.0, 0.0], [0.0, 1.0, 2.0, 2.0]])
    curve = reading.roc(exact(counts))
    assert curve.thresholds == (1.0, 0.75, 0.5, 0.25, 0.0)
    assert curve.true_positive_rate == pytest.approx((0, 0.4, 0.8, 1, 1))
    assert curve.false_positive_rate == pytest.approx((0, 0, 0.1, 0.4, 1))
    area = np.trapz(curve.true_positive_rate, curve.false_positive_rate)
    assert area == pytest.approx(curve.auc.value)


def test_roc_errors_cover_the_true_rates() -> None:
    random = np.random.default_rng(11)
    truth = reading.roc(exact(drawn(random, 400_000, 400_000)))
    hits = np.zeros(BINS - 1)
    for _ in range(400):
        noisy = drawn(random, 300, 500) + geometric(random, 1.0, (2, BINS))
        found = reading.roc(reading.read_scores(noisy, evaluation()))
        gap = np.abs(np.subtract(found.true_positive_rate, truth.true_positive_rate))[1:-1]
        hits += gap <= 1.96 * np.array(found.true_positive_error)[1:-1]
    assert (hits / 400 >= 0.92).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=12, max_size=12), st.floats(0.001, 50))
def test_every_histogram_reads_to_rates_in_range(cells: list[float], epsilon: float) -> None:
    found = reading.read_scores(np.array(cells).reshape(2, 6), evaluation(epsilon, 6))
    curve = reading.roc(found)
    for rates in (curve.true_positive_rate, curve.false_positive_rate):
        assert rates[0] == 0
        assert rates[-1] == 1
        assert list(rates) == sorted(rates)
    assert 0 <= curve.auc.value <= 1
    assert 0 <= curve.auc.error <= 1
    assert 0 <= reading.accuracy(found).estimate.value <= 1
    calibration = reading.calibration(found)
    assert all(0 <= rate <= 1 for rate in calibration.observed)
    for each in (curve, reading.accuracy(found), calibration, reading.confusion(found, ("no", "yes"))):
        assert "nan" not in str(each)
        assert "inf" not in str(each)


def test_calibration_covers_and_leaves_out_bins_without_patients() -> None:
    random = np.random.default_rng(2)
    hits = tries = 0
    for _ in range(300):
        score = random.beta(2, 5, 3000)
        label = random.random(3000) < score
        table = np.array(
            [np.histogram(score[label == each], bins=BINS, range=(0, 1))[0] for each in (False, True)], dtype=np.float64
        )
        found = reading.calibration(reading.read_scores(table + geometric(random, 1.0, (2, BINS)), evaluation()))
        assert max(found.predicted) < 0.95
        # The middle of a bin of width 0.05 is at most 0.01 from its patients' average score where there are many.
        gap = np.abs(np.subtract(found.observed, found.predicted)) - 0.01
        hits += int(np.count_nonzero(gap <= 1.96 * np.array(found.errors)))
        tries += len(gap)
    assert 0.93 <= hits / tries <= 0.995


# --- several hospitals, several classes


def test_combined_scores_add_patients_and_noise() -> None:
    random = np.random.default_rng(0)
    a, b = drawn(random, 100, 200), drawn(random, 50, 30)
    combined = reading.combine_scores([Scores(a, 2.0), Scores(b, 3.0)])
    assert combined.counts.tolist() == (a + b).tolist()
    assert combined.noise_variance == 5.0
    noise = math.sqrt(2 * BINS * 5.0)
    assert combined.patients == counted_patients(380.0, noise)
    # Whole numbers: half a patient more to either side of 2.12 deviations, and no fewer than nobody.
    assert combined.patients.interval == pytest.approx((380 - LAPLACE_95 * noise - 0.5, 380 + LAPLACE_95 * noise + 0.5))
    alone = reading.auc(Scores(a, 2.0))
    assert reading.auc(Scores(2 * a, 4.0)).error < alone.error


def test_multi_class_accuracy_and_confusion() -> None:
    counts = np.zeros((3, 3, 4))
    counts[0, 0, 3], counts[0, 1, 1], counts[1, 1, 2], counts[2, 0, 1] = 50, 10, 30, 10
    found = Scores(counts, 0.25)
    accuracy = reading.accuracy(found)
    assert accuracy.threshold is None
    assert accuracy.estimate.value == pytest.approx(0.8)
    # 12 cells called right with weight 0.2 / 100, 24 others with 0.8 / 100, noise variance 0.25 each.
    assert accuracy.estimate.noise_error == pytest.approx(math.sqrt(0.25 * (12 * 0.2**2 + 24 * 0.8**2)) / 100)
    assert accuracy.estimate.sampling_error == pytest.approx(math.sqrt(0.8 * 0.2 / 100))
    confusion = reading.confusion(found, ("a", "b", "c"))
    assert confusion.counts.tolist() == [[50, 10, 0], [0, 30, 0], [10, 0, 0]]
    assert confusion.noise_error == pytest.approx(1.0)  # 4 bins of variance 0.25
    calibration = reading.calibration(Scores(counts, 0.0))
    assert calibration.predicted == (0.375, 0.625, 0.875)
    assert calibration.observed == pytest.approx((0, 1, 1))


def test_two_class_confusion_splits_at_the_threshold() -> None:
    counts = np.array([[5.0, 4.0, 3.0, 2.0], [1.0, 2.0, 3.0, 4.0]])
    assert reading.confusion(exact(counts), ("no", "yes"), 0.75).counts.tolist() == [[12, 2], [6, 4]]


@pytest.mark.parametrize(
    "scores", [np.zeros((2, 5)), np.zeros((3, 20)), np.zeros((2, 2, 20)), np.full((2, 20), math.nan), np.zeros(20)]
)
def test_scores_of_another_shape_are_refused(scores: FloatArray) -> None:
    with pytest.raises(WeightsRefused):
        reading.read_scores(scores, evaluation())


def test_noise_is_that_of_the_tables_share_and_of_every_hospital_in_a_sum() -> None:
    apart = replace(evaluation(), subgroups=("sex",))
    assert reading.read_scores(np.zeros((2, BINS)), apart).noise_variance == pytest.approx(geometric_variance(0.5))
    summed = reading.read_scores(np.zeros((2, BINS)), evaluation(), 3)
    assert summed.noise_variance == pytest.approx(3 * geometric_variance(1.0))


def test_roc_of_three_classes_and_mixed_bins_are_refused() -> None:
    with pytest.raises(WeightsRefused, match="two classes"):
        reading.auc(Scores(np.zeros((3, 3, 4)), 1.0))
    with pytest.raises(WeightsRefused, match="same bins"):
        reading.combine_scores([Scores(np.zeros((2, 4)), 1.0), Scores(np.zeros((2, 5)), 1.0)])


# --- one class alone, nobody at all


def test_a_hospital_of_one_class_says_that_it_has_no_auc() -> None:
    counts = np.zeros((2, BINS))
    counts[0, 3] = 400.0
    found = reading.auc(reading.read_scores(counts, evaluation()))
    assert str(found) == reading.NO_AUC
    assert not found.known
    assert found.interval == (0.0, 1.0)


def test_the_joint_auc_leaves_out_who_has_none_and_says_so() -> None:
    random = np.random.default_rng(5)
    both, one = drawn(random, 300, 500), np.zeros((2, BINS))
    one[0, 15] = 900.0  # negatives alone, all with high scores: pooled, they would spoil the others' area
    hospitals = {name: Scores(counts, 1.0) for name, counts in {"a": both, "b": one}.items()}
    joint = reading.joint_auc(hospitals)
    assert joint.value == reading.auc(hospitals["a"]).value
    assert joint.note == "without b: no AUC there"
    assert str(joint).endswith("; without b: no AUC there")
    assert reading.joint_auc({"a": hospitals["a"]}).note == ""


def test_hospitals_of_one_class_each_have_an_auc_together() -> None:
    well, ill = np.zeros((2, BINS)), np.zeros((2, BINS))
    well[0, 3], ill[1, 15] = 300.0, 200.0
    joint = reading.joint_auc({"a": Scores(well, 0.5), "b": Scores(ill, 0.5)})
    assert joint.value == pytest.approx(1.0)
    assert joint.known


def test_nobody_held_out_has_words_and_no_number() -> None:
    nobody = reading.read_scores(np.zeros((2, BINS)), evaluation())
    assert str(reading.auc(nobody)) == reading.NO_AUC
    assert str(reading.accuracy(nobody)) == f"accuracy {reading.NO_SHARE} at threshold 0.5"
    assert reading.calibration(nobody).predicted == ()
    assert str(reading.calibration(nobody)) == "no bin has more patients than noise could make up"
    assert nobody.patients.interval[0] == 0.0
    curve = reading.roc(nobody)
    assert max(curve.true_positive_error) == 0.5


def test_a_perfect_model_has_an_interval_that_noise_leaves_open() -> None:
    counts = np.zeros((2, BINS))
    counts[0, 0], counts[1, -1] = 40.0, 12.0
    found = reading.auc(exact(counts))
    low, high = found.interval
    assert found.value == high == 1.0
    # Of 12 positives and 40 negatives none is in the wrong order: as with 0 of 12, more than one in seven may be.
    assert 0.7 < low < 0.95
    accuracy = reading.accuracy(exact(counts)).estimate
    assert accuracy.interval[1] == 1.0
    assert 1 - 0.1 < accuracy.interval[0] < 1 - 0.03  # Newcombe 1998, method 4, at 52 of 52: 0.913


def test_the_interval_of_a_share_is_wilsons_with_newcombes_correction() -> None:
    # Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857, table I, methods 3 and 4.
    for hits, total, plain, corrected in (
        (81, 263, (0.2553, 0.3662), (0.2535, 0.3682)),
        (15, 148, (0.0624, 0.1605), (0.0598, 0.1644)),
        (0, 20, (0.0, 0.1611), (0.0, 0.2005)),
        (1, 29, (0.0061, 0.1718), (0.0018, 0.1963)),
    ):
        none = (0.0, 0.0, 0.0)
        assert accepted(hits, total, none, total, SHARE) == pytest.approx(plain, abs=6e-5)
        assert accepted(hits, total, none, total, SHARE, step=1.0) == pytest.approx(corrected, abs=6e-5)
