"""What a reader of images, signals and volumes raises about one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

NO_MEMORY = "needs more memory than a reader may take; save it smaller"


class TensorFault(Exception):
    """Why a record's tensor cannot be published, for its owner."""


@contextmanager
def reading(form: str, *, instead: str = "save it anew") -> Iterator[None]:
    """Whatever a library raises about one file as a `TensorFault`, without what it says of the file."""
    try:
        yield
    except TensorFault:
        raise
    except MemoryError:
        raise TensorFault(NO_MEMORY) from None
    except Exception as error:  # Pillow, pydicom and nibabel raise many kinds
        raise TensorFault(f"cannot be read as {form} ({type(error).__name__}); {instead}") from None
