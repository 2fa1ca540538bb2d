"""A mock with signal: rows drawn from differentially private tables of a dataset, for its owner to publish once.

What is asked of the private rows is one release of `Statistics` (Laplace noise, the patient as unit), with one record
of each patient, over the schema's public cells: a crosstab of the target and each other column, a column's own cells
where it may be missing or where there is no target to cross it with. It is charged and certified like any release.

What rows are drawn from is that release alone, so they are post-processing of it and cost nothing more (Dwork & Roth
2014, proposition 2.1). Columns are drawn independently of each other given the target, the tree with the target in its
middle: of all trees of pairs, as of MST (McKenna et al. 2021, arXiv:2108.04978), the one whose edges are public, so
that none of ε is spent on choosing it. Each table has the privacy budget of one query, so few columns keep more of it.

What such rows are good for: code that runs on them meets values as they are, and settings tried on them meet a signal
of about the right strength. What they are not: how two features go together beyond what the target explains.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from datasites.engine.matrix import HELD_OUT, PATIENT
from policies.errors import InvalidRequest
from policies.privacy.mechanisms import MOST_QUERIES, Query, Statistics
from policies.release.tensors import digest
from policies.schema.columns import Column, FloatArray, IntArray
from policies.schema.questions import answer_shape, cell_labels
from policies.schema.schemas import FIRST_COLUMN, Schema

FUNCTION = "synthetic_mock"
"""The name of its release in the ledger and in its certificate."""
BINS = 10
ROWS = 4000
MOST_CELLS = 1_000  # of one table: with more of them, noise is all that there is


def questions(schema: Schema, epsilon: float) -> Statistics:
    """What is asked of the private rows, from the schema alone.

    Raises `UnsupportedMechanism` where ε is outside (0, 100].
    """
    middle, queries = middle_of(schema), list[Query]()
    for column in schema.columns:
        if column.name == middle:
            continue
        crossed = Query("crosstab", (str(middle), column.name))
        cells = answer_shape(crossed, _asked(crossed), schema) if middle is not None else ()
        fits = middle is not None and math.prod(cells) <= MOST_CELLS
        if fits and sum(query.name == "crosstab" for query in queries) < MOST_QUERIES:
            queries.append(crossed)
        else:
            fits = False
        if not fits or column.missing != "refuse":
            queries.append(Query("describe", (column.name,)))
    if not any(query.name == "crosstab" for query in queries) and middle is not None:
        queries.append(Query("describe", (middle,)))
    return Statistics(queries=tuple(queries), epsilon=epsilon, bins=BINS)


def middle_of(schema: Schema) -> str | None:
    """The column that every other one is crossed with: the target, of several the last; None without one."""
    return schema.target_columns[-1] if schema.target_columns else None


def synthetic_rows(
    release: Mapping[str, npt.NDArray[np.float64]], mechanism: Statistics, schema: Schema, rows: int = ROWS
) -> FloatArray:
    """A mock float64 [rows, 2 + C] drawn from a release of `questions`; the same release gives the same rows.

    Each row is a patient of its own, held out with the schema's public chance.
    """
    generator = _generator(release, rows)
    drawn = np.empty((rows, FIRST_COLUMN + len(schema.columns)), dtype=np.float64)
    drawn[:, PATIENT] = np.arange(rows)
    drawn[:, HELD_OUT] = generator.random(rows) < schema.holdout
    middle, of_middle = middle_of(schema), np.zeros(rows, dtype=np.int64)
    if middle is not None:
        of_middle = _drawn(np.tile(_middle(release, middle), (rows, 1)), generator)
    for place, column in enumerate(schema.columns):
        cells, share_missing = of_middle, 0.0
        crossed, alone = Query("crosstab", (str(middle), column.name)).key, Query("describe", (column.name,)).key
        if alone in release:
            own, share_missing = _own(release[alone], column, mechanism, schema)
            cells = cells if column.name == middle else _drawn(np.tile(own, (rows, 1)), generator)
        if crossed in release:
            table = np.array([shares(row) for row in release[crossed]])
            cells = _drawn(table[of_middle], generator)
        values = _within(cells, column, generator)
        values[generator.random(rows) < share_missing] = np.nan
        drawn[:, FIRST_COLUMN + place] = values
    return drawn


def shares(counts: npt.ArrayLike) -> FloatArray:
    """Noisy counts as shares that sum to 1: the nearest point of the simplex scaled by their sum (Duchi et al. 2008).

    Unlike cutting off below 0, it takes from all cells what those below 0 have too little. Uniform where none is left.
    """
    noisy = np.asarray(counts, dtype=np.float64).ravel()
    total = float(noisy.sum())
    if not total > 0:
        return np.full(len(noisy), 1 / len(noisy))
    ordered = np.sort(noisy)[::-1]
    above = np.cumsum(ordered) - total
    kept = int(np.flatnonzero(ordered - above / np.arange(1, len(noisy) + 1) > 0)[-1])
    projected = np.maximum(noisy - above[kept] / (kept + 1), 0.0)
    return np.asarray(projected / projected.sum(), dtype=np.float64)


def check_mock_choice(public_mock: str | None, mock_epsilon: float | None, schema: Schema) -> None:
    """Raise `InvalidRequest` or `UnsupportedMechanism` where a mock is chosen in two ways, or ε is out of range."""
    if mock_epsilon is None:
        return
    if public_mock is not None:
        raise InvalidRequest("Choose one mock: a file that you declare public, or rows drawn from private tables.")
    questions(schema, mock_epsilon)


def _asked(query: Query) -> Statistics:
    return Statistics(queries=(query,), epsilon=1.0, bins=BINS)


def _generator(release: Mapping[str, npt.NDArray[np.float64]], rows: int) -> np.random.Generator:
    seed = hashlib.sha256(f"{digest(release)}/{rows}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))


def _middle(release: Mapping[str, npt.NDArray[np.float64]], middle: str) -> FloatArray:
    """Shares of the target's cells: of all its tables together, each as noisy as it has cells in a row."""
    tables = [table for name, table in release.items() if name.startswith("crosstab/")]
    if not tables:
        return shares(release[Query("describe", (middle,)).key])
    weights = np.array([1 / table.shape[1] for table in tables])
    sums = [weight * table.sum(axis=1) for weight, table in zip(weights, tables, strict=True)]
    return shares(np.sum(sums, axis=0) / weights.sum())


def _own(
    counts: npt.NDArray[np.float64], column: Column, mechanism: Statistics, schema: Schema
) -> tuple[FloatArray, float]:
    """Shares of a column's own cells among records that have a value, and the share that has none."""
    if column.missing == "refuse":
        return shares(counts), 0.0
    all_shares = shares(counts)
    known = len(cell_labels(Query("describe", (column.name,)), mechanism, schema)[0]) - 1
    return shares(counts[:known]), float(all_shares[known])


def _drawn(chances: FloatArray, generator: np.random.Generator) -> IntArray:
    """One cell for each row of chances [rows, cells]."""
    ends = np.cumsum(chances, axis=1)
    at = generator.random((len(chances), 1)) * ends[:, -1:]
    return np.asarray((ends <= at).sum(axis=1).clip(max=chances.shape[1] - 1), dtype=np.int64)


def _within(cells: IntArray, column: Column, generator: np.random.Generator) -> FloatArray:
    """A value for each cell: its label's, or uniform within it."""
    _, edges = column.cells(BINS)
    if edges is None:
        return cells.astype(np.float64)
    low, high = edges[cells], edges[cells + 1]
    if column.kind == "real":
        return np.clip(generator.uniform(low, high), column.low, column.high)
    first = np.ceil(low)
    last = np.where(cells == len(edges) - 2, np.floor(high), np.ceil(high) - 1)
    whole = first + np.floor(generator.random(len(cells)) * (last - first + 1))
    return np.asarray(np.clip(whole, column.low, column.high), dtype=np.float64)
