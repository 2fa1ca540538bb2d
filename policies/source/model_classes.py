"""Inspect the classes of a model's source against a list of what they may contain.

A class derives from `nn.Module`, a layer or an earlier class, and holds `__init__`, `forward`, helper methods and
literal constants; helper functions and literal constants may stand beside the classes. Within methods every kind of
statement and expression, every name and every attribute is looked up in a list; what is in none is a finding.

A method that forward does not lead to, as `__init__` and what it calls, makes the model: there it may assign, register
and initialise. Whether it is called later all the same is for the exporter to find, which refuses what changes a model.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

from policies.source.allowed_names import (
    ASKED_FOR,
    ATTRIBUTES,
    BUILTINS,
    DECORATORS,
    EXCEPTIONS,
    FREEZING,
    LAYERS,
    METHODS,
    NOTHING,
    QUERIES,
    RANDOM,
    REGISTERS,
    RESERVED,
    SETUP_METHODS,
    TYPING,
    instead_of,
)
from policies.source.constant_values import why_too_large
from policies.source.findings import Findings

_STATEMENTS = (
    *(ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.Return, ast.If, ast.For, ast.Pass),
    *(ast.Break, ast.Continue, ast.Raise, ast.Assert),
)
_EXPRESSIONS = (
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call, ast.Attribute, ast.Subscript, ast.Slice),
    *(ast.Name, ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.ListComp, ast.GeneratorExp, ast.Starred, ast.Lambda),
    *(ast.JoinedStr, ast.FormattedValue),
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
        self.functions: set[str] = set()
        self.constants: set[str] = set()
        self.own: set[str] = set()  # attributes and methods that the classes define themselves
        self.notes: list[str] = []
        self._run: frozenset[str] = frozenset()  # names of what forward leads to
        self._locals: frozenset[str] = frozenset()
        self._method = ""
        self._conditions = 0  # how many of them a statement is under

    def read(self, nodes: Iterable[ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign]) -> None:
        """Check all classes, functions and constants of a source, in order."""
        nodes = list(nodes)
        classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
        self._run = _led_to(nodes)
        for made in classes:
            self.own |= {statement.name for statement in made.body if isinstance(statement, ast.FunctionDef)}
            self.own |= {name.id for part in made.body for name in ast.walk(part) if _is_class_name(part, name)}  # type: ignore[attr-defined]
            self.own |= {name.attr for name in ast.walk(made) if _is_own(name) and isinstance(name.ctx, ast.Store)}  # type: ignore[attr-defined]
            self.own |= {name for part in ast.walk(made) if (name := _registered(part)) is not None}
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                self._class(node)
            elif isinstance(node, ast.FunctionDef):
                self._new_name(node.name, node)
                self._function(node, within=False)
                self.functions.add(node.name)
            else:
                self._constant(node)

    def _constant(self, node: ast.Assign | ast.AnnAssign) -> None:
        """A literal beside the classes, under a name of its own."""
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        several = isinstance(node, ast.Assign) and len(node.targets) > 1
        if several or not isinstance(target, ast.Name) or node.value is None or not is_literal(node.value):
            self.findings.add(
                "statement", node, "A request holds imports, classes, functions, constants and one return.",
                "Write a constant as NAME = 16, and anything else into the model.",
            )  # fmt: skip
            return
        if isinstance(node, ast.AnnAssign):
            self._annotation(node.annotation)
        if target.id in self.constants | self.functions:
            self.findings.add("shadow", node, f"{target.id!r} already means something else here.", "Choose another.")
        self._new_name(target.id, target)
        self.constants.add(target.id)

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

    def _function(self, node: ast.FunctionDef, *, within: bool = True) -> None:
        """A method, or a function beside the classes where it is not `within` one."""
        add = self.findings.add
        if within and node.name not in ("__init__", "forward"):
            self._own_name(node.name, node)
        static = not within
        for decorator in node.decorator_list:
            name = decorator.id if isinstance(decorator, ast.Name) else ""
            if not within or name not in DECORATORS or node.name in ("__init__", "forward"):
                add("decorator", decorator, "A decorator may replace what it decorates.", "Leave it out.")
            static |= name == "staticmethod"
        arguments = node.args
        for extra in (arguments.vararg, arguments.kwarg):
            if extra is not None:
                add("argument", extra, "Arguments without names hide what is passed.", "Name every argument.")
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is not None and not self._is_default(default):
                add(
                    "default",
                    default,
                    "A default argument runs when the class is made.",
                    "Use a plain number or text, or a layer or function of torch.",
                )
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        if not static and (not named or named[0].arg != "self"):
            add("argument", node, "The first argument of a method is self.", f"Write def {node.name}(self, ...).")
        for annotation in (*(argument.annotation for argument in named), node.returns):
            if annotation is not None:
                self._annotation(annotation)
        stored = [target for part in node.body for target in ast.walk(part) if _is_stored(target)]
        names = {argument.arg: argument for argument in named} | {target.id: target for target in stored}  # type: ignore[attr-defined]
        for name, where in names.items():
            self._new_name(name, where)
            if name == "self" and (static or not isinstance(where, ast.arg)):
                self.findings.add("shadow", where, "self is the model.", "Choose another name.")
        self._locals, self._method = frozenset(names), node.name
        for statement in node.body:
            self._statement(statement)

    @property
    def _is_setup(self) -> bool:
        """Whether the method that is read makes the model and is not run on records."""
        return self._method == "__init__" or self._method not in self._run | {"forward"}

    def _is_default(self, node: ast.expr) -> bool:
        """A literal, a layer or function of torch, or a layer made of literals."""
        if is_literal(node):
            return True
        if isinstance(node, ast.Call):
            plain = all(
                is_literal(argument) for argument in (*node.args, *(keyword.value for keyword in node.keywords))
            )
            path = self._path(node.func) or ""
            return plain and path.startswith("torch.nn.") and path.removeprefix("torch.nn.") in LAYERS
        path = self._path(node) or ""
        return path in self.allowed - _MODULES and not path.startswith("torch.nn.init.")

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
        elif (
            self._path(node) in self.allowed
            or (isinstance(node, ast.Name) and node.id in self.classes)
            or (self._path(node) or "").removeprefix("typing.") in TYPING
        ):
            return
        elif isinstance(node, ast.List):
            parts = node.elts
        elif isinstance(node, ast.Constant) and node.value is Ellipsis:
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
        if isinstance(node, ast.With) and self._is_setup and [ast.unparse(item) for item in node.items] == _WITHOUT:
            for statement in node.body:
                self._statement(statement)
            return
        if not isinstance(node, _STATEMENTS):
            kind = type(node).__name__
            add(
                "statement",
                node,
                f"{kind} is not among the statements that a model may use.",
                _STATEMENT_INSTEAD.get(kind, "Use assignments, if, for over fixed sizes, and return."),
            )
            return
        if isinstance(node, ast.Raise):
            self._raised(node)
            return
        if isinstance(node, ast.If):
            self._expression(node.test)
            self._conditions += 1
            for statement in (*node.body, *node.orelse):
                self._statement(statement)
            self._conditions -= 1
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

    def _raised(self, node: ast.Raise) -> None:
        """An error of Python's with a message, for whoever makes the model with other sizes."""
        error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        plain = isinstance(error, ast.Name) and error.id in EXCEPTIONS
        if not self._conditions or node.cause is not None or not plain:
            self.findings.add(
                "statement",
                node,
                "Only plain errors are raised, and where something is the case.",
                "Write if ...: raise ValueError('...'), or leave it out.",
            )
            return
        if isinstance(node.exc, ast.Call):
            for argument in (*node.exc.args, *node.exc.keywords):
                self._expression(argument)

    def _target(self, node: ast.expr) -> None:
        """What an assignment writes to: local names anywhere, attributes of self where the model is made."""
        add = self.findings.add
        if isinstance(node, ast.Tuple | ast.List):
            for element in node.elts:
                self._target(element)
        elif isinstance(node, ast.Attribute):
            if not _is_part_of_self(node) or (not self._is_setup and not _is_own(node)):
                add("attribute", node, "A model may change only itself.", instead_of(node.attr, _ASSIGN))
            elif not self._is_setup:
                add("state", node, WHY_STATE, "Use a local variable, or assign it in __init__.")
            else:
                self._own_name(node.attr, node)
                if not _is_own(node):
                    self._expression(node.value)
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
        if isinstance(node, ast.Lambda):
            self._lambda(node)
            return
        if isinstance(node, ast.FormattedValue) and (node.format_spec is not None or node.conversion != -1):
            self.findings.add("expression", node, "A format may fill the memory.", "Write the name alone in braces.")
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

    def _lambda(self, node: ast.Lambda) -> None:
        """A function of one expression, which forward may run wherever it is made."""
        arguments = node.args
        extra = [arguments.vararg, arguments.kwarg, *arguments.posonlyargs, *arguments.kwonlyargs, *arguments.defaults]
        if any(extra):
            self.findings.add("argument", node, "A lambda has plain arguments alone.", "Make it a method.")
        names = [argument.arg for argument in arguments.args]
        for name in names:
            self._new_name(name, node)
        before = self._locals, self._method
        self._locals, self._method = self._locals | frozenset(names), "forward"
        self._expression(node.body)
        self._locals, self._method = before

    def _operation(self, node: ast.BinOp | ast.AugAssign) -> None:
        why = why_too_large(node)
        if why is not None:
            self.findings.add("size", node, why, "Write smaller numbers.")

    def _name(self, node: ast.Name) -> None:
        name = node.id
        if name in self._locals or name in self.classes or name in self.functions | self.constants:
            return
        path = self.imports.get(name)
        if path is not None:
            self._check_drawing(path, node)
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
            if self._check_drawing(path, node):
                return
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
            if node.attr not in self.own | ATTRIBUTES | QUERIES and not isinstance(node.ctx, ast.Store):
                self.findings.add(
                    "attribute",
                    node,
                    f"self.{node.attr} is not defined by this class.",
                    instead_of(node.attr, "Assign it in __init__."),
                )
            return
        known = METHODS | ATTRIBUTES | QUERIES | self.own | (SETUP_METHODS if self._is_setup else frozenset())
        if node.attr not in known or node.attr.startswith("__"):
            self.findings.add(
                "attribute",
                node,
                f".{node.attr} is not among what a model may use. {WHY_LIST}",
                instead_of(node.attr, "Use other functions of torch."),
            )
        if node.attr.endswith("_") and not self._is_setup and _is_part_of_self(node.value):
            self.findings.add("state", node, WHY_STATE, "Use a local variable.")
        self._expression(node.value)

    def _check_drawing(self, path: str, node: ast.expr) -> bool:
        """Whether a path draws at random, which may be done for starting weights; notes what is nothing here."""
        name = path.rpartition(".")[2]
        if name in NOTHING and path in self.allowed:
            self.notes.append(f"line {node.lineno}: {name} is nothing here: the noise of DP-SGD regularises already.")
        if path not in RANDOM:
            return False
        if not self._is_setup:
            self.findings.add("attribute", node, f"{path} draws at random.", instead_of(name, "Leave it out."))
        return True

    def _call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id == "isinstance" and "isinstance" not in self._locals:
            self._asked(node)
            return
        if self._is_registering(node):
            return
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

    def _asked(self, node: ast.Call) -> None:
        """`isinstance` of something and of layers, tensors or Python's plain kinds."""
        if len(node.args) != 2 or node.keywords:
            self.findings.add("argument", node, "isinstance takes two arguments.", "Write isinstance(m, nn.Linear).")
            return
        self._expression(node.args[0])
        kinds = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
        for kind in kinds:
            path = self._path(kind) or ""
            plain = isinstance(kind, ast.Name) and kind.id in _ANNOTATIONS | {"dict"} and kind.id not in self._locals
            if not plain and path.removeprefix("torch.nn.") not in ASKED_FOR:
                self._expression(kind)

    def _is_registering(self, node: ast.Call) -> bool:
        """Whether a call of self registers a tensor or layer by a literal name, or goes over all layers; it is checked.

        Elsewhere than where the model is made it is a call like any other, and refused.
        """
        function = node.func
        if not isinstance(function, ast.Attribute) or not _is_own(function) or not self._is_setup:
            return False
        if function.attr == "apply" and len(node.args) == 1 and not node.keywords:
            given = node.args[0]
            method = isinstance(given, ast.Attribute) and _is_own(given) and given.attr in self.own
            if method or (isinstance(given, ast.Name) and given.id in self.functions):
                return True
        name = _registered(node)
        if name is None:
            return False
        self._own_name(name, node)
        for argument in (*node.args[1:], *(keyword.value for keyword in node.keywords)):
            self._expression(argument)
        return True

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
                if not self._is_setup:
                    self.findings.add(
                        "state", node, WHY_STATE, "Freeze in __init__, as self.body.requires_grad_(False)."
                    )
                self._expression(node.value)
                return
            if path is not None and path.startswith("torch.nn.init.") and path in self.allowed:
                if not self._is_setup:
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
        return isinstance(node, ast.Attribute) and _is_own(node) and self._is_setup

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
        taken = name in self.imports or name in self.classes or name in self.functions
        if taken or name in BUILTINS or name in ("super", "isinstance"):
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
_WITHOUT = ["torch.no_grad()"]  # the only context, around what makes a model
_ASSIGN = "Assign to self in __init__."
_STATEMENT_INSTEAD = {
    "While": "Use for over a fixed range.",
    "With": "Leave it out; no context is needed in a model.",
    "Try": "Leave it out.",
    "Import": "Import at the top of the function.",
    "ImportFrom": "Import at the top of the function.",
    "FunctionDef": "Make it a method of the class.",
    "ClassDef": "Define the class at the top of the function.",
}
_EXPRESSION_INSTEAD = {
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


def _is_part_of_self(node: ast.AST) -> bool:
    """Whether it is self.a, self.a.b and so on."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and node.id == "self"


def _registered(node: ast.AST) -> str | None:
    """The name under which a call of self registers something, where it is a literal."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not _is_own(node.func):
        return None
    first = node.args[0] if node.args else None
    if node.func.attr not in REGISTERS or not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return None
    return first.value if first.value.isidentifier() else None


def _led_to(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Names of methods and functions that forward leads to, over every name that they mention.

    What stands in a lambda counts as forward's, wherever it is made.
    """
    mentioned: dict[str, set[str]] = {"forward": set()}
    for node in nodes:
        for part in ast.walk(node):
            if isinstance(part, ast.FunctionDef):
                mentioned.setdefault(part.name, set()).update(_mentioned(part))
            elif isinstance(part, ast.Lambda):
                mentioned["forward"] |= _mentioned(part)
    reached, waiting = {"forward"}, ["forward"]
    while waiting:
        for name in mentioned[waiting.pop()] & set(mentioned) - reached - {"__init__"}:
            reached.add(name)
            waiting.append(name)
    return frozenset(reached)


def _mentioned(node: ast.AST) -> set[str]:
    """Every name and attribute in it."""
    parts = list(ast.walk(node))
    return {part.attr for part in parts if isinstance(part, ast.Attribute)} | {
        part.id for part in parts if isinstance(part, ast.Name)
    }


def _is_stored(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)


def _is_class_name(part: ast.stmt, node: ast.AST) -> bool:
    return isinstance(part, ast.Assign | ast.AnnAssign) and _is_stored(node)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
