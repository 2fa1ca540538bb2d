"""Three real datasites train one model of which only the mean can be read; one is killed, and nothing else opens."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import researcher
from compose.in_sums import lying, refused
from datasites.directory import new_signing_key
from policies.errors import CertificateRefused, InvalidRequest
from policies.privacy.accountant import charge_for, resolve
from policies.privacy.mechanisms import mechanism_from
from policies.release.certificates import verify
from policies.release.tensors import digest, to_bytes
from policies.schema.noise_scales import standard_error
from policies.secure_sums.encoding import words_of
from researcher.estimates import Estimate
from researcher.opened_sums import check_summed, openings_of, sentences_of
from researcher.regression import RegressionStudy
from researcher.scores import geometric_variance
from researcher.survival import SurvivalStudy
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess
from tests.researcher.study_models import FourFeatures

NAMES = ("General", "Paediatric", "Rural")
TRAINING = researcher.Training(
    loss="binary_cross_entropy",
    rounds=3,
    steps=5,
    sampling_rate=0.2,
    clipping_norm=1.0,
    epsilon=2.0,
    learning_rate=1.0,
)


@pytest.fixture(scope="module")
def datasites(
    made_datasite: Path, tmp_path_factory: pytest.TempPathFactory, jobs: Path
) -> Iterator[dict[str, DatasiteProcess]]:
    root = tmp_path_factory.mktemp("three")
    started = {}
    for name in NAMES:
        process = DatasiteProcess(made_datasite, root / name, jobs=jobs)
        process.set(name=name)
        (root / name / "certificate.pem").write_text(new_signing_key())
        started[name] = process.start()
    yield started
    for process in started.values():
        process.stop()


@pytest.fixture(scope="module")
def network_file(datasites: dict[str, DatasiteProcess], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("network")
    (root / "password").write_text(PASSWORD)
    tables = [
        f'[[datasites]]\nname = "{name.lower()}"\nurl = "{process.url}"\nemail = "{RESEARCHER}"\n'
        'password_file = "password"\n'
        for name, process in datasites.items()
    ]
    (root / "network.toml").write_text("\n".join(tables))
    return root / "network.toml"


def approved(study: Any, datasites: dict[str, DatasiteProcess]) -> Any:
    study.submit()
    for process in datasites.values():
        process.approve_all()
    study.wait_for_approval(timeout=60)
    return study


def test_only_the_mean_is_read_and_a_killed_hospital_drops_out(
    datasites: dict[str, DatasiteProcess], network_file: Path, tmp_path: Path
) -> None:
    cohort = researcher.connect(network_file).dataset("flu")
    options: dict[str, Any] = {"state": tmp_path / "study", "progress": False, "purpose": "To test.", "seed": 5}
    scoring = researcher.Evaluation(epsilon=1.0, bins=5, subgroups=("cough",), secure_aggregation=True)
    study = researcher.Study(
        "flu-secure", cohort, FourFeatures, TRAINING, evaluation=scoring, secure_aggregation=True, **options
    )
    assert study.training.secure_aggregation is not None
    assert study.training.secure_aggregation.threshold == 2
    approved(study, datasites)
    shown = datasites["Rural"].cli("show", study.requests.codes("training")["rural"][:8]).stdout
    assert "hidden under masks" in shown
    assert "General" in shown

    result = study.run(grace=1.0)
    assert [sorted(record.answered) for record in result.rounds] == [["general", "paediatric", "rural"]] * 3
    spent = {name: process.json("ledger")["balances"][0]["epsilon_spent"] for name, process in datasites.items()}
    assert len(set(spent.values())) == 1
    for release in result.releases:
        assert {value.dtype.name for value in release.tensors.values()} == {"uint32"}
        content = verify(release.certificate, release=to_bytes(release.tensors))
        mechanism = mechanism_from(content["mechanism"])
        assert mechanism.secure_aggregation == study.training.secure_aggregation  # type: ignore[union-attr]
        without = charge_for(replace(mechanism, secure_aggregation=None), content["privacy"]["order"])  # type: ignore[call-arg]
        assert content["privacy"]["divergence_nano"] == without.divergence_nano  # charged as without
        words = words_of(release.tensors).astype(np.float64) / 2**32
        assert abs(words.mean() - 0.5) < 5 / np.sqrt(12 * len(words))  # uniform: they say nothing by themselves
    for value in result.weights.values():
        assert np.isfinite(value).all()
        assert float(np.abs(value).max()) < 50

    # What is on the hospitals' own disks is masked too: no release by itself was ever written.
    stored = datasites["Rural"].json("releases")
    assert stored

    scores = result.evaluate(grace=1.0)
    assert list(scores.hospitals) == ["3 hospitals in a sum"]
    counts = scores.combined.counts
    assert (counts == np.rint(counts)).all()
    assert abs(counts.sum() - 3 * 100) < 5 * np.sqrt(10 * scores.combined.noise_variance) + 60
    assert scores.combined.noise_variance == pytest.approx(3 * geometric_variance(0.5))  # half of ε is the subgroup's
    for release in scores.releases:
        assert {value.dtype.name for value in release.tensors.values()} == {"uint32"}
        verify(release.certificate, release=to_bytes(release.tensors))
    assert str(result.evaluate(grace=1.0)) == str(scores)  # the same again, at no cost
    loaded = researcher.load(result.save(tmp_path / "saved"))
    np.testing.assert_array_equal(loaded.evaluation.combined.counts, counts)
    assert digest(loaded.weights) == digest(result.weights)
    assert loaded.begun  # so the weights were held against the mean that the masked releases come to
    assert loaded.evaluation.subgroup_table.rows == scores.subgroup_table.rows
    shown = datasites["Rural"].cli("show", study.requests.codes("evaluation")["rural"][:8]).stdout
    assert "Only sums over at least 2 of these 3 hospitals" in " ".join(shown.split())
    keys = datasites["Rural"].json("key", study.requests.codes("evaluation")["rural"][:8])["hospitals"]
    own = [datasites[name].json("key")["hospitals"][0]["words"] for name in NAMES]
    assert sorted(hospital["words"] for hospital in keys) == sorted(own)


def test_a_round_closes_without_one_that_is_killed_and_opens_for_no_fewer(
    datasites: dict[str, DatasiteProcess], network_file: Path, tmp_path: Path
) -> None:
    cohort = researcher.connect(network_file).dataset("flu")
    options: dict[str, Any] = {"state": tmp_path / "study", "progress": False, "purpose": "To test.", "seed": 6}
    study = researcher.Study("flu-killed", cohort, FourFeatures, TRAINING, secure_aggregation=2, **options)
    approved(study, datasites)
    first = study.requests.approved("training")[0]
    weights = {name: np.asarray(value) for name, value in study._initial().items()}

    with pytest.raises(Exception, match="have not exchanged their shares"):
        first["general"].datasite.run(first["general"].code, first["general"].asset, weights, 1)

    datasites["Rural"].kill()
    try:
        result = study.run(grace=0.5)
        assert all(sorted(record.answered) == ["general", "paediatric"] for record in result.rounds)
        for round_number in (1, 2, 3):
            kept = json.loads((tmp_path / "study" / "sums" / f"training-{round_number:03d}.json").read_text())
            assert kept["survivors"] == [1, 2]
        # A replay of all rounds from the directory comes to the same, with nobody asked.
        again = study.run(grace=0.5)
        assert digest(again.weights) == digest(result.weights)
        with pytest.raises(Exception, match="answered to another message"):
            first["general"].datasite.secure_sum(first["general"].code, 1, "survivors", {"survivors": [1, 2, 3]})
    finally:
        datasites["Rural"].start()


def test_what_stays_at_the_hospital_is_in_no_sum(
    datasites: dict[str, DatasiteProcess], network_file: Path, tmp_path: Path
) -> None:
    cohort = researcher.connect(network_file).dataset("flu")
    options: dict[str, Any] = {"state": tmp_path / "study", "progress": False, "purpose": "To test."}
    training = replace(TRAINING, rounds=1, epsilon=0.5)
    study = researcher.Study(
        "flu-heads", cohort, FourFeatures, training, secure_aggregation=2, local="output.*", **options
    )
    with lying("general"):  # its shares come to nothing, and the others' are enough
        result = approved(study, datasites).run(grace=8.0)
    told = refused(study)
    assert sorted(told) == ["general", "paediatric", "rural"]
    assert all(steps == ["keys", "shares", "boxes", "survivors", "reveal"] for steps in told.values())
    assert sorted(result.weights) == ["hidden.bias", "hidden.weight"]
    assert all(sorted(release.tensors) == sorted(result.weights) for release in result.releases)


def test_statistics_are_read_in_their_sum_alone(
    datasites: dict[str, DatasiteProcess], network_file: Path, tmp_path: Path
) -> None:
    cohort = researcher.connect(network_file).dataset("flu")
    asked: dict[str, Any] = {"count": True, "mean": "temperature", "quantiles": {"temperature": [0.5]}}
    mechanism = cohort.statistics(histogram="cough", epsilon=0.4, **asked).mechanism
    options: dict[str, Any] = {"state": tmp_path / "study", "progress": False, "purpose": "To test."}
    study = researcher.StatisticsStudy(cohort, mechanism, secure_aggregation=True, **options)
    approved(study, datasites)
    code = study.requests.codes("statistics")["rural"][:8]
    shown = datasites["Rural"].cli("show", code).stdout
    assert "Only sums over at least 2 of these 3 hospitals" in " ".join(shown.split())

    result = study.run(grace=1.0)
    assert list(result.hospitals) == ["3 hospitals in a sum"]
    assert result.missing == {}
    count, alone = result["count"], standard_error(mechanism.queries[0], mechanism, cohort.schema)
    assert isinstance(count, Estimate)
    assert count.noise_error == pytest.approx(math.sqrt(3) * alone, rel=0.2)
    assert abs(count.value - 3 * 400) < 6 * count.noise_error
    for release in result.releases:
        assert {value.dtype.name for value in release.tensors.values()} == {"uint32"}
        content = verify(release.certificate, release=to_bytes(release.tensors))
        without = charge_for(mechanism, content["privacy"]["order"])
        assert content["privacy"]["divergence_nano"] == without.divergence_nano  # charged as without
        words = words_of(release.tensors).astype(np.float64) / 2**32
        assert abs(words.mean() - 0.5) < 5 / np.sqrt(12 * len(words))  # uniform: they say nothing by themselves
    assert str(study.resume()) == str(result)  # the same again, at no cost


def test_a_learning_curve_is_read_in_sums_alone_and_ends_a_study(
    datasites: dict[str, DatasiteProcess], network_file: Path, tmp_path: Path
) -> None:
    cohort = researcher.connect(network_file).dataset("flu")
    options: dict[str, Any] = {"state": tmp_path / "study", "progress": False, "purpose": "To test."}
    scoring = researcher.Evaluation(epsilon=0.1, bins=5, secure_aggregation=True)
    with pytest.raises(InvalidRequest, match=r"curve=Evaluation.* this one has none"):
        researcher.Study("flu-none", cohort, FourFeatures, TRAINING, curve=scoring)
    study = researcher.Study(
        "flu-curve", cohort, FourFeatures, replace(TRAINING, epsilon=0.3), curve=scoring,
        stop_when=lambda curve: "Two points are enough." if len(curve.points) == 2 else "",
        secure_aggregation=True, **options,
    )  # fmt: skip
    result = approved(study, datasites).run(grace=8.0)
    assert result.curve is not None
    assert [point.round for point in result.curve.points] == [1, 2]
    assert "Two points are enough" in result.ended
    for figures in result.curve.figure("accuracy").values():
        assert set(figures) == {"3 hospitals in a sum", "combined"}
    for release in result.releases:
        assert {value.dtype.name for value in release.tensors.values()} == {"uint32"}
        verify(release.certificate, release=to_bytes(release.tensors))
    assert str(study.run(grace=8.0).curve) == str(result.curve)  # replayed: the sums are opened again
    loaded = researcher.load(result.save(tmp_path / "saved"))
    assert str(loaded.curve) == str(result.curve)
    assert loaded.begun
    said = sentences_of(loaded.openings, loaded.releases, mean_of_weights=True)
    assert [sentence.split(":")[0] for sentence in said] == [
        "sums/curve-001.json", "sums/curve-002.json", "sums/training-001.json", "sums/training-002.json",
        "weights.safetensors", "result.json",
    ]  # fmt: skip


def test_a_survival_table_is_read_in_its_sum_alone(
    datasites: dict[str, DatasiteProcess], network_file: Path, tmp_path: Path
) -> None:
    cohort = researcher.connect(network_file).dataset("flu")
    mechanism = cohort.kaplan_meier("age", "cough", epsilon=0.3, bins=5).mechanism
    options: dict[str, Any] = {"state": tmp_path / "study", "progress": False, "purpose": "To test."}
    study = SurvivalStudy(cohort, mechanism, secure_aggregation=2, **options)
    result = approved(study, datasites).run(grace=8.0)
    assert list(result.tables) == ["3 hospitals in a sum"]
    table = result.tables["3 hospitals in a sum"]
    assert (table == np.rint(table)).all()
    assert abs(table.sum() - 3 * 400) < 200
    assert result.curve().at_risk[0] == pytest.approx(1200, abs=200)
    assert str(result.curves()) == str(result.curves("3 hospitals in a sum"))


def test_a_regression_is_read_of_all_hospitals_together_alone(
    datasites: dict[str, DatasiteProcess], network_file: Path, tmp_path: Path
) -> None:
    cohort = researcher.connect(network_file).dataset("flu")
    mechanism = cohort.regression("temperature ~ influenza", epsilon=2.0).mechanism
    options: dict[str, Any] = {"state": tmp_path / "study", "progress": False, "purpose": "To test."}
    study = RegressionStudy(cohort, mechanism, secure_aggregation=2, **options)
    assert study.mechanism.secure_aggregation is not None
    approved(study, datasites)
    shown = " ".join(datasites["Rural"].cli("show", study.requests.codes("regression")["rural"][:8]).stdout.split())
    assert "Only sums over at least 2 of these 3 hospitals" in shown
    with lying("general"):  # its shares come to nothing, and the others' are enough
        result = study.run(grace=8.0)
    assert list(result.sums) == ["3 hospitals in a sum"]
    assert result.missing == {}
    assert result.hidden == ""
    told = result["influenza"]
    assert told.noise_error > 0
    assert told.sampling_error > 0
    assert result.coefficients() == result.coefficients("3 hospitals in a sum")
    assert abs(told.value - 1.6) < 6 * told.error  # as `write_table` draws temperatures
    for release in result.releases:
        assert {value.dtype.name for value in release.tensors.values()} == {"uint32"}
        content = verify(release.certificate, release=to_bytes(release.tensors))
        without = charge_for(resolve(mechanism), content["privacy"]["order"])
        assert content["privacy"]["divergence_nano"] == without.divergence_nano  # charged as without
        words = words_of(release.tensors).astype(np.float64) / 2**32
        assert abs(words.mean() - 0.5) < 5 / np.sqrt(12 * len(words))  # uniform: they say nothing by themselves
    assert str(study.resume()) == str(result)  # the same again, at no cost
    (summed,), (opening,) = result.sums.values(), openings_of(study.state, result.releases).values()
    check_summed(opening, result.releases, cohort.schema, summed)
    changed = {**summed, "weighted": summed["weighted"] + 2.0**40}
    with pytest.raises(CertificateRefused, match="'weighted' is not the one"):
        check_summed(opening, result.releases, cohort.schema, changed)
    page = result.report(tmp_path / "page.html").read_text()
    assert "3 hospitals of flu answered a linear regression" in page
    assert "Only the hospitals together can be read" in page
