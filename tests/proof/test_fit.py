"""Noise has the distribution that was declared, by tests whose power is known; and no run repeats another's."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from datasites.engine import training
from datasites.engine.noise import NoiseSource
from tests.proof.cases import release
from tests.proof.fit import FALSE_ALARM, gaussian_p_values, laplace_p_value, power_of_size, released_noise
from tests.proof.mechanisms.dp_sgd import NARROW, HalfNoise, NoNoise, sgd
from tests.proof.neighbours import PUBLISHED, crowd, loud

DRAWS = 200_000


def source(name: str) -> NoiseSource:
    return NoiseSource(hashlib.sha256(name.encode()).digest())


def test_the_noise_of_a_release_is_the_gaussian_that_was_declared() -> None:
    assert power_of_size(20_481, 0.95) > 0.999  # noise a twentieth too small would not pass
    assert power_of_size(20_481, 1.0) == pytest.approx(FALSE_ALARM)
    found = gaussian_p_values(released_noise(seed="fit"))
    assert min(found.values()) > FALSE_ALARM, found


@pytest.mark.parametrize("fault", [NoNoise, HalfNoise])
def test_goodness_of_fit_finds_noise_of_another_size(monkeypatch: pytest.MonkeyPatch, fault: type) -> None:
    monkeypatch.setattr(training, "GridOptimizer", fault)
    assert gaussian_p_values(released_noise(seed="fit"))["size"] < FALSE_ALARM


@pytest.mark.parametrize("std", [1e-3, 1.0, 1000.0])
def test_gaussian_noise_fits_at_every_size(std: float) -> None:
    found = gaussian_p_values(source(f"gaussian {std}").gaussian_on_grid(DRAWS, std * 2.0**20, 1.0) / std / 2.0**20)
    assert min(found.values()) > FALSE_ALARM, found


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0, 3.0])
def test_discrete_laplace_noise_fits_and_another_epsilon_does_not(epsilon: float) -> None:
    drawn = source(f"laplace {epsilon}").discrete_laplace(DRAWS, epsilon)
    assert laplace_p_value(drawn, epsilon) > FALSE_ALARM
    assert laplace_p_value(drawn, epsilon / 1.05) < FALSE_ALARM


RESTART = """
import hashlib
from tests.proof.cases import release
from tests.proof.mechanisms.dp_sgd import NARROW, sgd
from tests.proof.neighbours import PUBLISHED, crowd, loud
for _ in range(2):
    out = release(sgd(), crowd(0), loud(NARROW), NARROW, PUBLISHED)
    print(hashlib.sha256(b"".join(out[name].tobytes() for name in sorted(out))).hexdigest())
"""


def test_no_noise_is_drawn_again_in_the_next_job_or_after_a_restart() -> None:
    # Two fresh processes with equal inputs, two jobs in each, and two here: nothing but the noise can differ.
    seen = []
    for _ in range(2):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "0"}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", RESTART],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        seen += done.stdout.split()
    for _ in range(2):
        out = release(sgd(), crowd(0), loud(NARROW), NARROW, PUBLISHED)
        seen.append(hashlib.sha256(b"".join(out[name].tobytes() for name in sorted(out))).hexdigest())
    assert len(seen) == len(set(seen)) == 6


def test_every_job_keys_its_noise_anew_from_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = os.urandom
    monkeypatch.setattr(os, "urandom", lambda count: (asked.append(count), real(count))[1])
    for _ in range(3):
        release(sgd(), crowd(3), loud(NARROW), NARROW, PUBLISHED)
    assert asked.count(32) == 3
    assert not (NoiseSource.from_os().words(8) == NoiseSource.from_os().words(8)).any()
    assert np.unique(NoiseSource.from_os().words(DRAWS)).size == DRAWS
