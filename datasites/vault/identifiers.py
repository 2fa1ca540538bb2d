"""Notice identifiers that may be one patient's written in two ways, and those that are nobody's. For the owner alone.

The promise is per identifier: a patient who has two may lose two budgets, and a placeholder such as `NA` makes one
patient of many. Nothing is merged here, since 007 and 7 can be two people; it is counted, and the owner mends the
table. Only counts leave this module, and they are as private as the rows.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies.schema.columns import IntArray

PLACEHOLDERS = (
    "na", "n/a", "#n/a", "nan", "null", "none", "nil", "unknown", "unbekannt", "inconnu", "desconocido", "missing",
    "-", "--", "?", ".", "x", "xx", "xxx", "0", "00", "000", "test", "999", "9999", "99999", "999999", "9999999",
    "99999999", "999999999", "9999999999", "#ref!", "#value!", "#name?", "#div/0!", "true", "false",
)  # fmt: skip
ROUNDED = r"^[+-]?[0-9](\.[0-9]+)?[eE][+-]?[0-9]+$"
ZEROS, WITHOUT_ZEROS = r"(^|[^0-9])0+([0-9])", r"\1\2"
BETWEEN = r"[-_/. ]"


@dataclass(frozen=True)
class Concern:
    """Something about a table that its owner should know: a sentence with its count, and what to do."""

    what: str
    count: int
    advice: str


def identifier_concerns(distinct: Any, patients: IntArray) -> list[Concern]:
    """What the identifiers of a table suggest.

    Args:
      distinct: every identifier once, as normalised text: a pyarrow array.
      patients: index of each row's patient.
    """
    import pyarrow.compute as pc

    once = "Write each patient's identifier in one way, and publish again: the promise counts identifiers."
    ways = (
        (_without_zeros, "by zeros in front, as 007 and 7", once),
        (_lower, "by capital letters, as P1 and p1", once),
        (_plain, "by characters that nobody sees or that look alike, as full-width digits", once),
        (_joined, "by spaces, dots, dashes or strokes, as P-1 and P1", once),
    )
    concerns = []
    for change, how, advice in ways:
        if count := _merged(distinct, change(distinct)):
            concerns.append(Concern(f"{count:,} identifier(s) differ from another one only {how}.", count, advice))
    together = _merged(distinct, _without_zeros(_joined(_lower(_plain(distinct)))))
    if together > sum(concern.count for concern in concerns):
        what = f"{together:,} identifier(s) are another one's, written in several of these ways at once."
        concerns.append(Concern(what, together, once))
    rounded = int(pc.sum(pc.match_substring_regex(distinct, ROUNDED)).as_py() or 0)
    if rounded:
        concerns.append(
            Concern(
                f"{rounded:,} identifier(s) look like numbers that a spreadsheet has rounded, as 1.23E+10.",
                rounded,
                "Patients whose numbers round alike are one here, and lose their records. Export the column as text.",
            )
        )
    nobody = np.asarray(pc.is_in(pc.utf8_lower(distinct), _array(PLACEHOLDERS)).to_numpy(zero_copy_only=False))
    if records := int(np.count_nonzero(nobody[patients])):
        concerns.append(
            Concern(
                f"{records:,} record(s) have a placeholder for an identifier, as NA, 0 or unknown.",
                records,
                "They count as one patient, of whom so many records are kept as the schema allows. Leave them out of"
                " the table, or declare the word under missing_values, which refuses them.",
            )
        )
    return concerns


def _array(words: Any) -> Any:
    import pyarrow as pa

    return pa.array(words, pa.string())


def _merged(distinct: Any, changed: Any) -> int:
    """How many identifiers fewer there are once all are changed."""
    import pyarrow.compute as pc

    if changed.equals(distinct):
        return 0
    moved = pc.not_equal(changed, distinct)
    keys = changed.filter(moved)
    new = pc.unique(keys)
    # What is moved to an identifier that stays merges with it; what is moved to the same new one merges there.
    staying = pc.is_in(new, distinct.filter(pc.invert(moved)))
    return int(len(keys) - len(new) + (pc.sum(staying).as_py() or 0))


def _without_zeros(words: Any) -> Any:
    import pyarrow.compute as pc

    return pc.replace_substring_regex(words, ZEROS, WITHOUT_ZEROS)


def _lower(words: Any) -> Any:
    import pyarrow.compute as pc

    return pc.utf8_lower(words)


def _joined(words: Any) -> Any:
    import pyarrow.compute as pc

    return pc.replace_substring_regex(words, BETWEEN, "")


def _plain(words: Any) -> Any:
    """Compatibility characters as the usual ones, and none that nobody sees; ASCII that can be seen stays."""
    import pyarrow.compute as pc

    if pc.all(pc.match_substring_regex(words, "^[ -~]*$"), min_count=0).as_py():
        return words
    return _array([_plain_word(word.as_py()) for word in words])


def _plain_word(word: str) -> str:
    if word.isascii() and word.isprintable():
        return word
    plain = unicodedata.normalize("NFKC", word)
    return "".join(character for character in plain if unicodedata.category(character)[0] != "C")
