"""The owner's policy: read, and replaced where its rules can be read."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.files import refused_by_system, replace_private
from datasites.people.roles import CONSOLE, OWNER, REVIEWER, Actor
from datasites.review.policy import Rules
from policies.errors import DatasiteError, WrongStatus


@action(CONSOLE)
def policy(datasite: Datasite, actor: Actor) -> dict[str, Any]:
    """The owner's policy as the file and as values; where the file cannot be read, `error` says why."""
    text = _text(datasite.settings.policy_path)
    answer: dict[str, Any] = {"text": text, "digest": _digest(text), "rules": None, "error": "", "loosened": ""}
    try:
        answer["rules"] = _plain(Rules.from_toml(text))
        datasite.two_people.read()  # a stricter rule of the file is what is agreed from now on
        answer["loosened"] = str(datasite.two_people.loosened() or "")
    except Exception as error:
        answer["error"] = str(error)
    return answer


@action(OWNER)
def change_policy(datasite: Datasite, actor: Actor, *, text: str, digest: str) -> dict[str, Any]:
    """Replace the policy file where its rules can be read; answers what changed, which the log records.

    A looser two-person rule is written and holds only when a second reviewer has agreed to it; `loosened` says so.

    Args:
      digest: of the text that was read before; another means that somebody changed it meanwhile.

    Raises:
      WrongStatus: it was changed meanwhile.
      RuleBroken: the new text cannot be used; nothing was changed.
    """
    before = policy(datasite, actor)
    if before["digest"] != digest:
        raise WrongStatus("The policy was changed since you opened it. Look at it again, then change it.")
    new, old = _plain(Rules.from_toml(text)), before["rules"] or {}
    replace_private(datasite.settings.policy_path, text)
    changed = {name: {"from": old.get(name), "to": new[name]} for name in new if old.get(name) != new[name]}
    datasite.audit_log.record(actor.name, "change policy", "policy.toml", changed=changed, sha256=_digest(text))
    return {"changed": changed, "loosened": policy(datasite, actor)["loosened"]}


@action(REVIEWER)
def agree_policy(datasite: Datasite, actor: Actor, *, digest: str) -> None:
    """Agree to a looser two-person rule that the policy file has, as it was read."""
    datasite.two_people.agree(actor, digest=digest)


def _text(path: Path) -> str:
    """The file, with the ends of lines that it has. Raises `DatasiteError` where it cannot be read."""
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise DatasiteError(f"policy.toml cannot be read. {refused_by_system(error)}") from None
    except UnicodeDecodeError as error:
        raise DatasiteError(f"{path} is not UTF-8 at byte {error.start}. Mend that line by hand.") from None


def _plain(rules: Rules) -> dict[str, Any]:
    plans = {name: dataclasses.asdict(plan) for name, plan in rules.yearly_plans.items()}
    return {**dataclasses.asdict(rules), "allowed_mechanisms": list(rules.allowed_mechanisms), "yearly_plans": plans}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
