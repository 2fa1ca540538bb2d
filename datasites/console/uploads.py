"""An uploaded file as a path, for as long as it is worked on; what a killed process leaves is removed at the start."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasites.console.datasets_views import SCRATCH
from datasites.console.forms import Upload
from datasites.console.page_requests import PageRequest
from policies.errors import InvalidRequest


@contextmanager
def kept(visit: PageRequest, field: str, endings: tuple[str, ...], what: str) -> Iterator[tuple[Path, Upload]]:
    """The file of a form's field under a name of ours (0600), and what was uploaded.

    Args:
      what: names the kind of file in the message, as "a PDF file".

    Raises `InvalidRequest` where none was chosen, or its name ends otherwise.
    """
    upload = visit.form.files.get(field)
    if upload is None or not upload.size:
        raise InvalidRequest(f"No file was chosen. Choose {what}.")
    ending = Path(upload.filename).suffix.lower()
    if ending not in endings:
        raise InvalidRequest(f"{upload.filename[:80]!r} is not {what}. Choose a file whose name ends on {endings[0]}.")
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=visit.datasite.settings.directory) as scratch:
        path = Path(scratch) / f"upload{ending}"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            shutil.copyfileobj(upload.file, file, 1 << 20)
        yield path, upload
