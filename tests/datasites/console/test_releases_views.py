"""What left, on its page: values with their error, noise and certificate, for every reader of the console."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from datasites.jobs.pool import Answer
from datasites.people.roles import CONSOLE, Role
from policies.privacy import accountant
from policies.privacy.mechanisms import Mechanism, Query, Statistics
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.release.plans import Plan, answer_shapes, release_shapes
from policies.release.tensors import Shapes, to_bytes
from tests.browser.desk import OWNER, VERSION, Desk
from tests.policies.plan_factories import evaluation, plan_of, regression, statistics, survival, training

REQUEST = "f" * 32
QUERIES = (Query("count"), Query("mean", ("temperature",)), Query("histogram", ("cough",)))
TENSORS = {
    "count": np.array([7997.0]),
    "mean/temperature": np.array([37.25]),
    "histogram/cough": np.array([1_205.0, -3.0]),
}


@pytest.fixture
def released(desk: Desk) -> Desk:
    """A desk from which statistics have left."""
    desk.ask(REQUEST, epsilon=0.3, queries=QUERIES)
    desk.release(REQUEST, TENSORS)
    return desk


def words(answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


@pytest.mark.parametrize("role", sorted(CONSOLE))
def test_a_release_shows_every_value_with_its_error(released: Desk, role: Role) -> None:
    page = words(released.browser(role).get(f"/releases/{REQUEST}/1"))
    assert "7,997" in page
    assert "37.25 degC" in page
    assert "Without noise, 95 % sure: from" in page
    assert re.search(r"no 1,205 1,\d\d\d(\.\d+)? 1,2\d\d", page)  # a cell with its interval
    assert "Laplace noise. Each of 3 statistics has ε = 0.1 of the 0.3 in all" in page
    assert "0.30" in page  # ε of all rounds
    assert "Plan digest" in page


def test_releases_lead_to_what_left(released: Desk) -> None:
    owner = released.browser(Role.OWNER)
    page = owner.get("/releases").text
    assert f'href="/releases/{REQUEST}/1"' in page
    assert "3 tensors" in page
    assert "count, histogram/cough, mean/temperature" in page
    assert f'href="/releases/{REQUEST}/1"' in owner.get(f"/requests/{REQUEST}").text


def test_a_certificate_can_be_kept(released: Desk) -> None:
    answer = released.browser(Role.AUDITOR).get(f"/releases/{REQUEST}/1/certificate")
    assert json.loads(answer.text)["request"] == REQUEST
    assert answer.headers["content-disposition"] == 'attachment; filename="certificate-ffffffff-round-1.json"'


@pytest.mark.parametrize("path", [f"/releases/{REQUEST}/2", f"/releases/{'e' * 32}/1", f"/releases/{REQUEST}/99999999"])
def test_a_release_that_is_not_there_is_not_found(released: Desk, path: str) -> None:
    assert released.browser(Role.OWNER).get(path).status_code == 404


PARTIES = (Party("General", "a" * 64, 400), Party("Rural", "b" * 64, 300), Party("City", "c" * 64, 200))
SECURE = SecureAggregation(threshold=2, hospitals=PARTIES)


@pytest.mark.parametrize(
    ("declared", "listed"),
    [
        (statistics(), True),
        (survival(), True),
        (evaluation(), True),
        (training(), False),
        (regression(), False),
        (evaluation(secure_aggregation=SECURE), False),
        (training(secure_aggregation=SECURE), False),
        (regression(secure_aggregation=SECURE), False),
    ],
    ids=[
        "statistics",
        "survival",
        "evaluation",
        "training",
        "regression",
        "masked evaluation",
        "masked training",
        "masked regression",
    ],
)
def test_every_kind_of_release_has_a_page(
    desk: Desk, declared: Mechanism, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What means nothing number by number is shown by its figures, a tensor of one number too."""
    plan = plan_of(declared, version=VERSION)
    published = desk.datasite.planner.published(version=VERSION)
    left = _of(release_shapes(plan, published.schema))
    if getattr(declared, "secure_aggregation", None) is not None:  # the protocol is tested elsewhere
        monkeypatch.setattr(desk.datasite.rounds.secure, "masked", lambda *_: left)
    ledger = desk.datasite.ledger
    charge = accountant.charge_for(plan.mechanism, ledger.budgets.balance("patients").order)
    run = ledger.charge_now("patients", charge, dataset="flu", version=VERSION, actor=OWNER, what=plan.function)
    answered = to_bytes(_of(answer_shapes(plan, published.schema)))
    desk.datasite.rounds.settle(run, plan, published, OWNER, Answer({"event": "done"}, answered, {}))
    page = words(desk.browser(Role.OWNER).get(f"/releases/{run.request}/1"))
    assert ("nothing one by one" in page) is not listed
    for name, tensor in left.items():
        assert (
            f"Tensor {name}" in page if listed else re.search(rf"{name} {tensor.dtype} .*? {tensor.size:,} 3 3", page)
        )


def _of(shapes: Shapes) -> dict[str, np.ndarray[Any, Any]]:
    """A 3 for every number."""
    return {name: np.full(shape, 3, dtype) for name, (shape, dtype) in shapes.items()}


def test_the_datasites_own_count_has_a_page_too(desk: Desk) -> None:
    """Its request is nobody's, so it leads to no request's page."""
    mechanism = Statistics(queries=(Query("count"),), epsilon=0.1)
    plan = Plan(
        function="published_patients", mechanism=mechanism, model=None, graph=None, source_sha256="0" * 64,
        dataset="flu", version=VERSION, declared=mechanism,
    )  # fmt: skip
    ledger = desk.datasite.ledger
    charge = accountant.charge_for(mechanism, ledger.budgets.balance("patients").order)
    run = ledger.charge_now("patients", charge, dataset="flu", version=VERSION, actor=OWNER, what=plan.function)
    published = desk.datasite.planner.published(version=VERSION)
    answer = Answer({"event": "done"}, to_bytes({"count": np.array([403.0])}), {})
    desk.datasite.rounds.settle(run, plan, published, OWNER, answer)
    owner = desk.browser(Role.OWNER)
    page = owner.get(f"/releases/{run.request}/1")
    assert "403" in words(page)
    assert f"/requests/{run.request}" not in page.text
    assert owner.get(f"/releases/{run.request}/1/certificate").status_code == 200
