"""What a script trains, and where its names lead: read off the syntax tree by names alone. Nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from policies.source.script_values import arguments, called

MAKES_PRIVATE = ("make_private", "make_private_with_epsilon")
OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "LBFGS", "Adadelta")
_SHAPES = frozenset("squeeze unsqueeze float long to cuda cpu view reshape flatten type".split())


def touched(tree: ast.AST, made: set[str], definitions: dict[str, ast.stmt]) -> set[str]:
    """Names of what is trained and of parts of it: by how they are made, used, named anew and passed on."""
    names = made | receivers(tree, "zero_grad", "backward", "get_epsilon", *MAKES_PRIVATE)
    bound: list[tuple[ast.expr, set[str]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and called(unmoved(node.value)) in (*MAKES_PRIVATE, *OPTIMIZERS):
            targets = set(stored(node))
            names |= {name for name in targets if "load" not in name.lower() and "data" not in name.lower()}
        elif isinstance(node, ast.Assign):
            bound += [(node.value, set(stored(target))) for target in node.targets]
        elif isinstance(node, ast.For | ast.comprehension):
            bound.append((node.iter, set(stored(node.target))))
        elif isinstance(node, ast.Call):
            if called(node) == "parameters" and isinstance(node.func, ast.Attribute):
                names.add(root(node.func.value))
            function = definitions.get(called(node))
            if isinstance(function, ast.FunctionDef):
                given = arguments(node, [argument.arg for argument in function.args.args])
                bound += [(value, {name}) for name, value in given.items()]
    parts: dict[str, set[str]] = {}  # by a name, those that are bound to parts of it
    for value, targets in bound:
        parts.setdefault(root(value), set()).update(targets)
    waiting = sorted(names)
    while waiting:
        more = parts.pop(waiting.pop(), set()) - names
        names |= more
        waiting += sorted(more)
    return names - {""}


_PARTS = frozenset("parameters named_parameters modules named_modules children named_children state_dict".split())
_FIGURES = frozenset("noise_multiplier expected_batch_size max_grad_norm defaults training".split())


def root(node: ast.expr) -> str:
    """The name that an expression is a part of, as `model` of `next(model.fc.parameters())`; "" where there is none."""
    while not isinstance(node, ast.Name):
        figure = isinstance(node, ast.Attribute) and node.attr in _FIGURES
        if isinstance(node, ast.Attribute | ast.Subscript | ast.Starred) and not figure:
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _PARTS:
            node = node.func.value
        elif (
            isinstance(node, ast.Call) and called(node) in ("next", "list", "iter", "enumerate", "tuple") and node.args
        ):
            node = node.args[0]
        else:
            return ""
    return node.id


def receivers(tree: ast.AST, *methods: str) -> set[str]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    found = [node.func for node in calls if isinstance(node.func, ast.Attribute) and node.func.attr in methods]
    return {function.value.id for function in found if isinstance(function.value, ast.Name)}


def trains(node: ast.AST) -> bool:
    """Whether gradients are taken in it."""
    return any(isinstance(part, ast.Attribute) and part.attr == "backward" for part in ast.walk(node))


def is_method(node: ast.stmt, *names: str) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr in names
    )


def is_scheduler(node: ast.AST) -> bool:
    """Whether `x.step()` is a schedule's, by its name."""
    return "sched" in ast.unparse(node).lower()


def times(node: ast.expr) -> ast.expr | None:
    """How often `range(n)`, or a bar around it, goes round; None where it is none."""
    while isinstance(node, ast.Call) and called(node) in ("tqdm", "trange", "notebook_tqdm", "enumerate") and node.args:
        if called(node) == "trange":
            return node.args[-1] if len(node.args) == 1 else ast.BinOp(node.args[1], ast.Sub(), node.args[0])
        node = node.args[0]
    if not isinstance(node, ast.Call) or called(node) != "range" or not node.args:
        return None
    if len(node.args) == 1:
        return node.args[0]
    return ast.copy_location(ast.BinOp(node.args[1], ast.Sub(), node.args[0]), node)


def unmoved(node: ast.expr) -> ast.expr:
    """An expression without the moves to a device at its end."""
    while (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("to", "cuda", "cpu")
    ):
        node = node.func.value
    return node


def unshaped(node: ast.expr) -> ast.expr:
    """An expression without what only moves or reshapes it, or takes a part of a batch."""
    while True:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _SHAPES:
            node = node.func.value
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            node = node.value
        else:
            return node


def stored(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id
