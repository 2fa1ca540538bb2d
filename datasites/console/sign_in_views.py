"""Signing in and out, and one's own account."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from datasites.console import auth
from datasites.console.page_requests import PageRequest
from datasites.people.accounts import check_password
from policies.errors import InvalidRequest

ENDED = (
    "You are signed in no more: the session was idle for long or was ended elsewhere, your password was changed, or"
    " your account was closed. Sign in again; where that is refused, ask the data owner."
)


def form(visit: PageRequest) -> Response:
    """The sign-in form; whoever had a session that ended is told so."""
    if visit.session is not None:
        return RedirectResponse(_safe(visit.query("next")), 303)
    had_one = auth.cookie_name(visit.datasite, visit.request, "session") in visit.request.cookies
    return _form(visit, why=ENDED if had_one else "")


def _form(visit: PageRequest, *, why: str = "", email: str = "", status: int = 200) -> Response:
    token = auth.form_token()
    to = _safe(visit.form.text("next") or visit.query("next"))
    response = visit.render("sign_in.html", status=status, token=token, why=why, email=email, next=to)
    auth.set_cookie(visit.datasite, visit.request, response, "form", token)
    return response


def sign_in(visit: PageRequest) -> Response:
    """Check the password; a new session with a new id, whatever cookie the browser had."""
    cookie = visit.request.cookies.get(auth.cookie_name(visit.datasite, visit.request, "form"), "")
    email = visit.form.text("email")
    if not auth.tokens_match(visit.form.text("token"), cookie):
        return _form(visit, why="The form was too old. Try once more.", email=email, status=400)
    password = visit.form.fields.get("password", [""])[-1]
    browser = visit.request.headers.get("user-agent", "")
    done = auth.sign_in(visit.datasite, visit.lock_out, email, password, browser=browser, address=visit.address)
    if not done.token:
        return _form(visit, why=done.why, email=email, status=done.status)
    if visit.session is not None:
        visit.datasite.accounts.end(visit.session)
    response = RedirectResponse(_safe(visit.form.text("next")), 303)
    auth.set_cookie(visit.datasite, visit.request, response, "session", done.token)
    auth.drop_cookie(visit.datasite, visit.request, response, "form")
    return response


def _safe(address: str) -> str:
    """A page of this console, or the first one: never another site's."""
    plain = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if plain and "\\" not in address else "/"


def sign_out(visit: PageRequest) -> Response:
    """End this session."""
    assert visit.session is not None
    visit.datasite.accounts.end(visit.session)
    visit.datasite.audit_log.record(visit.actor.name, "sign out", "console")
    return _signed_out(visit)


def sign_out_everywhere(visit: PageRequest) -> Response:
    """End every session of this account."""
    assert visit.session is not None
    visit.act("sign_out", email=visit.session.email)
    return _signed_out(visit)


def _signed_out(visit: PageRequest) -> Response:
    response = RedirectResponse("/sign-in", 303)
    auth.drop_cookie(visit.datasite, visit.request, response, "session")
    return response


def account(visit: PageRequest) -> Response:
    """Where this account is signed in."""
    assert visit.session is not None
    sessions = visit.datasite.accounts.sessions(visit.session.email)
    return visit.render(
        "account.html", sessions=sessions, idle_minutes=round(visit.datasite.settings.console_idle_minutes)
    )


def change_password(visit: PageRequest) -> Response:
    """A new password for oneself; signs out everywhere, here too."""
    assert visit.session is not None
    old = visit.form.fields.get("old", [""])[-1]
    new = visit.form.fields.get("new", [""])[-1]
    if new != visit.form.fields.get("again", [""])[-1]:
        raise InvalidRequest("The two new passwords differ. Nothing was changed.")
    email = visit.session.email
    wait = visit.lock_out.begin(email, visit.address)
    if wait:
        raise InvalidRequest(f"Too many wrong passwords. Try again in {int(wait) + 1} seconds.")
    right = (
        visit.datasite.syft.login(visit.datasite.settings.owner_email, old) is not None
        if visit.is_owner
        else (visit.datasite.accounts.password_is_right(email, old))
    )
    if not right:
        raise InvalidRequest("The old password is wrong. Nothing was changed.")
    visit.lock_out.succeeded(email, visit.address)
    if visit.is_owner:
        check_password(new)
        visit.act("set_password", email=email, password=new)
    else:
        visit.act("set_console_password", email=email, password=new)
    return _signed_out(visit)
