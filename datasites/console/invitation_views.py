"""Inviting a researcher, and the page of the link, which is open to whoever holds it."""

from __future__ import annotations

from starlette.responses import Response

from datasites.actions.people import accept as accept_invitation
from datasites.console import administration_views, auth
from datasites.console.page_requests import PageRequest
from datasites.people import invitations
from policies.errors import InvalidRequest


def invite(visit: PageRequest) -> Response:
    """A link that is shown once."""
    form, base = visit.form, str(visit.request.base_url)
    done = visit.act(
        "invite_researcher",
        email=form.text("email"),
        name=form.text("name"),
        institution=form.text("institution"),
        base=base,
    )
    made = {"email": done["email"], "what": "Researcher invited", "link": done["link"], "ends": done["ends"]}
    return administration_views.with_made(visit, made)


def withdraw(visit: PageRequest) -> Response:
    """End an invitation."""
    email = visit.form.text("email")
    visit.act("withdraw_invitation", email=email)
    return visit.go("/people", f"The link of {email} works no more.")


def page(visit: PageRequest) -> Response:
    """The form of a link that works. Looking uses nothing up: programs that read mail look at links too."""
    return _form(visit)


def _form(visit: PageRequest, *, why: str = "", status: int = 200) -> Response:
    invitation = visit.datasite.invitations.find(visit.path["token"])
    if invitation is None:
        return visit.render("refused.html", status=404, title="Not found", why=invitations.DEAD)
    token = auth.form_token()
    response = visit.render("invitation.html", status=status, done=False, why=why, form_token=token, **invitation)
    auth.set_cookie(visit.datasite, visit.request, response, "form", token)
    return response


def accept(visit: PageRequest) -> Response:
    """Make the account, once."""
    cookie = visit.request.cookies.get(auth.cookie_name(visit.datasite, visit.request, "form"), "")
    if not auth.tokens_match(visit.form.text("form_token"), cookie):
        return _form(visit, why="The form was too old. Try once more.", status=400)
    new = visit.form.fields.get("new", [""])[-1]
    if new != visit.form.fields.get("again", [""])[-1]:
        return _form(visit, why="The two passwords differ. Nothing was done.", status=422)
    try:
        email = accept_invitation(visit.datasite, visit.path["token"], new)
    except InvalidRequest as error:
        return _form(visit, why=str(error), status=422)
    address = (visit.datasite.settings.console_url or str(visit.request.base_url)).rstrip("/")
    response = visit.render("invitation.html", done=True, email=email, address=address)
    auth.drop_cookie(visit.datasite, visit.request, response, "form")
    return response
