"""Tensors without torch: what a datasite writes torch's client reads, and what it writes the datasite reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from syft.serde.deserialize import _deserialize
from syft.serde.serialize import _serialize

from datasites.door.syft.tensors import TENSOR, array_of, tensor_of

ARRAYS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "odd": np.array([np.nan, -np.inf, -0.0, 1e-45], dtype=np.float32),
    "double": np.linspace(-1, 1, 7),
    "one": np.array(3.5, dtype=np.float32),
    "none": np.zeros((0, 4), dtype=np.float32),
    "whole": np.array([1, -(2**40)]),
    "turned": np.arange(6, dtype=np.float64).reshape(2, 3).T,
}
PROGRAM = """
import sys
from pathlib import Path
from datasites.door.syft.tensors import TENSOR, Tensor, array_of, tensor_of
from syft.serde.deserialize import _deserialize
from syft.serde.serialize import _serialize

assert "torch" not in sys.modules
assert TENSOR is Tensor
sent = _deserialize(Path(sys.argv[1]).read_bytes(), from_bytes=True)
assert all(type(value) is Tensor for value in sent["tensors"].values()), sent
assert sent["type"] is Tensor
arrays = {name: array_of(value) for name, value in sent["tensors"].items()}
assert all(tensor.shape == arrays[name].shape for name, tensor in sent["tensors"].items())
answer = {"tensors": {name: tensor_of(array) for name, array in arrays.items()}, "type": Tensor}
Path(sys.argv[2]).write_bytes(_serialize(answer, to_bytes=True))
assert array_of("text") is None
"""


@pytest.mark.process
def test_tensors_go_both_ways_to_the_bit_between_torch_and_a_process_without_it(tmp_path: Path) -> None:
    tensors = {name: torch.from_numpy(array.copy()) for name, array in ARRAYS.items()}
    (tmp_path / "sent").write_bytes(_serialize({"tensors": tensors, "type": torch.Tensor}, to_bytes=True))
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path / "sent"), str(tmp_path / "answer")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    answer: Any = _deserialize((tmp_path / "answer").read_bytes(), from_bytes=True)
    assert answer["type"] is torch.Tensor
    for name, array in ARRAYS.items():
        came = answer["tensors"][name]
        assert type(came) is torch.Tensor
        assert came.numpy().dtype == array.dtype
        assert came.numpy().tobytes() == np.ascontiguousarray(array).tobytes(), name


def test_where_pysyft_has_found_torch_its_own_class_is_used() -> None:
    """As here, where a client is in the same process."""
    assert TENSOR is torch.Tensor
    array = np.arange(3.0)
    tensor = tensor_of(array)
    assert type(tensor) is torch.Tensor
    array[0] = 7  # the tensor has numbers of its own
    assert json.dumps(tensor.tolist()) == "[0.0, 1.0, 2.0]"
    found = array_of(tensor.requires_grad_())
    assert found is not None
    assert found.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("value", ["text", [1.0], None, np.array(["text"]), np.array([object()])])
def test_what_is_neither_a_tensor_nor_numbers_is_none(value: Any) -> None:
    assert array_of(value) is None
