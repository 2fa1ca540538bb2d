"""A survival table's public grid, and the one cell that every record falls into."""

import numpy as np
import pytest

from policies.errors import UnsupportedMechanism
from policies.privacy.survival import KaplanMeier
from policies.schema.columns import Column
from policies.schema.schemas import Schema
from policies.schema.survival_cells import cells_of, survival_groups, survival_labels, survival_shape, time_grid

SCHEMA = Schema(
    name="t",
    population="p",
    patient="id",
    columns=(
        Column(name="week", kind="integer", minimum=0, maximum=52, unit="weeks"),
        Column(name="days", kind="real", minimum=0, maximum=1000, unit="days"),
        Column(name="offset", kind="real", minimum=-1, maximum=1),
        Column(name="relapse", kind="boolean"),
        Column(name="status", kind="category", categories=("alive", "dead")),
        Column(name="ward", kind="category", categories=("a", "b", "c")),
    ),
)
ROWS = {"week": 2, "days": 3, "offset": 4, "relapse": 5, "status": 6, "ward": 7}


def declared(**changes: object) -> KaplanMeier:
    return KaplanMeier(**{"time": "week", "event": "relapse", "epsilon": 1.0, **changes})  # type: ignore[arg-type]


def record(**values: float) -> np.ndarray:
    row = np.zeros((1, 8))
    for name, value in values.items():
        row[0, ROWS[name]] = value
    return row


def test_whole_numbers_that_are_few_get_an_interval_each() -> None:
    grid = time_grid(declared(bins=53), SCHEMA)
    assert grid.exact
    assert grid.ends == tuple(range(53))
    assert survival_shape(declared(bins=53), SCHEMA) == (1, 2 * 53 + 1)
    assert not time_grid(declared(bins=52), SCHEMA).exact


def test_coarse_intervals_of_whole_numbers_end_at_whole_numbers() -> None:
    assert time_grid(declared(bins=5), SCHEMA).ends == (10, 20, 31, 41, 52)
    assert time_grid(declared(bins=5, until=10), SCHEMA).ends == (2, 4, 6, 8, 10)


@pytest.mark.parametrize(
    ("week", "relapse", "cell"),
    [
        (0, 1, 0), (10, 1, 0), (11, 1, 1), (20, 1, 1), (52, 1, 4),  # an interval's end is its own
        (0, 0, 5), (10, 0, 5), (11, 0, 6), (51, 0, 9), (52, 0, 10),  # who is seen to the end at risk all the way
    ],
)  # fmt: skip
def test_a_record_falls_into_the_cell_of_its_time_and_event(week: float, relapse: float, cell: int) -> None:
    assert cells_of(declared(bins=5), SCHEMA, record(week=week, relapse=relapse)).tolist() == [cell]


@pytest.mark.parametrize(
    ("days", "relapse", "cell"), [(400, 0, 8), (400, 1, 3), (401, 1, 8), (401, 0, 8), (1000, 1, 8)]
)
def test_who_is_followed_beyond_the_grid_is_one_cell_whatever_comes_after(
    days: float, relapse: float, cell: int
) -> None:
    asked = declared(time="days", bins=4, until=400)
    assert cells_of(asked, SCHEMA, record(days=days, relapse=relapse)).tolist() == [cell]


def test_every_record_falls_inside_the_table_whatever_stands_in_it() -> None:
    rows = np.random.default_rng(0).uniform(-2000, 2000, (500, 8))
    rows[::7, 2:] = np.nan
    rows[::11, 2:] = np.inf
    for asked in (declared(by="ward"), declared(time="days", event="status", by="ward", until=1.5)):
        cells = cells_of(asked, SCHEMA, rows)
        assert cells.min() >= 0
        assert cells.max() < np.prod(survival_shape(asked, SCHEMA))


def test_groups_are_rows_of_the_table() -> None:
    asked = declared(bins=5, by="ward")
    assert survival_groups(asked, SCHEMA) == ("a", "b", "c")
    assert cells_of(asked, SCHEMA, record(week=1, relapse=1, ward=2)).tolist() == [2 * 11]
    assert len(survival_labels(asked, SCHEMA)) == 11
    assert survival_labels(asked, SCHEMA)[-1] == "followed to 52 weeks"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"time": "ward"}, "time='ward' is category"),
        ({"time": "offset"}, "minimum = 0 or more"),
        ({"event": "days"}, "event='days' is real. Name a boolean"),
        ({"event": "ward"}, "event='ward' is category"),
        ({"by": "days"}, "by='days' is real. Name a boolean or a category"),
        ({"until": 53}, "up to 52"),
        ({"until": 10.5}, "not whole where they are"),
        ({"time": "nobody"}, "'nobody' is not a column"),
    ],
)
def test_what_cannot_be_asked_names_the_column_and_what_to_write(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UnsupportedMechanism, match=says):
        survival_shape(declared(**changes), SCHEMA)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epsilon": 0}, r"epsilon=0 is outside \[1e-06, 100\]"),
        ({"bins": 1}, r"bins=1 is outside \[2, 1000\]"),
        ({"until": float("nan")}, "until=nan is not a number"),
        ({"time": 3}, "time='3' is not a column's name"),
        ({"by": "relapse"}, "should differ"),
        ({"rounds": 0}, "rounds=0 is outside"),
    ],
)
def test_a_declaration_out_of_bounds_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UnsupportedMechanism, match=says):
        declared(**changes)
