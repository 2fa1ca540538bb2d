"""Numbers as people read them, the same on every page and in every message.

No exponents, thousands in groups, nouns that agree: `0.00001`, `7,997`, `1 round`.
"""

from __future__ import annotations

import math

SMALLEST = 1e-12
"""Below it a number has more zeros than anybody counts, and is written with a power of ten."""
_POWERS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def written(value: float | int, *, digits: int = 6) -> str:
    """A number as it is, to `digits` significant ones where it has a fraction.

    >>> written(1e-05), written(7997), written(2.5), written(1e6), written(-0.25)
    ('0.00001', '7,997', '2.5', '1,000,000', '-0.25')
    """
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite" if value > 0 else "minus infinite"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not SMALLEST <= abs(value) < 1e15:
        mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')} × 10{str(int(power)).translate(_POWERS)}"
    places = max(0, digits - 1 - exponent)
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def counted(number: int, noun: str, plural: str = "") -> str:
    """How many of something, in words that agree.

    >>> counted(1, "round"), counted(7997, "entry", "entries")
    ('1 round', '7,997 entries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
