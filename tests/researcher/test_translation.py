"""An Opacus script or notebook becomes a study's file, which makes that study; what it has no words for is refused."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from typer.testing import CliRunner

import researcher
from policies.errors import InvalidRequest
from researcher.__main__ import app
from researcher.translation import translate

SCRIPTS = Path(__file__).resolve().parents[1] / "policies" / "source" / "scripts"
CLASSIFIER = SCRIPTS / "image_classifier.py"


def notebook(path: Path, *cells: str) -> Path:
    made = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": ["# Title"]}, *made]}))
    return path


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_the_file_makes_the_study_that_the_script_stood_for(script, network, tmp_path, monkeypatch):
    monkeypatch.setattr(researcher, "connect", lambda path: network)
    monkeypatch.chdir(tmp_path)
    found = translate(script, dataset="flu")
    assert found.refused == ()
    (tmp_path / "study.py").write_text(found.study)
    study = runpy.run_path(str(tmp_path / "study.py"))["study"]
    assert isinstance(study, researcher.Study)
    assert study.training.loss == "cross_entropy"
    assert study.name == script.stem.replace("_", "-")
    # 800 patients train at the smallest hospital; batches are the script's there.
    batch = {"image_classifier": 64, "minimal": 32, "options": 128}[script.stem]
    assert study.training.sampling_rate == batch / 800


def test_nothing_of_the_script_is_run(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("open('ran', 'w')\n" + CLASSIFIER.read_text() + "\nraise SystemExit('ran')\n")
    translate(script, dataset="flu")
    assert not (tmp_path / "ran").exists()
    assert not Path("ran").exists()


def test_a_notebook_is_read_by_cells_without_its_magics(tmp_path):
    text = CLASSIFIER.read_text()
    half = text.index("device = ")
    path = notebook(tmp_path / "tutorial.ipynb", "%pip install opacus", "# read\n" + text[:half], text[half:])
    found = translate(path, dataset="flu")
    assert found.refused == ()
    assert found.notes[0] == "cell 1, line 1: `%pip install opacus`: it is no Python, and not needed"
    assert any(note.startswith("cell 3, line 1: `device = ") for note in found.notes)
    broken = notebook(tmp_path / "broken.ipynb", text.replace("optim.SGD", "optim.LBFGS"))
    refused = translate(broken, dataset="flu").refused
    assert "cell 1, line 36: `optim.LBFGS(" in refused[0]


def test_what_inspection_has_against_the_model_stands_at_the_scripts_line(tmp_path):
    script = tmp_path / "script.py"
    text = CLASSIFIER.read_text().replace("nn.Linear(20, 32)", "nn.BatchNorm1d(20)")
    script.write_text(text)
    (refused,) = translate(script, dataset="flu").refused
    line = next(number for number, row in enumerate(text.split("\n"), start=1) if "BatchNorm1d" in row)
    assert refused.startswith(f"line {line}: `nn.BatchNorm1d`:")
    assert "GroupNorm" in refused


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("script.py", b"def f(:\n", "line 1: invalid syntax"),
        ("script.py", b"\xff\xfe", "is not text in UTF-8"),
        ("book.ipynb", b"[]", "is no notebook that can be read"),
        ("book.ipynb", b"[" * 100_000, "is no notebook that can be read"),
        ("script.py", b"(" * 5_000, "Mend it"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidRequest) as refused:
        translate(path, dataset="flu")
    assert said in str(refused.value)


def test_hidden_characters_of_a_script_are_shown_by_name(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(CLASSIFIER.read_text() + "\nx = 'a\u202eb'; x.foo()\n")
    assert not any("\u202e" in note for note in translate(script, dataset="flu").notes)


def test_the_command_writes_a_file_once_and_says_what_it_left_out(tmp_path):
    output = tmp_path / "study.py"
    command = ["translate", str(CLASSIFIER), "--dataset", "flu", "--output", str(output)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert 'cohort = network.dataset("flu")' in output.read_text()
    assert "Left out, line 29: `device = " in done.output
    assert isinstance(CliRunner().invoke(app, command).exception, InvalidRequest)


def test_the_command_writes_nothing_where_a_line_is_refused(tmp_path):
    script, output = tmp_path / "script.py", tmp_path / "study.py"
    script.write_text(CLASSIFIER.read_text().replace("optim.SGD", "optim.RMSprop"))
    done = CliRunner().invoke(app, ["translate", str(script), "--dataset", "flu", "--output", str(output)])
    assert isinstance(done.exception, InvalidRequest)
    assert "Not known, line 36: `optim.RMSprop(" in done.output
    assert not output.exists()
