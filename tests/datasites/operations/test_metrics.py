"""What `/metrics` says, to whom, and that two neighbouring hospitals say the same."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from datasites.directory import create_directory
from datasites.ledger.ledger import Ledger
from datasites.operations.metrics import Metrics, free_share
from datasites.settings import Settings, change_settings
from policies.errors import DatasiteError
from tests.datasites.ledger.ledger_factories import Clock, approved, checked, new_ledger, released, running
from tests.factories import DatasiteProcess

TOKEN = "a token of more than sixteen"


def metrics_of(directory: Path, *, private: bytes) -> bytes:
    """What a hospital with this private table says after the same public life."""
    settings = create_directory(directory, name="A", host="127.0.0.1", port=9400, owner_email="o@h.example")
    with new_ledger(settings.ledger_path, Clock()) as ledger:
        request = approved(ledger)
        released(ledger, request)
        ledger.runs.fail(running(ledger, request, 2).id, f"a diagnosis of {private[:20]!r}")
        checked(ledger)
    (directory / "blobs").mkdir()
    (directory / "blobs" / "table").write_bytes(private)
    with Ledger.open(Settings.load(directory).ledger_path) as ledger:
        ledger.recover()
        metrics = Metrics(directory, ledger, TOKEN, is_stopped=lambda: False, clock=lambda: 1.0, free=lambda _: 0.5)
        metrics.count("/api/v2/api_call", 200)
        metrics.count("console", 303)
        return metrics.text()


def test_neighbouring_hospitals_say_the_same_bytes(tmp_path: Path) -> None:
    row = b"patient,140,41.9,1,0,1\n"
    assert metrics_of(tmp_path / "a", private=row * 400) == metrics_of(tmp_path / "b", private=row * 401)


def test_everything_an_operator_watches_is_there_and_nothing_of_a_process(tmp_path: Path) -> None:
    text = metrics_of(tmp_path / "a", private=b"").decode()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["datasite_requests", "expired"] == 1  # its approval was for a month long ago
    assert found["datasite_requests", "checked"] == 1
    assert found["datasite_runs", "released"] == 1
    assert found["datasite_runs", "failed"] == 1
    assert found["datasite_releases",] == 1
    assert found["datasite_witness", "none"] == 1
    assert found["datasite_http_answers_total", "/api/v2/api_call", "2xx"] == 1
    assert found["datasite_http_answers_total", "console", "3xx"] == 1
    assert found["datasite_epsilon_budget", "city"] == 6.0
    assert 0 < found["datasite_epsilon_spent", "city"] < 6
    assert found["datasite_last_backup_time_seconds",] == 0
    assert not [name for name in found if name[0].startswith(("process_", "python_"))]


def test_a_row_more_does_not_show_in_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total, free = 100 << 30, (50 << 30) + (100 << 20)
    for used in (0, 4096, 1 << 20):
        monkeypatch.setattr(
            "shutil.disk_usage", lambda _, used=used: type("U", (), {"total": total, "free": free - used})
        )
        assert free_share(tmp_path) == 0.5


def test_a_token_is_long_or_refused(tmp_path: Path) -> None:
    create_directory(tmp_path / "d", name="A", host="127.0.0.1", port=9400, owner_email="o@h.example")
    settings = change_settings(tmp_path / "d", {"metrics_token_file": "metrics.token"})
    with pytest.raises(DatasiteError, match="cannot be read"):
        settings.metrics_token()
    (tmp_path / "d" / "metrics.token").write_text("short\n")
    with pytest.raises(DatasiteError, match="16 characters"):
        settings.metrics_token()


@pytest.fixture(scope="module")
def served(made_datasite: Path, tmp_path_factory: pytest.TempPathFactory, jobs: Path) -> Iterator[DatasiteProcess]:
    datasite = DatasiteProcess(made_datasite, tmp_path_factory.mktemp("served") / "datasite", jobs=jobs)
    (datasite.directory / "metrics.token").write_text(f"{TOKEN}\n")
    datasite.set(metrics_token_file="metrics.token", log_format="json")
    yield datasite.start()
    datasite.stop()


def asked(datasite: DatasiteProcess, authorization: str | None) -> tuple[int, str]:
    headers = {} if authorization is None else {"Authorization": authorization}
    request = urllib.request.Request(f"{datasite.url}/metrics", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
def test_only_the_token_opens_the_metrics(served: DatasiteProcess, authorization: str | None) -> None:
    status, text = asked(served, authorization)
    assert status == 401
    assert "datasite_" not in text


def test_the_token_opens_them(served: DatasiteProcess) -> None:
    status, text = asked(served, f"Bearer {TOKEN}")
    assert status == 200
    assert 'datasite_epsilon_budget{population="patients"} 6.0' in text
    served.cli("backup", str(served.directory.parent / "copy.tar"))
    assert "datasite_last_backup_time_seconds 0.0" not in asked(served, f"Bearer {TOKEN}")[1]


def test_without_a_token_there_is_no_such_page(shared_datasite: DatasiteProcess) -> None:
    assert asked(shared_datasite, f"Bearer {TOKEN}")[0] == 404


def test_counting_by_status_leaves_out_the_datasites_own(tmp_path: Path) -> None:
    with new_ledger(tmp_path / "ledger.db", Clock()) as ledger:
        assert isinstance(ledger, Ledger)
        checked(ledger)
        assert ledger.requests.count_by_status() == {"checked": 1}
        assert ledger.runs.count_by_status() == {}
