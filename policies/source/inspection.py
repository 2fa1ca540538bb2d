"""Inspect a request's source against a list of what is allowed, and read its declared mechanism. Nothing is executed.

The decision is by a list of what is allowed. A request is one function of `records`, `weights` and `round` that holds
imports and classes and returns one call of a mechanism with literal arguments; the private parameters stand nowhere
else. What comes out is everything that the rest uses: a source that has no finding still reaches no private row, since
the model leaves it as a graph (`exporter`) in a process of its own.

Both sides use this module, and equal text gives equal results on both. Text and tree are bounded before anything
recurses over them.
"""

from __future__ import annotations

import ast
import io
import tokenize
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from policies.errors import InspectionFailed
from policies.privacy.mechanisms import Mechanism
from policies.python_trees import parsed
from policies.source.allowed_names import COLLECTIONS, INITIALISERS, LAYERS, MATH, TORCH, TYPING, WRAPPERS, instead_of
from policies.source.allowed_names import FUNCTIONS as TORCH_FUNCTIONS
from policies.source.findings import Finding, Findings
from policies.source.mechanism_call import FUNCTIONS, mechanism_of
from policies.source.model_classes import ClassReader
from policies.source.pasted_loops import add_pasted_loop

MAX_BYTES = 64 * 1024
MAX_LINE = 2_000  # characters
MAX_BRACKETS = 20  # open at once, in the text; deeper ones make Python's own parser slow
MAX_INDENT = 20  # levels
MAX_DEPTH = 50  # of the syntax tree
MAX_NODES = 20_000

ALLOWED = frozenset(
    {"torch", "torch.nn", "torch.nn.functional", "torch.nn.init", "math"}
    | {f"torch.{name}" for name in TORCH}
    | {f"torch.nn.{name}" for name in LAYERS}
    | {f"torch.nn.functional.{name}" for name in TORCH_FUNCTIONS}
    | {f"torch.nn.init.{name}" for name in INITIALISERS}
    | {f"math.{name}" for name in MATH}
    | {f"typing.{name}" for name in TYPING}
    | WRAPPERS
    | COLLECTIONS
)
MODULES = {"torch": "torch", "math": "math", "torch.nn": "nn", "torch.nn.functional": "F"}  # and their short names
PARAMETERS = ("records", "weights", "round")
WITHOUT_WEIGHTS = (("records", "round"), ("records",))  # of statistics; without a round it is the first


@dataclass(frozen=True)
class Inspection:
    """What a source without findings asks for.

    Args:
      function: the request's name.
      mechanism: what will run, as declared.
      model: the model class's name, or None for statistics.
      model_source: its imports and classes at the lines where they stand in the request, or None for statistics.
      parameters: of the function, private ones among them.
      notes: what in the model is nothing here, a line each.
    """

    function: str
    mechanism: Mechanism
    model: str | None
    model_source: str | None
    parameters: tuple[str, ...]
    notes: tuple[str, ...] = ()


def inspect_source(source: str) -> Inspection:
    """What `source` asks for. Executes nothing, and takes well under two seconds whatever `source` is.

    Raises:
      InspectionFailed: `findings` says where, why and what to write instead.
    """
    findings, result = _inspect(source)
    if findings or result is None:
        first = f" First, {findings[0]}" if findings else ""
        raise InspectionFailed(f"The source was refused with {len(findings)} finding(s).{first}", findings=findings)
    return result


def list_findings(source: str) -> tuple[Finding, ...]:
    """Everything that inspection has against `source`, in order of line; nothing where it is accepted."""
    return _inspect(source)[0]


def _inspect(source: str) -> tuple[tuple[Finding, ...], Inspection | None]:
    source = source.replace("\r\n", "\n") if isinstance(source, str) else ""
    findings = Findings(source)
    result = None
    _check_text(source, findings)
    tree = _parse(source, findings) if not findings.found else None
    if tree is not None and not add_pasted_loop(tree, source, findings):
        result = _Reader(source, findings).read(tree)
    against = tuple(sorted(findings.found, key=lambda finding: (finding.line, finding.column)))
    return against, None if against else result


def _check_text(source: str, findings: Findings) -> None:
    """Bounds that need no parser: length, characters, open brackets, indentation."""
    if len(source) > MAX_BYTES or len(source.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        findings.at("length", 0, 0, source[:40], f"A source has at most {MAX_BYTES // 1024} KiB.", "Write less.")
        return
    brackets = 0
    for number, line in enumerate(source.split("\n"), start=1):
        if len(line) > MAX_LINE:
            findings.at("length", number, 0, line, f"A line has at most {MAX_LINE:,} characters.", "Break it.")
        if len(line) - len(line.lstrip()) > 8 * MAX_INDENT:
            findings.at("depth", number, 1, line.strip(), "It is indented too deeply to be read.", "Use methods.")
        for column, character in enumerate(line, start=1):
            if not (character.isascii() and character.isprintable()) and character != "\t":
                kind = unicodedata.category(character)
                if kind[0] == "C" or kind in ("Zl", "Zp"):
                    why = "A character that cannot be seen may make text read as something else."
                    findings.at("unicode", number, column, f"U+{ord(character):04X}", why, "Remove it.")
            brackets += (character in "([{") - (character in ")]}" and brackets > 0)
            if brackets > MAX_BRACKETS:
                why = f"At most {MAX_BRACKETS} brackets may be open at once."
                findings.at("depth", number, column, line.strip(), why, "Use more lines.")
                return


def _parse(source: str, findings: Findings) -> ast.Module | None:
    try:
        tree = parsed(source)
    except SyntaxError as error:
        text = (error.text or "").strip()
        findings.at(
            "syntax", error.lineno or 0, error.offset or 0, text, f"Python cannot read it: {error.msg}.", "Fix it."
        )
        return None
    except (RecursionError, MemoryError, ValueError):
        findings.at("depth", 0, 0, source[:40], "It is nested too deeply.", "Use more lines and fewer brackets.")
        return None
    count = 0
    waiting: list[tuple[ast.AST, int]] = [(tree, 0)]
    while waiting:  # not recursive: the tree may be deeper than Python's own stack
        node, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_NODES:
            findings.add("depth", node, f"A source has at most {MAX_NODES:,} parts, {MAX_DEPTH} deep.", "Write less.")
            return None
        waiting.extend((child, depth + 1) for child in ast.iter_child_nodes(node))
    _check_identifiers(source, findings)
    return tree


def _check_identifiers(source: str, findings: Findings) -> None:
    """Letters outside ASCII stand in strings and comments alone: Python folds look-alikes before a tree shows them."""
    if source.isascii():
        return
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type not in (tokenize.STRING, tokenize.COMMENT, tokenize.NL) and not token.string.isascii():
                why = "A name with letters outside ASCII may look like another."
                findings.at("unicode", token.start[0], token.start[1] + 1, token.string, why, "Use a to z.")
    except (tokenize.TokenError, SyntaxError):
        findings.at("unicode", 0, 0, "", "Letters outside ASCII could not be told from names.", "Use ASCII alone.")


class _Reader:
    """Reads the tree of one request, whose size is known to be bounded."""

    def __init__(self, source: str, findings: Findings) -> None:
        self.source, self.findings = source, findings
        self.imports: dict[str, str] = {}
        self.mechanisms: set[str] = set()

    def read(self, tree: ast.Module) -> Inspection | None:
        add = self.findings.add
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        for node in tree.body:
            if node not in functions[:1]:
                add("request", node, "A request is one function and nothing besides.", "Put it inside the function.")
        if not functions:
            add("request", None, "A request is one function.", "Write def name(records, weights, round): ...")
            return None
        function = functions[0]
        self._check_head(function)
        body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
        self._check_lines(function.body)
        kept = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in kept:
            self._import(node)
        made = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign)]
        parameters = tuple(argument.arg for argument in function.args.args)
        reader = ClassReader(self.findings, self.imports, ALLOWED, {*PARAMETERS, *parameters})
        reader.read(made)
        for named, name in _names(function):
            if name in FUNCTIONS and isinstance(named, ast.ClassDef | ast.FunctionDef | ast.Name) and _binds(named):
                add("shadow", named, f"{name!r} is a mechanism.", "Choose another name.")
        for node in body[:-1]:
            if node not in kept and node not in made:
                add("statement", node, "A request holds imports, classes and one return.", "Move it into the model.")
        returned = body[-1] if body else None
        if not isinstance(returned, ast.Return) or not isinstance(returned.value, ast.Call):
            add("return", returned or function, "What leaves is a mechanism's release alone.", "Return dp_sgd(...).")
            return None
        self._check_private(function, returned.value, {*PARAMETERS, *parameters})
        declared = mechanism_of(returned.value, self.mechanisms, reader.classes, parameters, self.findings)
        if declared is None or self.findings.found:
            return None
        mechanism, model = declared
        source = None if model is None else self._model_source(function)
        return Inspection(function.name, mechanism, model, source, parameters, tuple(reader.notes))

    def _check_head(self, node: ast.FunctionDef) -> None:
        add = self.findings.add
        for decorator in node.decorator_list[1:] if len(node.decorator_list) > 1 else []:
            add("decorator", decorator, "A request has PySyft's decorator at most.", "Leave it out.")
        for decorator in node.decorator_list[:1]:  # never run: PySyft's own stays in the text that it stores
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if (ast.unparse(called)) not in _SYFT_DECORATORS:
                add("decorator", decorator, "A decorator may replace what it decorates.", "Use @sy.syft_function(...).")
        arguments = node.args
        extra = [arguments.vararg, arguments.kwarg, *arguments.kwonlyargs, *arguments.posonlyargs]
        if (
            any(extra)
            or arguments.defaults
            or tuple(argument.arg for argument in arguments.args) not in (PARAMETERS, *WITHOUT_WEIGHTS)
        ):
            add(
                "parameters",
                node,
                "The parameters of a request are fixed.",
                "Write (records, weights, round), or (records, round) or (records) for statistics.",
            )
        for annotation in (*(argument.annotation for argument in arguments.args), node.returns):
            if annotation is not None:
                add("annotation", annotation, "An annotation here would run.", "Leave it out.")

    def _check_lines(self, body: list[ast.stmt]) -> None:
        for one, other in pairwise(body):
            if other.lineno <= (one.end_lineno or one.lineno):
                self.findings.add("statement", other, "Two statements share a line.", "Write one statement a line.")

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            full = alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
            if isinstance(node, ast.ImportFrom) and node.module == "datasites.mechanisms" and not node.level:
                if alias.name not in FUNCTIONS or alias.asname:
                    self._refuse_import(
                        node, f"{alias.name!r} is not a mechanism.", "Import dp_sgd, evaluate or statistics."
                    )
                self.mechanisms.add(alias.name)
                continue
            allowed = full in ALLOWED if isinstance(node, ast.ImportFrom) else full in MODULES
            if not allowed or (isinstance(node, ast.ImportFrom) and node.level) or alias.name == "*":
                name = full.rpartition(".")[2]
                self._refuse_import(
                    node,
                    f"{full} is not among what a request may import.",
                    instead_of(name, "Import torch, nn and functional from torch, or math."),
                )
                continue
            bound = alias.asname or full.rpartition(".")[2]
            plain = bound == full.rpartition(".")[2] or MODULES.get(full) == bound
            if isinstance(node, ast.Import) and not alias.asname:
                bound, full = full.partition(".")[0], full.partition(".")[0]
                plain = True
            if not plain or self.imports.get(bound, full) != full:
                self._refuse_import(node, f"{bound!r} would mean something else than it says.", "Keep the name.")
            self.imports[bound] = full

    def _refuse_import(self, node: ast.stmt, why: str, instead: str) -> None:
        self.findings.add("import", node, why, instead)

    def _check_private(self, function: ast.FunctionDef, call: ast.Call, private: set[str]) -> None:
        """Private parameters stand in the mechanism's call and nowhere else.

        A method may have a variable of such a name, as in `out, weights = self.attention(x, x, x)`: it is another one.
        """
        passed = {id(argument) for argument in call.args}
        own = {id(argument) for argument in function.args.args}
        local = {
            id(node)
            for method in ast.walk(function)
            if isinstance(method, ast.FunctionDef) and method is not function
            for node in _local_names(method)
        }
        for node, name in _names(function):
            if name in private and id(node) not in passed | own | local:
                self.findings.add(
                    "private-parameter",
                    node,
                    f"{name!r} may stand in the mechanism's call alone.",
                    instead_of(name, "Choose another name, and give records and weights to the mechanism only."),
                )

    def _model_source(self, function: ast.FunctionDef) -> str | None:
        """Imports, classes, functions and constants at their lines, under `if True:` so that nothing in them moves."""
        lines = [""] * self.source.count("\n")
        lines.append("")
        given = self.source.split("\n")
        kept: list[ast.stmt] = [
            node
            for node in function.body
            if isinstance(node, ast.Import | ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign)
            or (isinstance(node, ast.ImportFrom) and node.module != "datasites.mechanisms")
        ]
        lines[function.lineno - 1] = "if True:"
        for node in kept:
            lines[node.lineno - 1 : node.end_lineno] = given[node.lineno - 1 : node.end_lineno]
        text = "\n".join(lines).rstrip("\n") + "\n"
        try:
            branch = parsed(text).body[0]
        except (SyntaxError, IndexError):
            branch = None
        if not isinstance(branch, ast.If) or [ast.dump(statement) for statement in branch.body] != [
            ast.dump(statement) for statement in kept
        ]:
            self.findings.add(
                "request", function, "The classes cannot be cut out of the request.", "Write one statement a line."
            )
            return None
        return text


_SYFT_DECORATORS = (
    "sy.syft_function",
    "sy.syft_function_single_use",
    "syft.syft_function",
    "syft.syft_function_single_use",
)


def _binds(node: ast.AST) -> bool:
    return not isinstance(node, ast.Name) or isinstance(node.ctx, ast.Store)


_SCOPES = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)


def _local_names(method: ast.FunctionDef) -> Iterator[ast.Name]:
    """Names in a method that its own assignments bind, outside of scopes within it."""
    names: list[ast.Name] = []
    waiting: list[ast.AST] = list(method.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            names.append(node)
        elif not isinstance(node, _SCOPES):
            waiting.extend(ast.iter_child_nodes(node))
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return (node for node in names if node.id in bound)


def _names(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Every place where a name is read, bound or taken as an argument's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node, node.id
        elif isinstance(node, ast.arg):
            yield node, node.arg
        elif isinstance(node, ast.alias):
            yield node, node.asname or node.name
        elif isinstance(node, ast.ClassDef | ast.FunctionDef) and node is not tree:
            yield node, node.name
