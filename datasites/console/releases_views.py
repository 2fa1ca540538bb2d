"""Releases: what left this datasite, to whom, with which values, and the certificate of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from datasites.console.page_requests import PageRequest, download

PAGE = 50


@dataclass(frozen=True)
class Certified:
    """What a release's certificate says of its cost and its content.

    Args:
      spent: the population's ε after it, None where it is not known.
      tensors: name and shape of each.
    """

    certificate: bool = False
    spent: float | None = None
    tensors: tuple[tuple[str, tuple[int, ...]], ...] = ()


def releases(visit: PageRequest) -> Response:
    """What left, to whom, and its certificate."""
    page = visit.page_number()
    shown = visit.act("release_page", limit=PAGE, offset=(page - 1) * PAGE)
    return visit.render(
        "releases.html",
        rows=[(release, _certified(visit, release)) for release in shown["releases"]],
        count=shown["count"],
        page=page,
        pages=max(1, -(-shown["count"] // PAGE)),
    )


def _certified(visit: PageRequest, release: dict[str, Any]) -> Certified:
    stored = visit.datasite.ledger.runs.release(release["request"], release["round"])
    if stored is None or not stored.certificate:
        return Certified()
    said = json.loads(stored.certificate)
    tensors = tuple((name, tuple(shape)) for name, _, shape in said["release"]["tensors"])
    return Certified(certificate=True, spent=said["budget"]["spent"], tensors=tensors)


def release(visit: PageRequest) -> Response:
    """One release: every value that left, or a tensor's figures, with noise and certificate."""
    shown = visit.act("release", request=visit.path["id"], round_number=visit.path["round"])
    return visit.render("release.html", release=shown, said=shown["certificate"])


def certificate(visit: PageRequest) -> Response:
    """Download the certificate of one release."""
    text = visit.act("certificate", request=visit.path["id"], round_number=visit.path["round"])
    name = f"certificate-{visit.path['id'][:8]}-round-{visit.path['round']}.json"
    return Response(text, media_type="application/json", headers=download(name))
