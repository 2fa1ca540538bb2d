"""What a check says of noise is arithmetic on public figures, and it warns where a training is hopeless."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from policies.privacy.mechanisms import DPSGD
from policies.privacy.suggestion import suggest
from researcher.expectations import expectations

pytestmark = pytest.mark.quick

# Noise of 4 at rate 1/2 over 100 steps: at 3 hospitals of 1000, 4 · √3 / (0.5 · 3000 · 10) = 0.000462 in each number.
TRAINING = DPSGD(
    loss="binary_cross_entropy",
    rounds=50,
    steps=2,
    sampling_rate=0.5,
    clipping_norm=1.0,
    learning_rate=0.1,
    noise_multiplier=4.0,
)
PATIENTS = {"a": 1000, "b": 1000, "c": 1000}


def test_noise_is_told_beside_the_longest_gradient() -> None:
    # 0.000462 · √400 = 0.92 %
    (said,) = expectations("flu", TRAINING, PATIENTS, 400)
    assert said.startswith("flu: 100 steps on 50 % of 3,000 patients at a time.")
    assert "0.92 % of the longest gradient that the 400 numbers of the model could have" in said
    assert "little" in said


def test_a_large_model_among_few_patients_is_warned_of_with_what_would_do() -> None:
    # A hundredth of the patients: 0.0462 · √400 = 92 %, and 3 % is had with 400 · (3 / 92)² = 0.4 numbers.
    few = dict.fromkeys(PATIENTS, 10)
    (said,) = expectations("flu", TRAINING, few, 400)
    assert said.startswith("Warning: flu:")
    assert "92 % of the longest gradient" in said
    assert "31 times as many patients" in said


def test_what_is_between_says_that_a_weak_signal_will_not_show() -> None:
    (said,) = expectations("flu", TRAINING, dict.fromkeys(PATIENTS, 100), 400)
    assert "9.2 %" in said
    assert "a strong signal will show, a weak one will not" in said


def test_a_learning_rate_at_which_noise_alone_moves_everything_is_warned_of() -> None:
    # 100 steps of a rate of 50 and a norm of 1: 5000 · 0.000462 = 2.3.
    said = expectations("flu", replace(TRAINING, learning_rate=50.0), PATIENTS, 400)
    assert len(said) == 2
    assert said[1].startswith("Warning: flu: at learning_rate=50 and clipping_norm=1 noise alone moves each number")
    assert "about 2.3" in said[1]
    assert "learning_rate=5.4 or less" in said[1]
    assert len(expectations("flu", replace(TRAINING, learning_rate=50.0, optimizer="adam"), PATIENTS, 400)) == 1


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("patients", [{"a": 60}, {"a": 200, "b": 300}, PATIENTS])
def test_what_is_suggested_is_never_warned_of_for_its_rate(epsilon: float, patients: dict[str, int]) -> None:
    training = suggest(SimpleNamespace(training_patients=patients), epsilon=epsilon).training
    assert not any("learning_rate" in said for said in expectations("flu", training, patients, 50))


def test_nobody_who_would_take_it_is_nothing_to_expect() -> None:
    assert expectations("flu", TRAINING, {}, 400) == ()


def test_a_check_says_it_of_the_hospitals_that_would_take_the_study(make_study, hospitals, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("researcher.code_requests.check_source", lambda *_: SimpleNamespace(parameter_count=385))
    hospitals["rural"].findings = [{"line": 0, "why": "ε=2 is above this hospital's 1.", "instead": ""}]
    check = make_study(submit=False).check()
    (said,) = check.expectations
    assert said.startswith("flu_2026: 12 steps on 10 % of 2,400 patients at a time")  # without rural's 800
    assert said in str(check)
    assert said in check._repr_html_()
