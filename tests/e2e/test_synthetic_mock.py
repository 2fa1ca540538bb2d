"""A mock with signal, from publication to a DataFrame: charged, certified, marked, and worth something."""

from __future__ import annotations

from pathlib import Path

import pytest

import researcher
from policies.errors import CertificateRefused
from policies.release import certificates
from researcher.members import PUBLIC_MOCK
from tests.factories import PASSWORD, RESEARCHER, SCHEMA, DatasiteProcess, write_table


def test_a_mock_with_signal_is_charged_certified_and_marked(shared_datasite: DatasiteProcess, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "network.toml").write_text(
        f'[[datasites]]\nname = "general"\nurl = "{shared_datasite.url}"\nemail = "{RESEARCHER}"\n'
        'password_file = "password"\n'
    )
    assert researcher.connect(tmp_path / "network.toml").dataset("flu").mock_origins == {"general": PUBLIC_MOCK}
    before = shared_datasite.json("datasets")["populations"][0]["epsilon_spent"]

    made = write_table(tmp_path / "visits.csv")
    (tmp_path / "schema.toml").write_text(SCHEMA)
    shared_datasite.cli(
        "publish",
        str(made),
        "--schema",
        str(tmp_path / "schema.toml"),
        "--count-epsilon",
        "0.1",
        "--mock-epsilon",
        "1.5",
    )
    after = shared_datasite.json("datasets")
    assert after["populations"][0]["epsilon_spent"] > before + 0.3
    assert shared_datasite.cli("ledger", "--verify").returncode == 0

    network = researcher.connect(tmp_path / "network.toml")
    flu = network.dataset("flu")
    assert flu.mock_origins == {"general": "private tables, ε = 1.5"}
    assert "Mock with signal: general (private tables, ε = 1.5)" in repr(flu)
    described = network.descriptions["general"]["datasets"][0]
    content = certificates.verify(described["mock_certificate"])
    assert (content["function"], content["version"]) == ("synthetic_mock", described["version"])
    assert certificates.verify(described["size_certificate"])["function"] == "published_patients"

    mock = flu.mock
    sick = mock["influenza"].astype(bool)
    assert mock["temperature"][sick].mean() - mock["temperature"][~sick].mean() > 0.8  # 1.6 in the table; 0 by chance
    assert mock["cough"][sick].astype(bool).mean() > mock["cough"][~sick].astype(bool).mean() + 0.2

    described["mock_certificate"] = described["size_certificate"]
    with pytest.raises(CertificateRefused, match="a certificate of something else for its mock"):
        repr(flu)
