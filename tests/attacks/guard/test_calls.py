"""Signed calls: of paths that are not listed, of other servers, not blocking, repeated, and what their errors carry."""

from __future__ import annotations

import pytest
from syft.service.service import ServiceConfigRegistry
from syft.types.uid import UID

from datasites.door.syft.guard import OWNER_PATHS, RESEARCHER_PATHS, AnsweredCalls
from tests.attacks.guard.attacker import OTHER, OWNER, RESEARCHER, Refusal, Site
from tests.factories import DatasiteProcess


@pytest.mark.parametrize(("who", "paths"), [(RESEARCHER, RESEARCHER_PATHS), (OWNER, OWNER_PATHS)])
def test_every_path_that_is_not_listed_is_refused(ours: Site, who: str, paths: frozenset[str]) -> None:
    """Walk every path that PySyft registers: users, settings, sync, migrations, projects, enclaves, endpoints."""
    registered = set(ServiceConfigRegistry.__service_config_registry__)
    others = registered - paths
    assert len(others) > 150
    for path in sorted(others | {"queue", "metadata", "", "x", "api", "login", "register", "code.call_", "__init__"}):
        with pytest.raises(Refusal, match="may not call"):
            ours.call(who, path)


@pytest.mark.parametrize(
    "path",
    [
        "metadata",
        "worker_pool.get_all",
        "network.get_all_peers",
        "api.api_endpoints",
    ],
)
def test_calls_that_a_stock_server_answers_a_researcher(site: Site, path: str) -> None:
    assert site.succeeds(RESEARCHER, path) is site.is_stock


@pytest.mark.parametrize("path", ["dataset.get_all", "metadata", "project.get_all", "network.get_all_peers"])
def test_key_of_no_account_calls_nothing(site: Site, path: str) -> None:
    assert site.succeeds("nobody", path) is site.is_stock


def test_call_that_does_not_block_is_refused(site: Site) -> None:
    assert site.succeeds(RESEARCHER, "dataset.get_all", blocking=False) is site.is_stock


def test_call_of_another_server_is_refused_in_words(ours: Site) -> None:
    with pytest.raises(Refusal, match="Only blocking calls to this datasite"):
        ours.call(RESEARCHER, "dataset.get_all", server_uid=UID())


def test_repeated_submission_is_refused(ours: Site) -> None:
    """Recorded from the network and sent again: nothing is done twice, and nothing is read by it."""
    source = "def replayed(records, round):\n    return records\n"
    data = ours.signed(RESEARCHER, "code.request_code_execution", code=ours.submission(source))
    with pytest.raises(Refusal, match="line"):
        ours.send(data)
    with pytest.raises(Refusal, match="answered before"):
        ours.send(data)


@pytest.mark.parametrize(
    ("who", "path", "arguments"),
    [
        (OWNER, "request.apply", {"uid": UID()}),
        (OWNER, "request.undo", {"uid": UID(), "reason": "no"}),
        (RESEARCHER, "datasite.withdraw", {"code": "0" * 32}),
        (RESEARCHER, "datasite.comment", {"code": "0" * 32, "text": "Again."}),
        (RESEARCHER, "code.call", {"uid": UID(), "records": UID()}),
    ],
)
def test_each_call_that_changes_something_is_answered_once(
    ours: Site, who: str, path: str, arguments: dict[str, object]
) -> None:
    """It failed the first time; recorded, it must not succeed a month later when the budget was raised."""
    data = ours.signed(who, path, **arguments)
    for words in ("^(?!.*answered before)", "answered before", "answered before"):
        with pytest.raises(Refusal, match=words):
            ours.send(data)


def test_stock_server_answers_a_recorded_call_again(stock: Site) -> None:
    data = stock.signed(RESEARCHER, "dataset.get_all")
    assert stock.send(data)
    assert stock.send(data)


def test_answered_calls_are_remembered_over_a_restart_and_bounded(tmp_path) -> None:  # type: ignore[no-untyped-def]
    calls = AnsweredCalls(tmp_path / "calls.db", most=3)
    assert calls.is_new(b"a")
    assert not calls.is_new(b"a")
    again = AnsweredCalls(tmp_path / "calls.db", most=3)
    assert not again.is_new(b"a")
    assert all(again.is_new(each) for each in (b"b", b"c", b"d"))
    assert again.is_new(b"a")  # the oldest of four was forgotten
    assert (tmp_path / "calls.db").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("code.get_all", {"uid": "nonsense"}),
        ("blob_storage.read", {}),
        ("action.get", {"uid": 7}),
        ("code.call", {}),
        ("dataset.get_all", {"page_size": "x"}),
    ],
)
def test_unexpected_errors_reach_a_researcher_as_one_text(
    ours: Site, datasite_process: DatasiteProcess, path: str, arguments: dict[str, object]
) -> None:
    with pytest.raises(Refusal, match=r"^The datasite could not answer this call") as refusal:
        ours.call(RESEARCHER, path, **arguments)
    assert not refusal.value.trace
    assert "Error" not in refusal.value.text
    assert "syft" not in refusal.value.text
    reference = refusal.value.text.split(" as ")[-1].rstrip(".")
    log = (datasite_process.directory / "datasite.log").read_text()
    assert reference in log
    assert "Traceback" in log


def test_errors_carry_no_traceback_to_the_owner_either(site: Site) -> None:
    with pytest.raises(Refusal) as refusal:
        site.call(OWNER, "request.apply", uid=UID())
    assert bool(refusal.value.trace) is site.is_stock


def test_others_see_neither_requests_nor_code(ours: Site) -> None:
    source = "def theirs(records, round):\n    from datasites.mechanisms import statistics\n\n"
    source += "    return statistics(records, round, count=True, epsilon=0.1)\n"
    request = ours.call(RESEARCHER, "code.request_code_execution", code=ours.submission(source))
    assert [each.id for each in ours.call(RESEARCHER, "code.get_all")].count(request.code_id) == 1
    assert request.id in [each.id for each in ours.call(RESEARCHER, "request.get_all")]
    assert ours.call(OTHER, "code.get_all") == []
    assert ours.call(OTHER, "request.get_all") == []
    for path, uid in (
        ("code.get_by_id", request.code_id),
        ("request.get_by_uid", request.id),
        ("code.call", request.code_id),
    ):
        with pytest.raises(Refusal):
            ours.call(OTHER, path, uid=uid)
    assert not [each for each in _function_names(ours, OTHER) if each == "theirs"]
    assert "theirs" in _function_names(ours, RESEARCHER)


def _function_names(site: Site, who: str) -> list[str]:
    from syft.serde.deserialize import _deserialize

    answer = site.http("GET", "/api", params={"verify_key": str(site.key(who).verify_key)})
    return [each.name for each in _deserialize(answer.content, from_bytes=True).endpoints.values()]
