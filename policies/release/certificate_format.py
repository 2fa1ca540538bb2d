"""The form of a certificate: its fields and their kinds, and the one text that a content is written as.

Reading is strict: a text that is not exactly what its own content serialises to is refused, so spaces, another order of
keys, a key given twice or another way to write a number are none of ours. What the fields say is checked in
`certificates`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from policies.canonical import canonical_ascii
from policies.errors import CertificateRefused
from policies.privacy.budget import NeighboringRelation, UnitOfPrivacy

SCHEMA_VERSION = 2
READ_VERSIONS = (1, SCHEMA_VERSION)
"""Versions that are read. They have the same fields; version 1 charged statistics by their ε alone."""

LARGEST_TEXT = 1_000_000

_HEX64 = re.compile(r"[0-9a-f]{64}")
_HEX128 = re.compile(r"[0-9a-f]{128}")
# Every field and what it holds. A pattern is text that it matches in full; a tuple is any of its parts.
FIELDS: dict[str, Any] = {
    "schema_version": int,
    "datasite": str,
    "public_key": _HEX64,
    "request": str,
    "function": str,
    "round": int,
    "rounds": int,
    "researcher": str,
    "dataset": str,
    "version": str,
    "population": str,
    "size": {"patients": int, "kind": re.compile("declared|dp-count")},
    "source_sha256": _HEX64,
    "graph_digest": (_HEX64, None),
    "plan_digest": _HEX64,
    "weights_digest": _HEX64,
    "mechanism": dict,
    "declared": dict,
    "unit_of_privacy": re.compile(UnitOfPrivacy.PATIENT),
    "neighboring_relation": re.compile(NeighboringRelation.ADD_OR_REMOVE_ONE),
    "privacy": {
        "epsilon": float,
        "delta": float,
        "order": int,
        "divergence_nano": int,
        "pure_epsilon_nano": (int, None),
        "shared_noise": {"epsilon": float, "epsilon_if_not": float, "accepted": bool},
    },
    "budget": {"epsilon": float, "delta": float, "spent": (float, None)},
    "release": {"digest": _HEX64, "tensors": list},
    "ledger": {"entry": int, "head": _HEX64},
    "protections": dict,
    "software": dict,
    "issued_at": str,
    "signature": _HEX128,
}
_WHERE_THERE = {"privacy.shared_noise"}
"""Fields that certificates have only where there is something to say."""


def parse(text: str) -> dict[str, Any]:
    """The content of a text that has this form in every byte. Raises `CertificateRefused`."""
    if not isinstance(text, str) or len(text) > LARGEST_TEXT:
        raise CertificateRefused(f"A certificate is text of at most {LARGEST_TEXT} characters.")
    try:
        data = json.loads(text)
        same = isinstance(data, dict) and canonical_ascii(data) == text
    except (ValueError, RecursionError, OverflowError):
        same = False
    if not same:
        raise CertificateRefused("This is not the text of a certificate as a datasite signs it. Fetch it again.")
    assert isinstance(data, dict)
    version = data.get("schema_version")
    if type(version) is not int or version not in READ_VERSIONS:
        raise CertificateRefused(
            f"Its schema_version is {str(version)[:20]}; this program reads {' and '.join(map(str, READ_VERSIONS))}. "
            "Update it."
        )
    _check_schema(data, FIELDS, "")
    return data


def _check_schema(value: Any, wanted: Any, path: str) -> None:
    if isinstance(wanted, tuple):
        if value is None and None in wanted:
            return
        wanted = wanted[0]
    if isinstance(wanted, dict):
        may_lack = {name for name in wanted if f"{path}.{name}" in _WHERE_THERE}
        if not isinstance(value, dict) or not set(wanted) - may_lack <= set(value) <= set(wanted):
            exactly = ", ".join(sorted(set(wanted) - may_lack))
            raise CertificateRefused(f"{path or 'It'} does not have exactly the fields {exactly}.")
        for name in value:
            _check_schema(value[name], wanted[name], f"{path}.{name}" if path else name)
    elif isinstance(wanted, re.Pattern):
        if not isinstance(value, str) or not wanted.fullmatch(value):
            raise CertificateRefused(f"{path} is not of the form {wanted.pattern}.")
    elif type(value) is not wanted:  # exactly: true is no number, and 1 is not 1.0
        raise CertificateRefused(f"{path} is not {wanted.__name__}.")
