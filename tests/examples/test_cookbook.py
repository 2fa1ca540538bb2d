"""Every block of the cookbook runs, in order, as one program against a real datasite with the demonstration's rows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.reading import code
from tests.examples.test_examples import ROOT, desk, run

__all__ = ["desk"]
COOKBOOK = ROOT / "docs" / "cookbook.md"


def test_the_cookbook_runs_as_it_stands(desk: Path) -> None:
    text = COOKBOOK.read_text(encoding="utf-8")
    blocks = [content for language, content in code(text) if language == "python"]
    assert len(blocks) >= 9
    (desk / "cookbook.py").write_text("\n\n".join(blocks))
    said = run(desk, "cookbook.py")
    assert "mean/temperature" in said or "temperature" in said
    assert "1 round" in said
    assert (desk / "cookbook-result" / "weights.safetensors").exists()
    assert "<Study 'cookbook-secureml' on 'flu'" in said
    assert "self.dense1 = nn.Linear(10, 8)" in said


def test_every_idiom_has_an_answer() -> None:
    """Each heading is a line of a tutorial, in code, and below it stands a block, a table or a sentence."""
    text = COOKBOOK.read_text(encoding="utf-8")
    sections = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    assert len(sections) >= 13
    for section in sections:
        heading, _, body = section.partition("\n")
        assert "`" in heading
        assert len(body.partition("## ")[0].split()) > 12, heading
    for library in ("PySyft", "Opacus", "Flower", "SecureML", "PyDP", "PipelineDP", "TensorFlow"):
        assert library in text


def test_pysyfts_lines_of_the_cookbook_are_those_that_kernels_run() -> None:
    """Each call in the first column of its table stands in the notebooks' test, by the method that it calls."""
    text = COOKBOOK.read_text(encoding="utf-8")
    ran = (ROOT / "tests" / "e2e" / "test_notebooks.py").read_text(encoding="utf-8")
    table = text[text.index("| PySyft's line | here |") : text.index("The same request, without PySyft")]
    lines = [line for row in table.splitlines()[2:] for line in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    assert len(lines) >= 20
    elsewhere = (
        "sy.orchestra",
        "request.deny",
        "client.register",
        "client.settings.update",
    )  # tests/e2e, tests/attacks
    for line in lines:
        if not line.startswith(elsewhere):
            called = re.split(r"[(\[]", line)[0]
            assert called in ran, line
