"""A table of patients by time and event on private records, with exact noise in every cell.

Curves are drawn from it by whoever has it: `researcher.survival_curves`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from datasites.engine.matrix import PATIENT, GroupedRows
from datasites.engine.noise import NoiseSource
from datasites.engine.shared_parts import with_part
from datasites.engine.statistics import choose_records
from policies.privacy.survival import KaplanMeier
from policies.schema.columns import FloatArray
from policies.schema.filters import compiled
from policies.schema.schemas import Schema
from policies.schema.survival_cells import TENSOR, cells_of, columns_of, present, survival_shape


def survival_table(
    mechanism: KaplanMeier, schema: Schema, records: npt.ArrayLike | GroupedRows, noise: NoiseSource
) -> dict[str, FloatArray]:
    """Noisy counts of patients by group, interval of time and event: `mechanism.epsilon`-DP, patients as unit.

    Which of a patient's records counts is drawn uniformly among those that have all values; other patients play no part
    in that. It falls into exactly one cell, so one patient more or less changes one cell by 1, L1 sensitivity 1, and
    each cell gets exact discrete Laplace noise of that ε, empty ones too: all of it, or this hospital's part of a noise
    that hospitals share. Counts may be negative.

    Args:
      records: the private matrix [N, 2 + C]; N may be 0.
      noise: a fresh source; drawing of records and noise take children of it.

    Returns:
      `{"patients": float64}`, of `survival_shape`: whole numbers, under shared noise multiples of its grid.

    Raises:
      UnsupportedMechanism: mechanism and schema do not go together, decided before `records` is looked at.
    """
    shape = survival_shape(mechanism, schema)
    chosen = one_of_each(
        schema, np.asarray(records, dtype=np.float64), columns_of(mechanism), noise.child("records"), mechanism.where
    )
    exact = np.bincount(cells_of(mechanism, schema, chosen), minlength=math.prod(shape))
    declared, source = mechanism.secure_aggregation, noise.child("counts")
    if declared is not None and declared.shares_noise:
        counts = with_part(exact, epsilon=mechanism.epsilon, parts=declared.parts, source=source)
    else:
        counts = (exact + source.discrete_laplace(exact.size, mechanism.epsilon)).astype(np.float64)
    return {TENSOR: counts.reshape(shape)}


def one_of_each(
    schema: Schema, matrix: FloatArray, columns: tuple[str, ...], source: NoiseSource, where: str = ""
) -> FloatArray:
    """One record of every patient who has one with all of `columns` that meets `where`, uniform among those."""
    counts = present(schema, matrix, columns)
    if where:
        counts &= compiled(where, schema).holds(matrix)
    whole = np.flatnonzero(counts)
    return np.asarray(matrix[whole[choose_records(matrix[whole, PATIENT], 1, source)]])
