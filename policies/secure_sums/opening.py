"""Open a sum: take away the masks of those who are in it, and what those who dropped out left in the others.

Whoever relayed a round can open its sum, and so can anybody later from what was kept of it, which is how
`researcher` shows that a mean is the mean of what certificates speak of. A party that gives wrong shares is found out:
each secret is held against what its owner signed of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from policies.errors import CertificateRefused, InvalidRequest
from policies.privacy.secure_aggregation import SecureAggregation
from policies.secure_sums import messages
from policies.secure_sums.agreement import mask_seed
from policies.secure_sums.encoding import Words
from policies.secure_sums.masks import add_mask
from policies.secure_sums.party import seed_digest
from policies.secure_sums.sharing import PRIME, SHARE_BYTES, combine

MOST_LIARS = 2  # that are looked for among those who gave more shares than are needed


@dataclass(frozen=True)
class Revealed:
    """One party's last answer: its shares of the masks of who is in the sum, and of the keys of who is not."""

    seeds: Mapping[int, int]
    keys: Mapping[int, int]


def read_revealed(declared: SecureAggregation, answer: Mapping[str, object]) -> Revealed:
    """The last answer of a party. Raises `InvalidRequest` where it is none."""
    shares = {
        what: {
            party: int(messages.hex_of(share, "a share", SHARE_BYTES), 16)
            for party, share in messages.numbered(declared, answer.get(what), what).items()
        }
        for what in ("seeds", "keys")
    }
    if any(share >= PRIME for held in shares.values() for share in held.values()):
        raise messages.unreadable("a share is none")
    return Revealed(shares["seeds"], shares["keys"])


def open_sum(
    declared: SecureAggregation,
    context: str,
    *,
    book: Mapping[int, Mapping[str, str]],
    sharing: Iterable[int],
    masked: Mapping[int, Words],
    revealed: Mapping[int, Revealed],
) -> Words:
    """The sum of what the parties of `masked` added, modulo 2^32.

    Args:
      book: round keys, by party.
      sharing: the parties that shared secrets: with each of them every survivor has a mask.
      masked: what each survivor sent.
      revealed: by party; `threshold` of them are needed.

    Raises:
      CertificateRefused: a key was not signed by its hospital, or shares do not come to what was signed of them;
        names who gave them.
      InvalidRequest: too few shares.
    """
    survivors, parties = sorted(masked), sorted(sharing)
    for party in parties:
        messages.check_announced(declared, context, party, book[party])
    total = masked[survivors[0]].copy()
    for party in survivors[1:]:
        total += masked[party]
    for party in survivors:
        seed = _secret(declared, party, revealed, "seeds", _is_seed(book[party]["seed_digest"]))
        add_mask(total, seed, plus=False)
    for lost in sorted(set(parties) - set(survivors)):
        private = _secret(declared, lost, revealed, "keys", _is_key(book[lost]["mask_key"]))
        for party in survivors:
            public = bytes.fromhex(book[party]["mask_key"])
            # The survivor added it where it comes first.
            add_mask(total, mask_seed(private, public, bytes.fromhex(context), party, lost), plus=party > lost)
    return total


def _secret(
    declared: SecureAggregation, owner: int, revealed: Mapping[int, Revealed], what: str, is_it: Callable[[bytes], bool]
) -> bytes:
    """The secret of a party, from any `threshold` shares that come to what it signed."""
    shares = {party: given[owner] for party, one in sorted(revealed.items()) if owner in (given := getattr(one, what))}
    name, needed = declared.hospitals[owner - 1].name, declared.threshold
    if len(shares) < needed:
        raise InvalidRequest(
            f"{len(shares)} hospitals gave a share for {name}, and threshold={needed} have to. Ask the others."
        )
    for left_out in _without(tuple(shares), len(shares) - needed):
        chosen = [party for party in shares if party not in left_out][:needed]
        secret = combine({party: shares[party] for party in chosen})
        if secret is not None and is_it(secret):
            return secret
    who = ", ".join(declared.hospitals[party - 1].name for party in shares)
    raise CertificateRefused(
        f"The shares for {name} do not come to what it signed, whichever are left out. They are of {who}. The sum"
        " cannot be opened; tell the hospitals."
    )


def _without(parties: tuple[int, ...], spare: int) -> Iterable[tuple[int, ...]]:
    for count in range(min(spare, MOST_LIARS) + 1):
        yield from itertools.combinations(parties, count)


def _is_seed(digest: str) -> Callable[[bytes], bool]:
    return lambda secret: seed_digest(secret.hex()) == digest


def _is_key(public: str) -> Callable[[bytes], bool]:
    return lambda secret: X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw().hex() == public
