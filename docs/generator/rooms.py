"""Rooms of the house and the arrows between them, read from the imports of every module; nothing is imported.

A room is a folder of `policies` or `datasites`, a module that stands at the top of one of them, or all of `researcher`.
Imports for type checkers alone are left out; late ones, inside functions, count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

SIDES = ("policies", "datasites", "researcher")
Arrows = Mapping[str, frozenset[str]]


def picture(root: Path, side: str) -> str:
    """A Mermaid chart of one side's rooms. An arrow that two others together already show is left out."""
    lines = ["```mermaid", "flowchart TD"]
    everything = arrows(root)
    shown = {room: {_outside(other, side) for other in others} - {room} for room, others in everything.items()}
    shown = {room: others for room, others in shown.items() if room.startswith(f"{side}/") and not _empty(room)}
    if side == "datasites":
        shown["policies"] = set()
    reduced = without_detours({room: frozenset(others & shown.keys()) for room, others in shown.items()})
    for room in sorted(reduced):
        lines.append(f'    {_id(room)}["{room.removeprefix(side + "/")}"]')
    for room, others in sorted(reduced.items()):
        lines += [f"    {_id(room)} --> {_id(other)}" for other in sorted(others)]
    return "\n".join([*lines, "```"])


def table(root: Path) -> str:
    """Every room: what its docstring says, and which rooms its modules import; of another side, the side's name."""
    lines = ["| room | what is there | imports |", "| --- | --- | --- |"]
    for room, others in sorted(arrows(root).items()):
        name = room if (root / room).is_dir() else f"{room}.py"
        text = docstring(root / name / "__init__.py") or docstring(root / name)
        side = room.split("/")[0]
        near = sorted({_outside(other, side).removeprefix(f"{side}/") for other in others})
        lines.append(f"| `{name}` | {_cell(text)} | {', '.join(near) or 'nothing of ours'} |")
    return "\n".join(lines)


def modules(root: Path) -> str:
    """Every module and the first sentence of its docstring, under the room where it stands."""
    by_room: dict[str, list[Path]] = {}
    for path in _files(root):
        by_room.setdefault(_room_of(path, root), []).append(path)
    lines = []
    for side in SIDES:
        lines += [f"### {side}", "", "| module | what it is |", "| --- | --- |"]
        for room, paths in sorted(by_room.items()):
            if room.split("/")[0] == side:
                kept = [path for path in paths if path.name not in ("__init__.py", "__main__.py")]
                lines += [f"| `{path.relative_to(root)}` | {_cell(docstring(path))} |" for path in kept]
        lines.append("")
    return "\n".join(lines)


def arrows(root: Path) -> Arrows:
    """Each room, and the rooms that its modules import."""
    found: dict[str, set[str]] = {}
    for path in _files(root):
        room = _room_of(path, root)
        others = found.setdefault(room, set())
        others |= {_room_of(_home(root, name), root) for name in imported(path, root)} - {room}
    return {room: frozenset(others) for room, others in found.items()}


def imported(path: Path, root: Path) -> Iterator[str]:
    """Modules of ours that a file imports, by their dotted names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checking = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in checking:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if _home(root, name).exists() else node.module for name in whole]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in SIDES and _home(root, name).exists())


def without_detours(graph: Arrows) -> Arrows:
    """The graph without the arrows that follow from others; where rooms import in a circle, all of theirs stay."""
    reach = {room: _reachable(graph, room) for room in graph}

    def needed(start: str, end: str) -> bool:
        if start in reach[end]:
            return True  # a circle: show it
        return not any(end in reach[other] and start not in reach[other] for other in graph[start] - {end})

    return {room: frozenset(other for other in others if needed(room, other)) for room, others in graph.items()}


def docstring(path: Path) -> str:
    """The first paragraph of a module's docstring, on one line."""
    if not path.is_file():
        return ""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def _reachable(graph: Arrows, start: str) -> frozenset[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        room = waiting.pop()
        if room not in seen:
            seen.add(room)
            waiting += graph[room]
    return frozenset(seen)


def _files(root: Path) -> list[Path]:
    return sorted(path for side in SIDES for path in (root / side).rglob("*.py"))


def _home(root: Path, name: str) -> Path:
    """Where a dotted name lies: a module's file, or a package's `__init__.py`."""
    path = root.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _room_of(path: Path, root: Path) -> str:
    side, *rest = path.relative_to(root).with_suffix("").parts
    if side == "researcher" or rest in (["__init__"], ["__main__"]):
        return side
    return f"{side}/{rest[0]}"


def _outside(room: str, side: str) -> str:
    """A room of another side is shown as that side."""
    return room if room.startswith(f"{side}/") else room.split("/")[0]


def _empty(room: str) -> bool:
    return room.endswith(("/__init__", "/__main__"))


def _id(room: str) -> str:
    return room.replace("/", "_").replace(".", "_")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
