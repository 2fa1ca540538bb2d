"""A stock `ServerApp` of Flower's Message API drives a study: what its guides show, unchanged."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.serverapp.strategy import Strategy

from policies.errors import DatasiteError, InvalidRequest, Unavailable, WrongStatus
from researcher.flower_app import run_app
from tests.researcher.fake_datasites import FakeDatasite

Hospitals = dict[str, FakeDatasite]

# The app of Flower's quickstart with PyTorch, but for its own data set; the model's module is the tests'.
QUICKSTART = '''
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from tests.researcher.study_models import FluPredictor as Net

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Main entry point for the ServerApp."""
    fraction_evaluate: float = context.run_config["fraction-evaluate"]
    num_rounds: int = context.run_config["num-server-rounds"]
    lr: float = context.run_config["learning-rate"]
    global_model = Net()
    arrays = ArrayRecord(global_model.state_dict())
    strategy = FedAvg(fraction_evaluate=fraction_evaluate)
    result = strategy.start(
        grid=grid,
        initial_arrays=arrays,
        train_config=ConfigRecord({"lr": lr}),
        num_rounds=num_rounds,
        evaluate_fn=global_evaluate,
    )
    state_dict = result.arrays.to_torch_state_dict()
    torch.save(state_dict, context.run_config["model"])


def global_evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    model = Net()
    model.load_state_dict(arrays.to_torch_state_dict())
    return MetricRecord({"norm": float(sum(value.norm() for value in model.state_dict().values()))})
'''
PROJECT = """
[project]
name = "quickstart"
version = "1.0.0"

[tool.flwr.app]
publisher = "flwrlabs"

[tool.flwr.app.components]
serverapp = "quickstart_of_tests.server_app:app"
clientapp = "quickstart_of_tests.client_app:app"

[tool.flwr.app.config]
num-server-rounds = 3
fraction-evaluate = 0.5
local-epochs = 1
learning-rate = 1.0
model = "final_model.pt"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `flwr new` makes it."""
    package = tmp_path / "project" / "quickstart_of_tests"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "server_app.py").write_text(QUICKSTART)
    (package.parent / "pyproject.toml").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    return package.parent


def app_file(tmp_path: Path, body: str, before: str = "") -> Path:
    """An app whose main does `body`."""
    path = tmp_path / "app.py"
    path.write_text(
        "import numpy as np\n"
        "from flwr.app import *\n"
        "from flwr.serverapp import ServerApp\n"
        "from flwr.serverapp.strategy import *\n"
        "from tests.researcher.study_models import FluPredictor, HealthPredictor\n"
        "app = ServerApp()\n"
        f"{before}\n"
        "@app.main()\n"
        "def main(grid, context):\n"
        "    arrays = ArrayRecord(FluPredictor().state_dict())\n"
        + "".join(f"    {line}\n" for line in body.strip().splitlines())
    )
    return path


def charged(hospitals: Hospitals) -> dict[str, list[int]]:
    return {name: [number for _, number in hospital.charged] for name, hospital in hospitals.items()}


@pytest.mark.parametrize("given", ["project", "project/quickstart_of_tests/server_app.py"])
def test_flowers_quickstart_runs_as_it_stands(
    make_study: Any, hospitals: Hospitals, project: Path, tmp_path: Path, given: str
) -> None:
    study = make_study()
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state()
    result = run_app(tmp_path / given, study)
    assert charged(hospitals) == {name: [1, 2, 3] for name in hospitals}
    kept = torch.load(tmp_path / "final_model.pt", weights_only=True)
    assert torch.equal(torch.random.get_rng_state(), states[2])
    # Each hospital answers w/2 + its place (0, 1, 2), and weighs 1/4, 1/2, 1/4: w/2 + 1, three times.
    with torch.random.fork_rng():
        torch.manual_seed(study.seed)
        first = {name: value.detach().numpy() for name, value in type(study.new_model())().named_parameters()}
    for name, value in first.items():
        np.testing.assert_allclose(kept[name].numpy(), value / 8 + 1.75, atol=1e-6)
        np.testing.assert_array_equal(kept[name].numpy(), result.weights[name])
    assert len(result.rounds) == 3
    assert len(result.releases) == 9
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert Strategy.start.__module__ == "flwr.serverapp.strategy.strategy"
    again = run_app(tmp_path / given, study)
    assert charged(hospitals) == {name: [1, 2, 3] for name in hospitals}
    for name in first:
        np.testing.assert_array_equal(again.weights[name], result.weights[name])


def test_an_app_that_was_interrupted_goes_on_and_pays_nothing_twice(
    make_study: Any, hospitals: Hospitals, project: Path
) -> None:
    study = make_study()
    hospitals["general"].down_in_rounds = hospitals["rural"].down_in_rounds = {3}
    with pytest.raises(Unavailable, match="Round 3 of 3 has 1 of the 2"):
        run_app(project, study, grace=0.01)
    hospitals["general"].down_in_rounds = hospitals["rural"].down_in_rounds = set()
    result = run_app(project, make_study(submit=False))
    assert len(result.rounds) == 3
    assert charged(hospitals) == {name: [1, 2, 3] for name in hospitals}


def test_values_of_the_projects_run_configuration_can_be_given(
    make_study: Any, hospitals: Hospitals, project: Path, tmp_path: Path
) -> None:
    result = run_app(project, make_study(), run_config='num-server-rounds=2 model="other model.pt"')
    assert len(result.rounds) == 2
    assert (tmp_path / "other model.pt").exists()
    with pytest.raises(InvalidRequest, match=r"names rounds, which the project has not\. It has fraction-evaluate"):
        run_app(project, make_study(), run_config={"rounds": 2})
    with pytest.raises(InvalidRequest, match="cannot be read"):
        run_app(project, make_study(), run_config="model=other")
    with pytest.raises(InvalidRequest, match="has no name=value"):
        run_app(project, make_study(), run_config="fast")


def own_loop(content: str) -> str:
    """A round without a strategy, of these arrays."""
    return f"""
def sent(node):
    return Message(RecordDict({{'arrays': {content}}}), node, 'train')
grid.send_and_receive([sent(node) for node in grid.get_node_ids()])
"""


REFUSED: dict[str, tuple[str, str]] = {
    "more rounds": ("FedAvg().start(grid, arrays, num_rounds=4)", "num_rounds=4, and 3 approved rounds of 3 are left"),
    "a learning rate": (
        "FedAvg().start(grid, arrays, train_config=ConfigRecord({'lr': 0.5}))",
        "it sends lr=0.5, which no hospital reads",
    ),
    "any setting": (
        "FedAvg().start(grid, arrays, 3, 3600, ConfigRecord({'epsilon': 100.0}))",
        r"it sends epsilon=100.0, which no hospital reads",
    ),
    "another model": (
        "FedAvg().start(grid=grid, initial_arrays=ArrayRecord(HealthPredictor().state_dict()))",
        "the weights that it sends are block",
    ),
    "a quorum that is not there": (
        "FedAvg(min_train_nodes=5, min_available_nodes=5).start(grid, arrays)",
        "min_train_nodes=5 is more than the 3 hospitals",
    ),
    "a strategy that cannot work": (
        "QFedAvg(client_learning_rate=0.1).start(grid, arrays)",
        "QFedAvg cannot work here: it needs every hospital's training loss",
    ),
    "a pull that was not approved": ("FedProx(proximal_mu=0.3).start(grid, arrays)", "proximal_mu=0.3 does not match"),
    "a strategy that fails": (
        "DifferentialPrivacyServerSideFixedClipping(FedAvg(), 0.1, 1.0, 5).start(grid, arrays)",
        "failed in a rehearsal with made-up weights, when 2 of 3 hospitals answered: The strategy aggregated nothing",
    ),
    "a strategy of one's own that fails": (
        "Failing().start(grid, arrays)",
        r"Failing failed in a rehearsal .*ZeroDivisionError",
    ),
    "another model in a loop of its own": (
        own_loop("ArrayRecord(HealthPredictor().state_dict())"),
        "the weights that it sends are block",
    ),
    "settings in a loop of its own": (
        own_loop("arrays, 'config': ConfigRecord({'steps': 10000})"),
        "it sends steps=10000, which no hospital reads",
    ),
    "other weights to each": (
        own_loop("ArrayRecord({n: Array(v.numpy() + np.float32(node)) for n, v in arrays.items()})"),
        "The app sends other weights to one hospital than to another",
    ),
    "messages that are pushed": ("grid.push_messages([])", "Use send_and_receive"),
    "a fault of its own": ("1 / 0", "app.py failed after 0 of 3 closed rounds: ZeroDivisionError"),
    "its own end": ("raise SystemExit(3)", "app.py failed after 0 of 3 closed rounds: SystemExit: 3"),
}
FAILING = """
class Failing(FedAvg):
    def aggregate_train(self, server_round, replies):
        return 1 / 0
"""


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_says_why_before_anything_is_charged(
    make_study: Any, hospitals: Hospitals, tmp_path: Path, name: str
) -> None:
    body, said = REFUSED[name]
    study = make_study()
    with pytest.raises(DatasiteError, match=said):
        run_app(app_file(tmp_path, body, FAILING), study)
    assert not any(charged(hospitals).values())
    assert all("run" not in hospital.calls for hospital in hospitals.values())
    assert run_app(app_file(tmp_path, "FedAvg().start(grid, arrays)"), study) is not None  # and a mended one runs


def test_a_loop_of_its_own_drives_the_rounds_too(make_study: Any, hospitals: Hospitals, tmp_path: Path) -> None:
    body = """
for number in range(2):
    content = RecordDict({"arrays": arrays})
    replies = grid.send_and_receive([Message(content, node, "train") for node in grid.get_node_ids()])
    answers = [(reply.content["arrays"], reply.content["metrics"]["num-examples"]) for reply in replies]
    whole = sum(patients for _, patients in answers)
    arrays = ArrayRecord(
        {n: Array(sum(a[n].numpy() * p for a, p in answers).astype(np.float32) / np.float32(whole)) for n in arrays}
    )
"""
    study = make_study()
    assert run_app(app_file(tmp_path, body), study) is None
    assert charged(hospitals) == {name: [1, 2] for name in hospitals}
    assert len(study.state.releases()) == 6
    four = body.replace("range(2)", "range(4)")
    with pytest.raises(InvalidRequest, match="begins round 4, and hospitals approved 3"):
        run_app(app_file(tmp_path, four), study)
    assert charged(hospitals) == {name: [1, 2, 3] for name in hospitals}


def test_what_is_no_app_is_refused(make_study: Any, tmp_path: Path) -> None:
    study, path = make_study(), tmp_path / "app.py"
    for text, said in (
        ("x = 1", "makes 0 ServerApps"),
        ("from flwr.serverapp import ServerApp\na = ServerApp()\nb = ServerApp()", "makes 2 ServerApps"),
        ("from flwr.serverapp import ServerApp\na = ServerApp()", "has no @app.main"),
        ("\n1 / 0", "line 2: ZeroDivisionError"),
        ("def (", "line 1: SyntaxError"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidRequest, match=said):
            run_app(path, study)
    for place, said in ((tmp_path / "none.py", "is not there"), (tmp_path, "names no serverapp")):
        with pytest.raises(InvalidRequest, match=said):
            run_app(place, study)
    with pytest.raises(WrongStatus, match="was not submitted yet"):
        run_app(path, make_study(submit=False, state=tmp_path / "other"))
