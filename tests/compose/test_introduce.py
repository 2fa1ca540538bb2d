"""The words of a hospital's key come into the researcher's network file."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from compose import introduce
from compose.make_secrets import NAMES, Names, network_file

WORDS = "buzzard ratchet zulu eating physique talon chopper beehive miser cowbell drumbeat chatter"


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(introduce, "SECRETS", tmp_path)
    (tmp_path / "network.toml").write_text(network_file(Names.read(NAMES)))
    monkeypatch.setenv("NETWORK", str(tmp_path / "home.toml"))
    return tmp_path / "home.toml"


def test_words_and_whole_paths_are_written(network: Path) -> None:
    assert introduce.main(["paediatric", *WORDS.split()]) == 0
    written = tomllib.loads(network.read_text())
    assert [each.get("words") for each in written["datasites"]] == [None, WORDS, None]
    for each in (written["coordinator"], *written["datasites"]):
        paths = [value for name, value in each.items() if name.endswith("_file")]
        assert paths
        assert all(path.startswith(f"{network.parent}/") for path in paths)


def test_words_may_be_written_anew(network: Path) -> None:
    introduce.main(["paediatric", "other", "words"])
    introduce.main(["paediatric", *WORDS.split()])
    assert network.read_text().count("words = ") == 1
    assert f'words = "{WORDS}"' in network.read_text()


@pytest.mark.parametrize("hospital", ["general", "nowhere"])
def test_a_hospital_that_does_not_dial_out_is_refused(
    network: Path, hospital: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert introduce.main([hospital, *WORDS.split()]) == 2
    assert f"no hospital '{hospital}' that dials out" in capsys.readouterr().err
    assert not network.exists()
