"""The console's routes and the rules that hold for each: who may come, how much they may send, which token they carry.

`PAGES` is the whole list. Every response carries a content policy under which no script or style of another's runs, and
no other site frames a page.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from datasites.console import (
    administration_views,
    datasets_views,
    decisions_views,
    draft_views,
    fitting_views,
    formats,
    invitation_views,
    projects_views,
    records_views,
    releases_views,
    sign_in_views,
    thread_views,
)
from datasites.console.auth import (
    comes_from_here,
    is_secure,
    session_of,
    tokens_match,
)
from datasites.console.forms import Form, FormTooLarge, read_form
from datasites.console.glossary import TERMS
from datasites.console.news import News, news
from datasites.console.page_requests import PageRequest
from datasites.console.wording import public
from datasites.datasite import Datasite
from datasites.people.lock_out import LockOut
from datasites.people.roles import CONSOLE, DECIDERS, OWNER, REVIEWER, Role
from policies.errors import DatasiteError, InvalidRequest

logger = logging.getLogger(__name__)

LARGEST_FORM = 256 << 10
SLOWEST = 30.0  # seconds for a form's body; an upload may take ten times as long
HERE = Path(__file__).parent
TITLES = {
    401: "Signed out",
    403: "Not allowed",
    404: "Not found",
    405: "Not done here",
    500: "Something failed",
}
NO_PAGE = {
    404: "There is no such page.",
    405: "This address takes no such request. Go to its page and use its buttons.",
}
FAILED = "The datasite failed inside; its log has the details."
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "x-robots-tag": "noindex",
}

View = Callable[[PageRequest], Response]


@dataclass(frozen=True)
class Page:
    """One route: who may come, and which part of the navigation it belongs to.

    Args:
      roles: who may; None needs no session.
      back: where a form that is refused leads, with the reason; `{}` takes the path's parts.
      upload: whether the body may be as large as a table.
      password: whether a password is checked, which takes a processor a quarter of a second: one at a time.
      by_script: whether the script asks by itself, which is no act of a person's and keeps no session alive.
    """

    method: str
    path: str
    view: View
    roles: frozenset[Role] | None
    section: str = ""
    back: str = "/"
    upload: bool = False
    password: bool = False
    by_script: bool = False


def _live(visit: PageRequest) -> Response:
    """For the script, where it can hear no events: whether a page may have something new."""
    return JSONResponse(news(visit.datasite))


def _events(visit: PageRequest) -> Response:
    """For the script: the same as events, as long as the session lasts."""
    assert visit.session is not None
    if visit.news.is_full:
        return Response("Too many pages listen. Ask /live.\n", 503)
    headers = {"x-accel-buffering": "no"}  # a gateway passes each event on at once
    return StreamingResponse(visit.news.listen(visit.session), media_type="text/event-stream", headers=headers)


def _glossary(visit: PageRequest) -> Response:
    """What every term and figure means."""
    terms = sorted(TERMS, key=lambda term: (term.name[0].isascii(), term.name.lower()))  # ε and δ first
    return visit.render("glossary.html", terms=terms)


PAGES: tuple[Page, ...] = (
    Page("GET", "/sign-in", sign_in_views.form, None),
    Page("POST", "/sign-in", sign_in_views.sign_in, None, password=True),
    Page("POST", "/sign-out", sign_in_views.sign_out, CONSOLE),
    Page("POST", "/sign-out-everywhere", sign_in_views.sign_out_everywhere, CONSOLE),
    Page("GET", "/account", sign_in_views.account, CONSOLE, "account"),
    Page("POST", "/account/password", sign_in_views.change_password, CONSOLE, "account", "/account", password=True),
    Page("GET", "/live", _live, CONSOLE, by_script=True),
    Page("GET", "/events", _events, CONSOLE, by_script=True),
    Page("GET", "/", decisions_views.home, CONSOLE),
    Page("GET", "/requests", decisions_views.inbox, CONSOLE, "requests"),
    Page("GET", "/requests/fit", fitting_views.fit, CONSOLE, "requests"),
    Page("GET", "/requests/{id}", decisions_views.request_page, CONSOLE, "requests", "/requests"),
    Page("POST", "/requests/{id}/approve", decisions_views.approve, DECIDERS, "requests", "/requests/{id}"),
    Page("POST", "/requests/{id}/deny", decisions_views.deny, DECIDERS, "requests", "/requests/{id}"),
    Page("POST", "/requests/{id}/ask-changes", decisions_views.ask_changes, DECIDERS, "requests", "/requests/{id}"),
    Page("POST", "/requests/{id}/try", decisions_views.try_request, DECIDERS, "requests", "/requests/{id}"),
    Page("POST", "/requests/{id}/revoke", decisions_views.revoke, OWNER, "requests", "/requests/{id}"),
    Page("POST", "/requests/{id}/comments", thread_views.comment, DECIDERS, "requests", "/requests/{id}"),
    Page("POST", "/requests/{id}/project", projects_views.file_request, OWNER, "requests", "/requests/{id}"),
    Page(
        "POST",
        "/requests/{id}/attach",
        thread_views.attach_to_request,
        OWNER,
        "requests",
        "/requests/{id}",
        upload=True,
    ),
    Page("GET", "/attachments/{id}", thread_views.attachment, CONSOLE, "requests", "/requests"),
    Page("GET", "/projects", projects_views.projects, CONSOLE, "projects"),
    Page("POST", "/projects", projects_views.make, OWNER, "projects", "/projects"),
    Page("GET", "/projects/{id}", projects_views.project, CONSOLE, "projects", "/projects"),
    Page("POST", "/projects/{id}", projects_views.change, OWNER, "projects", "/projects/{id}"),
    Page("POST", "/projects/{id}/close", projects_views.close, OWNER, "projects", "/projects/{id}"),
    Page("POST", "/projects/{id}/reserve", projects_views.reserve, OWNER, "projects", "/projects/{id}"),
    Page("POST", "/projects/{id}/free", projects_views.free, OWNER, "projects", "/projects/{id}"),
    Page(
        "POST",
        "/projects/{id}/attach",
        thread_views.attach_to_project,
        OWNER,
        "projects",
        "/projects/{id}",
        upload=True,
    ),
    Page("GET", "/runs", records_views.runs, CONSOLE, "runs"),
    Page("POST", "/runs/stop", records_views.stop, OWNER, "runs", "/runs"),
    Page("POST", "/runs/resume", records_views.resume, OWNER, "runs", "/runs"),
    Page("POST", "/runs/{run}/stop", records_views.stop_run, OWNER, "runs", "/runs"),
    Page("GET", "/releases", releases_views.releases, CONSOLE, "releases"),
    Page("GET", "/releases/{id}/{round:int}", releases_views.release, CONSOLE, "releases"),
    Page("GET", "/releases/{id}/{round:int}/certificate", releases_views.certificate, CONSOLE, "releases"),
    Page("GET", "/ledger", records_views.ledger, CONSOLE, "ledger"),
    Page("POST", "/ledger/verify", records_views.verify, CONSOLE, "ledger", "/ledger"),
    Page("POST", "/ledger/raise", records_views.raise_budget, OWNER, "ledger", "/ledger"),
    Page("GET", "/ledger/export.csv", records_views.export_csv, CONSOLE, "ledger"),
    Page("GET", "/ledger/export.json", records_views.export_json, CONSOLE, "ledger"),
    Page("GET", "/datasets", datasets_views.datasets, CONSOLE, "datasets"),
    Page("GET", "/datasets/publish", datasets_views.publish_form, OWNER, "datasets"),
    Page("POST", "/datasets/publish", datasets_views.publish, OWNER, "datasets", "/datasets/publish", upload=True),
    Page("GET", "/datasets/draft", draft_views.form, OWNER, "datasets"),
    Page("POST", "/datasets/draft", draft_views.draft, OWNER, "datasets", "/datasets/draft", upload=True),
    Page("POST", "/datasets/draft/done", draft_views.go_on, OWNER, "datasets", "/datasets/draft", upload=True),
    Page("GET", "/datasets/{version}", datasets_views.dataset, CONSOLE, "datasets", "/datasets"),
    Page("POST", "/datasets/{name}/retire", datasets_views.retire, OWNER, "datasets", "/datasets"),
    Page("GET", "/people", administration_views.people, CONSOLE, "people"),
    Page("POST", "/people/researchers", administration_views.add_researcher, OWNER, "people", "/people"),
    Page("POST", "/people/invitations", invitation_views.invite, OWNER, "people", "/people"),
    Page("POST", "/people/invitations/withdraw", invitation_views.withdraw, OWNER, "people", "/people"),
    Page("GET", "/invitation/{token}", invitation_views.page, None),
    Page("POST", "/invitation/{token}", invitation_views.accept, None, password=True),
    Page("POST", "/people/researchers/state", administration_views.researcher_state, OWNER, "people", "/people"),
    Page("POST", "/people/researchers/limit", administration_views.researcher_limit, OWNER, "people", "/people"),
    Page("POST", "/people/researchers/password", administration_views.researcher_password, OWNER, "people", "/people"),
    Page("POST", "/people/console", administration_views.add_auditor, OWNER, "people", "/people"),
    Page("POST", "/people/console/state", administration_views.console_user_state, OWNER, "people", "/people"),
    Page("POST", "/people/console/agree", administration_views.agree_console_user, REVIEWER, "people", "/people"),
    Page("GET", "/policy", administration_views.policy, CONSOLE, "policy"),
    Page("POST", "/policy", administration_views.change_policy, OWNER, "policy", "/policy"),
    Page("POST", "/policy/year", administration_views.change_year, OWNER, "policy", "/policy"),
    Page("POST", "/policy/agree", administration_views.agree_policy, REVIEWER, "policy", "/policy"),
    Page("POST", "/policy/file", administration_views.change_policy_file, OWNER, "policy", "/policy"),
    Page("GET", "/glossary", _glossary, CONSOLE, "glossary"),
    Page("GET", "/log", administration_views.log, CONSOLE, "log"),
    Page("POST", "/log/verify", administration_views.verify_log, CONSOLE, "log", "/log"),
    Page("GET", "/log/export.csv", administration_views.export_log, CONSOLE, "log"),
)


NOWHERE = Page("GET", "", _glossary, None)
"""Stands for the page of an address that has none."""


def make_console(datasite: Datasite, lock_out: LockOut, news: News | None = None) -> ASGIApp:
    """The console of a datasite as an ASGI app."""
    datasets_views.remove_uploads(datasite.settings.directory)
    desk = _Desk(datasite, lock_out, news or News(datasite))
    routes: list[BaseRoute] = [Route(page.path, desk.endpoint(page), methods=[page.method]) for page in PAGES]
    routes.append(Mount("/static", StaticFiles(directory=HERE / "static")))
    return _Headers(Starlette(routes=routes, exception_handlers={HTTPException: desk.no_such_page}))


class _Desk:
    """Lets a request through to its page: who it is, whether they may, then the body, whose form it is, the view."""

    def __init__(self, datasite: Datasite, lock_out: LockOut, news: News) -> None:
        self.datasite = datasite
        self.lock_out = lock_out
        self.news = news
        self._one_password, self._one_upload = asyncio.Semaphore(1), asyncio.Semaphore(1)

    def endpoint(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            if page.upload:
                async with self._one_upload:
                    return await self._serve(page, request)
            return await self._serve(page, request)

        return endpoint

    async def no_such_page(self, request: Request, error: Exception) -> Response:
        """For an address or a method that no route takes: a page where a browser asks, else a line of text."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = (error.headers or {}) if isinstance(error, HTTPException) else {}
        if "text/html" not in request.headers.get("accept", "") or request.url.path.startswith("/static/"):
            return Response(f"{NO_PAGE.get(status, 'Not allowed.')}\n", status, headers=dict(headers))
        page = await run_in_threadpool(self._page_of_nothing, request, status)
        page.headers.update(headers)
        return page

    def _page_of_nothing(self, request: Request, status: int) -> Response:
        try:
            visit = self._visit(NOWHERE, request)
        except Exception:  # the page says so without knowing who asks
            logger.error("A session could not be read.", exc_info=True)
            visit = PageRequest(self.datasite, self.lock_out, self.news, request, None, Form(), "")
        return _refused(visit, status, NO_PAGE.get(status, "Not allowed."))

    async def _serve(self, page: Page, request: Request) -> Response:
        try:
            return await self._let_in(page, request)
        except Exception:  # a fault of ours, as an account file that cannot be read: no details leave
            logger.error("The console failed.", exc_info=True)
            visit = PageRequest(self.datasite, self.lock_out, self.news, request, None, Form(), "")
            return _refused(visit, 500, FAILED)

    async def _let_in(self, page: Page, request: Request) -> Response:
        visit = await run_in_threadpool(self._visit, page, request)
        refusal = await run_in_threadpool(self._refusal, page, visit)
        if refusal is not None:
            return refusal  # before a byte of the body is read
        largest = self.datasite.settings.largest_body_mib << 20 if page.upload else LARGEST_FORM
        try:
            if page.method == "POST":
                slowest = 10 * SLOWEST if page.upload else SLOWEST
                visit.form = await asyncio.wait_for(read_form(request, largest), slowest)
        except TimeoutError:
            return await run_in_threadpool(_refused, visit, 408, "The form came too slowly. Nothing was done.")
        except FormTooLarge:
            why = f"The form is larger than {formats.bytes_text(largest)}. Nothing was done."
            return await run_in_threadpool(_refused, visit, 413, why)
        except InvalidRequest as error:
            return await run_in_threadpool(_not_done, page, visit, error)
        try:
            if page.password:
                async with self._one_password:  # only now: whoever sends slowly keeps nobody from signing in
                    return await run_in_threadpool(self._answer, page, visit)
            return await run_in_threadpool(self._answer, page, visit)
        finally:
            visit.form.close()

    def _visit(self, page: Page, request: Request) -> PageRequest:
        a_person = not page.by_script and "x-live" not in request.headers
        session = session_of(self.datasite, request, touch=a_person)
        return PageRequest(
            self.datasite, self.lock_out, self.news, request, session, Form(), page.section, dict(request.path_params)
        )

    @staticmethod
    def _refusal(page: Page, visit: PageRequest) -> Response | None:
        if page.method == "POST" and not comes_from_here(visit.request):
            return _refused(visit, 403, "This form came from another site. Nothing was done.")
        if page.roles is None:
            return None
        if visit.session is None:
            return _to_sign_in(page, visit)
        if visit.session.role not in page.roles:
            return _refused(visit, 403, "Your role does not allow this. The data owner can do it.")
        return None

    @staticmethod
    def _answer(page: Page, visit: PageRequest) -> Response:
        try:
            is_form = page.method == "POST" and page.roles is not None
            if is_form and not tokens_match(visit.form.text("csrf"), _token(visit)):
                return _refused(visit, 403, "This form is of another session. Reload its page and send it again.")
            return page.view(visit)
        except DatasiteError as error:
            return _not_done(page, visit, error)
        except Exception:  # a fault of ours: the log gets the traceback, the browser a sentence
            logger.error("A page of the console failed.", exc_info=True)
            return _refused(visit, 500, FAILED)


def _token(visit: PageRequest) -> str:
    return visit.session.csrf if visit.session else ""


def _to_sign_in(page: Page, visit: PageRequest) -> Response:
    request = visit.request
    if page.by_script:
        return Response("Sign in first.\n", 401)
    if page.method != "GET":
        return _refused(
            visit, 401, "Nobody is signed in here any more, so nothing was done. Sign in and send it again."
        )
    if request.headers.get("sec-fetch-site") == "cross-site":
        return visit.render("again.html")  # a link in an e-mail brings no strict cookie; this page's own step does
    address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/sign-in?next={quote(address)}" if address != "/" else "/sign-in", 303)


def _not_done(page: Page, visit: PageRequest, error: DatasiteError) -> Response:
    """What was asked is refused: back to the page of the form with the reason, or a page that says so."""
    if page.method == "POST" and visit.session is not None:
        back = re.sub(r"{(\w+)}", lambda part: quote(str(visit.path.get(part[1], "")), safe=""), page.back)
        return visit.go(back, public(error), kind="bad")
    return _refused(visit, 404 if isinstance(error, InvalidRequest) else 400, public(error))


def _refused(visit: PageRequest, status: int, why: str) -> Response:
    return visit.render("refused.html", status=status, title=TITLES.get(status, "Not done"), why=why)


class _Headers:
    """Puts the security headers on every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope)
        still = scope["path"].startswith("/static/")

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)  # what is handed out as a file has stricter ones of its own
                headers["cache-control"] = "max-age=3600" if still else "no-store"
                if is_secure(request):
                    headers["strict-transport-security"] = "max-age=31536000"
            await send(message)

        await self.app(scope, receive, with_headers)


def addresses() -> list[tuple[str, str, Any]]:
    """Method, path and roles of every route: for tests that walk them all."""
    return [(page.method, page.path, page.roles) for page in PAGES]
