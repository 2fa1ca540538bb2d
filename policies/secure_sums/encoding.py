"""Releases as whole numbers that add up exactly, modulo 2^32.

A hospital carries how far each weight moved from what came in, weighed by its share of patients, in units of a public
grid, as a word of 32 bits; of an evaluation each cell's whole number, unweighed. Rounding happens after the noise, to
what would have been released, so it costs no privacy.
A number that is none counts as not moved; one beyond `reach` is held to it: nothing is refused for its value.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.privacy.secure_aggregation import SecureAggregation

Words = npt.NDArray[np.uint32]
Tensors = Mapping[str, npt.NDArray[Any]]


def encoded(release: Tensors, start: Tensors, declared: SecureAggregation, party: int) -> Words:
    """What one party adds to the sum: all numbers of its release in order of their tensors' names.

    Args:
      release: float tensors; `start` those that the round began with, of these names and shapes and perhaps others.
      party: its number in the roster, from 1.
    """
    share = declared.hospitals[party - 1].patients / declared.most_patients
    begin = {name: start[name] for name in release}  # what is constant or stays at the hospital is in no sum
    moved = (flat(release) - flat(begin)) * (share / declared.grid)
    held = np.clip(np.nan_to_num(moved, nan=0.0), -declared.largest, declared.largest)
    words: Words = np.rint(held).astype(np.int64).astype(np.uint32)
    return words


def decoded(total: Words, start: Tensors, declared: SecureAggregation, parties: Collection[int]) -> dict[str, Any]:
    """The mean over parties, weighed by their patients, as float32 tensors with the names and shapes of `start`."""
    patients = sum(declared.hospitals[party - 1].patients for party in parties)
    moved = total.astype(np.int32).astype(np.float64) * (declared.grid * declared.most_patients / patients)
    return shaped((flat(start) + moved).astype(np.float32), start)


def counted(release: Tensors, steps: Mapping[str, float], declared: SecureAggregation) -> Words:
    """What one party adds of tables of counts: each cell's whole number of its table's steps, noise included.

    Args:
      steps: what one unit stands for, by tensor. Cells are multiples of it as they are released, so nothing is rounded.
    """
    units = flat({name: np.asarray(cells, dtype=np.float64) / steps[name] for name, cells in release.items()})
    held = np.clip(np.nan_to_num(units, nan=0.0), -declared.largest, declared.largest)
    words: Words = np.rint(held).astype(np.int64).astype(np.uint32)
    return words


def added(total: Words, like: Tensors, steps: Mapping[str, float]) -> dict[str, Any]:
    """The sum of tables over parties, exactly, as float64 tensors with the names and shapes of `like`."""
    parts = shaped(total.astype(np.int32).astype(np.float64), like)
    return {name: cells * steps[name] for name, cells in parts.items()}


def flat(tensors: Tensors) -> npt.NDArray[np.float64]:
    """All numbers in order of their tensors' names."""
    return np.concatenate([np.asarray(tensors[name], dtype=np.float64).reshape(-1) for name in sorted(tensors)])


def words_of(tensors: Tensors) -> Words:
    """The words of a masked release, in the same order."""
    return np.concatenate([np.asarray(tensors[name], dtype=np.uint32).reshape(-1) for name in sorted(tensors)])


def shaped(numbers: npt.NDArray[Any], like: Tensors) -> dict[str, Any]:
    """Numbers in that order as tensors of the names and shapes of `like`."""
    ends = np.cumsum([np.asarray(like[name]).size for name in sorted(like)])[:-1]
    parts = np.split(numbers, ends)
    return {name: part.reshape(np.shape(like[name])) for name, part in zip(sorted(like), parts, strict=True)}
