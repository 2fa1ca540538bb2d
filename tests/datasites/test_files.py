"""Private files: 0600, replaced whole, and nothing half written stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from datasites.files import replace_private, write_private


@pytest.mark.parametrize("write", [write_private, replace_private])
@pytest.mark.parametrize("content", ["text ε\r\n", b"\x00\xff"])
def test_what_is_written_is_read_back_and_private(write: object, content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    before = os.umask(0)
    try:
        for each in (b"longer than what comes after it, by far", content):
            write(path, each)  # type: ignore[operator]
    finally:
        os.umask(before)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_who_has_the_old_file_open_keeps_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, "old")
    with path.open() as file:
        replace_private(path, "new")
        assert file.read() == "old"
    assert path.read_text() == "new"


def test_a_failed_replacement_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_private(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_private(path, "new")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("write", [write_private, replace_private])
def test_text_that_no_file_can_hold_does_not_touch_the_old_one(write: object, tmp_path: Path) -> None:
    write_private(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write(tmp_path / "file", "\ud800")  # type: ignore[operator]
    assert (tmp_path / "file").read_text() == "old"
