"""Score a model on the hold-out, as a noisy histogram of its scores per class.

Accuracy, AUC, ROC curves and calibration are computed from the histogram, by whoever gets it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import vmap

from datasites.engine.interpreter import forward
from datasites.engine.matrix import PATIENT
from datasites.engine.noise import NoiseSource
from datasites.engine.sampling import PatientRows, by_place
from datasites.engine.training import check_model, checked_parameters, physical_batch
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import Evaluation
from policies.schema.schemas import Schema

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_RECORDS_AT_ONCE = 512


def score_histogram(
    graph: Graph,
    mechanism: Evaluation,
    schema: Schema,
    records: npt.ArrayLike | Tensor,
    weights: Mapping[str, Tensor],
    noise: NoiseSource,
) -> dict[str, FloatArray]:
    """Noisy counts of held-out patients by class and score: `mechanism.epsilon`-DP with patients as unit.

    One record is drawn uniformly of each held-out patient and falls into exactly one cell, whatever its score: where an
    output is not finite it is counted in the cell of predicted class 0 and bin 0, below or above [0, 1] in the first or
    last bin. So one patient more or less changes one cell by 1, L1 sensitivity 1, and each cell gets exact discrete
    Laplace noise of that ε. Counts may be negative; correcting them would bias what is computed from them.

    Args:
      records: the private matrix [N, 2 + C]; training rows never enter; N may be 0.
      weights: float32, by parameter name.
      noise: a fresh source; drawing of records and noise take children of it.

    Returns:
      `{"scores": float64 whole numbers}`, [true class, bin] with two classes and [true class, predicted class, bin]
      with more, bins of equal width over [0, 1]. With two classes the score is the probability of the second one, with
      more that of the predicted class.

    Raises:
      UnsupportedMechanism, WeightsRefused, GraphRefused: mechanism, model, schema or weights do not go together,
        decided before `records` is looked at.
    """
    check_model(graph, mechanism, schema)
    model, parameters = vmap(forward(graph), in_dims=(None, 0)), checked_parameters(graph, weights)
    classes = len(schema.classes)
    shape = (classes, mechanism.bins) if classes == 2 else (classes, classes, mechanism.bins)
    counts = noise.child("counts").discrete_laplace(int(np.prod(shape)), mechanism.epsilon)
    matrix = np.asarray(records, dtype=np.float64)
    rows = PatientRows(matrix, held_out=True).one_of_each(noise.child("records"))
    size = physical_batch(graph, _RECORDS_AT_ONCE)
    for indices, places in by_place(matrix[rows, PATIENT], size):
        part = matrix[rows[indices]]
        inputs = torch.zeros((size, *graph.input_shape))
        inputs[places] = torch.from_numpy(schema.inputs(part, mechanism.inputs))
        with torch.no_grad():
            # Of all places, taken or not: torch rounds the last few of a vector otherwise than the others, and how many
            # are taken is private.
            within = _within(model(parameters, inputs), mechanism, classes)[places]
        rows_of_class = mechanism.bins if classes == 2 else classes * mechanism.bins
        counts += np.bincount(schema.targets(part) * rows_of_class + within, minlength=len(counts))
    return {"scores": counts.astype(np.float64).reshape(shape)}


def _within(outputs: Tensor, mechanism: Evaluation, classes: int) -> IntArray:
    """The one cell of each output among those of its true class, flattened."""
    outputs = outputs.reshape(len(outputs), math.prod(outputs.shape[1:])).to(torch.float64)  # of none at all, too
    sound = torch.isfinite(outputs).all(1)
    outputs = torch.where(sound.unsqueeze(1), outputs, 0.0)
    if mechanism.loss == "cross_entropy":
        outputs = torch.softmax(outputs, dim=1)
    elif mechanism.loss == "binary_cross_entropy_with_logits":
        outputs = torch.sigmoid(outputs)
    scores, predicted = outputs.max(dim=1)
    if classes == 2:
        scores, predicted = outputs[:, -1], torch.zeros_like(predicted)
    bins = (scores.clamp(0.0, 1.0) * mechanism.bins).to(torch.int64).clamp(max=mechanism.bins - 1)
    within: IntArray = torch.where(sound, predicted * mechanism.bins + bins, 0).numpy()
    return within
