"""What a request for statistics asks of a schema: shapes that are public, groups that are disjoint, and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from policies.errors import UnsupportedMechanism
from policies.privacy.grouping import Grouping, as_literal, groupings_from
from policies.privacy.mechanisms import Query, Statistics, as_dict, mechanism_from
from policies.schema.columns import Column
from policies.schema.questions import (
    answer_shape,
    cell_labels,
    check_statistics,
    count_sensitivity,
    groups_of,
    scope_sentences,
)
from policies.schema.schemas import Schema
from tests.policies.schema.test_schemas import FLU

COLUMN = ("temperature_1",)  # may be missing


def asked(*queries: Query, **changes: object) -> Statistics:
    return Statistics(**{"queries": queries or (Query("count"),), "epsilon": 1.0, **changes})  # type: ignore[arg-type]


def shape(query: Query, **changes: object) -> tuple[int, ...]:
    return answer_shape(query, asked(query, **changes), FLU)


def test_statistic_shapes_are_public() -> None:
    assert shape(Query("count")) == (1,)
    assert shape(Query("mean", ("age",))) == (1,)
    assert shape(Query("quantiles", ("age",), (0.25, 0.5))) == (2,)
    assert shape(Query("histogram", ("age",))) == (10,)
    assert shape(Query("crosstab", ("ward", "influenza"))) == (3, 2)
    assert shape(Query("missing", ("age",))) == (2,)
    assert shape(Query("describe", ("age",))) == (10,)
    assert shape(Query("describe", COLUMN)) == (11,)  # and what is missing


def test_what_is_divided_by_a_number_that_is_not_public_has_that_number_last() -> None:
    assert shape(Query("sum", COLUMN)) == (1,)
    assert shape(Query("mean", COLUMN)) == (2,)
    assert shape(Query("variance", COLUMN)) == (2,)
    assert shape(Query("quantiles", COLUMN, (0.25, 0.5))) == (3,)
    assert shape(Query("mean", ("age",)), where="age >= 65") == (2,)


def test_groups_come_first() -> None:
    by = groupings_from({"ward": [], "age": [18, 65]})
    assert shape(Query("count"), group_by=by) == (9,)
    assert shape(Query("sum", COLUMN), group_by=by) == (9,)
    assert shape(Query("mean", ("age",)), group_by=by) == (9, 2)
    assert shape(Query("quantiles", ("age",), (0.5,)), group_by=by) == (9, 2)
    assert shape(Query("missing", ("age",)), group_by=by) == (9, 2)
    assert shape(Query("crosstab", ("ward", "influenza")), group_by=by) == (9, 3, 2)
    groups = groups_of(asked(group_by=by), FLU)
    assert groups is not None
    assert groups.names[:4] == (
        ("emergency", "below 18 years"),
        ("emergency", "18 to below 65 years"),
        ("emergency", "from 65 years"),
        ("general", "below 18 years"),
    )


def test_a_record_is_in_one_group_and_what_is_missing_in_one_of_its_own() -> None:
    mechanism = asked(group_by=groupings_from({"temperature_1": [37.5], "influenza": []}))
    groups = groups_of(mechanism, FLU)
    assert groups is not None
    assert groups.labels == (("below 37.5 °C", "from 37.5 °C", "missing"), ("no", "yes"))
    rows = np.zeros((4, 2 + len(FLU.columns)))
    rows[:, FLU.matrix_columns.index("temperature_1")] = [37.4, 37.5, np.nan, 42]
    rows[:, FLU.matrix_columns.index("influenza")] = [0, 1, 1, 0]
    assert groups.index(rows).tolist() == [0, 3, 5, 2]


def test_a_category_called_missing_is_not_taken_for_what_is() -> None:
    column = Column(name="a", kind="category", categories=("missing", "other"), missing=0.0)
    schema = Schema(name="t", population="p", patient="pid", columns=(column,))
    query = Query("describe", ("a",))
    assert cell_labels(query, asked(query), schema) == (("missing", "other", "no value"),)


def test_dates_are_grouped_between_dates() -> None:
    mechanism = asked(group_by=groupings_from({"admitted": ["2025-11-01", "2026-01-01"]}))
    groups = groups_of(mechanism, FLU)
    assert groups is not None
    assert groups.labels == (("before 2025-11-01", "2025-11-01 to below 2026-01-01", "from 2026-01-01"),)


def test_times_are_grouped_between_times() -> None:
    column = Column(name="seen", kind="datetime", truncate="hour", minimum=0, maximum=480, origin="2025-10-01T06:00:00")
    schema = Schema(name="t", population="p", patient="pid", columns=(column,))
    mechanism = asked(group_by=groupings_from({"seen": ["2025-10-02", "2025-10-05 12:00"]}))
    groups = groups_of(mechanism, schema)
    assert groups is not None
    first, second = "2025-10-02 00:00", "2025-10-05 12:00"
    assert groups.labels == ((f"before {first}", f"{first} to below {second}", f"from {second}"),)
    assert groups.index(np.array([[1, 0, 17], [2, 0, 18], [3, 0, 102]])).tolist() == [0, 1, 2]
    for edge in (5, "soon", "2025-10-02 00:30"):
        with pytest.raises(UnsupportedMechanism, match="not a whole hour as '2025-10-01 14:00'"):
            groups_of(asked(group_by=groupings_from({"seen": [edge]})), schema)
    with pytest.raises(UnsupportedMechanism, match="has the edge 2024-10-02 00:00, outside"):
        groups_of(asked(group_by=groupings_from({"seen": ["2024-10-02"]})), schema)


@pytest.mark.parametrize(("most", "moved"), [(1, 1), (2, 2), (3, 3), (7, 3)])
def test_a_patient_moves_counts_of_groups_by_min_of_k_and_groups(most: int, moved: int) -> None:
    assert count_sensitivity(asked(records_per_patient=most, group_by=(Grouping("ward"),)), FLU) == moved
    assert count_sensitivity(asked(records_per_patient=most), FLU) == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"age": []}, "say where its bands begin"),
        ("age", "say where its bands begin"),
        ({"ward": [1]}, "takes no edges"),
        ({"age": [0]}, "outside"),
        ({"age": [65, 18]}, "do not increase"),
        ({"age": [18, 18]}, "do not increase"),
        ({"age": [200]}, "outside"),
        ({"age": ["2025-01-01"]}, "not a number"),
        ({"age": [float("nan")]}, "beyond"),
        ({"age": [True]}, "neither a number nor a date"),
        ({"age": list(range(1, 60))}, "more than 50 edges"),
        ({"admitted": [5]}, "not a date"),
        ({"admitted": ["soon"]}, "not a date"),
        ("patient_id", "is not a column"),
        ("held_out", "is not a column"),
        (["ward", "ward"], "each once"),
        (["ward", "influenza", "a", "b"], "at most 3"),
        (7, "is not understood"),
        ({"age": 5}, "is not understood"),
        ({"admitted": ["2025-11-01", 5]}, "neither numbers nor dates"),
    ],
)
def test_groups_that_make_no_sense_are_refused_with_what_may_be_written(value: object, said: str) -> None:
    with pytest.raises(UnsupportedMechanism, match=said):
        check_statistics(asked(group_by=groupings_from(value)), FLU)


def test_too_many_groups_and_too_many_cells_are_refused() -> None:
    columns = tuple(Column(name=name, kind="real", minimum=0, maximum=1) for name in ("a", "b"))
    schema = Schema(name="t", population="p", patient="pid", columns=columns)
    pair = Query("crosstab", ("a", "b"))
    answer_shape(pair, asked(pair, bins=1000), schema)
    with pytest.raises(UnsupportedMechanism, match="2000000 cells"):
        answer_shape(pair, asked(pair, bins=1000, group_by=groupings_from({"a": [0.5]})), schema)
    edges = [place / 50 for place in range(1, 50)]
    with pytest.raises(UnsupportedMechanism, match="2,500 groups, above 1,000"):
        answer_shape(Query("count"), asked(group_by=groupings_from({"a": edges, "b": edges})), schema)


@pytest.mark.parametrize(
    "value", ["ward", ["ward", "influenza"], {"age": [18, 65.5], "ward": []}, {"admitted": ["2025-11-01"]}]
)
def test_groups_are_what_they_were_after_writing_and_reading(value: object) -> None:
    groupings = groupings_from(value)
    assert as_literal(groupings) == value
    mechanism = asked(group_by=groupings, where="age >= 65")
    assert mechanism_from(json.loads(json.dumps(as_dict(mechanism)))) == mechanism


def test_a_request_without_conditions_and_groups_is_written_as_ever() -> None:
    assert as_dict(asked()) == {
        "kind": "statistics",
        "queries": ({"name": "count", "columns": (), "ranks": ()},),
        "epsilon": 1.0,
        "records_per_patient": 1,
        "bins": 10,
        "rounds": 1,
    }


def test_whose_records_count_and_by_what_groups_is_said_in_words() -> None:
    assert scope_sentences(asked(), FLU) == []
    said = scope_sentences(asked(where="age >= 65", group_by=groupings_from("ward")), FLU)
    assert said == [
        "Only records count for which age is at least 65 years. A condition does not hold where its value is missing.",
        "Each is answered apart for 3 groups, by ward.",
    ]
