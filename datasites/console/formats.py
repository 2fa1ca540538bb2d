"""How the console writes numbers, times, sizes and names: the one place for it, and the templates' filters.

A template writes no number in a way of its own. Times are UTC, as in the ledger: a sentence says so, and in a table the
column's head does. What is spent is rounded up and what is left is rounded down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from markupsafe import Markup

from policies.numbers import counted, written
from policies.privacy import risk
from policies.text import visible

Moment = str | float | None
"""A time as it is kept: ISO 8601 with its zone, or seconds since 1970."""

NOTHING = "—"
NEARLY = "nearly 100 %"


# -- numbers -----------------------------------------------------------------------------------------------------------


def figure(value: float | int | None, digits: int = 2) -> str:
    """A number as people read it, rounded up: ε is never shown smaller than it is."""
    if value is None:
        return NOTHING
    if isinstance(value, int) or not math.isfinite(value):
        return written(value)
    if value == 0:
        return "0"
    if abs(value) < 10**-digits:
        step = 10.0 ** (math.floor(math.log10(abs(value))) - 1)  # two digits that say something
        return written(math.ceil(value / step - 1e-6) * step, digits=2)
    return f"{math.ceil(value * 10**digits - 1e-6) / 10**digits:,.{digits}f}"


def remaining(value: float, digits: int = 2) -> str:
    """What is left, rounded down."""
    return f"{math.floor(value * 10**digits + 1e-6) / 10**digits:,.{digits}f}"


def exact(value: float | int | None) -> str:
    """A number that somebody set, as it was set: a budget, a δ, a bound."""
    if value is None:
        return NOTHING
    return _decimal(value, ",f") if math.isfinite(value) else written(value)


def in_a_field(value: float | int | None) -> str:
    """The same as it is typed, without groups of thousands: what a field shows must read back as the same number."""
    return "" if value is None else _decimal(value, "f")


def _decimal(value: float | int, form: str) -> str:
    """The shortest decimal that reads back as the same number."""
    text = format(Decimal(repr(value)), form)
    return text.rstrip("0").rstrip(".") if "." in text else text


def about(value: float) -> str:
    """A released value, to five digits: noise leaves it no more."""
    return written(value, digits=5)


def percent(share: float | None) -> str:
    """A share as whole percent, rounded up; a small one as `< 1 %`."""
    if share is None:
        return NOTHING
    if 0 < share < 0.01:
        return "< 1 %"
    return f"{math.ceil(share * 100 - 1e-9):,} %"


def bytes_text(size: int) -> str:
    """A size as people read it."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return counted(size, "byte")


def seconds_text(seconds: float) -> str:
    """How long something took."""
    return f"{seconds:,.1f} s" if seconds < 10 else f"{seconds:,.0f} s"


def belief(loss: float) -> str:
    """How sure somebody who was 50 % sure becomes at most, rounded up to a tenth of a percent."""
    tenths = math.ceil(belief_share(loss) * 1000 - 1e-9)
    return NEARLY if tenths >= 1000 else f"{tenths / 10:.1f} %".replace(".0 %", " %")


def belief_share(loss: float) -> float:
    """The same as a number, for a bar."""
    return risk.belief(loss)


# -- times -------------------------------------------------------------------------------------------------------------


def when(moment: Moment) -> str:
    """A moment with its zone, as `23 Nov 2026, 07:49 UTC`."""
    return NOTHING if moment in (None, "") else f"{clock(moment)} UTC"


def clock(moment: Moment) -> str:
    """A moment for a column whose head says UTC, as `23 Nov 2026, 07:49`."""
    return NOTHING if moment in (None, "") else _moment(moment).strftime("%-d %b %Y, %H:%M")


def machine_time(moment: Moment) -> str:
    """A moment for `<time datetime>`, in UTC to the second; empty where there is none."""
    return "" if moment in (None, "") else _moment(moment).strftime("%Y-%m-%dT%H:%M:%SZ")


def day_text(day: date, *, year: bool = True) -> str:
    """A day, as `23 Nov 2026`."""
    return day.strftime("%-d %b %Y" if year else "%-d %b")


def ago(moment: Moment) -> str:
    """How long since, as `3 hours ago`."""
    if moment in (None, ""):
        return NOTHING
    seconds = (datetime.now(UTC) - _moment(moment)).total_seconds()
    return "just now" if seconds < 60 else f"{_span(seconds)} ago"


def until(moment: Moment) -> str:
    """How long until, as `in 3 days`."""
    if moment in (None, ""):
        return NOTHING
    seconds = (_moment(moment) - datetime.now(UTC)).total_seconds()
    return "now" if seconds < 60 else f"in {_span(seconds)}"


def _moment(moment: Moment) -> datetime:
    if isinstance(moment, int | float):
        return datetime.fromtimestamp(moment, UTC)
    told = datetime.fromisoformat(str(moment))
    return told.replace(tzinfo=UTC) if told.tzinfo is None else told.astimezone(UTC)


def _span(seconds: float) -> str:
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            return counted(max(1, round(seconds / size - 0.25)), name)
    return counted(int(seconds), "second")


# -- names and words ---------------------------------------------------------------------------------------------------


def mail(text: str) -> Markup:
    """An e-mail that may break before its @, where a column is narrow; hidden characters by name."""
    return Markup("<wbr>@").join(visible(text).split("@"))


def name(text: str) -> Markup:
    """A name that may break behind its underscores, where a column is narrow; hidden characters by name."""
    return Markup("_<wbr>").join(visible(text).split("_"))


def shown(text: str) -> str:
    """What somebody else wrote: hidden characters by name, lines as they were."""
    return visible(text, keep="\n\t")


def plain(value: object) -> str:
    """A detail of the log as people read it."""
    if isinstance(value, dict):
        if set(value) == {"from", "to"}:
            return f"{plain(value['from'])} → {plain(value['to'])}"
        return "; ".join(f"{key.replace('_', ' ')} {plain(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(plain(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return written(value)
    return "none" if value is None else visible(str(value))


FILTERS: dict[str, Callable[..., Any]] = {
    "figure": figure,
    "remaining": remaining,
    "exact": exact,
    "in_a_field": in_a_field,
    "about": about,
    "percent": percent,
    "bytes": bytes_text,
    "seconds": seconds_text,
    "counted": counted,
    "belief": belief,
    "when": when,
    "clock": clock,
    "machine_time": machine_time,
    "day": day_text,
    "ago": ago,
    "until": until,
    "mail": mail,
    "name": name,
    "visible": shown,
    "plain": plain,
}
"""What a template may write after a `|`, beside Jinja's own."""
