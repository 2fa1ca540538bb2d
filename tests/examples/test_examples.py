"""Every program in examples/ runs as its reader would run it, against one real datasite with the demonstration's table.

The owner's policy approves what is small by itself, so that no program has to wait for a person.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.patients import HOSPITALS, make_patients, write_csv
from compose.tables import schema_path
from tests.docs.reading import code
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess, free_port, run_datasite

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES, HERE = ROOT / "examples", Path(__file__).parent
PATIENTS = 1500  # enough for a policy's least batch, and few enough to be read in a second


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, jobs: Path) -> Iterator[Path]:
    """A researcher's directory with the network file of a hospital that serves."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "owner.password").write_text(PASSWORD)
    (folder / "researcher.password").write_text(PASSWORD)
    hospital = HOSPITALS[0]
    table = make_patients(hospital, seed=5)
    write_csv({name: values[:PATIENTS] for name, values in table.items()}, folder / "flu.csv", prefix="E")
    directory = folder / "hospital"
    run_datasite(
        "init", "--name", hospital.title, "--password-file", str(folder / "owner.password"), directory=directory
    )
    policy = directory / "policy.toml"
    policy.write_text(policy.read_text().replace("# approve_at_once_epsilon = 0.1", "approve_at_once_epsilon = 2.5"))
    datasite = DatasiteProcess(directory, directory, jobs=jobs).start()
    try:
        datasite.cli(
            "publish", str(folder / "flu.csv"), "--schema", str(schema_path(hospital.name)), "--patients", "1000"
        )
        run(folder, "public_tables.py", "tables")
        for name, patients in (("diabetes", "442"), ("breast_cancer", "686")):
            table, schema = folder / "tables" / f"{name}.csv", folder / "tables" / f"{name}.toml"
            datasite.cli("publish", str(table), "--schema", str(schema), "--patients", patients)
        datasite.cli(
            "researchers", "add", RESEARCHER, "--name", "Ada L", "--password-file", str(folder / "researcher.password")
        )
        (folder / "network.toml").write_text(
            f'[[datasites]]\nname = "general"\nurl = "{datasite.url}"\nemail = "{RESEARCHER}"\n'
            'password_file = "researcher.password"\n'
        )
        yield folder
        datasite.cli("ledger", "--verify")
    finally:
        datasite.stop()


def run(desk: Path, program: str, *arguments: str) -> str:
    """What a program prints. Fails with all of it where the program does."""
    done = subprocess.run(
        [sys.executable, str(desk / program if (desk / program).exists() else EXAMPLES / program), *arguments],
        cwd=desk,
        capture_output=True,
        text=True,
        timeout=240,
        env={
            **os.environ,
            "NETWORK": "network.toml",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "120",
            "KERAS_BACKEND": "torch",
            "KERAS_HOME": str(desk / "keras"),
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_first_study_trains_and_its_certificates_verify(desk: Path) -> None:
    said = run(desk, "first_study.py")
    assert "2 rounds, 2 releases" in said
    assert "Saved in first-study" in said
    assert (desk / "first-study" / "weights.safetensors").exists()
    verified = run(desk, "verify_certificate.py", "first-study")
    assert verified.count(": General hospital, round") == 3  # two rounds of training, one evaluation
    assert "Its signature is not valid" in verified


def test_a_number_is_predicted_about_as_well_as_by_least_squares(desk: Path) -> None:
    said = run(desk, "number.py")
    low, high = interval_of(said, "R²")
    # Least squares without privacy explain 0.48 of the variance of these 442 people, by ten-fold cross-validation.
    assert near(0.48, low, high)
    assert "female" in said
    assert (desk / "progression.png").stat().st_size > 10_000
    assert "RMSE" in (desk / "progression.csv").read_text()


def test_a_time_is_predicted_about_as_well_as_by_cox(desk: Path) -> None:
    said = run(desk, "survival.py")
    low, high = interval_of(said, "concordance")
    # A Cox model of lifelines, without privacy, comes to 0.68 on these 686 women, by ten-fold cross-validation.
    assert near(0.68, low, high)
    assert "integrated Brier score" in said


def test_survival_curves_hold_those_of_lifelines(desk: Path) -> None:
    said = run(desk, "kaplan_meier.py")
    assert "log-rank" in said
    inside = re.findall(r"lifelines' curve is inside our 95 % band at (\d+) of 20 times", said)
    # Of 600 curves of this table, five missed the band at one time and none at more.
    assert len(inside) == 2
    assert min(map(int, inside)) >= 18
    assert len(re.findall(r"without recurrence after \d+ days: .*; lifelines \d", said)) == 4
    assert (desk / "kaplan_meier.png").read_bytes().startswith(b"\x89PNG")
    assert "Each charged a pure ε = 1 to" in (desk / "kaplan_meier.html").read_text()


def test_coefficients_hold_those_of_least_squares(desk: Path) -> None:
    said = run(desk, "regression.py")
    lines = re.findall(r"(\S+): least squares (\S+), \w+ our 95 % interval from (\S+) to (\S+)", said)
    assert [line[0] for line in lines] == ["intercept", "bmi", "bp", "sex=male"]
    for _, *numbers in lines:
        value, low, high = map(float, numbers)
        assert near(value, low, high)
    assert (desk / "regression.png").read_bytes().startswith(b"\x89PNG")
    assert "linear regression of progression" in (desk / "regression.html").read_text()


def command(desk: Path, *arguments: str, study: str) -> str:
    """What `researcher` prints, with examples/flower's study under this name."""
    environment = {"NETWORK": "network.toml", "PYTHONPATH": str(ROOT), "COLUMNS": "120", "STUDY": study}
    done = subprocess.run(
        [sys.executable, "-m", "researcher", *arguments],
        cwd=desk, capture_output=True, text=True, timeout=240, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_stock_server_app_drives_a_real_hospitals_rounds(desk: Path) -> None:
    study = str(EXAMPLES / "flower" / "study.py")
    assert "approved" in command(desk, "submit", study, study="flower-app")
    app = str(EXAMPLES / "flower" / "server_app.py")
    said = command(
        desk, "flower-run", app, "--study", study, "--run-config", "min-nodes=1", "--save", "flower", study="flower-app"
    )
    assert "The joint model has 385 numbers." in said  # 10·32 + 32 + 32 + 1
    assert "3 rounds, 3 releases" in said
    assert run(desk, "verify_certificate.py", "flower").count(": General hospital, round") == 3


@pytest.mark.nightly  # test_secureml has one that drives a real datasite in every run
def test_a_stock_flower_server_drives_a_real_hospitals_rounds(desk: Path) -> None:
    study, address = str(EXAMPLES / "flower" / "study.py"), f"localhost:{free_port()}"
    assert "approved" in command(desk, "submit", study, study="flower-server")
    with (desk / "server.log").open("wb") as log:
        program = [sys.executable, str(EXAMPLES / "flower" / "server.py"), "1", address]
        server = subprocess.Popen(program, stdout=log, stderr=log, env={**os.environ, "FLWR_TELEMETRY_ENABLED": "0"})
    try:
        said = command(desk, "flower-client", address, "--study", study, study="flower-server")
        assert server.wait(timeout=60) == 0
    finally:
        server.kill()
        server.wait()
    assert re.search(r"3 rounds of 3 released, ε = 0\.\d+ \(δ = 1e-05\) of 0\.3", said)
    assert (desk / "server.log").read_text().count("aggregate_fit: received 1 results and 0 failures") == 3


def near(value: float, low: float, high: float) -> bool:
    """Whether a value is within twice a 95 % interval: by chance it is not once in 10,000 times, and not in 20.

    Much noise leaves an end of it open.
    """
    if math.isinf(low) or math.isinf(high):
        return low <= value <= high
    return abs(value - (low + high) / 2) < high - low


def interval_of(said: str, figure: str) -> tuple[float, float]:
    """The last line's interval."""
    (line,) = [line for line in said.splitlines() if line.startswith(f"{figure} ")]
    found = re.search(r"\(95 % from (.+) to (.+)\)", line)
    assert found is not None
    low, high = (float(end.replace("minus infinite", "-inf").replace("infinite", "inf")) for end in found.groups())
    return low, high


def test_an_interval_is_read_whose_one_end_is_open() -> None:
    low, high = interval_of("R² 0.8 ± 0.8 (95 % from minus infinite to 1.0)", "R²")
    assert (low, high) == (-math.inf, 1.0)
    assert near(0.48, low, high)
    assert not near(1.48, low, high)
    assert not near(0.48, *interval_of("R² 0.1 ± 0.1 (95 % from 0.0 to 0.2)", "R²"))


def test_statistics_are_answered_with_their_errors(desk: Path) -> None:
    said = run(desk, "counts_and_means.py")
    assert "ε=0.2 was charged at each hospital." in said
    assert "of the error, noise" in said


def test_a_cohort_is_described_by_groups_with_a_plot_and_a_page(desk: Path) -> None:
    said = run(desk, "describe.py")
    assert "age (years)" in said
    assert "Wrote describe.html" in said
    assert (desk / "describe.png").read_bytes().startswith(b"\x89PNG")
    page = (desk / "describe.html").read_text()
    assert "Only records count for which age is at least 18" in page
    assert "1 release, each signed by its hospital" in page


def test_a_stock_client_gets_a_release(desk: Path) -> None:
    said = run(desk, "by_hand_pysyft.py")
    assert "released" in said
    assert "mean/temperature: [" in said
    shutil.copy(desk / "hand-written.certificate.json", desk / "copy.certificate.json")
    command = [sys.executable, "-m", "researcher", "verify", "copy.certificate.json"]
    done = subprocess.run(
        command, cwd=desk, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert "copy.certificate.json: valid" in done.stdout


def test_the_readmes_study_runs_as_it_stands(desk: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (study,) = [content for language, content in code(readme) if language == "python"]
    (desk / "readme.py").write_text(f"{study}\nprint(result)\n")
    assert "5 rounds, 6 releases" in run(desk, "readme.py")
    assert (desk / "flu-2026" / "weights.safetensors").exists()


def test_a_table_of_ones_own_is_trained_on_by_secureml(desk: Path) -> None:
    said = run(desk, "secureml_local.py")
    told = re.search(r"(\d+)% of the table's rows", said)
    assert told is not None
    assert int(told[1]) > 80  # 63 % of them have class 1
    assert "5 certificates; the ledger is ledger.db." in said


def test_every_example_is_run_here_and_described() -> None:
    tests, described = (
        "".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py")),
        (EXAMPLES / "README.md").read_text(encoding="utf-8"),
    )
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.name}"' in tests
        assert f"]({path.name})" in described
