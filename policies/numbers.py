"""Numbers as people read them, the same on every page and in every message.

No exponents, thousands in groups, nouns that agree: `0.00001`, `7,997`, `1 round`.
"""

from __future__ import annotations

import math

SMALLEST = 1e-12
"""Below it a number has more zeros than anybody counts, and is written with a power of ten."""
MOST_PLACES = 12  # after the point
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


def places_for(error: float) -> int | None:
    """How many places after the point a number with this standard error has; below 0, zeros before it. None: no error.

    The rule of the Particle Data Group (Review of Particle Physics, section 5.3): of an error whose three leading
    digits are 100 to 354 two are shown, 355 to 949 one, and 950 to 999 round up to 1000, of which two are shown.
    """
    if not error > 0 or not math.isfinite(error):
        return None
    exponent = math.floor(math.log10(error))
    leading = round(error / 10.0**exponent * 100)
    places = -exponent + (1 if leading < 355 else 0)
    return min(places, MOST_PLACES)


def to_places(value: float, places: int | None) -> str:
    """A number to so many places after the point (below 0: rounded before it); as it is where `places` is None.

    >>> to_places(8031.6, -1), to_places(0.84512, 3), to_places(-0.001, 2)
    ('8,030', '0.845', '0.00')
    """
    if places is None or not math.isfinite(value):
        return written(value)
    return f"{round(value, places) + 0.0:,.{max(places, 0)}f}"


def outward(low: float, high: float, places: int | None) -> tuple[str, str]:
    """Both ends of an interval to so many places, rounded so that it holds what it held.

    >>> outward(0.8123, 0.8771, 2)
    ('0.81', '0.88')

    An end that is nowhere stays there:

    >>> outward(-math.inf, 0.4321, 2)
    ('minus infinite', '0.44')
    """
    if places is None:
        return written(low), written(high)
    unit = 10.0**places
    below = math.floor(low * unit + 1e-9) / unit if math.isfinite(low) else low
    above = math.ceil(high * unit - 1e-9) / unit if math.isfinite(high) else high
    return to_places(below, places), to_places(above, places)


def with_error(value: float, error: float) -> str:
    """A number and its standard error, with the digits that the error allows (see `places_for`).

    >>> with_error(0.84512, 0.01399), with_error(8031.6, 42.0), with_error(37.5, 0.96), with_error(12.0, 0.0)
    ('0.845 ± 0.014', '8,030 ± 40', '37.5 ± 1.0', '12')
    """
    places = places_for(error)
    return written(value) if places is None else f"{to_places(value, places)} ± {to_places(error, places)}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """How many of something, in words that agree.

    >>> counted(1, "round"), counted(7997, "entry", "entries")
    ('1 round', '7,997 entries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
