"""What people write on a request, and the files that are attached to it or to its project."""

from __future__ import annotations

import base64
from urllib.parse import quote

from starlette.responses import Response

from datasites.console.page_requests import PageRequest
from datasites.console.uploads import kept

SANDBOX = {
    "content-security-policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-download-options": "noopen",
}
"""Of a file that somebody else made: it is saved and never shown by a page of ours."""


def comment(visit: PageRequest) -> Response:
    """Write on the request; its researcher reads it."""
    visit.act("comment", request=visit.path["id"], text=visit.form.text("comment"))
    return visit.go(f"/requests/{visit.path['id']}#h-comments", "Your comment is kept. The researcher reads it.")


def attach_to_request(visit: PageRequest) -> Response:
    """Attach a PDF file to a request."""
    return _attach(visit, "request", f"/requests/{visit.path['id']}")


def attach_to_project(visit: PageRequest) -> Response:
    """Attach a PDF file to a project."""
    return _attach(visit, "project", f"/projects/{visit.path['id']}")


def attachment(visit: PageRequest) -> Response:
    """An attachment, to save: as bytes of no kind, under a name of its own, for no page to show."""
    file = visit.act("attachment", id=visit.path["id"])
    name = f"attachment; filename=\"attachment.pdf\"; filename*=UTF-8''{quote(file['name'], safe='')}"
    return Response(
        base64.b64decode(file["content"]),
        media_type="application/octet-stream",
        headers={**SANDBOX, "content-disposition": name},
    )


def _attach(visit: PageRequest, kind: str, back: str) -> Response:
    with kept(visit, "file", (".pdf",), "a PDF file") as (path, upload):
        done = visit.act("attach", file=str(path), name=upload.filename, **{kind: visit.path["id"]})
    return visit.go(f"{back}#h-attachments", f"Attached {done['name']}.")
