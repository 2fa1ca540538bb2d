"""Score a model on the hold-out, as a noisy histogram of its scores per class.

A model is scored in lanes where its graph lowers (`engine.lanes.scores`), and by torch with a place for each record
where it does not: the graph alone decides.

Accuracy, AUC, ROC curves and calibration are computed from the histogram, by whoever gets it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import vmap

from datasites.engine.interpreter import forward
from datasites.engine.lanes.scores import LaneScores, scores_for
from datasites.engine.matrix import PATIENT, GroupedRows
from datasites.engine.noise import NoiseSource
from datasites.engine.sampling import PatientRows, by_place
from datasites.engine.training import check_model, checked_parameters, physical_batch
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import Evaluation
from policies.schema.schemas import Schema

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Scored = Callable[[npt.NDArray[np.float32], FloatArray], tuple[FloatArray, npt.NDArray[np.bool_]]]
"""Of inputs and patients' codes the probabilities [N, outputs], and where the model's output is finite."""

_RECORDS_AT_ONCE = 512
_RECORDS_PREPARED = 4096


def score_histogram(
    graph: Graph,
    mechanism: Evaluation,
    schema: Schema,
    records: npt.ArrayLike | Tensor | GroupedRows,
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
    parameters = checked_parameters(graph, weights)
    lanes = scores_for(graph, mechanism.loss, parameters)
    scored = _by_places(graph, mechanism, parameters) if lanes is None else _in_lanes(lanes)
    classes = len(schema.classes)
    shape = (classes, mechanism.bins) if classes == 2 else (classes, classes, mechanism.bins)
    counts = noise.child("counts").discrete_laplace(int(np.prod(shape)), mechanism.epsilon)
    matrix = np.asarray(records, dtype=np.float64)
    table = records if isinstance(records, GroupedRows) else matrix
    rows = PatientRows(table, held_out=True).one_of_each(noise.child("records"))
    rows_of_class = mechanism.bins if classes == 2 else classes * mechanism.bins
    for begin in range(0, len(rows), _RECORDS_PREPARED):
        part = matrix[rows[begin : begin + _RECORDS_PREPARED]]
        scores, sound = scored(schema.inputs(part, mechanism.inputs), part[:, PATIENT])
        within = _cells(scores, sound, bins=mechanism.bins, classes=classes)
        counts += np.bincount(schema.targets(part) * rows_of_class + within, minlength=len(counts))
    return {"scores": counts.astype(np.float64).reshape(shape)}


def _in_lanes(lanes: LaneScores) -> Scored:
    """A lane for each record."""

    def scored(inputs: npt.NDArray[np.float32], codes: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        scores, sound = lanes.of(np.ascontiguousarray(inputs.reshape(len(inputs), -1), dtype=np.float32))
        return scores.astype(np.float64), sound

    return scored


def _by_places(graph: Graph, mechanism: Evaluation, parameters: Mapping[str, Tensor]) -> Scored:
    """A place in a batch for each record, by its patient's code."""
    model, size = vmap(forward(graph), in_dims=(None, 0)), physical_batch(graph, _RECORDS_AT_ONCE)

    def scored(inputs: npt.NDArray[np.float32], codes: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        scores, sound = np.zeros((len(inputs), math.prod(graph.output_shape))), np.zeros(len(inputs), np.bool_)
        for indices, places in by_place(codes, size):
            batch = torch.zeros((size, *graph.input_shape))
            batch[places] = torch.from_numpy(inputs[indices])
            with torch.no_grad():
                # Of all places, taken or not: torch rounds the last few of a vector otherwise than the others, and how
                # many are taken is private.
                outputs, finite = _probabilities(model(parameters, batch), mechanism.loss)
            scores[indices], sound[indices] = outputs[places].numpy(), finite[places].numpy()
        return scores, sound

    return scored


def _probabilities(outputs: Tensor, loss: str) -> tuple[Tensor, Tensor]:
    """In float64 what outputs stand for, and where they are finite."""
    outputs = outputs.reshape(len(outputs), math.prod(outputs.shape[1:])).to(torch.float64)
    sound = torch.isfinite(outputs).all(1)
    outputs = torch.where(sound.unsqueeze(1), outputs, 0.0)
    if loss == "cross_entropy":
        outputs = torch.softmax(outputs, dim=1)
    elif loss == "binary_cross_entropy_with_logits":
        outputs = torch.sigmoid(outputs)
    return outputs, sound


def _cells(scores: FloatArray, sound: npt.NDArray[np.bool_], *, bins: int, classes: int) -> IntArray:
    """The one cell of each record among those of its true class, flattened: comparisons and one product, no sums."""
    scores = np.where(sound[:, None], scores, 0.0)
    predicted = np.zeros(len(scores), np.int64) if classes == 2 else scores.argmax(axis=1)
    score = scores[:, -1] if classes == 2 else scores.max(axis=1, initial=0.0)
    within: IntArray = np.minimum((np.clip(score, 0.0, 1.0) * bins).astype(np.int64), bins - 1)
    return np.where(sound, predicted * bins + within, 0)
