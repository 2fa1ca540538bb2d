"""The demonstration's own parts, without a datasite: its files, its baselines, its manners."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from compose import baseline
from compose.baseline import Population
from compose.demo import MARK, _clear, main
from compose.masked import read_alone
from compose.processes import Datasite, DemonstrationFailed, free_port, write_network
from compose.real import real_patients
from compose.study import DELTA, ROUNDS, TRAINING_EPSILON, FluCoursePredictor, FluPredictor, MalignancyPredictor
from datasites.vault.encoding import check_table, read_table
from policies.schema.schemas import Schema


class OneFeature(nn.Module):
    """Scores by a sigmoid of the first feature."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(1, 1)

    def forward(self, features):  # type: ignore[no-untyped-def]
        return self.output(features).sigmoid()


def easy_population(count: int = 400) -> Population:
    labels = np.arange(count) % 2
    noise = np.random.default_rng(0).normal(size=count)
    return Population((2.0 * labels + noise)[:, None].astype(np.float32), labels)


def test_training_without_privacy_learns_and_its_curve_agrees_with_its_auc() -> None:
    population = easy_population()
    model = baseline.train_without_privacy(OneFeature, population, seed=1, epochs=10)
    auc = baseline.auc(model, population)
    assert 0.88 < auc < 0.96  # two normals two standard deviations apart: Φ(2/√2) = 0.921
    false_positive, true_positive = baseline.roc(model, population)
    assert np.trapz(true_positive, false_positive) == pytest.approx(auc, abs=0.01)
    assert (np.diff(true_positive) >= 0).all()


def test_secure_aggregation_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr("compose.demo.run", lambda shown, *_, **__: seen.append(shown.secure_aggregation))
    for more in ([], ["--secure-aggregation"]):
        assert main(["--real", "--directory", str(tmp_path / f"demo{len(more)}"), *more]) == 0
    assert seen == [False, True]


def test_what_is_not_masked_is_not_read_alone() -> None:
    result = SimpleNamespace(study=SimpleNamespace(training=SimpleNamespace(secure_aggregation=None)))
    assert read_alone(SimpleNamespace(), result) == []  # type: ignore[arg-type]


def test_real_hospitals_publish_under_one_schema_and_share_no_patient(tmp_path: Path) -> None:
    shown = real_patients(tmp_path)
    patients = []
    for site in shown.sites:
        frame = read_table(site.table)
        schema = Schema.from_toml(site.schema.read_text(encoding="utf-8"))
        check_table(frame, schema)
        assert len(schema.feature_names) == 10
        patients += list(frame["patient"])
    assert len(patients) == len(set(patients)) == 474
    assert len(shown.common.labels) == 569 - 474


def test_what_the_studies_ask_for_is_the_promised_epsilon() -> None:
    assert (TRAINING_EPSILON, DELTA, ROUNDS) == (2.0, 1e-5, 50)
    for model in (FluPredictor(), FluCoursePredictor(), MalignancyPredictor()):
        assert sum(each.numel() for each in model.parameters()) < 2_000


def test_a_directory_with_other_files_is_never_cleared(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DemonstrationFailed, match="holds other files"):
        _clear(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_an_earlier_demonstration_is_cleared(tmp_path: Path) -> None:
    _clear(tmp_path)
    (tmp_path / "old.json").touch()
    _clear(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == [MARK, "data"]


def test_the_network_file_is_one_that_researchers_can_read(tmp_path: Path) -> None:
    import tomllib

    datasites = [Datasite(name, name.title(), tmp_path / name, free_port()) for name in ("general", "rural")]
    for where in (write_network(datasites, tmp_path), Path("compose/network.toml")):
        tables = tomllib.loads(where.read_text(encoding="utf-8"))["datasites"]
        assert {"name", "url", "email", "password_file"} == {key for each in tables for key in each}


@pytest.mark.process
def test_a_refused_command_of_an_owner_says_why(tmp_path: Path) -> None:
    datasite = Datasite("general", "General hospital", tmp_path / "nowhere", free_port())
    with pytest.raises(DemonstrationFailed, match="General hospital: datasite requests"):
        datasite.owner("requests")


def test_a_datasite_that_was_never_started_can_be_stopped(tmp_path: Path) -> None:
    Datasite("general", "General hospital", tmp_path, free_port()).stop()
