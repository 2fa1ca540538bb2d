"""Drafting a schema in the browser: a table's header in, a draft to finish out, as `datasite schema` makes it."""

from __future__ import annotations

from starlette.responses import Response

from datasites.console.datasets_views import publish_form_with
from datasites.console.page_requests import PageRequest
from datasites.console.uploads import kept
from datasites.console.wording import public
from policies.errors import DatasiteError
from policies.schema.schemas import Schema

ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".xlsx", ".sas7bdat", ".ndjson")


def form(visit: PageRequest) -> Response:
    """Where the table is chosen."""
    return _page(visit, "")


def draft(visit: PageRequest) -> Response:
    """The draft of an uploaded table, whose file is gone when the page is there."""
    with kept(visit, "table", ENDINGS, "a CSV, Parquet, Excel, SAS or FHIR file") as (path, upload):
        names_only = visit.form.text("names_only") == "yes"
        return _page(visit, visit.act("draft_schema", table=str(path), title=upload.filename, names_only=names_only))


def go_on(visit: PageRequest) -> Response:
    """Check what was typed, save it as a file, or go on to publish with it."""
    text = (visit.form.fields.get("schema", [""])[-1]).replace("\r\n", "\n")
    step = visit.form.text("step")
    if step == "save":
        headers = {"content-disposition": 'attachment; filename="schema.toml"'}
        return Response(text, media_type="application/toml", headers=headers)
    try:
        Schema.from_toml(text)
    except DatasiteError as error:
        return _page(visit, text, why=public(error), status=422)
    return publish_form_with(visit, text) if step == "publish" else _page(visit, text, sound=True)


def _page(visit: PageRequest, text: str, *, why: str = "", sound: bool = False, status: int = 200) -> Response:
    largest = visit.datasite.settings.largest_body_mib
    return visit.render("draft.html", status=status, text=text, why=why, sound=sound, largest=largest)
