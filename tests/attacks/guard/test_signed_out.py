"""Who is closed out is out: clients that were signed in; and the server's own key, which is given to nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from syft.server.credentials import SyftSigningKey
from syft.types.errors import SyftException

from policies.errors import PermissionRefused, Unavailable
from researcher.client import Datasite
from tests.attacks.guard.attacker import OTHER, OWNER, PASSWORD, Refusal, Site
from tests.e2e.stock import asset_of, call_until_done, login, submit
from tests.factories import DatasiteProcess, statistics_source

THIRD = "third@university.example"
SERVERS_OWN = "whoever has the server's key"


@pytest.fixture(autouse=True)
def _keys_anew(ours: Site) -> Iterator[None]:
    """Keys that these tests end are signed in for anew by the tests after them."""
    yield
    for who in (OTHER, OWNER, SERVERS_OWN):
        ours.keys.pop(who, None)


def new_password(process: DatasiteProcess, path: Path, *email: str, password: str = PASSWORD) -> str:
    path.write_text(password)
    return process.cli("password", *email, "--password-file", str(path)).stdout


def test_a_client_of_a_closed_account_is_signed_out_for_good(ours: Site, datasite_process: DatasiteProcess) -> None:
    """Also when the account is opened again: whoever had the old key (a stolen laptop) is not let in by that."""
    assert ours.call(OTHER, "dataset.get_all")
    said = datasite_process.cli("researchers", "disable", OTHER).stdout
    assert "clients are signed in no more" in said
    datasite_process.cli("researchers", "enable", OTHER)
    with pytest.raises(Refusal, match=r"no account in use.*password was changed.*closed.*Sign in again") as refusal:
        ours.call(OTHER, "dataset.get_all")
    assert refusal.value.status == 401
    del ours.keys[OTHER]
    assert ours.call(OTHER, "dataset.get_all")


def test_a_new_password_signs_clients_out_and_their_researcher_goes_on(
    ours: Site, datasite_process: DatasiteProcess, tmp_path: Path
) -> None:
    """What was asked before stays the account's: its code, its requests and what it may run."""
    (tmp_path / "first").write_text(PASSWORD)  # an account of its own: other tests expect OTHER to have asked nothing
    password = ("--password-file", str(tmp_path / "first"))
    datasite_process.cli("researchers", "add", THIRD, "--name", "Third", *password)
    before = login(ours.url, THIRD, PASSWORD)
    submit(before, statistics_source("kept_on"), weights=False)
    datasite_process.approve_all()
    mine = [code.id for code in before.code.get_all()]
    assert "not released: 0" in new_password(datasite_process, tmp_path / "new", THIRD)
    with pytest.raises((SyftException, OSError)):
        before.api.services.datasite.requests()
    after = login(ours.url, THIRD, PASSWORD)
    assert after.verify_key != before.verify_key
    assert [code.id for code in after.code.get_all()] == mine
    assert [request.requesting_user_verify_key for request in after.requests] == [after.verify_key] * len(mine)
    assert asset_of(after) is not None
    assert call_until_done(after, "kept_on")["status"] == "released"


def test_our_client_says_that_it_was_signed_out_and_what_to_do(
    ours: Site, datasite_process: DatasiteProcess, tmp_path: Path
) -> None:
    client = Datasite(ours.url, OTHER, PASSWORD)
    client.describe()
    new_password(datasite_process, tmp_path / "new", OTHER, password="another password of 30 letters")
    try:
        with pytest.raises(Unavailable, match=r"has signed you out: .* was changed.*ask the hospital"):
            client.describe()
        with pytest.raises(PermissionRefused, match="does not accept"):
            client.describe()
    finally:
        new_password(datasite_process, tmp_path / "new", OTHER)
    client.describe()


def test_the_servers_own_key_is_given_to_nobody_and_calls_signed_with_it_are_refused(ours: Site) -> None:
    """Researchers know a datasite by that key: with it an owner's lost laptop would be the datasite."""
    own = SyftSigningKey.from_string((ours.directory / "syft.key").read_text())
    assert ours.http("GET", "/metadata").json()["verify_key"] == str(own.verify_key)
    assert ours.login(OWNER).signing_key != own
    assert ours.call(OWNER, "request.get_all") is not None
    ours.keys[SERVERS_OWN] = own
    with pytest.raises(Refusal, match="no account in use"):
        ours.call(SERVERS_OWN, "request.get_all")
    assert ours.http("GET", "/api", params={"verify_key": str(own.verify_key)}).status_code == 404


def test_the_owners_clients_are_signed_out_by_a_new_password(
    ours: Site, datasite_process: DatasiteProcess, tmp_path: Path
) -> None:
    before: Any = login(ours.url, OWNER, PASSWORD)
    assert before.requests is not None
    new_password(datasite_process, tmp_path / "new")
    with pytest.raises((SyftException, OSError)):
        before.api.services.request.get_all()
    login(ours.url, OWNER, PASSWORD).api.services.request.get_all()
