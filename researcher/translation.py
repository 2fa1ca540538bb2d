"""An Opacus script or notebook as the file of a study, with what was left out and what could not be said.

The script is read as a syntax tree (`policies.source.opacus_scripts`); nothing of it is run. What comes out passes the
inspection of every request, so it need not be trusted.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.errors import InvalidRequest, UnsupportedMechanism
from policies.python_trees import parsed
from policies.source.inspection import list_findings
from policies.source.opacus_scripts import Remark, Script, read_script
from policies.source.pasted_loops import PATIENTS, dp_sgd_call
from policies.text import visible
from researcher.sources import function_name

LARGEST = 4 << 20  # bytes of a file
_ORDER = (
    "loss epochs batch_size clipping_norm epsilon noise_multiplier delta optimizer learning_rate momentum weight_decay"
    " class_weights huber_delta"
).split()


@dataclass(frozen=True)
class Translation:
    """What became of a script.

    Args:
      study: the text of the study's file; "" where something was refused.
      notes: what is left out, a line of text each, as "line 12: `device = ...`: the hospital chooses ...".
      refused: what has no counterpart, in the same form.
    """

    study: str
    notes: tuple[str, ...]
    refused: tuple[str, ...]


def translate(path: Path, *, dataset: str, network: str = "network.toml", name: str | None = None) -> Translation:
    """Read an Opacus script, or a notebook of one, into the file of a study. Nothing of it is run.

    Args:
      dataset: the published dataset that takes the place of the script's own data.
      network: the file that names the hospitals.
      name: of the study; None for the file's own.

    Raises:
      InvalidRequest: the file cannot be read as Python or as a notebook.
    """
    text, places, dropped = _read(path)
    try:
        tree = parsed(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 0
        reason = getattr(error, "msg", None) or "it is nested too deeply"
        raise InvalidRequest(f"{path}, {_place(places, line)}: {reason}. Mend it, and translate it again.") from None
    script = read_script(tree, text)
    if not script.refused:
        script.refused += _findings(script)
    notes = tuple(dict.fromkeys([*dropped, *(_said(places, remark) for remark in script.notes)]))
    refused = tuple(_said(places, remark) for remark in script.refused)
    named = name if name is not None else path.stem
    study = "" if refused else _study(script, function_name(named).replace("_", "-"), path.name, dataset, network)
    return Translation(study, notes, refused)


def _read(path: Path) -> tuple[str, list[str], list[str]]:
    """A script's text, what to call each of its lines, and lines of a notebook that are no Python."""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is not text in UTF-8. Save it so.") from None
    if len(raw) > LARGEST:
        raise InvalidRequest(f"{path} has {len(raw):,} bytes, above {LARGEST:,}. Clear the notebook's outputs.")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if path.suffix != ".ipynb":
        return text, [f"line {number}" for number in range(1, text.count("\n") + 2)], []
    lines: list[str] = []
    places: list[str] = []
    dropped: list[str] = []
    for number, cell in enumerate(_code_cells(path, text), start=1):
        for row, line in enumerate(cell.split("\n"), start=1):
            place = f"cell {number}, line {row}"
            magic = line.lstrip()[:1] in ("%", "!", "?")
            if magic:
                dropped.append(f"{place}: `{visible(line.strip()[:80])}`: it is no Python, and not needed")
            lines.append("" if magic else line)
            places.append(place)
    return "\n".join(lines), places, dropped


def _code_cells(path: Path, text: str) -> list[str]:
    try:
        cells = json.loads(text)["cells"]
        sources = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
        return ["".join(source) if isinstance(source, list) else str(source) for source in sources]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise InvalidRequest(f"{path} is no notebook that can be read. Save it again, or give a script.") from None


def _place(places: list[str], line: int) -> str:
    return places[line - 1] if 1 <= line <= len(places) else "the whole of it"


def _said(places: list[str], remark: Remark) -> str:
    text = f" `{visible(remark.text)}`:" if remark.text else ""
    return f"{_place(places, remark.line)}:{text} {visible(remark.why)}"


def _findings(script: Script) -> list[Remark]:
    """What the inspection of requests has against the model, at the script's own lines."""
    try:
        call = dp_sgd_call(script, PATIENTS)
    except (UnsupportedMechanism, OverflowError) as error:
        return [Remark(0, "", str(error))]
    lines = ["def study(records, weights, round):", "    from datasites.mechanisms import dp_sgd"]
    lines += [f"    {line}" for line in _imports(script)]
    own = [0] * len(lines)
    for first, text in script.classes:
        written = ["", *text.rstrip("\n").split("\n")]
        lines += [f"    {line}" if line else "" for line in written]
        own += [first + number - 1 for number in range(len(written))]
    source = "\n".join([*lines, "", f"    {call}", ""])
    return [
        Remark(
            own[finding.line - 1] if 0 < finding.line <= len(own) else 0,
            finding.text,
            f"{finding.why} {finding.instead}",
        )
        for finding in list_findings(source)
    ]


def _imports(script: Script) -> list[str]:
    """The script's imports of torch that its model uses."""
    used = {node.id for _, text in script.classes for node in ast.walk(parsed(text)) if isinstance(node, ast.Name)}
    kept = []
    for line in script.imports:
        node = parsed(line).body[0]
        assert isinstance(node, ast.Import | ast.ImportFrom)
        names = [alias for alias in node.names if (alias.asname or alias.name.partition(".")[0]) in used]
        if names:
            node.names = names
            kept.append(ast.unparse(node))
    return kept


def _study(script: Script, name: str, origin: str, dataset: str, network: str) -> str:
    settings = {key: script.settings[key] for key in _ORDER if key in script.settings}
    declared = "".join(f"    {key}={_literal(value)},\n" for key, value in settings.items())
    imports = "\n".join(sorted({*_imports(script)}))
    classes = "\n\n".join(text.rstrip("\n") + "\n" for _, text in script.classes)
    origin = re.sub(r"[^\w. -]", "_", origin)
    head = f'"""A study, translated from {origin} by `researcher translate`."""'
    return (
        f"{head}\n\n{imports}\n\nimport researcher\n\n\n{classes}\n\n"
        f"network = researcher.connect({_literal(network)})\n"
        f"cohort = network.dataset({_literal(dataset)})\n"
        f"training = researcher.Training(\n{declared})\n"
        f"study = researcher.Study({_literal(name)}, cohort, {script.model}, training)\n\n"
        + textwrap.dedent(
            """\
            if __name__ == "__main__":
                print(study.check())  # what the owners will see, and what it costs at each hospital; asks for nothing
                print(study.submit())
                print(study.wait_for_approval())
                result = study.run()
                print(result)
            """
        )
    )


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
