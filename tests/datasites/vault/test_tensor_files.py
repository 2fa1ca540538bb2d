"""Tensors on disk come back under their own names, whatever order a kept schema has them in."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from datasites.vault.tensor_files import open_tensors, tensors_to_write
from policies.canonical import canonical
from policies.errors import DatasiteError
from policies.schema.schemas import Schema

SCHEMA = Schema.from_toml(
    'name = "stays"\npopulation = "p"\npatient = "patient"\ntarget = "sick"\n[columns.sick]\nkind = "boolean"\n'
    '[tensors.zoomed]\nshape = [3]\ndtype = "float16"\nminimum = -1\nmaximum = 1\n'
    '[tensors.ahead]\nshape = [3]\ndtype = "float16"\nminimum = -1\nmaximum = 1\n'
)


def test_each_tensor_is_read_from_the_file_that_was_written_for_it(tmp_path: Path) -> None:
    """A ledger keeps a schema with its names sorted; two tensors of one shape must not change places."""
    kept = Schema.from_dict(json.loads(canonical(SCHEMA.as_dict())))
    assert [tensor.name for tensor in kept.tensors] != [tensor.name for tensor in SCHEMA.tensors]
    with tensors_to_write(tmp_path, "v1", SCHEMA, records=2) as arrays:
        arrays["zoomed"][:], arrays["ahead"][:] = 0.25, -0.5
    for schema in (SCHEMA, kept):
        for one in open_tensors(tmp_path, "v1", schema):
            content = os.pread(one.descriptor, 12, one.begin)
            expected = {"zoomed": 0.25, "ahead": -0.5}[one.name]
            np.testing.assert_array_equal(np.frombuffer(content, one.dtype), expected)
            one.close()


def test_a_file_that_is_missing_is_named_by_its_tensor(tmp_path: Path) -> None:
    with tensors_to_write(tmp_path, "v1", SCHEMA, records=2):
        pass
    (tmp_path / "tensors" / "v1" / "0.npy").unlink()
    with pytest.raises(DatasiteError, match="file of tensor 'ahead'"):
        open_tensors(tmp_path, "v1", SCHEMA)
