"""Every payload of hostile hospitals against the researcher's package over HTTP: what must happen, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import researcher
from policies.errors import InvalidRequest, Unavailable
from researcher.network import connect
from tests.attacks.hospitals.driving import TRAINING, Small, measure, network_of, quick, whole_day
from tests.attacks.hospitals.hospital import Hospital
from tests.attacks.hospitals.payloads import PAYLOADS, TITLES


@pytest.fixture
def hospital() -> Iterator[Hospital]:
    made = Hospital()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with quick():
        yield


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_hostile_hospital_reaches_nothing(name: str, tmp_path: Path) -> None:
    assert measure(PAYLOADS[name], tmp_path) == []


def test_an_honest_hospital_is_believed(hospital: Hospital, tmp_path: Path) -> None:
    """Without which the tests of hostile ones would say nothing."""
    shown = whole_day(hospital, tmp_path)
    assert "2 rounds, 2 releases" in shown
    assert "Error" not in shown
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"releases", "result.json", "weights.safetensors"}


@pytest.mark.parametrize(("asks", "told"), [("survival", "log-rank"), ("regression", "odds ratio")])
def test_an_honest_hospitals_analyses_are_believed(asks: str, told: str, hospital: Hospital, tmp_path: Path) -> None:
    shown = whole_day(hospital, tmp_path, asks=asks)
    assert told in shown
    assert "hides every" not in shown
    assert "Error" not in shown
    assert (tmp_path / "saved.html").exists()


@pytest.mark.parametrize("compression", ["int8", "int4"])
def test_an_honest_hospitals_whole_numbers_are_believed(hospital: Hospital, tmp_path: Path, compression: str) -> None:
    shown = whole_day(hospital, tmp_path, asks=compression)
    assert "2 rounds, 2 releases" in shown
    assert "Error" not in shown
    result = researcher.load(tmp_path / "saved")
    # Two rounds of half a unit each; a whole number stands for a step, and neither round moves by a half step of it.
    moved = [float(release.tensors["output.bias"][0]) for release in result.releases]
    assert all(number == int(number) for number in moved)
    assert all(record.received_bytes["general"] > 1000 < record.sent_bytes["general"] for record in result.rounds)


def test_a_study_remembers_the_keys_of_its_submission(hospital: Hospital, tmp_path: Path) -> None:
    """Also where the list beside the network file is gone: the study is closed to the key, and says how to go on."""
    flu = network_of(hospital, tmp_path).dataset("flu")
    options = {"state": tmp_path / "state", "progress": False}
    researcher.Study("small", flu, Small, TRAINING, **options).submit()  # type: ignore[arg-type]
    (tmp_path / "known_datasites.json").unlink()
    old = hospital.described()["public_key"]
    hospital.key = hospital.signs_certificates = Ed25519PrivateKey.generate()
    study = researcher.Study("small", network_of(hospital, tmp_path).dataset("flu"), Small, TRAINING, **options)  # type: ignore[arg-type]
    new = hospital.described()["public_key"]
    with pytest.raises(Unavailable, match=rf"(?s){new}, and it was {old}.*public_keys of .*study.json"):
        study.run(deadline=2.0)


def test_a_changed_key_says_the_old_one_the_new_one_and_what_to_do(hospital: Hospital, tmp_path: Path) -> None:
    network_of(hospital, tmp_path)
    old = hospital.described()["public_key"]
    hospital.key = Ed25519PrivateKey.generate()
    shown = whole_day(hospital, tmp_path)
    new = hospital.described()["public_key"]
    assert re.search(rf"{new}, and it was {old}\..*by telephone.*remove {hospital.url} from .*known_datasites", shown)
    assert hospital.asked[-1] == "datasite.describe"  # and nothing after it


def test_a_list_of_keys_that_cannot_be_read_is_an_error_in_words(hospital: Hospital, tmp_path: Path) -> None:
    for content in ("[1]", "{", '{"a": {"b": 3}}'):
        (tmp_path / "known_datasites.json").write_text(content)
        with pytest.raises(InvalidRequest, match="no list of datasites' keys"):
            network_of(hospital, tmp_path)


@pytest.mark.parametrize("name", ["\x00", "a" * 200, "a\u202eb", "ε" * 40])
def test_a_name_that_files_cannot_have_is_refused_before_anything_is_asked(name: str, hospital: Hospital) -> None:
    with pytest.raises(InvalidRequest, match="write a short one"):
        connect([{"name": name, "url": hospital.url, "email": "", "password": "a"}])
    assert hospital.asked == []


def test_there_are_enough_and_each_tries_something_else() -> None:
    assert len(PAYLOADS) >= 60
    assert len({payload.tries for payload in PAYLOADS.values()}) == len(PAYLOADS)
    for category in TITLES:
        assert sum(payload.category == category for payload in PAYLOADS.values()) >= 6, category
