"""The demonstration runs with two real processes and simulated others, and says beforehand what it can be."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from policies.errors import InvalidRequest
from researcher.__main__ import app
from researcher.devices.demo import COLUMN, demonstrate, report_of
from researcher.devices.process import LEDGER, device_in


@pytest.mark.process
@pytest.mark.parametrize("shared_noise", [False, True])
def test_alice_bob_and_the_others_answer_and_each_pays_once(tmp_path: Path, shared_noise: bool) -> None:
    asked = report_of(30, epsilon=1.0, shared_noise=shared_noise)
    told = demonstrate(asked, 30, tmp_path)
    assert len(told.result.devices) == 30
    assert not told.result.missing
    figure = told.result[COLUMN]
    assert figure.mean_low <= figure.mean <= figure.mean_high
    for name in ("Alice", "Bob"):
        assert (tmp_path / name / LEDGER).exists()
        assert device_in(tmp_path / name).remaining() == 1.0
    assert told.result.circles == (1 if shared_noise else 0)


@pytest.mark.slow
@pytest.mark.process
def test_a_team_of_more_than_a_circle_shares_one_noise(tmp_path: Path) -> None:
    """Alice's and Bob's devices are processes that do all of their work; the others share what is the same for all."""
    asked = report_of(120, epsilon=1.0, shared_noise=True)
    told = demonstrate(asked, 120, tmp_path)
    assert len(told.result.devices) == 120
    assert told.result.circles == 1
    assert told.result.shares == pytest.approx(120 / (81 - 24))
    figure = told.result[COLUMN]
    assert figure.mean_high - figure.mean_low < asked.check(120).own[COLUMN] / 2
    assert figure.mean_low - 8 < told.mean < figure.mean_high + 8
    assert [device_in(tmp_path / name).remaining() for name in ("Alice", "Bob")] == [1.0, 1.0]
    content = told.result.report(tmp_path / "report.html").read_text()
    for said in ("a committee that chance drew", "no more than 24 others work together", "shared in one sum"):
        assert said in content, said


@pytest.mark.process
def test_the_command_says_what_it_can_be_before_it_asks_and_writes_the_page(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = CliRunner().invoke(app, ["devices", "demo", "--devices", "1000", "--output", str(page)])
    assert done.exit_code == 0, done.output
    before, _, after = done.output.partition("A team's heart rates: 1,000 of 1,000 devices")
    assert "heart_rate ± 15.8" in before
    assert after
    assert "1,000 of 1,000 devices answered" in page.read_text()


def test_what_can_be_expected_is_said_on_the_command_line() -> None:
    done = CliRunner().invoke(app, ["devices", "expect", "10000", "40", "200"])
    assert done.exit_code != 0  # bounds are options: nobody should mix up which is which
    done = CliRunner().invoke(app, ["devices", "expect", "10000", "--low", "40", "--high", "200"])
    assert "value ± 5" in done.output


def test_a_team_of_one_or_of_too_many_is_refused() -> None:
    for devices in (1, 20_001):
        with pytest.raises(InvalidRequest, match="outside"):
            report_of(devices, epsilon=1.0, shared_noise=False)


@pytest.mark.nightly
@pytest.mark.process
def test_ten_thousand_devices_answer_in_a_minute(tmp_path: Path) -> None:
    told = demonstrate(report_of(10_000, epsilon=1.0, shared_noise=False), 10_000, tmp_path)
    assert len(told.result.devices) == 10_000
    assert told.seconds < 60


@pytest.mark.nightly
@pytest.mark.process
@pytest.mark.timeout(1200)
def test_ten_thousand_devices_share_one_noise_in_one_sum(tmp_path: Path) -> None:
    asked = report_of(10_000, epsilon=1.0, shared_noise=True)
    expected = asked.check(10_000).shared
    assert expected is not None
    assert expected[COLUMN] < 0.12
    told = demonstrate(asked, 10_000, tmp_path)
    assert (len(told.result.devices), told.result.circles) == (10_000, 1)
    assert abs(told.result[COLUMN].mean - told.mean) < 5 * expected[COLUMN]  # by chance never
