"""What writes the documents sees imports, commands and settings as they are; and the checks of documents can fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from datasites.review.policy import Rules
from datasites.settings import Settings
from docs.generator import DOCS, commands, declarations, library, rooms, states, written
from policies.schema.schemas import Schema
from tests.docs import reading


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small house of three rooms, in which `door` leans on `review`, and `review` on `policies`."""
    files = {
        "policies/__init__.py": '"""Shared."""',
        "policies/errors.py": '"""Errors | of all."""',
        "datasites/__init__.py": "",
        "datasites/review/__init__.py": '"""Judges."""',
        "datasites/review/decisions.py": '"""Decides.\n\nAt length."""\nfrom policies import errors\n',
        "datasites/door/__init__.py": '"""Where calls come in."""',
        "datasites/door/app.py": (
            "from typing import TYPE_CHECKING\n"
            "from datasites.review.decisions import decide\n"
            "if TYPE_CHECKING:\n    from datasites.vault import rows\n"
            "def late():\n    import policies.errors\n"
        ),
        "datasites/vault/__init__.py": '"""Rows."""',
        "datasites/vault/rows.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_arrows_are_the_imports_late_ones_too_but_those_for_type_checkers(house: Path) -> None:
    found = rooms.arrows(house)
    assert found["datasites/door"] == {"datasites/review", "policies/errors"}
    assert found["datasites/review"] == {"policies/errors"}
    assert found["datasites/vault"] == frozenset()


def test_the_picture_leaves_out_what_other_arrows_show(house: Path) -> None:
    picture = rooms.picture(house, "datasites")
    assert "datasites_door --> datasites_review" in picture
    assert "datasites_review --> policies" in picture
    assert "datasites_door --> policies" not in picture
    assert 'datasites_vault["vault"]' in picture


def test_a_circle_is_shown_whole() -> None:
    graph = {name: frozenset(others) for name, others in {"a": "bc", "b": "ac", "c": ""}.items()}
    assert rooms.without_detours(graph) == {"a": {"b", "c"}, "b": {"a", "c"}, "c": frozenset()}


def test_tables_keep_their_columns(house: Path) -> None:
    assert "| `policies/errors.py` | Errors \\| of all. |" in rooms.modules(house)
    assert "| `datasites/review` | Judges. | policies |" in rooms.table(house)


def test_each_move_of_a_request_is_drawn_with_its_party() -> None:
    assert "checked --> approved: owner" in states.requests()
    assert "running --> failed" in states.runs()


def test_commands_are_shown_with_arguments_options_and_defaults() -> None:
    text = commands.datasite()
    assert "### datasite researchers add" in text
    assert "datasite audit REQUEST [--canaries INTEGER] [--seed INTEGER] [--json]" in text
    assert "Default: `4000`" in text
    assert "* `REQUEST`: The request's id" in text


def test_every_setting_and_rule_has_a_row() -> None:
    settings, policy = declarations.settings(), declarations.policy()
    for name in Settings.__annotations__.keys() - {"directory"}:
        assert settings.count(f"| `{name}` | `") == 1
    for name in Rules.__annotations__:
        assert policy.count(f"| `{name}` | ") == 1
    assert "| `researcher_epsilon` | off; for example `3.0` |" in policy
    assert '| `host` | `"127.0.0.1"` | any other than loopback' in settings


def test_the_example_of_a_schema_is_one() -> None:
    whole, added, beside = re.findall("```toml\n(.*?)```", library.schema(), re.DOTALL)
    assert Schema.from_toml(whole).name == "flu"
    assert Schema.from_toml(f'name = "t"\npopulation = "p"\npatient = "pid"\n{added}').file.sheet == "Visits"
    assert Schema.from_toml(f"{whole}\n{beside}").tensors[0].shape == (1, 64, 64)


def test_the_library_is_shown_with_methods_of_base_classes_and_properties() -> None:
    text = library.library()
    assert "### researcher.connect(where" in text
    assert "* `submit(project=...)`: " in text
    assert "* `wait_for_approval(timeout=...)`: " in text
    assert "* `mock`: " in text


def test_a_stale_part_is_written_anew_and_the_rest_stays() -> None:
    stale = "Mine.\n\n<!-- generated: part -->\nold\n<!-- end of part -->\n\nMine too.\n"
    assert written(stale, {"part": lambda: "new\n"}) == stale.replace("old", "new")
    with pytest.raises(KeyError):
        written(stale, {})


# -- the checks of documents find what is wrong ------------------------------------------------------------------------

HERE = DOCS / "proof.md"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[a](nothing.md)", "no such file"),
        ("[a](owners.md#nothing)", "no such heading"),
        ("[a](#nothing)", "no such heading"),
        ("![a](nothing.png)", "no such file"),
        ("[a](../../outside.md)", "no such file"),
    ],
)
def test_a_dead_link_is_found(text: str, what: str) -> None:
    (found,) = reading.dead_links(text, HERE)
    assert what in found


@pytest.mark.parametrize(
    "text",
    [
        "`datasite explode`",
        "`datasite researchers explode`",
        "```\ndatasite publish visits.csv --colour red   # no such option\n```",
        "Say `researcher\nexplode study.py`.",
    ],
)
def test_a_command_that_does_not_exist_is_found(text: str) -> None:
    assert len(reading.dead_commands(text)) == 1


@pytest.mark.parametrize("text", ["`datasite`", "the `datasite` command", "`datasite researchers add A --name B`"])
def test_a_command_that_exists_is_none(text: str) -> None:
    assert reading.dead_commands(text) == []


def test_dead_targets_modules_paths_and_names_are_found() -> None:
    assert len(reading.dead_targets("`make nothing` and `python -m tests.nothing`")) == 2
    assert len(reading.dead_paths("`datasites/nothing.py` and `tests/attacks/corpus/CATEGORY/`")) == 1
    assert len(reading.dead_names("`NOTHING` and `Rules` of `datasites/review/policy.py`")) == 1


def test_code_that_does_not_parse_is_found() -> None:
    assert len(reading.broken_code("```python\nx = (\n```\n\n```toml\nx = \n```\n\n```\nx = (\n```")) == 2


def test_anchors_are_named_as_github_names_them() -> None:
    assert reading.anchors("# True ε\n## `datasite` what-if?\n## A, b\n## A b\n") == {
        "true-ε",
        "datasite-what-if",
        "a-b",
        "a-b-1",
    }
