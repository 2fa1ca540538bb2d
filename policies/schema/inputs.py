"""A model's inputs where some of them are transformations: terms side by side, and one indicator for each column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from policies.errors import UnsupportedMechanism
from policies.schema.columns import Column, FloatArray
from policies.schema.terms import Factor, Term, parse
from policies.schema.transformations import Fitted, fitted, indicator_name, is_missing

MOST_TERMS = 500
MOST_INPUTS = 4096
ROWS_AT_ONCE = 4096  # so that what lies between a cell and an input stays in a processor's nearer memory


@dataclass(frozen=True)
class ModelInputs:
    """Terms in order, each followed by the indicators of its columns that none before it brought."""

    terms: tuple[Fitted, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the inputs, in order."""
        return tuple(
            name for term, indicators in self._parts for name in (*term.names, *map(indicator_name, indicators))
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, once each."""
        return tuple(dict.fromkeys(column.name for term in self.terms for column in term.columns))

    @cached_property
    def _parts(self) -> tuple[tuple[Fitted, tuple[Column, ...]], ...]:
        given: set[str] = set()
        parts = []
        for term in self.terms:
            new = tuple(column for column in term.columns if column.indicator and column.name not in given)
            given |= {column.name for column in new}
            parts.append((term, new))
        return tuple(parts)

    def values(self, raw: Mapping[str, FloatArray]) -> npt.NDArray[np.float32]:
        """The inputs, float32 [N, len(names)] in [-1, 1], from raw cells [N] by column."""
        rows = len(next(iter(raw.values())))
        made = np.empty((rows, len(self.names)), dtype=np.float32)
        for begin in range(0, rows, ROWS_AT_ONCE):
            part = {name: cells[begin : begin + ROWS_AT_ONCE] for name, cells in raw.items()}
            place = 0
            for block in self._blocks(part):
                made[begin : begin + ROWS_AT_ONCE, place : place + block.shape[1]] = block
                place += block.shape[1]
        return made

    def _blocks(self, raw: Mapping[str, FloatArray]) -> Iterator[FloatArray]:
        for term, indicators in self._parts:
            yield term.values(raw)
            for column in indicators:
                yield is_missing(raw[column.name])


def model_inputs(texts: Iterable[str], columns: Mapping[str, Column]) -> ModelInputs:
    """The inputs that texts write over columns. Raises `UnsupportedMechanism` where one cannot be, or one is twice."""
    texts = tuple(texts)
    if len(texts) > MOST_TERMS:
        raise UnsupportedMechanism(f"inputs has {len(texts)} terms, above {MOST_TERMS}. Use fewer.")
    terms = []
    outputs = 0
    for text in texts:
        terms.append(fitted(Term((Factor(text),)) if text in columns else parse(text), columns))
        outputs += len(terms[-1].names)
        if outputs > MOST_INPUTS:
            raise UnsupportedMechanism(f"inputs give more than {MOST_INPUTS} numbers a record. Use fewer terms.")
    inputs = ModelInputs(tuple(terms))
    seen: set[str] = set()
    for name in inputs.names:
        if name in seen:
            raise UnsupportedMechanism(f"inputs give {name!r} twice. Write each term once.")
        seen.add(name)
    return inputs
