"""Hospitals of the researcher's tests, and studies made in one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import researcher
from policies.privacy.mechanisms import DPSGD
from researcher import releases
from researcher.network import Network, network_of
from tests.researcher.fake_datasites import FakeDatasite
from tests.researcher.study_models import FluPredictor

TRAINING = DPSGD(
    loss="binary_cross_entropy",
    rounds=3,
    steps=4,
    sampling_rate=0.1,
    clipping_norm=1.0,
    epsilon=2.0,
    learning_rate=1.0,
)


def pytest_configure(config: pytest.Config) -> None:
    """typer and matplotlib read names that their own dependencies call deprecated; nothing of ours can change that."""
    config.addinivalue_line("filterwarnings", "ignore:.*will be removed in Click 9.0:DeprecationWarning")
    config.addinivalue_line("filterwarnings", "ignore:.*deprecated - use:DeprecationWarning")


@pytest.fixture(autouse=True)
def _plain_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake hospitals sign and plan nothing: tests/policies has the certificates' own tests, and tests/attacks/hospitals
    those of what is believed. Waits are short.
    """
    monkeypatch.setattr("policies.release.certificates.verify", lambda text, *, public_key, release: {}, raising=False)
    monkeypatch.setattr(releases, "check_asked", lambda certificate, expected: None)
    monkeypatch.setattr("researcher.code_requests.plan_facts", lambda request, quote, published, graph: {})
    monkeypatch.setattr(releases, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr("researcher.code_requests.check_source", lambda request, cohort: None)


@pytest.fixture
def hospitals() -> dict[str, FakeDatasite]:
    """Three, of 1000, 2000 and 1000 patients: federated weights 1/4, 1/2, 1/4."""
    sizes = {"general": 1000, "paediatric": 2000, "rural": 1000}
    return {name: FakeDatasite(name, patients=size, offset=place) for place, (name, size) in enumerate(sizes.items())}


@pytest.fixture
def network(hospitals: dict[str, FakeDatasite]) -> Network:
    with warnings.catch_warnings():
        return network_of(dict(hospitals))


@pytest.fixture
def make_study(network: Network, tmp_path: Path) -> Callable[..., Any]:
    """A study over all three hospitals, submitted and decided unless `submit=False`."""

    def make(*, submit: bool = True, **options: Any) -> Any:
        settings: dict[str, Any] = {"state": tmp_path / "study", "progress": False, "purpose": "To test."}
        study = researcher.Study(
            "flu-2026", network.dataset("flu"), FluPredictor, options.pop("training", TRAINING), **(settings | options)
        )
        if submit:
            study.submit()
            study.wait_for_approval(timeout=5)
        return study

    return make
