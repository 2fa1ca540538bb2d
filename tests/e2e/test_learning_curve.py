"""A study that scores itself and ends early, at a real datasite: certificates, the owner's page, and the ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

import researcher
from policies.release import certificates
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess


class FluPredictor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Linear(4, 4)
        self.layer2 = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer2(self.layer1(x).relu()).sigmoid()


TRAINING = researcher.Training(
    loss="binary_cross_entropy",
    rounds=4,
    steps=2,
    sampling_rate=0.2,
    clipping_norm=1.0,
    epsilon=1.0,
    learning_rate=0.5,
)


@pytest.fixture(scope="module")
def study(shared_datasite: DatasiteProcess, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A study with a point every second round that ends after its first point, approved."""
    folder: Path = tmp_path_factory.mktemp("researcher")
    (folder / "password").write_text(PASSWORD)
    (folder / "network.toml").write_text(
        f'[[datasites]]\nname = "general"\nurl = "{shared_datasite.url}"\nemail = "{RESEARCHER}"\n'
        'password_file = "password"\n'
    )
    flu = researcher.connect(folder / "network.toml").dataset("flu")
    curve = researcher.Evaluation(epsilon=0.2, bins=10)
    made = researcher.Study(
        "flu-curve",
        flu,
        FluPredictor,
        TRAINING,
        curve=curve,
        every=2,
        stop_when=lambda curve: "Enough." if curve.points else "",
        state=folder / "state",
        progress=False,
    )
    made.submit()
    shared_datasite.approve_all()
    made.wait_for_approval(timeout=30)
    return made


def test_a_study_that_ends_early_pays_for_what_it_used_alone(study: Any, shared_datasite: DatasiteProcess) -> None:
    requests = {line["function"]: line["id"] for line in shared_datasite.json("requests")}
    page = shared_datasite.json("show", requests["flu_curve_curve"])
    assert page["plan"]["mechanism"]["rounds"] == 2
    assert any(
        "a pure ε = 0.2 to the held-out patients; what is never asked goes back." in line for line in page["summary"]
    )

    result = study.run()
    assert [record.round for record in result.rounds] == [1, 2]
    assert result.ended == "After round 2 of 4: Enough."
    assert [point.round for point in result.curve.points] == [2]

    (scored,) = [release for release in result.releases if release.role == "curve"]
    content = certificates.verify(scored.certificate)
    assert content["mechanism"]["kind"] == "evaluation"
    assert (content["round"], content["rounds"], content["mechanism"]["epsilon"]) == (1, 2, 0.2)

    for name, used in (("flu_curve", 2), ("flu_curve_curve", 1)):
        shown = shared_datasite.json("show", requests[name])
        assert shown["status"] == "withdrawn"
        assert len([run for run in shown["rounds"] if run["status"] == "released"]) == used
        assert "What no run has used goes back to the budget." in json.dumps(shown["comments"])
    budgets = shared_datasite.json("datasets")["populations"]
    (budget,) = [budget for budget in budgets if budget["population"] == content["population"]]
    assert budget["epsilon_reserved"] == 0
    assert shared_datasite.cli("ledger", "--verify").returncode == 0
    assert study.run().ended == result.ended  # again, from the study's directory
