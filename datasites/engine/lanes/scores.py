"""Scores of records by a program of lanes: forward only, in the memory and with the calls that sums have.

A record's scores are a function of the model's weights and of that record alone, to the bit, whatever stands beside it
and however many there are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from datasites.engine.gradient_recorder import Recorder
from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.emitter import NotLowered
from datasites.engine.lanes.instructions import LANES
from datasites.engine.lanes.lowering import lowered_scores
from datasites.engine.lanes.sums import MOST_FLOATS, MOST_RECORDS, FloatArray
from datasites.engine.lanes.verifier import Verified, verified
from datasites.engine.losses import Loss
from policies.errors import DatasiteError
from policies.graph.graphs import Graph

LARGEST_DIFFERENCE = 1e-3  # between torch's score and the program's, of the same made-up record, in [0, 1] or relative


class LaneScores:
    """Scores by one program and one set of weights.

    Args:
      checked: a program that gives `outputs`, verified.
      kernels: compiled, in this process.
      weights: float32, all parameters in order.
    """

    def __init__(self, checked: Verified, kernels: Kernels, weights: FloatArray) -> None:
        program = checked.program
        if not program.outputs or weights.dtype != np.float32 or weights.shape != (program.parameters,):
            raise DatasiteError("A program that scores records takes as many float32 weights as its graph has.")
        self._given = (checked, kernels, weights)
        self._program, self._entries = program, kernels.entries
        blocks = max(1, min(MOST_RECORDS // LANES, (MOST_FLOATS - 2 * program.scratch) // program.own))
        self.most = blocks * LANES
        self._second = program.scratch + blocks * program.own  # where the scratch of every other block lies
        self._memory = np.zeros(self._second + program.scratch, np.float32)
        self._uniforms = np.concatenate([weights, program.constants]).astype(np.float32)
        self._norms, self._sound = np.zeros(self.most), np.zeros(self.most, np.int32)
        self._labels, self._nothing = np.zeros(self.most, np.float32), np.zeros(LANES, np.float32)
        self._result = (ctypes.c_int64 * 4)()

    def again(self) -> LaneScores:
        """The same in memory of its own, for another thread."""
        return LaneScores(*self._given)

    def of(self, inputs: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Scores [N, outputs] of records [N, features], and of which records the model's output is finite."""
        if inputs.dtype != np.float32 or inputs.ndim != 2 or inputs.shape[1] != self._program.features:
            raise DatasiteError("Records of lanes are float32, with as many features as the program's.")
        scores = np.zeros((len(inputs), self._program.outputs), np.float32)
        sound = np.zeros(len(inputs), np.bool_)
        for begin in range(0, len(inputs), self.most):
            part = np.ascontiguousarray(inputs[begin : begin + self.most])
            scores[begin : begin + len(part)], sound[begin : begin + len(part)] = self._part(part)
        return scores, sound

    def _part(self, inputs: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        program, count = self._program, len(inputs)
        blocks, rows = -(-count // LANES), np.arange(count)
        none, failed = ctypes.addressof(self._result), ctypes.addressof(self._result) + 8
        status = self._entries["place_records"](
            none, failed, self._memory.ctypes.data, program.record, program.own, program.features, program.label,
            inputs.ctypes.data, self._labels.ctypes.data, rows.ctypes.data, count, blocks, self._nothing.ctypes.data,
        )  # fmt: skip
        status |= self._entries["run"](
            none, failed, program.code.ctypes.data, len(program.code), program.terms.ctypes.data,
            self._memory.ctypes.data, self._uniforms.ctypes.data, program.scratch, program.own, self._second, blocks,
            self._norms.ctypes.data, self._sound.ctypes.data,
        )  # fmt: skip
        if status:
            raise DatasiteError("A kernel reported an error, which none of them can: please report this.")
        begin, stride = program.terms[0, :2].tolist()
        places = begin + np.arange(program.outputs) * stride
        lanes = np.arange(LANES)[:, None] + places
        found = self._memory[np.arange(blocks)[:, None, None] * program.own + lanes]
        return found.reshape(-1, program.outputs)[:count], self._sound[:count] != 0


def scores_for(
    graph: Graph, loss: Loss | str, weights: Mapping[str, Tensor], *, frozen: Mapping[str, Tensor] = {}
) -> LaneScores | None:
    """Scores in lanes, or None where the model is scored the former way: by public facts, like `readiness.sums_for`."""
    kernels = compiled.loaded()
    if kernels is None:
        return None
    try:
        return made_for(graph, loss, weights, kernels, frozen=frozen)
    except Exception:  # all that it looks at is public, and the former way scores whatever is wrong with this one
        return None


def made_for(
    graph: Graph,
    loss: Loss | str | None,
    weights: Mapping[str, Tensor],
    kernels: Kernels,
    *,
    frozen: Mapping[str, Tensor] = {},
) -> LaneScores:
    """The same, or without a loss what the graph gives. Raises `NotLowered`, saying why, where lanes do not do it."""
    program, recording = lowered_scores(graph, loss, frozen)
    checked = verified(program)
    _check_agreement(checked, recording, kernels, len(graph.trained))
    flat = torch.cat([weights[parameter.name].detach().reshape(-1) for parameter in graph.trained])
    return LaneScores(checked, kernels, np.ascontiguousarray(flat.numpy(), dtype=np.float32))


def _check_agreement(checked: Verified, recording: Recorder, kernels: Kernels, count: int) -> None:
    """Raise `NotLowered` unless made-up records are scored as torch scores them: the recorded one, and another."""
    for arguments, results in ((recording.values, recording.results), recording.other):
        output, scores = (result.detach().reshape(-1) for result in results)
        values = [value.detach() for value in arguments[: count + 1]]
        weights = torch.cat([value.reshape(-1) for value in values[:count]]).numpy()
        record = np.ascontiguousarray(values[count].reshape(1, -1).numpy(), dtype=np.float32)
        found, sound = LaneScores(checked, kernels, weights).of(record)
        if bool(sound[0]) != bool(torch.isfinite(output).all()):
            raise NotLowered("The program's output is finite where torch's is not.")
        off = np.abs(found[0].astype(np.float64) - scores.numpy()) / np.maximum(1.0, np.abs(scores.numpy()))
        if sound[0] and not off.max() <= LARGEST_DIFFERENCE:
            raise NotLowered("The program gives another score than torch does.")
