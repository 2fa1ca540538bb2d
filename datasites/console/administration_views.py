"""People, policy and the audit log."""

from __future__ import annotations

import secrets
from typing import Any

from starlette.responses import Response, StreamingResponse

from datasites.console import formats, wording
from datasites.console.page_requests import PageRequest, download
from datasites.operations.exports import LOG_COLUMNS, as_csv, every_log_row
from datasites.people.roles import Role
from datasites.review.policy import MECHANISMS
from datasites.toml_editing import Value, with_values
from policies.errors import DatasiteError, InvalidRequest

PAGE = 50


# -- people ------------------------------------------------------------------------------------------------------------


def people(visit: PageRequest) -> Response:
    """Researchers with their budgets, and the accounts of the console."""
    return _people(visit)


def with_made(visit: PageRequest, made: dict[str, str]) -> Response:
    """The page with what was made just now, which is shown once: a `password`, or a `link`."""
    return _people(visit, made=made)


def _people(visit: PageRequest, *, made: dict[str, str] | None = None) -> Response:
    researchers = visit.act("researchers")
    for person in researchers:
        person["budgets"] = visit.act("researcher_budgets", email=person["email"])
        person["requests"] = len(visit.datasite.ledger.requests.list(researcher=person["email"]))
    return visit.render(
        "people.html",
        researchers=researchers,
        populations=visit.datasite.ledger.budgets.populations(),
        users=visit.act("console_users"),
        owner=visit.datasite.settings.owner_email,
        roles=wording.ROLES,
        invited=visit.act("invitations"),
        made={"password": "", "link": "", **made} if made else None,
    )


def add_researcher(visit: PageRequest) -> Response:
    """A researcher's account with a password that is shown once."""
    password, email = secrets.token_urlsafe(15), visit.form.text("email")
    if not visit.form.text("name"):
        raise InvalidRequest("Write the researcher's name.")
    email = visit.act(
        "add_researcher",
        email=email,
        name=visit.form.text("name")[:200],
        institution=visit.form.text("institution")[:200],
        password=password,
    )
    return _people(visit, made={"email": email, "password": password, "what": "Researcher added"})


def researcher_state(visit: PageRequest) -> Response:
    """Close or open a researcher's account."""
    email = _researcher(visit)
    if visit.form.text("to") == "disabled":
        done = visit.act("disable_researcher", email=email)
        return visit.go(
            "/people",
            f"Closed the account of {email}: its clients are signed in no more, and its requests make no further"
            f" releases. Rounds ended by it: {done['ended']}.",
        )
    visit.act("enable_researcher", email=email)
    return visit.go("/people", f"Opened the account of {email} again.")


def researcher_password(visit: PageRequest) -> Response:
    """A new password for a researcher, shown once."""
    email, password = _researcher(visit), secrets.token_urlsafe(15)
    done = visit.act("set_password", email=email, password=password)
    what = f"New password (signed-in clients ended; rounds ended: {done['ended']})"
    return _people(visit, made={"email": email, "password": password, "what": what})


def researcher_limit(visit: PageRequest) -> Response:
    """Limit a researcher's releases in a population, or lift the limit."""
    email, epsilon = _researcher(visit), visit.form.number("epsilon", "Limit")
    visit.act("limit_researcher", email=email, population=visit.form.text("population"), epsilon=epsilon)
    text = (
        f"Limited {email} to ε {formats.exact(epsilon)}."
        if epsilon is not None
        else f"{email} has no limit of their own now."
    )
    return visit.go("/people", text)


def _researcher(visit: PageRequest) -> str:
    """The researcher whom a form names; never another account of PySyft, such as the owner's."""
    email = visit.form.text("email")
    if email not in {person["email"] for person in visit.act("researchers")}:
        raise InvalidRequest(f"{email[:80]!r} is no researcher here.")
    return email


def add_auditor(visit: PageRequest) -> Response:
    """An auditor with a password that is shown once.

    A second reviewer is made on the command line alone: the owner, who would read the password here, could vote twice.
    """
    password, email = secrets.token_urlsafe(15), visit.form.text("email")
    visit.act("add_console_user", email=email, name=visit.form.text("name"), role=Role.AUDITOR.value, password=password)
    return _people(visit, made={"email": email, "password": password, "what": "Auditor added"})


def console_user_state(visit: PageRequest) -> Response:
    """Close or open an account of the console."""
    email = visit.form.text("email")
    closing = visit.form.text("to") == "disabled"
    visit.act("disable_console_user" if closing else "enable_console_user", email=email)
    return visit.go("/people", f"{'Closed' if closing else 'Opened'} the account of {email}.")


def agree_console_user(visit: PageRequest) -> Response:
    """A second reviewer agrees to another's account."""
    email = visit.form.text("email")
    visit.act("agree_console_user", email=email)
    return visit.go("/people", f"Agreed. {email} is a second reviewer from now on.")


# -- policy ------------------------------------------------------------------------------------------------------------


def policy(visit: PageRequest) -> Response:
    """The rules as a form and as the file."""
    return _policy(visit, visit.act("policy"))


def _policy(visit: PageRequest, shown: dict[str, Any], *, text: str | None = None, why: str = "") -> Response:
    return visit.render(
        "policy.html",
        status=422 if why else 200,
        found=shown,
        text=shown["text"] if text is None else text,
        why=why,
        groups=wording.RULES,
        kinds=wording.KINDS,
        plans=_plans(visit, shown),
    )


def _plans(visit: PageRequest, shown: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The yearly plan of every population that is here, empty where it has none, and of those that a slip names."""
    named = shown["rules"]["yearly_plans"] if shown["rules"] else {}
    here = visit.datasite.ledger.budgets.populations()
    none = {"epsilon": None, "carry_over_since": None}
    return {name: named.get(name, none) for name in sorted({*here, *named})}


def change_policy(visit: PageRequest) -> Response:
    """The form's values, written into the file: its comments stay."""
    values: dict[str, Value] = {
        name: _number(visit, name, label) for _, _, rules in wording.RULES for name, label, _ in rules
    }
    values["deny_at_once"] = bool(visit.form.text("deny_at_once"))
    values["allowed_mechanisms"] = [kind for kind in MECHANISMS if kind in visit.form.all("allowed_mechanisms")]
    return _change(visit, with_values(visit.act("policy")["text"], values))


def change_year(visit: PageRequest) -> Response:
    """One population's yearly plan, written into the file; none where the field is empty."""
    shown, population = visit.act("policy"), visit.form.text("population")
    if not shown["rules"] or population not in _plans(visit, shown):
        raise InvalidRequest(f"{population[:80]!r} is no population here. Open the policy again.")
    plans = {
        name: {key: value for key, value in plan.items() if value is not None}
        for name, plan in shown["rules"]["yearly_plans"].items()
    }
    epsilon, since = _number(visit, "epsilon", "ε of a year"), _number(visit, "since", "First year that carries over")
    if epsilon is None and since is not None:
        raise InvalidRequest("Write what ε one year may add, or empty both fields for no plan.")
    plans.pop(population, None)
    if epsilon is not None:
        plans[population] = {"epsilon": epsilon} | ({} if since is None else {"carry_over_since": since})
    return _change(visit, with_values(shown["text"], {"yearly_plans": plans or None}))


def _number(visit: PageRequest, name: str, label: str) -> int | float | None:
    """A number, whole where it was typed so, None where the field is empty."""
    value = visit.form.number(name, label)
    return int(value) if value is not None and value == int(value) and "." not in visit.form.text(name) else value


def change_policy_file(visit: PageRequest) -> Response:
    """The whole file as typed; browsers end its lines in their own way."""
    return _change(visit, visit.form.fields.get("text", [""])[-1].replace("\r\n", "\n"))


def _change(visit: PageRequest, text: str) -> Response:
    try:
        done = visit.act("change_policy", text=text, digest=visit.form.text("digest"))
    except DatasiteError as error:
        return _policy(visit, visit.act("policy"), text=text, why=wording.public(error))
    names = ", ".join(done["changed"])
    if done["loosened"]:
        return visit.go("/policy", f"Saved. {done['loosened']}")
    return visit.go("/policy", f"Changed: {names}. The audit log has it." if names else "Saved; no rule has changed.")


def agree_policy(visit: PageRequest) -> Response:
    """A second reviewer agrees to a looser two-person rule."""
    visit.act("agree_policy", digest=visit.form.text("digest"))
    return visit.go("/policy", "Agreed. The policy holds as the file has it.")


# -- audit log ---------------------------------------------------------------------------------------------------------


def log(visit: PageRequest) -> Response:
    """Who did what, newest first, searched and by the page."""
    search, before = visit.query("q"), visit.whole("before")
    rows = visit.act(
        "search_log",
        search=search,
        before=before,
        limit=PAGE,
    )
    return visit.render(
        "log.html",
        rows=rows,
        search=search,
        older=rows[-1]["seq"] if len(rows) == PAGE else None,
        newest=before is None,
        head=visit.datasite.audit_log.head(),
    )


def verify_log(visit: PageRequest) -> Response:
    """Recompute the log's chain."""
    done = visit.act("verify_log")
    return visit.go(
        "/log", f"The log verifies: {done['rows']:,} rows, none changed or removed. Head {done['head'][:16]}…"
    )


def export_log(visit: PageRequest) -> Response:
    """Every row as CSV."""
    visit.datasite.audit_log.record(visit.actor.name, "export", "audit log", form="csv")
    rows = as_csv(every_log_row(visit.act), LOG_COLUMNS)
    return StreamingResponse(rows, media_type="text/csv", headers=download("audit-log.csv"))
