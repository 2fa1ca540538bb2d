"""Inspection accepts requests as researchers write them, and finds what is not on a list, without running anything."""

from __future__ import annotations

import textwrap
import time

import pytest
import torch
from torch import nn

from datasites import mechanisms
from policies.errors import InspectionFailed, PermissionRefused
from policies.privacy.mechanisms import DPSGD, Evaluation, Query, Statistics
from policies.source.allowed_names import BUILTINS, METHODS, RESERVED
from policies.source.inspection import ALLOWED, inspect_source, list_findings

REQUEST = """\
def flu(records, weights, round):
    \"\"\"Predict influenza — at the visit.\"\"\"
    from datasites.mechanisms import dp_sgd
    import torch
    from torch import nn

    class Flu(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(10, 1)

        def forward(self, x):
            return torch.sigmoid(self.a(x))

    return dp_sgd(Flu, records, weights, round, loss="binary_cross_entropy", rounds=5, steps=40,
                  sampling_rate=0.06, clipping_norm=1.0, epsilon=2.0, learning_rate=2.0)
"""
DECORATED = """\
@sy.syft_function(input_policy=sy.MixedInputPolicy(records=asset, weights=dict, round=int, client=client))
"""
ASKED = """\
def asked(records, round):
    from datasites.mechanisms import statistics
    return statistics(records, round, {})
"""


def codes(source: str) -> set[str]:
    return {each.code for each in list_findings(source)}


def with_forward(lines: str) -> str:
    return REQUEST.replace("            return torch.sigmoid(self.a(x))", textwrap.indent(lines, " " * 12))


def test_a_request_is_read_as_its_mechanism_and_model() -> None:
    found = inspect_source(REQUEST)
    assert found.function == "flu"
    assert found.model == "Flu"
    assert found.parameters == ("records", "weights", "round")
    assert found.mechanism == DPSGD(
        loss="binary_cross_entropy",
        rounds=5,
        steps=40,
        sampling_rate=0.06,
        clipping_norm=1.0,
        epsilon=2.0,
        learning_rate=2.0,
    )


def test_model_source_keeps_the_lines_and_leaves_the_call_out() -> None:
    found = inspect_source(DECORATED + REQUEST)
    assert found.model_source is not None
    given, kept = (DECORATED + REQUEST).split("\n"), found.model_source.split("\n")
    assert kept[given.index("    class Flu(nn.Module):")] == "    class Flu(nn.Module):"
    for word in ("dp_sgd", "records", "sy.", "Predict"):
        assert word not in found.model_source


def test_windows_line_ends_change_nothing() -> None:
    assert inspect_source(REQUEST.replace("\n", "\r\n")) == inspect_source(REQUEST)


@pytest.mark.parametrize("decorator", ["sy.syft_function", "sy.syft_function_single_use", "syft.syft_function"])
def test_one_decorator_of_syft_is_left_alone(decorator: str) -> None:
    assert not list_findings(f"@{decorator}(x=1)\n{REQUEST}")


def test_statistics_and_evaluation_are_read() -> None:
    text = "count=True, mean=['a', 'b'], sum='c', quantiles={'age': [0.25, 0.5]}, crosstab=[('s', 'f')], epsilon=0.2"
    text += ", bins=5"
    assert inspect_source(ASKED.format(text)).mechanism == Statistics(
        queries=(
            Query("count"),
            Query("mean", ("a",)),
            Query("mean", ("b",)),
            Query("sum", ("c",)),
            Query("quantiles", ("age",), (0.25, 0.5)),
            Query("crosstab", ("s", "f")),
        ),
        epsilon=0.2,
        bins=5,
    )
    source = REQUEST.replace("import dp_sgd", "import evaluate").split("    return dp_sgd")[0]
    source += '    return evaluate(Flu, records, weights, round, loss="cross_entropy", epsilon=0.5)\n'
    assert inspect_source(source).mechanism == Evaluation(loss="cross_entropy", epsilon=0.5)


def test_a_finding_says_where_what_why_and_what_instead() -> None:
    (finding,) = list_findings(with_forward("return torch.sigmoid(self.a(x)).item()"))
    assert (finding.code, finding.line, finding.column) == ("attribute", 13, 20)
    assert finding.text == "torch.sigmoid(self.a(x)).item"
    assert finding.why
    assert finding.instead == "Keep it a tensor; a record's values may not steer Python."
    with pytest.raises(InspectionFailed) as refused:
        inspect_source(with_forward("return x.item()"))
    assert len(refused.value.findings) == 1


REFUSED = {
    # the request
    "two functions": (REQUEST + "def g(): pass\n", "request"),
    "code before": ("import os\n" + REQUEST, "request"),
    "nothing": ("", "request"),
    "async": ("async " + REQUEST, "request"),
    "not python": ("def f(:\n", "syntax"),
    "other decorator": ("@functools.cache\n" + REQUEST, "decorator"),
    "two decorators": ("@sy.syft_function()\n@sy.syft_function()\n" + REQUEST, "decorator"),
    "default argument": (REQUEST.replace("round):", "round=print()):"), "parameters"),
    "annotated argument": (REQUEST.replace("round):", "round: print()):"), "annotation"),
    "other parameters": (REQUEST.replace("round):", "round, more):"), "parameters"),
    "starred parameters": (REQUEST.replace("round):", "*round):"), "parameters"),
    "no return": (REQUEST.split("    return dp_sgd")[0], "return"),
    "returns records": (REQUEST.split("    return dp_sgd")[0] + "    return records\n", "return"),
    "returns a pair": (REQUEST.replace("return dp_sgd", "return records, dp_sgd"), "return"),
    "statement beside": (REQUEST.replace("    return dp_sgd", "    x = len('a')\n    return dp_sgd"), "statement"),
    "large list beside": (REQUEST.replace("    return dp_sgd", "    x = [0] * 9\n    return dp_sgd"), "statement"),
    "two names beside": (REQUEST.replace("    return dp_sgd", "    x = y = 1\n    return dp_sgd"), "statement"),
    "constant of a class's name": (REQUEST.replace("    return dp_sgd", "    Flu = 1\n    return dp_sgd"), "shadow"),
    "constant twice": (REQUEST.replace("    return dp_sgd", "    x = 1\n    x = 2\n    return dp_sgd"), "shadow"),
    "function of the mechanism's name": (
        REQUEST.replace("    return dp_sgd", "    def dp_sgd(x):\n        return x\n    return dp_sgd"),
        "shadow",
    ),
    "function that imports": (
        REQUEST.replace("    import torch\n", "    def g():\n        import os\n    import torch\n"),
        "statement",
    ),
    "function with a decorator": (
        REQUEST.replace("    import torch\n", "    @staticmethod\n    def g(): pass\n    import torch\n"),
        "decorator",
    ),
    "function of records": (
        REQUEST.replace("    return dp_sgd", "    def g(x):\n        return records\n    return dp_sgd"),
        "private-parameter",
    ),
    "early return": (REQUEST.replace("    import torch\n", "    return records\n    import torch\n"), "statement"),
    "if around": (
        REQUEST.replace("    import torch\n", "    if 1:\n        import os\n    import torch\n"),
        "statement",
    ),
    "two on a line": (REQUEST.replace("    import torch\n", "    import torch; import math\n"), "statement"),
    "nested class": (
        REQUEST.replace("    import torch\n", "    def g():\n        class A: pass\n    import torch\n"),
        "statement",
    ),
    # private parameters
    "records in the model": (with_forward("return self.a(records)"), "private-parameter"),
    "records bound in a comprehension": (
        with_forward("y = [records for records in [x]]\nreturn self.a(records)"),
        "private-parameter",
    ),
    "records bound in a lambda": (with_forward("f = lambda records: records\nreturn records"), "private-parameter"),
    "records bound in another method": (
        REQUEST.replace("            return torch", "            return records + torch").replace(
            "        def forward(", "        def h(self):\n            records = 1\n\n        def forward("
        ),
        "private-parameter",
    ),
    "records in a comprehension": (with_forward("return self.a([r for r in records][0])"), "private-parameter"),
    "records as a default": (REQUEST.replace("forward(self, x)", "forward(self, x=records)"), "private-parameter"),
    "records as a base": (REQUEST.replace("Flu(nn.Module)", "Flu(records)"), "private-parameter"),
    "records in a setting": (REQUEST.replace("steps=40", "steps=len(records)"), "private-parameter"),
    "records twice": (REQUEST.replace("records, weights, round, loss", "records, records, round, loss"), "mechanism"),
    "a slice of records": (REQUEST.replace("Flu, records,", "Flu, records[:10],"), "mechanism"),
    "weights changed": (REQUEST.replace("records, weights, round, l", "records, weights | {}, round, l"), "mechanism"),
    "records named by keyword": (
        REQUEST.replace("Flu, records,", "Flu, records=records,").replace(
            " weights, round, loss", " weights=weights, round=round, loss"
        ),
        "mechanism",
    ),
    # the mechanism
    "not a mechanism": (REQUEST.replace("return dp_sgd(", "return print("), "mechanism"),
    "not imported": (REQUEST.replace("    from datasites.mechanisms import dp_sgd\n", ""), "mechanism"),
    "model not defined": (REQUEST.replace("dp_sgd(Flu,", "dp_sgd(nn.Linear,"), "mechanism"),
    "unknown setting": (REQUEST.replace("steps=40", "steps=40, secret=1"), "mechanism"),
    "settings unpacked": (REQUEST.replace("steps=40", "**{}"), "mechanism"),
    "out of range": (REQUEST.replace("steps=40", "steps=0"), "mechanism"),
    "missing setting": (REQUEST.replace(" steps=40,", ""), "mechanism"),
    "too many digits": (REQUEST.replace("epsilon=2.0", "epsilon=" + "9" * 400), "mechanism"),
    "computed setting": (REQUEST.replace("steps=40", "steps=4 * 10"), "literal"),
    "f-string setting": (REQUEST.replace('"binary_cross_entropy"', 'f"cross_entropy"'), "literal"),
    "walrus setting": (REQUEST.replace("steps=40", "steps=(s := 40)"), "literal"),
    "bytes setting": (REQUEST.replace("steps=40", "steps=b'1'"), "literal"),
    "no statistics": (ASKED.format("epsilon=1.0"), "mechanism"),
    "same column twice": (ASKED.format("mean=['a', 'a'], epsilon=1.0"), "mechanism"),
    "duplicate keys": (ASKED.format("quantiles={'a': [0.5], 'a': [0.1]}, epsilon=1.0"), "literal"),
    "crosstab of one": (ASKED.format("crosstab=[('a',)], epsilon=1.0"), "mechanism"),
    "ranks as text": (ASKED.format("quantiles={'a': 'b'}, epsilon=1.0"), "mechanism"),
    # imports
    "import os": (REQUEST.replace("import torch\n", "import torch\n    import os\n"), "import"),
    "import numpy": (REQUEST.replace("import torch\n", "import torch\n    import numpy as np\n"), "import"),
    "star import": (REQUEST.replace("from torch import nn", "from torch import *"), "import"),
    "relative import": (REQUEST.replace("from torch import nn", "from .torch import nn"), "import"),
    "import under another name": (REQUEST.replace("import torch\n", "import torch as math\n"), "import"),
    "relu called sigmoid": (REQUEST.replace("from torch import nn", "from torch import nn, relu as sigmoid"), "import"),
    "torch.load": (REQUEST.replace("from torch import nn", "from torch import nn, load"), "import"),
    "torch.utils": (REQUEST.replace("from torch import nn", "from torch import nn, utils"), "import"),
    "import in forward": (with_forward("import os\nreturn self.a(x)"), "statement"),
    "mechanism renamed": (REQUEST.replace("import dp_sgd", "import dp_sgd as dp_sgd2, dp_sgd"), "import"),
    # classes
    "class decorator": (REQUEST.replace("    class Flu", "    @print\n    class Flu"), "decorator"),
    "metaclass": (REQUEST.replace("(nn.Module)", "(nn.Module, metaclass=type)"), "class"),
    "two bases": (REQUEST.replace("(nn.Module)", "(nn.Module, nn.Linear)"), "class"),
    "no base": (REQUEST.replace("(nn.Module)", ""), "class"),
    "computed base": (REQUEST.replace("(nn.Module)", "(type('X', (), {}))"), "class"),
    "code in the class body": (
        REQUEST.replace("        def __init__", "        print(1)\n        def __init__"),
        "class",
    ),
    "loop in the class body": (
        REQUEST.replace("        def __init__", "        for i in range(3): pass\n        def __init__"),
        "class",
    ),
    "class hides torch": (REQUEST.replace("Flu", "torch"), "shadow"),
    "getattr method": (
        REQUEST.replace("        def forward", "        def __getattr__(self, n): return n\n        def forward"),
        "attribute",
    ),
    "reduce method": (
        REQUEST.replace("        def forward", "        def __reduce__(self): return 1\n        def forward"),
        "attribute",
    ),
    "own parameters method": (
        REQUEST.replace("        def forward", "        def parameters(self): return []\n        def forward"),
        "attribute",
    ),
    "slots": (REQUEST.replace("        def __init__", "        __slots__ = ()\n        def __init__"), "attribute"),
    "method decorator": (REQUEST.replace("        def forward", "        @property\n        def forward"), "decorator"),
    "computed default": (REQUEST.replace("forward(self, x)", "forward(self, x, y=[].append)"), "default"),
    "lambda default": (REQUEST.replace("forward(self, x)", "forward(self, x, y=lambda: 1)"), "default"),
    "computed annotation": (REQUEST.replace("forward(self, x)", "forward(self, x: print(1))"), "annotation"),
    "star arguments": (REQUEST.replace("forward(self, x)", "forward(self, *x)"), "argument"),
    "method without self": (REQUEST.replace("forward(self, x)", "forward(this, x)"), "argument"),
    "self rebound": (with_forward("self = x\nreturn self"), "shadow"),
    # names and attributes
    "eval": (with_forward("return eval('1')"), "name"),
    "open": (with_forward("open('x')\nreturn self.a(x)"), "name"),
    "print": (with_forward("print(x)\nreturn self.a(x)"), "name"),
    "import by name": (with_forward("return __import__('os')"), "name"),
    "getattr": (with_forward("return getattr(self, 'a')(x)"), "name"),
    "setattr": (with_forward("setattr(self, 'b', x)\nreturn self.a(x)"), "name"),
    "type": (with_forward("return type(x)(3)"), "name"),
    "vars": (with_forward("return vars(self)"), "name"),
    "globals": (with_forward("return globals()"), "name"),
    "builtin as a value": (with_forward("f = max\nreturn f(x)"), "name"),
    "module as a value": (with_forward("t = torch\nreturn t.load('x')"), "name"),
    "dunder class": (with_forward("return self.__class__"), "attribute"),
    "dunder dict": (with_forward("return self.a.__dict__"), "attribute"),
    "dunder subclasses": (with_forward("return ().__class__.__base__.__subclasses__()"), "attribute"),
    "super leads away": (with_forward("return super().state_dict()"), "attribute"),
    "torch.save": (with_forward("torch.save(x, 'f')\nreturn self.a(x)"), "attribute"),
    "torch.ops": (with_forward("return torch.ops.aten.relu(x)"), "attribute"),
    "torch.jit": (with_forward("return torch.jit.script(self)"), "attribute"),
    "apply": (with_forward("self.apply(self.a)\nreturn self.a(x)"), "attribute"),
    "state kept": (with_forward("self.last = x\nreturn self.a(x)"), "state"),
    "state kept by a comprehension": (with_forward("return [x for self.last in [x]][0]"), "state"),
    "state kept in a subscript": (with_forward("self.a[0] = x\nreturn self.a(x)"), "state"),
    "state kept by for": (with_forward("for self.last in [x]:\n    pass\nreturn self.a(x)"), "state"),
    "initialiser in forward": (with_forward("nn.init.zeros_(self.a.weight)\nreturn self.a(x)"), "state"),
    "method in place": (with_forward("return self.a(x).random_()"), "attribute"),
    "weights initialised in forward": (with_forward("nn.init.zeros_(self.a.weight)\nreturn self.a(x)"), "state"),
    "data in forward": (with_forward("return self.a(x.data)"), "attribute"),
    "applied in forward": (with_forward("self.apply(self.forward)\nreturn self.a(x)"), "attribute"),
    "registered in forward": (with_forward("self.register_buffer('b', x)\nreturn self.a(x)"), "attribute"),
    "random in forward": (with_forward("return self.a(x) * torch.rand(1)"), "attribute"),
    "without gradients in forward": (with_forward("with torch.no_grad():\n    return self.a(x)"), "statement"),
    "a part's attribute in forward": (with_forward("self.a.weight = x\nreturn self.a(x)"), "attribute"),
    "format method": (with_forward("return '{}'.format(x)"), "attribute"),
    # expressions and statements
    "lambda with a default": (with_forward("return (lambda y=x: y)(x)"), "argument"),
    "lambda that reaches out": (with_forward("return (lambda y: open(y))('f')"), "name"),
    "walrus": (with_forward("return (y := x)"), "expression"),
    "f-string with a format": (with_forward("y = f'{x:>9}'\nreturn self.a(x)"), "expression"),
    "f-string with a nested format": (with_forward("y = f'{x:{x}}'\nreturn self.a(x)"), "expression"),
    "f-string of a representation": (with_forward("y = f'{x!r}'\nreturn self.a(x)"), "expression"),
    "f-string that calls": (with_forward("y = f'{open(0)}'\nreturn self.a(x)"), "name"),
    "yield": (with_forward("yield x"), "expression"),
    "set": (with_forward("return {x}"), "expression"),
    "dict comprehension": (with_forward("return {i: x for i in range(2)}"), "expression"),
    "complex": (with_forward("return self.a(x) * 1j"), "literal"),
    "bytes": (with_forward("return b'x'"), "literal"),
    "try": (with_forward("try:\n    return x\nexcept ValueError:\n    return x"), "statement"),
    "while": (with_forward("while True:\n    pass"), "statement"),
    "with": (with_forward("with torch.no_grad():\n    return x"), "statement"),
    "del": (with_forward("del x"), "statement"),
    "global": (with_forward("global y\nreturn x"), "statement"),
    "assert that calls": (with_forward("assert open('f')\nreturn x"), "name"),
    "raise of a class of its own": (with_forward("raise Flu()"), "statement"),
    "raise from": (with_forward("raise ValueError('a') from KeyError('b')"), "statement"),
    "isinstance of anything": (with_forward("return isinstance(x, object)"), "name"),
    "raise": (with_forward("raise x"), "statement"),
    "match": (with_forward("match x:\n    case _:\n        return x"), "statement"),
    "nested def": (with_forward("def g(y):\n    return y\nreturn g(x)"), "statement"),
    "keywords unpacked": (with_forward("return self.a(**{'input': x})"), "argument"),
    # what constants come to
    "tower of powers": (with_forward("return self.a(x) * 10 ** 10 ** 10"), "size"),
    "power of a variable": (with_forward("n = 7\nreturn self.a(x) * n ** 40_000_000"), "size"),
    "power in place": (with_forward("n = 7\nn **= 10 ** 8\nreturn x"), "size"),
    "power by the sign": (with_forward("return x * (-(3 ** 2)) ** (5 * 1000 + 1)"), "size"),
    "power of a small base": (with_forward("return x * 2 ** 1024"), "size"),
    "shift": (with_forward("return x * (1 << 10 ** 9)"), "size"),
    "shift in place": (with_forward("n = 1\nn <<= 1 << 40\nreturn x"), "size"),
    "product": (with_forward(f"return x * ({2**600} * {2**600})"), "size"),
    "repeated text": (with_forward("y = 'a' * 10 ** 9\nreturn x"), "size"),
    "text repeated by a variable": (with_forward("n = 9\ny = n * 'a'\nreturn x"), "size"),
    "filled-in text": (with_forward("y = '%1000000000d' % 1\nreturn x"), "size"),
    "repeated list": (with_forward("y = [0] * 10 ** 9\nreturn x"), "size"),
    "repeated tuple": (with_forward("y = 1000 * ((1, 2) * 5001)\nreturn x"), "size"),
    "power in a layer": (REQUEST.replace("nn.Linear(10, 1)", "nn.Linear(10, 10 ** 400)"), "size"),
    # text
    "look-alike name": (with_forward("ｘ = x\nreturn self.a(ｘ)"), "unicode"),
    "folded name": (with_forward("return self.a(ſ)"), "unicode"),
    "hidden direction": (REQUEST.replace("Predict", "Pre\u202edict"), "unicode"),
    "zero width": (REQUEST.replace("Predict", "Pre\u200bdict"), "unicode"),
    "form feed": ("\x0c" + REQUEST, "unicode"),
    "carriage return": (REQUEST.replace("    import torch\n", "    import torch\r    import os\n"), "unicode"),
    "null": (REQUEST + "\0", "unicode"),
    "lone surrogate": (REQUEST.replace("Predict", "\ud800"), "unicode"),
    "too long": (REQUEST + "#" * 70_000, "length"),
    "too long a line": (REQUEST.replace("Predict", "P" * 3_000), "length"),
    "too deep": (with_forward("return " + "(" * 30 + "x" + ")" * 30), "depth"),
    "too deep without brackets": (with_forward("return " + "-" * 60 + "x"), "depth"),
    "too many parts": (
        with_forward("\n".join("x=-x" for _ in range(7000))).replace(" " * 12 + "x=", "            x="),
        "length",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_a_finding_of_its_rule(name: str) -> None:
    source, code = REFUSED[name]
    findings = list_findings(source)
    assert code in {each.code for each in findings}, findings
    for each in findings:
        assert each.why
        assert each.instead
        assert len(each.text) <= 120
    with pytest.raises(InspectionFailed):
        inspect_source(source)


@pytest.mark.parametrize(
    "written",
    [
        "x ** 2 * 2 ** 10 / 3 ** 0.5",
        "x * (1 << 20) + 10 ** -3 - 2.0 ** 2000 * 0",
        "x * 1e308 ** 2",
        "torch.cat([x] * 8)",
        "x * (1 // 0 if False else 1)",
        "x ** 500 + 2 ** 500",
        "x * 0 ** 10 ** 9 + 1 ** 10 ** 9",
    ],
)
def test_arithmetic_of_a_model_is_taken(written: str) -> None:
    assert list_findings(with_forward(f"return {written}")) == ()


HOSTILE = {
    "towers": with_forward("\n".join(f"y = {'9**' * 12}9" for _ in range(700))),
    "long powers": with_forward("\n".join(f"y = {'+'.join(['9**300'] * 40)}" for _ in range(200))),
    "brackets": "(" * 60_000,
    "braces": "{" * 20,
    "calls": "f(" * 20 + "!",
    "dictionaries": "{1:" * 20,
    "unary": "x=(" + "-\n" * 30_000 + "1)",
    "not": "x=(" + "not\n" * 12_000 + "1)",
    "attributes": "x=(a" + "\n.a" * 20_000 + ")",
    "sums": "x=(1" + "\n+1" * 20_000 + ")",
    "comparisons": "x=(1" + "\n<1" * 20_000 + ")",
    "lambdas": "x=(" + "lambda:\n" * 7_000 + "1)",
    "conditions": "x=(" + "1 if 1 else\n" * 5_000 + "1)",
    "elif": "if 1: pass\n" + "elif 1: pass\n" * 4_000,
    "indentation": "".join(" " * i + "if 1:\n" for i in range(160)) + " " * 160 + "x",
    "f-strings": "x=f'{1}'\n" * 6_000,
    "decorators": "@a\n" * 20_000 + "def f(): pass",
    "statements": "x\n" * 32_000,
    "backslashes": "\\\n" * 30_000,
    "digits": "x=" + "1" * 60_000,
    "patterns": "match x:\n case " + "A(" * 19 + "!",
    "with": "with (a as b, " * 9 + "!",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_decided_in_bounded_time(name: str) -> None:
    started = time.process_time()  # not of the clock, which runs on while others compute
    assert list_findings(HOSTILE[name])
    assert time.process_time() - started < 2


def test_equal_text_gives_equal_findings_whatever_the_filters_are(recwarn: pytest.WarningsRecorder) -> None:
    source = REQUEST.replace('"""Predict', 'r"""\\d').replace("weights, round):", "weights, round):  # '\\d'")
    assert inspect_source(source) == inspect_source(source)
    assert not recwarn.list


def test_every_allowed_name_exists_in_torch() -> None:
    for path in ALLOWED:
        value = {"torch": torch}.get(path.split(".")[0]) or __import__(path.split(".")[0])
        for part in path.split(".")[1:]:
            value = getattr(value, part)
    lists = {"append", "items", "keys", "values", "zeros_like", "flatten_parameters"}
    assert not {name for name in METHODS - lists if not hasattr(torch.Tensor, name)}


def test_names_that_modules_have_are_reserved() -> None:
    names = {name for name in dir(nn.Module()) if not name.startswith("__")}
    assert names - {"forward"} <= RESERVED


def test_no_list_holds_a_way_out() -> None:
    for word in ("eval", "exec", "open", "getattr", "setattr", "type", "vars", "globals", "compile", "object", "print"):
        assert word not in BUILTINS | METHODS
    for word in ("save", "load", "ops", "jit", "utils", "compile", "hub", "library", "autograd", "func", "cuda"):
        assert f"torch.{word}" not in ALLOWED


@pytest.mark.parametrize("function", ["dp_sgd", "evaluate", "statistics"])
def test_mechanisms_run_only_on_a_datasite(function: str) -> None:
    with pytest.raises(PermissionRefused, match="only on a datasite"):
        _call(function)


def _call(function: str) -> None:
    settings = {"rounds": 1, "epsilon": 1.0}
    if function == "statistics":
        mechanisms.statistics(None, 1, **settings)  # type: ignore[arg-type]
    elif function == "evaluate":
        mechanisms.evaluate(None, None, None, 1, loss="cross_entropy", **settings)  # type: ignore[arg-type]
    else:
        more = {"steps": 1, "sampling_rate": 0.1, "clipping_norm": 1.0, "learning_rate": 1.0}
        mechanisms.dp_sgd(None, None, None, 1, loss="cross_entropy", **settings, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("theirs", "instead"),
    [
        ("max_grad_norm=1.0", "Write clipping_norm=1.0."),
        ("criterion=nn.BCELoss()", 'Write loss="binary_cross_entropy".'),
        ("epochs=3", "Write those two numbers; researcher.Training computes them for you."),
        ("poisson_sampling=True", "Leave it out."),
    ],
)
def test_another_librarys_name_is_a_finding_with_ours(theirs: str, instead: str) -> None:
    (finding,) = list_findings(REQUEST.replace("learning_rate=2.0", f"learning_rate=2.0, {theirs}"))
    assert finding.instead == instead


def test_an_object_of_torch_for_a_setting_is_a_finding_with_its_name() -> None:
    (finding,) = list_findings(REQUEST.replace('loss="binary_cross_entropy"', "loss=nn.BCELoss()"))
    assert finding.instead == 'Write loss="binary_cross_entropy".'


def test_statistics_may_be_of_records_alone_and_a_training_may_not() -> None:
    alone = "def asked(records):\n    from datasites.mechanisms import statistics\n    return statistics(records, {})\n"
    assert inspect_source(alone.format("count=True, epsilon=0.1")).parameters == ("records",)
    assert "mechanism" in codes(alone.format("round, count=True, epsilon=0.1"))
    trained = REQUEST.replace("(records, weights, round):", "(records):")
    assert "mechanism" in codes(trained.replace("Flu, records, weights, round", "Flu, records"))
