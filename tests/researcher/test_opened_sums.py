"""A saved sum is the one that masked releases come to: found again from what hospitals signed, or refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from typer.testing import CliRunner

from policies.errors import CertificateRefused, InvalidRequest
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.privacy.secure_aggregation import SecureAggregation
from policies.release.certificates import make_certificate, sign
from policies.release.plans import release_shapes
from policies.release.tensors import digest, from_bytes, to_bytes
from policies.secure_sums.encoding import Words, added, decoded, encoded, flat, shaped
from policies.secure_sums.messages import context_of
from researcher.__main__ import app
from researcher.federated import RoundRecord
from researcher.opened_sums import openings_of, reopened
from researcher.releases import Answers
from researcher.results import Result, evaluation_of, load
from researcher.state import Release, StudyState, Tensors
from tests.attacks.secure_relay import Relay, network
from tests.policies.plan_factories import SCHEMA, evaluation, plan_of, published, training

WEIGHTS_DIGEST = "77" * 32
SURVIVORS = [1, 3]  # the second hospital drops out after it shared its secrets
NAMES = {1: "general", 3: "rural"}


@pytest.fixture(autouse=True)
def _plain_certificates() -> None:
    """Certificates are real ones here, where elsewhere in this folder fake hospitals sign nothing."""


@dataclass
class Closed:
    """A round of three hospitals, of whom two are in the sum, kept as a study keeps it."""

    relay: Relay
    releases: dict[str, Release]
    state: StudyState
    total: Words


def closed(
    directory: Path, relay: Relay, mechanism: DPSGD | Evaluation, words: dict[int, Words], weights_digest: str
) -> Closed:
    """Go through a round in which each hospital adds its `words`."""
    plan, role = plan_of(mechanism), "training" if isinstance(mechanism, DPSGD) else "evaluation"
    shapes = release_shapes(plan, SCHEMA)
    like = {name: np.zeros(shape, np.uint32) for name, (shape, _) in shapes.items()}
    relay.context = context_of(
        relay.declared, source_sha256=plan.source_sha256, round_number=1, weights_digest=weights_digest
    )
    for number, hospital in relay.hospitals.items():
        hospital.context, hospital.state = relay.context, {}
        hospital.words = words[number]
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
            round_number=1, tensors=shapes, release_digest=digest(tensors), weights_digest=weights_digest, order=8,
            budget=PrivacyBudget(6.0, 1e-5), entry=12, head="3" * 64, protections={"network": True, "user": False},
            issued_at="2026-11-23T07:00:00+00:00", spent=2.5,
        )  # fmt: skip
        text = sign(certificate, relay.hospitals[number].key)
        releases[name] = Release(name, role, 1, tensors, text, weights_digest)
    state = StudyState(directory / "study")
    plain = {str(number): {str(to): box for to, box in sealed.items()} for number, sealed in relay.boxes.items()}
    state.write(
        f"sums/{role}-001",
        {
            "context": relay.context,
            "book": {str(number): keys for number, keys in relay.book.items()},
            "boxes": plain,
            "survivors": SURVIVORS,
            "revealed": {str(number): answer for number, answer in told.items()},
        },
    )
    return Closed(relay, releases, state, relay.opened(masked, told))


def scored(directory: Path) -> tuple[Relay, Result]:
    """A round of three hospitals' scores."""
    relay = network(3, 2)
    mechanism = evaluation(secure_aggregation=relay.declared, loss="cross_entropy", rounds=1)
    shapes = release_shapes(plan_of(mechanism), SCHEMA)
    like = {name: np.zeros(shape, np.uint32) for name, (shape, _) in shapes.items()}
    words = {number: np.full(flat(like).size, 10 * number, np.uint32) for number in relay.hospitals}
    over = closed(directory, relay, mechanism, words, WEIGHTS_DIGEST)
    answers = Answers(over.releases, mean=added(over.total, like, dict.fromkeys(like, 1.0)))
    evaluated = evaluation_of(answers, mechanism, None, SCHEMA)
    kept = tuple(over.releases.values())
    weights = {"layer.bias": np.zeros(2, np.float32)}
    opening = openings_of(over.state, kept)
    return relay, Result("flu", weights, [], kept, ("no", "yes"), evaluation=evaluated, openings=opening)


def trained(directory: Path, *, averaged: bool = False) -> Result:
    """A round of three hospitals' training, of which FedAvg made the result's weights."""
    relay, random = network(3, 2), np.random.default_rng(4)
    start = {"layer.weight": random.normal(size=(2, 3)), "layer.bias": random.normal(size=2)}
    begun = {name: value.astype(np.float32) for name, value in start.items()}
    words = {
        number: encoded({name: value + random.normal() for name, value in begun.items()}, begun, relay.declared, number)
        for number in relay.hospitals
    }
    over = closed(directory, relay, training(secure_aggregation=relay.declared), words, digest(begun))
    mean = decoded(over.total, begun, relay.declared, SURVIVORS)
    weights, kept = averaged_by_flower(mean, relay.declared), tuple(over.releases.values())
    return Result(
        "flu", weights, [RoundRecord(1, tuple(NAMES.values()), {}, {}, digest(begun))], kept, ("no", "yes"),
        openings=openings_of(over.state, kept), begun=begun, averaged={1: weights} if averaged else {},
    )  # fmt: skip


def averaged_by_flower(mean: Tensors, declared: SecureAggregation) -> Tensors:
    """What Flower's own arithmetic makes of hospitals that all answer with the mean."""
    replies = [
        RecordDict(
            {
                "arrays": ArrayRecord({name: Array(value) for name, value in mean.items()}),
                "metrics": MetricRecord({"num-examples": declared.hospitals[number - 1].patients}),
            }
        )
        for number in SURVIVORS
    ]
    arrays = aggregate_arrayrecords(replies, "num-examples")
    return {name: arrays[name].numpy() for name in mean}


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


def test_weights_are_the_mean_of_what_hospitals_released_and_are_said_to_be(tmp_path: Path) -> None:
    result = trained(tmp_path)
    saved = result.save(tmp_path / "saved")
    loaded = load(saved)
    assert digest(loaded.weights) == digest(result.weights)
    again = load(loaded.save(tmp_path / "again"))  # what the round began with goes along
    assert digest(again.begun) == digest(result.begun)
    run = CliRunner().invoke(app, ["verify", *map(str, sorted((saved / "releases").glob("*.certificate.json")))])
    assert run.exit_code == 0, run.output
    assert "sums/training-001.json: opens the sum of general, rural" in run.output
    assert "weights.safetensors: is what the mean" in run.output
    bundle = result.save(tmp_path / "flu.zip")
    assert digest(load(bundle).begun) == digest(result.begun)


def test_changed_weights_are_refused_by_the_name_of_their_file(tmp_path: Path) -> None:
    """Also where one number of them is changed in its last bit."""
    saved = trained(tmp_path).save(tmp_path / "saved")
    weights = from_bytes((saved / "weights.safetensors").read_bytes())
    bias = weights["layer.bias"].copy()
    bias[1] = np.nextafter(bias[1], np.float32(9), dtype=np.float32)
    (saved / "weights.safetensors").write_bytes(to_bytes({**weights, "layer.bias": bias}))
    with pytest.raises(InvalidRequest, match=r"weights\.safetensors holds other weights than the mean .* of round 1"):
        load(saved)


def test_a_changed_last_aggregate_is_refused_where_weights_are_an_average(tmp_path: Path) -> None:
    saved = trained(tmp_path, averaged=True).save(tmp_path / "saved")
    assert load(saved).averaged
    for path in (saved / "weights.safetensors", saved / "averaged" / "0001.safetensors"):
        changed_by_one = {name: value + np.float32(1) for name, value in from_bytes(path.read_bytes()).items()}
        path.write_bytes(to_bytes(changed_by_one))
    with pytest.raises(InvalidRequest, match=r"averaged/0001\.safetensors holds other weights than the mean"):
        load(saved)


def test_a_changed_beginning_of_the_last_round_is_refused(tmp_path: Path) -> None:
    """Else weights and beginning could be moved together."""
    result = trained(tmp_path)
    begun, weights = (
        {name: value + np.float32(1) for name, value in each.items()} for each in (result.begun, result.weights)
    )
    saved = replace(result, weights=weights, begun=begun).save(tmp_path / "saved")
    with pytest.raises(InvalidRequest, match=r"round 1 began with is not what the certificates of general"):
        load(saved)


def test_what_a_strategy_with_a_memory_made_of_means_is_said_to_be_no_mean(tmp_path: Path) -> None:
    saved = replace(trained(tmp_path), begun={}).save(tmp_path / "saved")
    loaded = load(saved)
    assert not loaded.begun
    run = CliRunner().invoke(app, ["verify", *map(str, sorted((saved / "releases").glob("*.certificate.json")))])
    assert "is what the study's strategy made of the means, which study.run() replays" in run.output
    assert "weights.safetensors: is what the mean" not in run.output
