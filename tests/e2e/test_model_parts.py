"""Public weights, a frozen body and a head that stays, through a real datasite: from a file to certified releases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import researcher
from policies.release.certificates import explain, verify
from policies.release.tensors import digest, from_bytes, to_bytes
from researcher.network import network_of
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess

TRAINING = researcher.Training(
    loss="binary_cross_entropy_with_logits",
    rounds=2,
    steps=10,
    sampling_rate=0.2,
    clipping_norm=1.0,
    epsilon=0.7,
    learning_rate=0.5,
)


class Bodied(nn.Module):
    """A body of two layers and a head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 8), nn.Tanh())
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.fixture
def datasite(made_datasite: Path, tmp_path: Path, jobs: Path) -> Iterator[DatasiteProcess]:
    server = DatasiteProcess(made_datasite, tmp_path / "datasite", jobs=jobs).start()
    yield server
    server.stop()


@pytest.fixture
def public(tmp_path: Path) -> dict[str, np.ndarray[Any, Any]]:
    torch.manual_seed(11)
    return {name: value.detach().numpy() for name, value in Bodied().named_parameters()}


def study_of(datasite: DatasiteProcess, folder: Path, **options: Any) -> researcher.Study:
    from researcher.client import Datasite

    network = network_of({"here": Datasite(datasite.url, RESEARCHER, PASSWORD, name="here")})
    name = options.pop("name")
    return researcher.Study(
        name, network.dataset("flu"), Bodied, TRAINING, state=folder / name, progress=False, **options
    )


def approved(datasite: DatasiteProcess, study: researcher.Study) -> researcher.Study:
    study.submit()
    datasite.approve_all()
    study.wait_for_approval(timeout=60)
    return study


def test_a_frozen_body_and_a_local_head_from_a_file_to_certificates(
    datasite: DatasiteProcess, public: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "public.pt"
    torch.save({name: torch.from_numpy(value) for name, value in public.items()}, path)
    options = {"weights": path, "evaluation": researcher.Evaluation(epsilon=0.5)}
    frozen = approved(datasite, study_of(datasite, tmp_path, name="frozen", frozen="body.*", **options))
    result = frozen.run()
    assert set(result.weights) == {"head.weight", "head.bias"}
    for certificate in result.releases:
        content = verify(certificate.certificate, release=certificate.tensors)
        body = {name: value for name, value in public.items() if name.startswith("body")}
        assert content["mechanism"]["public_weights"] == digest(body)
        assert [row[0] for row in content["release"]["tensors"]] == ["head.bias", "head.weight"]
        assert any("Nothing checks where public weights come from" in line for line in explain(content))
    first = verify(result.releases[0].certificate)
    assert first["mechanism"]["initial"] == first["weights_digest"]
    assert result.evaluate().accuracy()["here"].estimate.value > 0.3

    local = approved(datasite, study_of(datasite, tmp_path, name="local", local="head.*", **options))
    heads = datasite.directory / "local_heads"
    result = local.run()
    assert set(result.weights) == {name for name in public if name.startswith("body")}
    kept = sorted(heads.rglob("*.safetensors"))
    assert [file.name for file in kept] == ["00001.safetensors", "00002.safetensors"]
    last = from_bytes(kept[-1].read_bytes())
    assert set(last) == {"head.weight", "head.bias"}
    assert digest(last) != digest({name: public[name] for name in last})
    # Nothing that left holds it: neither a release nor a certificate nor what the ledger keeps of either.
    spelled = last["head.weight"].tobytes()
    for release in local.state.releases():
        assert spelled not in to_bytes(dict(release.tensors))
    for database in ("ledger.db", "datasite.db", "calls.db"):
        assert spelled not in (datasite.directory / database).read_bytes()

    datasite.stop()
    datasite.start()
    assert sorted(heads.rglob("*.safetensors")) == kept
    assert len(list((datasite.directory / "public_weights").rglob("*.safetensors"))) == 2
    evaluated = result.evaluate()
    assert evaluated.accuracy()["here"].estimate.value > 0.3
    (request,) = [one for one in datasite.json("requests") if one["function"] == "local"]
    shown = datasite.cli("show", request["id"]).stdout
    assert "stay at this hospital" in " ".join(shown.split())
    local.withdraw()
    assert list(heads.rglob("*.safetensors")) == []
    datasite.cli("ledger", "--verify")
