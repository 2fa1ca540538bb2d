"""Two hospitals whose tables differ by one patient answer with the same bytes, but for noise, keys and times.

The extra patient is the worst that a schema admits: two hundred visits, every value at a bound. Everything that a
researcher can ask for is asked of both; what is random by design (identifiers, digests, signatures, noisy numbers,
times) is replaced by its kind, and the rest must be equal to the byte. The owner's log is compared too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from syft.types.errors import SyftException

from tests.e2e.stock import asset_of, call, call_until_done, login, submit
from tests.factories import (
    PASSWORD,
    RESEARCHER,
    SCHEMA,
    DatasiteProcess,
    initial_weights,
    statistics_source,
    training_source,
    write_table,
)

EVALUATION = training_source("flu_scores").replace("dp_sgd", "evaluate").split("\n    return ")[0] + (
    "\n    return evaluate(FluPredictor, records, weights, round, loss='binary_cross_entropy', epsilon=0.3)\n"
)


@pytest.fixture(scope="module")
def neighbours(made_datasite: Path, tmp_path_factory: pytest.TempPathFactory, jobs: Path) -> Iterator[list[Any]]:
    """Two datasites on tables that differ by one patient, otherwise copies of one directory."""
    folder = tmp_path_factory.mktemp("neighbours")
    (folder / "schema.toml").write_text(SCHEMA.replace('name = "flu"', 'name = "visits"'))
    table = write_table(folder / "one.csv").read_text()
    (folder / "two.csv").write_text(table + "extra,100,42.0,1,1,1\n" * 200)
    served = []
    for name in ("one", "two"):
        datasite = DatasiteProcess(made_datasite, folder / name, jobs=jobs).start()
        served.append(datasite)
        asked = (str(folder / f"{name}.csv"), "--schema", str(folder / "schema.toml"), "--patients", "400")
        datasite.cli("publish", *asked)
    yield served
    for datasite in served:
        datasite.stop()


def everything_a_researcher_sees(datasite: DatasiteProcess) -> dict[str, Any]:
    client = login(datasite.url, RESEARCHER, PASSWORD)
    service = client.api.services.datasite
    seen: dict[str, Any] = {"mock": asset_of(client, "visits").mock.tolist()}
    sources = {"flu_round": training_source(), "flu_counts": statistics_source(), "flu_scores": EVALUATION}
    for name, source in sources.items():
        seen[f"quote {name}"] = service.quote(source=source, dataset="visits")
        submit(client, source, weights=name != "flu_counts", dataset="visits")
    seen["early"] = refusal(client, "flu_round", weights=initial_weights())
    datasite.approve_all()
    seen["wrong weights"] = refusal(client, "flu_round", weights={"other": initial_weights()["layer2.bias"]})
    for name in sources:
        weights = {} if name == "flu_counts" else {"weights": initial_weights()}
        answer = call_until_done(client, name, dataset="visits", **weights)
        shapes = {key: (tuple(value.shape), str(value.dtype)) for key, value in answer["release"].items()}
        seen[f"release {name}"] = {**answer, "release": shapes}
    seen["other weights"] = refusal(client, "flu_round", weights={k: v + 1 for k, v in initial_weights().items()})
    seen["too many"] = refusal(client, "flu_round", weights=initial_weights(), round=9)
    seen["describe"] = service.describe()
    seen["requests"] = service.requests()
    seen["status"] = [service.request_status(code=each["id"]) for each in seen["requests"]]
    return seen


def refusal(client: Any, name: str, **arguments: Any) -> str:
    with pytest.raises(SyftException) as caught:
        call(client, name, dataset="visits", **arguments)
    return str(caught.value)


def without_what_is_random(value: Any) -> str:
    """A value as text, with identifiers, digests, times and floats of noise replaced by their kinds."""
    text = re.sub(r"\b[0-9a-f]{128}\b", "<signature>", repr(value))
    text = re.sub(r"\b[0-9a-f]{64}\b", "<digest>", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "<id>", text)
    text = re.sub(r"\b[0-9a-f]{16}\b", "<version>", text)
    text = re.sub(r"\b[0-9a-f]{8}\b", "<id>", text)
    return re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.,]+(\+00:00)?", "<time>", text)


def test_everything_but_noise_is_equal_to_the_byte(neighbours: list[DatasiteProcess]) -> None:
    one, two = (everything_a_researcher_sees(datasite) for datasite in neighbours)
    assert set(one) == set(two)
    for name in one:
        assert without_what_is_random(one[name]) == without_what_is_random(two[name]), name


def test_ledgers_and_logs_are_equal_but_for_ids_and_times(neighbours: list[DatasiteProcess]) -> None:
    entries = [
        [(each["kind"], each["divergence"], each["actor"]) for each in datasite.json("ledger")["entries"]]
        for datasite in neighbours
    ]
    assert entries[0] == entries[1]
    logs = [without_what_is_random((each.directory / "datasite.log").read_text()) for each in neighbours]
    assert logs[0].replace(str(neighbours[0].directory), "") == logs[1].replace(str(neighbours[1].directory), "")


def test_nothing_but_a_constructor_chooses_the_noise() -> None:
    """Keys come from the operating system; a constant one stands where the runner warms up on a mock, alone."""
    root = Path(__file__).resolve().parents[2] / "datasites"
    calls = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called.split(".")[-1] == "NoiseSource" or (path.name == "noise.py" and called == "cls"):
                    calls.add((path.name, ast.unparse(node)))
    assert calls == {
        ("child.py", "NoiseSource(constant)"),
        ("noise.py", "NoiseSource(derived.finalize())"),
        ("noise.py", "cls(os.urandom(KEY_BYTES))"),
    }
    child = ast.parse((root / "runner" / "child.py").read_text())
    warming = [each for each in child.body if isinstance(each, ast.FunctionDef) and "constant" in ast.unparse(each)]
    assert [each.name for each in warming] == ["_warm_runner"]
    noise = (root / "noise.py").read_text()
    assert not any(word in noise for word in ("environ", "getenv", "settings", "argv"))
