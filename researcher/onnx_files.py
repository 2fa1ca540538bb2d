"""A trained model as ONNX, which other programs run: written by torch, and run once to see that it gives the same.

ONNX needs the package `onnx`, which is not installed with the rest. The exporter is torch's own of TorchScript, since
the newer one asks for a second package, `onnxscript` (docs/decisions/0037).
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from policies.errors import InvalidRequest

RECORDS, OUTPUTS = "records", "outputs"  # names of the model's input and output
OPSET = 20  # of ONNX's operators: released in 2023, with activations and normalisations as torch has them
LARGEST_DIFFERENCE = 1e-4  # between what torch gives and what the file gives of them, relative where above 1
MISSING = "Writing ONNX needs the package onnx. Run pip install onnx, or save it as .safetensors."


def onnx_bytes(model: Any, records: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    """A model in evaluation as an ONNX file: `records` float32 [N, ...] in, `outputs` float32 [N, ...] out, any N.

    Args:
      model: with its weights; it is not changed.
      records: float32 [N, ...], at least two and of nobody, on which both are run.

    Raises:
      InvalidRequest: `onnx` is not installed; ONNX has no operator for what the model does; or what was written gives
        other outputs than the model.
    """
    import torch

    try:
        import onnx
        from onnx.reference import ReferenceEvaluator
    except ImportError:
        raise InvalidRequest(MISSING) from None
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")  # of its own age, and of sizes that a trace holds, which is tried below
            path = Path(folder) / "model.onnx"
            expected = model(torch.from_numpy(records)).detach().numpy()
            torch.onnx.export(
                model,
                (torch.from_numpy(records[:1]),),
                path,
                dynamo=False,
                opset_version=OPSET,
                input_names=[RECORDS],
                output_names=[OUTPUTS],
                dynamic_axes={RECORDS: {0: "N"}, OUTPUTS: {0: "N"}},
            )
            content = path.read_bytes()
            written = onnx.load_from_string(content)
            onnx.checker.check_model(written)
            (found,) = ReferenceEvaluator(written).run(None, {RECORDS: records})
    except Exception as error:  # of torch, of onnx, and of the researcher's own class
        first = (str(error).strip().splitlines() or [""])[0][:300]
        raise InvalidRequest(
            f"This model cannot be written as ONNX ({type(error).__name__}: {first}). Save it as .safetensors."
        ) from None
    _check_alike(np.asarray(found), expected)
    return content


def _check_alike(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    """Raise `InvalidRequest` unless what an ONNX file gives is what the model gave."""
    if found.shape == expected.shape and found.dtype == expected.dtype:
        off = np.abs(found.astype(np.float64) - expected) / np.maximum(1.0, np.abs(expected))
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        largest = float(np.where(same, 0.0, off).max(initial=0.0))
        if largest <= LARGEST_DIFFERENCE:
            return
        how = f"off by {largest:.2g}"
    else:
        how = f"{found.dtype} {found.shape} in place of {expected.dtype} {expected.shape}"
    raise InvalidRequest(f"What ONNX makes of this model gives other outputs ({how}). Save it as .safetensors.")
