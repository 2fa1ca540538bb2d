"""Bounds on what constant expressions come to: `10**10**10` is short to write, and takes a processor for minutes.

Numbers are computed here as they are read, each step within the bound, so that inspection itself never computes a large
one. What is not written as numbers has no value here: the exporter bounds the time that it takes.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

MOST_BITS = 1024  # of a whole number that constants come to; a float ends there too
LONGEST = 10_000  # elements that a list or tuple of constants is repeated to

WHY_NUMBER = f"A number that constants come to has at most {MOST_BITS:,} bits."
WHY_TEXT = "A text that is repeated or filled in may fill the memory."
WHY_LIST = f"A list or tuple is repeated to at most {LONGEST:,} elements."

_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
Number = int | float


def why_too_large(node: ast.BinOp | ast.AugAssign) -> str | None:
    """Why an operation comes to too much, or None. Of an assignment such as `n **= 2`, the left side is unknown."""
    left, right = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.target, node.value)
    if isinstance(node.op, ast.Mult):
        for one, other in ((left, right), (right, left)):
            if isinstance(one, ast.Constant) and isinstance(one.value, str):
                return WHY_TEXT
            if isinstance(one, ast.List | ast.Tuple):
                times = _value(other)
                if times is not None and len(one.elts) * times > LONGEST:
                    return WHY_LIST
    if isinstance(node.op, ast.Mod) and isinstance(left, ast.Constant) and isinstance(left.value, str):
        return WHY_TEXT
    return WHY_NUMBER if _is_too_large(node.op, _value(left), _value(right)) else None


def _is_too_large(op: ast.operator, left: Number | None, right: Number | None) -> bool:
    if not isinstance(right, int) or isinstance(left, float):
        return False  # floats end at 1024 bits by themselves
    if isinstance(op, ast.Pow):
        bits = 2 if left is None else left.bit_length()  # what is unknown is at least something that grows
        return bits > 1 and bits * right > MOST_BITS
    if isinstance(op, ast.LShift):
        return left != 0 and right + (0 if left is None else left.bit_length()) > MOST_BITS
    if isinstance(op, ast.Mult | ast.Add | ast.Sub):
        return left is not None and left.bit_length() + right.bit_length() > MOST_BITS
    return False


def _value(node: ast.AST) -> Number | None:
    """The number that an expression of constants comes to; None where it has none, or none within the bound."""
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) in (int, float) else None  # type: ignore[return-value]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand)
        return value if value is None or isinstance(node.op, ast.UAdd) else -value
    if not isinstance(node, ast.BinOp) or type(node.op) not in _OPERATIONS:
        return None
    left, right = _value(node.left), _value(node.right)
    if left is None or right is None or _is_too_large(node.op, left, right):
        return None
    try:
        value = _OPERATIONS[type(node.op)](left, right)
    except (ArithmeticError, TypeError, ValueError):
        return None
    return value if type(value) in (int, float) else None
