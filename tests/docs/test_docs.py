"""The documents are true: generated parts are current, links and commands lead somewhere, code parses, counts agree."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from docs.generator import DOCS, ROOT, SECTIONS, documents, rooms, written
from tests.attacks.payloads import HONEST, TITLES, payloads
from tests.docs import reading

README = ROOT / "README.md"
WRITTEN = [README, *documents(), ROOT / "examples" / "README.md"]
EVERY = [*WRITTEN, ROOT / "CHANGELOG.md"]


def names(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", documents(), ids=names)
def test_generated_parts_are_what_the_code_says(path: Path) -> None:
    assert text_of(path) == written(text_of(path)), "Run make docs."


def test_every_generated_part_has_one_place() -> None:
    placed = Counter(re.findall(r"<!-- generated: (.+?) -->", "\n".join(map(text_of, documents()))))
    assert placed == dict.fromkeys(SECTIONS, 1)


@pytest.mark.parametrize("path", EVERY, ids=names)
def test_links_lead_somewhere(path: Path) -> None:
    assert reading.dead_links(text_of(path), path) == []


@pytest.mark.parametrize("path", WRITTEN, ids=names)
def test_commands_targets_and_paths_exist(path: Path) -> None:
    text = text_of(path)
    assert reading.dead_commands(text) + reading.dead_targets(text) + reading.dead_paths(text) == []


@pytest.mark.parametrize("path", WRITTEN, ids=names)
def test_code_parses(path: Path) -> None:
    assert reading.broken_code(text_of(path)) == []


def test_what_contributing_names_stands_in_the_files_that_it_names() -> None:
    assert reading.dead_names(text_of(DOCS / "CONTRIBUTING.md")) == []


def test_every_document_is_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [README]
    while waiting:
        path = waiting.pop()
        seen.add(path)
        links = (str(token.attrs.get("href", "")).partition("#")[0] for token in reading.tokens(text_of(path)))
        targets = {(path.parent / link).resolve() for link in links if link.endswith(".md") and ":" not in link}
        waiting += targets - seen
    assert set(EVERY) <= seen


def test_what_the_architecture_says_of_imports_is_true() -> None:
    """The two sides meet on the wire, `policies` leans on nothing, and PySyft has one place."""
    arrows = rooms.arrows(ROOT)
    for room, others in arrows.items():
        side = room.split("/")[0]
        allowed = {"policies"} if side == "policies" else {"policies", side}
        assert {other.split("/")[0] for other in others} <= allowed, room
    importing = re.compile(r"^\s*(?:import|from) syft\b", re.MULTILINE)
    files = [path for side in rooms.SIDES for path in (ROOT / side).rglob("*.py") if importing.search(text_of(path))]
    assert {names(path.parent) for path in files} == {"datasites/door/syft"}


# -- the README --------------------------------------------------------------------------------------------------------


def test_the_readme_is_short_and_begins_with_the_two_commands() -> None:
    text = text_of(README)
    assert len(text.encode()) < 10_000
    first_screens = "\n".join(text.splitlines()[:45])
    assert "make demo" in first_screens
    assert "make test" in first_screens


def test_a_federated_round_fits_on_a_screen() -> None:
    (study,) = [content for language, content in reading.code(text_of(README)) if language == "python"]
    assert "study.run(" in study
    assert len(study.splitlines()) <= 30


def test_the_guide_has_the_readmes_study() -> None:
    """Which the tests of examples run."""
    short, guide = (
        next(content for language, content in reading.code(text_of(path)) if language == "python")
        for path in (README, DOCS / "researchers.md")
    )
    assert {line for line in short.splitlines() if not line.startswith(("flu =", "result = "))} <= set(
        guide.splitlines()
    )


# -- the proof's tables ------------------------------------------------------------------------------------------------


def test_the_attacks_table_counts_the_corpus() -> None:
    kept = Counter(TITLES[payload.category] for payload in payloads() if payload.category != HONEST)
    assert _counts("attacks") == {**kept, "all": sum(kept.values())}


def test_the_hospitals_table_counts_their_payloads() -> None:
    from tests.attacks.hospitals.payloads import PAYLOADS
    from tests.attacks.hospitals.payloads import TITLES as HOSPITALS

    kept = Counter(HOSPITALS[payload.category] for payload in PAYLOADS.values())
    assert _counts("hospitals") == {**kept, "all": sum(kept.values())}


def test_counts_in_the_proof_are_those_of_the_code() -> None:
    from tests.proof.registry import faults

    text = " ".join(text_of(DOCS / "proof.md").split())
    honest = len(list((ROOT / "tests/attacks/corpus" / HONEST).glob("*.py")))
    assert f"{honest} honest models" in text
    found = [line.split("|")[1].strip() for line in _table("proof").splitlines()[2:] if "stock Opacus" not in line]
    assert len(found) == len(faults()), "Run the new ones: python -m tests.proof --fault NAME"
    assert f"of {len(found)} planted faults" in text


def test_every_table_of_a_run_says_of_which() -> None:
    marks = re.findall(r"<!-- (\w+) table: copied from a run of (.+?) -->", text_of(DOCS / "proof.md"))
    assert marks == [
        ("demo", "make demo"),
        ("attacks", "python -m tests.attacks"),
        ("hospitals", "python -m tests.attacks"),
        ("proof", "python -m tests.proof"),
    ]


def _counts(name: str) -> dict[str, int]:
    """The first number of each row, by its title."""
    rows = re.findall(r"^\| (?:\*\*)?([^|]+?)(?:\*\*)? \| (?:\*\*)?(\d+)(?:\*\*)? \|", _table(name), re.MULTILINE)
    return {title: int(number) for title, number in rows}


def _table(name: str) -> str:
    """The rows of a table that was copied from a run."""
    after = text_of(DOCS / "proof.md").partition(f"<!-- {name} table:")[2].partition("\n")[2]
    return "\n".join(re.findall(r"\A(?:\|.*\n)+", after)[0].splitlines())
