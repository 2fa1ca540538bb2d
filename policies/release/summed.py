"""Which releases add up over hospitals as whole numbers, and what one unit of each number stands for.

A model's weights add up as how far each moved (`secure_sums.encoding`); everything else as multiples of public steps.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

from policies.canonical import canonical
from policies.privacy.mechanisms import Evaluation, KaplanMeier, Mechanism, Regression, Statistics
from policies.privacy.shared_mechanisms import shared_draws
from policies.privacy.shared_sums import check_fits, grid_of
from policies.release import evaluation_tables
from policies.release.tensors import Array
from policies.schema.filters import condition_sentences
from policies.schema.schemas import Schema
from policies.schema.summed_regression import regression_digest, regression_numbers
from policies.schema.summed_statistics import grid_digest, summed_steps
from policies.schema.survival_cells import TENSOR, survival_groups, survival_shape, time_grid


def steps_of(mechanism: Mechanism, schema: Schema, release: Mapping[str, Array]) -> dict[str, float] | None:
    """What one unit of each tensor stands for, by name; None of a model's weights.

    Args:
      release: tensors of its shapes, masked or not.
    """
    if isinstance(mechanism, Statistics):
        return summed_steps(mechanism, schema)
    if isinstance(mechanism, KaplanMeier):
        return {TENSOR: step_of_patients(mechanism, mechanism.epsilon)}
    if isinstance(mechanism, Regression):
        return {name: part.step for name, part in regression_numbers(mechanism, schema).items()}
    if isinstance(mechanism, Evaluation):
        errors = evaluation_tables.ERRORS
        intervals = release[errors].shape[-1] if errors in release else 1
        return evaluation_tables.steps_of(mechanism, schema.predicting(mechanism), intervals)
    return None


def step_of_patients(mechanism: Mechanism, epsilon: float) -> float:
    """What one unit of a table of patients at a draw's ε stands for: a patient, or a step of a shared noise's grid."""
    return 1.0 if shared_draws(mechanism) is None else 1 / grid_of(epsilon)[1]


def scale_of(mechanism: Mechanism, schema: Schema) -> str:
    """Hex digest of what the numbers of an analysis mean, from the plan and the columns alone; "" of a model's."""
    if isinstance(mechanism, Statistics):
        return grid_digest(mechanism, schema)
    if isinstance(mechanism, Regression):
        return regression_digest(mechanism, schema)
    if isinstance(mechanism, KaplanMeier):
        grid = time_grid(mechanism, schema)
        if (shared := shared_draws(mechanism)) is not None:
            check_fits(shared, math.prod(survival_shape(mechanism, schema)))
        facts = {
            "times": [grid.start, *grid.ends],
            "groups": list(survival_groups(mechanism, schema)),
            "columns": [schema.column(name).meaning for name in (mechanism.time, mechanism.event)],
            "condition": condition_sentences(mechanism.where, schema),
        }
        return hashlib.sha256(canonical(facts)).hexdigest()
    return ""
