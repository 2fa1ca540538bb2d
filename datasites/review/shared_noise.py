"""Shared noise, as an owner decides on it: the two ε of a request, and the word by which the lesser one is charged.

Hospitals that add up under one noise trust each other for ε (`policies.privacy.shared_sums`). The ledger charges what
holds for whoever trusts nobody, unless the owner accepts the other, in words, for one request: the sentence names every
hospital and both ε, and its digest is bound to the request, its plan, the roster with keys, threshold and k, and the ε
of every draw. An acceptance of another request counts for nothing, and neither does one that the policy does not allow.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from datasites.ledger.records import CodeRequestRecord
from datasites.review.policy import Outcome, Rules
from policies.errors import RuleBroken
from policies.numbers import written
from policies.privacy.mechanisms import Mechanism
from policies.privacy.shared_sums import Sharing, shown
from policies.privacy.sharing import shared_of

TITLE = "Shared noise"


def acceptance_of(record: CodeRequestRecord) -> str | None:
    """What an owner gives back to accept the shared noise of a request; None where none is shared."""
    shared = None if record.plan is None else shared_of(record.plan.mechanism)
    if shared is None:
        return None
    return shared.acceptance(request=record.id, plan_digest=str(record.plan_digest))


def is_accepted(record: CodeRequestRecord) -> bool:
    """Whether the owner accepted the shared noise of this very request when it was approved."""
    wanted = acceptance_of(record)
    return wanted is not None and record.acceptance == wanted


def check_acceptance(record: CodeRequestRecord, acceptance: str) -> None:
    """Raise `RuleBroken` unless an owner's word is for the shared noise of this very request."""
    name, wanted = record.id[:8], acceptance_of(record)
    if wanted is None:
        raise RuleBroken(f"Request {name} shares no noise, so there is nothing to accept. Approve it without.")
    if not hmac.compare_digest(acceptance.encode(), wanted.encode()):
        raise RuleBroken(
            f"The acceptance {acceptance[:12]!r} is not of request {name}, whose is {wanted[:12]!r}: its hospitals,"
            " keys, threshold, ε or plan are others. Read this request's sentence and accept that one."
        )


def shared_outcome(rules: Rules, mechanism: Mechanism, *, accepted: bool) -> Outcome | None:
    """Which ε is charged for shared noise, as a check among the others; None where none is shared.

    It fails where what was accepted is above the policy's cap.
    """
    shared = shared_of(mechanism)
    if shared is None:
        return None
    assumed, if_not = shared.epsilons_in_all
    if not accepted:
        return Outcome(
            TITLE, True, f"ε = {shown(if_not)} is charged, which trusts no hospital; ε = {shown(assumed)} was asked for"
        )
    cap = rules.shared_noise_epsilon
    if if_not > cap:
        return Outcome(
            TITLE,
            False,
            f"If its hospitals do not keep their word, it shows ε = {shown(if_not)}, above shared_noise_epsilon ="
            f" {written(cap)}, the largest that may be left uncharged here. Approve it without the acceptance, which"
            f" charges ε = {shown(if_not)}, or have the policy allow more.",
        )
    return Outcome(
        TITLE,
        True,
        f"ε = {shown(assumed)} is charged, as its owner relies on the named hospitals; ε = {shown(if_not)} if they do"
        f" not keep their word, and up to {written(cap)} may be left uncharged",
    )


def said_of(shared: Sharing) -> Mapping[str, Any]:
    """Both ε of a request and what the lesser one rests on, as plain data."""
    assumed, if_not = shared.epsilons_in_all
    return {
        "epsilon": assumed,
        "epsilon_if_not": if_not,
        "hospitals": len(shared.roster.hospitals),
        "threshold": shared.roster.threshold,
        "assumption": shared.assumption(),
        "sentence": shared.sentence(),
    }
