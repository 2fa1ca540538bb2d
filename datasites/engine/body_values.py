"""What a frozen body computes of every record, once a round: a model's inputs where its head alone is trained.

The body runs over as many places as the split has, of public number: over every record in training, and over records
again where there are fewer. So how long it takes is the same whatever the records hold and however many there are. A
record's values are a function of that record alone, to the bit, as they are at each step: it has a lane of its own, or
a place of its own patient's code. They are kept in memory of this process, of public size, until the round is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import vmap

from datasites.engine.helpers import Helper, helpers, side_by_side
from datasites.engine.interpreter import forward
from datasites.engine.lanes import compiled, scores
from datasites.engine.lanes.instructions import LANES
from datasites.engine.lanes.scores import LaneScores
from datasites.engine.matrix import PATIENT, Places
from datasites.engine.model_inputs import Float32Array, IntArray, ModelInputs
from datasites.engine.sampling import PatientRows, by_place
from datasites.engine.splitting import Split
from policies.graph.graphs import Graph

Leave = Callable[[int, int], bool]
"""Told how many places are done and how many there are, at the beginning too; True leaves the rest."""

Computed = Callable[[Float32Array, IntArray], Float32Array]
"""Of inputs [N, *shape] and whole numbers, of which a record's place in torch is made, what the body gives, [N, width].
"""

_TOGETHER = 2048  # records, at most, that are read and computed at a time
_PLACES = 512  # of a physical batch in torch, at most,
_PASS_FLOATS = 2**20  # or fewer, from where a pass's own cost is small beside that of its floats
_FEWEST_PLACES = 16


class BodyValues:
    """Inputs of a head by rows, as `ModelInputs` gives those of a whole model. Private, so it has no telling `repr`.

    Args:
      split: public, as all of the rest but the records.
      weights: of the graph's frozen parameters, by name.
      inputs: the whole model's.
      matrix: float64 [N, 2 + C].
      patients: those in training, of this matrix.
      leave: of a rehearsal, which ends the body's pass once its pace is known; what is left is zeros.
    """

    __slots__ = ("_body", "_inputs", "_keys", "_places", "_rows", "_slots", "_values", "shape")

    def __init__(
        self,
        split: Split,
        weights: Mapping[str, Tensor],
        inputs: ModelInputs,
        matrix: npt.NDArray[np.float64],
        patients: PatientRows,
        leave: Leave | None = None,
    ) -> None:
        self._inputs, self._slots, self._rows = inputs, split.slots, patients.rows
        self.shape: tuple[int, ...] = (split.width,)
        self._body = body_of(split.body, weights)
        # Of a patient's code and which of its rows it is: so its rows do not wait for each other's place.
        self._keys = matrix[self._rows, PATIENT].astype(np.int64) + patients.numbers
        self._places = _places_of(self._rows, len(matrix))
        self._values = np.zeros((split.slots, split.width), np.float32)
        self._fill(leave)

    @property
    def together(self) -> int:
        """Rows whose values may be taken at once."""
        return min(_TOGETHER, self._inputs.together)

    @property
    def are_tensors(self) -> bool:
        """They lie beside the matrix, as tensors do."""
        return True

    def of(self, rows: IntArray) -> Float32Array:
        """Values [len(rows), width] of rows in training, in their order."""
        places = rows if self._places is None else self._places[rows]
        kept = places < self._slots
        values: Float32Array = self._values[np.where(kept, places, 0)]
        if not kept.all():  # as many as are sampled of the patients beyond the public number
            beyond = places[~kept]
            parts = [beyond[begin : begin + self.together] for begin in range(0, len(beyond), self.together)]
            values[~kept] = np.concatenate([self._computed(part) for part in parts])
        return values

    def _fill(self, leave: Leave | None) -> None:
        if leave is not None:
            leave(0, self._slots)
        for begin in range(0, self._slots, self.together):
            end = min(begin + self.together, self._slots)
            self._values[begin:end] = self._computed(np.arange(begin, end))
            if leave is not None and leave(end, self._slots):
                return

    def _computed(self, places: IntArray) -> Float32Array:
        """What the body gives of the records at these places; behind the last one, of records again, whose values
        nobody asks for and which lie as records do: for the time that they take."""
        count = len(self._rows)
        made_up = np.random.default_rng(0).integers(2**53, size=len(places))
        if not count:
            return self._body(np.zeros((len(places), *self._inputs.shape), np.float32), made_up)
        again = places % count
        keys = np.where(places < count, self._keys[again], made_up)
        return self._body(self._inputs.of(self._rows[again].astype(np.int64)), keys)

    def __repr__(self) -> str:
        return "BodyValues(…)"


def _places_of(rows: Places, count: int) -> IntArray | None:
    """The place of each row of a matrix among those in training; None where they are the first ones, in order."""
    if np.array_equal(rows, np.arange(len(rows))):
        return None
    places = np.full(count, np.iinfo(np.int64).max)
    places[rows] = np.arange(len(rows))
    return places


def body_of(body: Graph, weights: Mapping[str, Tensor]) -> Computed:
    """A body as a function, in lanes where it lowers, and by torch with a place for each record where it does not.

    By public facts: the graph and the weights.
    """
    frozen = {parameter.name: weights[parameter.name] for parameter in body.frozen}
    kernels = compiled.loaded()
    if kernels is not None:
        try:
            first = scores.made_for(body, None, weights, kernels, frozen=frozen)
            helping = helpers()
            return _in_lanes([first, *(first.again() for _ in helping)], helping)
        except Exception:  # all that it looks at is public, and torch runs whatever is wrong with this one
            pass
    return _by_places(body, {parameter.name: weights[parameter.name] for parameter in body.trained}, frozen)


def _in_lanes(lanes: list[LaneScores], helping: list[Helper]) -> Computed:
    """A lane for each record; this thread and each that helps compute a share."""

    def computed(inputs: Float32Array, keys: IntArray) -> Float32Array:
        flat = np.ascontiguousarray(inputs.reshape(len(inputs), -1), dtype=np.float32)
        share = max(LANES, -(-len(flat) // (len(lanes) * LANES)) * LANES)
        parts = [flat[begin : begin + share] for begin in range(0, len(flat), share)]
        found: list[Float32Array] = [np.empty(0, np.float32)] * len(parts)

        def compute(number: int) -> None:
            found[number] = lanes[number].of(parts[number])[0]

        side_by_side(helping, [partial(compute, number) for number in range(len(parts))])
        return np.concatenate(found)

    return computed


def _by_places(body: Graph, weights: Mapping[str, Tensor], frozen: Mapping[str, Tensor]) -> Computed:
    """A place in a batch for each record, by its patient's code."""
    model = vmap(forward(body, frozen), in_dims=(None, 0))
    size = min(_PLACES, max(_FEWEST_PLACES, _PASS_FLOATS // body.elements))

    def computed(inputs: Float32Array, keys: IntArray) -> Float32Array:
        values = np.zeros((len(inputs), body.output_shape[0]), np.float32)
        for indices, places in by_place(keys, size):
            batch = torch.zeros((size, *body.input_shape))
            batch[places] = torch.from_numpy(inputs[indices])
            with torch.no_grad():
                values[indices] = model(weights, batch)[torch.from_numpy(places)].numpy()
        return values

    return computed
