"""Opacus scripts are read as what they train, line by line, and never run; what has no counterpart is refused there."""

from __future__ import annotations

import ast
import random
import time
from pathlib import Path
from typing import Any

import pytest

from policies.source.inspection import inspect_source, list_findings
from policies.source.opacus_scripts import Script, read_script

SCRIPTS = Path(__file__).parent / "scripts"
CLASSIFIER = (SCRIPTS / "image_classifier.py").read_text(encoding="utf-8")
MINIMAL = (SCRIPTS / "minimal.py").read_text(encoding="utf-8")
OPTIONS = (SCRIPTS / "options.py").read_text(encoding="utf-8")
LOSS = "        loss = criterion(output, target)\n"


def read(text: str) -> Script:
    return read_script(ast.parse(text), text)


@pytest.mark.parametrize(
    ("text", "model", "settings"),
    [
        (
            CLASSIFIER,
            "Net",
            {"loss": "cross_entropy", "epochs": 3, "batch_size": 64, "clipping_norm": 1.2, "epsilon": 5.0,
             "delta": 1e-5, "optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9},
        ),
        (
            MINIMAL,
            "Model",
            {"loss": "cross_entropy", "epochs": 1, "batch_size": 32, "clipping_norm": 1.0, "noise_multiplier": 1.1,
             "delta": 1e-5, "optimizer": "sgd", "learning_rate": 0.05},
        ),
        (
            OPTIONS,
            "SampleConvNet",
            {"loss": "cross_entropy", "epochs": 4, "batch_size": 128, "clipping_norm": 1.5, "noise_multiplier": 1.3,
             "delta": 1e-6, "optimizer": "adam", "learning_rate": 0.1},
        ),
    ],
    ids=["classifier", "minimal", "options"],
)  # fmt: skip
def test_a_tutorial_is_its_model_and_its_numbers(text: str, model: str, settings: dict[str, Any]) -> None:
    script = read(text)
    assert script.refused == []
    assert (script.model, script.settings) == (model, settings)


@pytest.mark.parametrize("text", [CLASSIFIER, MINIMAL, OPTIONS], ids=["classifier", "minimal", "options"])
def test_nothing_of_a_script_goes_missing_in_silence(text: str) -> None:
    """Each statement is in the study's text, is a setting or a step of our loop, or has a note at its line."""
    script, tree = read(text), ast.parse(text)
    noted = {remark.line for remark in script.notes}
    kept = {first + row for first, own in script.classes for row in range(own.count("\n"))}
    settings = (ast.ClassDef, ast.FunctionDef, ast.Return, ast.For)
    ours = "zero_grad() step() backward() main() train( losses=[] top1_acc=[]".split()
    made = ("import torch", "from torch import", "model = ", "optimizer = ", "criterion = ", "output = ", "loss = ")
    covered = set(kept)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and node.lineno in noted and not ast.unparse(node).startswith("with Batch"):
            covered |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt) or isinstance(node, settings) or node.lineno in covered:
            continue
        line = ast.unparse(node)
        constant = isinstance(node, ast.Assign | ast.Expr) and isinstance(node.value, ast.Constant)
        compound = isinstance(node, ast.With | ast.If) and ("BatchMemory" in line or "__name__" in line)
        assert constant or compound or line.startswith(made) or any(word in line.replace(" ", "") for word in ours), (
            line
        )


BACKWARD = "        loss.backward()\n"
STEP = "        optimizer.step()\n"
HERE = "criterion = nn"  # before it, something is done to the model


@pytest.mark.parametrize(
    ("before", "after", "at", "why"),
    [
        (LOSS, LOSS + "        loss = loss + model.fc1.weight.norm()\n", "loss = loss +", "more than one loss"),
        (LOSS, LOSS.replace("output,", "output * 2,"), "output * 2", "`output * 2` changes a batch"),
        ("images = images.to(device)", "images = images / 255", "images / 255", "write it into forward"),
        (BACKWARD, "        if i % 2:\n            loss.backward()\n", "for i, (images", "neither one of epochs"),
        (STEP, STEP + "        scheduler.step()\n", "scheduler.step()", "a schedule"),
        (STEP, "        if i % 2 == 0:\n            optimizer.step()\n", "for i, (images", "step() once"),
        ("        optimizer.zero_grad()\n", "", "for i, (images", "zero_grad() once"),
        ("Loss()\n\nprivacy", "Loss(label_smoothing=0.1)\n\nprivacy", "label_smoothing", "label_smoothing"),
        ("optim.SGD(model.parameters(), lr=LR, momentum=0.9)", "optim.AdamW(model.parameters())", "AdamW(", "AdamW"),
        ("    epochs=EPOCHS,\n", "    clipping='per_layer',\n", "make_private_with", "clipping='per_layer' has no"),
        (HERE, f"model.load_state_dict(torch.load('w.pt'))\n{HERE}", "load_state_dict", "weights from elsewhere"),
        (HERE, f"for p in model.parameters():\n    p.requires_grad = False\n{HERE}", "for p in", "it changes what"),
        (HERE, f"with torch.no_grad():\n    for p in model.parameters():\n        p.add_(1)\n{HERE}", "with torch.no",
         "what add_ does"),
        (HERE, f"w = model.fc1.weight\nw.data.zero_()\n{HERE}", "w.data.zero_", "what zero_ does"),
        (HERE, f"def f(net):\n    net.half()\nf(model)\n{HERE}", "net.half()", "what half does"),
        (HERE, f"model.apply(weights)\n{HERE}", "model.apply", "initialise weights in the model's __init__"),
        (HERE, f"nn.init.zeros_(model.fc1.weight)\n{HERE}", "zeros_(", "what zeros_ makes"),
        (HERE, f"sched = optim.lr_scheduler.StepLR(optimizer, 1)\n{HERE}", "StepLR", "a schedule"),
        ("tqdm(range(EPOCHS)", "tqdm(range(epochs_of(model))", "epochs_of", "is not written as a plain value"),
        ("BATCH_SIZE = 64", "BATCH_SIZE = int(input())", "batch_size=BATCH_SIZE", "is not written as a plain value"),
        ("class Net(nn.Module):", "@wrapped\nclass Net(nn.Module):", "class Net", "a decorator may replace"),
    ],
)  # fmt: skip
def test_what_changes_the_training_is_refused_at_its_line(before: str, after: str, at: str, why: str) -> None:
    assert before in CLASSIFIER
    changed = CLASSIFIER.replace(before, after, 1)
    line = next(number for number, text in enumerate(changed.split("\n"), start=1) if at in text)
    refused = read(changed).refused
    assert line in [remark.line for remark in refused if why in remark.why], refused


def test_a_part_of_the_model_alone_is_refused() -> None:
    changed = CLASSIFIER.replace("optim.SGD(model.parameters()", "optim.SGD([model.fc2.weight]")
    assert "it trains a part of the model" in str(read(changed).refused)


def test_a_script_that_is_none_says_what_it_lacks() -> None:
    said = " ".join(remark.why for remark in read("x = 1\n").refused)
    for part in ("make_private", "a model", "a loop of batches", "the loss", "the optimizer", "a DataLoader"):
        assert part in said


def test_inspection_of_a_pasted_loop_is_one_finding_whose_text_passes() -> None:
    request = "def flu(records, weights, round):\n" + "".join(
        f"    {line}\n" if line else "\n" for line in CLASSIFIER.split("\n")
    )
    for source in (request, CLASSIFIER):
        (finding,) = list_findings(source)
        assert finding.code == "loop"
        (call,) = [part for part in finding.instead.split("`") if part.startswith("return dp_sgd(")]
        net = CLASSIFIER[CLASSIFIER.index("class Net") : CLASSIFIER.index("device =")]
        mended = "def flu(records, weights, round):\n    import torch.nn as nn\n    import torch.nn.functional as F\n"
        mended += "    from datasites.mechanisms import dp_sgd\n\n"
        mended += "".join(f"    {line}\n" if line else "\n" for line in net.split("\n")) + f"    {call}\n"
        mechanism = inspect_source(mended).mechanism
        # 3 passes of 1,000 patients in batches of 64: 16 steps a pass.
        assert (mechanism.steps, mechanism.sampling_rate, mechanism.epsilon) == (48, 0.064, 5.0)  # type: ignore[union-attr]


def test_a_pasted_loop_of_layers_is_given_its_class() -> None:
    (finding,) = list_findings(MINIMAL)
    assert "class Model(nn.Sequential):" in finding.instead


def test_a_pasted_loop_that_has_no_counterpart_says_which_line() -> None:
    (finding,) = list_findings(CLASSIFIER.replace("optim.SGD", "optim.RMSprop"))
    assert "line 36, `optim.RMSprop(model.parameters(), lr=LR, momentum=0.9)`: optimizer='RMSprop'" in finding.instead


def test_broken_scripts_are_findings_and_never_faults() -> None:
    """Lines deleted, doubled and exchanged at random: reading ends with findings, in bounded time."""
    draw = random.Random(5)
    started = time.process_time()
    for text in (CLASSIFIER, MINIMAL, OPTIONS):
        for _ in range(150):
            lines = text.split("\n")
            for _ in range(draw.randint(1, 6)):
                place = draw.randrange(len(lines))
                match draw.randrange(3):
                    case 0:
                        del lines[place]
                    case 1:
                        lines.insert(place, draw.choice(lines))
                    case _:
                        words = ("model", "loss", "lr", "64", "'x'", "*a", "None", "criterion", "0", "10**9", "[]")
                        cut = lines[place].split(" ")
                        cut[draw.randrange(len(cut))] = draw.choice(words)
                        lines[place] = " ".join(cut)
            assert list_findings("\n".join(lines)) is not None
    assert time.process_time() - started < 60


def test_long_chains_of_names_take_no_time() -> None:
    """Constants that double along a chain, and names that are bound in a row: linear work, whatever they hold."""
    doubling = "\n".join(f"a{number} = a{number + 1} + a{number + 1}" for number in range(400))
    chain = "\n".join(f"b{number} = b{number + 1}" for number in range(1500))
    text = f"{doubling}\na400 = 1\n{chain}\nb1500 = model\n" + MINIMAL.replace("lr=0.05", "lr=a0")
    started = time.process_time()
    assert list_findings(text)
    assert time.process_time() - started < 2
