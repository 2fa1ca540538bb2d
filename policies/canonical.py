"""Canonical JSON: equal data, equal text, which is what digests and signatures are taken of."""

from __future__ import annotations

import json
from typing import Any

_UTF8 = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_ASCII = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical(data: Any) -> bytes:
    """One line of UTF-8 JSON with sorted keys and no spaces. Raises `ValueError` for a number that is not finite."""
    return _UTF8.encode(data).encode()


def canonical_ascii(data: Any) -> str:
    """The same in ASCII alone, with every other character escaped: for texts that people copy, as certificates."""
    return _ASCII.encode(data)
