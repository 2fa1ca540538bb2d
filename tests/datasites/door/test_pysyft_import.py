"""What a datasite imports of PySyft: neither notebooks nor clusters nor clouds, and the collector leaves it alone."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from datasites import serve
from tests.e2e.stock import call_until_done, login, submit
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess, initial_weights, training_source

PROGRAM = """
import json, sys
from pathlib import Path
from datasites.door.syft import WITHOUT
from datasites.serve import open_datasite
from datasites.settings import Settings

with open_datasite(Settings.load(Path(sys.argv[1]))) as datasite:
    datasite.syft.add_researcher("rita@uni.example", "Rita", "a long enough password")
    asset = datasite.ledger.datasets.list()[0].assets["records"]
    facts = {"researchers": len(datasite.syft.researchers()), "mock": list(datasite.syft.mock(asset).shape)}
    datasite.accounts.close()
print(json.dumps({**facts, "left_out": WITHOUT, "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""
ALSO_GONE = {
    "torch",
    "sympy",
    "matplotlib",
    "PIL",
    "jedi",
    "prompt_toolkit",
    "aiohttp",
    "httpx",
    "jsonpath",
}  # of what is left out


@pytest.mark.slow
def test_a_datasite_works_without_what_is_left_out_of_pysyft(made_datasite: Path, tmp_path: Path) -> None:
    copy = tmp_path / "datasite"
    shutil.copytree(made_datasite, copy, ignore=shutil.ignore_patterns("*.sock"))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM, str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["left_out"]
    assert said["researchers"] == 3
    assert len(said["mock"]) == 2
    assert "syft" in said["modules"]
    assert not {*said["left_out"], *ALSO_GONE} & set(said["modules"])


@pytest.mark.slow
def test_a_datasite_that_publishes_and_releases_has_no_native_code_of_torch_in_it(datasite: DatasiteProcess) -> None:
    """Nor when a stock client has sent tensors and has read some."""
    client = login(datasite.url, RESEARCHER, PASSWORD)
    submit(client, training_source())
    datasite.approve_all()
    release = call_until_done(client, "flu_round", weights=initial_weights())["release"]
    assert all(type(tensor).__name__ == "Tensor" and tensor.dtype.is_floating_point for tensor in release.values())
    assert datasite.process is not None
    mapped = Path(f"/proc/{datasite.process.pid}/maps").read_text()
    assert "capnp" in mapped  # which PySyft reads calls with
    assert "libtorch" not in mapped


def test_a_start_leaves_what_it_imported_to_no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[str] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append("frozen"))
    monkeypatch.setattr(gc, "collect", lambda: frozen.append("collected"))
    before, during = gc.get_threshold(), 0
    with serve._staying_in_memory():
        during = gc.get_threshold()[0]
        assert frozen == []
    assert frozen == ["collected", "frozen"]  # what is garbage goes first, as it could not go later
    assert during > before[0]
    assert gc.get_threshold() == before


def test_a_start_that_fails_leaves_the_collector_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "freeze", lambda: pytest.fail("It froze."))
    before: Any = gc.get_threshold()
    with pytest.raises(KeyError), serve._staying_in_memory():
        raise KeyError
    assert gc.get_threshold() == before
