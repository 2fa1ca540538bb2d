"""What hospitals would say to a study, before they are asked: findings, and the cost at each.

The check is the owner's own: inspection and exporter of `policies` here, then each datasite's quote, which adds
what it would cost there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policies.errors import GraphRefused, InvalidRequest
from policies.privacy.mechanisms import Mechanism, Statistics
from policies.source.inspection import inspect_source
from researcher.members import Hospitals
from researcher.table import Table


@dataclass(frozen=True)
class Request:
    """What is asked of every hospital in one role.

    Args:
      role: `"training"`, `"evaluation"` or `"statistics"`.
      function: its name; also the request's.
      source: what the owner will read.
      mechanism: what it declares.
    """

    role: str
    function: str
    source: str
    mechanism: Mechanism


@dataclass(frozen=True)
class Check:
    """What every hospital says to a study before it is asked.

    Args:
      rows: one per hospital and role, with the cost there.
      sources: of the requests, by role.
      findings: against them, as "hospital: line 7 ...".
      reasons: why a hospital will not be asked, by hospital.
      digests: of the plans that would be approved, by role and hospital.
    """

    rows: tuple[Mapping[str, Any], ...]
    sources: Mapping[str, str]
    findings: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def table(self) -> Table:
        """Cost per hospital and role."""
        return Table(self.rows)

    def __str__(self) -> str:
        told = {finding.partition(":")[0] for finding in self.findings}
        others = [named(name, reason) for name, reason in self.reasons.items() if name not in told]
        return "\n".join([str(self.table), *dict.fromkeys(self.findings), *others])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def check_source(request: Request, cohort: Hospitals) -> None:
    """The datasites' own inspection and export, on the researcher's machine. Raises what they would find."""
    inspection = inspect_source(request.source)
    if isinstance(request.mechanism, Statistics):
        return
    from policies.graph.exporter import export_source

    if inspection.model is None or inspection.model_source is None:
        raise InvalidRequest(f"{request.function} has no model.")
    shape = cohort.schema.input_shape(request.mechanism.inputs)
    try:
        export_source(inspection.model_source, inspection.model, shape)
    except GraphRefused as refusal:
        if "cannot be exported" not in str(refusal):
            raise
        raise GraphRefused(f"{refusal.public_message} Here forward gets one record, of shape {(1, *shape)}.") from None


def sha256(source: str) -> str:
    """Hex digest of a source text."""
    return hashlib.sha256(source.encode()).hexdigest()


def cost_row(hospital: str, request: Request, quote: Mapping[str, Any]) -> dict[str, Any]:
    """One line of a check's table."""
    cost = quote["cost"] or {}
    return {
        "hospital": hospital,
        "request": request.function,
        "accepted": bool(quote["accepted"]),
        "ε": cost.get("epsilon"),
        "δ": cost.get("delta"),
        "rounds": cost.get("rounds"),
        "noise": cost.get("noise_multiplier"),
        "ε spent before": cost.get("spent_before"),
        "after": cost.get("spent_after"),
        "of": cost.get("budget"),
        "fits": cost.get("fits"),
    }


def why_not(quote: Mapping[str, Any]) -> str:
    """Why a hospital would not take a request, from its quote; empty where it would."""
    cost = quote["cost"] or {}
    if not quote["accepted"] and quote["findings"]:
        return "; ".join(finding_text(finding) for finding in quote["findings"])
    if cost and not cost.get("fits", True):
        return (
            f"it is ε={cost.get('short', 0.0):.3g} short of the hospital's budget. Ask for fewer rounds or more noise."
        )
    return "" if quote["accepted"] else "it would not be accepted there."


def named(hospital: str, reason: str) -> str:
    """A reason with the hospital's name before it, once."""
    return reason if reason.startswith(hospital) else f"{hospital}: {reason}"


def finding_text(finding: Mapping[str, Any]) -> str:
    """A finding in one line."""
    where = f"line {finding['line']}: " if finding.get("line") else ""
    return f"{where}{finding.get('why', '')} {finding.get('instead') or ''}".rstrip()
