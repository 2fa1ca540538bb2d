"""Plain values in a script's syntax tree: what its constants and default options say. Nothing is run."""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterable, Mapping
from typing import Any

_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
LARGEST = 1e12  # of a number
MOST_LOOKS = 20_000  # at parts of expressions, in all: a chain of constants could be exponentially long


class NotPlain(ValueError):
    """An expression whose value the text does not say; `str()` is why."""


class Values:
    """What a script's names stand for, where it says so once and plainly.

    Args:
      tree: the whole script. Constants and the defaults of an `argparse` parser are taken from all of it; a name that
        is assigned different values is no constant.
    """

    def __init__(self, tree: ast.AST) -> None:
        self._assigned: dict[str, ast.expr | None] = {}
        self._options: dict[str, ast.expr] = {}
        self._looks = 0
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    self._assign(target, node.value)
            elif isinstance(node, ast.AugAssign | ast.For):
                self._assign(node.target, None)
            elif isinstance(node, ast.Call) and called(node) == "add_argument":
                self._option(node)

    def plain(self, node: ast.expr, *, depth: int = 0) -> Any:
        """The value of an expression. Raises `NotPlain`."""
        self._looks += 1
        if depth > 20 or self._looks > MOST_LOOKS:
            raise NotPlain(f"`{short(node)}` is not a plain number")
        if isinstance(node, ast.Constant) and type(node.value) in (int, float, str, bool, type(None)):
            return self._bounded(node.value, node) if type(node.value) in (int, float) else node.value
        if isinstance(node, ast.Tuple | ast.List):
            return tuple(self.plain(part, depth=depth + 1) for part in node.elts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self._bounded(-self._number(node.operand, depth), node)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            left, right = self._number(node.left, depth), self._number(node.right, depth)
            try:
                return self._bounded(_ARITHMETIC[type(node.op)](left, right), node)
            except ArithmeticError:
                raise NotPlain(f"`{short(node)}` is no number") from None
        if isinstance(node, ast.Name) and self._assigned.get(node.id) is not None:
            value = self._assigned[node.id]
            assert value is not None
            return self.plain(value, depth=depth + 1)
        if isinstance(node, ast.Attribute) and node.attr in self._options:
            return self.plain(self._options[node.attr], depth=depth + 1)
        if isinstance(node, ast.Call) and called(node) in ("tensor", "FloatTensor", "float", "int") and node.args:
            return self.plain(node.args[0], depth=depth + 1)
        raise NotPlain(f"`{short(node)}` is not written as a plain value")

    def _number(self, node: ast.expr, depth: int) -> Any:
        value = self.plain(node, depth=depth + 1)
        if type(value) not in (int, float):
            raise NotPlain(f"`{short(node)}` is not a plain number")
        return value

    def _bounded(self, value: Any, node: ast.expr) -> Any:
        if not abs(value) <= LARGEST:
            raise NotPlain(f"`{short(node)}` is too large")
        return value

    def _assign(self, target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            values = value.elts if isinstance(value, ast.Tuple | ast.List) else []
            fits = len(values) == len(target.elts)
            for number, part in enumerate(target.elts):
                self._assign(part, values[number] if fits else None)
        elif isinstance(target, ast.Name):
            known = self._assigned.get(target.id, value)
            same = known is not None and value is not None and ast.dump(known) == ast.dump(value)
            self._assigned[target.id] = value if same else None

    def _option(self, node: ast.Call) -> None:
        """The default of `parser.add_argument("--batch-size", default=64)`, by the name that argparse gives it."""
        texts = [part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        named = arguments(node, ())
        destination = named.get("dest")
        text = destination.value if isinstance(destination, ast.Constant) else max(texts, key=len, default="")
        if "default" in named:
            self._options[str(text).lstrip("-").replace("-", "_")] = named["default"]


def called(node: ast.AST) -> str:
    """The last part of a call's name, as `make_private` of `engine.make_private(...)`; "" where it is no call."""
    function = node.func if isinstance(node, ast.Call) else None
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def arguments(node: ast.Call, names: Iterable[str]) -> dict[str, ast.expr]:
    """A call's arguments by name, those without one by `names`, in order."""
    given = dict(zip(names, node.args, strict=False))
    return given | {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg is not None}


def plain_arguments(node: ast.Call, names: Iterable[str], values: Values) -> Mapping[str, Any]:
    """As `arguments`, by their values. Raises `NotPlain`, also for `**` and for arguments too many."""
    positions = list(names)
    if any(keyword.arg is None for keyword in node.keywords) or len(node.args) > len(positions):
        raise NotPlain(f"`{short(node)}` does not say its arguments by name")
    return {name: values.plain(value) for name, value in arguments(node, positions).items()}


def short(node: ast.AST) -> str:
    """The first line of a part of a script, shortened."""
    return ast.unparse(node).partition("\n")[0][:80]
