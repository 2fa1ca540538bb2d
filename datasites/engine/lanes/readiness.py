"""Which engine trains: loading the kernels, testing them on this processor, and asking whether a graph lowers.

A runner's parent calls `prepare` before the first job. Whether a model then trains in lanes, its graph, loss and
clipping norm alone decide, on made-up values; what does not train there trains the former way, with the same guarantee.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from datasites.engine.gradient_recorder import Recorder
from datasites.engine.grid import grid_of
from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import Kernels, KernelsMissing
from datasites.engine.lanes.emitter import NotLowered
from datasites.engine.lanes.gaussians import transformed
from datasites.engine.lanes.lowering import lowered
from datasites.engine.lanes.sums import MOST_RECORDS, LaneSums, shrinkage
from datasites.engine.lanes.verifier import verified
from datasites.engine.losses import Loss
from policies.graph.graphs import Graph

LARGEST_DIFFERENCE = (
    1e-3  # of the clipping norm: between torch's gradient and the program's, of the same made-up record
)
TESTED = 40  # records of the self-test
TOGETHER = 2**16  # numbers that are compared at a time, to stay in a processor's nearer memory

_reason = "Nothing has loaded the kernels yet."


def prepare(graph: Graph, loss: Loss | str) -> str:
    """Load the kernels and test them on `graph`. Returns "" where both went well, else why lanes are not used."""
    global _reason
    try:
        kernels = compiled.load()
        check_hold(graph, loss, kernels)
        check_noise(kernels)
        _reason = ""
    except (KernelsMissing, NotLowered) as error:
        compiled.unload()
        _reason = str(error)
    return _reason


def said() -> str:
    """Which engine this process trains with, in one sentence for owners."""
    kernels = compiled.loaded()
    if kernels is None:
        return f"a place for each record: {_reason.rstrip('.')}"
    return f"a lane for each record ({kernels.level}); its self-test holds"


def sums_for(
    graph: Graph,
    loss: Loss | str,
    classes: int,
    clipping_norm: float,
    expected: float,
    stability: float = 0.0,
    *,
    frozen: Mapping[str, Tensor] = {},
) -> LaneSums | None:
    """Sums in lanes for batches of `expected` records, or None where the model trains the former way.

    Decided before any private row is looked at, by public facts; frozen weights are among them.

    Args:
      stability: of automatic clipping, 0 without it.
    """
    kernels = compiled.loaded()
    if kernels is None:
        return None
    try:
        return made_for(graph, loss, classes, clipping_norm, expected, kernels, stability, frozen=frozen)
    except Exception:  # all that it looks at is public, and the former way trains whatever is wrong with this one
        return None


def made_for(
    graph: Graph,
    loss: Loss | str,
    classes: int,
    clipping_norm: float,
    expected: float,
    kernels: Kernels,
    stability: float = 0.0,
    *,
    frozen: Mapping[str, Tensor] = {},
) -> LaneSums:
    """The same. Raises `NotLowered`, saying why, where the model does not train in lanes.

    Args:
      frozen: what constants of the graph are; made up where none are given.
    """
    program, recording = lowered(graph, loss, classes, frozen)
    # Four deviations above the expected Poisson batch: nearly every step is one part.
    most = min(MOST_RECORDS, math.ceil(expected + 4 * math.sqrt(expected)))
    sums = LaneSums(verified(program), kernels, clipping_norm, most=most, stability=stability)
    if not _agrees(sums, recording, clipping_norm, stability):
        raise NotLowered("The program gives another gradient than torch does.")
    return sums


def _agrees(sums: LaneSums, recording: Recorder, clipping_norm: float, stability: float) -> bool:
    """Whether clipped gradients of made-up records are torch's: of the recorded one, and of one with other weights.

    The second one is what a program would give otherwise of which some part hung upon the first one's values.
    """
    recorded = ([value.detach() for value in recording.values[: len(recording.results)]], recording.results)
    return all(_agree(sums, *run, clipping_norm, stability) for run in (recorded, recording.other))


def _agree(
    sums: LaneSums, arguments: list[Tensor], results: list[Tensor], clipping_norm: float, stability: float
) -> bool:
    *gradients, loss, output = results
    count = len(gradients)
    sums.put([value.numpy() for value in arguments[:count]])
    record, target = (arguments[count + place].reshape(1, -1).numpy().astype(np.float32) for place in (0, 1))
    behind = sums.program.features - record.shape[1]  # values of a target that is no class
    inputs = np.ascontiguousarray(np.concatenate([record, target[:, :behind]], axis=1))
    label = np.ascontiguousarray(target[:, 0])
    found = sums.sum(inputs, label, np.zeros(1, dtype=np.int64))
    norm = math.sqrt(sum(float(torch.linalg.vector_norm(part, dtype=torch.float64)) ** 2 for part in gradients))
    if not (math.isfinite(norm) and torch.isfinite(loss).all() and torch.isfinite(output).all()):
        return not found.any()
    within = clipping_norm * shrinkage(len(found), clipping_norm)
    factor = within / (norm + stability) if stability else min(1.0, within / norm) if norm else 1.0
    place, largest = 0, 0.0
    for gradient in gradients:
        for part in np.array_split(gradient.detach().reshape(-1).numpy(), 1 + gradient.numel() // TOGETHER):
            ours = found[place : place + len(part)] * grid_of(clipping_norm)
            largest = max(largest, float(np.abs(ours - part * factor).max(initial=0)))
            place += len(part)
    return largest <= LARGEST_DIFFERENCE * clipping_norm


def check_hold(graph: Graph, loss: Loss | str, kernels: Kernels) -> None:
    """S(batch) - S(batch without r) = S({r}) to the bit, on this processor. Raises `KernelsMissing` where it is not."""
    norm, rng = 0.37, np.random.default_rng(0)
    sums = made_for(graph, loss, 2, norm, TESTED, kernels)
    inputs = rng.uniform(-1, 1, (TESTED, math.prod(graph.input_shape))).astype(np.float32)
    inputs[3], inputs[7], inputs[11] = np.nan, np.inf, 1e30
    labels = rng.integers(0, 2, TESTED).astype(np.float32)
    for scale in (1.0, 30.0, 1e20):
        sums.weights[:] = rng.normal(0, scale, len(sums.weights))
        rows = rng.permutation(TESTED)
        whole = sums.sum(inputs, labels, rows).astype(np.int64)
        for record in (0, 3, 16, TESTED - 1):
            others = sums.sum(inputs, labels, rng.permutation(rows[rows != record])).astype(np.int64)
            alone = sums.sum(inputs, labels, np.array([record])).astype(np.int64)
            short = sum(int(unit) ** 2 for unit in alone.tolist()) <= (norm / grid_of(norm)) ** 2
            if not (np.array_equal(whole - others, alone) and short):
                raise KernelsMissing("The kernels' self-test failed: one record changed another's bits.")


def check_noise(kernels: Kernels) -> None:
    """Gaussians of fixed words are those of numpy but for rounding. Raises `KernelsMissing` where they are not."""
    rng, std, pairs = np.random.default_rng(0), 2.0**20, 4096
    words = rng.integers(0, 2**64 - 1, 2 * pairs, dtype=np.uint64)
    words[:pairs:512] >>= np.uint64(14)  # small radii
    fractions = rng.integers(0, 2**64 - 1, pairs, dtype=np.uint64)
    radii, angles = np.split(words.view(np.int64), 2)
    small = np.flatnonzero(np.abs(radii.astype(np.float64)) < 2.0**53)
    radius = np.abs(radii.astype(np.float64))
    radius[small] = (radii[small] ^ (radii[small] >> 63)) + (fractions[: len(small)] >> np.uint64(11)) * 2.0**-53
    radius, turn = std * np.sqrt(-2 * np.log(radius * 2.0**-63)), angles * (math.pi * 2.0**-63)
    found = np.empty(2 * pairs)
    enough = transformed(kernels, words, fractions, std, found) is not None
    wanted = np.concatenate([np.cos(turn) * radius, np.sin(turn) * radius])
    if not (enough and np.abs(found - wanted).max() <= 0.5 + 2.0**-20):
        raise KernelsMissing("The kernels' self-test failed: they make other noise than was declared.")
