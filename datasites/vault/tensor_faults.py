"""What a reader of images, signals and volumes raises about one file."""

from __future__ import annotations


class TensorFault(Exception):
    """Why a record's tensor cannot be published, for its owner."""
