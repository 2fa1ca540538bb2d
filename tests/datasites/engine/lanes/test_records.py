"""The kernel makes of every row what the schema makes of it, to the bit, and puts it into its own lane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.records import LaneRecords
from policies.errors import DatasiteError
from policies.schema.columns import Column
from policies.schema.schemas import Schema
from tests.datasites.engine.lanes.guarded import guarded

Matrix = npt.NDArray[np.float64]
CELLS = [
    0.0, -0.0, 0.5, 1.0, 1.5, 2.0, 2.5, -1.0, 7.25, 50.0, 109.9, 110.0, 111.0, -3.75, 1e-310, 1e300, -1e300, np.nan,
    np.inf, -np.inf, 3.0, 0.49999999999999994, 4503599627370497.5,
]  # fmt: skip

SCHEMA = Schema(
    name="t",
    population="p",
    patient="id",
    target="class",
    columns=(
        Column(name="a", kind="real", minimum=-3.75, maximum=7.25),
        Column(name="b", kind="real", minimum=0.1, maximum=0.3, missing=0.2, indicator=True),
        Column(name="c", kind="integer", minimum=0, maximum=110, missing=37.0, indicator=True),
        Column(name="d", kind="boolean"),
        Column(name="e", kind="boolean", missing=1.0, indicator=True),
        Column(name="f", kind="category", categories=("x", "y")),
        Column(name="g", kind="category", categories=("x", "y", "z", "w"), missing=2.0, indicator=True),
        Column(name="h", kind="date", minimum=0.0, maximum=211.0, origin="2025-10-01"),
        Column(name="class", kind="category", categories=("k", "l", "m")),
        Column(name="i", kind="real", minimum=-1e15, maximum=1e15, feature=False),
    ),
    sequences=(("pairs", (("a", "b"), ("i", "b"), ("a", "b"))),),
)
INPUTS: list[str | tuple[str, ...]] = ["features", "pairs", ("g",), ("i", "a", "f")]


@dataclass
class Places:
    """Of a program, where a record lies."""

    features: int
    record: int = 32
    own: int = 0
    label: int = 16

    def __post_init__(self) -> None:
        self.own = (self.features + 4) * 16


def matrix(rows: int = 200) -> Matrix:
    rng = np.random.default_rng(0)
    made = rng.uniform(-2, 5, (rows, 2 + len(SCHEMA.columns)))
    cells = rng.choice(CELLS, made.shape)
    return np.where(rng.random(made.shape) < 0.6, cells, made)


def placed(
    table: Matrix, rows: npt.NDArray[np.int64], inputs: str | tuple[str, ...], kernels: Kernels, *, at_end: bool = True
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Inputs and labels read back from lanes [blocks · 16, ...], and the memory of every block."""
    program = Places(len(SCHEMA.input_names(inputs)))
    blocks = -(-len(rows) // 16)
    memory = guarded(max(1, blocks) * program.own, np.float32, at_end=at_end)
    memory[:] = 5
    present = np.concatenate([np.full(len(rows), -1, np.int32), np.zeros(16, np.int32)])
    records = LaneRecords(SCHEMA, inputs, table, program, kernels)  # type: ignore[arg-type]
    assert records.place(rows, memory.ctypes.data, present.ctypes.data) == 0
    whole = memory[: blocks * program.own].reshape(blocks, -1, 16)
    found = whole[:, 2 : 2 + program.features].transpose(0, 2, 1).reshape(-1, program.features)
    return found, whole[:, 1].reshape(-1), whole


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("inputs", INPUTS, ids=str)
@pytest.mark.parametrize("count", [1, 15, 16, 17, 200])
def test_lanes_hold_what_the_schema_makes_of_a_row(
    count: int, inputs: str | tuple[str, ...], at_end: bool, kernels: Kernels
) -> None:
    table = matrix()
    rows = np.random.default_rng(1).permutation(len(table))[:count]
    found, labels, whole = placed(table, rows, inputs, kernels, at_end=at_end)
    with np.errstate(over="ignore"):
        wanted = SCHEMA.inputs(table[rows], inputs).reshape(count, -1)
    assert np.array_equal(found[:count].view(np.int32), wanted.view(np.int32))
    assert np.array_equal(labels[:count], SCHEMA.targets(table[rows]))
    assert (found[count:] == 0).all()
    assert (labels[count:] == 0).all()
    assert (whole[:, [0, -1]] == 5).all()  # the rest of a block's memory is not written


@pytest.mark.parametrize("inputs", INPUTS, ids=str)
def test_a_row_is_the_same_in_any_lane_and_company(inputs: str | tuple[str, ...], kernels: Kernels) -> None:
    table = matrix()
    alone, label, _ = placed(table, np.array([7]), inputs, kernels)
    for place in (0, 3, 15, 16, 30):
        rows = np.random.default_rng(place).integers(0, len(table), 31)
        rows[place] = 7
        found, labels, _ = placed(table, rows, inputs, kernels)
        assert np.array_equal(found[place].view(np.int32), alone[0].view(np.int32))
        assert labels[place] == label[0]


@pytest.mark.parametrize("row", [-1, 200, 2**40, -(2**63)])
def test_a_row_outside_of_the_table_is_refused_and_not_read(row: int, kernels: Kernels) -> None:
    table = matrix()
    edge = guarded(table.size, np.float64, at_end=True).reshape(table.shape)
    edge[:] = table
    with pytest.raises(DatasiteError, match="outside"):
        placed(edge, np.array([3, row, 5]), "features", kernels)


def test_matrices_and_programs_that_do_not_fit_are_refused(kernels: Kernels) -> None:
    table, program = matrix(), Places(len(SCHEMA.input_names()))
    for other in (table[:, 1:], table[:, ::-1], np.zeros(table.shape, np.float32), np.asfortranarray(table)):
        with pytest.raises(DatasiteError, match="private matrix"):
            LaneRecords(SCHEMA, "features", other, program, kernels)  # type: ignore[arg-type]
    with pytest.raises(DatasiteError, match="program's 3"):
        LaneRecords(SCHEMA, "features", table, Places(3), kernels)  # type: ignore[arg-type]
    records = LaneRecords(SCHEMA, "features", table, program, kernels)  # type: ignore[arg-type]
    with pytest.raises(DatasiteError, match="int64"):
        records.place(np.arange(3, dtype=np.int32), 0, 0)  # type: ignore[arg-type]


def test_a_table_without_rows_can_be_had(kernels: Kernels) -> None:
    program = Places(len(SCHEMA.input_names()))
    LaneRecords(SCHEMA, "features", matrix(0), program, kernels)  # type: ignore[arg-type]
