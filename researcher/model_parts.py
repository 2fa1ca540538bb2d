"""The parts of a study's model: what is trained and released, public constants, and what stays at each hospital."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from policies.errors import InvalidRequest, PermissionRefused
from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.release.tensors import digest, to_bytes
from researcher.connections import Connection
from researcher.state import StudyState, Tensors
from researcher.weight_files import fitted, read_weights

if TYPE_CHECKING:
    from torch import nn

PART = 4 << 20  # bytes that are sent at a time
Declared = TypeVar("Declared", DPSGD, Evaluation)


@dataclass(frozen=True)
class Parts:
    """Values of a model's parameters before the first round, by part.

    Args:
      released: trained and released.
      frozen: public constants.
      local: trained, and kept at each hospital.
      given: names of those whose values were given as public weights.
      patterns: of the frozen and of the local ones, as declared.
    """

    released: Tensors
    frozen: Tensors = field(default_factory=dict)
    local: Tensors = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    patterns: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    @property
    def constants(self) -> Tensors:
        """What a hospital has to be given once: frozen ones, and what local ones begin with."""
        return {**self.frozen, **self.local}

    def declared_in(self, mechanism: Declared, **more: Any) -> Declared:
        """A mechanism that names these parts, and the digests of public weights."""
        frozen, local = self.patterns
        public = digest(dict(self.constants)) if self.constants else ""
        return dataclasses.replace(mechanism, frozen=frozen, local=local, public_weights=public, **more)


def parts_of(
    make: Callable[[], nn.Module],
    state: StudyState,
    *,
    weights: object = None,
    frozen: str | tuple[str, ...] = (),
    local: str | tuple[str, ...] = (),
) -> Parts:
    """A model's parts, with values from `weights` where they are given, else as the study has kept or its seed draws.

    Raises:
      InvalidRequest: weights are not the model's.
      GraphRefused: a pattern names no parameter, or nothing is left to be released.
    """
    from policies.graph.exporter import parts_of as parts_of_model

    patterns = (_patterns("frozen", frozen), _patterns("local", local))
    model = make()
    drawn = {name: value.detach().numpy().astype(np.float32) for name, value in model.named_parameters()}
    given = {} if weights is None else read_weights(weights)
    fitted(given, drawn)
    kept = {**(state.read_tensors("initial") or {}), **(state.read_tensors("constants") or {})}
    values = {**drawn, **{name: value for name, value in kept.items() if name in drawn}, **given}
    fitted(values, drawn)
    parts = parts_of_model(model, *patterns)
    named = {part: {one.name: values[one.name] for one in listed} for part, listed in parts.items()}
    return Parts(named["parameters"], named["frozen"], named["local"], frozenset(given), patterns)


def _patterns(name: str, value: object) -> tuple[str, ...]:
    patterns = (value,) if isinstance(value, str) else value
    if not isinstance(patterns, tuple | list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise InvalidRequest(f"{name}={value!r:.80} names no parameters. Write {name}='body.*', or several in a tuple.")
    return tuple(patterns)


def send(datasite: Connection, code: str, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Give a hospital the public weights that a request names, where it does not have them yet.

    Raises `PermissionRefused` where it takes none, or not these.
    """
    content = to_bytes(tensors)
    answer = datasite.keep_weights(code, 0, len(content), b"")
    sent = 0
    while not answer["kept"]:
        begin = answer["have"]
        if sent > 2 * len(content) or not 0 <= begin < len(content):  # a hospital may answer with any number
            raise PermissionRefused(f"{datasite.name} does not take the study's public weights. Tell its owner.")
        part = content[begin : begin + PART]
        sent += len(part)
        answer = datasite.keep_weights(code, begin, len(content), part)
