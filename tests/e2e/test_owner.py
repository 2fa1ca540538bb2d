"""The owner's command line beside a serving datasite: publish again, retire, stop, close accounts, rotate the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from syft.types.errors import SyftException

from policies.release.certificates import verify
from tests.e2e.stock import call, call_until_done, login, submit
from tests.factories import OTHER, PASSWORD, RESEARCHER, SCHEMA, DatasiteProcess, initial_weights, training_source
from tests.factories import write_table as write


@pytest.fixture(scope="module")
def researcher(shared_datasite: DatasiteProcess) -> Any:
    return login(shared_datasite.url, RESEARCHER, PASSWORD)


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "schema.toml"
    path.write_text(SCHEMA)
    return path


def described(client: Any) -> dict[str, Any]:
    (dataset,) = client.api.services.datasite.describe()["datasets"]
    return dict(dataset)


def test_faulty_table_is_refused_with_rows_and_changes_nothing(
    shared_datasite: DatasiteProcess, researcher: Any, schema: Path, tmp_path: Path
) -> None:
    before = described(researcher)
    table = write(tmp_path / "bad.csv")
    lines = table.read_text().splitlines()
    lines[5] = "p2,140,38.0,1,0,1"
    table.write_text("\n".join(lines) + "\n")
    refused = shared_datasite.cli("publish", str(table), "--schema", str(schema), "--patients", "400", check=False)
    assert refused.returncode == 1
    assert "140" in refused.stderr
    assert "100" in refused.stderr
    assert described(researcher) == before


def test_new_version_with_a_certified_count_takes_the_place_of_the_old(
    shared_datasite: DatasiteProcess, researcher: Any, schema: Path, tmp_path: Path
) -> None:
    before = described(researcher)
    table = write(tmp_path / "more.csv", patients=500, seed=2)
    shared_datasite.cli("publish", str(table), "--schema", str(schema), "--count-epsilon", "0.5")
    after = described(researcher)
    assert after["version"] != before["version"]
    assert after["size_kind"] == "dp-count"
    assert abs(after["patients"] - 500) < 40  # Laplace of scale 2: further off once in 5e8
    assert verify(after["size_certificate"])["dataset"] == "flu"
    names = [each.name for each in researcher.datasets]
    assert [name for name in names if after["version"] in name] == names  # the old private tensor is deleted


def test_stop_ends_work_and_resume_lets_it_go_on(shared_datasite: DatasiteProcess, researcher: Any) -> None:
    submit(researcher, training_source("flu_stop", epsilon=1.0))
    shared_datasite.approve_all()
    shared_datasite.cli("stop", "--yes")
    with pytest.raises(SyftException, match="stopped"):
        call(researcher, "flu_stop", weights=initial_weights())
    shared_datasite.cli("resume")
    assert call_until_done(researcher, "flu_stop", weights=initial_weights())["status"] == "released"


def test_revoked_request_makes_no_further_release(shared_datasite: DatasiteProcess, researcher: Any) -> None:
    mine = {each["function"]: each["id"] for each in researcher.api.services.datasite.requests()}
    shared_datasite.cli("revoke", mine["flu_stop"], "--reason", "The study ended.")
    with pytest.raises(SyftException, match="revoked"):
        call(researcher, "flu_stop", weights=initial_weights(), round=2)
    released = call(researcher, "flu_stop", weights=initial_weights(), round=1)
    assert released["status"] == "released"  # what left stays fetched at no cost


def test_closed_account_can_do_nothing_and_opens_again(shared_datasite: DatasiteProcess) -> None:
    client = login(shared_datasite.url, OTHER, PASSWORD)
    shared_datasite.cli("researchers", "disable", OTHER)
    with pytest.raises((SyftException, OSError)):
        client.api.services.datasite.describe()
    shared_datasite.cli("researchers", "enable", OTHER)
    with pytest.raises((SyftException, OSError)):  # signed in before it was closed
        client.api.services.datasite.describe()
    login(shared_datasite.url, OTHER, PASSWORD).api.services.datasite.describe()


def test_certificates_stay_valid_under_the_old_key_after_rotation(
    shared_datasite: DatasiteProcess, researcher: Any
) -> None:
    old = researcher.api.services.datasite.describe()["public_key"]
    mine = {each["function"]: each["id"] for each in researcher.api.services.datasite.requests()}
    (certificate,) = researcher.api.services.datasite.certificates(code=mine["flu_stop"])
    shared_datasite.cli("rotate-key", "--yes")
    assert researcher.api.services.datasite.describe()["public_key"] != old
    verify(certificate, public_key=old)


def test_owner_password_is_recovered_on_the_host(shared_datasite: DatasiteProcess, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("a new and longer password")
    shared_datasite.cli("password", "--password-file", str(tmp_path / "new"))
    login(shared_datasite.url, "owner@hospital.example", "a new and longer password")


def test_everything_is_in_the_audit_log_with_the_users_name(shared_datasite: DatasiteProcess) -> None:
    done = {each["what"] for each in shared_datasite.json("log")}
    assert {"publish", "stop", "resume", "revoked", "disable researcher", "rotate key", "set password"} <= done
    shared_datasite.cli("ledger", "--verify")
