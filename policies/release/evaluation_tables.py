"""The tables that an evaluation releases: names, shapes, what each cell stands for and the noise in it. All public.

Both sides read them here: the engine counts into these cells, and the researcher makes figures of them.

    scores                 all held-out patients
    errors                 of a time: squared errors of the predicted survival, beside `scores`
    scores/sex, ...        the same by group of a declared column, with a first axis of groups
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.errors import UnsupportedMechanism
from policies.privacy.mechanisms import Evaluation
from policies.privacy.outcomes import Outcome
from policies.privacy.shared_mechanisms import shared_draws
from policies.privacy.shared_noise import laplace_variance
from policies.privacy.shared_sums import check_fits, grid_of
from policies.privacy.subgroups import Subgroup, column_of, cuts_of
from policies.schema.columns import Column, FloatArray, IntArray
from policies.schema.schemas import Schema

SCORES, ERRORS = "scores", "errors"
ERROR_UNITS = 64
"""Of a squared error between 0 and 1: they are added up as whole numbers of as many parts."""
MOST_TABLE_CELLS = 1_000_000
MISSING = "missing"


@dataclass(frozen=True)
class EvaluationTable:
    """One tensor of an evaluation's release.

    Args:
      name: of the tensor.
      kind: `"scores"` or `"errors"`.
      shape: of the tensor, with a first axis of groups where `subgroup` is not None.
      epsilon: every cell has discrete Laplace noise of this ε in steps of `step`.
      step: 1 where patients are counted, a part of a squared error where errors are added up.
      groups: labels of the first axis.
      hospitals: that are added up in each cell, each with its own noise, or with its part of one.
      parts: of which the whole noise is made, where hospitals share one; 0 where each has its own.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    epsilon: float
    step: float = 1.0
    subgroup: Subgroup | None = None
    groups: tuple[str, ...] = ()
    hospitals: int = 1
    parts: int = 0

    @property
    def grid(self) -> float:
        """What one unit of a cell stands for as it leaves: a step, or under shared noise a step of the noise's grid."""
        return self.step / grid_of(self.epsilon)[1] if self.parts else self.step

    @property
    def size(self) -> int:
        """Cells in all."""
        return math.prod(self.shape)

    @property
    def noise_variance(self) -> float:
        """Of each cell: 2p / (1-p)² steps² with p = exp(-ε), from each hospital in it; of shared noise, all parts'."""
        if self.parts:
            halvings, _ = grid_of(self.epsilon)
            return self.grid**2 * laplace_variance(halvings, self.hospitals / self.parts)
        return self.hospitals * self.step**2 * 2 * math.exp(-self.epsilon) / math.expm1(-self.epsilon) ** 2


def steps_of(mechanism: Evaluation, schema: Schema, intervals: int) -> dict[str, float]:
    """What one unit of each table's cells stands for, by name: cells are whole multiples of it, noise included."""
    return {table.name: table.grid for table in evaluation_tables(mechanism, schema, intervals)}


def evaluation_tables(mechanism: Evaluation, schema: Schema, intervals: int) -> tuple[EvaluationTable, ...]:
    """The tables of an evaluation, in the order in which their noise is drawn.

    Sensitivity: one record stands for each held-out patient. It is in one cell of a table of classes, numbers, counts
    or times, and in one of each label, whose noise has the label's share of ε. To the errors of a time it adds at most
    one for each of the intervals in all (`ERROR_UNITS` whole steps each), and the noise has ε over so many steps.

    Args:
      schema: with the mechanism's target (`Schema.predicting`).
      intervals: of time, as many as the model has outputs; of no meaning for other targets.

    Raises:
      UnsupportedMechanism: a subgroup does not fit the schema, or a table has more than a million cells; or hospitals
        that share one noise are too large for it, or ask for too many cells.
    """
    cells, draws = _cells(mechanism, schema, intervals), list(mechanism.draws)
    shared = shared_draws(mechanism)
    parts = 0 if shared is None else shared.parts
    tables = []
    for subgroup in (None, *mechanism.subgroups):
        groups = () if subgroup is None else group_labels(subgroup, schema)
        lead = () if subgroup is None else (len(groups),)
        behind = "" if subgroup is None else f"/{column_of(subgroup)}"
        share = draws.pop(0)
        if mechanism.outcome is Outcome.LABELS:
            if mechanism.target is None:
                share = math.nextafter(share / cells[0], 0.0)
            else:
                del draws[: cells[0] - 1]
        tables.append(
            EvaluationTable(f"{SCORES}{behind}", SCORES, (*lead, *cells), share, 1.0, subgroup, groups, parts=parts)
        )
        if mechanism.outcome is Outcome.TIME:
            per_step, shape = draws.pop(0) / (ERROR_UNITS * intervals), (*lead, 2, intervals)
            step = 1 / ERROR_UNITS
            tables.append(EvaluationTable(f"{ERRORS}{behind}", ERRORS, shape, per_step, step, subgroup, groups))
    for table in tables:
        if table.size > MOST_TABLE_CELLS:
            raise UnsupportedMechanism(
                f"{table.name} has {table.size} cells, above {MOST_TABLE_CELLS}. Use fewer bins."
            )
    if shared is not None:
        check_fits(shared, sum(table.size for table in tables))
    return tuple(tables)


def _cells(mechanism: Evaluation, schema: Schema, intervals: int) -> tuple[int, ...]:
    bins, classes = mechanism.bins, len(schema.classes)
    match mechanism.outcome:
        case Outcome.CLASS:
            return (classes, bins) if classes == 2 else (classes, classes, bins)
        case Outcome.LABELS:
            return (classes, 2, bins)
        case Outcome.TIME:
            return (2 * intervals + 1, bins)
        case _:
            return (bins, len(target_column(schema).cells(bins)[0]))


def target_column(schema: Schema) -> Column:
    """The first column of the target."""
    return schema.column(schema.target_columns[0])


def group_labels(subgroup: Subgroup, schema: Schema) -> tuple[str, ...]:
    """Labels of a subgroup's groups. Raises `UnsupportedMechanism` where the column has no such groups."""
    column, cuts = schema.column(column_of(subgroup)), cuts_of(subgroup)
    where = f"Subgroup {column.name!r}"
    if column.labels:
        if cuts:
            raise UnsupportedMechanism(f"{where} is {column.kind}: its groups are its labels. Name it without cuts.")
        labels = column.labels
    elif column.kind not in ("real", "integer"):
        raise UnsupportedMechanism(f"{where} is {column.kind}. Name a boolean, a category, or a number with cuts.")
    elif not cuts:
        raise UnsupportedMechanism(f"{where} is {column.kind}: write its bands' cuts, as ({column.name!r}, 40, 65).")
    else:
        if not column.low < cuts[0] or not cuts[-1] < column.high:
            raise UnsupportedMechanism(f"{where} has cuts {cuts} outside ({column.low:g}, {column.high:g}).")
        ends = [f"{end:g}" for end in (column.low, *cuts, column.high)]
        labels = tuple(f"{low} to under {high}" for low, high in itertools.pairwise(ends[:-1]))
        labels = (*labels, f"{ends[-2]} to {ends[-1]}")
    return labels if column.missing == "refuse" else (*labels, MISSING)


def group_index(subgroup: Subgroup, schema: Schema, raw: FloatArray) -> IntArray:
    """Which group each record is in, by its cells of the subgroup's column: int64 [N]; exactly one."""
    column, cuts = schema.column(column_of(subgroup)), cuts_of(subgroup)
    values = column.natural(raw)
    index = np.searchsorted(np.asarray(cuts), values, side="right") if cuts else values.astype(np.int64)
    if column.missing != "refuse":
        index = np.where(np.isfinite(raw), index, len(group_labels(subgroup, schema)) - 1)
    return np.asarray(index, dtype=np.int64)


def prediction_values(column: Column, bins: int) -> FloatArray:
    """Middles of the bins of a number's or a count's prediction, in the column's units."""
    width = (column.high - column.low) / bins
    return np.asarray(column.low + width * (np.arange(bins) + 0.5), dtype=np.float64)


def outcome_values(column: Column, bins: int) -> tuple[FloatArray, float]:
    """Middles of the cells of a number's or a count's outcome, and their width: 0 where each is one value."""
    _, edges = column.cells(bins)
    assert edges is not None
    single = column.kind != "real" and column.high - column.low + 1 <= bins
    return np.asarray((edges[1:] + edges[:-1]) / 2), 0.0 if single else float(edges[1] - edges[0])


def status_rows(
    target: npt.NDArray[np.float32], ends: npt.NDArray[np.float32]
) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """What is known of each record's time: its row among 2 J + 1, and of which intervals' ends it was known without.

    Rows 0 to J-1: the event came in that interval. J to 2J-1: censored after as many whole intervals. 2J: without the
    event at the horizon. It is what `losses.record_loss` takes for its likelihood, in the same float32.

    Args:
      target: [N, 2], scaled time and event.
      ends: [J], scaled.
    """
    time, event, count = target[:, :1], target[:, 1] > 0, len(ends)
    before, by = (ends[None, :] < time), (ends[None, :] <= time)
    came = event & (before.sum(axis=1) < count)
    reached = by.sum(axis=1)
    row = np.where(came, before.sum(axis=1), np.where(event | (reached == count), 2 * count, count + reached))
    alive = np.where(event[:, None], before, by)
    return row.astype(np.int64), np.asarray(alive, dtype=np.bool_)
