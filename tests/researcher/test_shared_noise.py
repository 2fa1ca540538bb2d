"""What a researcher asks for with shared noise, what is said of it, and that its intervals hold."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from policies.errors import InvalidRequest, UnsupportedMechanism
from policies.privacy.mechanisms import KaplanMeier, Query, Statistics
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.privacy.shared_mechanisms import shared_draws
from policies.privacy.shared_noise import laplace_variance
from policies.privacy.shared_sums import grid_of, shown
from policies.release.evaluation_tables import EvaluationTable
from researcher.estimates import Estimate, read_sums
from researcher.rosters import label_of, roster_of, sharing
from researcher.shared_noise import SharedNoise, charged_words, expected, laplace_epsilon
from researcher.state import StudyState
from researcher.studies import Evaluation
from researcher.survival_curves import cell_variance
from tests.policies.plan_factories import training
from tests.researcher.test_estimates import SCHEMA

PARTIES = tuple(Party(f"Hospital {number}", f"{number:064x}", 400) for number in range(10))
ROSTER = SecureAggregation(threshold=7, hospitals=PARTIES, mode="shared-noise", may_collude=3)
COUNTS = Statistics(
    queries=(Query("count"), Query("missing", ("temperature",))), epsilon=1.0, secure_aggregation=ROSTER
)


def cohort() -> Any:
    described = {party.name: {"name": party.name, "public_key": party.key} for party in PARTIES}
    published = SimpleNamespace(training_patients=400)
    return SimpleNamespace(
        network=SimpleNamespace(descriptions=described),
        members={party.name: SimpleNamespace(published=published) for party in PARTIES},
    )


@pytest.mark.parametrize(("changes", "what"), [
    ({"threshold": 1}, "threshold=1 is not a whole number from 2"), ({"threshold": 2.0}, "threshold=2.0"),
    ({"may_collude": -1}, "may_collude=-1 is not a whole number from 0"), ({"may_collude": True}, "may_collude=True"),
    ({"may_collude": None}, "may_collude=None"),
])  # fmt: skip
def test_what_is_no_number_of_hospitals_is_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidRequest, match=what):
        SharedNoise(**changes)


def test_a_roster_is_of_what_was_asked_and_the_same_when_a_study_goes_on(tmp_path: Path) -> None:
    state = StudyState(tmp_path / "study")
    made = roster_of(cohort(), SharedNoise(threshold=7, may_collude=3), state)
    assert made == ROSTER
    assert roster_of(cohort(), SharedNoise(), state) == replace(ROSTER, threshold=6, may_collude=0)
    with pytest.raises(UnsupportedMechanism, match="may_collude=2 is above 1"):
        roster_of(cohort(), SharedNoise(may_collude=2), state)
    with pytest.raises(InvalidRequest, match="nor a SharedNoise"):
        roster_of(cohort(), "shared", state)  # type: ignore[arg-type]
    state.write("secure_aggregation", replace(ROSTER, hospitals=PARTIES[:9], may_collude=1).as_dict())
    kept = roster_of(cohort(), SharedNoise(may_collude=1), state)
    assert kept is not None
    assert (len(kept.hospitals), kept.threshold) == (9, 7)  # a hospital that is away now is in it all the same
    for other in (SharedNoise(), SharedNoise(threshold=8, may_collude=1), True, 7):
        again = roster_of(cohort(), other, state)
        assert again is not None
        assert len(again.hospitals) == 10  # another question: another mode, k or threshold
    names = {label_of(wanted) for wanted in (False, True, 7, SharedNoise(), SharedNoise(threshold=7, may_collude=3))}
    assert names == {"", "-sums-1", "-sums-7", "-shared-0-0", "-shared-7-3"}


def test_an_evaluation_takes_its_studys_roster() -> None:
    masks = replace(ROSTER, mode="masks", may_collude=0)
    assert sharing(masks, SharedNoise(may_collude=3)) == ROSTER
    declared = training(secure_aggregation=masks)
    scored = Evaluation(epsilon=0.5, secure_aggregation=SharedNoise(may_collude=3)).mechanism(declared)
    assert scored.secure_aggregation == ROSTER
    assert Evaluation(epsilon=0.5, secure_aggregation=True).mechanism(declared).secure_aggregation == masks
    assert Evaluation(epsilon=0.5).mechanism(declared).secure_aggregation is None


def test_both_epsilons_and_the_noise_are_said_before_anything_is_asked() -> None:
    shared = shared_draws(COUNTS)
    assert shared is not None
    said = " ".join(expected("counts", COUNTS))
    assumed, if_not = map(shown, shared.epsilons_in_all)
    assert f"ε = {assumed} holds while no more than 3 of them work together with you" in said
    assert f"charges ε = {if_not}, unless its owner accepts" in said
    assert "4.5 patients from noise; with masks alone it would be 8.85" in said  # each of two draws has ε = ½
    assert expected("counts", replace(COUNTS, secure_aggregation=None)) == ()
    releases: Any = [
        SimpleNamespace(hospital=name, certificate=json.dumps({"privacy": {"epsilon": epsilon}}))
        for name, epsilon in (("one", shared.epsilons_in_all[0]), ("two", shared.epsilons_in_all[1]))
    ]
    assert f"ε = {assumed} at one, {if_not} at two." in charged_words(COUNTS, releases)
    assert charged_words(replace(COUNTS, secure_aggregation=None), releases) == "ε=1 was charged at each hospital."


def test_intervals_of_shared_draws_hold_and_are_not_too_wide() -> None:
    """Noise of 9 of 10 hospitals, of which 4 make the whole, drawn by numpy."""
    random, hospitals, trials = np.random.default_rng(11), 9, 800
    halvings, steps = grid_of(0.5)
    drawn = random.negative_binomial(hospitals / 4, 2.0**-halvings, (2, trials, 3))
    noise = (drawn[0] - drawn[1]) / steps
    held, errors = 0, []
    for cells in noise:
        sums = {"count": [3600 + cells[0]], "missing/temperature": [3000 + cells[1], 600 + cells[2]]}
        read = read_sums(sums, COUNTS, SCHEMA, sizes=[400.0] * hospitals)
        count = read["count"]
        assert isinstance(count, Estimate)
        held += count.interval[0] <= 3600 <= count.interval[1]
        errors.append(count.noise_error)
    deviation = math.sqrt(laplace_variance(halvings, hospitals / 4)) / steps
    assert noise.std() == pytest.approx(deviation, rel=0.05)
    assert deviation <= errors[0] < 1.1 * deviation
    assert held / trials > 0.93


def test_tables_have_the_deviation_of_their_parts() -> None:
    shared = shared_draws(replace(COUNTS, queries=COUNTS.queries[:1]))
    assert shared is not None
    table = EvaluationTable("scores", "scores", (2, 4), 1.0, hospitals=8, parts=4)
    assert math.sqrt(table.noise_variance) == pytest.approx(shared.standard_error(0, hospitals=8))
    assert table.grid == 1 / grid_of(1.0)[1]
    for deviation in (0.4, 3.0, 100.0):
        assert cell_variance(laplace_epsilon(deviation)) == pytest.approx(deviation**2)
    survival = KaplanMeier(time="stay", event="died", epsilon=1.0, secure_aggregation=ROSTER)
    assert shared_draws(survival) == shared
