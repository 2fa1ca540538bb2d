"""Change values in a TOML file and leave every other byte as whoever wrote it did."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Comment, Item

from policies.errors import DatasiteError

Plain = str | int | float | bool
Value = Plain | list[str] | Mapping[str, Mapping[str, Plain]] | None


def with_values(text: str, values: Mapping[str, Value]) -> str:
    """A TOML file's text with other values at its top level; the comment behind a value stays.

    A name that the file lacks takes the place of its first line that is out of use (`# name = 1`), or comes last.
    None takes a line out of use: it becomes such a comment. A value that the file has already is not written again.

    Raises:
      DatasiteError: the text is not TOML.
    """
    try:
        for name, value in values.items():
            text = _without(text, name) if value is None else _with(text, name, value)
    except TOMLKitError as error:
        raise DatasiteError(f"The file is not TOML: {error}. Mend that line by hand first.") from None
    return text


def _with(text: str, name: str, value: Value) -> str:
    document = tomlkit.parse(text)
    if name in document:
        now = document[name]
        plain = now.unwrap() if isinstance(now, Item) else now
        if plain == value and isinstance(plain, bool) == isinstance(value, bool):
            return text
    else:
        line = f"{name} = {_item(value).as_string()}"
        for index, (_, item) in enumerate(document.body):
            if isinstance(item, Comment) and _out_of_use(item.trivia.comment, name):
                return _with_line(document, index, f"{item.trivia.indent}{line}{item.trivia.trail}")
    document[name] = _item(value)
    return document.as_string()


def _item(value: object) -> Item:
    """A value on one line; tables stand in braces."""
    if not isinstance(value, Mapping):
        return tomlkit.item(value)
    table = tomlkit.inline_table()
    for key, inner in value.items():
        table[key] = _item(inner)
    return table


def _out_of_use(comment: str, name: str) -> bool:
    """Whether a comment is a line of the file that is out of use, and no sentence that begins as one."""
    try:
        return list(tomllib.loads(comment.lstrip("# \t"))) == [name]
    except tomllib.TOMLDecodeError:
        return False


def _without(text: str, name: str) -> str:
    document = tomlkit.parse(text)
    for index, (key, item) in enumerate(document.body):
        if key is not None and key.key == name:
            trivia = item.trivia
            line = f"{key.as_string()}{key.sep}{item.as_string()}{trivia.comment_ws}{trivia.comment}"
            commented = "".join(f"# {part}" for part in line.splitlines(keepends=True))
            return _with_line(document, index, f"{trivia.indent}{commented}{trivia.trail}")
    return text


def _with_line(document: tomlkit.TOMLDocument, index: int, line: str) -> str:
    """The document's text with one of its items replaced."""
    before, after = tomlkit.document(), tomlkit.document()
    before.body.extend(document.body[:index])
    after.body.extend(document.body[index + 1 :])
    return before.as_string() + line + after.as_string()
