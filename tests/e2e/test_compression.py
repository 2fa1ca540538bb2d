"""Weights that leave as whole numbers, at a real datasite: bytes on the wire, certificates, stock clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import researcher
from policies.release import certificates
from policies.release.compression import DOUBLINGS
from policies.release.tensors import digest
from tests.e2e.stock import call_until_done, login
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess


class Wide(nn.Module):
    """11,201 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Linear(4, 100)
        self.layer2 = nn.Linear(100, 105)
        self.layer3 = nn.Linear(105, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer3(self.layer2(self.layer1(x).relu()).relu()).sigmoid()


def study(datasite: DatasiteProcess, folder: Path, compression: str) -> Any:
    """An approved study of two rounds."""
    (folder / "password").write_text(PASSWORD)
    (folder / "network.toml").write_text(
        f'[[datasites]]\nname = "general"\nurl = "{datasite.url}"\nemail = "{RESEARCHER}"\npassword_file = "password"\n'
    )
    training = researcher.Training(
        loss="binary_cross_entropy",
        rounds=2,
        steps=3,
        sampling_rate=0.2,
        clipping_norm=1.0,
        epsilon=0.5,
        learning_rate=0.5,
        compression=compression,
    )
    flu = researcher.connect(folder / "network.toml").dataset("flu")
    state = folder / compression
    made = researcher.Study(f"flu-{compression}", flu, Wide, training, state=state, progress=False)
    made.submit()
    datasite.approve_all()
    made.wait_for_approval(timeout=30)
    return made


def test_a_round_carries_a_fraction_of_the_bytes_and_its_certificate_is_over_whole_numbers(
    shared_datasite: DatasiteProcess, tmp_path: Path
) -> None:
    received, sent = {}, {}
    for compression in ("none", "int8", "int4"):
        made = study(shared_datasite, tmp_path, compression)
        result = made.run()
        sent[compression] = result.rounds[1].sent_bytes["general"]
        received[compression] = result.rounds[1].received_bytes["general"]
        for release in result.releases:
            stated = certificates.verify(release.certificate, release=release.tensors)
            assert stated["release"]["digest"] == digest(release.tensors)
            if compression != "none":
                assert release.tensors["layer2.weight"].dtype == np.int8
                assert f"whole numbers ({compression})" in " ".join(certificates.explain(stated))
        assert all(np.isfinite(value).all() for value in result.weights.values())
        page = shared_datasite.json("show", made.requests.codes("training")["general"])
        assert any("rounded" in line for line in page["summary"]) == (compression != "none")
    # A certificate, the envelopes and the calls that only look come on top of the arrays, in each form.
    assert received["none"] - received["int8"] > 37_000
    assert received["int8"] - received["int4"] > 2_000
    assert sent["none"] - sent["int8"] > 20_000


def test_a_stock_client_gets_the_same_whole_numbers_one_tensor_a_parameter(
    shared_datasite: DatasiteProcess, tmp_path: Path
) -> None:
    made = study(shared_datasite, tmp_path, "int8")
    made.run()
    kept = made.state.releases()[0]
    client = login(shared_datasite.url, RESEARCHER, PASSWORD)
    weights = {name: torch.from_numpy(value.copy()) for name, value in made._initial().items()}
    half = {name: value.half().float() for name, value in weights.items()}  # as they travelled
    answer = call_until_done(client, "flu_int8", weights=half)
    assert set(answer["release"]) == set(kept.tensors)
    assert (answer["release"][DOUBLINGS].numpy() == kept.tensors[DOUBLINGS]).all()
    assert (answer["release"]["layer2.weight"].numpy() == kept.tensors["layer2.weight"]).all()
