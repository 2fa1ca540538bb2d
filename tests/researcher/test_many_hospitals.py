"""A study over fifty hospitals on HTTP, each with its own keys and certificates, at a constant cost for each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import researcher
from tests.attacks.hospitals.driving import TRAINING, Small, quick
from tests.attacks.hospitals.hospital import Hospital
from tests.factories import PASSWORD, RESEARCHER


@pytest.fixture(autouse=True)
def _signed_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hospitals here sign what they release: what this folder's other tests leave out is checked again."""
    monkeypatch.undo()


@contextmanager
def hospitals(count: int, directory: Path) -> Iterator[Path]:
    """So many datasites on loopback, and a network file that names them."""
    made = [Hospital() for _ in range(count)]
    directory.mkdir()
    (directory / "password").write_text(PASSWORD)
    (directory / "network.toml").write_text(
        "".join(
            f'[[datasites]]\nname = "hospital-{number}"\nurl = "{hospital.url}"\nemail = "{RESEARCHER}"\n'
            'password_file = "password"\n'
            for number, hospital in enumerate(made)
        )
    )
    try:
        yield directory / "network.toml"
    finally:
        for hospital in made:
            hospital.stop()


def whole_study(count: int, directory: Path) -> tuple[Any, float]:
    """The result of a study at so many hospitals, and processor seconds for each of them, servers included."""
    with hospitals(count, directory) as network, quick():
        began = time.process_time()
        flu = researcher.connect(network).dataset("flu")
        study = researcher.Study("small", flu, Small, TRAINING, state=directory / "state", progress=False)
        study.submit()
        study.wait_for_approval(timeout=60)
        result = study.run()
        return result, (time.process_time() - began) / count


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_study_over_fifty_hospitals_costs_each_what_one_over_ten_does(tmp_path: Path) -> None:
    whole_study(2, tmp_path / "warm")
    few, cost_of_few = whole_study(10, tmp_path / "few")
    many, cost_of_many = whole_study(50, tmp_path / "many")
    for result, count in ((few, 10), (many, 50)):
        assert result.missing == {}
        assert [len(record.answered) for record in result.rounds] == [count, count]
        assert len(result.releases) == 2 * count
    assert cost_of_many < 1.5 * cost_of_few, f"{cost_of_many:.3f} s a hospital of 50, {cost_of_few:.3f} of 10"
    print(f"{cost_of_few:.3f} {cost_of_many:.3f}")
