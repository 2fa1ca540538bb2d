"""Stand-ins: nothing is imported before it is used, what is used is real, and a library that needs more gets it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policies.deferred_imports import import_without, without

HEAVY = """
import sys

class Widget:
    size = 7

    def __init__(self, text="nothing"):
        self.text = text

class HeavyError(Exception): ...

def double(number):
    return 2 * number

def get_shell():
    raise AssertionError("called at import")
"""
LIBRARY = """
import heavy
import heavy.deep.deeper as deeper
from heavy import HeavyError, Widget, double, get_shell
from heavy.deep import deeper as again

SHELL = get_shell()

def annotated(widget: Widget | None) -> "heavy.Widget": ...

def careful(work):
    try:
        return work()
    except HeavyError:
        return "caught"

class Extended(Widget): ...
"""


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "heavy" / "deep").mkdir(parents=True)
    (tmp_path / "heavy" / "__init__.py").write_text(HEAVY)
    (tmp_path / "heavy" / "deep" / "__init__.py").write_text("")
    (tmp_path / "heavy" / "deep" / "deeper.py").write_text("def triple(number):\n    return 3 * number\n")
    (tmp_path / "library.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("heavy", "library")]:
        del sys.modules[name]


def imported(**given: Any) -> Any:
    import_without("library", ["heavy"], given={"heavy.get_shell": lambda: None, **given})
    return sys.modules["library"]


def heavy_ones() -> list[str]:
    return [name for name in sys.modules if name.split(".")[0] == "heavy"]


@pytest.mark.usefixtures("libraries")
def test_what_is_left_out_is_not_imported_and_leaves_no_trace() -> None:
    finders = list(sys.meta_path)
    library = imported()
    assert library.SHELL is None
    assert heavy_ones() == []
    assert sys.meta_path == finders
    assert not isinstance(3, library.Widget)
    assert library.careful(lambda: "fine") == "fine"
    assert heavy_ones() == []


@pytest.mark.usefixtures("libraries")
def test_what_is_used_is_the_real_thing() -> None:
    library = imported()
    assert library.double(21) == 42
    assert library.deeper.triple(2) == library.again.triple(2) == 6
    widget = library.Widget("real")
    heavy = importlib.import_module("heavy")
    assert type(widget) is heavy.Widget
    assert isinstance(widget, library.Widget)
    assert isinstance(heavy.Widget(), library.Widget)
    assert library.Widget.size == 7


@pytest.mark.usefixtures("libraries")
def test_what_a_library_calls_while_it_is_imported_is_let_in(libraries: Path) -> None:
    (libraries / "library.py").write_text("from heavy import double\nimport heavy\nFOUR = double(2)\n")
    library = imported()
    assert library.FOUR == 4
    assert heavy_ones() == ["heavy"]
    assert not isinstance(sys.modules["heavy"], type(library.heavy))


@pytest.mark.usefixtures("libraries")
def test_an_object_of_a_class_that_extends_a_stand_in_is_refused() -> None:
    with pytest.raises(ImportError, match=r"Extended extends heavy\.Widget, which was not imported\. Import heavy"):
        imported().Extended()


def test_a_library_that_needs_more_than_stand_ins_is_imported_whole(
    libraries: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (libraries / "library.py").write_text("from heavy import Widget\nTOTAL = Widget.size + 1\n")
    assert imported().TOTAL == 8
    assert "library needs what was left out of its import" in caplog.text
    assert heavy_ones() == ["heavy"]


def test_a_library_that_is_broken_says_so(libraries: Path) -> None:
    (libraries / "library.py").write_text("raise ValueError('broken')\n")
    with pytest.raises(ValueError, match="broken"):
        imported()


@pytest.mark.usefixtures("libraries")
def test_a_package_that_is_there_already_is_used_as_it_is() -> None:
    heavy = importlib.import_module("heavy")
    with without(["heavy"]):
        assert importlib.import_module("heavy") is heavy
    assert importlib.import_module("heavy") is heavy


def test_a_package_that_is_to_be_missing_is_as_if_it_were_not_installed(libraries: Path) -> None:
    (libraries / "library.py").write_text(
        "try:\n    import heavy\nexcept ImportError:\n    heavy = None\nfrom heavy import double\n"
    )
    with pytest.raises(ImportError, match="heavy is left out"), without([], missing=["heavy"]):
        importlib.import_module("library")
    import_without("library", [], missing=["heavy"])  # which does not get by without, and so gets it
    assert sys.modules["library"].double(2) == 4
    assert importlib.import_module("heavy").double(1) == 2
