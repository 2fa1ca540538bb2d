"""The corpus as data: each payload is a file that says what it tries and what must happen, and then tries it.

A file lies at `corpus/CATEGORY/NAME.py` and begins with a header that this module reads:

    # tries: Read a file of the hospital by its path.
    # must: inspection name

`must` is what has to happen on our side:

    inspection CODE   the text is refused with a finding of that code, and does no harm in the exporter either
    exporter          the text may pass inspection; it leaves the exporter as no graph
    harmless          it may even become a graph, which reaches nothing
    refused           a function `attack(target)` of ours, run by the tests, that must return nothing; the category says
                      what the target is: a signed-in attacker's `Site`, a ledger's path, or a runner

Below the header stands the inside of a code request (imports and classes, the last of them `Model`), or a whole
request `def attack(records, weights, round)`, or for `refused` the function. Words in capitals stand for what the
attack aims at (`witnesses.py`); nothing aims at anything else.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).with_name("corpus")
OUTCOMES = ("inspection", "exporter", "harmless", "refused")
TITLES = {
    "files": "files",
    "environment": "environment",
    "sockets": "sockets",
    "dns": "DNS",
    "subprocess": "subprocess",
    "ctypes": "ctypes",
    "proc": "/proc",
    "frames": "frames and gc",
    "imports": "import hooks",
    "pickles": "pickles",
    "torch_load": "torch.load",
    "custom_ops": "custom operators",
    "autograd": "hooks on autograd",
    "weights": "weights as a channel",
    "logs": "logs",
    "errors": "errors",
    "timing": "timing",
    "resources": "resource bombs",
    "inspection": "inspection bypass",
    "guard": "guard bypass",
    "ledger": "ledger bypass",
}
HONEST = "honest"

_MECHANISM = "    from datasites.mechanisms import dp_sgd\n"
_RETURN = (
    '    return dp_sgd(Model, records, weights, round, loss="cross_entropy", rounds=1, steps=1, sampling_rate=0.1,\n'
    "                  clipping_norm=1.0, epsilon=1.0, learning_rate=1.0)\n"
)
# What a researcher on a stock server writes instead: one step of training there, and the model's state comes back, or
# what went wrong.
_STOCK_RETURN = "model = Model()\nmodel(records[:4, :4].float()).sum().backward()\nreturn dict(model.state_dict())\n"


@dataclass(frozen=True)
class Payload:
    """One file of the corpus.

    Args:
      must: the outcome, and after it the code of the finding where there is one.
      shape: of one record, for the exporter.
    """

    category: str
    name: str
    tries: str
    must: tuple[str, ...]
    body: str
    header: Mapping[str, str] = field(compare=False)

    @property
    def id(self) -> str:
        return f"{self.category}/{self.name}"

    @property
    def is_text(self) -> bool:
        """Whether it is a researcher's text, rather than a function that attacks from outside."""
        return self.must[0] != "refused"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(each) for each in self.header.get("shape", "4").split())

    @cached_property
    def is_whole(self) -> bool:
        """Whether the text is a whole request, rather than the inside of one."""
        return re.search(r"^(async )?def attack\(", self.body, re.MULTILINE) is not None

    def request(self, aims: Mapping[str, object]) -> str:
        """The code request as a researcher submits it."""
        if self.is_whole:
            return aimed(self.body, aims)
        inside = textwrap.indent(aimed(self.body, aims), "    ")
        return f"def attack(records, weights, round):\n{_MECHANISM}{inside}\n{_RETURN}"

    def unchecked(self, aims: Mapping[str, object]) -> str:
        """What an exporter would run if inspection let everything through."""
        body = aimed(self.body, aims)
        return f"{body}\n\nattack(None, None, 1)\n" if self.is_whole else body

    def stock(self, aims: Mapping[str, object]) -> str:
        """The same attack in a request to a stock server, where the function itself trains the model."""
        if not self.is_whole:
            inside = textwrap.indent(aimed(self.body, aims) + _STOCK_RETURN, "        ")
            caught = "    except Exception as error:\n        return {'error': str(error)}\n"
            return f"def {self.name}(records, weights=None, round=1):\n    try:\n{inside}{caught}"
        text = re.sub(r"^ +from datasites\.mechanisms import .*\n", "", self.request(aims), flags=re.MULTILINE)
        ending = textwrap.indent(_STOCK_RETURN, "    ")
        text = re.sub(r"^    return dp_sgd\(Model,[\s\S]*\Z", lambda _: ending, text, flags=re.MULTILINE)
        return _for_stock(text, self.name)

    def function(self) -> Any:
        """The `attack` of a payload that is run by the tests."""
        scope: dict[str, Any] = {"__name__": f"corpus.{self.category}.{self.name}"}
        exec(compile(self.body, str(CORPUS / self.category / f"{self.name}.py"), "exec"), scope)
        return scope["attack"]

    def stock_text(self, aims: Mapping[str, object]) -> str | None:
        """Of a payload that attacks a runner: `STOCK`, the same attack as a stock request, where there is one."""
        for node in ast.parse(self.body).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STOCK":
                return aimed(_for_stock(ast.literal_eval(node.value), self.name), aims)
        return None


def _for_stock(text: str, name: str) -> str:
    """Under a name of its own, with `records` as the one argument that a caller gives."""
    return re.sub(r"\bdef attack\(records, weights, round", f"def {name}(records, weights=None, round=1", text)


def aimed(text: str, aims: Mapping[str, object]) -> str:
    """The text with its words in capitals replaced by literals."""
    if not aims:
        return text
    words = "|".join(sorted(aims, key=len, reverse=True))
    return re.sub(rf"\b({words})\b", lambda found: literal(aims[found.group()]), text)


def literal(value: object) -> str:
    """A value as Python writes it; texts in two pieces, so that a quoted source does not look like a success."""
    if isinstance(value, str):
        half = len(value) // 2
        return f"{value[:half]!r} {value[half:]!r}"
    return f"({value!r})"


def read(path: Path) -> Payload:
    """The payload of a file. Raises `ValueError` where its header is not as this module says."""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    header: dict[str, str] = {}
    lines = text.split("\n")
    while lines and (found := re.fullmatch(r"# (\w+): (.+)", lines[0])):
        header[found.group(1)] = found.group(2).strip()
        lines.pop(0)
    must = tuple(header.get("must", "").split())
    if not header.get("tries") or not must or must[0] not in OUTCOMES:
        raise ValueError(f"{path} does not say what it tries and what must happen.")
    body = "\n".join(lines)
    if header.get("written") == "escaped":  # characters that a file should not hold
        body = body.encode().decode("unicode_escape")
    return Payload(path.parent.name, path.stem, header["tries"], must, body, header)


def payloads(*categories: str) -> list[Payload]:
    """Every payload, in the order of `TITLES`; or those of some categories."""
    chosen = categories or tuple(TITLES)
    return [read(path) for category in chosen for path in sorted((CORPUS / category).glob("*.py"))]


def cases(*categories: str) -> dict[str, Payload]:
    """Payloads by `category/name`."""
    return {each.id: each for each in payloads(*categories)}
