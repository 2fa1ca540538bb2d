"""What a browser's form sends: fields, and files that are uploaded. Nothing is written to disk here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from policies.errors import InvalidRequest

MOST_FIELDS = 200
_NAME = re.compile(rb'[; ]name="([^"\r\n]*)"')
_FILENAME = re.compile(rb'[; ]filename="([^"\r\n]*)"')


@dataclass(frozen=True)
class Upload:
    """A file as uploaded; its name is the browser's word and never becomes a path."""

    filename: str
    content: bytes = field(repr=False)


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
        try:
            value = float(text.replace(",", "."))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InvalidRequest(f"{label}: {text[:40]!r} is not a number.")
        return value


def read_form(content_type: str, body: bytes) -> Form:
    """The form in a request's body. Raises `InvalidRequest` where it is none."""
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if kind == "application/x-www-form-urlencoded":
        try:
            pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
        except ValueError:
            raise InvalidRequest("The form cannot be read.") from None
        form = Form()
        for name, value in pairs:
            form.fields.setdefault(name, []).append(value)
        return form
    if kind == "multipart/form-data":
        found = re.search(r'boundary="?([0-9A-Za-z\'()+_,./:=?-]{1,70})"?', parameters)
        if found:
            return _read_parts(found[1].encode(), body)
    if not body:
        return Form()
    raise InvalidRequest("The form cannot be read.")


def _read_parts(boundary: bytes, body: bytes) -> Form:
    """RFC 7578: parts between boundaries, each with headers, an empty line and its content."""
    form = Form()
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if len(parts) < 2 or not parts[-1].startswith(b"--") or len(parts) > MOST_FIELDS:
        raise InvalidRequest("The form cannot be read.")
    for part in parts[1:-1]:
        head, gap, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name, filename = _NAME.search(head), _FILENAME.search(head)
        if not gap or name is None:
            raise InvalidRequest("The form cannot be read.")
        key = name[1].decode("utf-8", "replace")
        if filename is not None:
            form.files[key] = Upload(filename[1].decode("utf-8", "replace"), content)
        else:
            form.fields.setdefault(key, []).append(content.decode("utf-8", "replace"))
    return form
