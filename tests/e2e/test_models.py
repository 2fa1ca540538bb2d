"""Every model that the mission names trains on a real datasite, from source text to a certified release."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from syft.types.errors import SyftException

from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import KernelsMissing
from datasites.engine.lanes.coverage import NO_KERNELS
from tests.e2e.stock import call_until_done, login, submit
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess, run_datasite

INPUTS = [f"x{number}" for number in range(10)]
SCHEMA = (
    'name = "wide"\npopulation = "others"\npatient = "patient"\ntarget = "sick"\nholdout = 0.2\n'
    + "".join(f'columns.{name} = {{ kind = "real", minimum = 0.0, maximum = 1.0 }}\n' for name in INPUTS)
    + 'columns.sick = { kind = "boolean" }\n'
    + f"sequences.series = {[INPUTS[2 * step : 2 * step + 2] for step in range(5)]!r}\n".replace("'", '"')
)
MODELS = {
    "FluPredictor": (
        "binary_cross_entropy",
        "self.layer1, self.layer2 = nn.Linear(10, 32), nn.Linear(32, 1)",
        "torch.sigmoid(self.layer2(torch.relu(self.layer1(x))))",
        "features",
    ),
    "FluSeries": (
        "binary_cross_entropy_with_logits",
        "self.lstm, self.out = nn.LSTM(2, 16, batch_first=True), nn.Linear(16, 1)",
        "self.out(self.lstm(x)[0][:, -1])",
        "series",
    ),
    "HealthPredictor": (
        "cross_entropy",
        "self.fc1, self.norm, self.fc2 = nn.Linear(10, 16), nn.GroupNorm(4, 16), nn.Linear(16, 2)",
        "self.fc2(torch.relu(self.norm(self.fc1(x))))",
        "features",
    ),
    "DeepHealthPredictor": (
        "cross_entropy",
        "self.net = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))",
        "self.net(x)",
        "features",
    ),
    "Arrhythmia": ("cross_entropy", "self.linear = nn.Linear(10, 2)", "self.linear(x)", "features"),
}


def source_of(name: str) -> str:
    """A request that trains one of `MODELS` for one round."""
    loss, parts, answer, inputs = MODELS[name]
    return (
        f"def train_{name.lower()}(records, weights, round):\n"
        "    import torch\n    from torch import nn\n    from datasites.mechanisms import dp_sgd\n\n"
        f"    class {name}(nn.Module):\n        def __init__(self):\n"
        f"            super().__init__()\n            {parts}\n\n"
        f"        def forward(self, x):\n            return {answer}\n\n"
        f"    return dp_sgd({name}, records, weights, round, loss={loss!r}, rounds=1, steps=3, sampling_rate=0.3,\n"
        f"                  clipping_norm=1.0, epsilon=0.7, learning_rate=0.5, inputs={inputs!r})\n"
    )


def weights_of(name: str) -> dict[str, torch.Tensor]:
    """Fresh weights, made by the model's own class as a researcher would make them."""
    parts = MODELS[name][1]
    scope: dict[str, Any] = {"torch": torch, "nn": torch.nn}
    exec(f"class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n        {parts}\n", scope)
    return {key: value.detach() for key, value in scope["Model"]().state_dict().items()}


@pytest.fixture(scope="module")
def researcher(shared_datasite: DatasiteProcess, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A researcher at a datasite that has published the ten inputs, from Parquet."""
    import numpy as np
    import pandas as pd

    folder = tmp_path_factory.mktemp("wide")
    draw = np.random.default_rng(3)
    frame = pd.DataFrame({name: draw.random(300) for name in INPUTS})
    frame["patient"] = [f"w{number % 240}" for number in range(300)]
    frame["sick"] = (frame["x0"] + frame["x1"] > 1).astype(int)
    frame.to_parquet(folder / "wide.parquet")
    (folder / "schema.toml").write_text(SCHEMA)
    table = (str(folder / "wide.parquet"), "--schema", str(folder / "schema.toml"), "--patients", "240")
    shared_datasite.cli("publish", *table, "--budget-epsilon", "12")
    client = login(shared_datasite.url, RESEARCHER, PASSWORD)
    for name in MODELS:
        submit(client, source_of(name), dataset="wide")
    shared_datasite.approve_all()
    return client


@pytest.mark.parametrize("name", MODELS)
def test_named_model_trains(researcher: Any, name: str) -> None:
    weights = weights_of(name)
    answer = call_until_done(researcher, f"train_{name.lower()}", weights=weights, dataset="wide")
    assert answer["status"] == "released"
    assert {key: value.shape for key, value in answer["release"].items()} == {
        key: value.shape for key, value in weights.items()
    }
    assert all(torch.isfinite(value).all() for value in answer["release"].values())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("self.linear(x)", ""),
        ("self.linear(torch.topk(x, 10, sorted=False).values)", "It uses topk: the largest numbers in no order."),
    ],
)
def test_a_quote_says_which_engine_runs_a_model(researcher: Any, answer: str, why: str) -> None:
    source = source_of("Arrhythmia").replace("self.linear(x)", answer)
    engine = researcher.api.services.datasite.quote(source=source, dataset="wide")["engine"]
    try:
        compiled._index(compiled.directory(), compiled.level_of_this_processor())
    except KernelsMissing:
        assert engine == {"lanes": False, "why": NO_KERNELS, "once": False}
    else:
        assert engine["lanes"] == (not why)
        assert engine["why"].startswith(why)


def test_batch_norm_is_refused_with_its_name_and_what_to_use(researcher: Any) -> None:
    source = source_of("HealthPredictor").replace("nn.GroupNorm(4, 16)", "nn.BatchNorm1d(16)")
    with pytest.raises(SyftException, match=r"(?s)BatchNorm.*GroupNorm"):
        submit(researcher, source, dataset="wide")


def test_output_that_does_not_fit_its_loss_is_refused(researcher: Any) -> None:
    source = source_of("Arrhythmia").replace("nn.Linear(10, 2)", "nn.Linear(10, 3)")
    with pytest.raises(SyftException, match=r"answers 3 number\(s\)"):
        submit(researcher, source, dataset="wide")


def test_sql_table_is_published_beside_a_serving_datasite(shared_datasite: DatasiteProcess, tmp_path: Any) -> None:
    import sqlite3

    from tests.factories import SCHEMA as VISITS
    from tests.factories import write_table

    lines = write_table(tmp_path / "visits.csv").read_text().splitlines()
    with sqlite3.connect(tmp_path / "visits.db") as database:
        database.execute(f"CREATE TABLE visits ({lines[0]})")
        database.executemany("INSERT INTO visits VALUES (?,?,?,?,?,?)", [line.split(",") for line in lines[1:]])
    database.close()
    (tmp_path / "schema.toml").write_text(VISITS.replace('name = "flu"', 'name = "sql-visits"'))
    asked = ("--sql", "SELECT * FROM visits", "--database", f"sqlite:///{tmp_path / 'visits.db'}")
    shared_datasite.cli("publish", *asked, "--schema", str(tmp_path / "schema.toml"), "--patients", "400")
    names = {each["name"] for each in shared_datasite.json("datasets")["datasets"]}
    assert "sql-visits" in names


def test_help_is_there_for_every_command() -> None:
    listed = run_datasite("--help").stdout
    for command in ("init", "publish", "serve", "requests", "approve", "ledger", "researchers"):
        assert command in listed
        assert run_datasite(command, "--help").stdout.strip()
