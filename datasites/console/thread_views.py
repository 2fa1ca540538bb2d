"""What people write on a request and attach to it."""

from __future__ import annotations

from starlette.responses import Response

from datasites.console.page_requests import PageRequest


def comment(visit: PageRequest) -> Response:
    """Write on the request; its researcher reads it."""
    visit.act("comment", request=visit.path["id"], text=visit.form.text("comment"))
    return visit.go(f"/requests/{visit.path['id']}#h-comments", "Your comment is kept. The researcher reads it.")
