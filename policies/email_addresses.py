"""E-mail addresses of accounts, in the one way in which they are kept: two that look alike are one account.

Unicode has letters that look like others: full-width ones, Cyrillic ones, and characters that nobody sees. NFKC (UAX
#15) makes plain letters of the first; addresses that hold any of the rest are refused.
"""

from __future__ import annotations

import re
import unicodedata

from policies.errors import InvalidRequest
from policies.text import visible

LONGEST = 200
_LOCAL = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ADDRESS = re.compile(rf"{_LOCAL}(?:\.{_LOCAL})*@{_LABEL}(?:\.{_LABEL})*")


def email_address(text: str) -> str:
    """The address that `text` writes: trimmed, NFKC, in small letters. Raises `InvalidRequest` where it is none.

    >>> email_address(" Ada@University.Example ")
    'ada@university.example'
    """
    address = as_typed(text)
    if not address.isascii():
        character = next(character for character in address if not character.isascii())
        raise InvalidRequest(
            f"{visible(text[:60])!r} holds {_named(character)}, which could pass for another address. Write it in plain"
            " letters; a domain in its ASCII form (xn--...)."
        )
    if len(address) > LONGEST or not _ADDRESS.fullmatch(address):
        raise InvalidRequest(f"{visible(text[:60])!r} is not an e-mail address. Write it as name@institution.example.")
    return address


def as_typed(text: str) -> str:
    """What somebody typed to sign in, written as accounts are; whether it is an address is not asked."""
    return unicodedata.normalize("NFKC", text).strip().lower()


def _named(character: str) -> str:
    return f"U+{ord(character):04X} ({unicodedata.name(character, 'no letter').lower()})"
