"""Intervals hold 93 % of the time or more, all over a grid: tiny hospitals, narrow columns, rare values.

Every place is held to it by itself: a test fails where so few intervals held that a true 93 % would come to it once in
ten thousand times.
"""

import pytest

from tests.researcher.coverage import (
    MODELS,
    SHAPES,
    WANTED,
    Coverage,
    Scored,
    Tally,
    combined_tally,
    evaluation_tally,
    everything,
    statistics_tally,
)


def check(tally: Tally) -> None:
    short = [str(coverage) for coverage in [*tally.all.values(), *tally.pooled()] if coverage.short]
    assert not short, "\n".join(short)


def test_a_coverage_of_less_is_found() -> None:
    assert Coverage("count", "", [1.0] * 80 + [0.0] * 20).short
    assert not Coverage("count", "", [1.0] * 92 + [0.0] * 8).short


@pytest.mark.parametrize("shape", ["narrow", "3 % far off", "all alike"])
def test_statistics_of_tiny_hospitals_are_covered(shape: str) -> None:
    check(statistics_tally({shape: SHAPES[shape]}, (12, 60), (1.0, 5.0), 60))


def test_statistics_over_hospitals_are_covered() -> None:
    check(combined_tally({"bell": 60, "narrow": 30, "skewed": 12}, (1.0,), 80))


@pytest.mark.parametrize("model", [Scored(8.0, 0.02), Scored(1.2, 0.5)], ids=str)
def test_evaluations_of_tiny_hold_outs_are_covered(model: Scored) -> None:
    check(evaluation_tally([model], (6, 20, 100), (1.0, 5.0), 60))


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_every_interval_is_covered_over_the_whole_grid() -> None:
    assert len(SHAPES) >= 7
    assert len(MODELS) >= 11
    for tally in everything(trials=500):
        check(tally)
        assert min(pool.share for pool in tally.pooled()) >= WANTED
