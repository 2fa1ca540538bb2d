r"""How a table writes what a schema means: headers, words for missing, dates' forms, and how its file is laid out.

All of it is public and typed by the owner. Nothing here reads a file; `datasites.vault` holds tables to it. In a
`schema.toml` it stands like this, all of it optional:

    missing_values = ["NA", "n/a", "-"] # at the top: what stands for a missing cell; columns may list their own
    patient_header = "Patient No."      # at the top: the header of the column that identifies a patient

    [file]
    separator = ";"                     # or ",", "\t", "|"
    decimal = ","                       # or "."
    encoding = "windows-1252"           # or another; utf-8 if left out
    skip = 2                            # lines above the header
    sheet = "Visits"                    # of a workbook

    [columns.hba1c]
    header = "HbA1c (%)"                # any header, beside a name that is safe everywhere
    kind = "real"
    minimum = 3
    maximum = 20
    missing_values = ["<LOD"]           # in place of those at the top

    [columns.sex]
    kind = "category"
    labels = {"M" = "male", "F" = "female"}     # what the table writes, and what it means

    [columns.seen]
    kind = "datetime"
    minimum = 2025-10-01T00:00:00
    maximum = 2026-04-30T00:00:00
    truncate = "hour"                   # day, hour, minute or second
    zone = "Europe/Berlin"              # whose clock it is; without one, a time with an offset is refused
    format = "%d.%m.%Y %H:%M"           # how the table writes dates and times; ISO 8601 if left out
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policies.errors import DataRefused

LARGEST_HEADER = 200
LARGEST_WORD = 100
MOST_WORDS = 100
MOST_SKIPPED = 1000
MOST_CODES = 1000

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
DECIMALS = {".": "a decimal point", ",": "a decimal comma"}
# Names of Python's codecs. None of them reads a text as another one of them does by chance but those of one byte.
ENCODINGS = (
    "utf-8", "utf-16", "windows-1250", "windows-1251", "windows-1252", "windows-1253", "windows-1254", "windows-1257",
    "iso-8859-1", "iso-8859-2", "iso-8859-5", "iso-8859-7", "iso-8859-9", "iso-8859-15", "cp437", "cp850", "cp852",
    "mac-roman", "gb18030", "big5", "shift_jis", "euc-kr",
)  # fmt: skip

UNITS = {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}
"""Seconds of each unit that times are truncated to."""
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")
_CODES_OF_FORMAT = {
    "%Y": r"(?P<Y>\d{4})", "%m": r"(?P<m>\d{1,2})", "%d": r"(?P<d>\d{1,2})",
    "%H": r"(?P<H>\d{1,2})", "%M": r"(?P<M>\d{2})", "%S": r"(?P<S>\d{2})",
}  # fmt: skip
_BETWEEN = re.compile(r"[-./:, T]*")


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    r"""How a table's file is laid out, where it is not comma-separated UTF-8 with its header in the first line.

    Args:
      separator: between cells of a CSV file: `","`, `";"`, `"\t"` or `"|"`.
      decimal: `"."` or `","`, in texts that are numbers.
      encoding: of a CSV file; one of `ENCODINGS`.
      skip: lines above the header, such as a title, that are passed over: 0 to 1000.
      sheet: of a workbook; it may be left out where there is one.
      codes: of FHIR's Observation or Condition: records with another code are passed over. None passes over none.

    Raises:
      DataRefused: a value is not known or outside its range.
    """

    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    skip: int = 0
    sheet: str = ""
    codes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, known in (("separator", (*SEPARATORS,)), ("decimal", (*DECIMALS,)), ("encoding", ENCODINGS)):
            value = getattr(self, name)
            if value not in known:
                listed = ", ".join(repr(choice) for choice in known)
                raise DataRefused(f"[file]: {name}={value!r} is not known. Use one of {listed}.")
        if self.separator == self.decimal:
            raise DataRefused(
                f"[file]: separator and decimal are both {self.decimal!r}, so 1{self.decimal}5 could be two cells. A"
                " file with decimal commas is separated by ';' or a tab."
            )
        if type(self.skip) is not int or not 0 <= self.skip <= MOST_SKIPPED:
            raise DataRefused(f"[file]: skip={self.skip!r} is not a whole number in [0, {MOST_SKIPPED}].")
        check_shown("[file]: sheet", self.sheet, most=LARGEST_HEADER)
        check_words("[file]: codes", self.codes, most=MOST_CODES)

    def as_dict(self) -> dict[str, Any]:
        """What is not as usual, as plain data."""
        usual = FileFormat()
        names = (field.name for field in dataclasses.fields(self))
        values = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(usual, name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, data: Any) -> FileFormat:
        """What `as_dict` wrote, or a `[file]` table holds. Raises `DataRefused`."""
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(data, Mapping):
            raise DataRefused("[file] is a table of names and values.")
        for name in data:
            if name not in known:
                raise DataRefused(f"[file] has {str(name)[:60]!r}, which is not known. Use {', '.join(known)}.")
        return cls(**{**data, **({"codes": as_words("[file]: codes", data["codes"])} if "codes" in data else {})})


def named(character: str) -> str:
    """A character as a message names it: itself where it can be seen, its code point, its name in Unicode."""
    seen = f"{character!r}, " if character.isprintable() and not character.isspace() else ""
    called = unicodedata.name(character, "")
    return f"{seen}U+{ord(character):04X}{f' ({called})' if called else ''}"


def check_shown(what: str, text: object, *, most: int, empty: bool = True) -> None:
    """Raise `DataRefused`, naming the character, unless `text` is short and every character of it can be seen."""
    if not isinstance(text, str) or len(text) > most or (not text and not empty):
        raise DataRefused(f"{what} should be text of {0 if empty else 1} to {most} characters.")
    for place, character in enumerate(text, start=1):
        if not character.isprintable():
            raise DataRefused(f"{what} {text[:40]!r} has {named(character)} as character {place}. Write it without.")


def normal_header(text: str) -> str:
    r"""A header as headers are compared: compatibility characters as the usual ones, spaces and lines as one space.

    What nobody can see is left out, so that a header typed by hand finds one that a spreadsheet wrote.

    >>> normal_header(" HbA1c\n(%)\u200b")
    'HbA1c (%)'
    """
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    plain = unicodedata.normalize("NFKC", text)
    shown = "".join(
        character for character in plain if character.isspace() or unicodedata.category(character) not in ("Cc", "Cf")
    )
    return " ".join(shown.split())


def check_header(what: str, header: object) -> None:
    """Raise `DataRefused` unless `header` can stand for a table's: short, visible, more than spaces; or is empty."""
    check_shown(what, header, most=LARGEST_HEADER)
    assert isinstance(header, str)
    if header and not normal_header(header):
        raise DataRefused(f"{what} {header!r} is nothing but spaces. Write the header that the table has.")


def as_words(what: str, value: Any) -> tuple[str, ...]:
    """A list of words, numbers among them as they are written. Raises `DataRefused` where it is no such list."""
    if not isinstance(value, list | tuple) or not all(
        isinstance(word, str | int | float) and not isinstance(word, bool) for word in value
    ):
        raise DataRefused(f"{what} should be a list of texts, as ['NA', '-'].")
    return tuple(word if isinstance(word, str) else repr(word) for word in value)


def check_words(what: str, words: object, *, most: int = MOST_WORDS) -> None:
    """Raise `DataRefused` unless `words` are distinct short texts that can be seen, without spaces around them."""
    if not isinstance(words, tuple) or len(words) > most:
        raise DataRefused(f"{what} should be a list of at most {most} texts, as ['NA', '-'].")
    for word in words:
        check_shown(f"{what}:", word, most=LARGEST_WORD, empty=False)
        if word != word.strip():
            raise DataRefused(f"{what}: {word!r} begins or ends with a space. Cells are read without; remove it.")
    if len(set(words)) != len(words):
        raise DataRefused(f"{what}: a text is listed twice. List each once.")


def check_zone(what: str, zone: object) -> None:
    """Raise `DataRefused` unless `zone` has the form of a time zone's name; whether there is one, publishing checks."""
    if not isinstance(zone, str) or len(zone) > LARGEST_WORD or (zone and not _ZONE.fullmatch(zone)):
        raise DataRefused(f"{what}: zone={zone!r} names no time zone. Write it as 'Europe/Berlin' or 'UTC'.")


def format_pattern(what: str, form: object) -> str:
    r"""The regular expression, with a group per part, of dates written as `form` says, such as `"%d.%m.%Y"`.

    Raises `DataRefused`, naming what is known, where the form has other codes, one twice, or no whole date.

    >>> format_pattern("Column 'x': format", "%d.%m.%Y")
    '^(?P<d>\\d{1,2})\\.(?P<m>\\d{1,2})\\.(?P<Y>\\d{4})$'
    """
    if not isinstance(form, str) or len(form) > LARGEST_WORD:
        raise DataRefused(f"{what} should be text, as '%d.%m.%Y'.")
    pieces = re.split(r"(%.?)", form)
    codes = pieces[1::2]
    parts = "".join(_CODES_OF_FORMAT.get(piece, re.escape(piece)) for piece in pieces)
    known = all(code in _CODES_OF_FORMAT for code in codes) and all(_BETWEEN.fullmatch(piece) for piece in pieces[::2])
    times = [code for code in codes if code in ("%H", "%M", "%S")]
    # A unit of time that is missing is zero, and a smaller one without the larger says nothing.
    whole = sorted(set(codes) - set(times)) == ["%Y", "%d", "%m"] and sorted(times) == ["%H", "%M", "%S"][: len(times)]
    # ISO 8601 is read beside every format, so no form may read its months as days.
    known &= re.sub("[^Ymd]", "", form) != "Ydm"
    if not known or not whole or len(set(codes)) != len(codes):
        raise DataRefused(
            f"{what}={form[:60]!r} is not known. Use %Y, %m and %d once each, for times also %H, %M and %S, and between"
            " them - . / : , spaces or T, as '%d.%m.%Y %H:%M'."
        )
    return f"^{parts}$"


USUAL_FILE = FileFormat()
"""Comma-separated UTF-8 with a decimal point, its header in the first line."""
