"""Rounds with public weights and local parameters: what comes in, what stays, what leaves, and what a start finds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasites.jobs.isolation import PROTECTIONS
from datasites.jobs.pool import Answer
from datasites.ledger.records import CodeRequestRecord
from datasites.ledger.store import utc_now
from datasites.review.model_parts import ModelParts
from datasites.review.part_words import part_words
from datasites.review.rounds import Rounds
from datasites.vault.private_rows import PublishedRows
from policies.errors import InvalidRequest, WeightsRefused
from policies.graph.graphs import Graph
from policies.privacy.accountant import charge_for, resolve
from policies.privacy.mechanisms import DPSGD
from policies.privacy.parts import NOT_CHECKED
from policies.release.plans import Plan, plan_from, release_shapes
from policies.release.tensors import digest, from_bytes, to_bytes
from policies.schema.schemas import Schema
from policies.source.statuses import RunStatus
from tests.browser.desk import OWNER, VERSION, Desk
from tests.factories import OTHER, RESEARCHER
from tests.policies.plan_factories import LINEAR, evaluation, plan_of, training

HELD = dict.fromkeys(PROTECTIONS, True)
Arrays = dict[str, np.ndarray[Any, Any]]


def parted(released: tuple[str, ...], frozen: tuple[str, ...] = (), local: tuple[str, ...] = ()) -> Graph:
    by_name = {parameter.name: parameter for parameter in LINEAR.parameters}
    pick = {part: tuple(by_name[name] for name in names) for part, names in
            (("parameters", released), ("frozen", frozen), ("local", local))}  # fmt: skip
    return dataclasses.replace(LINEAR, **pick)


WEIGHT, BIAS = (parameter.name for parameter in LINEAR.parameters)
VALUES: Arrays = {
    parameter.name: np.full(parameter.shape, 0.5 + number, np.float32)
    for number, parameter in enumerate(LINEAR.parameters)
}
SENT = {WEIGHT: VALUES[WEIGHT]}
PUBLIC = {BIAS: VALUES[BIAS]}


class Trainer:
    """A runner that adds one to each weight that it is to train, and remembers all that it was given."""

    def __init__(self) -> None:
        self.given: list[Arrays] = []
        self.answer: Arrays | None = None

    def run(self, kind: str, job: dict[str, Any], payload: bytes, *, before_rows: Any, **_: Any) -> Answer:
        before_rows(HELD)
        weights, plan = from_bytes(payload), plan_from(job["plan"])
        self.given.append(weights)
        assert plan.graph is not None
        if isinstance(plan.mechanism, DPSGD):
            trained: Arrays = {one.name: weights[one.name] + np.float32(1) for one in plan.graph.trained}
        else:
            shapes = release_shapes(plan, Schema.from_dict(job["schema"]))
            trained = {name: np.zeros(shape) for name, (shape, _) in shapes.items()}
        return Answer({"event": "done"}, to_bytes(self.answer if self.answer is not None else trained), HELD)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    yield desk
    desk.close()


@pytest.fixture
def trainer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    return with_trainer(desk.datasite.rounds, Trainer())


def with_trainer(rounds: Rounds, trainer: Trainer) -> Trainer:
    rounds.pool = trainer  # type: ignore[assignment]
    rounds._public_seconds = lambda *_: 0.01  # type: ignore[method-assign]
    rounds._grid = lambda _: 0.0  # type: ignore[method-assign]
    rounds.tables = PublishedRows(lambda version: np.zeros((1, 7)), lambda version: True)
    return trainer


def frozen_plan(**changes: Any) -> Plan:
    declared = training(frozen=(BIAS,), public_weights=digest(PUBLIC), **changes)
    return plan_of(declared, graph=parted((WEIGHT,), frozen=(BIAS,)))


def local_plan(**changes: Any) -> Plan:
    declared = training(local=(BIAS,), public_weights=digest(PUBLIC), **changes)
    return plan_of(declared, graph=parted((WEIGHT,), local=(BIAS,)))


def scoring_plan(trained_as: str = "flu_2026", graph: Graph | None = None) -> Plan:
    declared = evaluation(local=(BIAS,), public_weights=digest(PUBLIC), trained_as=trained_as, rounds=5)
    plan = plan_of(declared, graph=graph or parted((WEIGHT,), local=(BIAS,)), function="flu_2026_evaluation")
    return dataclasses.replace(plan, mechanism=resolve(declared))


def ask_for(desk: Desk, request: str, plan: Plan) -> None:
    """A request that waits for a decision."""
    plan = dataclasses.replace(plan, version=VERSION)
    record = CodeRequestRecord(
        id=request, function=plan.function, researcher=RESEARCHER, dataset="flu", version=VERSION,
        population=desk.schema.population, source=f"def {plan.function}(): ...", purpose="To test.",
    )  # fmt: skip
    desk.datasite.ledger.requests.submit(record)
    desk.datasite.ledger.requests.check(request, plan)


def approved(desk: Desk, plan: Plan, request: str = "request-1", *, public: Arrays = PUBLIC) -> None:
    ask_for(desk, request, plan)
    ledger = desk.datasite.ledger
    known = ledger.requests.get(request).plan
    assert known is not None
    charge = charge_for(known.mechanism, ledger.budgets.balance(desk.schema.population).order)
    until = utc_now() + timedelta(days=9)
    ledger.approve(request, actor=OWNER, plan_digest=known.digest, charge=charge, rounds=known.rounds, expires_at=until)
    if public:
        give(desk, request, public)


def give(desk: Desk, request: str, tensors: Arrays) -> Any:
    record, content = desk.datasite.ledger.requests.get(request), to_bytes(tensors)
    return desk.datasite.rounds.parts.take(record, begin=0, size=len(content), content=content)


def round_of(desk: Desk, request: str, number: int, weights: Arrays = SENT) -> dict[str, Any]:
    rounds, record = desk.datasite.rounds, desk.datasite.ledger.requests.get(request)
    rounds.ask(record, number, weights)
    for thread in list(rounds._threads.values()):
        thread.join(30)
    return rounds.look(record, number, digest(weights))


def test_frozen_parameters_come_to_the_job_and_never_leave_it(desk: Desk, trainer: Trainer) -> None:
    approved(desk, frozen_plan())
    answer = round_of(desk, "request-1", 1)
    assert set(trainer.given[0]) == {WEIGHT, BIAS}
    np.testing.assert_array_equal(trainer.given[0][BIAS], PUBLIC[BIAS])
    assert set(answer["release"]) == {WEIGHT}


def test_nothing_begins_or_is_charged_before_the_public_weights_are_here(desk: Desk, trainer: Trainer) -> None:
    approved(desk, frozen_plan(), public={})
    with pytest.raises(WeightsRefused, match="nothing was charged"):
        round_of(desk, "request-1", 1)
    assert desk.datasite.ledger.runs.list("request-1") == ()
    give(desk, "request-1", PUBLIC)
    assert round_of(desk, "request-1", 1)["status"] == "released"


def test_frozen_weights_that_changed_between_two_rounds_end_the_second_unread(desk: Desk, trainer: Trainer) -> None:
    approved(desk, frozen_plan())
    round_of(desk, "request-1", 1)
    (file,) = (desk.datasite.settings.directory / "public_weights").rglob("*.safetensors")
    file.write_bytes(to_bytes({BIAS: VALUES[BIAS] * 2}))
    assert round_of(desk, "request-1", 2, {WEIGHT: VALUES[WEIGHT] + 1})["status"] == "void"
    assert len(trainer.given) == 1
    give(desk, "request-1", PUBLIC)
    assert round_of(desk, "request-1", 2, {WEIGHT: VALUES[WEIGHT] + 1})["status"] == "released"


def test_frozen_weights_may_not_be_sent_with_a_round(desk: Desk, trainer: Trainer) -> None:
    approved(desk, frozen_plan())
    with pytest.raises(WeightsRefused, match=f"not in it: '{BIAS}'"):
        round_of(desk, "request-1", 1, {**SENT, BIAS: VALUES[BIAS] * 3})


def test_a_job_that_hands_out_a_frozen_part_releases_nothing(desk: Desk, trainer: Trainer) -> None:
    approved(desk, frozen_plan())
    trainer.answer = VALUES
    assert round_of(desk, "request-1", 1)["status"] == "failed"
    assert desk.datasite.ledger.runs.release("request-1", 1) is None


def test_the_first_round_begins_with_the_weights_that_were_named(desk: Desk, trainer: Trainer) -> None:
    approved(desk, frozen_plan(initial=digest(SENT)))
    with pytest.raises(WeightsRefused, match="Send those, or submit a request that names these"):
        round_of(desk, "request-1", 1, {WEIGHT: VALUES[WEIGHT] * 2})
    assert round_of(desk, "request-1", 1)["status"] == "released"
    assert round_of(desk, "request-1", 2, {WEIGHT: VALUES[WEIGHT] * 2})["status"] == "released"


def test_public_weights_are_taken_of_open_requests_that_name_some(desk: Desk, trainer: Trainer) -> None:
    ask_for(desk, "request-1", frozen_plan())
    give(desk, "request-1", PUBLIC)
    ask_for(desk, "request-2", plan_of(training(), function="other"))
    with pytest.raises(InvalidRequest, match="waits for no public weights"):
        give(desk, "request-2", PUBLIC)
    desk.act("deny", {"request": "request-1", "reason": "No."})
    with pytest.raises(InvalidRequest, match="is denied and waits"):
        give(desk, "request-1", PUBLIC)


def test_a_local_part_goes_on_from_round_to_round_and_never_leaves(desk: Desk, trainer: Trainer) -> None:
    approved(desk, local_plan())
    for number in (1, 2, 3):
        answer = round_of(desk, "request-1", number, {WEIGHT: VALUES[WEIGHT] + number})
        assert set(answer["release"]) == {WEIGHT}
        np.testing.assert_array_equal(trainer.given[-1][BIAS], VALUES[BIAS] + number - 1)
    ledger = desk.datasite.ledger
    stored = [ledger.runs.release("request-1", number) for number in (1, 2, 3)]
    assert all(one is not None and set(from_bytes(one.bytes)) == {WEIGHT} for one in stored)
    certified = [json.loads(one.certificate)["release"]["tensors"] for one in stored if one is not None]
    assert certified == [[[WEIGHT, "float32", [2, 3]]]] * 3


def test_a_head_that_a_job_does_not_give_apart_leaves_nothing(desk: Desk, trainer: Trainer) -> None:
    approved(desk, local_plan())
    trainer.answer = SENT
    assert round_of(desk, "request-1", 1)["status"] == "failed"


def test_local_parts_are_the_same_after_a_start(desk: Desk, trainer: Trainer) -> None:
    approved(desk, local_plan())
    round_of(desk, "request-1", 1)
    desk.datasite.rounds.parts = ModelParts(desk.datasite.settings, desk.datasite.ledger)
    desk.datasite.rounds.parts.forget_unused([desk.datasite.ledger.requests.get("request-1").version])
    round_of(desk, "request-1", 2, {WEIGHT: VALUES[WEIGHT] + 1})
    np.testing.assert_array_equal(trainer.given[-1][BIAS], VALUES[BIAS] + 1)


def test_a_round_that_was_cut_off_before_it_was_settled_begins_from_the_last_that_was(
    desk: Desk, trainer: Trainer
) -> None:
    approved(desk, local_plan())
    round_of(desk, "request-1", 1)
    desk.datasite.rounds.parts.heads.keep("request-1", 2, {BIAS: VALUES[BIAS] * 99})  # of a process that died here
    round_of(desk, "request-1", 2, {WEIGHT: VALUES[WEIGHT] + 1})
    np.testing.assert_array_equal(trainer.given[-1][BIAS], VALUES[BIAS] + 1)


def test_an_evaluation_uses_what_the_study_left_here(desk: Desk, trainer: Trainer) -> None:
    approved(desk, local_plan())
    approved(desk, scoring_plan(), "request-2")
    round_of(desk, "request-2", 1)
    np.testing.assert_array_equal(trainer.given[-1][BIAS], VALUES[BIAS])  # nothing is trained yet
    round_of(desk, "request-1", 1)
    round_of(desk, "request-2", 2, {WEIGHT: VALUES[WEIGHT] + 1})
    np.testing.assert_array_equal(trainer.given[-1][BIAS], VALUES[BIAS] + 1)


def test_an_evaluation_uses_no_other_requests_parts(desk: Desk, trainer: Trainer) -> None:
    approved(desk, local_plan())
    round_of(desk, "request-1", 1)
    approved(desk, scoring_plan("flu_2027"), "request-2")
    round_of(desk, "request-2", 1)
    np.testing.assert_array_equal(trainer.given[-1][BIAS], VALUES[BIAS])
    record = dataclasses.replace(desk.datasite.ledger.requests.get("request-2"), researcher=OTHER)
    assert desk.datasite.rounds.parts._trained(record, scoring_plan(), "flu_2026") is None


@pytest.mark.parametrize("end", ["revoke", "withdraw", "retire"])
def test_local_parts_are_deleted_with_their_study(desk: Desk, trainer: Trainer, end: str) -> None:
    from datasites.actions.for_researchers import ForResearchers

    approved(desk, local_plan())
    round_of(desk, "request-1", 1)
    heads = desk.datasite.settings.directory / "local_heads"
    assert len(list(heads.rglob("*.safetensors"))) == 1
    if end == "withdraw":
        ForResearchers(desk.datasite).withdraw(RESEARCHER, "request-1")
    elif end == "revoke":
        desk.act("revoke", {"request": "request-1", "reason": "No more."})
    else:
        desk.act("retire", {"name": "flu"})
    assert list(heads.rglob("*.safetensors")) == []


def test_those_of_a_completed_study_are_deleted_when_its_researcher_withdraws_it(desk: Desk, trainer: Trainer) -> None:
    from datasites.actions.for_researchers import ForResearchers

    approved(desk, local_plan(rounds=1))
    round_of(desk, "request-1", 1)
    told = ForResearchers(desk.datasite).withdraw(RESEARCHER, "request-1")
    assert told["status"] == "completed"
    assert list((desk.datasite.settings.directory / "local_heads").rglob("*.safetensors")) == []


def test_local_parts_that_are_lost_end_a_round_before_it_reads(desk: Desk, trainer: Trainer) -> None:
    approved(desk, local_plan())
    round_of(desk, "request-1", 1)
    (file,) = (desk.datasite.settings.directory / "local_heads").rglob("*.safetensors")
    file.unlink()
    assert round_of(desk, "request-1", 2, {WEIGHT: VALUES[WEIGHT] + 1})["status"] == "void"
    (_, run) = desk.datasite.ledger.runs.list("request-1")
    assert run.status is RunStatus.VOID
    assert "Put them back from a backup" in str(run.reason)


def test_the_page_says_what_is_public_what_is_trained_and_what_stays() -> None:
    frozen, local = part_words(frozen_plan(initial="c" * 64)), part_words(local_plan())
    assert frozen[-1] == local[-1] == NOT_CHECKED
    assert f"({BIAS}) are public constants (frozen)" in frozen[0]
    assert f"of digest {digest(PUBLIC)}; each use checks it" in frozen[1]
    assert "c" * 64 in frozen[2]
    assert "charged the same, and stay at this hospital" in local[0]
    assert "those that flu_2026 left at this hospital" in part_words(scoring_plan())[0]
    assert part_words(plan_of(training())) == []
