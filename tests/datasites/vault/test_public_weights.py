"""Public weights are kept once they are the ones that were named, by whom they came from, and checked at each use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasites.vault import public_weights
from datasites.vault.public_weights import PublicWeights, Taken
from policies.errors import Unavailable, WeightsRefused
from policies.release.tensors import digest, to_bytes
from tests.factories import OTHER, RESEARCHER

TENSORS = {"body.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "body.bias": np.ones(3, np.float32)}
SHAPES = {"body.weight": ((3, 4), "float32"), "body.bias": ((3,), "float32")}
CONTENT, WANTED = to_bytes(TENSORS), digest(TENSORS)


@pytest.fixture
def kept(tmp_path: Path) -> PublicWeights:
    return PublicWeights(tmp_path / "public_weights", most=10 << 20)


def give(kept: PublicWeights, content: bytes = CONTENT, *, wanted: str = WANTED, part: int = 100) -> Taken:
    taken = kept.take(RESEARCHER, wanted, SHAPES, begin=0, size=len(content), content=b"")
    while not taken.kept:
        piece = content[taken.have : taken.have + part]
        taken = kept.take(RESEARCHER, wanted, SHAPES, begin=taken.have, size=len(content), content=piece)
    return taken


def files(kept: PublicWeights) -> list[Path]:
    return [path for path in kept.directory.rglob("*") if path.is_file()]


def test_weights_that_come_in_parts_are_kept_when_they_are_whole(kept: PublicWeights) -> None:
    with pytest.raises(WeightsRefused, match="does not have the public weights"):
        kept.check_here(RESEARCHER, WANTED)
    give(kept)
    kept.check_here(RESEARCHER, WANTED)
    loaded = kept.load(RESEARCHER, WANTED, SHAPES)
    assert digest(loaded) == WANTED
    (file,) = files(kept)
    assert file.stat().st_mode & 0o777 == 0o600
    assert RESEARCHER not in str(file)


def test_an_upload_that_was_cut_off_goes_on_where_it_was_also_in_another_process(kept: PublicWeights) -> None:
    kept.take(RESEARCHER, WANTED, SHAPES, begin=0, size=len(CONTENT), content=CONTENT[:50])
    again = PublicWeights(kept.directory, most=kept.most)
    assert again.take(RESEARCHER, WANTED, SHAPES, begin=0, size=len(CONTENT), content=b"") == Taken(False, 50)
    skipped = again.take(RESEARCHER, WANTED, SHAPES, begin=70, size=len(CONTENT), content=CONTENT[70:])
    assert skipped == Taken(False, 50)  # a part that does not follow is not taken
    give(again)
    assert digest(again.load(RESEARCHER, WANTED, SHAPES)) == WANTED


def other(name: str, value: object) -> bytes:
    return to_bytes({**TENSORS, name: np.asarray(value, dtype=np.float32)})


@pytest.mark.parametrize(
    "content",
    [
        other("body.bias", [1, 1, 2]),
        other("body.bias", [1, 1]),
        other("body.bias", [1, 1, np.nan]),
        other("body.bias", [1, 1, np.inf]),
        other("head.bias", [1]),
        CONTENT[:-1] + b"\x01",
        b"\x80\x04\x95 no tensors at all" * 8,
    ],
)
def test_other_weights_than_the_named_ones_are_not_kept_in_any_part(kept: PublicWeights, content: bytes) -> None:
    with pytest.raises(WeightsRefused):
        give(kept, content)
    assert files(kept) == []
    give(kept)  # and those that were named may still come


def test_no_number_that_is_not_finite_is_kept_though_its_digest_was_named(kept: PublicWeights) -> None:
    poisoned = {**TENSORS, "body.bias": np.array([1, np.nan, 1], np.float32)}
    with pytest.raises(WeightsRefused, match="not finite"):
        give(kept, to_bytes(poisoned), wanted=digest(poisoned))


def test_an_upload_is_no_larger_than_what_the_request_names(kept: PublicWeights) -> None:
    size = (2 << 20) + 1
    with pytest.raises(WeightsRefused, match="came for 2 tensors of at most"):
        kept.take(RESEARCHER, WANTED, SHAPES, begin=0, size=size, content=bytes(100))
    with pytest.raises(WeightsRefused, match="came for 2 tensors of at most"):
        kept.take(RESEARCHER, WANTED, SHAPES, begin=0, size=100, content=bytes(101))
    assert files(kept) == []


def test_what_one_researcher_keeps_is_bounded(kept: PublicWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.most = len(CONTENT) + 10
    give(kept)
    second = {**TENSORS, "body.bias": np.zeros(3, np.float32)}
    with pytest.raises(WeightsRefused, match="public_weights_mib in the hospital's settings"):
        give(kept, to_bytes(second), wanted=digest(second))
    monkeypatch.setattr(public_weights, "KEPT_FREE", 1 << 60)
    kept.most = 10 << 20
    with pytest.raises(WeightsRefused, match="nearly full"):
        give(kept, to_bytes(second), wanted=digest(second))


def test_nobody_learns_whether_another_has_sent_the_same(kept: PublicWeights) -> None:
    give(kept)
    assert not kept.has(OTHER, WANTED)
    assert kept.take(OTHER, WANTED, SHAPES, begin=0, size=len(CONTENT), content=b"") == Taken(False, 0)


def test_a_file_that_was_changed_on_disk_is_not_used_and_may_be_sent_again(kept: PublicWeights) -> None:
    give(kept)
    (file,) = files(kept)
    file.write_bytes(other("body.bias", [1, 1, 2]))
    with pytest.raises(Unavailable, match="damaged on disk"):
        kept.load(RESEARCHER, WANTED, SHAPES)
    assert not kept.has(RESEARCHER, WANTED)
    give(kept)
    assert digest(kept.load(RESEARCHER, WANTED, SHAPES)) == WANTED


def test_a_digest_names_no_path(kept: PublicWeights) -> None:
    assert kept._path("../../etc", "../../passwd").parent.parent == kept.directory


def test_what_no_open_request_names_is_forgotten(kept: PublicWeights) -> None:
    give(kept)
    kept.take(OTHER, WANTED, SHAPES, begin=0, size=len(CONTENT), content=CONTENT[:50])
    kept.forget(keep=[(RESEARCHER, WANTED), (OTHER, WANTED)])
    assert kept.has(RESEARCHER, WANTED)
    assert len(files(kept)) == 1  # what never came whole is not kept over a start
    kept.forget(keep=[])
    assert files(kept) == []
