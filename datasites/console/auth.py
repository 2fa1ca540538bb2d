"""Signing in: whose password is right, what they may do, and the two cookies.

The owner's password is PySyft's; others' are the console's. Failures are counted per account together with PySyft's own
sign-in, with back-off. A right password always gets a new session id. Forms carry a token of their session, and the
sign-in form one of a cookie of its own, so that no other site can sign a browser in or act in its name.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from datasites.datasite import Datasite
from datasites.directory import secret
from datasites.people.accounts import Session
from datasites.people.lock_out import LockOut
from policies.email_addresses import as_typed

WRONG = "Wrong e-mail or password, or the account is closed."
RESEARCHERS = (
    "Your account is a researcher's, and researchers work from Python: `import researcher`, then "
    "`researcher.connect(...)`. This console is for the hospital's own people."
)


@dataclass(frozen=True)
class SignIn:
    """What came of a sign-in: a session's id, or why there is none, and the HTTP status for it."""

    token: str = ""
    why: str = ""
    status: int = 200


def sign_in(datasite: Datasite, lock_out: LockOut, email: str, password: str, *, browser: str, address: str) -> SignIn:
    """Check an account's password and start a session."""
    email = as_typed(email[:200])
    wait = lock_out.begin(email, address)
    if wait:
        return SignIn(why=f"Too many wrong passwords. Try again in {int(wait) + 1} seconds.", status=429)
    owner = datasite.settings.owner_email
    is_owner = email == as_typed(owner)
    known = is_owner or datasite.accounts.user(email) is not None
    # Both are always asked, so that the time taken tells nobody which kind of account there is.
    of_console = datasite.accounts.password_is_right(email, password)
    of_pysyft = datasite.syft.login(owner if is_owner else email, password) is not None
    if of_pysyft if is_owner else of_console:
        lock_out.succeeded(email, address)
        datasite.audit_log.record(email, "sign in", "console")
        return SignIn(token=datasite.accounts.begin(email, browser=browser))
    if of_pysyft and not known:
        lock_out.succeeded(email, address)
        return SignIn(why=RESEARCHERS, status=403)
    if known:  # strangers' inventions would fill the log
        datasite.audit_log.record(email, "sign in refused", "console")
    return SignIn(why=WRONG, status=401)


# -- cookies -----------------------------------------------------------------------------------------------------------


def cookie_name(datasite: Datasite, request: Request, what: str) -> str:
    """A cookie's name: of this datasite, since browsers share cookies between the ports of a host."""
    name = f"{what}-{hashlib.sha256(secret(datasite.settings.directory, 'syft.id').encode()).hexdigest()[:8]}"
    return f"__Host-{name}" if is_secure(request) else name


def is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS, to us or to the gateway before us."""
    return request.url.scheme == "https"


def set_cookie(datasite: Datasite, request: Request, response: Response, what: str, value: str) -> None:
    """Set a cookie that no script reads, no other site sends, and, under TLS, no plain connection carries."""
    response.set_cookie(
        cookie_name(datasite, request, what),
        value,
        httponly=True,
        samesite="strict",
        secure=is_secure(request),
        path="/",
    )


def drop_cookie(datasite: Datasite, request: Request, response: Response, what: str) -> None:
    """Remove a cookie from the browser."""
    response.delete_cookie(
        cookie_name(datasite, request, what), path="/", httponly=True, samesite="strict", secure=is_secure(request)
    )


def session_of(datasite: Datasite, request: Request, *, touch: bool) -> Session | None:
    """The session of a request's cookie."""
    token = request.cookies.get(cookie_name(datasite, request, "session"), "")
    return datasite.accounts.session(token, touch=touch) if token else None


# -- forms -------------------------------------------------------------------------------------------------------------


def form_token() -> str:
    """A random token for the form of somebody who is not signed in yet."""
    return secrets.token_urlsafe(32)


def comes_from_here(request: Request) -> bool:
    """Whether a browser says that a form was sent from this very site; programs that say nothing pass."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def tokens_match(given: str, wanted: str) -> bool:
    """Whether a form carries the token it should; never where there is none."""
    return bool(wanted) and hmac.compare_digest(given.encode(), wanted.encode())
