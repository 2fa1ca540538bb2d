"""Three real datasites share one noise: each owner decides which ε is charged, and certificates state both."""

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
from datasites.directory import new_signing_key
from policies.errors import Unavailable, UnsupportedMechanism
from policies.privacy.accountant import charge_for
from policies.privacy.mechanisms import mechanism_from
from policies.privacy.shared_mechanisms import shared_draws
from policies.privacy.shared_sums import shown
from policies.privacy.sharing import SharedTraining, shared_of
from policies.release.certificates import explain, verify
from policies.release.tensors import digest, to_bytes
from researcher.estimates import Estimate
from researcher.survival import SurvivalStudy
from tests.e2e.test_secure_aggregation import NAMES, TRAINING
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess
from tests.researcher.study_models import FourFeatures

pytestmark = pytest.mark.timeout(900)  # three datasites on a machine that does other things, too
TRUSTING = "Rural"  # whose policy lets an owner accept


@pytest.fixture(scope="module")
def datasites(
    made_datasite: Path, tmp_path_factory: pytest.TempPathFactory, jobs: Path
) -> Iterator[dict[str, DatasiteProcess]]:
    root = tmp_path_factory.mktemp("sharing")
    started = {}
    for name in NAMES:
        process = DatasiteProcess(made_datasite, root / name, jobs=jobs)
        process.set(name=name)
        (root / name / "certificate.pem").write_text(new_signing_key())
        if name == TRUSTING:
            policy = root / name / "policy.toml"
            policy.write_text(policy.read_text().replace("shared_noise_epsilon = 0.0", "shared_noise_epsilon = 5.0"))
            assert "shared_noise_epsilon = 5.0" in policy.read_text()
        started[name] = process.start()
        (population,) = {dataset["population"] for dataset in process.json("datasets")["datasets"]}
        process.cli("raise-budget", population, "--epsilon", "12", "--yes")  # all of these tests charge it
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


def shown_by(process: DatasiteProcess, study: Any, name: str) -> dict[str, Any]:
    """What the owner of a datasite reads of the request by which a study's hospitals share noise: its last."""
    seen: dict[str, Any] = process.json("show", study.requests.codes(study.requests.requests[-1].role)[name.lower()])
    return seen


def approved(study: Any, datasites: dict[str, DatasiteProcess]) -> Any:
    """Submitted everywhere, with the shared noise accepted where the policy lets an owner accept it."""
    study.submit()
    for name, process in datasites.items():
        seen = shown_by(process, study, name)
        shared = seen["shared_noise"]
        accepting = ["--accept", shared["acceptance"]] if shared and name == TRUSTING else []
        process.cli("approve", seen["id"], "--yes", *accepting)
        process.approve_all()
    study.wait_for_approval(timeout=60)
    return study


def test_a_count_is_sharper_and_each_hospital_charges_what_its_owner_accepted(
    datasites: dict[str, DatasiteProcess], network_file: Path, tmp_path: Path
) -> None:
    cohort = researcher.connect(network_file).dataset("flu")
    options: dict[str, Any] = {"state": tmp_path / "study", "progress": False, "purpose": "To test."}
    with pytest.raises(UnsupportedMechanism, match=r"records_per_patient=2 cannot share one noise.*or with masks"):
        cohort.statistics(
            mean="temperature", epsilon=0.6, records_per_patient=2, secure_aggregation=researcher.SharedNoise()
        )
    mechanism = cohort.statistics(epsilon=0.2, count=True).mechanism
    study = researcher.StatisticsStudy(cohort, mechanism, secure_aggregation=researcher.SharedNoise(), **options)
    shared = shared_draws(study.mechanism)
    assert shared is not None
    assert (shared.parts, shared.roster.threshold) == (2, 2)
    assumed, if_not = shared.epsilons_in_all
    told = str(study.check())
    assert f"Each hospital charges ε = {shown(if_not)}, unless its owner accepts" in told
    assert "from noise; with masks alone it would be" in told

    study.submit()
    first = {name: shown_by(process, study, name) for name, process in datasites.items()}
    words = " ".join(datasites[TRUSTING].cli("show", first[TRUSTING]["id"]).stdout.split())
    assert " ".join(shared.sentence().split()) in words
    assert f"--accept {first[TRUSTING]['shared_noise']['acceptance']}" in words
    assert "This hospital adds a part of one noise" in words
    for name, process in datasites.items():
        seen, elsewhere = first[name], first["General" if name != "General" else TRUSTING]
        word = elsewhere["shared_noise"]["acceptance"]  # of the same question, asked at another hospital
        refused = process.cli("approve", seen["id"], "--yes", "--accept", word, check=False)
        assert "is not of request" in " ".join(refused.stderr.split())
        if name != TRUSTING:  # the policy's cap is 0 where nobody changed it
            word = seen["shared_noise"]["acceptance"]
            refused = process.cli("approve", seen["id"], "--yes", "--accept", word, check=False)
            assert "above shared_noise_epsilon = 0" in " ".join(refused.stderr.split())
    approved(study, datasites)

    result = study.run(grace=8.0)
    count = result["count"]
    assert isinstance(count, Estimate)
    assert count.noise_error == pytest.approx(shared.standard_error(0, hospitals=3), rel=0.2)
    assert count.noise_error < 0.85 * shared.standard_error_of_whole_noises(0, hospitals=3)
    assert abs(count.value - 3 * 400) < 8 * count.noise_error
    assert f"{shown(if_not)} at general" in str(result)
    assert f"{shown(assumed)} at rural" in str(result)
    for release in result.releases:
        assert {value.dtype.name for value in release.tensors.values()} == {"uint32"}
        content = verify(release.certificate, release=to_bytes(release.tensors))
        accepted = release.hospital == TRUSTING.lower()
        privacy = content["privacy"]
        assert privacy["shared_noise"] == {"epsilon": assumed, "epsilon_if_not": if_not, "accepted": accepted}
        charge = charge_for(mechanism_from(content["mechanism"]), privacy["order"], accepted=accepted)
        assert privacy["divergence_nano"] == charge.divergence_nano
        assert privacy["epsilon"] == pytest.approx(assumed if accepted else if_not)
        said = " ".join(explain(content))
        assert "General, Paediatric, Rural" in said
        assert f"If more do, they cost ε = {shown(if_not)}" in said
    spent = {name: process.json("ledger")["balances"][0]["epsilon_spent"] for name, process in datasites.items()}
    assert spent["General"] == spent["Paediatric"] > spent["Rural"] + 0.3
    log = json.dumps(datasites[TRUSTING].json("log"), ensure_ascii=False)
    assert "accept shared noise" in log
    assert first[TRUSTING]["shared_noise"]["acceptance"] in log
    assert "I rely on these hospitals: General, Paediatric, Rural" in log
    datasites[TRUSTING].cli("ledger", "--verify")
    assert str(study.resume()) == str(result)  # the same again, at no cost


def test_a_survival_table_shares_one_noise_and_one_hospital_too_few_opens_nothing(
    datasites: dict[str, DatasiteProcess], network_file: Path, tmp_path: Path
) -> None:
    cohort = researcher.connect(network_file).dataset("flu")
    mechanism = cohort.kaplan_meier("age", "cough", epsilon=0.1, bins=5).mechanism
    options: dict[str, Any] = {"state": tmp_path / "study", "progress": False, "purpose": "To test."}
    sharing = researcher.SharedNoise(threshold=3, may_collude=1)
    study = SurvivalStudy(cohort, mechanism, secure_aggregation=sharing, **options)
    assert study.name.endswith("shared-3-1")
    approved(study, datasites)
    datasites["General"].kill()
    try:
        with pytest.raises(Unavailable, match="the sum needs threshold=3"):
            study.run(grace=0.5)
    finally:
        datasites["General"].start()
    result = study.run(grace=8.0)  # all three, just enough
    curve, shared = result.curve(), shared_draws(study.mechanism)
    assert shared is not None
    assert shared.parts == 2
    assert curve.noise_error == pytest.approx(shared.standard_error(0, hospitals=3), rel=1e-6)
    assert curve.at_risk[0] == pytest.approx(1200, abs=8 * curve.at_risk_errors[0])


def test_a_mean_shares_one_noise_and_is_that_of_all_records(
    datasites: dict[str, DatasiteProcess], network_file: Path, tmp_path: Path
) -> None:
    cohort = researcher.connect(network_file).dataset("flu")
    options: dict[str, Any] = {"progress": False, "purpose": "To test."}
    asked = cohort.statistics(epsilon=0.2, mean="temperature").mechanism
    alone = approved(
        researcher.StatisticsStudy(cohort, asked, name="flu-alone", state=tmp_path / "alone", **options), datasites
    ).run()
    options |= {"name": "flu-one-noise", "state": tmp_path / "study"}
    study = researcher.StatisticsStudy(cohort, asked, secure_aggregation=researcher.SharedNoise(), **options)
    several = cohort.statistics(epsilon=0.2, count=True, mean="temperature", variance="age").mechanism
    dear = researcher.StatisticsStudy(
        cohort, several, secure_aggregation=researcher.SharedNoise(), **{**options, "state": tmp_path / "dear"}
    )
    assert "Ask for fewer statistics, subgroups or rounds at once" in str(dear.check())
    told = str(study.check())
    assert "mean/temperature: its sum of values over all 3 hospitals has a standard error of" in told
    result = approved(study, datasites).run(grace=8.0)
    one, each = result["mean/temperature"], alone["mean/temperature"]
    assert isinstance(one, Estimate)
    assert isinstance(each, Estimate)
    assert one.noise_error < each.noise_error
    assert abs(one.value - each.value) < 6 * (one.noise_error + each.noise_error)
    for release in result.releases:
        assert {value.dtype.name for value in release.tensors.values()} == {"uint32"}
    assert str(study.resume()) == str(result)  # the same again, at no cost


def test_scores_share_one_noise_beside_a_training_under_masks(
    datasites: dict[str, DatasiteProcess], network_file: Path, tmp_path: Path
) -> None:
    cohort = researcher.connect(network_file).dataset("flu")
    options: dict[str, Any] = {"state": tmp_path / "study", "progress": False, "purpose": "To test.", "seed": 5}
    training, sharing = replace(TRAINING, rounds=1, epsilon=0.3), researcher.SharedNoise()
    with pytest.raises(UnsupportedMechanism, match="steps=5 a round cannot share one noise"):
        researcher.Study("flu-no", cohort, FourFeatures, training, secure_aggregation=sharing, **options)
    scoring = researcher.Evaluation(epsilon=0.1, bins=4, secure_aggregation=sharing)
    study = researcher.Study(
        "flu-scores", cohort, FourFeatures, training, evaluation=scoring, secure_aggregation=True, **options
    )
    result = approved(study, datasites).run(grace=8.0)
    scores = result.evaluate(grace=8.0)
    (declared,) = (mechanism_from(verify(one.certificate)["mechanism"]) for one in scores.releases[:1])
    shared = shared_draws(declared)
    assert shared is not None
    assert list(scores.hospitals) == ["3 hospitals in a sum"]
    deviation = math.sqrt(scores.combined.noise_variance)
    assert deviation == pytest.approx(shared.standard_error(0, hospitals=3))
    assert deviation < 0.8 * shared.standard_error_of_whole_noises(0, hospitals=3)
    assert abs(scores.combined.counts.sum() - 3 * 100) < 6 * deviation * math.sqrt(8) + 60
    charged = {one.hospital: verify(one.certificate)["privacy"]["epsilon"] for one in scores.releases}
    assert charged["rural"] == pytest.approx(0.1)
    assert charged["general"] == pytest.approx(shared.epsilon_if_not)
    loaded = researcher.load(result.save(tmp_path / "saved"))
    np.testing.assert_array_equal(loaded.evaluation.combined.counts, scores.combined.counts)  # opened again


def test_one_step_a_round_shares_one_noise_and_is_averaged(
    datasites: dict[str, DatasiteProcess], network_file: Path, tmp_path: Path
) -> None:
    cohort = researcher.connect(network_file).dataset("flu")
    options: dict[str, Any] = {"state": tmp_path / "study", "progress": False, "purpose": "To test.", "seed": 5}
    training, sharing = replace(TRAINING, rounds=2, steps=1, epsilon=0.3), researcher.SharedNoise(threshold=2)
    study = researcher.Study(
        "flu-steps", cohort, FourFeatures, training, secure_aggregation=sharing, average_last=2, **options
    )
    told = str(study.check())
    assert "hospitals share one noise" in told
    assert "each step's sum of gradients over all 3 hospitals has a standard error of" in told
    result = approved(study, datasites).run(grace=8.0)
    assert [sorted(record.answered) for record in result.rounds] == [["general", "paediatric", "rural"]] * 2
    words = " ".join(datasites[TRUSTING].cli("show", study.requests.codes("training")["rural"]).stdout.split())
    assert "adds this hospital's part of a noise" in words
    assert "What leaves: a sum of gradients" in words
    charged = {}
    for release in result.releases:
        assert {value.dtype.name for value in release.tensors.values()} == {"uint32"}
        content = verify(release.certificate, release=to_bytes(release.tensors))
        shared = shared_of(mechanism_from(content["mechanism"]))
        assert isinstance(shared, SharedTraining)
        accepted = release.hospital == TRUSTING.lower()
        assumed, if_not = shared.epsilons_in_all
        assert content["privacy"]["shared_noise"] == {
            "epsilon": assumed, "epsilon_if_not": if_not, "accepted": accepted
        }  # fmt: skip
        assert content["privacy"]["epsilon"] == (assumed if accepted else if_not)
        assert f"If more do, they cost ε = {shown(if_not)}" in " ".join(explain(content))
        charged[release.hospital] = content["privacy"]["divergence_nano"]
    assert charged["general"] == charged["paediatric"] > charged["rural"]
    moved = np.concatenate([value.ravel() for value in result.weights.values()])
    assert np.isfinite(moved).all()
    saved = result.save(tmp_path / "saved")
    loaded = researcher.load(saved)  # the weights are opened again from masked releases
    assert digest(loaded.weights) == digest(result.weights)
    assert digest(study.resume().weights) == digest(result.weights)  # the same again, at no cost
