"""What a Flower server and a client of it say to each other, read with bounds: weights, settings, answers.

A server is anybody's program. What it sends is read against the shapes of the approved model before a number of it is
held, and nothing of it is rebuilt as an object.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import numpy as np
from flwr.proto import transport_pb2 as wire

from policies.errors import InvalidRequest
from policies.numbers import counted
from policies.privacy.mechanisms import DPSGD
from researcher.state import Tensors

_format: Any = np.lib.format
HEADER = 4096  # bytes that numpy writes at most before the numbers of one of our tensors
WIDEST = 8  # bytes of a number that a server may send
ROUND_NAMES = frozenset({"server_round", "server-round", "current_round", "round"})
RATE_NAMES = frozenset({"lr", "learning_rate", "learning-rate"})
PULL_NAMES = frozenset({"proximal_mu", "proximal-mu"})
MOST_SETTINGS = 64


def longest_message(initial: Tensors) -> int:
    """Bytes that a message about this model may have."""
    return sum(WIDEST * int(value.size) + HEADER for value in initial.values()) + (1 << 20)


def read_weights(parameters: Any, initial: Tensors) -> dict[str, np.ndarray[Any, Any]]:
    """A server's weights, as float32 by the names of `initial`, in its order.

    Raises:
      InvalidRequest: they are not this model's: another number of tensors, other shapes, or values that are not finite.
    """
    sent = list(parameters.tensors)
    if len(sent) != len(initial):
        raise InvalidRequest(
            f"The server sent {counted(len(sent), 'tensor')}, and the approved model has {len(initial)}: "
            f"{', '.join(initial)[:300]}."
        )
    return {
        name: _tensor(name, content, value.shape) for content, (name, value) in zip(sent, initial.items(), strict=True)
    }


def _tensor(name: str, content: bytes, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    file = io.BytesIO(content)
    try:
        version = _format.read_magic(file)
        read = _format.read_array_header_1_0 if version == (1, 0) else _format.read_array_header_2_0
        said, transposed, kind = read(file)  # the header alone, which may promise any size
    except Exception:  # whatever numpy makes of bytes that are anybody's
        raise InvalidRequest(f"What the server sent as {name} is no array of numpy's.") from None
    numbers = len(content) - file.tell()
    if kind.kind not in "fiu" or kind.itemsize > WIDEST:
        raise InvalidRequest(f"The server sent {name} as {str(kind)[:40]}. Send float32.")
    if said != shape or numbers != kind.itemsize * math.prod(shape):
        raise InvalidRequest(f"The server sent {name} of shape {str(said)[:80]}, and the approved model's is {shape}.")
    flat = np.frombuffer(content, dtype=kind, offset=file.tell())
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, and is refused below
        value = flat.reshape(shape, order="F" if transposed else "C").astype(np.float32, order="C")
    if not np.isfinite(value).all():
        raise InvalidRequest(f"The server sent {name} with values that are not finite. Its training diverged.")
    return value


def written(tensors: Tensors, names: Mapping[str, Any]) -> Any:
    """Tensors as a message has them, in the order of `names`."""
    contents = []
    for name in names:
        file = io.BytesIO()
        np.save(file, np.ascontiguousarray(tensors[name]), allow_pickle=False)
        contents.append(file.getvalue())
    return wire.Parameters(tensors=contents, tensor_type="numpy.ndarray")


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a message as plain values. Raises `InvalidRequest` where there are too many."""
    if len(config) > MOST_SETTINGS:
        raise InvalidRequest(f"The server sent {len(config)} settings, more than {MOST_SETTINGS}.")
    return {name: getattr(value, value.WhichOneof("scalar") or "", None) for name, value in config.items()}


def unread(settings: Mapping[str, Any], training: DPSGD) -> list[str]:
    """Settings for hospitals, as `name=value`, that say something else than the approved training.

    A round's number is nobody's setting, and a learning rate or a proximal term may be said as it was approved.
    """
    approved = dict.fromkeys(RATE_NAMES, training.learning_rate) | dict.fromkeys(PULL_NAMES, training.proximal_mu)
    return [
        f"{name}={value!r}"[:60]
        for name, value in sorted(settings.items())
        if name not in ROUND_NAMES and not _same(value, approved.get(name))
    ]


def check_settings(settings: Mapping[str, Any], training: DPSGD) -> None:
    """Raise `InvalidRequest`, naming them, where a server sets what was approved otherwise."""
    if wrong := unread(settings, training):
        raise InvalidRequest(
            f"The server sets {', '.join(wrong)[:300]}, and hospitals run what they approved, with"
            f" learning_rate={training.learning_rate:g}. Take that out of its on_fit_config_fn."
        )


def _same(value: object, approved: float | None) -> bool:
    if approved is None or isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isclose(value, approved, rel_tol=1e-9)


def scalars(values: Mapping[str, str | int | float]) -> dict[str, Any]:
    """Metrics as a message has them."""
    return {name: _scalar(value) for name, value in values.items()}


def _scalar(value: str | int | float) -> Any:
    if isinstance(value, str):
        return wire.Scalar(string=value)
    return wire.Scalar(double=value) if isinstance(value, float) else wire.Scalar(sint64=value)
