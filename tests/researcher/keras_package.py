"""Keras on torch, told where to compute and where to keep its settings before it is imported."""

from __future__ import annotations

import os
import tempfile

os.environ["KERAS_BACKEND"] = "torch"
os.environ.setdefault("KERAS_HOME", tempfile.mkdtemp(prefix="keras-"))

import keras

__all__ = ["keras"]
