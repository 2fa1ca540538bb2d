"""A datasite's part in secure sums: who is in the roster, what is answered when, and the same after a restart."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datasites.directory import signing_key
from datasites.review.released import noise_sentences, released_parts
from datasites.review.secure_rounds import SecureRounds, check_roster, check_scale
from datasites.review.secure_wording import secure_sentences
from datasites.review.wording import summary
from policies.errors import InvalidRequest, UnsupportedMechanism, WrongStatus
from policies.privacy.mechanisms import DPSGD
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.release.plans import Plan, answer_shapes, release_shapes
from policies.release.summed import scale_of, steps_of
from policies.release.tensors import digest
from policies.secure_sums.encoding import added, words_of
from policies.secure_sums.messages import context_of
from policies.secure_sums.party import masked
from policies.source.statuses import RequestStatus, RunStatus
from tests.attacks.secure_relay import Hospital
from tests.browser.desk import Desk
from tests.factories import statistics_source, training_source
from tests.policies.plan_factories import evaluation, plan_of, published, regression, statistics, survival, training

SCHEMA = published().schema
WEIGHTS = {"layer.weight": np.zeros((2, 3), np.float32), "layer.bias": np.zeros(2, np.float32)}


@dataclass
class Round:
    """This datasite as the first of two hospitals; the other is in this process."""

    desk: Desk
    declared: SecureAggregation
    plan: Plan
    record: Any
    other: Hospital
    runs: list[Any] = field(default_factory=list)

    @property
    def secure(self) -> SecureRounds:
        """As it is after a restart: made anew on the directory."""
        ledger = SimpleNamespace(runs=SimpleNamespace(list=lambda _: self.runs))
        return SecureRounds(self.desk.datasite.settings, ledger)  # type: ignore[arg-type]

    def answer(self, step: str, message: dict[str, Any], *, round_number: int = 1) -> dict[str, Any]:
        return self.secure.answer(self.record, round_number, step, message)

    def exchange(self) -> None:
        own = self.answer("keys", {"weights_digest": digest(WEIGHTS)})
        others = self.other.answer("keys", {"weights_digest": digest(WEIGHTS)})
        book = {str(told.pop("party")): told for told in (dict(own), others)}
        self.answer("shares", {"book": book})
        boxes = self.other.answer("shares", {"book": book})["boxes"]
        self.answer("boxes", {"boxes": {"2": boxes["1"]}})


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Round]:
    desk = Desk(tmp_path / "datasite")
    key = Ed25519PrivateKey.generate()
    own = signing_key(desk.datasite.settings.directory).public_key().public_bytes_raw().hex()
    parties = (Party("Test Hospital", own, 800), Party("Other", key.public_key().public_bytes_raw().hex(), 400))
    declared = SecureAggregation(threshold=2, hospitals=parties)
    plan = plan_of(training(secure_aggregation=declared))
    context = context_of(declared, source_sha256=plan.source_sha256, round_number=1, weights_digest=digest(WEIGHTS))
    record = SimpleNamespace(id="a" * 32, plan=plan, status=RequestStatus.APPROVED)
    yield Round(desk, declared, plan, record, Hospital(declared, 2, key, np.zeros(8, np.uint32), context))
    desk.close()


def test_answers_are_the_same_after_a_restart(secure: Round) -> None:
    message = {"weights_digest": digest(WEIGHTS)}
    first = secure.answer("keys", message)
    assert secure.answer("keys", message) == first
    with pytest.raises(WrongStatus, match="answered once"):
        secure.answer("keys", {"weights_digest": "00" * 32})


def test_rounds_have_keys_of_their_own(secure: Round) -> None:
    message = {"weights_digest": digest(WEIGHTS)}
    first, second = (secure.answer("keys", message, round_number=number) for number in (1, 2))
    assert {first[name] for name in ("mask_key", "box_key")}.isdisjoint(second.values())


def test_nothing_runs_before_shares_were_exchanged_for_these_weights(secure: Round) -> None:
    with pytest.raises(WrongStatus, match="have not exchanged their shares"):
        secure.secure.check_ready(secure.record, secure.plan, 1, digest(WEIGHTS))
    secure.exchange()
    secure.secure.check_ready(secure.record, secure.plan, 1, digest(WEIGHTS))
    with pytest.raises(WrongStatus, match="made for other weights"):
        secure.secure.check_ready(secure.record, secure.plan, 1, "00" * 32)


def test_what_is_written_and_signed_is_masked(secure: Round) -> None:
    secure.exchange()
    release = {name: value + 0.25 for name, value in WEIGHTS.items()}
    sent = secure.secure.masked(secure.record.id, secure.plan, 1, digest(WEIGHTS), release, WEIGHTS, SCHEMA)
    again = secure.secure.masked(secure.record.id, secure.plan, 1, digest(WEIGHTS), release, WEIGHTS, SCHEMA)
    assert {name: (value.dtype.name, value.shape) for name, value in sent.items()} == {
        name: ("uint32", value.shape) for name, value in WEIGHTS.items()
    }
    assert words_of(sent).tolist() == words_of(again).tolist()
    assert len(set(words_of(sent).tolist())) == 8  # eight equal numbers went in


def test_tables_of_an_evaluation_leave_masked_and_add_up_exactly(secure: Round) -> None:
    secure.exchange()
    plan = replace(secure.plan, mechanism=evaluation(secure_aggregation=secure.declared))
    tables = {"scores": np.array([[3.0, -2.0, 0.0, 41.0], [0.0, 0.0, 1.0, -7.0]])}
    sent = secure.secure.masked(secure.record.id, plan, 1, digest(WEIGHTS), tables, WEIGHTS, SCHEMA)
    assert (sent["scores"].dtype.name, sent["scores"].shape) == ("uint32", (2, 4))
    assert len(set(words_of(sent).tolist())) == 8  # three equal numbers went in
    state = secure.secure.secrets.find(secure.record.id, 1)
    assert state is not None
    masks = masked(state, np.zeros(8, np.uint32), declared=secure.declared)
    np.testing.assert_array_equal((words_of(sent) - masks).astype(np.int32), tables["scores"].ravel())
    said = noise_sentences(plan.mechanism)
    assert "Hidden under the masks" in said[-1]
    (part,) = released_parts(sent, plan.mechanism, SCHEMA, patients=800)
    assert part.numbers == ()  # an owner's page shows no masked word as a count of patients
    page = " ".join(summary(plan, published()))
    assert "Only sums over at least 2 of these 2 hospitals can be read" in page


@pytest.mark.parametrize("kind", ["statistics", "survival", "regression"])
def test_analyses_leave_masked_and_add_up_exactly(secure: Round, kind: str) -> None:
    secure.exchange()
    asked: Any = {"statistics": statistics, "survival": survival, "regression": regression}[kind]
    mechanism = asked(secure_aggregation=secure.declared)
    plan, steps = replace(secure.plan, mechanism=mechanism), steps_of(mechanism, SCHEMA, {})
    assert steps is not None
    answered = {name: np.full(shape, 3 * steps[name]) for name, (shape, _) in answer_shapes(plan, SCHEMA).items()}
    sent = secure.secure.masked(secure.record.id, plan, 1, digest(WEIGHTS), answered, {}, SCHEMA)
    assert {name: (value.shape, value.dtype.name) for name, value in sent.items()} == release_shapes(plan, SCHEMA)
    words = words_of(sent)
    assert len(set(words.tolist())) == len(words)  # equal numbers went in
    state = secure.secure.secrets.find(secure.record.id, 1)
    assert state is not None
    masks = masked(state, np.zeros(len(words), np.uint32), declared=secure.declared)
    opened = added(words - masks, sent, steps)
    for name, cells in answered.items():
        np.testing.assert_array_equal(opened[name], cells)
    assert "Hidden under the masks" in noise_sentences(mechanism)[-1]
    assert all(part.numbers == () for part in released_parts(sent, mechanism, SCHEMA, patients=800))
    page = " ".join(summary(plan, published()))
    assert "Only sums over at least 2 of these 2 hospitals can be read" in page
    assert "This hospital adds all of its own noise" in page


def test_numbers_that_mean_something_else_here_are_in_no_sum(secure: Round) -> None:
    """A hospital whose column has other bounds refuses the plan, before it is charged for anything."""
    for asked in (statistics, survival, regression):
        mechanism: Any = asked(secure_aggregation=secure.declared)
        right = replace(mechanism, secure_aggregation=replace(secure.declared, scale=scale_of(mechanism, SCHEMA)))
        check_scale(right, published())
        columns = tuple(replace(one, maximum=95) if one.name in ("age",) else one for one in SCHEMA.columns)
        columns = tuple(replace(one, maximum=43) if one.name == "temperature" else one for one in columns)
        here = replace(published(), schema=replace(SCHEMA, columns=columns))
        with pytest.raises(UnsupportedMechanism, match="nothing can be added up"):
            check_scale(right, here)
        with pytest.raises(UnsupportedMechanism, match="scale=''"):
            check_scale(mechanism, published())
    check_scale(statistics(), published())
    check_scale(training(secure_aggregation=secure.declared), published())


def test_a_request_of_another_grid_is_not_planned(secure: Round) -> None:
    datasite = secure.desk.datasite
    here = datasite.planner.published(name="flu")
    own = signing_key(datasite.settings.directory).public_key().public_bytes_raw().hex()
    hospitals = [["Test Hospital", own, here.training_patients], ["b", "33" * 32, 300]]
    written = {"threshold": 2, "hospitals": hospitals, "scale": "ab" * 32}
    source = statistics_source().replace("epsilon=", f"secure_aggregation={written!r}, epsilon=")
    with pytest.raises(UnsupportedMechanism, match="nothing can be added up"):
        datasite.planner.plan(source, here)


def test_a_release_by_itself_leaves_as_it_is(secure: Round) -> None:
    plan = plan_of(training())
    assert secure.secure.masked("b" * 32, plan, 1, "", WEIGHTS, WEIGHTS, SCHEMA) == WEIGHTS
    alone = SimpleNamespace(id="b" * 32, plan=plan, status=RequestStatus.APPROVED)
    with pytest.raises(InvalidRequest, match="releases by itself"):
        secure.secure.answer(alone, 1, "keys", {})  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [status for status in RequestStatus if status not in ("approved", "completed")])
def test_no_step_of_a_request_that_is_not_approved_is_answered(secure: Round, status: RequestStatus) -> None:
    secure.record.status = status
    with pytest.raises(WrongStatus, match="Nothing more is added up"):
        secure.answer("keys", {"weights_digest": digest(WEIGHTS)})


@pytest.mark.parametrize("number", [0, 6, -1])
def test_rounds_that_are_not_the_plans_are_refused(secure: Round, number: int) -> None:
    with pytest.raises(InvalidRequest, match="outside"):
        secure.answer("keys", {"weights_digest": digest(WEIGHTS)}, round_number=number)


def test_a_round_whose_keys_are_gone_begins_no_second_time(secure: Round) -> None:
    secure.runs.append(SimpleNamespace(round=1, status=RunStatus.RELEASED))
    with pytest.raises(WrongStatus, match="its keys are gone"):
        secure.answer("keys", {"weights_digest": digest(WEIGHTS)})


def test_who_has_not_released_signs_nothing(secure: Round) -> None:
    secure.exchange()
    with pytest.raises(WrongStatus, match="released nothing"):
        secure.answer("survivors", {"survivors": [1, 2]})
    secure.runs.append(SimpleNamespace(round=1, status=RunStatus.RELEASED))
    assert secure.answer("survivors", {"survivors": [1, 2]})["signature"]


def test_secrets_are_readable_by_the_datasite_alone_and_gone_when_forgotten(secure: Round) -> None:
    secure.exchange()
    path = secure.secure.secrets.path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secure.secure.secrets.forget_all()
    with pytest.raises(WrongStatus, match="has no keys here"):
        secure.answer("shares", {"book": {}})


def test_a_secret_that_was_deleted_is_not_on_the_disk(secure: Round) -> None:
    secure.exchange()
    kept = secure.secure.secrets
    state = kept.find(secure.record.id, 1)
    assert state is not None
    seed = state.seed
    assert seed.encode() in kept.path.read_bytes()
    state.seed = ""
    kept.keep(secure.record.id, 1, state)
    assert not any(seed.encode() in path.read_bytes() for path in kept.path.parent.glob("secure_sums.db*"))


def roster(key: str, patients: int) -> DPSGD:
    parties = (Party("a", key, patients), Party("b", "11" * 32, 5))
    return training(secure_aggregation=SecureAggregation(threshold=2, hospitals=parties))


def test_a_roster_names_this_datasite_with_what_it_publishes() -> None:
    size = published().training_patients
    check_roster(roster("00" * 32, size), published(), "00" * 32)
    check_roster(training(), published(), "00" * 32)
    with pytest.raises(UnsupportedMechanism, match="does not name this datasite by its key"):
        check_roster(roster("22" * 32, size), published(), "00" * 32)
    with pytest.raises(UnsupportedMechanism, match=f"says 7 patients of this datasite; it publishes {size}"):
        check_roster(roster("00" * 32, 7), published(), "00" * 32)


@pytest.mark.parametrize(
    ("count", "threshold", "words"),
    [
        (3, 2, "as long as no other hospital works together"),
        (10, 7, "up to 3 other hospitals"),
        (3, 3, "up to 1 other"),
    ],
)
def test_the_page_says_whom_the_masks_trust(count: int, threshold: int, words: str) -> None:
    parties = tuple(Party(f"Hospital {place}", f"{place:064x}", 9) for place in range(count))
    said = " ".join(secure_sentences(SecureAggregation(threshold=threshold, hospitals=parties)))
    assert words in said
    assert "one without it, of the same weights in two rounds, differ by what it adds" in said
    assert f"at least {threshold} of these {count} hospitals" in said
    assert all(party.name in said and party.fingerprint in said for party in parties)


def test_a_plan_of_another_roster_is_not_made(secure: Round) -> None:
    hospitals = [["a", "22" * 32, 300], ["b", "33" * 32, 300]]
    written = f"learning_rate=1.0, secure_aggregation={{'threshold': 2, 'hospitals': {hospitals!r}}})"
    source = training_source().replace("learning_rate=1.0)", written)
    planner = secure.desk.datasite.planner
    with pytest.raises(UnsupportedMechanism, match="does not name this datasite"):
        planner.plan(source, planner.published(name="flu"))
