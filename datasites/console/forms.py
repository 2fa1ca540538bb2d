"""What a browser's form sends: fields, and files that are uploaded. Nothing is written to disk here."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.requests import Request

from policies.errors import InvalidRequest

MOST_FIELDS = 200
MOST_FILES = 3  # a table, its tensors and its mock
_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")  # 7,997 is 7997 to some and 7.997 to others
UNREADABLE = "The form cannot be read."


class FormTooLarge(Exception):
    """More came than the page takes."""


@dataclass(frozen=True)
class Upload:
    """A file as uploaded, in memory; its name is the browser's word and never becomes a path."""

    filename: str
    size: int
    file: BinaryIO = field(repr=False)


@dataclass(frozen=True)
class Form:
    """Fields by name; of a field sent more than once, all values."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, Upload] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A field's last value without surrounding spaces, or ''."""
        return self.fields.get(name, [""])[-1].strip()

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return self.fields.get(name, [])

    def number(self, name: str, label: str) -> float | None:
        """A field as a number, None where it is empty. Raises `InvalidRequest` naming `label`."""
        text = self.text(name)
        if not text:
            return None
        if _GROUPS.fullmatch(text):
            raise InvalidRequest(
                f"{label}: {text[:40]!r} can be read in two ways. Write it without a comma, or with a point before its"
                " fraction."
            )
        try:
            value = float(text.replace(",", "."))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InvalidRequest(f"{label}: {text[:40]!r} is not a number.")
        return value

    def close(self) -> None:
        """Let go of the files' memory."""
        for upload in self.files.values():
            upload.file.close()


async def read_form(request: Request, largest: int) -> Form:
    """The form in a request's body.

    Args:
      largest: of the whole body, in bytes.

    Raises:
      FormTooLarge: more came; the rest was not read.
      InvalidRequest: the body is no form, is cut off, or has more than `MOST_FIELDS` fields or `MOST_FILES` files.
    """
    kind, _ = parse_options_header(request.headers.get("content-type"))
    stream = _bounded(request, largest)
    form = Form()
    try:
        if kind == b"multipart/form-data":
            parts = _InMemory(
                request.headers, stream, max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=largest
            )
            data = await parts.parse()
            if not parts.ended:
                raise InvalidRequest(UNREADABLE)
        elif kind == b"application/x-www-form-urlencoded":
            data = await FormParser(request.headers, stream, max_fields=MOST_FIELDS, max_part_size=largest).parse()
        elif [part async for part in stream if part]:
            raise InvalidRequest(UNREADABLE)
        else:
            data = FormData()
    except (MultiPartException, FormParserError):
        raise InvalidRequest(UNREADABLE) from None
    for name, value in data.multi_items():
        if isinstance(value, UploadFile):
            form.files[name] = Upload(value.filename or "", value.size or 0, value.file)
        else:
            form.fields.setdefault(name, []).append(value)
    return form


class _InMemory(MultiPartParser):
    """Starlette's parser, which would spool what is larger to the host's /tmp: a private table stays in memory."""

    spool_max_size = 1 << 62
    ended = False

    def on_end(self) -> None:
        self.ended = True


async def _bounded(request: Request, largest: int) -> AsyncGenerator[bytes, None]:
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > largest:
            raise FormTooLarge
        yield part
