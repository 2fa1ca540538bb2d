"""Train one round of DP-SGD on private rows: the model's graph in, differentially private weights out.

Opacus's `DPOptimizer` takes the steps and its accountant counts them; sampling, clipping and noise are ours, in
modules beside this one. Per-record gradients are computed in lanes (`engine.lanes`) where the graph lowers, and by
torch, with a place for each record, where it does not. From the first look at private rows on nothing raises, prints or
warns because of what they hold, and nothing is derived from how many there are.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from opacus.accountants import RDPAccountant
from torch import Tensor, nn
from torch.func import grad_and_value, vmap

from datasites.engine.body_values import BodyValues, Leave
from datasites.engine.clipping import LARGEST_BATCH, GridOptimizer, clipped_sum
from datasites.engine.gradient_recorder import NotRecordable, recorded
from datasites.engine.interpreter import Forward, forward
from datasites.engine.lane_optimizer import LaneOptimizer
from datasites.engine.lanes.readiness import sums_for
from datasites.engine.lanes.records import LaneRecords
from datasites.engine.lanes.sums import Inputs, Labels, LaneSums
from datasites.engine.losses import Loss, as_loss, compared_with, loss_of, record_loss
from datasites.engine.matrix import PATIENT, GroupedRows
from datasites.engine.model_inputs import ModelInputs, TensorSums, tensors_of
from datasites.engine.noise import NoiseSource
from datasites.engine.sampling import PatientRows, Rows, by_place
from datasites.engine.shared_step import with_part
from datasites.engine.splitting import Split
from policies.errors import DatasiteError, GraphRefused, UnsupportedMechanism, WeightsRefused
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.release.model_outputs import check_outputs
from policies.schema.schemas import Schema

Records = npt.NDArray[np.float64]
Gradients = Callable[[Mapping[str, Tensor], Tensor, Tensor], tuple[dict[str, Tensor], tuple[Tensor, Tensor]]]

Batch = tuple[Tensor, Tensor, Tensor]

STEPS_WORTH_A_TAPE = 25  # from here on recording one takes less time than it saves

_BATCH_ELEMENTS = 2**25  # floats that one physical batch may hold in gradients and intermediates: 128 MiB
_PASS_ELEMENTS = 2**20  # from here on a pass's own cost is small beside that of its floats
_FEWEST_PLACES = 16
_PREPARED_RECORDS = 4096  # scaled together: numpy's cost per call is shared by several steps


def train_round(
    graph: Graph,
    mechanism: DPSGD,
    schema: Schema,
    published_training_patients: int,
    records: npt.ArrayLike | Tensor | GroupedRows,
    weights: Mapping[str, Tensor],
    noise: NoiseSource,
    *,
    round: int = 1,
    accountant: RDPAccountant | None = None,
    split: Split | None = None,
    leave: Leave | None = None,
) -> dict[str, Tensor]:
    """The weights after `mechanism.steps` steps of DP-SGD from `weights`: one release of `mechanism`.

    Sensitivity: what each step adds noise to is the sum of one clipped gradient per Poisson-sampled training patient,
    so one patient more or less changes it by at most `clipping_norm` in L2 (`engine.clipping.clipped_sum`). The
    divisor, the step count and every shape are public; learning rate, momentum, weight decay and FedProx's pull see
    only what the noise has covered. Weights that overflow are a release like any other, infinities and NaN included.

    Args:
      mechanism: with its `noise_multiplier` resolved.
      published_training_patients: the public number; the divisor is `sampling_rate` times it.
      records: the private matrix [N, 2 + C]; rows held out never enter; N may be 0. With its tensors, where the inputs
        name one.
      weights: float32, by parameter name, of all of the graph's; they are not changed. Frozen ones have no gradient and
        no noise, and are no part of a norm.
      noise: a fresh source; sampling and noise draw from children of it.
      round: of the mechanism's, from 1; a schedule of the learning rate looks at it.
      accountant: Opacus's, counting this round's steps, for `read_back_epsilon`; a new one if None.
      split: of the graph (`splitting.split_for`): its body runs once over all records, and its head is trained on what
        that gives. The same weights come out: to the bit in lanes, and in torch but for rounding.
      leave: of a rehearsal, which is told of the body's pace (`body_values.Leave`).

    Returns:
      float32 tensors with the names, order and shapes of `graph.trained`: what is local among them stays with the
      hospital (`datasites.vault.local_heads`). Under shared noise, int64 of the same: the sum of its one step's clipped
      gradients in steps of `mechanism.step_grid`, with this hospital's part of the noise (`shared_step`).

    Raises:
      UnsupportedMechanism, WeightsRefused, GraphRefused: mechanism, model, schema or weights do not go together,
        decided before `records` is looked at.
    """
    if mechanism.noise_multiplier is None:
        raise UnsupportedMechanism("No noise multiplier was found for this epsilon yet. Resolve the mechanism first.")
    schema = schema.predicting(mechanism)
    check_model(graph, mechanism, schema)
    loss = loss_of(mechanism, schema, graph)
    parameters, frozen = checked_parameters(graph, weights), frozen_of(graph, weights)
    expected = mechanism.sampling_rate * published_training_patients
    constants, drawn = frozen, max(physical_batch(graph, expected), expected)  # so that a split draws as none does
    if split is not None:
        graph, frozen = split.head, frozen_of(split.head, weights)
    size = physical_batch(graph, expected)
    classes, norm = len(schema.classes), mechanism.clipping_norm
    sums = sums_for(graph, loss, classes, norm, expected, mechanism.stability, frozen=frozen)
    gradients = None if sums is not None else record_gradients(forward(graph, frozen), loss)
    if gradients is not None and mechanism.steps >= STEPS_WORTH_A_TAPE:  # before rows are looked at
        gradients = taped(gradients, graph, len(schema.classes), size, loss)
    accountant = RDPAccountant() if accountant is None else accountant
    settings: dict[str, Any] = {
        "noise_multiplier": mechanism.noise_multiplier,
        "clipping_norm": mechanism.clipping_norm,
        "expected_batch_size": expected,
        "noise": noise.child("gaussian"),
        "proximal_mu": mechanism.proximal_mu,
        "steps": mechanism.steps,
    }
    counted = accountant.get_optimizer_hook_fn(sample_rate=mechanism.sampling_rate)
    rates = iter([mechanism.rate(round, step) for step in range(1, mechanism.steps + 1)])
    matrix = np.ascontiguousarray(records, dtype=np.float64)
    patients = PatientRows(records if isinstance(records, GroupedRows) else matrix, held_out=False)
    samples = _samples(mechanism, drawn, patients, noise)
    inputs = ModelInputs(schema, mechanism.inputs, matrix, tensors_of(records))
    of_rows = inputs if split is None else BodyValues(split, constants, inputs, matrix, patients, leave)
    if sums is not None:
        flat = _flat(sums, parameters)
        summed = _sums_in_lanes(sums, of_rows, schema, mechanism, loss, matrix, samples)
        if mechanism.step_grid is not None:
            return _shared(next(summed), parameters, mechanism, noise, accountant)
        stepping = LaneOptimizer(_torch_optimizer(mechanism, [flat]), sums, **settings)
        stepping.attach_step_hook(counted)
        _steps_in_lanes(stepping, summed, rates)
        _check_steps(accountant, mechanism)
        return _by_name(flat, parameters)
    assert gradients is not None
    if mechanism.step_grid is not None:
        batches = next(_batches(of_rows, schema, loss, matrix, samples, size))
        total = _sum_of(batches, gradients, parameters, mechanism)
        return _shared(total, parameters, mechanism, noise, accountant)
    optimizer = GridOptimizer(
        _torch_optimizer(mechanism, list(parameters.values())), **settings, stability=mechanism.stability
    )
    optimizer.attach_step_hook(counted)
    for batches in _batches(of_rows, schema, loss, matrix, samples, size):
        _set_rate(optimizer, next(rates))
        _step(optimizer, gradients, parameters, batches)
    _check_steps(accountant, mechanism)
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def read_back_epsilon(accountant: RDPAccountant, *, delta: float, orders: Sequence[float]) -> float:
    """ε at `delta` of the steps that Opacus itself counted, over the given Rényi orders, to hold against ours."""
    with warnings.catch_warnings():
        # Opacus warns where the best order is the first or last: ours are as they are, and fixed for a population.
        warnings.simplefilter("ignore", UserWarning)
        return float(accountant.get_epsilon(delta=delta, alphas=list(orders)))


def check_model(graph: Graph, mechanism: DPSGD | Evaluation, schema: Schema) -> None:
    """Raise `UnsupportedMechanism` unless inputs, outputs, loss and classes go together. Looks at public facts only."""
    shape = schema.input_shape(mechanism.inputs)
    if graph.input_shape != shape:
        raise UnsupportedMechanism(f"The model takes records of {graph.input_shape}; these inputs are {shape}.")
    try:
        check_outputs(graph, mechanism, schema)
    except GraphRefused as refused:
        raise UnsupportedMechanism(str(refused)) from None
    if mechanism.loss == "cross_entropy" and len(graph.output_shape) != 1:
        raise UnsupportedMechanism(
            f"cross_entropy takes one logit per class, and the model gives {graph.output_shape}."
        )


def physical_batch(graph: Graph, expected_batch_size: float) -> int:
    """Records of one physical batch: public, fixed, 1 to 512.

    Two standard deviations above the expected Poisson batch, so that nearly every step needs one physical batch; a
    larger sample takes several, and so do records that share a place. Less where the model is so large that memory
    would grow past `_BATCH_ELEMENTS`, or that places left empty cost more than more passes over fewer of them would.
    """
    sufficient = math.ceil(expected_batch_size + 2 * math.sqrt(expected_batch_size))
    # Intermediates are kept once for the forward and once for the backward pass.
    floats = graph.parameter_count + 2 * graph.elements
    worthwhile = max(_FEWEST_PLACES, _PASS_ELEMENTS // floats)
    return max(1, min(sufficient, worthwhile, _BATCH_ELEMENTS // floats, LARGEST_BATCH))


def record_gradients(model: Forward, loss: Loss | str) -> Gradients:
    """A function (parameters, inputs, labels) -> (gradients by name, (losses, outputs)), all of them [B, ...]."""

    def one_record(parameters: Mapping[str, Tensor], record: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        output = model(parameters, record)
        return record_loss(output, label, loss), output

    gradients: Gradients = vmap(grad_and_value(one_record, has_aux=True), in_dims=(None, 0, 0))
    return gradients


def taped(gradients: Gradients, graph: Graph, classes: int, size: int, loss: Loss | str = "cross_entropy") -> Gradients:
    """`gradients` for physical batches of `size` as a tape: the same bits, without vmap's and autograd's own work.

    Recorded from made-up values, before private rows are looked at. Where a model cannot be recorded, which the graph
    and the size alone decide, `gradients` itself.
    """
    names = [parameter.name for parameter in graph.trained]

    def flat(tensors: Sequence[Tensor]) -> list[Tensor]:
        by_name, (losses, outputs) = gradients(dict(zip(names, tensors, strict=False)), *tensors[-2:])
        return [*(by_name[name] for name in names), losses, outputs]

    def example(seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)  # of its own: no randomness of this process is drawn or set
        shapes = [*(parameter.shape for parameter in graph.trained), (size, *graph.input_shape)]
        labels = as_loss(loss).made_up(size, classes, generator)
        return [*(torch.randn(shape, generator=generator) for shape in shapes), labels]

    try:
        tape = recorded(flat, (example(1), example(2)))
    except NotRecordable:
        return gradients

    def played(
        parameters: Mapping[str, Tensor], inputs: Tensor, labels: Tensor
    ) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
        *replayed, losses, outputs = tape([*(parameters[name] for name in names), inputs, labels])
        return dict(zip(names, replayed, strict=True)), (losses, outputs)

    return played


def checked_parameters(graph: Graph, weights: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Copies of the weights that are trained, in the graph's order.

    Raises `WeightsRefused` where names, shapes or dtypes differ, of frozen ones too.
    """
    names = [parameter.name for parameter in graph.weights]
    if set(weights) != set(names):
        raise WeightsRefused(f"The model's weights are {', '.join(names)}.")
    for parameter in graph.weights:
        weight, shape = weights[parameter.name], parameter.shape
        if tuple(weight.shape) != shape or weight.dtype != torch.float32:
            raise WeightsRefused(f"{parameter.name} is {weight.dtype} {tuple(weight.shape)}, not float32 {shape}.")
    return {parameter.name: nn.Parameter(weights[parameter.name].detach().clone()) for parameter in graph.trained}


def frozen_of(graph: Graph, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The constants among weights that `checked_parameters` has checked."""
    return {parameter.name: weights[parameter.name].detach() for parameter in graph.frozen}


def _torch_optimizer(mechanism: DPSGD, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if mechanism.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=mechanism.learning_rate, weight_decay=mechanism.weight_decay)
    return torch.optim.SGD(
        parameters, lr=mechanism.learning_rate, momentum=mechanism.momentum, weight_decay=mechanism.weight_decay
    )


def _samples(mechanism: DPSGD, expected: float, patients: PatientRows, noise: NoiseSource) -> Iterator[list[Rows]]:
    """Rows of each step's Poisson sample, `mechanism.steps` of them, as many at a time as are small together."""
    who, which = noise.child("patients"), noise.child("records")
    together = max(1, _PREPARED_RECORDS // max(1, math.ceil(expected)))
    for begin in range(0, mechanism.steps, together):
        yield patients.samples(mechanism.sampling_rate, min(together, mechanism.steps - begin), who, which)


def _batches(
    of_rows: ModelInputs | BodyValues,
    schema: Schema,
    loss: Loss,
    records: Records,
    samples: Iterator[list[Rows]],
    size: int,
) -> Iterator[Collection[Batch]]:
    """The physical batches of each step's sample, some perhaps empty."""
    if of_rows.are_tensors:  # which are read as each physical batch comes
        for rows in samples:
            yield from (_TensorBatches(of_rows, schema, loss, records, sample, size) for sample in rows)
        return
    for inputs, labels, codes in _of_steps(of_rows, schema, loss, records, samples):
        yield [_padded(inputs, labels, taken, places, size) for taken, places in by_place(codes, size)]


def _of_steps(
    of_rows: ModelInputs | BodyValues, schema: Schema, loss: Loss, records: Records, samples: Iterator[list[Rows]]
) -> Iterator[tuple[Tensor, Tensor, Records]]:
    """Inputs, labels and patients of each step's sample, some perhaps empty."""
    for rows in samples:
        chosen, ends = np.concatenate(rows), np.cumsum([len(sample) for sample in rows])[:-1]
        inputs, labels = _prepared(of_rows, schema, loss, records, chosen)
        codes = np.split(records[chosen, PATIENT], ends)
        parts = torch.tensor_split(inputs, ends.tolist())
        yield from zip(parts, torch.tensor_split(labels, ends.tolist()), codes, strict=True)


class _TensorBatches:
    """A sample as physical batches, at least one, made one after the other: never more than one is in memory."""

    def __init__(
        self, of_rows: ModelInputs | BodyValues, schema: Schema, loss: Loss, records: Records, sample: Rows, size: int
    ) -> None:
        self._of_rows, self._schema, self._loss, self._records = of_rows, schema, loss, records
        self._sample, self._size = sample, size
        self._placed = by_place(records[sample, PATIENT], size)

    def __len__(self) -> int:
        return len(self._placed)

    def __contains__(self, batch: object) -> bool:
        return False  # nobody asks

    def __iter__(self) -> Iterator[Batch]:
        for taken, places in self._placed:
            inputs, labels = _prepared(self._of_rows, self._schema, self._loss, self._records, self._sample[taken])
            yield _padded(inputs, labels, np.arange(len(taken)), places, self._size)


def _prepared(
    of_rows: ModelInputs | BodyValues, schema: Schema, loss: Loss, records: Records, rows: Rows
) -> tuple[Tensor, Tensor]:
    """Inputs and labels of rows, scaled a few thousand at a time: what that takes in memory depends on no sample."""
    inputs = torch.empty((len(rows), *of_rows.shape))
    labels = torch.from_numpy(compared_with(schema, records[:0], loss))  # of no record, for its dtype and width
    labels = labels.new_empty((len(rows), *labels.shape[1:]))
    for begin in range(0, len(rows), _PREPARED_RECORDS):
        part = rows[begin : begin + _PREPARED_RECORDS]
        inputs[begin : begin + len(part)] = torch.from_numpy(of_rows.of(part))
        labels[begin : begin + len(part)] = torch.from_numpy(compared_with(schema, records[part], loss))
    return inputs, labels


def _padded(inputs: Tensor, labels: Tensor, taken: Rows, places: Rows, size: int) -> Batch:
    """A physical batch of `size` places: inputs, labels, and which places are taken, by the records `taken`."""
    batch = (
        torch.zeros((size, *inputs.shape[1:])),
        labels.new_zeros((size, *labels.shape[1:])),
        torch.zeros(size, dtype=torch.bool),
    )
    where, rows = torch.from_numpy(places), torch.from_numpy(taken)
    batch[0][where], batch[1][where], batch[2][where] = inputs[rows], labels[rows], True
    return batch


def _step(
    optimizer: GridOptimizer,
    gradients: Gradients,
    parameters: Mapping[str, nn.Parameter],
    batches: Collection[Batch],
) -> None:
    """One optimizer step over the physical batches of one sample; an empty sample steps on noise alone."""
    values = {name: parameter.detach() for name, parameter in parameters.items()}
    for number, (inputs, labels, present) in enumerate(batches, start=1):
        by_name, counting = _of_batch(gradients, values, inputs, labels, present)
        for name, parameter in parameters.items():
            parameter.grad_sample = by_name[name]  # type: ignore[attr-defined]
        optimizer.present = counting
        optimizer.signal_skip_step(do_skip=number < len(batches))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _of_batch(
    gradients: Gradients, values: Mapping[str, Tensor], inputs: Tensor, labels: Tensor, present: Tensor
) -> tuple[Mapping[str, Tensor], Tensor]:
    """Each record's gradients by name, and who counts: those who are present and whose loss and output are finite."""
    by_name, (losses, outputs) = gradients(values, inputs, labels)
    sound = torch.isfinite(losses) & torch.isfinite(outputs).reshape(len(losses), -1).all(1)
    return by_name, present & sound


def _sum_of(
    batches: Collection[Batch], gradients: Gradients, parameters: Mapping[str, nn.Parameter], mechanism: DPSGD
) -> npt.NDArray[np.int64]:
    """The clipped sum over the physical batches of one sample, in grid units, without any noise."""
    values = {name: parameter.detach() for name, parameter in parameters.items()}
    total = torch.zeros(sum(parameter.numel() for parameter in parameters.values()), dtype=torch.float64)
    for inputs, labels, present in batches:
        by_name, counting = _of_batch(gradients, values, inputs, labels, present)
        total += clipped_sum(
            [by_name[name] for name in parameters],
            counting,
            clipping_norm=mechanism.clipping_norm,
            stability=mechanism.stability,
        )
    return np.asarray(total.numpy().astype(np.int64))


def _shared(
    total: npt.NDArray[Any],
    parameters: Mapping[str, nn.Parameter],
    mechanism: DPSGD,
    noise: NoiseSource,
    accountant: RDPAccountant,
) -> dict[str, Tensor]:
    """A sum with this hospital's part of the noise, by the parameters' names and shapes: what masks hide."""
    assert mechanism.noise_multiplier is not None
    units = torch.from_numpy(with_part(total, mechanism, noise.child("discrete gaussian")))
    accountant.step(noise_multiplier=mechanism.noise_multiplier, sample_rate=mechanism.sampling_rate)
    _check_steps(accountant, mechanism)
    return _by_name(units, parameters)


def _flat(sums: LaneSums, parameters: Mapping[str, nn.Parameter]) -> nn.Parameter:
    """All parameters as one, in the memory that the lanes read weights from."""
    sums.put([parameter.detach().numpy() for parameter in parameters.values()])
    return nn.Parameter(torch.from_numpy(sums.weights))


def _by_name(flat: Tensor, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    parts = torch.split(flat.detach(), [parameter.numel() for parameter in parameters.values()])
    return {name: part.view(parameters[name].shape).clone() for name, part in zip(parameters, parts, strict=True)}


def _sums_in_lanes(
    sums: LaneSums,
    of_rows: ModelInputs | BodyValues,
    schema: Schema,
    mechanism: DPSGD,
    loss: Loss,
    matrix: Records,
    samples: Iterator[list[Rows]],
) -> Iterator[Any]:
    """Each step's clipped sum, in grid units, as the optimizer asks for it."""
    if of_rows.are_tensors:
        tensors = TensorSums(sums, of_rows, schema, matrix, loss)
        return (tensors.sum(rows) for together in samples for rows in together)
    if schema.has_terms(mechanism.inputs):
        in_advance = _in_advance(of_rows, schema, loss, matrix, samples)
        return (sums.sum(inputs, labels, rows) for inputs, labels, rows in in_advance)
    placed = LaneRecords(schema, mechanism.inputs, matrix, sums.program, sums.kernels, loss.outcome)
    return (sums.sum(placed, None, rows) for together in samples for rows in together)


def _in_advance(
    of_rows: ModelInputs | BodyValues, schema: Schema, loss: Loss, records: Records, samples: Iterator[list[Rows]]
) -> Iterator[tuple[Inputs, Labels, Rows]]:
    """Each step's inputs and labels where some are transformations, which the kernel of cells does not know."""
    for inputs, labels, _ in _of_steps(of_rows, schema, loss, records, samples):
        flat = inputs.reshape(len(inputs), math.prod(inputs.shape[1:])).numpy()
        classes = labels.numpy().astype(np.float32)
        if loss.values:  # those of a target that is no class lie behind the inputs
            flat, classes = np.concatenate([flat, classes], axis=1), np.zeros(len(flat), dtype=np.float32)
        yield np.ascontiguousarray(flat), classes, np.arange(len(flat), dtype=np.int64)


def _steps_in_lanes(optimizer: LaneOptimizer, summed: Iterator[Any], rates: Iterator[float]) -> None:
    """A step for every sample's sum, every record in a lane of its own."""
    for total in summed:
        _set_rate(optimizer, next(rates))
        optimizer.take(total)
        optimizer.step()


def _set_rate(optimizer: GridOptimizer | LaneOptimizer, rate: float) -> None:
    """The learning rate of the next step, which no data has a part in."""
    optimizer.original_optimizer.param_groups[0]["lr"] = rate


def _check_steps(accountant: RDPAccountant, mechanism: DPSGD) -> None:
    """Refuse to release weights whose steps Opacus counted otherwise than the mechanism says: a fault of ours."""
    declared = (mechanism.noise_multiplier, mechanism.sampling_rate)
    counted = accountant.history[-1] if accountant.history else (None, None, 0)
    if counted[:2] != declared or counted[2] % mechanism.steps:
        raise DatasiteError("Opacus counted other steps than the plan's. Nothing is released; please report this.")
