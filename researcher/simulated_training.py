"""A round of DP-SGD at many simulated hospitals at once: the declared mechanism on made-up patients, by torch.

Sampling, clipping, noise, divisor, optimizer and schedule are those that the mechanism declares, step for step as a
datasite runs them, but for one thing: noise and sampling come from torch's ordinary generator, since there is nobody
here to protect. Hospitals are computed beside each other, as many as memory likes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.errors import InvalidRequest, UnsupportedMechanism
from policies.privacy.mechanisms import DPSGD
from policies.privacy.outcomes import Outcome, outcome_of
from policies.schema.schemas import Schema
from researcher.simulated_patients import Rows
from researcher.state import Tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

Train = Callable[[Sequence[int], Tensors, int], list[Tensors]]
"""Weights of hospitals, by their numbers, after a round from the same weights."""
_ELEMENTS = 2**24  # floats of gradients that are in memory at a time: 64 MiB


class Trainer:
    """Trains one model at many hospitals.

    Args:
      model: of the study, whose parameters are not changed.
      names: of the parameters that are trained; others are constants.
      mechanism: its noise multiplier found.
      schema: with the mechanism's target.
    """

    def __init__(
        self, model: nn.Module, names: Collection[str], mechanism: DPSGD, schema: Schema, *, seed: int
    ) -> None:
        import torch

        if mechanism.noise_multiplier is None:
            raise UnsupportedMechanism("No noise multiplier was found for this epsilon yet. Resolve the mechanism.")
        self.model, self.mechanism, self.schema = model.eval(), mechanism, schema
        self._seed, self._generator = seed, torch.Generator().manual_seed(seed)
        self._names = sorted(names)
        self._constants = {
            name: value.detach()
            for name, value in (*model.named_parameters(), *model.named_buffers())
            if name not in self._names
        }
        self._numbers = sum(value.numel() for value in model.parameters())

    def drawing(self, *numbers: int) -> Trainer:
        """The same, whose draws depend on its seed and these numbers alone."""
        import torch

        (state,) = np.random.SeedSequence((self._seed, *numbers)).generate_state(1, np.uint64)
        made = copy.copy(self)
        made._generator = torch.Generator().manual_seed(int(state) >> 1)
        return made

    def train(self, hospitals: Sequence[Rows], patients: Sequence[int], weights: Tensors, round: int) -> list[Tensors]:
        """The weights of each hospital after a round from `weights`.

        Args:
          patients: each hospital's published number of training patients: the base of the divisor.

        Raises:
          InvalidRequest: the model's layers cannot be computed for many hospitals at once.
        """
        import torch

        rate = self.mechanism.sampling_rate
        largest = max(len(rows.targets) for rows in hospitals)
        places = math.ceil(rate * largest + 4 * math.sqrt(rate * largest) + 4)
        together = max(1, _ELEMENTS // (min(places, largest) * self._numbers))
        start = {name: torch.from_numpy(np.array(weights[name])) for name in self._names}
        trained: list[Tensors] = []
        for begin in range(0, len(hospitals), together):
            part = slice(begin, begin + together)
            trained += self._together(hospitals[part], patients[part], start, round)
        return trained

    def _together(
        self, hospitals: Sequence[Rows], patients: Sequence[int], start: Mapping[str, Tensor], round: int
    ) -> list[Tensors]:
        import torch

        mechanism, count = self.mechanism, len(hospitals)
        sizes = torch.tensor([len(rows.targets) for rows in hospitals])
        inputs, targets = _padded([rows.inputs for rows in hospitals]), _padded([rows.targets for rows in hospitals])
        divisors = mechanism.sampling_rate * torch.tensor(patients, dtype=torch.float32)
        values = {name: value.expand(count, *value.shape).clone() for name, value in start.items()}
        kept = [{name: torch.zeros_like(value) for name, value in values.items()} for _ in range(2)]
        exists = torch.arange(targets.shape[1])[None, :] < sizes[:, None]
        for step in range(1, mechanism.steps + 1):
            sampled = (torch.rand(exists.shape, generator=self._generator) < mechanism.sampling_rate) & exists
            gradients = self._noisy(values, inputs, targets, sampled, divisors)
            for name, value in values.items():
                gradient = gradients[name] + mechanism.weight_decay * value
                gradient += mechanism.proximal_mu * (value - start[name])
                self._step(value, gradient, kept[0][name], kept[1][name], mechanism.rate(round, step), step)
        numbers = {name: value.numpy() for name, value in values.items()}
        return [{name: value[place].copy() for name, value in numbers.items()} for place in range(count)]

    def _noisy(
        self, values: Mapping[str, Tensor], inputs: Tensor, targets: Tensor, sampled: Tensor, divisors: Tensor
    ) -> dict[str, Tensor]:
        """The noisy mean of clipped gradients over each hospital's sample."""
        import torch

        mechanism = self.mechanism
        most = max(1, int(sampled.sum(1).max()))
        order = torch.argsort(sampled.to(torch.int8), dim=1, descending=True, stable=True)[:, :most]
        present = torch.gather(sampled, 1, order)
        hospital = torch.arange(len(order))[:, None]
        gradients = self._gradients(values, inputs[hospital, order], targets[hospital, order])
        squares = torch.stack([value.flatten(2).square().sum(2) for value in gradients.values()]).sum(0)
        lengths = squares.sqrt()
        stability = mechanism.stability
        factors = mechanism.clipping_norm / (lengths + stability)
        factors = factors if stability else factors.clamp(max=1.0)
        factors = torch.where(present & torch.isfinite(lengths), factors, 0.0)
        deviation = float(mechanism.noise_multiplier or 0.0) * mechanism.clipping_norm
        noisy = {}
        for name, value in gradients.items():
            flat = torch.nan_to_num(value, 0.0, 0.0, 0.0).flatten(2)
            total = torch.einsum("kb,kbp->kp", factors, flat)
            total += deviation * torch.randn(total.shape, generator=self._generator)
            noisy[name] = (total / divisors[:, None]).view(len(order), *value.shape[2:])
        return noisy

    def _gradients(self, values: Mapping[str, Tensor], inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """One gradient for each record of each hospital: [hospitals, records, ...] by name."""
        from torch.func import functional_call, grad, vmap

        def loss(parameters: dict[str, Tensor], record: Tensor, target: Tensor) -> Tensor:
            output = functional_call(self.model, {**parameters, **self._constants}, (record[None],))[0]
            return record_loss(output, target, self.mechanism, self.schema)

        try:
            of_hospital = vmap(grad(loss), in_dims=(None, 0, 0))
            gradients: dict[str, Tensor] = vmap(of_hospital)(dict(values), inputs, targets)
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
            raise InvalidRequest(
                f"{type(self.model).__name__} cannot be simulated, since torch computes it for one hospital at a time:"
                f" {str(error).splitlines()[0][:200]} Datasites can train it all the same."
            ) from None
        return gradients

    def _step(self, value: Tensor, gradient: Tensor, first: Tensor, second: Tensor, rate: float, step: int) -> None:
        """One step of torch's SGD or Adam, in place."""
        if self.mechanism.optimizer == "adam":
            first.mul_(0.9).add_(gradient, alpha=0.1)
            second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            size = (second / (1 - 0.999**step)).sqrt_().add_(1e-8)
            value.addcdiv_(first / (1 - 0.9**step), size, value=-rate)
        else:
            first.mul_(self.mechanism.momentum).add_(gradient)
            value.add_(first, alpha=-rate)

    def outputs(self, weights: Tensors, rows: Rows) -> Tensor:
        """What the model with these weights says of each record."""
        import torch
        from torch.func import functional_call

        values = {name: torch.from_numpy(np.array(weights[name])) for name in self._names}
        with torch.no_grad():
            made: Tensor = functional_call(self.model, {**values, **self._constants}, (torch.from_numpy(rows.inputs),))
        return made


@dataclass(frozen=True)
class Hospitals:
    """Simulated hospitals, numbered from 0: what trains, their patients, and how many each publishes to have."""

    trainer: Trainer
    rows: Sequence[Rows]
    patients: Sequence[int]

    def train(self, hospitals: Sequence[int], weights: Tensors, round: int) -> list[Tensors]:
        """Many hospitals at once, here."""
        rows, patients = [self.rows[number] for number in hospitals], [self.patients[number] for number in hospitals]
        return self.trainer.train(rows, patients, weights, round)

    def train_one(self, hospital: int, weights: Tensors, round: int) -> Tensors:
        """One, whose draws depend on its number and the round alone, wherever it runs."""
        trainer = self.trainer.drawing(hospital, round)
        (trained,) = trainer.train([self.rows[hospital]], [self.patients[hospital]], weights, round)
        return trained


def record_loss(output: Tensor, target: Tensor, mechanism: DPSGD, schema: Schema) -> Tensor:
    """The loss of one record, as `torch.nn.functional` has it under the mechanism's name for it."""
    import torch
    from torch.nn import functional

    name, weights = mechanism.loss, mechanism.class_weights
    if name == "cross_entropy":
        value = functional.cross_entropy(output[None], target[None])
        return value * torch.tensor(weights)[target] if weights else value
    if outcome_of(name) is Outcome.CLASS:
        score, label = output.reshape(()), target.to(output.dtype)
        plain = name == "binary_cross_entropy"
        value = (functional.binary_cross_entropy if plain else functional.binary_cross_entropy_with_logits)(
            score, label
        )
        return value * (weights[0] + (weights[1] - weights[0]) * label) if weights else value
    prediction = output.reshape(1)
    if name == "poisson":
        return (torch.exp(prediction) - target * prediction).sum()
    if name == "mean_squared_error":
        return (prediction - target).square().sum()
    column = schema.column(schema.target_columns[0])
    delta = 1.0 if mechanism.huber_delta is None else mechanism.huber_delta / (column.high - column.low) * 2
    return functional.huber_loss(prediction, target, reduction="sum", delta=delta)


def _padded(arrays: Sequence[Any]) -> Tensor:
    """Arrays of different lengths as one, with zeros after the shorter ones."""
    import torch

    longest = max(len(array) for array in arrays)
    made = np.zeros((len(arrays), longest, *arrays[0].shape[1:]), dtype=arrays[0].dtype)
    for place, array in enumerate(arrays):
        made[place, : len(array)] = array
    return torch.from_numpy(made)
