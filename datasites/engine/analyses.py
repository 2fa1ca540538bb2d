"""Which engine answers an analysis that runs no model."""

from __future__ import annotations

import numpy.typing as npt

from datasites.engine.matrix import GroupedRows
from datasites.engine.noise import NoiseSource
from datasites.engine.regression import regression_sums
from datasites.engine.survival import survival_table
from policies.errors import UnsupportedMechanism
from policies.privacy.mechanisms import KaplanMeier, Mechanism, Regression
from policies.schema.columns import FloatArray
from policies.schema.schemas import Schema


def analysed(
    mechanism: Mechanism, schema: Schema, records: npt.ArrayLike | GroupedRows, noise: NoiseSource
) -> dict[str, FloatArray]:
    """The release of an analysis, by the names of its tensors. Raises as its engine does."""
    if isinstance(mechanism, KaplanMeier):
        return survival_table(mechanism, schema, records, noise)
    if isinstance(mechanism, Regression):
        return regression_sums(mechanism, schema, records, noise)
    raise UnsupportedMechanism(f"{mechanism.kind} is no analysis of a table.")
