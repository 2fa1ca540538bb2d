"""Text that somebody else wrote, made safe to show: what would act on a screen stands there by name.

A hospital's comment or a researcher's purpose can hold escape sequences that clear a terminal, marks that turn the
direction of the text around, and characters that nobody sees. Each is shown as its code point, such as `<U+202E>`.
"""

from __future__ import annotations

import unicodedata

from policies.errors import InvalidRequest

# Control, format (bidirectional marks and zero-width ones among them), surrogates, private use, unassigned; line and
# paragraph separators. What is left is letters, marks, numbers, punctuation, symbols and plain spaces.
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SHOWN = 5


def visible(text: str, *, keep: str = "") -> str:
    r"""`text` with every character that does not show itself written as `<U+....>`, but for those in `keep`.

    >>> visible("ward \x1b[2J\u202e7")
    'ward <U+001B>[2J<U+202E>7'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"<U+{ord(character):04X}>" if character not in keep and _is_hidden(character) else character
        for character in text
    )


def check_visible(text: str, what: str) -> None:
    """Raise `InvalidRequest`, naming them, where `text` has characters that do not show themselves, but for new lines.

    Args:
      what: names the text in the message, as "The purpose".
    """
    if hidden := dict.fromkeys(character for character in text if character != "\n" and _is_hidden(character)):
        names = ", ".join(f"U+{ord(character):04X}" for character in list(hidden)[:_SHOWN])
        raise InvalidRequest(f"{what} holds characters that do not show themselves ({names}). Write it as plain text.")


def password_in(text: str, where: str) -> str:
    r"""The password in the text of a file: all of it but the newline at its end, so that spaces count.

    Args:
      where: names the file in the message, as "password_file general.password".

    Raises:
      InvalidRequest: it has no line, or more than one.

    >>> password_in("correct horse \n", "password_file a")
    'correct horse '
    """
    password = text.removesuffix("\n").removesuffix("\r")
    if not password or "\n" in password or "\r" in password:
        raise InvalidRequest(f"{where} is empty or has several lines. Write the password alone into it, on one line.")
    return password


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in HIDDEN
