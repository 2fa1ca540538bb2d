"""Which cells of an evaluation's tables a record counts in: comparisons and products, no sums over records but counts.

Every record is in exactly one cell of a table of classes, numbers, counts or times, in one of each label's, and in one
group of each subgroup, whatever stands in its cells and whatever the model says of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from datasites.engine.losses import Loss
from policies.privacy.mechanisms import Evaluation
from policies.privacy.outcomes import Outcome
from policies.privacy.subgroups import column_of
from policies.release.evaluation_tables import (
    ERROR_UNITS,
    SCORES,
    EvaluationTable,
    group_index,
    status_rows,
    target_column,
)
from policies.schema.schemas import Schema
from policies.schema.targets import scaled

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def add_records(
    counts: Sequence[IntArray],
    tables: Sequence[EvaluationTable],
    mechanism: Evaluation,
    schema: Schema,
    loss: Loss,
    rows: FloatArray,
    scores: FloatArray,
    sound: Flags,
) -> None:
    """Count records, one of each patient, into the tables, whose counts lie there flat and in steps.

    Args:
      rows: of the private matrix [N, 2 + C].
      scores: what the model's outputs stand for, [N, outputs].
      sound: where its outputs are finite.
    """
    cells = _cells(mechanism, schema, loss, rows, scores, sound)
    errors = _errors(schema, loss, rows, scores, sound) if loss.outcome is Outcome.TIME else None
    for table, noisy in zip(tables, counts, strict=True):
        size = math.prod(table.shape[1:] if table.groups else table.shape)
        first = np.zeros(len(rows), np.int64)
        if table.subgroup is not None:
            raw = schema.raw(rows, column_of(table.subgroup))
            first = group_index(table.subgroup, schema, raw) * size
        if table.kind == SCORES:
            noisy += np.bincount((first[:, None] + cells).ravel(), minlength=table.size)
        elif errors is not None:
            places = (first[:, None] + np.arange(size)).ravel()
            added = np.bincount(places, weights=errors.reshape(len(rows), size).ravel(), minlength=table.size)
            noisy += np.rint(added).astype(np.int64)  # sums of whole numbers below 2^53, exact in float64


def _cells(
    mechanism: Evaluation, schema: Schema, loss: Loss, rows: FloatArray, scores: FloatArray, sound: Flags
) -> IntArray:
    """The cells of each record, flattened: [N, 1], or [N, labels]."""
    bins, classes = mechanism.bins, len(schema.classes)
    if loss.outcome is Outcome.CLASS:
        per_class = bins if classes == 2 else classes * bins
        within = _within_class(scores, sound, bins=bins, classes=classes)
        return (schema.targets(rows) * per_class + within)[:, None]
    if loss.outcome is Outcome.LABELS:
        bin_of = _bin(np.asarray(np.where(sound[:, None], scores, 0.0), dtype=np.float64), bins)
        labels = schema.target_values(rows, loss.outcome).astype(np.int64)
        return np.asarray((np.arange(classes)[None, :] * 2 + labels) * bins + bin_of, dtype=np.int64)
    if loss.outcome is Outcome.TIME:
        ends = np.asarray(loss.ends, dtype=np.float32)
        row, _ = status_rows(schema.target_values(rows, loss.outcome), ends)
        risk = np.asarray(1 - np.clip(np.where(sound, scores[:, -1], 1.0), 0.0, 1.0), dtype=np.float64)
        return (row * bins + _bin(risk, bins))[:, None]
    column = target_column(schema)
    prediction = scores[:, 0] if loss.outcome is Outcome.NUMBER else scaled(column, scores[:, 0])
    share = np.asarray((np.clip(np.where(sound, prediction, -1.0), -1.0, 1.0) + 1) / 2, dtype=np.float64)
    outcome = column.cell_index(schema.raw(rows, column.name), bins)
    return (_bin(share, bins) * len(column.cells(bins)[0]) + outcome)[:, None]


def _bin(shares: FloatArray, bins: int) -> IntArray:
    """The bin of a share, of equal width over [0, 1]; beyond it the first or the last."""
    return np.minimum((np.clip(shares, 0.0, 1.0) * bins).astype(np.int64), bins - 1)


def _within_class(scores: FloatArray, sound: Flags, *, bins: int, classes: int) -> IntArray:
    """The one cell of each record among those of its true class, flattened."""
    scores = np.where(sound[:, None], scores, 0.0)
    predicted = np.zeros(len(scores), np.int64) if classes == 2 else scores.argmax(axis=1)
    score = scores[:, -1] if classes == 2 else scores.max(axis=1, initial=0.0)
    return np.where(sound, predicted * bins + _bin(score, bins), 0)


def _errors(schema: Schema, loss: Loss, rows: FloatArray, scores: FloatArray, sound: Flags) -> IntArray:
    """Squared errors of the predicted survival in whole steps, [N, 2, J]; at most J · `ERROR_UNITS` of a record.

    First, each at its own place, those at ends of intervals that a patient was known to be without the event at,
    (1 - S)². Then, at the place of the interval in which the event came, the sum of S² over its end and all later ones.
    Each is rounded before they are added up: no sum of a record's hangs on how many others there are.
    """
    ends = np.asarray(loss.ends, dtype=np.float32)
    row, alive = status_rows(schema.target_values(rows, loss.outcome), ends)
    survival = np.clip(np.where(sound[:, None], scores, 1.0), 0.0, 1.0)
    place = np.arange(len(ends))
    of_alive, of_event = (np.rint(part * part * ERROR_UNITS).astype(np.int64) for part in (1 - survival, survival))
    late = np.where(place >= row[:, None], of_event, 0).sum(axis=1)  # none of rows from J on: nothing came there
    at = np.where(place == row[:, None], late[:, None], 0)
    return np.asarray(np.stack([np.where(alive, of_alive, 0), at], axis=1), dtype=np.int64)
