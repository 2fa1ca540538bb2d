"""A DataFrame or array of one's own gets a schema whose bounds are declared, and the inputs that the engine gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datasites.vault.encoding import encode
from datasites.vault.tables import read_table
from policies.errors import InvalidRequest
from researcher.local_tables import LocalTable, local_table

FRAME = pd.DataFrame(
    {
        "age (years)": [30, 40, 50, 60],
        "2nd": [0.5, 1.5, 2.5, 3.5],
        "sick": [True, False, True, False],
        "ward": pd.Categorical(["a", "b", "c", "a"], categories=["a", "b", "c"]),
        "out": [0, 1, 1, 0],
    }
)
BOUNDS = {"age (years)": (0, 100), "2nd": (0, 4)}


def table(data: Any = FRAME, **options: Any) -> LocalTable:
    given = {"target": None, "classes": lambda width: 2, "bounds": BOUNDS, "holdout": 0.0}
    return local_table(data, name="table", population="records", **{**given, **options})


def test_columns_have_safe_names_and_declared_bounds() -> None:
    schema = table().schema
    assert [column.name for column in schema.columns] == ["age_years", "c1_2nd", "sick", "ward", "out"]
    assert (schema.column("age_years").minimum, schema.column("age_years").maximum) == (0, 100)
    assert [schema.column(name).kind for name in ("sick", "ward", "out")] == ["boolean", "category", "boolean"]


def test_inputs_are_those_of_the_published_table(tmp_path: Path) -> None:
    """What predict() gives the model is, number for number, what the datasite's own reader gives the engine."""
    made = table()
    (tmp_path / "rows.csv").write_text(made.csv())
    published = encode(read_table(tmp_path / "rows.csv"), made.schema, population_secret=b"0123456789abcdef")
    expected = made.schema.inputs(published)
    inputs = made.inputs(FRAME)
    assert sorted(map(tuple, inputs.tolist())) == sorted(map(tuple, expected.tolist()))
    # 30 of 0..100 is -0.4, 0.5 of 0..4 is -0.75; a boolean is 0 or 1; three labels are three numbers.
    np.testing.assert_allclose(inputs[0], [-0.4, -0.75, 1, 1, 0, 0], atol=1e-6)


def test_the_model_is_asked_for_its_classes_by_the_width_of_its_inputs() -> None:
    widths: list[int] = []
    table(classes=lambda width: widths.append(width) or 2)
    assert widths == [6]


@pytest.mark.parametrize(
    "data",
    [
        (FRAME[["2nd"]], FRAME["out"]),
        (FRAME[["2nd"]].to_numpy(), FRAME["out"].to_numpy()),
        FRAME[["2nd", "out"]].to_numpy(),
    ],
)
def test_pairs_and_arrays_are_tables(data: Any) -> None:
    made = table(data, bounds=(0, 4))
    np.testing.assert_allclose(made.inputs(FRAME[["2nd"]].to_numpy())[:, 0], [-0.75, -0.25, 0.25, 0.75])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bounds": None}, "bounds={'age (years)': (30, 60), '2nd': (0.5, 3.5)}"),
        ({"bounds": {"age (years)": (0, 100)}}, "bounds of '2nd' are not declared"),
        ({"bounds": {**BOUNDS, "height": (0, 1)}}, "bounds names height, which the table has not"),
        ({"bounds": {**BOUNDS, "2nd": (4, 0)}}, "Write the smaller one first"),
        ({"target": "height"}, "target_column='height' is no column"),
        ({"classes": lambda width: 3, "target": "2nd", "bounds": (0, 100)}, "is not made of whole numbers from 0 to 2"),
        ({"data": FRAME.assign(ward=["a", "b", "c", "d"])}, "pandas.CategoricalDtype"),
        ({"data": FRAME["out"]}, "is no table"),
        ({"data": FRAME[:1]}, "1 rows"),
    ],
)
def test_what_is_not_declared_is_asked_for(options: dict[str, Any], said: str) -> None:
    data = options.pop("data", FRAME)
    with pytest.raises(InvalidRequest) as refused:
        table(data, **options)
    assert said in str(refused.value)


def test_rows_without_a_column_of_the_training_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="The rows lack 2nd"):
        table().inputs(FRAME.drop(columns="2nd"))
