"""Private files: only their owner reads them, and a replaced one is whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from datasites.files import replace_private, write_private


def test_only_their_owner_can_read_what_is_written(tmp_path: Path) -> None:
    for write in (write_private, replace_private):
        path = tmp_path / f"{write.__name__}.toml"
        write(path, "ε = 1\n")
        assert path.read_text(encoding="utf-8") == "ε = 1\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_replacement_that_is_cut_off_leaves_the_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policy.toml"
    write_private(path, "old")

    def power_cut(*_: object) -> None:
        raise OSError("no power")

    with monkeypatch.context() as cut:
        cut.setattr(os, "replace", power_cut)
        with pytest.raises(OSError, match="power"):
            replace_private(path, "new")
    assert path.read_text() == "old"
    replace_private(path, "new")
    assert (path.read_text(), [file.name for file in tmp_path.iterdir()]) == ("new", ["policy.toml"])
