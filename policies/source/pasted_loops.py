"""One finding for a request that holds an Opacus loop, with the call that says the same."""

from __future__ import annotations

import ast
import math

from policies.errors import UnsupportedMechanism
from policies.privacy.mechanisms import DPSGD
from policies.source.findings import Findings
from policies.source.opacus_scripts import Script, opacus_call, read_script

PATIENTS = 1000
"""For which the finding computes a sampling rate and steps, as an example: inspection knows of no dataset."""
LONGEST_NAME = 80
LONGEST_CLASS = 2_000


def add_pasted_loop(tree: ast.Module, source: str, findings: Findings) -> bool:
    """Add the one finding where a source makes a model private with Opacus itself. Whether it does."""
    call = opacus_call(tree)
    if call is None:
        return False
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    whole = tree.body == functions[:1]  # a request whose body is the loop; else a script
    script = read_script(functions[0] if whole else tree, source)
    why = "Opacus's loop runs at the hospital already, on one record at a time: a request only declares it."
    findings.add("loop", call, why, _instead(script))
    return True


def _instead(script: Script) -> str:
    if script.refused:
        first = script.refused[0]
        where = f"line {first.line}, `{first.text}`: " if first.line else ""
        return (
            f"Return dp_sgd(Model, records, weights, round, ...). It could not be written for you: {where}{first.why}."
        )
    try:
        text = dp_sgd_call(script, PATIENTS)
    except (UnsupportedMechanism, OverflowError) as error:
        return f"Return dp_sgd(Model, records, weights, round, ...). It could not be written for you: {error}"
    batch, epochs = script.settings["batch_size"], script.settings["epochs"]
    made = script.classes[-1][1] if script.made else ""
    kept = (
        f"Write the model as\n\n{made}\nand" if made and len(made) <= LONGEST_CLASS else "Keep the model's class, and"
    )
    return (
        f"{kept} in place of the loop write `{text}`. That is for {PATIENTS:,} patients in"
        f" training: sampling_rate is {batch} / patients, and steps is {epochs} / sampling_rate."
    )


def dp_sgd_call(script: Script, patients: int) -> str:
    """The statement that declares what a script does, for so many patients. Raises `UnsupportedMechanism`."""
    settings = dict(script.settings)
    epochs, batch_size = settings.pop("epochs"), settings.pop("batch_size")
    DPSGD(**settings, rounds=1, steps=1, sampling_rate=1.0)  # its numbers are in range
    rate = min(1.0, batch_size / patients) if batch_size > 0 else 0.0
    steps = math.ceil(epochs * math.ceil(1 / rate)) if rate else 0
    declared = DPSGD(**settings, rounds=1, steps=steps, sampling_rate=rate)
    written = {"loss": declared.loss, "rounds": 1, "steps": steps, "sampling_rate": rate, **settings}
    shown = ", ".join(f"{name}={_literal(value)}" for name, value in written.items())
    name = script.model if len(script.model) <= LONGEST_NAME else "Model"
    return f"return dp_sgd({name}, records, weights, round, {shown})"


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
