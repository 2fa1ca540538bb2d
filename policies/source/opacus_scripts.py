"""Read an Opacus script as a declaration: its model, its settings, and what is left out. Nothing of it is run.

A training script of Opacus makes a model, an optimizer, a loader and a loss, makes them private, and loops. Here the
loop is the hospital's, so that what remains of the script is the model's text and some numbers. Each statement is one
of three things: part of that; left out, with a note that says why; or refused at its line, because it touches what is
trained in a way that has no counterpart here. A statement that touches neither model, optimizer, loss nor engine
prepares or shows the reader's own data, and is left out.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from policies.errors import UnsupportedMechanism
from policies.privacy.other_names import FUNCTIONAL
from policies.source.allowed_names import LAYERS
from policies.source.script_flow import (
    MAKES_PRIVATE,
    OPTIMIZERS,
    is_method,
    is_scheduler,
    receivers,
    root,
    stored,
    times,
    touched,
    trains,
    unmoved,
    unshaped,
)
from policies.source.script_settings import (
    DEFAULT_DELTA,
    optimizer_meant,
    private_settings,
    settings_of_loader,
    settings_of_loss,
    settings_of_optimizer,
    whole,
)
from policies.source.script_values import NotPlain, Values, arguments, called, short

_MODES = frozenset("train eval to cuda cpu zero_grad parameters named_parameters state_dict validate fix".split())

DATA = "your own data or figures: the records are the hospital's"
SHOWN = "nothing of a hospital's data is shown; figures come from an Evaluation, which is charged"
DEVICE = "the hospital chooses where it computes"
EVALUATES = "give the study evaluation=researcher.Evaluation(epsilon=...), which is charged"


Known = dict[str, list[tuple[str, ast.Call]]]
"""By name, what is made and in which function of the script; "" for none."""


@dataclass(frozen=True)
class Remark:
    """A note, or a refusal, at a line of the script."""

    line: int
    text: str
    why: str


@dataclass
class Script:
    """What a script declares.

    Args:
      model: the name of its model's class; "" where none was found.
      made: whether that class was written here, since the script makes its model of layers or with arguments.
      classes: texts of the classes, functions and constants that the model is made of, in order, with their lines.
      imports: the lines that import torch, as written.
      settings: of `researcher.Training`, in its words, with `epochs` and `batch_size`.
      notes: what is left out.
      refused: what has no counterpart; nothing is declared where there is any.
    """

    model: str = ""
    made: bool = False
    classes: list[tuple[int, str]] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[Remark] = field(default_factory=list)
    refused: list[Remark] = field(default_factory=list)


def read_script(tree: ast.AST, text: str) -> Script:
    """What an Opacus script, or a function that holds one, declares."""
    return _Reader(tree, text).read()


def opacus_call(tree: ast.AST) -> ast.Call | None:
    """Where a text makes a model private with Opacus; None where it does not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) in MAKES_PRIVATE:
            return node
    return None


class _Reader:
    """Reads the statements of one script in order."""

    def __init__(self, tree: ast.AST, text: str) -> None:
        self.tree, self.text = tree, text
        self.script = Script()
        self.values = Values(tree)
        self.definitions: dict[str, ast.stmt] = {}
        self.models: Known = {}
        self.losses: Known = {}
        self.optimizers: Known = {}
        self.loaders: Known = {}
        self.private: ast.Call | None = None
        self.legacy: ast.Call | None = None  # PrivacyEngine(model, ...) of Opacus before 1.0
        self.delta: ast.expr | None = None
        self.epochs: list[ast.expr] = []
        self.loops: list[tuple[ast.For, ast.Call | None]] = []
        self.touched: set[str] = set()  # names of what is trained, and of its parts
        self.stepped = receivers(tree, "zero_grad")
        self.called = {"model", "net"} | receivers(tree, "train", "eval")
        self.training: set[str] = set()  # functions that take gradients
        self.scopes: dict[int, str] = {}  # of statements and calls, the function that they stand in

    def read(self) -> Script:
        script = self.script
        body = self.tree.body if isinstance(self.tree, ast.Module | ast.FunctionDef) else []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef) and node is not self.tree):
                self.definitions.setdefault(node.name, node)
                if isinstance(node, ast.FunctionDef):  # an inner one comes after the one that it is in
                    self.scopes |= {id(part): node.name for part in ast.walk(node)}
        self.training = {name for name, node in self.definitions.items() if trains(node)}
        for node in ast.walk(self.tree):  # whatever is named later may be used in a function above
            if isinstance(node, ast.Assign):
                self._know(node)
        self.touched = touched(self.tree, {*self.models, *self.losses, *self.optimizers}, self.definitions)
        self._block(body)
        self._declare()
        script.notes.sort(key=lambda remark: remark.line)
        script.refused.sort(key=lambda remark: remark.line)
        return script

    # -- what the names of the script are ------------------------------------------------------------------------

    def _know(self, node: ast.Assign) -> None:
        value = unmoved(node.value)
        if not isinstance(value, ast.Call):
            return
        name, scope = called(value), self.scopes.get(id(node), "")
        for target in node.targets:
            if not isinstance(target, ast.Name):
                continue
            if self._is_model(value):
                self.models.setdefault(target.id, []).append((scope, value))
            elif name in OPTIMIZERS and value.args:
                self.optimizers.setdefault(target.id, []).append((scope, value))
            elif name.endswith("Loss"):
                self.losses.setdefault(target.id, []).append((scope, value))
            elif name in ("DataLoader", "UniformWithReplacementSampler", "DPDataLoader"):
                self.loaders.setdefault(target.id, []).append((scope, value))
        if name in MAKES_PRIVATE:
            if self.private is not None:
                self._refuse(node, "a second model is made private: translate one at a time")
            self.private = self.private or value
        if name == "PrivacyEngine" and (value.args or any(word.arg == "module" for word in value.keywords)):
            self.legacy = value

    def _is_model(self, call: ast.Call) -> bool:
        name = called(call)
        defined = self.definitions.get(name)
        if isinstance(defined, ast.ClassDef) and isinstance(call.func, ast.Name):
            return any(short(base).rpartition(".")[2] in LAYERS for base in defined.bases) or any(
                isinstance(self.definitions.get(short(base)), ast.ClassDef) for base in defined.bases
            )
        return name == "Sequential" or (name in LAYERS and isinstance(call.func, ast.Attribute))

    # -- statements ----------------------------------------------------------------------------------------------

    def _block(self, body: list[ast.stmt]) -> None:
        for node in body:
            try:
                self._statement(node)
            except (NotPlain, UnsupportedMechanism) as error:
                self._refuse(node, str(error))

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case ast.ClassDef():
                if not self._may_be_model(node):
                    self._note(node, DATA)
            case ast.FunctionDef():
                self._block(node.body)
            case ast.Return() | ast.Pass() | ast.Global() | ast.Expr(value=ast.Constant()):
                pass
            case ast.Assign(value=value) | ast.AnnAssign(value=value):
                self._assign(node, unmoved(value) if value is not None else None)
            case ast.Expr(value=ast.Call() as call):
                self._call(node, call)
            case ast.For():
                self._loop(node)
            case ast.With():
                self._with(node)
            case ast.If(test=test, body=body):
                if "__name__" in ast.unparse(test):
                    self._block(body)
                else:
                    self._other(node)
            case _:
                self._other(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        home = node.module if isinstance(node, ast.ImportFrom) else None
        names = [home] if home else [alias.name for alias in node.names]
        wanted = all(name in ("torch", "torch.nn", "torch.nn.functional", "math") for name in names)
        if wanted and not (isinstance(node, ast.ImportFrom) and node.level):
            kept = [alias for alias in node.names if not (home == "torch" and alias.name in ("optim", "utils"))]
            if kept:
                line = ast.unparse(ast.ImportFrom(home, kept, 0) if home else ast.Import(kept))
                if line not in self.script.imports:
                    self.script.imports.append(line)
        else:
            self._note(node, "nothing of it is needed")

    def _may_be_model(self, node: ast.ClassDef) -> bool:
        bases = [short(base) for base in node.bases]
        model = any(base.rpartition(".")[2] in LAYERS or base in self.definitions for base in bases)
        if model and node.decorator_list:
            self._refuse(node, "a decorator may replace what it decorates: leave it out")
        if any("Lightning" in base for base in bases):
            self._refuse(node, "Lightning's training is its own: write the model as an nn.Module, and the loop is ours")
            return True
        return model

    def _assign(self, node: ast.stmt, value: ast.expr | None) -> None:
        name = called(value) if value is not None else ""
        targets = set(stored(node))
        if name in MAKES_PRIVATE:
            kind = f"{name}: the hospital's engine clips and adds noise, from a secure generator"
            self._note(node, kind)
        elif name == "PrivacyEngine":
            self._note(node, "the hospital's engine takes its place")
        elif name in ("get_epsilon", "get_privacy_spent"):
            assert isinstance(value, ast.Call)
            self.delta = arguments(value, ("delta",)).get("delta", self.delta)
            self._note(node, "ε comes with every certificate, and study.check() says it before")
        elif name in ("DataLoader", "DPDataLoader"):
            self._note(node, "batch_size is kept; the records are the hospital's")
        elif any(name in known for known in (self.models, self.losses, self.optimizers)):
            self._other(node)
        elif targets & {*self.models, *self.losses, *self.optimizers} and isinstance(value, ast.Call):
            self._made(node, value, targets)
        elif name in ("device", "is_available"):
            self._note(node, DEVICE)
        elif name == "validate":
            self._note(node, _VALIDATED)
        elif isinstance(value, ast.Constant) or self._is_option(value):
            pass  # a constant: it is read where it is used
        else:
            self._other(node)

    def _made(self, node: ast.stmt, value: ast.Call, targets: set[str]) -> None:
        """A model, loss or optimizer that is made, or changed in a way that must be known."""
        if self._is_model(value) or called(value) in OPTIMIZERS or called(value).endswith("Loss"):
            return
        if called(value) == "fix":
            self._note(node, _VALIDATED)
        elif called(value) in ("to", "cuda", "cpu"):
            self._note(node, DEVICE)
        else:
            self._refuse(node, f"what this makes of {', '.join(sorted(targets))} is not known here")

    def _is_option(self, value: ast.expr | None) -> bool:
        if value is None:
            return False
        try:
            self.values.plain(value)
        except NotPlain:
            return False
        return True

    def _call(self, node: ast.stmt, call: ast.Call) -> None:
        name = called(call)
        if name == "print":
            for part in ast.walk(call):
                if isinstance(part, ast.Call) and called(part) in ("get_epsilon", "get_privacy_spent"):
                    self.delta = arguments(part, ("delta",)).get("delta", self.delta)
            self._note(node, SHOWN)
        elif name == "attach" and self.legacy is not None:
            self._note(node, "the hospital's engine takes its place")
        elif name in self.definitions and isinstance(call.func, ast.Name):
            pass  # a function of the script, read where it is defined
        elif isinstance(call.func, ast.Attribute) and name in _MODES and self._touches(call.func.value):
            self._note(node, DEVICE if name in ("to", "cuda", "cpu") else "the hospital's loop does this")
        elif name == "save":
            self._note(node, "result.save(...) keeps weights, releases and certificates")
        else:
            self._other(node)

    def _with(self, node: ast.With) -> None:
        name = called(node.items[0].context_expr)
        if name == "BatchMemoryManager":
            self._note(node, "the hospital's engine bounds its memory itself")
            self._block(node.body)
        else:
            self._other(node)

    def _loop(self, node: ast.For) -> None:
        if not trains(node) and not self._calls_training(node):
            self._other(node)
            return
        count = times(node.iter)
        if count is not None:
            if self.epochs:
                self._refuse(node, "there is a second loop of epochs: say how many there are in all")
            self.epochs.append(count)
            self._block(node.body)
        elif not any(is_method(part, "backward") for part in node.body):
            self._refuse(node, "this loop is neither one of epochs, as range(3), nor one of batches")
        elif self.loops:
            self._refuse(node, "a second loop trains: translate one at a time")
        else:
            self._batches(node)

    def _calls_training(self, node: ast.For) -> bool:
        names = {called(part) for part in ast.walk(node) if isinstance(part, ast.Call)}
        return bool(names & self.training)

    def _batches(self, node: ast.For) -> None:
        """A loop over batches: a plain step, and what is only looked at."""
        for method in ("zero_grad", "backward", "step"):
            if sum(is_method(part, method) and not is_scheduler(part) for part in node.body) != 1:
                raise NotPlain(f"a plain step calls {method}() once, on a line of its own")
        loss = next(part for part in node.body if is_method(part, "backward")).value.func.value  # type: ignore[attr-defined]
        name = loss.id if isinstance(loss, ast.Name) else ""
        counted = set(stored(node.target))
        essential: set[str] = {name} | counted
        made: ast.Call | None = None
        for part in reversed(node.body):
            if name and isinstance(part, ast.Assign) and set(stored(part)) & essential:
                essential |= {inner.id for inner in ast.walk(part.value) if isinstance(inner, ast.Name)}
                if set(stored(part)) == {name} and made is None:
                    made = part.value if isinstance(part.value, ast.Call) else None
                    if made is None:
                        self._refuse(part, "the loss is more than one loss of torch: only that is trained here")
        for part in node.body:
            if is_method(part, "backward", "zero_grad"):
                continue
            if is_method(part, "step") and not is_scheduler(part):
                continue
            try:
                if isinstance(part, ast.Assign) and set(stored(part)) & essential:
                    self._prepares(part, made)
                else:
                    self._other(part)
            except NotPlain as error:
                self._refuse(part, str(error))
        self.loops.append((node, made))

    def _prepares(self, node: ast.Assign, made: ast.Call | None) -> None:
        """A batch on its way into the model and the loss: only devices and shapes may change."""
        values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        if made is not None and node.value is made:
            values = made.args
        for value in values:
            inner = unshaped(value)
            if self._calls_model(inner) and isinstance(inner, ast.Call) and len(inner.args) == 1:
                inner = unshaped(inner.args[0])
            if not isinstance(inner, ast.Name):
                raise NotPlain(f"`{short(value)}` changes a batch before the model or the loss: write it into forward")
        if node.value is not made and not any(self._calls_model(unshaped(value)) for value in values):
            self._note(node, "the hospital's records come to the model as its schema says")

    def _calls_model(self, node: ast.expr) -> bool:
        name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        return name in self.models or name in self.called

    def _other(self, node: ast.stmt) -> None:
        """Left out where it touches nothing that is trained, else refused."""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return
        if trains(node):
            self._refuse(node, "this trains in a way that is not known here: the loop at a hospital is ours")
        elif (reason := self._changes(node)) is not None:
            self._refuse(node, reason)
        elif any(isinstance(part, ast.Call) and called(part) in ("no_grad", "eval") for part in ast.walk(node)):
            self._note(node, EVALUATES)
        else:
            self._note(node, SHOWN if self._touches(node) else DATA)

    def _changes(self, node: ast.stmt) -> str | None:
        """Why a statement may change what is trained, or None."""
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete) and self._rebinds(node):
            return "it makes or changes what is trained, in a way that is not known here"
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute | ast.Subscript) and isinstance(part.ctx, ast.Store | ast.Del):
                if self._is_part(part.value):
                    return "it changes what is trained: weights begin as the study's seed says"
            elif isinstance(part, ast.Call):
                name, function = called(part), part.func
                if name == "step" and isinstance(function, ast.Attribute):
                    return _SCHEDULE if is_scheduler(part) else _KNOWN_REASONS[name]
                if isinstance(function, ast.Attribute) and self._is_part(function.value) and name not in _HARMLESS:
                    return _KNOWN_REASONS.get(name, f"what {name} does to what is trained is not known here")
                passed = [*part.args, *(word.value for word in part.keywords)]
                if any(map(self._is_part, passed)) and name not in _LOOKS and name not in self.definitions:
                    if name.endswith(("LR", "Plateau")):
                        return _SCHEDULE
                    if name.startswith("clip_grad"):
                        return (
                            "max_grad_norm already clips every record's gradient; a second clipping is not known here"
                        )
                    return f"what {name or 'it'} makes of what is trained is not known here"
        return None

    def _rebinds(self, node: ast.stmt) -> bool:
        return bool(set(stored(node)) & self.touched)

    def _is_part(self, node: ast.expr) -> bool:
        return root(node) in self.touched

    def _touches(self, node: ast.AST) -> bool:
        return any(isinstance(part, ast.Name) and part.id in self.touched for part in ast.walk(node))

    # -- what it declares ----------------------------------------------------------------------------------------

    def _declare(self) -> None:
        script = self.script
        private = self.private or self.legacy
        if private is None:
            self._lacks("a call of make_private or make_private_with_epsilon, which says the noise")
        model = self._model_of(private)
        if model is None:
            self._lacks("a model: a class that derives from nn.Module, or nn.Sequential(...)")
        if not self.loops:
            self._lacks("a loop of batches with loss.backward() and optimizer.step()")
        if private is not None:
            self._settings(private, self._privacy)
        if (loss := self._loss_call()) is not None:
            self._settings(loss, lambda call: settings_of_loss(call, self.values))
        optimizer = self._one(self.optimizers, "optimizer", optimizer_meant(private), private)
        if optimizer is not None:
            self._settings(optimizer, lambda call: settings_of_optimizer(call, self.values))
        self._batches_of(private)
        if self.epochs:
            self._settings(self.epochs[-1], lambda node: {"epochs": whole(node, self.values)})
        else:
            script.settings.setdefault("epochs", 1)
        if model is not None:
            self._model(model)
        script.settings.setdefault("delta", DEFAULT_DELTA)

    def _settings(self, node: Any, read: Any) -> None:
        try:
            self.script.settings |= read(node)
        except (NotPlain, UnsupportedMechanism) as error:
            self._refuse(node, str(error))

    def _privacy(self, call: ast.Call) -> dict[str, Any]:
        said = private_settings(call, self.values)
        self.delta = said.delta if said.delta is not None else self.delta
        if said.epochs is not None and not self.epochs:
            self.epochs.append(said.epochs)
        if self.delta is not None:
            try:
                said.settings["delta"] = self.values.plain(self.delta)
            except NotPlain:
                self._note(self.delta, "δ is 1e-5, since every hospital has another number of patients")
        return said.settings

    def _loss_call(self) -> ast.Call | None:
        """The loss: what the loop calls, where it is a function of torch or made in the script; else the one made."""
        for _, made in self.loops:
            if made is not None and called(made) in FUNCTIONAL and isinstance(made.func, ast.Attribute):
                return made
        for _, made in self.loops:
            if made is not None:
                return self._one(self.losses, "loss", short(made.func), made)
        return self._one(self.losses, "loss", "", None)

    def _batches_of(self, private: ast.Call | None) -> None:
        named = ""
        if private is not None:
            given = arguments(private, ("module", "optimizer", "data_loader"))
            loader = given.get("data_loader")
            named = loader.id if isinstance(loader, ast.Name) else ""
            if private is self.legacy and "batch_size" in given:
                self._settings(given["batch_size"], lambda node: {"batch_size": whole(node, self.values)})
                return
        call = self._one(self.loaders, "DataLoader", named, private)
        if call is not None:
            self._settings(call, lambda loader: settings_of_loader(loader, self.values))

    def _model_of(self, private: ast.Call | None) -> ast.Call | None:
        module = arguments(private, ("module",)).get("module") if private is not None else None
        if isinstance(module, ast.Call) and self._is_model(module):
            return module
        return self._one(self.models, "model", short(module) if module is not None else "", private)

    def _one(self, known: Known, kind: str, named: str, user: ast.AST | None) -> ast.Call | None:
        """The one of a kind that `user` means by `named`: of its own function, else of none, else the only one."""
        scope = self.scopes.get(id(user), "")
        meant = known.get(named, [])
        for where in (scope, ""):
            here = [call for place, call in meant if place == where]
            if here:
                meant = [(where, call) for call in here]
                break
        if not meant:
            training = {name: made for name, made in known.items() if "test" not in name and "val" not in name}
            meant = [made for name in training or known for made in known[name]]
        different = {ast.dump(call) for _, call in meant}
        if len(different) == 1:
            return meant[0][1]
        if different:
            self._lacks(f"which {kind} is trained: there are {', '.join(sorted(known))}")
        elif kind != "model":
            self._lacks("a DataLoader with its batch_size" if kind == "DataLoader" else f"the {kind}: one of torch's")
        return None

    def _model(self, call: ast.Call) -> None:
        script, name = self.script, called(call)
        defined = self.definitions.get(name)
        if not isinstance(defined, ast.ClassDef):
            script.model, script.made = "Model", True
            layers = "".join(f"            {ast.unparse(part)},\n" for part in (*call.args, *call.keywords))
            base = ast.unparse(call.func)
            text = f"class Model({base}):\n    def __init__(self):\n        super().__init__(\n{layers}        )\n"
            script.classes.append((call.lineno, text))
            self._note(call, "a model that is made of layers becomes a class, which hospitals make themselves")
            return
        for node in self._needed(defined):
            script.classes.append((node.lineno, self._text(node)))
        script.model = name
        if call.args or call.keywords:
            given = ", ".join(ast.unparse(part) for part in (*call.args, *call.keywords))
            if any(isinstance(part, ast.Name) for part in ast.walk(call) if part is not call.func):
                plain = [repr(self._plainly(part)) for part in call.args]
                plain += [f"{word.arg}={self._plainly(word.value)!r}" for word in call.keywords]
                given = ", ".join(plain)
            text = f"class Model({name}):\n    def __init__(self):\n        super().__init__({given})\n"
            script.classes.append((call.lineno, text))
            script.model, script.made = "Model", True

    def _plainly(self, node: ast.expr) -> Any:
        try:
            return self.values.plain(node)
        except NotPlain as error:
            self._refuse(node, str(error))
            return None

    def _needed(self, wanted: ast.stmt) -> list[ast.stmt]:
        """What a class's text names of the script, before it: classes, functions and constants."""
        constants = {
            name: node
            for node in getattr(self.tree, "body", [])
            if isinstance(node, ast.Assign) and self._is_option(node.value)
            for name in stored(node)
        }
        found: dict[int, ast.stmt] = {}
        waiting = [wanted]
        while waiting:
            node = waiting.pop()
            if id(node) in found:
                continue
            found[id(node)] = node
            names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            waiting += [self.definitions[name] for name in names if name in self.definitions]
            waiting += [constants[name] for name in names if name in constants]
        return sorted(found.values(), key=lambda node: node.lineno)

    def _text(self, node: ast.stmt) -> str:
        """A statement as it is written, from its own indentation."""
        lines = self.text.split("\n")[node.lineno - 1 : node.end_lineno]
        return "\n".join(line[node.col_offset :] for line in lines).rstrip() + "\n"

    def _lacks(self, what: str) -> None:
        self.script.refused.append(Remark(0, "", f"nothing says {what}"))

    def _note(self, node: ast.stmt | ast.expr, why: str) -> None:
        self.script.notes.append(Remark(node.lineno, short(node), why))

    def _refuse(self, node: ast.stmt | ast.expr, why: str) -> None:
        self.script.refused.append(Remark(node.lineno, short(node), why))


_VALIDATED = "study.check() refuses a layer that mixes records, by its line, with what to write instead"
_HARMLESS = frozenset(
    """
    item detach cpu numpy tolist eval train to cuda parameters named_parameters state_dict numel size get_epsilon
    get_privacy_spent zero_grad items keys values format
    """.split()
)
"""Methods that change nothing of what is trained."""
_LOOKS = frozenset("print len str float summary sum list next iter enumerate save format append mean isnan".split())
"""Calls that only look at what they are given."""
_SCHEDULE = "a schedule of the learning rate has to be a setting of the training"
_KNOWN_REASONS = {
    "step": "a step of the optimizer stands by itself in the loop of batches",
    "apply": "initialise weights in the model's __init__",
    "load_state_dict": "weights from elsewhere are no part of a script: give the study a model that has them",
    "requires_grad_": "a part of the model that is not trained has to be said in the model",
    "register_forward_hook": "no code of yours runs beside private rows",
    "register_hook": "no code of yours runs beside private rows",
    "register_step_hook": "no code of yours runs beside private rows",
}
