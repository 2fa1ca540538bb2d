"""From a source to a plan, with a stand-in for the confined exporter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datasites.jobs.pool import Answer
from datasites.review.planning import KEPT_PLANS, Engine, Planner
from policies.errors import GraphRefused, InspectionFailed, InvalidRequest, Unavailable, UnsupportedMechanism
from policies.graph.engines import LONGEST_REASON
from policies.graph.exporter import export_source
from policies.release.model_outputs import check_outputs
from policies.release.plans import Published, plan_from
from policies.source.inspection import inspect_source
from tests.browser.desk import VERSION, Desk
from tests.factories import statistics_source, training_source
from tests.policies.plan_factories import LINEAR, SCHEMA, evaluation, plan_of, training

NO_FRAMES: dict[str, bool] = {}


class Exporter:
    """Answers each job with the same message, and counts them."""

    def __init__(self, message: dict[str, Any]) -> None:
        self.message, self.jobs = message, []  # type: tuple[dict[str, Any], list[dict[str, Any]]]

    def run(self, kind: str, job: dict[str, Any], **_: Any) -> Answer:
        assert kind == "exporter"
        self.jobs.append(job)
        return Answer(self.message, b"", NO_FRAMES)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    yield desk
    desk.close()


def planner_of(desk: Desk, message: dict[str, Any]) -> tuple[Planner, Exporter, Published]:
    exporter = Exporter(message)
    planner = Planner(desk.datasite.ledger, exporter)  # type: ignore[arg-type]
    return planner, exporter, planner.published(version=VERSION)


def test_statistics_are_planned_without_an_exporter(desk: Desk) -> None:
    planner, exporter, published = planner_of(desk, {})
    plan = planner.plan(statistics_source(), published)
    assert (plan.function, plan.dataset, plan.version, plan.graph) == ("flu_counts", "flu", VERSION, None)
    assert plan.declared == inspect_source(statistics_source()).mechanism
    assert exporter.jobs == []


def test_a_column_that_the_schema_lacks_is_refused(desk: Desk) -> None:
    planner, _, published = planner_of(desk, {})
    with pytest.raises(UnsupportedMechanism, match="weight"):
        planner.plan(statistics_source().replace("temperature", "weight"), published)


@pytest.mark.parametrize(
    ("term", "says"),
    [
        ("log(influenza)", "the target, the patient and held_out are none"),
        ("square(held_out)", "the target, the patient and held_out are none"),
        ("temperature * patient", "the target, the patient and held_out are none"),
        ("exp(age)", "'exp' is not a function"),
        ("(" * 15, "cannot be read"),
        ("bands(age" + ", 1" * 300 + ")", "more than 50 constants"),
        ("bands(age, 1e999)", "is not a constant"),
        ("spline(age, 30) * spline(temperature, 30) * bands(age, 18, 65)", "2700 inputs, above 1000"),
    ],
)
def test_a_term_that_is_none_is_refused_before_any_export(desk: Desk, term: str, says: str) -> None:
    planner, exporter, published = planner_of(desk, {})
    source = training_source().replace("learning_rate=1.0", f"learning_rate=1.0, inputs=({term!r},)")
    with pytest.raises(UnsupportedMechanism) as refused:
        planner.plan(source, published)
    assert says in str(refused.value)
    assert exporter.jobs == []


def test_a_refused_text_reaches_no_exporter(desk: Desk) -> None:
    planner, exporter, published = planner_of(desk, {})
    with pytest.raises(InspectionFailed):
        planner.plan("import os\n", published)
    assert exporter.jobs == []


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"event": "failed", "public": "forward returns a list."}, "forward returns a list"),
        ({"event": "failed", "output": "Traceback: patient 7"}, "could not be exported"),
        ({"event": "done", "graph": None}, "graph"),
        ({"event": "done", "graph": {"parameters": []}}, "graph"),
    ],
)
def test_what_the_exporter_says_is_a_graph_or_a_refusal_in_public_words(
    desk: Desk, message: dict[str, Any], says: str
) -> None:
    planner, exporter, published = planner_of(desk, message)
    with pytest.raises(GraphRefused, match=says) as refused:
        planner.plan(training_source(), published)
    assert "patient 7" not in refused.value.public_message
    assert exporter.jobs[0]["input_shape"] == [4]  # of the schema, whatever the graph says


def test_a_graph_that_reads_other_rows_than_the_schema_has_is_refused(desk: Desk) -> None:
    planner, _, published = planner_of(desk, {"event": "done", "graph": LINEAR.as_dict()})
    with pytest.raises(GraphRefused, match=r"reads \(3,\) and the schema gives \(4,\)"):
        planner.plan(training_source(), published)


def test_a_source_is_planned_once_per_version_and_the_last_plans_are_kept(desk: Desk) -> None:
    planner, _, published = planner_of(desk, {})
    first = planner.plan(statistics_source(), published)
    assert planner.plan(statistics_source(), published) is first
    for number in range(KEPT_PLANS):
        planner.plan(statistics_source(f"counts_{number}"), published)
    assert planner.plan(statistics_source(), published) is not first
    assert len(planner._plans) == KEPT_PLANS


def test_no_dataset_of_that_name_is_said(desk: Desk) -> None:
    planner, _, _ = planner_of(desk, {})
    with pytest.raises(InvalidRequest, match="is published here"):
        planner.published(name="heart")


def test_subgroups_that_the_schema_has_not_are_refused_when_a_plan_is_made() -> None:
    check_outputs(LINEAR, evaluation(loss="cross_entropy", subgroups=("cough", ("age", 18, 65))), SCHEMA)
    for subgroup, says in (("patient", "is not a column"), ("age", "write its bands' cuts"), (("age", 90), "has cuts")):
        with pytest.raises(UnsupportedMechanism, match=says):
            check_outputs(LINEAR, evaluation(loss="cross_entropy", subgroups=(subgroup,)), SCHEMA)


def test_a_models_output_fits_its_loss_and_the_targets_classes() -> None:
    check_outputs(LINEAR, training(loss="cross_entropy"), SCHEMA)  # two numbers for two classes
    with pytest.raises(GraphRefused, match=r"answers 2 number\(s\) for a record; binary_cross_entropy wants 1"):
        check_outputs(LINEAR, training(loss="binary_cross_entropy"), SCHEMA)
    check_outputs(LINEAR, evaluation(loss="cross_entropy"), SCHEMA)


def test_a_model_is_exported_once_for_its_training_and_its_scores(desk: Desk) -> None:
    """Of one researcher: how soon an answer comes tells nobody what others have asked."""
    inspection = inspect_source(training_source())
    graph, _ = export_source(str(inspection.model_source), str(inspection.model), (4,))
    planner, exporter, published = planner_of(desk, {"event": "done", "graph": graph.as_dict()})
    train = training_source()
    score = train.replace("dp_sgd", "evaluate").split("\n    return ")[0] + (
        "\n    return evaluate(FluPredictor, records, weights, round, loss='binary_cross_entropy', epsilon=0.3)\n"
    )
    plans = [planner.plan(source, published, researcher="ada@university.example") for source in (train, score)]
    assert plans[0].graph == plans[1].graph
    assert len(exporter.jobs) == 1
    planner.plan(training_source("other_name"), published, researcher="ada@university.example")
    assert len(exporter.jobs) == 1
    planner.plan(training_source("third_name"), published, researcher="eve@university.example")
    assert len(exporter.jobs) == 2
    planner.plan(train.replace("8", "9"), published, researcher="ada@university.example")
    assert len(exporter.jobs) == 3


class Lowers(Exporter):
    """A runner that says which engine it would take, or ends."""

    def run(self, kind: str, job: dict[str, Any], **_: Any) -> Answer:
        self.jobs.append({"kind": kind, **job})
        if not self.message:
            raise Unavailable("The runner ended.")
        return Answer(self.message, b"", NO_FRAMES)


@pytest.mark.parametrize(
    ("said", "engine"),
    [
        ({"lanes": True, "slower": ""}, Engine(True, "")),
        ({"lanes": True, "slower": "", "once": True}, Engine(True, "", once=True)),
        ({"lanes": True, "slower": "", "once": "yes"}, Engine(True, "")),
        ({"lanes": False, "slower": "It uses sort.\x1b[2J"}, Engine(False, "It uses sort.<U+001B>[2J")),
        ({"lanes": False, "slower": "x" * 900}, Engine(False, "x" * LONGEST_REASON)),
        ({"lanes": "yes", "slower": ""}, None),
        ({"lanes": True, "slower": 7}, None),
        ({}, None),
    ],
)
def test_the_runner_says_which_engine_a_plan_gets(desk: Desk, said: dict[str, Any], engine: Engine | None) -> None:
    runner = Lowers(said)
    planner = Planner(desk.datasite.ledger, runner)  # type: ignore[arg-type]
    published = planner.published(version=VERSION)
    plan = plan_of(training())
    assert planner.engine(plan, published, researcher="ada@lab.example") == engine
    assert [(job["kind"], job["job"]) for job in runner.jobs] == [("runner", "engine")]
    assert runner.jobs[0]["plan"] == plan.as_dict()
    assert planner.engine(plan, published) == engine
    assert len(runner.jobs) == (1 if engine else 2)  # what is known is not asked again


def test_statistics_have_no_engine(desk: Desk) -> None:
    planner, exporter, published = planner_of(desk, {})
    assert planner.engine(planner.plan(statistics_source(), published), published) is None
    assert exporter.jobs == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("where='patient == 7'", "stands for the patient"),
        ("where='held_out'", "stands for the patient or the hold-out"),
        ("where='\u0430ge >= 65'", "U\\+0430"),
        ("where='age >= 500'", "public bounds 0 to 100"),
        ("where=\"cough == 'yes'\"", "Compare it with yes or no"),
        ("group_by='patient'", "is not a column"),
        ("group_by='held_out'", "is not a column"),
        ("group_by='age'", "say where its bands begin"),
        ("missing='patient'", "is not a column"),
        ("describe=['age', 'held_out']", "is not a column"),
    ],
)
def test_a_condition_or_group_that_the_schema_does_not_know_is_refused(desk: Desk, asked: str, said: str) -> None:
    planner, _, published = planner_of(desk, {})
    with pytest.raises(UnsupportedMechanism, match=said):
        planner.plan(statistics_source().replace("count=True", f"count=True, {asked}"), published)


def test_a_condition_and_groups_are_part_of_the_plan_and_its_digest(desk: Desk) -> None:
    planner, _, published = planner_of(desk, {})
    plain = planner.plan(statistics_source(), published)
    asked = "count=True, where='age >= 65', group_by='cough'"
    cohort = planner.plan(statistics_source().replace("count=True", asked), published)
    assert cohort.digest != plain.digest
    assert cohort.as_dict()["mechanism"]["where"] == "age >= 65"
    written = json.loads(json.dumps(cohort.as_dict()))
    assert written["mechanism"]["group_by"] == [{"column": "cough", "edges": []}]
    assert plan_from(written) == cohort
    assert not {"where", "group_by"} & set(plain.as_dict()["mechanism"])


def test_an_exporters_graph_has_the_parts_that_the_request_declares(desk: Desk) -> None:
    """Who owns the exporter's answer could have a frozen part released, or a head leave."""
    source = training_source().replace(
        "epsilon=2.0,", f"epsilon=2.0, local=('layer2.*',), public_weights='{'a' * 64}',"
    )
    inspection = inspect_source(source)
    assert inspection.model_source is not None
    graphs = [
        export_source(inspection.model_source, "FluPredictor", (4,), local=local)[0] for local in ((), ("layer2.*",))
    ]
    planner, _, published = planner_of(desk, {"event": "done", "graph": graphs[0].as_dict()})
    with pytest.raises(GraphRefused, match="in another part than the request declares"):
        planner.plan(source, published)
    planner, exporter, published = planner_of(desk, {"event": "done", "graph": graphs[1].as_dict()})
    assert planner.plan(source, published).graph == graphs[1]
    assert exporter.jobs[0]["local"] == ["layer2.*"]
