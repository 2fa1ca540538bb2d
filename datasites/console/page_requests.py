"""One HTTP request of a browser to the console, with what a page needs to act and to answer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from datasites.actions.registry import act
from datasites.console import charts, formats, glossary, wording
from datasites.console.forms import Form
from datasites.console.news import News, stamp
from datasites.datasite import Datasite
from datasites.people.accounts import Session
from datasites.people.lock_out import LockOut
from datasites.people.roles import REVIEWER, Actor, Role
from policies.addresses import owner_of
from policies.source.statuses import RequestStatus, RunStatus

HERE = Path(__file__).parent


@dataclass
class PageRequest:
    """One request. Views take it and give a response; all that they do goes through `act`.

    Args:
      section: of the navigation, as `"requests"`.
    """

    datasite: Datasite
    lock_out: LockOut
    news: News
    request: Request
    session: Session | None
    form: Form
    section: str
    path: dict[str, Any] = field(default_factory=dict)

    @property
    def actor(self) -> Actor:
        """Who acts: the person of the session, in the role that the account has now."""
        assert self.session is not None
        return Actor(self.session.email, self.session.role)

    @property
    def address(self) -> str:
        """Whose the address is that the request comes from; "" where there is none."""
        return owner_of(self.request.client.host) if self.request.client else ""

    @property
    def is_live(self) -> bool:
        """Whether the script asks by itself, and no person."""
        return "x-live" in self.request.headers

    @property
    def is_owner(self) -> bool:
        return self.session is not None and self.session.role is Role.OWNER

    def act(self, action: str, **arguments: Any) -> Any:
        """Run an action in this person's name."""
        return act(self.datasite, action, self.actor, arguments)

    def query(self, name: str, default: str = "") -> str:
        """A parameter of the address."""
        return str(self.request.query_params.get(name, default))[:200]

    def page_number(self) -> int:
        """`?page=`, from 1."""
        return max(1, min(1_000_000, self.whole("page") or 1))

    def whole(self, name: str) -> int | None:
        """A parameter of the address as a number from 0, None where it is none."""
        text = self.query(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None

    def render(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A page."""
        return HTMLResponse(environment().get_template(template).render(self._common() | values), status)

    def go(self, address: str, notice: str = "", *, kind: str = "good", **query: str) -> Response:
        """Go to another page of the console, with a sentence for it."""
        if notice and self.session is not None:
            self.datasite.accounts.leave_notice(self.session, json.dumps({"kind": kind, "text": notice}))
        return RedirectResponse(f"{address}?{urlencode(query)}" if query else address, 303)

    def _common(self) -> dict[str, Any]:
        ledger = self.datasite.ledger
        values: dict[str, Any] = {
            "site": self.datasite.settings.name,
            "session": self.session,
            "section": self.section,
            "asset": asset_digest(),
            "notice": None,
            "path": self.request.url.path,
        }
        if self.session is not None:
            notice = "" if self.is_live else self.datasite.accounts.take_notice(self.session)
            values |= {
                "csrf": self.session.csrf,
                "can_own": self.is_owner,
                "can_agree": self.session.role in REVIEWER,
                "notice": json.loads(notice) if notice else None,
                "waiting": ledger.requests.count(RequestStatus.CHECKED),
                "stopped": self.datasite.rounds.stopped.is_set(),
                "working": len(ledger.runs.list(status=RunStatus.RUNNING)),
                "stamp": stamp(self.datasite),
            }
        return values


def download(name: str) -> dict[str, str]:
    """Headers of a file that browsers keep under a name of ours."""
    return {"content-disposition": f'attachment; filename="{name}"'}


@cache
def environment() -> Environment:
    """Templates; all that they print is escaped, and a name that is not given is an error."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {**formats.FILTERS, "kind": wording.kind_text}
    made.globals |= {"charts": charts, "formats": formats, "glossary": glossary, "wording": wording}
    return made


@cache
def asset_digest() -> str:
    """Changes with the style sheet and the script, so that browsers fetch them anew."""
    parts = sorted((HERE / "static").iterdir())
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:12]
