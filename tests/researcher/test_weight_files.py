"""Public weights are read from files without anything in them being run, unpacked beyond bounds, or taken as numbers
that they are not."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from policies.errors import InvalidRequest
from researcher import weight_files
from researcher.weight_files import read_weights

TENSORS = {"body.weight": torch.arange(6.0).reshape(2, 3), "body.bias": torch.tensor([1.0, 2.0])}


def written(path: Path, tensors: Any = TENSORS) -> Path:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in tensors.items()})
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("suffix", weight_files.KINDS)
def test_every_kind_gives_the_same_weights(tmp_path: Path, suffix: str) -> None:
    read = read_weights(written(tmp_path / f"weights{suffix}"))
    assert set(read) == set(TENSORS)
    for name, value in TENSORS.items():
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], value.numpy())


def test_a_state_dict_a_checkpoint_and_narrow_numbers_are_read(tmp_path: Path) -> None:
    read = read_weights(str(written(tmp_path / "checkpoint.pt", {"state_dict": TENSORS, "epoch": 3})))
    np.testing.assert_array_equal(read["body.bias"], [1, 2])
    narrow = {name: value.to(torch.bfloat16) for name, value in TENSORS.items()}
    np.testing.assert_array_equal(read_weights(narrow)["body.weight"], TENSORS["body.weight"])
    np.testing.assert_array_equal(read_weights(written(tmp_path / "narrow.safetensors", narrow))["body.bias"], [1, 2])


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".npz"])
def test_a_file_that_runs_something_runs_nothing(tmp_path: Path, suffix: str) -> None:
    made, path = tmp_path / "made", tmp_path / f"weights{suffix}"
    if suffix == ".npz":
        np.savez(path, weight=np.array([Evil(made)], dtype=object))
    elif suffix == ".pth":
        path.write_bytes(pickle.dumps(Evil(made)))
    else:
        torch.save({"weight": TENSORS["body.bias"], "more": Evil(made)}, path)
    with pytest.raises(InvalidRequest, match="wants to run something is not opened"):
        read_weights(path)
    assert not made.exists()


@pytest.mark.parametrize("suffix", [".pt", ".npz"])
def test_a_small_file_that_unpacks_to_more_than_any_model_is_not_unpacked(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_files, "LARGEST", 1 << 20)
    path = tmp_path / f"bomb{suffix}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weight.npy", bytes(4 << 20))
    assert path.stat().st_size < 1 << 14
    with pytest.raises(InvalidRequest, match=r"4,194,304 bytes of weights where 1,048,576 are the most"):
        read_weights(path)


def test_a_file_larger_than_any_model_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.truncate(weight_files.LARGEST + 1)  # of holes: it takes no room
    with pytest.raises(InvalidRequest, match="are the most"):
        read_weights(path)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("weights.h5", "none of .safetensors"),
        ("missing.pt", "No such file"),
        ({}, "tensors by name"),
        ([1, 2], "tensors by name"),
        ({"a": torch.tensor([1, 2])}, "'a' is int64"),
        ({"a": 3.0}, "'a' is float"),
        ({"a\n": TENSORS["body.bias"]}, "not the name of a parameter"),
        ({7: TENSORS["body.bias"]}, "not the name of a parameter"),
        ({"a": torch.tensor([1.0, float("nan")])}, "not finite in float32"),
        ({"a": np.array([1e300])}, "not finite in float32"),
    ],
)
def test_what_is_no_weights_is_refused_in_words(source: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        read_weights(source)


def test_random_bytes_of_every_kind_are_refused_in_words(tmp_path: Path) -> None:
    for suffix in weight_files.KINDS:
        path = tmp_path / f"noise{suffix}"
        path.write_bytes(bytes(range(256)) * 20)
        with pytest.raises(InvalidRequest, match="cannot be read as weights alone"):
            read_weights(path)
