"""Score a model on the hold-out, as noisy tables of its predictions beside what came true.

A model is scored in lanes where its graph lowers (`engine.lanes.scores`), and by torch with a place for each record
where it does not: the graph alone decides.

Which cells a record counts in is in `engine.counting`. Accuracy, AUC, errors, concordance and calibration are computed
from the tables, by whoever gets them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import vmap

from datasites.engine.counting import add_records
from datasites.engine.interpreter import forward
from datasites.engine.lanes.scores import LaneScores, scores_for
from datasites.engine.losses import Loss, loss_of
from datasites.engine.matrix import PATIENT, GroupedRows
from datasites.engine.model_inputs import ModelInputs, tensors_of
from datasites.engine.noise import NoiseSource
from datasites.engine.sampling import PatientRows, by_place
from datasites.engine.shared_parts import with_part
from datasites.engine.training import check_model, checked_parameters, frozen_of, physical_batch
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import Evaluation
from policies.privacy.outcomes import Outcome
from policies.release.evaluation_tables import evaluation_tables
from policies.schema.schemas import Schema

FloatArray = npt.NDArray[np.float64]

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
    """Noisy tables of predictions beside what came true: `mechanism.epsilon`-DP with patients as unit.

    One record is drawn uniformly of each held-out patient, for all tables together. It falls into exactly one cell of a
    table (one of each label), whatever its prediction: where an output is not finite it is counted as the lowest one,
    below or above the bounds in the first or last bin. So one patient more or less changes one cell by 1, L1
    sensitivity 1, in one group of each subgroup; for squared errors see `evaluation_tables`. Each cell gets exact
    discrete Laplace noise, all of it or this hospital's part. Counts may be negative; correcting them would bias what
    is computed from them.

    Args:
      records: the private matrix [N, 2 + C]; training rows never enter; N may be 0.
      weights: float32, by parameter name.
      noise: a fresh source; drawing of records and noise take children of it.

    Returns:
      Tensors as `policies.release.evaluation_tables` names and shapes them, float64, bins of equal width. With two
      classes the score is the probability of the second one, with more that of the predicted class; of a time it is
      the chance of the event by the horizon.

    Raises:
      UnsupportedMechanism, WeightsRefused, GraphRefused: mechanism, model, schema or weights do not go together,
        decided before `records` is looked at.
    """
    schema = schema.predicting(mechanism)
    check_model(graph, mechanism, schema)
    loss, parameters = loss_of(mechanism, schema, graph), checked_parameters(graph, weights)
    frozen = frozen_of(graph, weights)
    lanes = scores_for(graph, loss, parameters, frozen=frozen)
    scored = _by_places(graph, loss, parameters, frozen) if lanes is None else _in_lanes(lanes)
    tables = evaluation_tables(mechanism, schema, math.prod(graph.output_shape))
    sources = [
        noise.child("counts" if number == 0 else f"counts of {table.name}") for number, table in enumerate(tables)
    ]
    counts = [
        np.zeros(table.size, np.int64) if table.parts else source.discrete_laplace(table.size, table.epsilon)
        for table, source in zip(tables, sources, strict=True)
    ]
    matrix = np.asarray(records, dtype=np.float64)
    table = records if isinstance(records, GroupedRows) else matrix
    rows = PatientRows(table, held_out=True).one_of_each(noise.child("records"))
    of_rows = ModelInputs(schema, mechanism.inputs, matrix, tensors_of(records))
    together = min(_RECORDS_PREPARED, of_rows.together)
    for begin in range(0, len(rows), together):
        chosen = rows[begin : begin + together]
        part = matrix[chosen]
        scores, sound = scored(of_rows.of(chosen), part[:, PATIENT])
        add_records(counts, tables, mechanism, schema, loss, part, scores, sound)
    released = {}
    for made, counted, source in zip(tables, counts, sources, strict=True):
        if made.parts:  # until here they are exact
            cells = with_part(counted, epsilon=made.epsilon, parts=made.parts, source=source)
        else:
            cells = (counted * made.step).astype(np.float64)
        released[made.name] = cells.reshape(made.shape)
    return released


def _in_lanes(lanes: LaneScores) -> Scored:
    """A lane for each record."""

    def scored(inputs: npt.NDArray[np.float32], codes: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        scores, sound = lanes.of(np.ascontiguousarray(inputs.reshape(len(inputs), -1), dtype=np.float32))
        return scores.astype(np.float64), sound

    return scored


def _by_places(graph: Graph, loss: Loss, parameters: Mapping[str, Tensor], frozen: Mapping[str, Tensor] = {}) -> Scored:
    """A place in a batch for each record, by its patient's code."""
    model, size = vmap(forward(graph, frozen), in_dims=(None, 0)), physical_batch(graph, _RECORDS_AT_ONCE)

    def scored(inputs: npt.NDArray[np.float32], codes: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        scores, sound = np.zeros((len(inputs), math.prod(graph.output_shape))), np.zeros(len(inputs), np.bool_)
        for indices, places in by_place(codes, size):
            batch = torch.zeros((size, *graph.input_shape))
            batch[places] = torch.from_numpy(inputs[indices])
            with torch.no_grad():
                # Of all places, taken or not: torch rounds the last few of a vector otherwise than the others, and how
                # many are taken is private.
                outputs, finite = _probabilities(model(parameters, batch), loss)
            scores[indices], sound[indices] = outputs[places].numpy(), finite[places].numpy()
        return scores, sound

    return scored


def _probabilities(outputs: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """In float64 what outputs stand for (`losses.record_scores`), and where they are finite."""
    outputs = outputs.reshape(len(outputs), math.prod(outputs.shape[1:])).to(torch.float64)
    sound = torch.isfinite(outputs).all(1)
    outputs = torch.where(sound.unsqueeze(1), outputs, 0.0)
    if loss.name == "cross_entropy":
        outputs = torch.softmax(outputs, dim=1)
    elif loss.name == "binary_cross_entropy_with_logits" or loss.outcome is Outcome.LABELS:
        outputs = torch.sigmoid(outputs)
    elif loss.outcome is Outcome.COUNT:
        outputs = torch.exp(outputs)
    elif loss.outcome is Outcome.TIME:
        outputs = torch.cumprod(torch.sigmoid(-outputs), dim=1)
    return outputs, sound
