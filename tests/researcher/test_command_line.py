"""Every command has help, does one thing with the study that a file makes, and fails in one line."""

from __future__ import annotations

import sys
import warnings

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from policies.errors import InvalidRequest
from researcher import __main__ as command_line
from tests.researcher.flower_server import ServerProcess

STUDY = """
import researcher
from tests.researcher import test_command_line
from torch import nn

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.output = nn.Linear(2, 1)

    def forward(self, x):
        return self.output(x).sigmoid()

study = researcher.Study(
    "small", test_command_line.NETWORK.dataset("flu"), Small,
    researcher.Training(loss="binary_cross_entropy", rounds=2, steps=1, sampling_rate=0.1, clipping_norm=1.0,
                        epsilon=1.0, learning_rate=1.0),
    state=test_command_line.STATE, progress=False,
)
"""
NETWORK = STATE = None


@pytest.fixture
def study_file(tmp_path, network, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "NETWORK", network)
    monkeypatch.setattr(sys.modules[__name__], "STATE", tmp_path / "state")
    path = tmp_path / "study.py"
    path.write_text(STUDY)
    return path


def _run(*arguments):
    return CliRunner().invoke(command_line.app, [str(each) for each in arguments], catch_exceptions=False)


@pytest.mark.parametrize("command", sorted(get_command(command_line.app).commands))
def test_every_command_has_help(command):
    answer = _run(command, "--help")
    assert answer.exit_code == 0
    assert get_command(command_line.app).commands[command].help


def test_a_study_goes_from_check_to_result_on_the_command_line(study_file, tmp_path):
    assert "general" in _run("check", study_file).output
    assert "def small(records, weights, round):" in _run("source", study_file).output
    assert "approved" in _run("submit", study_file).output
    assert "approved" in _run("wait", study_file, "--timeout", 5).output
    assert "2 rounds, 6 releases" in _run("run", study_file, "--save", tmp_path / "out").output
    assert (tmp_path / "out" / "weights.safetensors").exists()
    assert "2/2" in _run("status", study_file).output
    assert "2 rounds" in _run("resume", study_file).output
    assert "withdrawn" in _run("withdraw", study_file).output


def test_verify_checks_each_file_with_the_release_beside_it(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "policies.release.certificates.verify",
        lambda text, *, public_key, release: seen.append((text, public_key, release)),
        raising=False,
    )
    monkeypatch.setattr("policies.release.certificates.explain", lambda certificate: ("In plain words.",))
    (tmp_path / "a.certificate.json").write_text("{}")
    (tmp_path / "a.safetensors").write_bytes(b"tensors")
    (tmp_path / "b.certificate.json").write_text("{ }")
    output = _run(
        "verify", tmp_path / "a.certificate.json", tmp_path / "b.certificate.json", "--public-key", "ab"
    ).output
    assert seen == [("{}", "ab", b"tensors"), ("{ }", "ab", None)]
    assert "a.certificate.json: valid, and its release a.safetensors" in output
    assert "b.certificate.json: valid, (its release is not beside it)" in output
    assert output.count("  In plain words.\n") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "makes 0 studies"),
        (None, "is not a file"),
        ("x = 1\nimport no_such_module", r"study.py, line 2: ModuleNotFoundError: .* Mend the file\."),
        ("import researcher\n\nresearcher.Training(round=5)", r"study.py, line 3: TypeError: .*'round'"),
        ("x = (", r"study.py, line 1: SyntaxError"),
    ],
)
def test_a_file_without_a_study_is_refused(tmp_path, text, message):
    path = tmp_path / "study.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidRequest, match=message):
        command_line.load_study(path)


def test_status_before_submitting_says_what_to_do(study_file):
    assert "Not submitted yet. `researcher submit" in _run("status", study_file).output


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys):
    def interrupted():
        raise SystemExit(command_line.INTERRUPTED)

    monkeypatch.setattr(command_line, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == command_line.INTERRUPTED
    assert capsys.readouterr().err == (
        "Interrupted. `researcher resume` goes on with a study; nothing is paid for twice.\n"
    )


def test_a_warning_is_one_line_without_the_source(monkeypatch, capsys):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(sys, "argv", ["researcher", "--help"])
    with pytest.raises(SystemExit):
        command_line.main()
    assert warnings.formatwarning("rural does not answer", UserWarning, "f.py", 1) == "Warning: rural does not answer\n"


def test_our_errors_are_one_line_and_status_one(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["researcher", "status", str(tmp_path / "none.py")])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("Error: ")


FLOWER_APP = """
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from torch import nn
app = ServerApp()

@app.main()
def main(grid, context):
    model = nn.Sequential()
    model.add_module("output", nn.Linear(2, 1))
    arrays = ArrayRecord(model.state_dict())
    config = ConfigRecord({"lr": context.run_config["lr"]})
    FedAvg().start(grid=grid, initial_arrays=arrays, train_config=config, num_rounds=2)
"""


def test_a_stock_server_app_runs_on_the_command_line(study_file, tmp_path):
    path = tmp_path / "app.py"
    path.write_text(FLOWER_APP)
    _run("submit", study_file)
    with pytest.raises(InvalidRequest, match=r"it sends lr=0\.01, which no hospital reads"):
        _run("flower-run", path, "--study", study_file, "--run-config", "lr=0.01")
    answer = _run("flower-run", path, "--study", study_file, "--run-config", "lr=1.0", "--save", tmp_path / "out")
    assert "2 rounds, 6 releases" in answer.output
    assert (tmp_path / "out" / "weights.safetensors").exists()


@pytest.mark.process
def test_a_stock_flower_server_drives_a_study_on_the_command_line(study_file, tmp_path):
    _run("submit", study_file)
    with ServerProcess(tmp_path / "server", "--rounds", "2") as server:
        output = _run("flower-client", server.address, "--study", study_file).output
        server.ended()
    assert "rural: 2 rounds of 2 released, ε = " in output
    with pytest.raises(InvalidRequest, match="is another machine"):
        _run("flower-client", "flower.example:8080", "--study", study_file)
