"""A saved sum is the one that masked releases come to: found again from what hospitals signed, or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from policies.errors import CertificateRefused, InvalidRequest
from policies.privacy.budget import PrivacyBudget
from policies.release.certificates import make_certificate, sign
from policies.release.plans import release_shapes
from policies.release.tensors import digest
from policies.secure_sums.encoding import added, flat, shaped
from policies.secure_sums.messages import context_of
from researcher.__main__ import app
from researcher.opened_sums import openings_of, reopened
from researcher.releases import Answers
from researcher.results import Result, evaluation_of, load
from researcher.state import Release, StudyState
from tests.attacks.secure_relay import Relay, network
from tests.policies.plan_factories import SCHEMA, evaluation, plan_of, published

WEIGHTS_DIGEST = "77" * 32
SURVIVORS = [1, 3]  # the second hospital drops out after it shared its secrets
NAMES = {1: "general", 3: "rural"}


@pytest.fixture(autouse=True)
def _plain_certificates() -> None:
    """Certificates are real ones here, where elsewhere in this folder fake hospitals sign nothing."""


def scored(directory: Path) -> tuple[Relay, Result]:
    """A round of three hospitals' scores, of whom two are in the sum, kept as a study keeps it."""
    relay = network(3, 2)
    mechanism = evaluation(secure_aggregation=relay.declared, loss="cross_entropy", rounds=1)
    plan = plan_of(mechanism)
    shapes = release_shapes(plan, SCHEMA)
    like = {name: np.zeros(shape, np.uint32) for name, (shape, _) in shapes.items()}
    relay.context = context_of(
        relay.declared, source_sha256=plan.source_sha256, round_number=1, weights_digest=WEIGHTS_DIGEST
    )
    for number, hospital in relay.hospitals.items():
        hospital.context, hospital.state = relay.context, {}
        hospital.words = np.full(flat(like).size, 10 * number, np.uint32)
        hospital.__post_init__()
    relay.keys()
    relay.shares()
    relay.boxes_out()
    masked = relay.released(SURVIVORS)
    told = relay.revealed(relay.signatures(SURVIVORS), SURVIVORS)
    releases = {}
    for number, name in NAMES.items():
        tensors = shaped(masked[number], like)
        certificate = make_certificate(
            plan=plan, published=published(), datasite=name, request="a1b2", researcher="rita@uni.example",
            round_number=1, tensors=shapes, release_digest=digest(tensors), weights_digest=WEIGHTS_DIGEST, order=8,
            budget=PrivacyBudget(6.0, 1e-5), entry=12, head="3" * 64, protections={"network": True, "user": False},
            issued_at="2026-11-23T07:00:00+00:00", spent=2.5,
        )  # fmt: skip
        text = sign(certificate, relay.hospitals[number].key)
        releases[name] = Release(name, "evaluation", 1, tensors, text, WEIGHTS_DIGEST)
    state = StudyState(directory / "study")
    plain = {str(number): {str(to): box for to, box in sealed.items()} for number, sealed in relay.boxes.items()}
    state.write(
        "sums/evaluation-001",
        {
            "context": relay.context,
            "book": {str(number): keys for number, keys in relay.book.items()},
            "boxes": plain,
            "survivors": SURVIVORS,
            "revealed": {str(number): answer for number, answer in told.items()},
        },
    )
    total = added(relay.opened(masked, told), like, dict.fromkeys(like, 1.0))
    answers = Answers(releases, mean=total)
    evaluated = evaluation_of(answers, mechanism, None, SCHEMA)
    kept = tuple(releases.values())
    weights = {"layer.bias": np.zeros(2, np.float32)}
    result = Result("flu", weights, [], kept, ("no", "yes"), evaluation=evaluated, openings=openings_of(state, kept))
    return relay, result


def changed(path: Path, change: Any) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_a_saved_sum_is_opened_again_and_said_so(tmp_path: Path) -> None:
    relay, result = scored(tmp_path)
    np.testing.assert_array_equal(reopened(result.openings["evaluation-001"], result.releases), relay.truth(SURVIVORS))
    saved = result.save(tmp_path / "saved")
    loaded = load(saved)
    assert loaded.evaluation is not None
    assert loaded.evaluation.summed["scores"].tolist() == np.full((2, 20), 40.0).tolist()
    again = load(loaded.save(tmp_path / "again"))  # what opens it goes along
    assert dict(again.openings) == dict(result.openings)
    run = CliRunner().invoke(app, ["verify", *map(str, sorted((saved / "releases").glob("*.certificate.json")))])
    assert run.exit_code == 0, run.output
    assert "sums/evaluation-001.json: opens the sum of general, rural" in run.output
    assert "its scores are those of the sums" in run.output
    bundle = result.save(tmp_path / "flu.zip")
    assert dict(load(bundle).openings) == dict(result.openings)


def test_a_changed_sum_is_not_loaded(tmp_path: Path) -> None:
    _, result = scored(tmp_path)
    saved = result.save(tmp_path / "saved")
    changed(saved / "result.json", lambda about: about["evaluation"]["summed"]["scores"][0].__setitem__(3, 41.0))
    with pytest.raises(InvalidRequest, match="not the one that the hospitals' masked releases come to"):
        load(saved)


def test_changed_shares_keys_and_releases_open_nothing(tmp_path: Path) -> None:
    _, result = scored(tmp_path)
    opening, releases = json.loads(json.dumps(result.openings["evaluation-001"])), list(result.releases)
    wrong = json.loads(json.dumps(opening))
    wrong["revealed"]["1"]["seeds"]["3"] = f"{5:066x}"
    with pytest.raises(CertificateRefused, match="do not come to what it signed"):
        reopened(wrong, releases)
    wrong = json.loads(json.dumps(opening))
    wrong["book"]["1"]["mask_key"] = wrong["book"]["3"]["mask_key"]
    with pytest.raises(Exception, match="are not signed by its certificate key"):
        reopened(wrong, releases)
    tensors = {"scores": releases[0].tensors["scores"] + np.uint32(1)}
    with pytest.raises(CertificateRefused):
        reopened(opening, [replace(releases[0], tensors=tensors), releases[1]])
    with pytest.raises(InvalidRequest, match="hospital 3 is not here"):
        reopened(opening, releases[:1])
    with pytest.raises(InvalidRequest, match="cannot be read"):
        reopened({"survivors": SURVIVORS}, releases)


def test_an_opening_of_another_round_opens_nothing(tmp_path: Path) -> None:
    """Masks of one round are of no other: keys were signed for the context that certificates speak of."""
    (tmp_path / "other").mkdir()
    _, result = scored(tmp_path)
    _, other = scored(tmp_path / "other")  # the same question to hospitals of other keys
    with pytest.raises(Exception, match=r"not signed by its certificate key|no sum that its key"):
        reopened(other.openings["evaluation-001"], result.releases)


def test_a_result_that_kept_no_opening_is_read_as_before(tmp_path: Path) -> None:
    _, result = scored(tmp_path)
    saved = replace(result, openings={}).save(tmp_path / "saved")
    loaded = load(saved)
    assert loaded.evaluation is not None
    assert not loaded.openings
