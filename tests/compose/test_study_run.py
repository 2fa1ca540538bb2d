"""The researcher's half of the demonstration: what it does while hospitals are away, undecided, or against it."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compose.demonstration import Demonstration
from compose.study_run import approved, asked, beside, complete, main, persist, published, waiting
from compose.tables import write_tables
from policies.errors import PermissionRefused, Unavailable, WrongStatus


class Away:
    """Answers at the third time."""

    def __init__(self, error: Exception) -> None:
        self.error, self.times = error, 0

    def __call__(self) -> str:
        self.times += 1
        if self.times < 3:
            raise self.error
        return "here"


def a_study(codes: dict[str, dict[str, str]], statuses: dict[str, dict[str, Any]]) -> Any:
    requests = SimpleNamespace(
        requests=[SimpleNamespace(role=role) for role in codes], codes=codes.__getitem__, statuses=lambda: statuses
    )
    return SimpleNamespace(name="flu", requests=requests, cohort=SimpleNamespace(members={"general": 1, "rural": 2}))


def test_a_hospital_that_is_away_is_asked_again_and_that_is_said_once() -> None:
    said: list[str] = []
    away = Away(Unavailable("rural does not answer."))
    assert persist(away, said.append, patience=60, pause=0) == "here"
    assert said == ["Waiting, 60 s at most. rural does not answer."]


def test_patience_ends_and_a_refusal_is_not_asked_again() -> None:
    with pytest.raises(Unavailable):
        persist(Away(Unavailable("gone")), print, patience=-1)
    refused = Away(PermissionRefused("no"))
    with pytest.raises(PermissionRefused):
        persist(refused, print, patience=60)
    assert refused.times == 1


def test_an_answer_without_a_hospital_is_asked_for_again() -> None:
    whole = SimpleNamespace(missing={})
    assert complete(whole) is whole
    with pytest.raises(Unavailable, match="rural: not reached"):
        complete(SimpleNamespace(missing={"rural": "not reached"}))


def test_a_study_is_submitted_again_only_where_a_hospital_lacks_a_request() -> None:
    everywhere, part = {"general": "a", "rural": "b"}, {"general": "a"}
    assert asked(a_study({"training": everywhere, "evaluation": everywhere}, {}))
    assert not asked(a_study({"training": everywhere, "evaluation": part}, {}))
    assert not asked(a_study({"training": {}}, {}))


def test_what_waits_is_said_by_hospital_with_its_requests_and_what_an_owner_does() -> None:
    codes = {"training": {"general": "0123456789", "rural": "abcdefghij"}}
    study = a_study(codes, {"training": {"general": {"status": "checked"}, "rural": {"status": "approved"}}})
    said: list[str] = []
    waiting([study], said.append)  # type: ignore[arg-type]  # studies are an iterable of studies
    assert said == ["Waiting for the owner of general: datasite show ID, then datasite approve ID, of 01234567"]


def test_a_denial_ends_the_study_with_the_owners_comment() -> None:
    codes = {"training": {"general": "a", "rural": "b"}}
    study = a_study(codes, {"training": {"general": {"status": "approved"}, "rural": {"status": "completed"}}})
    approved(study)
    study = a_study(codes, {"training": {"general": {"status": "denied", "comment": "Too much."}}})
    with pytest.raises(WrongStatus, match=r"general: denied Too much\."):
        approved(study)


def test_a_hospital_that_publishes_nothing_yet_is_named() -> None:
    network: Any = SimpleNamespace(refresh=lambda: None, descriptions={"general": {"datasets": [{"name": "flu"}]}})
    with pytest.raises(Unavailable, match="rural: no answer, or 'flu' is not published yet"):
        published(network, "flu", ["general", "rural"])


def test_a_network_file_that_is_missing_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETWORK", str(tmp_path / "nowhere.toml"))
    assert main(["--directory", str(tmp_path / "study")]) == 1
    assert "nowhere.toml cannot be read" in capsys.readouterr().out


def test_each_hospital_gets_its_table_and_schema_and_the_same_ones_again(tmp_path: Path) -> None:
    first, again = (write_tables(tmp_path / name, seed=5) for name in ("first", "again"))
    assert [each.relative_to(tmp_path / "first").as_posix() for each in first] == [
        "general/flu.csv",
        "paediatric/flu.csv",
        "rural/flu.csv",
    ]
    assert [each.read_bytes() for each in first] == [each.read_bytes() for each in again]
    assert all(each.with_suffix(".toml").exists() for each in first)


def test_what_is_done_beside_each_other_is_at_once_and_answers_in_order() -> None:
    met = threading.Barrier(3)

    def meet(number: int) -> int:
        met.wait(timeout=30)
        return number

    assert beside([functools.partial(meet, number) for number in range(3)]) == [0, 1, 2]
    with pytest.raises(Unavailable, match="rural"):
        beside([lambda: 1, functools.partial(complete, SimpleNamespace(missing={"rural": "away"}))])


@pytest.mark.parametrize("words", [[], ["--secure-aggregation"]])
def test_hospitals_are_read_in_their_mean_alone_where_that_is_asked(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Demonstration] = []
    monkeypatch.setattr("compose.study_run.run", lambda shown, *_, **__: asked.append(shown))
    assert main(["--directory", str(tmp_path / "study"), *words]) == 0
    assert [shown.secure_aggregation for shown in asked] == [bool(words)]
