"""Which ε of shared noise a ledger charges: what trusts nobody, but for an owner's word for that very request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datasites.cli.display import shared_lines
from datasites.people.roles import Actor, Role
from datasites.review.decisions import BY_POLICY
from datasites.review.policy import Rules, outcomes
from datasites.review.released import noise_sentences
from datasites.review.shared_noise import is_accepted
from datasites.review.wording import summary
from policies.errors import (
    CertificateRefused,
    DatasiteError,
    LedgerDamaged,
    RuleBroken,
    UnsupportedMechanism,
    WrongStatus,
)
from policies.privacy.accountant import charge_for
from policies.privacy.mechanisms import Query
from policies.privacy.nano import NANO
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.privacy.shared_mechanisms import shared_draws
from policies.privacy.shared_sums import shown
from policies.privacy.sharing import shared_of
from policies.release.certificates import explain, make_certificate, sign, verify
from policies.release.plans import release_shapes
from policies.source.statuses import RequestStatus
from tests.browser.desk import Desk
from tests.policies.plan_factories import evaluation, plan_of, published, statistics, survival, training

PARTIES = tuple(Party(f"Hospital {number}", f"{number:064x}", 800) for number in range(4))
ROSTER = SecureAggregation(threshold=4, hospitals=PARTIES, mode="shared-noise", may_collude=2)
COUNTS = (Query("count"), Query("missing", ("temperature",)))
FIRST, SECOND = "1" * 32, "2" * 32


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    yield desk
    desk.close()


def with_policy(desk: Desk, **rules: object) -> None:
    lines = "\n".join(f"{name} = {value}" for name, value in rules.items())
    (Path(desk.datasite.settings.directory) / "policy.toml").write_text(lines)


def asked(desk: Desk, request: str = FIRST, roster: SecureAggregation = ROSTER, **more: Any) -> dict[str, Any]:
    """A waiting request as its owner reads it."""
    desk.ask(request, queries=COUNTS, epsilon=0.6, secure_aggregation=roster, **more)
    seen: dict[str, Any] = desk.act("show", {"request": request})
    return seen


def approve(desk: Desk, seen: dict[str, Any], acceptance: str = "", *, role: Role = Role.OWNER) -> Any:
    facts = {"request": seen["id"], "plan_digest": seen["plan_digest"], "typed": seen["function"]}
    return desk.act("approve", {**facts, "acceptance": acceptance}, role=role)


def charge(desk: Desk, request: str = FIRST) -> int:
    """ε of one release as it was reserved, in nano-nats."""
    record = desk.datasite.ledger.requests.get(request)
    assert record.charge is not None
    return json.loads(record.charge_json or "")["divergence_nano"]


def wanted(desk: Desk, *, accepted: bool) -> int:
    plan = desk.datasite.ledger.requests.get(FIRST).plan
    assert plan is not None
    order = desk.datasite.ledger.budgets.balance(desk.schema.population).order
    return charge_for(plan.mechanism, order, accepted=accepted).divergence_nano


def test_what_trusts_nobody_is_charged_where_nothing_is_accepted(desk: Desk) -> None:
    with_policy(desk, shared_noise_epsilon=5.0)  # a cap by itself accepts nothing
    seen = asked(desk)
    shared = seen["shared_noise"]
    assert shared["epsilon"] == pytest.approx(0.6)
    assert shared["epsilon_if_not"] > 3
    assert seen["cost"]["epsilon"] == pytest.approx(shared["epsilon_if_not"])
    approve(desk, seen)
    record = desk.datasite.ledger.requests.get(FIRST)
    assert charge(desk) == wanted(desk, accepted=False) > 2 * wanted(desk, accepted=True)
    assert not is_accepted(record)
    assert "accept shared noise" not in str(desk.datasite.audit_log.entries())


def test_an_owners_word_charges_the_lesser_and_stands_in_ledger_and_log(desk: Desk) -> None:
    with_policy(desk, shared_noise_epsilon=5.0)
    seen = asked(desk)
    word = seen["shared_noise"]["acceptance"]
    assert seen["shared_noise"]["why_not"] == []
    approve(desk, seen, word)
    record = desk.datasite.ledger.requests.get(FIRST)
    assert charge(desk) == wanted(desk, accepted=True)
    assert is_accepted(record)
    (entry,) = [entry for entry in desk.datasite.audit_log.entries() if entry.what == "accept shared noise"]
    assert (entry.object, entry.details["acceptance"]) == (FIRST, word)
    assert all(party.name in entry.details["sentence"] for party in PARTIES)
    desk.datasite.ledger.verify()
    after = desk.act("show", {"request": FIRST})
    assert after["shared_noise"]["accepted"]
    assert after["cost"]["epsilon"] == pytest.approx(0.6)
    # A word that comes into the table by another way is not in the entries.
    with desk.datasite.ledger.store.writing() as db:
        changed = (record.charge_json or "").replace(word, "0" * 64)
        db.execute("UPDATE requests SET charge_json = ? WHERE id = ?", (changed, FIRST))
    assert not is_accepted(desk.datasite.ledger.requests.get(FIRST))
    with pytest.raises(LedgerDamaged, match="The request"):
        desk.datasite.ledger.verify()


def test_a_policy_that_says_nothing_allows_no_word(desk: Desk) -> None:
    seen = asked(desk)
    (why,) = seen["shared_noise"]["why_not"]
    assert "above shared_noise_epsilon = 0" in why
    with pytest.raises(RuleBroken, match="above shared_noise_epsilon = 0, the largest that may be left uncharged"):
        approve(desk, seen, seen["shared_noise"]["acceptance"])
    with_policy(desk, shared_noise_epsilon=3.0)
    with pytest.raises(RuleBroken, match="above shared_noise_epsilon = 3"):
        approve(desk, seen, seen["shared_noise"]["acceptance"])
    assert desk.datasite.ledger.requests.get(FIRST).status is RequestStatus.CHECKED


OTHERS = {
    "another k": replace(ROSTER, may_collude=1),
    "another threshold": replace(ROSTER, threshold=3, may_collude=1),
    "another hospital": replace(ROSTER, hospitals=(*PARTIES[:3], Party("Made up", "f" * 64, 800))),
    "another key": replace(ROSTER, hospitals=(*PARTIES[:3], Party("Hospital 3", "f" * 64, 800))),
    "the same again": ROSTER,
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_word_counts_for_no_other_request(desk: Desk, other: SecureAggregation) -> None:
    with_policy(desk, shared_noise_epsilon=50.0, max_epsilon=50.0)
    word = asked(desk)["shared_noise"]["acceptance"]
    seen = asked(desk, SECOND, other, researcher="eve@university.example")
    for given in (word, word[:12], seen["shared_noise"]["acceptance"][:12], "accepted"):
        with pytest.raises(RuleBroken, match="is not of request 22222222"):
            approve(desk, seen, given)
    assert desk.datasite.ledger.requests.get(SECOND).status is RequestStatus.CHECKED


def test_a_request_without_shared_noise_has_nothing_to_accept(desk: Desk) -> None:
    desk.ask(FIRST)
    seen = desk.act("show", {"request": FIRST})
    assert seen["shared_noise"] is None
    with pytest.raises(RuleBroken, match="shares no noise"):
        approve(desk, seen, "0" * 64)


def test_a_word_does_not_take_the_second_person_away(desk: Desk) -> None:
    with_policy(desk, shared_noise_epsilon=5.0, second_reviewer_epsilon=1.0)  # between both ε of the request
    seen = asked(desk)
    word = seen["shared_noise"]["acceptance"]
    assert seen["decision"]["voters"]
    with pytest.raises(RuleBroken, match="Two people must agree"):
        approve(desk, seen, word)
    assert seen["shared_noise"]["why_not"] == [
        "Two people must agree on this request, and an acceptance is one person's word."
    ]


def test_a_word_is_an_owners_alone_and_a_large_request_is_typed_all_the_same(desk: Desk) -> None:
    with_policy(desk, shared_noise_epsilon=5.0, typed_confirmation_epsilon=1.0)  # between both
    seen = asked(desk)
    word = seen["shared_noise"]["acceptance"]
    for role in (Role.AUDITOR, Role.RESEARCHER):
        with pytest.raises(DatasiteError):
            approve(desk, seen, word, role=role)
    with pytest.raises(RuleBroken, match="Type the name of the request"):
        desk.act("approve", {"request": FIRST, "acceptance": word})
    with pytest.raises(WrongStatus, match="The owner alone decides"):
        approve(desk, seen, word, role=Role.SECOND_REVIEWER)


def test_what_the_policy_approves_at_once_is_charged_in_full(desk: Desk) -> None:
    with_policy(desk, shared_noise_epsilon=5.0, approve_at_once_epsilon=1.0)  # between both
    seen = asked(desk)
    with pytest.raises(DatasiteError, match="a person decides"):
        desk.datasite.decisions.approve(desk.datasite.ledger.requests.get(FIRST), BY_POLICY)
    with_policy(desk, shared_noise_epsilon=5.0, approve_at_once_epsilon=4.0)
    desk.datasite.decisions.approve(desk.datasite.ledger.requests.get(seen["id"]), BY_POLICY)
    assert charge(desk) == wanted(desk, accepted=False)


def test_pysyfts_own_approval_accepts_nothing(desk: Desk) -> None:
    with_policy(desk, shared_noise_epsilon=5.0)
    seen = asked(desk)
    record = desk.datasite.ledger.requests.get(FIRST)
    desk.datasite.decisions.approve(record, Actor("owner@hospital.example", Role.OWNER), typed=seen["function"])
    assert charge(desk) == wanted(desk, accepted=False)


def test_every_page_says_both_epsilons_and_on_whom_they_rest(desk: Desk) -> None:
    with_policy(desk, shared_noise_epsilon=5.0)
    seen = asked(desk)
    both = [shown(seen["shared_noise"][name]) for name in ("epsilon", "epsilon_if_not")]
    browser = desk.browser(Role.OWNER)
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", browser.get(f"/requests/{FIRST}").text))
    shared = shared_draws(desk.datasite.ledger.requests.get(FIRST).plan.mechanism)  # type: ignore[union-attr]
    assert shared is not None
    assert shared.sentence() in page
    assert "The ledger charges the second, unless you accept the first in words." in page
    lines = " ".join(shared_lines(seen["shared_noise"], FIRST))
    said = " ".join(seen["summary"])
    for epsilon in both:
        assert f"ε = {epsilon}" in lines
        assert f"ε = {epsilon}" in said
    assert f"datasite approve 11111111 --accept {seen['shared_noise']['acceptance']}" in lines
    facts = {"plan_digest": seen["plan_digest"], "typed": seen["function"]}
    browser.post(f"/requests/{FIRST}/approve", **facts, acceptance=seen["shared_noise"]["acceptance"])
    assert charge(desk) == wanted(desk, accepted=True)
    assert "The first was accepted" in browser.get(f"/requests/{FIRST}").text


STEP = training(steps=1)


@pytest.mark.parametrize(
    "made", [statistics(queries=COUNTS), survival(), evaluation(), STEP], ids=lambda made: made.kind
)
def test_no_page_says_that_a_hospital_adds_all_of_its_own_noise(made: Any) -> None:
    plan = plan_of(replace(made, secure_aggregation=ROSTER))
    for said in (" ".join(summary(plan, published())), " ".join(noise_sentences(plan.mechanism))):
        assert "This hospital adds a part of one noise, of which 2 hospitals make the whole" in said
        assert "all of its own noise" not in said


def check_word_cannot_be_turned(made: dict[str, Any], key: Any) -> None:
    """A certificate that says the other thing of what its owner accepted is refused."""
    said = made["privacy"]["shared_noise"]
    lying = {**made, "privacy": {**made["privacy"], "shared_noise": {**said, "accepted": not said["accepted"]}}}
    with pytest.raises(CertificateRefused, match="its mechanism comes to"):
        verify(sign(lying, key))


def test_a_certificate_states_both_and_neither_can_be_left_out(desk: Desk) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    plan, key = plan_of(statistics(queries=COUNTS, secure_aggregation=ROSTER)), Ed25519PrivateKey.generate()
    balance = desk.datasite.ledger.budgets.balance(desk.schema.population)

    def certificate(accepted: bool) -> dict[str, Any]:
        return make_certificate(
            plan=plan, published=published(), datasite="Hospital", request=FIRST, researcher="ada@university.example",
            round_number=1, tensors={}, release_digest="0" * 64, weights_digest="0" * 64, order=balance.order,
            budget=balance.budget, entry=1, head="0" * 64, protections={}, issued_at="2026-11-27T00:00:00+00:00",
            accepted=accepted,
        )  # fmt: skip

    shared = shared_draws(plan.mechanism)
    assert shared is not None
    for accepted, charged in ((True, shared.epsilons_in_all[0]), (False, shared.epsilons_in_all[1])):
        made = certificate(accepted)
        assert made["privacy"]["epsilon"] == charged
        assert made["privacy"]["pure_epsilon_nano"] == round(charged * NANO)
        said = " ".join(explain(verify(sign(made, key))))
        assert all(f"ε = {shown(epsilon)}" in said for epsilon in shared.epsilons_in_all)
        assert ("as its owner accepted for this request" in said) == accepted
        check_word_cannot_be_turned(made, key)
        silent = {
            **made,
            "privacy": {name: made["privacy"][name] for name in made["privacy"] if name != "shared_noise"},
        }
        with pytest.raises(CertificateRefused, match="nothing where noise is shared"):
            verify(sign(silent, key))
    low = certificate(False)
    low["privacy"]["shared_noise"]["epsilon_if_not"] = 0.7
    with pytest.raises(CertificateRefused, match=r"epsilon_if_not = 0\.7"):
        verify(sign(low, key))


def test_a_trainings_certificate_states_both_and_which_was_charged(desk: Desk) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    plan, key = plan_of(replace(STEP, secure_aggregation=ROSTER)), Ed25519PrivateKey.generate()
    balance, shared = desk.datasite.ledger.budgets.balance(desk.schema.population), shared_of(plan.mechanism)
    assert shared is not None
    for accepted, charged in zip((True, False), shared.epsilons_in_all, strict=True):
        made = make_certificate(
            plan=plan, published=published(), datasite="Hospital", request=FIRST, researcher="ada@university.example",
            round_number=1, tensors=release_shapes(plan, published().schema), release_digest="0" * 64,
            weights_digest="0" * 64, order=balance.order, budget=balance.budget, entry=1, head="0" * 64,
            protections={}, issued_at="2026-11-27T00:00:00+00:00", accepted=accepted,
        )  # fmt: skip
        assert {dtype for _, dtype, _ in made["release"]["tensors"]} == {"uint32"}
        assert made["privacy"]["epsilon"] == charged
        said = " ".join(explain(verify(sign(made, key))))
        assert all(f"ε = {shown(epsilon)} (δ = 0.00001)" in said for epsilon in shared.epsilons_in_all)
        assert ("as its owner accepted for this request" in said) == accepted
        check_word_cannot_be_turned(made, key)


def test_a_training_that_shares_its_noise_is_not_audited_alone(desk: Desk) -> None:
    plan = plan_of(replace(STEP, secure_aggregation=ROSTER))
    record = desk.datasite.ledger.requests.get(asked(desk)["id"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(desk.datasite.submissions), "find", lambda *_: replace(record, plan_json=json.dumps(plan.as_dict()))
        )
        with pytest.raises(DatasiteError, match="shares its noise: this hospital adds a part of it"):
            desk.act("audit", {"request": FIRST})


def test_more_records_of_a_patient_are_refused_before_anything_is_priced() -> None:
    with pytest.raises(UnsupportedMechanism, match="records_per_patient=2 cannot share one noise"):
        shared_draws(statistics(records_per_patient=2, secure_aggregation=ROSTER))


def test_too_large_a_second_epsilon_is_refused_with_what_lowers_it(desk: Desk) -> None:
    with_policy(desk, max_epsilon=1.0)
    (found,) = [one for one in asked(desk)["checks"] if not one["passed"]]
    assert "a smaller ε hardly lowers it. Ask for fewer statistics" in found["message"]
    assert "secure_aggregation=True, which charges ε = " in found["message"]


def test_what_lowers_a_second_epsilon_is_said_as_it_is_of_the_mechanism() -> None:
    def said(mechanism: Any, most: float, epsilon: float) -> str:
        made = plan_of(replace(mechanism, secure_aggregation=ROSTER))
        found = outcomes(Rules(max_epsilon=most), made, published(), epsilon, "ada@university.example")
        return next(one.message for one in found if one.title == "Privacy loss of the request")

    for mechanism, words in ((STEP, "Ask for a smaller ε or fewer rounds"), (statistics(queries=COUNTS), "fewer stat")):
        shared = shared_of(plan_of(replace(mechanism, secure_aggregation=ROSTER)).mechanism)
        assert shared is not None
        assumed, if_not = shared.epsilons_in_all
        assert words in said(mechanism, assumed, if_not)
        alone = said(mechanism, assumed / 2, if_not)  # with masks it is too large as well
        assert "Ask for a smaller ε." in alone
        assert "secure_aggregation" not in alone
