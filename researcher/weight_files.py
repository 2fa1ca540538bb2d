"""Public weights from files, read so that nothing in them runs: safetensors, PyTorch's `.pt`, `.pth`, numpy's `.npz`.

A file from the internet is a stranger's. PyTorch's are read with `weights_only`, numpy's without pickles, and archives
are looked at before they are unpacked: a small file may name sizes that no machine has.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from policies.errors import InvalidRequest
from policies.graph.graphs import MAX_FROZEN, MAX_PARAMETERS
from policies.release.tensors import LONGEST_NAME
from researcher.state import Tensors

KINDS = (".safetensors", ".pt", ".pth", ".npz")
LARGEST = 8 * (MAX_FROZEN + MAX_PARAMETERS)  # bytes, unpacked: of the largest model, twice as precise
MOST_NAMES = 10_000
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def read_weights(source: object) -> dict[str, np.ndarray[Any, Any]]:
    """Weights by name, as float32, from a file or a `state_dict`.

    Args:
      source: the path of a file of one of `KINDS`, or tensors or arrays by name.

    Raises:
      InvalidRequest: it is no such file, cannot be read without running what is in it, is larger than any model, or
        has values that are no finite numbers of float32.
    """
    named = _from_file(Path(source)) if isinstance(source, str | Path) else source
    if not isinstance(named, Mapping) or not 0 < len(named) <= MOST_NAMES:
        raise InvalidRequest("weights= takes a file, or model.state_dict(): tensors by name.")
    return {_name(name): _float32(name, value) for name, value in named.items()}


def _from_file(path: Path) -> Any:
    if path.suffix not in KINDS:
        raise InvalidRequest(f"{path} is none of {', '.join(KINDS)}. Save the weights as one of them.")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}. Name the file of the weights.") from None
    _check_size(path, size)
    if path.suffix != ".safetensors":
        _check_unpacked(path)
    try:
        return _READERS[path.suffix](path)
    except InvalidRequest:
        raise
    except Exception as error:  # whatever a reader of a stranger's bytes raises
        raise InvalidRequest(
            f"{path} cannot be read as weights alone ({type(error).__name__}). A file that wants to run something is"
            " not opened; get the weights as safetensors."
        ) from None


def _check_size(path: Path, size: int) -> None:
    if size > LARGEST:
        raise InvalidRequest(
            f"{path} has {size:,} bytes of weights where {LARGEST:,} are the most. Use a smaller model."
        )


def _check_unpacked(path: Path) -> None:
    """Both kinds are zip archives; PyTorch's older form, one pickle, may be read with `weights_only` as well."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        _check_size(path, sum(member.file_size for member in archive.infolist()))


def _safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


def _torch(path: Path) -> Any:
    import torch

    loaded = torch.load(path, map_location="cpu", weights_only=True)
    while isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    return loaded


def _numpy(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files[: MOST_NAMES + 1]}


_READERS = {".safetensors": _safetensors, ".pt": _torch, ".pth": _torch, ".npz": _numpy}


def _name(name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise InvalidRequest(f"{name!r:.80} is not the name of a parameter.")
    return name


def _float32(name: object, value: Any) -> np.ndarray[Any, Any]:
    if hasattr(value, "detach"):
        kind = str(value.dtype).removeprefix("torch.")
        value = value.detach().cpu().float().numpy() if kind in _FLOATS else value.numpy()
    if not isinstance(value, np.ndarray) or value.dtype.name not in _FLOATS:
        kind = value.dtype.name if isinstance(value, np.ndarray) else type(value).__name__
        raise InvalidRequest(f"{name!r:.80} is {kind}. Weights are float32; leave out what is none.")
    with np.errstate(over="ignore"):
        array = np.array(value, dtype=np.float32, order="C")
    if not np.isfinite(array).all():
        raise InvalidRequest(f"{name!r:.80} has values that are not finite in float32. Start from finite weights.")
    return array


def fitted(weights: Tensors, model: Tensors) -> None:
    """Raise `InvalidRequest` unless every one of `weights` is a parameter of the model's, of its shape."""
    extra = sorted(set(weights) - set(model))
    if extra:
        raise InvalidRequest(
            f"The model has no {', '.join(extra[:5])}. It has {', '.join(list(model)[:8])}. Give those that it has, as"
            " weights={name: values for name, values in ... if name.startswith('body.')}."
        )
    for name, value in weights.items():
        if value.shape != model[name].shape:
            raise InvalidRequest(f"{name} has shape {value.shape} in the weights and {model[name].shape} in the model.")
