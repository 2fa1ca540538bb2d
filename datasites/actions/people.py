"""Accounts: researchers, second reviewers and auditors, their passwords, limits, sessions and invitations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.people.accounts import check_password
from datasites.people.invitations import DAYS, DEAD, LONGEST_PASSWORD, MOST_DAYS
from datasites.people.roles import CONSOLE, OWNER, REVIEWER, Actor, Role
from policies.email_addresses import as_typed, email_address
from policies.errors import DatasiteError, InvalidRequest, PermissionRefused, WrongStatus
from policies.text import visible


@action(OWNER)
def add_researcher(datasite: Datasite, actor: Actor, *, email: str, name: str, institution: str, password: str) -> str:
    """Make a researcher's account; its e-mail as it is kept."""
    email = _for_a_researcher(datasite, email)
    datasite.syft.add_researcher(email, name, password, institution)
    datasite.audit_log.record(actor.name, "add researcher", email)
    return email


@action(CONSOLE)
def researchers(datasite: Datasite, actor: Actor) -> list[dict[str, str]]:
    """Accounts of researchers and their states."""
    return datasite.syft.researchers()


@action(OWNER)
def disable_researcher(datasite: Datasite, actor: Actor, *, email: str) -> dict[str, int]:
    """Close an account at once: its clients are signed in no more, and its rounds under way are not released.

    Answers how many rounds that `ended`; their charges stay.
    """
    email = as_typed(email)
    datasite.syft.disable_researcher(email)
    ended = datasite.rounds.end_of(email)
    datasite.audit_log.record(actor.name, "disable researcher", email, ended=ended)
    return {"ended": ended}


@action(OWNER)
def enable_researcher(datasite: Datasite, actor: Actor, *, email: str) -> None:
    """Open a closed account again; its researcher signs in anew."""
    email = as_typed(email)
    datasite.syft.enable_researcher(email)
    datasite.audit_log.record(actor.name, "enable researcher", email)


@action(OWNER)
def set_password(datasite: Datasite, actor: Actor, *, email: str, password: str) -> dict[str, int]:
    """A new password for a researcher's account, or for the owner's by default.

    Sessions of the console and signed-in clients end, and rounds under way are not released: whoever had the password
    before may have asked for them. Answers how many rounds that `ended`.
    """
    owner = datasite.settings.owner_email
    email = as_typed(email) or as_typed(owner)
    datasite.syft.set_password(owner if email == as_typed(owner) else email, password)
    datasite.accounts.end_all(email)
    ended = datasite.rounds.end_of(email)
    datasite.audit_log.record(actor.name, "set password", email, ended=ended)
    return {"ended": ended}


@action(CONSOLE)
def researcher_budgets(datasite: Datasite, actor: Actor, *, email: str) -> list[dict[str, Any]]:
    """What one researcher's releases have cost each population, and what is left for them."""
    limit = datasite.decisions.read_rules().researcher_epsilon
    rows = []
    for name in datasite.ledger.budgets.populations():
        balance = datasite.ledger.budgets.researcher_balance(name, email, limit=limit)
        rows.append(
            {
                "population": name,
                "epsilon": balance.budget.epsilon,
                "epsilon_spent": balance.epsilon_spent,
                "epsilon_reserved": balance.epsilon_reserved,
                "epsilon_remaining": balance.epsilon_remaining,
            }
        )
    return rows


@action(OWNER)
def limit_researcher(datasite: Datasite, actor: Actor, *, email: str, population: str, epsilon: float | None) -> None:
    """Limit the ε of one researcher's releases together in a population; None lifts the limit."""
    email = as_typed(email)
    if email not in researcher_emails(datasite):
        raise InvalidRequest(f"{visible(email[:200])!r} is no researcher here. `datasite researchers list` shows them.")
    datasite.ledger.budgets.set_researcher_limit(population, email, epsilon, actor=actor.name)
    datasite.audit_log.record(actor.name, "limit researcher", email, population=population, epsilon=epsilon)


@action(CONSOLE)
def console_users(datasite: Datasite, actor: Actor) -> list[dict[str, Any]]:
    """Accounts of the console: second reviewers and auditors."""
    names = ("email", "name", "role", "state")
    return [{name: user[name] for name in names} for user in datasite.accounts.users()]


@action(OWNER)
def add_console_user(
    datasite: Datasite, actor: Actor, *, email: str, name: str, role: str, password: str
) -> dict[str, Any]:
    """A new second reviewer or auditor; never somebody who asks for releases as a researcher.

    Answers the `email` as it is kept, and whether the account `waits` until a second reviewer agrees to it: where two
    people decide, the owner would hold both votes.
    """
    email = email_address(email)
    if email in researcher_emails(datasite):
        raise InvalidRequest(f"{email} is a researcher here and cannot also review. Use another person.")
    waits = role == Role.SECOND_REVIEWER and datasite.two_people.needs_agreement()
    datasite.accounts.add(email, name, role, password, waits=waits)
    datasite.audit_log.record(actor.name, "add console user", email, role=role, waits=waits)
    return {"email": email, "waits": waits}


@action(OWNER)
def disable_console_user(datasite: Datasite, actor: Actor, *, email: str) -> None:
    """Close an account of the console and end its sessions."""
    datasite.accounts.set_state(email, active=False)
    datasite.audit_log.record(actor.name, "disable console user", email.lower())


@action(OWNER)
def enable_console_user(datasite: Datasite, actor: Actor, *, email: str) -> None:
    """Open a closed account of the console again."""
    datasite.accounts.set_state(email, active=True)
    datasite.audit_log.record(actor.name, "enable console user", email.lower())


@action(CONSOLE)
def set_console_password(datasite: Datasite, actor: Actor, *, email: str, password: str) -> dict[str, bool]:
    """A new password for an account of the console, one's own or by the owner; its sessions end.

    Answers whether the account `waits` until another second reviewer agrees: whoever gave a second reviewer their
    password could vote as them.
    """
    _check_own(actor, email)
    email = as_typed(email)
    others, user = datasite.accounts.reviewers() - {email}, datasite.accounts.user(email)
    waits = (
        email != as_typed(actor.name)
        and user is not None
        and user["role"] == Role.SECOND_REVIEWER
        and datasite.two_people.needs_agreement()
    )
    if waits and not others:
        raise WrongStatus(
            f"{email} is the only second reviewer, so nobody could agree to a password that another person gives. They"
            " change it themselves, in the console."
        )
    datasite.accounts.set_password(email, password, waits=waits)
    datasite.audit_log.record(actor.name, "set password", email, waits=waits)
    return {"waits": waits}


@action(REVIEWER)
def agree_console_user(datasite: Datasite, actor: Actor, *, email: str) -> None:
    """Let an account of a second reviewer count that the owner made, opened or gave a password."""
    email = as_typed(email)
    if email == as_typed(actor.name):
        raise PermissionRefused("Another second reviewer agrees to an account, not its own person.")
    datasite.accounts.agree(email)
    datasite.audit_log.record(actor.name, "agree console user", email)


@action(CONSOLE)
def sign_out(datasite: Datasite, actor: Actor, *, email: str) -> None:
    """End every session of an account of the console, or of the owner: one's own, or anybody's by the owner."""
    _check_own(actor, email)
    if email and as_typed(email) != as_typed(datasite.settings.owner_email) and datasite.accounts.user(email) is None:
        raise InvalidRequest(f"{email} has no account of the console. `datasite console-users list` shows them.")
    datasite.accounts.end_all(email or datasite.settings.owner_email)
    datasite.audit_log.record(actor.name, "sign out everywhere", email or datasite.settings.owner_email)


@action(OWNER)
def invite_researcher(
    datasite: Datasite,
    actor: Actor,
    *,
    email: str,
    name: str,
    institution: str = "",
    days: float = DAYS,
    base: str = "",
) -> dict[str, Any]:
    """A link that works once, on which somebody becomes a researcher with a password of their own.

    Args:
      days: more than 0, at most `MOST_DAYS`.
      base: the address in front of the link where the settings name none.
    """
    email = _for_a_researcher(datasite, email)
    if not name.strip():
        raise InvalidRequest("Write the researcher's name.")
    if not 0 < days <= MOST_DAYS:
        raise InvalidRequest(f"days={days:g} is outside (0, {MOST_DAYS}].")
    token = datasite.invitations.make(email, name.strip()[:200], institution.strip()[:200], days=days)
    ends = datetime.fromtimestamp(datasite.invitations.clock() + days * 86_400, UTC).isoformat(timespec="seconds")
    datasite.audit_log.record(actor.name, "invite researcher", email, ends=ends)
    address = (datasite.settings.console_url or base or datasite.settings.url).rstrip("/")
    return {"email": email, "link": f"{address}/invitation/{token}", "ends": ends}


@action(CONSOLE)
def invitations(datasite: Datasite, actor: Actor) -> list[dict[str, Any]]:
    """Invitations that wait to be used."""
    return [
        {**invitation, "ends": datetime.fromtimestamp(invitation["ends"], UTC).isoformat(timespec="seconds")}
        for invitation in datasite.invitations.open()
    ]


@action(OWNER)
def withdraw_invitation(datasite: Datasite, actor: Actor, *, email: str) -> None:
    """End an invitation: its link works no more."""
    email = as_typed(email)
    if not datasite.invitations.withdraw(email):
        raise InvalidRequest(
            f"{visible(email[:60])} has no open invitation. `datasite researchers invitations` lists them."
        )
    datasite.audit_log.record(actor.name, "withdraw invitation", email)


def _for_a_researcher(datasite: Datasite, text: str) -> str:
    """The e-mail of a researcher's account to be made. Raises `InvalidRequest` where it is none, or has an account."""
    email = email_address(text)
    if email == as_typed(datasite.settings.owner_email) or datasite.accounts.user(email) is not None:
        raise InvalidRequest(f"{email} decides, reviews or audits here and cannot also ask. Use another person.")
    if email in researcher_emails(datasite):
        raise InvalidRequest(f"{email} has a researcher's account here. `datasite password {email}` gives a new one.")
    return email


def researcher_emails(datasite: Datasite) -> set[str]:
    """The researchers who have an account, by e-mail."""
    return {as_typed(account["email"]) for account in datasite.syft.researchers()}


def _check_own(actor: Actor, email: str) -> None:
    """Raise `PermissionRefused` unless the account is the actor's own, or the actor is the owner."""
    if actor.role is not Role.OWNER and as_typed(email) != actor.name.lower():
        raise PermissionRefused(f"{visible(email[:60])} is another's account. The owner can do this.")


def accept(datasite: Datasite, token: str, password: str) -> str:
    """Make the account of an invitation, with the password that its researcher chose; the e-mail.

    Raises:
      InvalidRequest: the password is too short or too long, and the link still works; or the link does not work.
    """
    check_password(password)
    if len(password.encode()) > LONGEST_PASSWORD or "\0" in password:
        raise InvalidRequest(f"The password is longer than {LONGEST_PASSWORD} bytes. Choose a shorter one.")
    taken = datasite.invitations.take(token)
    if taken is None:
        raise InvalidRequest(DEAD)
    email = str(taken["email"])
    if datasite.accounts.user(email) is not None or email in researcher_emails(datasite):
        raise InvalidRequest(DEAD)  # the owner has made an account of that name meanwhile
    try:
        datasite.syft.add_researcher(email, taken["name"], password, taken["institution"])
    except DatasiteError:
        datasite.invitations.give_back(taken)
        raise InvalidRequest("The account could not be made. Try again in a moment.") from None
    datasite.audit_log.record(email, "accept invitation", email)
    return email
