"""Secure aggregation in plain words, for an owner who decides on a request and for one who reads what left."""

from __future__ import annotations

from policies.numbers import counted
from policies.privacy.secure_aggregation import SecureAggregation
from policies.privacy.shared_sums import Sharing, shown


def secure_sentences(declared: SecureAggregation, *, counts: bool = False, shared: Sharing | None = None) -> list[str]:
    """Who adds up, what can be read, and whom that trusts; of tables of `counts`, else of a model's numbers.

    Args:
      shared: where hospitals add parts of one noise.
    """
    count, least = len(declared.hospitals), declared.threshold
    what, whose = ("sums", "Counts") if counts else ("a mean", "A model's numbers")
    roster = ", ".join(f"{party.name} (key {party.fingerprint} …)" for party in declared.hospitals)
    return [
        (f"Only {what} over at least {least} of these {count} hospitals can be read: {roster}."),
        (
            "Compare the keys with what those hospitals tell you by another way (`datasite key REQUEST` shows each in"
            " twelve words): a hospital that the researcher made up would see through the masks."
        ),
        trust_sentence(declared),
        (
            "A sum with this hospital and one without it, of the same weights in two rounds, differ by what it adds,"
            " under the noise of all hospitals in both. Masks do not change that; the ε of both rounds bounds it."
        ),
        *(
            ["This hospital adds all of its own noise, so ε is as it is without masks and depends on nobody."]
            if shared is None
            else shared_sentences(shared)
        ),
        (
            f"{whose} that are wrong on purpose cannot be told apart in a sum; a hospital that sends them spoils it for"
            " all."
        ),
    ]


def shared_sentences(shared: Sharing) -> list[str]:
    """What shared noise is, both of its ε, and what they rest on."""
    assumed, if_not = (f"{shown(epsilon)}{shared.at_delta}" for epsilon in shared.epsilons_in_all)
    return [
        (
            f"This hospital adds a part of one noise, of which {counted(shared.parts, 'hospital')} make the whole, and"
            " not all of its own."
        ),
        (
            f"While {shared.assumption()} with the researcher, this request shows at most ε = {assumed} of any patient."
            f" If more do, they may read this hospital's numbers under its own part alone: up to ε = {if_not}. A"
            " hospital that adds no part counts among those, and nobody can see that it added none."
        ),
        (
            f"The ledger charges ε = {if_not}, unless whoever approves accepts the other, in words and for this request"
            " alone, and the policy allows it."
        ),
    ]


def trust_sentence(declared: SecureAggregation) -> str:
    """How many may work together against one hospital and still read nothing but what the ledger allows."""
    others = declared.colluding
    who = (
        f"the researcher and up to {counted(others, 'other hospital')} of them may work together"
        if others
        else "the researcher may lie and leave hospitals out, as long as no other hospital works together with them"
    )
    return (
        f"For the masks to hide what this hospital adds, {who}; if more do, they may read it, noise included: what"
        " a request without masks lets everybody read."
    )


def masked_sentences(declared: SecureAggregation) -> list[str]:
    """What stands in a release under masks."""
    return [
        (
            f"Hidden under the masks of secure aggregation: a sum over {declared.threshold} or more of"
            f" {len(declared.hospitals)} hospitals can be read, and these figures say nothing by themselves."
        )
    ]
