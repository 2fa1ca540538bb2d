"""What pages of results are made of: one self-contained page, sections, tables, what is promised.

A page names no outside address, runs no script, follows the reader's choice of light or dark, and reads on a phone.
Whatever is given as text is escaped here; what is given as a `body` is a part of a page already.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from policies.errors import InvalidRequest
from policies.text import visible
from researcher.report_style import STYLE
from researcher.state import replace_file

COVERS = (
    "One patient, with all of that patient's records, whatever anybody knows besides.",
    "Everything that left a hospital: weights of every round, scores, statistics and the published size.",
    "Any order of questions, by anyone together, through crashes and restarts: the sum stays inside the budget.",
)
LEAVES_OUT = (
    "A patient known at several hospitals bears the sum of their budgets.",
    "k relatives together multiply ε by k.",
    "What is true of patients at large, as that fever goes with influenza, may be learned: that is the purpose.",
    "A size that an owner typed in is public by that owner's choice, outside the guarantee.",
)


def page(title: str, sections: Sequence[str]) -> str:
    """The page, complete."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head><body><main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main></body></html>\n"
    )


def write_page(path: str | Path, content: str) -> Path:
    """Write a page into a file, whole or not at all. Raises `InvalidRequest` where it cannot be written."""
    if not isinstance(path, (str, Path)):
        raise InvalidRequest(f"{path!r} is no file. Name one, as result.report('report.html').")
    file = Path(path)
    try:
        replace_file(file, content.encode())
    except (OSError, ValueError) as error:  # of a path with a null character
        error = error if isinstance(error, OSError) else OSError(0, str(error))
        raise InvalidRequest(
            f"The report cannot be written to {file}: {error.strerror}. Name a file in a directory that exists."
        ) from None
    return file


def text(value: object) -> str:
    """Text that somebody wrote, for a page: hidden characters by name, markup escaped."""
    return escape(visible(str(value)))


def section(title: str, body: str, note: str = "") -> str:
    """A part of the page under its own heading."""
    said = f"<p class='note'>{text(note)}</p>" if note else ""
    return f"<section><h2>{text(title)}</h2>{body}{said}</section>"


def pair(*sections: str) -> str:
    """Sections side by side where the page is wide enough."""
    kept = [part for part in sections if part]
    return f"<div class='pair'>{''.join(kept)}</div>" if kept else ""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of escaped cells; on a narrow page every row becomes a card, its cells named by `data-head`."""
    head = "".join(f"<th scope='col'>{text(head)}</th>" for head in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-head="{text(name)}"><span>{cell}</span></td>' for name, cell in zip(heads, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def listed(items: Sequence[str]) -> str:
    """Sentences as a list."""
    return f"<ul>{''.join(f'<li>{text(item)}</li>' for item in items)}</ul>"


def promise(parts: Sequence[tuple[str, Sequence[str]]], *, leaves_out: Sequence[str] = LEAVES_OUT) -> str:
    """What is promised and what is not: headed lists of sentences, then what the guarantee covers."""
    said = "".join(f"<h3>{text(head)}</h3>{listed(sentences)}" for head, sentences in parts)
    return (
        f"<section><h2>What is promised, and what is not</h2>{said}"
        f"<div class='two'><div><h3>The guarantee covers</h3>{listed(COVERS)}</div>"
        f"<div><h3>It does not cover</h3>{listed(leaves_out)}</div></div></section>"
    )
