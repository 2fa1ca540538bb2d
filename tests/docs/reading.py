"""Reading documents as GitHub does: their links, headings, code; and what in them points at nothing. No judgement here.

Each `dead_...` gives one line for everything that is named and is not there.
"""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

from datasites.cli.main import app as datasite_app
from docs.generator import ROOT
from docs.generator.commands import every_command, options_of
from researcher.__main__ import app as researcher_app

FOLDERS = "datasites|policies|researcher|tests|compose|docs|lock|examples"
PATH = re.compile(rf"(?:{FOLDERS})/[\w./-]*")
MODULE = re.compile(r"python -m ([\w.]+)")
MAKE = re.compile(r"make ([a-z][a-z-]*)")


def tokens(text: str) -> Iterator[Token]:
    """Every token of a document, those inside of lines too."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        yield token
        yield from token.children or ()


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to a document's headings."""
    every = list(tokens(text))
    titles = [after.content for token, after in pairwise(every) if token.type == "heading_open"]
    names: list[str] = []
    for title in titles:
        name = re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-")
        names.append(f"{name}-{names.count(name)}" if name in names else name)
    return set(names)


def code(text: str) -> Iterator[tuple[str, str]]:
    """Every piece of code with its language: blocks by their own, code within a line as `inline`."""
    for token in tokens(text):
        if token.type == "fence":
            yield token.info.strip(), token.content
        elif token.type == "code_inline":
            yield "inline", " ".join(token.content.split())


def lines_of_shell(text: str) -> Iterator[str]:
    """What a reader may type into a shell: lines of blocks without a language, and code within lines."""
    for language, content in code(text):
        if language in ("", "inline", "sh"):
            yield from (line.strip() for line in content.splitlines() if line.strip())


# -- what points at nothing --------------------------------------------------------------------------------------------


def dead_links(text: str, path: Path) -> list[str]:
    """Relative links and pictures whose file or heading is not there."""
    found = []
    for token in tokens(text):
        target = str(token.attrs.get("href") or token.attrs.get("src") or "")
        if not target or re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or ROOT not in file.parents:
            found.append(f"{target}: there is no such file")
        elif anchor and _unquoted(anchor) not in anchors(file.read_text(encoding="utf-8") if name else text):
            found.append(f"{target}: there is no such heading")
    return found


def dead_commands(text: str) -> list[str]:
    """Lines that call `datasite` or `researcher` with a command or an option that it does not have."""
    found = []
    for line in lines_of_shell(text):
        match = re.match(r"(datasite|researcher) ([a-z][a-z-]*)\b(?!['’])(.*)", line)
        if match:
            found += [
                f"{line}: {why}" for why in _faults(match[1], shlex.split(f"{match[2]} {match[3]}", comments=True))
            ]
    return found


def dead_targets(text: str) -> list[str]:
    """Targets of make that the Makefile does not have, and modules after `python -m` that do not exist."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    found = []
    for line in lines_of_shell(text):
        found += [
            f"{line}: no target {name}"
            for name in MAKE.findall(line)
            if line.startswith("make ") and name not in targets
        ]
        for module in MODULE.findall(line):
            path = ROOT.joinpath(*module.split("."))
            ours = module.split(".")[0] in FOLDERS.split("|")
            if ours and not path.with_suffix(".py").exists() and not (path / "__main__.py").exists():
                found.append(f"{line}: no module {module}")
    return found


def dead_paths(text: str) -> list[str]:
    """Paths of this repository, written as code within a line, at which nothing lies. CAPITALS stand for any name."""
    named = [content for language, content in code(text) if language == "inline" and PATH.fullmatch(content)]
    return [f"{path}: nothing is there" for path in named if not _lies_at(path)]


def dead_names(text: str) -> list[str]:
    """In a paragraph that names files of ours: names of code that stand in none of those files."""
    found = []
    for paragraph in re.split(r"\n\n|\n(?=[*\d] ?)", text):
        named = re.findall(r"`([^`\n]+)`", paragraph)
        files = [ROOT / name for name in named if PATH.fullmatch(name) and (ROOT / name).is_file()]
        content = "\n".join(file.read_text(encoding="utf-8") for file in files)
        for name in named:
            if files and re.fullmatch(r"[A-Za-z]\w*_\w+|[A-Z]{3,}", name) and not re.search(rf"\b{name}\b", content):
                found.append(f"{name}: not in {', '.join(str(file.relative_to(ROOT)) for file in files)}")
    return found


def broken_code(text: str) -> list[str]:
    """Blocks of Python that do not parse and blocks of TOML that cannot be read."""
    found = []
    for language, content in code(text):
        try:
            if language == "python":
                ast.parse(textwrap.dedent(content))
            elif language == "toml":
                tomllib.loads(content)
        except (SyntaxError, tomllib.TOMLDecodeError) as error:
            found.append(f"{content.splitlines()[0]}: {error}")
    return found


def _faults(program: str, words: list[str]) -> Iterator[str]:
    known = _commands()
    name = f"{program} {words[0]}"
    if name not in known:
        yield f"{program} has no command {words[0]}"
        return
    rest = words[1:]
    if hasattr(known[name], "commands"):
        if not rest or rest[0].startswith("-"):
            return
        name, rest = f"{name} {rest[0]}", rest[1:]
        if name not in known:
            yield f"there is no command {name}"
            return
    options = options_of(known[name])
    yield from (f"{name} has no option {word}" for word in rest if re.match(r"--?[a-z]", word) and word not in options)


@cache
def _commands() -> Mapping[str, Any]:
    return dict([*every_command("datasite", datasite_app), *every_command("researcher", researcher_app)])


def _lies_at(path: str) -> bool:
    parts = path.rstrip("/").split("/")
    known = next((place for place, part in enumerate(parts) if part.split(".")[0].isupper()), len(parts))
    return ROOT.joinpath(*parts[:known]).exists()


def _unquoted(anchor: str) -> str:
    return unquote(anchor)
