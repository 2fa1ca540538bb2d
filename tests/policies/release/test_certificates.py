"""A certificate verifies exactly as it was signed, and its figures follow from its mechanism."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policies.canonical import canonical_ascii
from policies.errors import CertificateRefused, UnsupportedMechanism
from policies.privacy.accountant import ORDERS, Charge, charge_by_epsilon, charge_for, epsilon_of
from policies.privacy.budget import PrivacyBudget
from policies.privacy.grouping import groupings_from
from policies.privacy.mechanisms import Mechanism, Query
from policies.privacy.risk import CAVEATS
from policies.release.certificate_format import FIELDS
from policies.release.certificates import explain, make_certificate, sign, verify
from policies.release.plans import release_shapes
from policies.release.tensors import Array, digest, to_bytes
from tests.policies.plan_factories import (
    SCHEMA,
    evaluation,
    plan_of,
    published,
    regression,
    statistics,
    survival,
    training,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key().public_bytes_raw().hex()
HAZARDS = {"loss": "discrete_hazards", "target": ("age", "influenza"), "horizon": 60.0}
ALL = (
    training(),
    statistics(),
    evaluation(),
    survival(),
    regression(),
    training(epsilon=None, noise_multiplier=1.5),
    training(class_weights=(1.0, 4.0), target="cough"),
    evaluation(subgroups=("cough", ("age", 18, 65))),
    evaluation(**HAZARDS, subgroups=("cough",)),
)


def release_of(mechanism: Mechanism, fill: float = 0.5) -> dict[str, Array]:
    shapes = release_shapes(plan_of(mechanism), SCHEMA)
    return {name: np.full(shape, fill, dtype) for name, (shape, dtype) in shapes.items()}


def content(mechanism: Mechanism, **changes: Any) -> dict[str, Any]:
    plan = plan_of(mechanism)
    facts: dict[str, Any] = {
        "plan": plan,
        "published": published(),
        "datasite": "Hôpital général",
        "request": "a1b2",
        "researcher": "rita@uni.example",
        "round_number": 1,
        "tensors": release_shapes(plan, SCHEMA),
        "release_digest": digest(release_of(mechanism)),
        "weights_digest": "2" * 64,
        "order": 8,
        "budget": PrivacyBudget(6.0, 1e-5),
        "entry": 12,
        "head": "3" * 64,
        "protections": {"network": True, "user": False},
        "issued_at": "2026-11-23T07:00:00+00:00",
        "spent": 2.5,
    }
    return make_certificate(**{**facts, **changes})


def signed(mechanism: Mechanism, **changes: Any) -> str:
    return sign(content(mechanism, **changes), KEY)


def forged(change: Callable[[dict[str, Any]], None]) -> str:
    """What a datasite's own key would sign after its content was changed."""
    certificate = content(training())
    change(certificate)
    return sign(certificate, KEY)


def refused(text: str, *, match: str | None = None, **options: Any) -> None:
    with pytest.raises(CertificateRefused, match=match):
        verify(text, **options)


@pytest.mark.parametrize("mechanism", ALL)
def test_what_was_signed_verifies_with_its_release(mechanism: Mechanism) -> None:
    text, release = signed(mechanism), release_of(mechanism)
    for form in (None, release, to_bytes(release)):
        found = verify(text, public_key=PUBLIC, release=form)
    plan = plan_of(mechanism)
    assert found["privacy"]["epsilon"] == epsilon_of(plan.mechanism, 1e-5)
    assert found["privacy"]["divergence_nano"] == charge_for(plan.mechanism, 8).divergence_nano
    assert found["graph_digest"] == (plan.graph.digest if plan.graph else None)
    assert found["plan_digest"] == plan.digest
    assert verify(text) == found  # with its own key, where none is given


def test_a_certificate_has_exactly_the_declared_fields() -> None:
    assert set(json.loads(signed(training()))) == set(FIELDS)


def test_the_text_is_one_line_of_ascii() -> None:
    text = signed(training())
    assert text.isascii()
    assert "\n" not in text
    assert verify(text)["datasite"] == "Hôpital général"


def test_unknown_budget_spent_is_left_open() -> None:
    assert verify(signed(training(), spent=None))["budget"]["spent"] is None


@pytest.mark.parametrize("mechanism", ALL[:2])
def test_no_byte_can_be_changed(mechanism: Mechanism) -> None:
    # Every byte, some five times: a digit, a letter, a space, a quote and its neighbour each.
    text = signed(mechanism)
    tried = 0
    for place, old in enumerate(text):
        for new in {"0", "a", " ", '"', chr(ord(old) ^ 1), old.swapcase()} - {old}:
            refused(text[:place] + new + text[place + 1 :], public_key=PUBLIC)
            tried += 1
    assert tried > 5000  # twice, so more than 10,000 in all


def test_no_byte_can_be_added_or_left_out() -> None:
    text = signed(statistics())
    for place in range(len(text) + 1):
        refused(text[:place] + " " + text[place:])
        refused(text[:place] + text[place + 1 :] if place < len(text) else text + "\n")


def test_bytes_changed_in_the_file_are_refused(tmp_path: Any) -> None:
    path = tmp_path / "certificate.json"
    raw = signed(statistics()).encode()
    for place in range(0, len(raw), 7):
        for new in (0x0A, 0x0D, 0x80, 0xFF):
            path.write_bytes(raw[:place] + bytes([new]) + raw[place + 1 :])
            refused(path.read_bytes().decode("utf-8", "replace"))


def test_another_form_of_the_same_content_is_refused() -> None:
    text = signed(training())
    data = json.loads(text)
    for other in (
        json.dumps(data),
        json.dumps(data, indent=2, sort_keys=True),
        json.dumps(data, separators=(",", ":"), sort_keys=True, ensure_ascii=False),
        json.dumps(dict(reversed(data.items())), separators=(",", ":")),
        text.replace('"round":1,', '"round":1,"round":1,'),
        text.replace('"entry":12', '"entry":12.0'),
        text.replace("\\u00f4", "\\u00F4"),
        "\ufeff" + text,
        text + "\n",
    ):
        assert other != text
        refused(other)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "NaN", "[" * 50_000, "9" * 5_000, '{"schema_version":1}', "\ud800"]
)
def test_what_is_no_certificate_is_refused(text: str) -> None:
    refused(text)


def test_a_text_too_long_to_be_one_is_refused() -> None:
    refused("[" + "0," * 600_000 + "0]", match="at most")


def test_a_later_schema_says_to_update() -> None:
    for version in (3, True, 2.0):
        data = {**json.loads(signed(training())), "schema_version": version}
        refused(canonical_ascii(data), match="Update")


def of_version_1(mechanism: Mechanism, charge: Charge) -> str:
    """What a datasite of version 0.1 signed."""
    old = content(mechanism)
    old |= {"schema_version": 1, "privacy": old["privacy"] | {"divergence_nano": charge.divergence_nano}}
    return sign(old, KEY)


def test_a_certificate_of_version_1_states_what_was_charged_then() -> None:
    # log((e^{8·0.2} + e^{-7·0.2}) / (1 + e^0.2)) / 7 nats of statistics, as version 0.1 charged them at order 8.
    then = charge_by_epsilon(statistics(), 8)
    assert then.divergence_nano == math.ceil(math.log((math.exp(1.6) + math.exp(-1.4)) / (1 + math.exp(0.2))) / 7 * 1e9)
    assert verify(of_version_1(statistics(), then))["privacy"]["divergence_nano"] == then.divergence_nano
    assert charge_for(statistics(), 8).divergence_nano < then.divergence_nano
    for mechanism in (training(), evaluation()):
        assert verify(of_version_1(mechanism, charge_for(plan_of(mechanism).mechanism, 8)))["schema_version"] == 1
    refused(of_version_1(statistics(), charge_for(statistics(), 8)), match="states divergence_nano")


# -- swaps --------------------------------------------------------------------------------------------------------


def test_another_datasites_certificate_is_refused() -> None:
    text = sign(content(training()), OTHER_KEY)
    assert verify(text)
    refused(text, public_key=PUBLIC, match="not by")


def test_key_and_signature_of_another_cannot_be_put_in() -> None:
    mine, theirs = json.loads(signed(training())), json.loads(sign(content(training()), OTHER_KEY))
    for names in (("public_key",), ("signature",)):
        refused(canonical_ascii({**mine, **{name: theirs[name] for name in names}}), match="signature")


@pytest.mark.parametrize("field", sorted(set(FIELDS) - {"schema_version", "signature"}))
def test_no_field_can_be_taken_from_another_certificate(field: str) -> None:
    mine = json.loads(signed(training()))
    other = content(
        evaluation(),
        published=published(name="beds", version="v2", population="town", patients=2000),
        plan=plan_of(evaluation(rounds=3), function="other", source_sha256="6" * 64, graph=None),
        datasite="B",
        request="c3",
        researcher="o@uni.example",
        round_number=2,
        weights_digest="7" * 64,
        order=9,
        budget=PrivacyBudget(7.0, 1e-5),
        entry=13,
        head="8" * 64,
        protections={},
        issued_at="2026-11-24T07:00:00+00:00",
    )
    theirs = json.loads(sign({**other, "software": {}}, OTHER_KEY))
    if field in ("unit_of_privacy", "neighboring_relation"):
        theirs[field] = "record"
    assert mine[field] != theirs[field]
    refused(canonical_ascii({**mine, field: theirs[field]}))


def test_a_certificate_stands_for_one_release_of_one_hospital() -> None:
    # Two hospitals, two datasets, two rounds: every release against every certificate, under every hospital's key.
    made: list[tuple[str, str, dict[str, Array]]] = []
    for key in (KEY, OTHER_KEY):
        for name in ("flu", "beds"):
            for number in (1, 2):
                release = release_of(training(), fill=len(made) + 1.0)
                facts = {"published": published(name=name), "round_number": number, "release_digest": digest(release)}
                text = sign(content(training(), **facts), key)
                made.append((text, key.public_key().public_bytes_raw().hex(), release))
    for text, own, release in made:
        for _, key, other in made:
            if key == own and other is release:
                assert verify(text, public_key=key, release=other)
            else:
                refused(text, public_key=key, release=other)


def test_another_release_is_refused() -> None:
    text = signed(training())
    refused(text, release=release_of(training(), fill=0.25), match="digest")
    refused(text, release=release_of(statistics()), match="not the one")
    refused(text, release={}, match="missing")
    refused(text, release=b"", match="not the one")
    refused(text, release=to_bytes(release_of(training()))[:-1], match="not the one")


# -- figures ------------------------------------------------------------------------------------------------------


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(certificate: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            certificate = certificate[name]
        certificate[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("privacy.epsilon", 1.5, "states epsilon"),
        ("privacy.delta", 1e-6, "states delta"),
        ("privacy.order", 9, "states divergence_nano"),
        ("privacy.order", 1, "cannot be accounted"),
        ("privacy.divergence_nano", 1000, "states divergence_nano"),
        ("privacy.pure_epsilon_nano", 5, "states pure_epsilon_nano"),
        ("mechanism.noise_multiplier", 9.0, "states epsilon"),
        ("mechanism.sampling_rate", 0.01, "states epsilon"),
        ("mechanism.steps", 39, "states epsilon"),
        ("mechanism.rounds", 4, "number of rounds"),
        ("mechanism.clipping_norm", 2.0, "not the one that was declared"),
        ("mechanism.kind", "gdp", "cannot be accounted"),
        ("mechanism.noise_multiplier", None, "cannot be accounted"),
        ("mechanism", {}, "cannot be accounted"),
        ("mechanism", {"kind": "statistics", "queries": [1], "epsilon": 1.0}, "cannot be accounted"),
        ("declared.epsilon", 1.0, "not the one that was declared"),
        ("declared.learning_rate", 0.4, "not the one that was declared"),
        ("budget.epsilon", 1000.0, "cannot be accounted"),
        ("budget.spent", 6.5, "spent"),
        ("budget.spent", 0.0, "spent"),
        ("rounds", 6, "number of rounds"),
        ("round", 6, "outside 1 to 5"),
        ("round", True, "not int"),
        ("graph_digest", None, "graph is missing"),
        ("unit_of_privacy", "record", "form"),
        ("neighboring_relation", "replace-one", "form"),
        ("size.kind", "exact", "form"),
        ("size.patients", -1, "none"),
        ("ledger.entry", 0, "none"),
        ("ledger.head", "3" * 63, "form"),
        ("protections", {"network": 1}, "held"),
        ("software", {"torch": 2}, "version"),
        ("issued_at", "2026-11-23T07:00:00", "UTC"),
        ("issued_at", "2026-11-23T07:00:00+02:00", "UTC"),
        ("issued_at", "yesterday", "UTC"),
        ("release.tensors", [["layer.weight", "float32"]], "name, dtype and shape"),
        ("release.tensors", [["b", "float32", [1]], ["a", "float32", [1]]], "name, dtype and shape"),
        ("budget", {"epsilon": 6.0, "delta": 1e-5}, "exactly the fields"),
        ("extra", 1, "exactly the fields"),
    ],
)
def test_what_does_not_follow_from_the_mechanism_is_refused_even_where_signed(
    path: str, value: object, match: str
) -> None:
    refused(forged(_set(path, value)), match=match)


def test_an_understated_epsilon_is_refused_by_a_millionth() -> None:
    epsilon = content(training())["privacy"]["epsilon"]
    refused(forged(_set("privacy.epsilon", epsilon - 1e-6)), match="states epsilon")


@pytest.mark.parametrize("order", ORDERS[::16])
def test_every_order_of_a_ledger_can_be_certified(order: int) -> None:
    for mechanism in ALL:
        assert verify(signed(mechanism, order=order))["privacy"]["order"] == order


def test_an_unresolved_plan_is_not_certified() -> None:
    with pytest.raises(UnsupportedMechanism, match="resolve"):
        content(training(), plan=plan_of(training(), mechanism=training()))


# -- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ALL)
def test_a_certificate_explains_risks_and_caveats(mechanism: Mechanism) -> None:
    text = " ".join(explain(verify(signed(mechanism))))
    assert "50 % sure that a patient is in the data" in text
    assert "which of two records a known patient has" in text
    assert "ε = 6" in text
    assert "without: user" in text
    for caveat in CAVEATS:
        assert caveat in text


def test_a_pure_certificate_speaks_of_no_delta_of_its_own() -> None:
    lines = explain(verify(signed(statistics())))
    assert any(line.endswith("cost a patient ε = 0.2.") for line in lines)


def test_a_certificate_tells_named_inputs_in_plain_words() -> None:
    lines = explain(verify(signed(training(inputs=("age", "bands(age, 18, 65)", "log(temperature)")))))
    told = " The model read: age; age in bands cut at 18 and 65; the logarithm of temperature."
    assert lines[1].endswith(told)
    assert not any("The model read" in line for line in explain(verify(signed(training()))))


def test_it_says_what_is_predicted_and_which_groups_are_answered() -> None:
    said = " ".join(explain(verify(signed(evaluation(**HAZARDS, subgroups=("cough",))))))
    assert "The model predicts age and influenza, with the loss discrete_hazards." in said
    assert "All patients, and the groups of cough, have a table each: they share its ε equally." in said
    assert "predicts" not in " ".join(explain(verify(signed(evaluation()))))


def test_a_certificate_states_cohort_and_groups_and_verifies_with_its_release() -> None:
    asked = statistics(
        queries=(Query("count"), Query("mean", ("age",)), Query("describe", ("cough",))),
        where="age >= 65",
        group_by=groupings_from("influenza"),
    )
    certificate = verify(signed(asked), public_key=PUBLIC, release=release_of(asked))
    assert certificate["mechanism"]["where"] == "age >= 65"
    assert ["mean/age", "float64", [2, 2]] in certificate["release"]["tensors"]
    text = " ".join(explain(certificate))
    assert "Only records counted for which age >= 65." in text
    assert "Answers are by influenza." in text
    with pytest.raises(CertificateRefused):  # another cohort is another declaration
        verify(forged_text(signed(asked), "age >= 65", "age >= 18"))


def forged_text(text: str, old: str, new: str) -> str:
    """A signed text with something else in it."""
    assert old in text
    return text.replace(old, new)
