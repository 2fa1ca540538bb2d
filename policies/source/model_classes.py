"""Inspect the classes of a model's source against a list of what they may contain.

A class derives from `nn.Module`, a layer or an earlier class, and holds `__init__`, `forward`, helper methods and
literal constants. Within methods every kind of statement and expression, every name and every attribute is looked up
in a list; what is in none is a finding.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

from policies.source.allowed_names import ATTRIBUTES, BUILTINS, FREEZING, LAYERS, METHODS, RESERVED, instead_of
from policies.source.constant_values import why_too_large
from policies.source.findings import Findings

_STATEMENTS = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.Return, ast.If, ast.For, ast.Pass, ast.Break)
_EXPRESSIONS = (
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call, ast.Attribute, ast.Subscript, ast.Slice),
    *(ast.Name, ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.ListComp, ast.GeneratorExp, ast.Starred),
)
_OPERATORS = (ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context)
_PARTS = (ast.keyword, ast.comprehension, ast.arguments, ast.arg, *_OPERATORS)
_ANNOTATIONS = frozenset({"int", "float", "bool", "str", "tuple", "list", "None"})

WHY_LIST = "Only what is known to work record by record is allowed in a model."
WHY_STATE = "A model that keeps something between records could carry one patient's values to another's."


def is_literal(node: ast.AST) -> bool:
    """Whether an expression is a plain number, string, boolean, None, or a tuple or list of such."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return isinstance(node.operand, ast.Constant) and type(node.operand.value) in (int, float)
    if isinstance(node, ast.Tuple | ast.List):
        return all(is_literal(element) for element in node.elts)
    return isinstance(node, ast.Constant) and type(node.value) in (int, float, bool, str, type(None))


class ClassReader:
    """Checks classes one after the other; `findings` collects what is against them.

    Args:
      imports: what each imported name stands for, as `{"nn": "torch.nn", "relu": "torch.relu"}`.
      allowed: every full name that may be used, and the modules that lead to them.
      private: names of the request's parameters, which may not appear in a class at all.
    """

    def __init__(
        self, findings: Findings, imports: Mapping[str, str], allowed: frozenset[str], private: Iterable[str]
    ) -> None:
        self.findings, self.imports, self.allowed = findings, imports, allowed
        self.private = frozenset(private)
        self.classes: list[str] = []
        self.own: set[str] = set()  # attributes and methods that the classes define themselves
        self._locals: frozenset[str] = frozenset()
        self._method = ""

    def read(self, nodes: list[ast.ClassDef]) -> None:
        """Check all classes of a source, in order."""
        for node in nodes:
            self.own |= {statement.name for statement in node.body if isinstance(statement, ast.FunctionDef)}
            self.own |= {name.id for part in node.body for name in ast.walk(part) if _is_class_name(part, name)}  # type: ignore[attr-defined]
            self.own |= {name.attr for name in ast.walk(node) if _is_own(name) and isinstance(name.ctx, ast.Store)}  # type: ignore[attr-defined]
        for node in nodes:
            self._class(node)

    def _class(self, node: ast.ClassDef) -> None:
        add = self.findings.add
        self._new_name(node.name, node)
        for decorator in node.decorator_list:
            add("decorator", decorator, "A decorator may replace what it decorates.", "Leave it out.")
        for keyword in node.keywords:
            add("class", keyword.value, "A metaclass or class argument runs when the class is made.", "Leave it out.")
        if len(node.bases) != 1 or not self._is_base(node.bases[0]):
            add("class", node, "A model class derives from nn.Module, a layer or a class above.", "Write (nn.Module).")
        for part in node.body:
            if isinstance(part, ast.FunctionDef):
                self._function(part)
            elif not (_is_docstring(part) or self._is_class_constant(part)):
                add("class", part, "A class body runs when the class is made.", "Put it into __init__ or forward.")
        self.classes.append(node.name)

    def _is_base(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name) and node.id in self.classes:
            return True
        path = self._path(node)
        return path is not None and path.startswith("torch.nn.") and path.removeprefix("torch.nn.") in LAYERS

    def _is_class_constant(self, node: ast.stmt) -> bool:
        target: ast.expr
        value: ast.expr | None
        if isinstance(node, ast.AnnAssign):
            self._annotation(node.annotation)
            target, value = node.target, node.value
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        else:
            return False
        if not isinstance(target, ast.Name) or (value is not None and not is_literal(value)):
            return False
        self._own_name(target.id, target)
        return True

    def _function(self, node: ast.FunctionDef) -> None:
        add = self.findings.add
        if node.name not in ("__init__", "forward"):
            self._own_name(node.name, node)
        for decorator in node.decorator_list:
            add("decorator", decorator, "A decorator may replace what it decorates.", "Leave it out.")
        arguments = node.args
        for extra in (arguments.vararg, arguments.kwarg):
            if extra is not None:
                add("argument", extra, "Arguments without names hide what is passed.", "Name every argument.")
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is not None and not is_literal(default):
                add(
                    "default", default, "A default argument runs when the class is made.", "Use a plain number or text."
                )
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        if not named or named[0].arg != "self":
            add("argument", node, "The first argument of a method is self.", f"Write def {node.name}(self, ...).")
        for annotation in (*(argument.annotation for argument in named), node.returns):
            if annotation is not None:
                self._annotation(annotation)
        stored = [target for part in node.body for target in ast.walk(part) if _is_stored(target)]
        names = {argument.arg: argument for argument in named} | {target.id: target for target in stored}  # type: ignore[attr-defined]
        for name, where in names.items():
            self._new_name(name, where)
            if name == "self" and not isinstance(where, ast.arg):
                self.findings.add("shadow", where, "self is the model.", "Choose another name.")
        self._locals, self._method = frozenset(names), node.name
        for statement in node.body:
            self._statement(statement)

    def _annotation(self, node: ast.expr) -> None:
        """Annotations run as well: types of Python and of torch, joined by `|` or in brackets."""
        if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, str)):
            return
        if isinstance(node, ast.Name) and node.id in _ANNOTATIONS:
            return
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            parts = [node.left, node.right]
        elif isinstance(node, ast.Subscript):
            parts = [node.value, *(node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice])]
        elif self._path(node) in self.allowed or (isinstance(node, ast.Constant) and node.value is Ellipsis):
            return
        else:
            self.findings.add(
                "annotation", node, "An annotation runs when the class is made.", "Use torch.Tensor or int."
            )
            return
        for part in parts:
            self._annotation(part)

    def _statement(self, node: ast.stmt) -> None:
        add = self.findings.add
        if not isinstance(node, _STATEMENTS):
            kind = type(node).__name__
            add(
                "statement",
                node,
                f"{kind} is not among the statements that a model may use.",
                _STATEMENT_INSTEAD.get(kind, "Use assignments, if, for over fixed sizes, and return."),
            )
            return
        if isinstance(node, ast.AnnAssign):
            self._annotation(node.annotation)
        if isinstance(node, ast.AugAssign):
            self._operation(node)
        for target in _targets(node):
            self._target(target)
        if isinstance(node, ast.Expr) and not (_is_docstring(node) or isinstance(node.value, ast.Call)):
            add("statement", node, "It has no effect.", "Leave it out.")
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self._statement(child)
            elif child is not getattr(node, "annotation", None):
                self._expression(child)

    def _target(self, node: ast.expr) -> None:
        """What an assignment writes to: local names anywhere, attributes of self in `__init__` alone."""
        add = self.findings.add
        if isinstance(node, ast.Tuple | ast.List):
            for element in node.elts:
                self._target(element)
        elif isinstance(node, ast.Attribute):
            if not _is_own(node):
                add("attribute", node, "A model may change only itself.", "Assign to self in __init__.")
            elif self._method != "__init__":
                add("state", node, WHY_STATE, "Use a local variable, or assign it in __init__.")
            else:
                self._own_name(node.attr, node)
        elif isinstance(node, ast.Subscript):
            if not isinstance(node.value, ast.Name) or node.value.id not in self._locals - {"self"}:
                add("state", node, WHY_STATE, "Use a local variable.")
        elif not isinstance(node, ast.Name):
            add("statement", node, WHY_LIST, "Assign to a name.")

    def _expression(self, node: ast.AST) -> None:
        if isinstance(node, ast.Attribute):
            self._attribute(node)
            return
        if isinstance(node, ast.Name):
            self._name(node)
            return
        if isinstance(node, ast.Constant):
            if type(node.value) not in (int, float, bool, str, type(None), type(...)):
                self.findings.add(
                    "literal", node, "Only plain numbers and strings are allowed.", "Use a float or an int."
                )
            return
        if isinstance(node, ast.Call):
            self._call(node)
            return
        if not isinstance(node, _EXPRESSIONS + _PARTS):
            kind = type(node).__name__
            self.findings.add(
                "expression",
                node,
                f"{kind} is not among the expressions that a model may use.",
                _EXPRESSION_INSTEAD.get(kind, "Use names, numbers, calls and arithmetic."),
            )
            return
        if isinstance(node, ast.BinOp):
            self._operation(node)
        if isinstance(node, ast.comprehension):
            self._target(node.target)
            if node.is_async:
                self.findings.add("expression", node.target, "Nothing here is asynchronous.", "Use a plain for.")
        for child in ast.iter_child_nodes(node):
            self._expression(child)

    def _operation(self, node: ast.BinOp | ast.AugAssign) -> None:
        why = why_too_large(node)
        if why is not None:
            self.findings.add("size", node, why, "Write smaller numbers.")

    def _name(self, node: ast.Name) -> None:
        name = node.id
        if name in self._locals or name in self.classes:
            return
        path = self.imports.get(name)
        if path is not None:
            if path not in self.allowed or path in _MODULES:
                self.findings.add("name", node, "A module is not a value.", "Name what you use of it, as torch.relu.")
            return
        if name in self.private:
            return  # reported once, by the request's own check
        self.findings.add(
            "name",
            node,
            f"{name!r} is not among the names that a model may use.",
            instead_of(name, "Use torch, nn, F, math, and the classes and variables above."),
        )

    def _attribute(self, node: ast.Attribute) -> None:
        path = self._path(node)
        if path is not None:
            if path not in self.allowed or path in _MODULES:
                self.findings.add(
                    "attribute",
                    node,
                    f"{path} is not among what a model may use. {WHY_LIST}",
                    instead_of(node.attr, "Use other layers or functions of torch.nn."),
                )
            elif path.startswith("torch.nn.init."):
                self.findings.add("name", node, "An initialiser is called, not passed on.", "Call it in __init__.")
            return
        if _is_own(node):
            if node.attr not in self.own | ATTRIBUTES and not isinstance(node.ctx, ast.Store):
                self.findings.add(
                    "attribute",
                    node,
                    f"self.{node.attr} is not defined by this class.",
                    instead_of(node.attr, "Assign it in __init__."),
                )
            return
        if node.attr not in METHODS | ATTRIBUTES | self.own or node.attr.startswith("__"):
            self.findings.add(
                "attribute",
                node,
                f".{node.attr} is not among what a model may use. {WHY_LIST}",
                instead_of(node.attr, "Use other functions of torch."),
            )
        self._expression(node.value)

    def _call(self, node: ast.Call) -> None:
        self._callee(node.func)
        for argument in node.args:
            self._expression(argument)
        for keyword in node.keywords:
            if keyword.arg is None:
                self.findings.add("argument", keyword.value, "** hides what is passed.", "Name every argument.")
            elif keyword.arg.startswith("__"):
                self.findings.add(
                    "argument", keyword.value, "Names with two underscores are Python's own.", "Rename it."
                )
            self._expression(keyword.value)

    def _callee(self, node: ast.expr) -> None:
        if isinstance(node, ast.Name) and node.id in BUILTINS:
            return
        if isinstance(node, ast.Attribute):
            if self._is_super(node.value):
                if node.attr not in {"__init__", "forward"} | self.own:
                    self.findings.add(
                        "attribute",
                        node,
                        "super() leads to everything that torch defines.",
                        "Call super().__init__() or super().forward(x).",
                    )
                return
            if node.attr in ("append", "extend") and self._may_grow(node.value):
                return
            path = self._path(node)
            if node.attr in FREEZING and path is None:
                if self._method != "__init__":
                    self.findings.add(
                        "state", node, WHY_STATE, "Freeze in __init__, as self.body.requires_grad_(False)."
                    )
                self._expression(node.value)
                return
            if path is not None and path.startswith("torch.nn.init.") and path in self.allowed:
                if self._method != "__init__":
                    self.findings.add("state", node, WHY_STATE, "Initialise in __init__.")
                return
        self._expression(node)

    def _is_super(self, node: ast.expr) -> bool:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"):
            return False
        names = [argument.id if isinstance(argument, ast.Name) else "" for argument in node.args]
        return not node.keywords and (not names or (len(names) == 2 and names[1] == "self"))

    def _may_grow(self, node: ast.expr) -> bool:
        """Whether `node.append` may be called: a local list anywhere, one of the module's in `__init__` alone."""
        if isinstance(node, ast.Name):
            return node.id in self._locals - {"self"}
        return isinstance(node, ast.Attribute) and _is_own(node) and self._method == "__init__"

    def _path(self, node: ast.expr | None) -> str | None:
        """The full dotted name of `nn.Linear` and the like, or None where it does not begin at an import."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name) and node.id in self.imports and node.id not in self._locals:
            return ".".join([self.imports[node.id], *reversed(parts)])
        return None

    def _new_name(self, name: str, node: ast.AST) -> None:
        """A name that is bound here: it may hide nothing."""
        if name in self.private:
            return  # reported by the request's own check
        if name in self.imports or name in self.classes or name in BUILTINS or name == "super":
            self.findings.add(
                "shadow", node, f"{name!r} already means something else here.", "Choose another name.", text=name
            )
        elif name.startswith("__"):
            self.findings.add("dunder", node, "Names with two underscores are Python's own.", "Rename it.", text=name)

    def _own_name(self, name: str, node: ast.AST) -> None:
        if name in RESERVED or name.startswith("__") or name == "forward":
            self.findings.add(
                "attribute",
                node,
                f"Every nn.Module has {name!r} already.",
                instead_of(name, "Choose another name."),
                text=name,
            )


_MODULES = frozenset({"torch", "torch.nn", "torch.nn.functional", "torch.nn.init", "math"})
_STATEMENT_INSTEAD = {
    "While": "Use for over a fixed range.",
    "With": "Leave it out; no context is needed in a model.",
    "Assert": "Leave it out.",
    "Raise": "Leave it out.",
    "Try": "Leave it out.",
    "Import": "Import at the top of the function.",
    "ImportFrom": "Import at the top of the function.",
    "FunctionDef": "Make it a method of the class.",
    "ClassDef": "Define the class at the top of the function.",
}
_EXPRESSION_INSTEAD = {
    "Lambda": "Make it a method of the class.",
    "JoinedStr": "Leave it out; a model needs no text.",
    "NamedExpr": "Assign it in a line of its own.",
    "DictComp": "Use a list.",
    "SetComp": "Use a list.",
    "Set": "Use a list.",
}


def _targets(node: ast.stmt) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For) else []


def _is_own(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def _is_stored(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)


def _is_class_name(part: ast.stmt, node: ast.AST) -> bool:
    return isinstance(part, ast.Assign | ast.AnnAssign) and _is_stored(node)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
