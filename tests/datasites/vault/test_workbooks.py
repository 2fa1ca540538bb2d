"""Excel workbooks: a sheet's cells as texts, and files made to do harm refused with bounded memory and time."""

from __future__ import annotations

import datetime
import re
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from openpyxl.xml.constants import SHARED_STRINGS, SHEET_MAIN_NS

from datasites.vault import confined_reading, workbooks
from datasites.vault.tables import read_table
from datasites.vault.workbooks import read_workbook
from policies.errors import DataRefused
from policies.schema.as_written import FileFormat

DAY = datetime.datetime(2020, 1, 31)
SHEET, STRINGS, TYPES = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "[Content_Types].xml"


def book(path: Path, rows: Sequence[Sequence[Any]], *, more: Sequence[str] = (), title: str = "Visits") -> Path:
    """A workbook with these rows in its first sheet, and further sheets by name.

    Texts of the first sheet are shared, as Excel writes them and openpyxl does not.
    """
    made = openpyxl.Workbook()
    assert made.active is not None
    made.active.title = title
    for row in rows:
        made.active.append(list(row))
    for name in more:
        made.create_sheet(name)
    made.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    strings: list[str] = []

    def shared(cell: re.Match[str]) -> str:
        strings.append(f"<si><t>{cell[2]}</t></si>")
        return f'<c r="{cell[1]}" t="s"><v>{len(strings) - 1}</v></c>'

    inline = re.compile(r'<c r="(\w+)" t="inlineStr"><is><t>(.*?)</t></is></c>', re.DOTALL)
    parts[SHEET] = inline.sub(shared, parts[SHEET])
    parts[STRINGS] = f'<sst xmlns="{SHEET_MAIN_NS}">{"".join(strings)}</sst>'
    kind = f'<Override PartName="/{STRINGS}" ContentType="{SHARED_STRINGS}"/></Types>'
    parts[TYPES] = parts[TYPES].replace("</Types>", kind)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def rewritten(path: Path, part: str, change: Callable[[str], str]) -> Path:
    """The workbook with one part changed."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[part] = change(parts[part].decode()).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def cells(path: Path, file: FileFormat = FileFormat()) -> list[list[str]]:  # noqa: B008, which is frozen
    return [
        row for piece in read_workbook(path, file) for row in map(list, zip(*piece.to_pydict().values(), strict=True))
    ]


def refusal(path: Path, file: FileFormat = FileFormat()) -> DataRefused:  # noqa: B008
    with pytest.raises(DataRefused) as refused:
        list(read_workbook(path, file))
    return refused.value


def test_cells_are_texts_as_people_read_them(tmp_path: Path) -> None:
    path = book(
        tmp_path / "t.xlsx", [["pid", "HbA1c (%)"], ["007", 7.25], [7, 7.0], [True, DAY], [None, "x"], ["a", None]]
    )
    assert cells(path) == [["007", "7.25"], ["7", "7"], ["true", "2020-01-31 00:00:00"], ["", "x"], ["a", ""]]
    assert cells(path, FileFormat(separator=";", decimal=","))[0] == ["007", "7,25"]


def test_blank_rows_amid_the_rows_are_kept_and_those_at_the_end_are_not(tmp_path: Path) -> None:
    assert cells(book(tmp_path / "t.xlsx", [["pid"], ["a"], [None], ["b"], [None], [None]])) == [["a"], [""], ["b"]]


def test_a_sheet_is_chosen_by_name_and_rows_above_the_header_are_passed_over(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", [["Visits 2020"], [], ["pid", "age"], ["a", 30]], more=["Codes"])
    assert "has 2 sheets: 'Visits', 'Codes'. Declare one" in str(refusal(path))
    assert "has no sheet 'visits'. It has 'Visits', 'Codes'" in str(refusal(path, FileFormat(sheet="visits")))
    assert cells(path, FileFormat(sheet="Visits", skip=2)) == [["a", "30"]]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "has no header in row 1"),
        ([["pid", None, "age"], ["a", 1, 2]], "no plain header above column 2, in row 1"),
        ([["pid", "=A1"], ["a", 1]], "no plain header above column 2"),
        ([["pid", "age"], ["a", 1, 2]], "row 2 has a cell beyond the header's 2 columns"),
    ],
)
def test_a_sheet_without_a_plain_header_is_refused(tmp_path: Path, rows: list[list[Any]], said: str) -> None:
    assert said in str(refusal(book(tmp_path / "t.xlsx", rows)))


def test_formulas_are_refused_by_row_and_column_and_counted(tmp_path: Path) -> None:
    refused = refusal(book(tmp_path / "t.xlsx", [["pid", "bmi"], *[["a", "=1+1"]] * 30]))
    assert refused.total == 30
    assert len(refused.faults) == 20
    assert refused.faults[0] == "row 2, column 'bmi': holds a formula, and what it came to may be old"


def test_a_text_that_begins_as_a_formula_is_a_text(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", [["pid", "note"], ["a", "x"]])
    rewritten(path, STRINGS, lambda text: text.replace("<t>x</t>", "<t>=1+1</t>"))
    assert cells(path) == [["a", "=1+1"]]


# Files made to do harm


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"\xd0\xcf\x11\xe0 an old .xls", b"a,b\n1,2\n"])
def test_what_is_no_workbook_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.xlsx").write_bytes(content)
    assert "cannot be read as an Excel workbook (BadZipFile" in str(refusal(tmp_path / "t.xlsx"))


def test_an_archive_that_is_no_workbook_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as archive:
        archive.writestr("a.txt", "x")
    assert "cannot be read as an Excel workbook (KeyError" in str(refusal(tmp_path / "t.xlsx"))


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = book(tmp_path / "t.xlsx", [["pid"], ["a"]])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/bomb.xml", b"\0" * (8 << 20))
    assert path.stat().st_size < 32 << 10
    monkeypatch.setattr(workbooks, "LARGEST_UNPACKED", 4 << 20)
    assert "unpacks to" in str(refusal(path))


ENTITIES = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "lol">{}]>""".format(
    "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
)
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("part", [SHEET, STRINGS, "xl/workbook.xml", TYPES, "xl/styles.xml"])
@pytest.mark.parametrize("entities", [ENTITIES, OUTSIDE])
def test_entities_of_xml_are_refused_in_every_part(tmp_path: Path, part: str, entities: str) -> None:
    path = book(tmp_path / "t.xlsx", [["pid"], ["a"]])
    rewritten(
        path, part, lambda text: entities + text.partition("?>")[2] if text.startswith("<?xml") else entities + text
    )
    begun = time.process_time()
    assert "declares entities of XML" in str(refusal(path))
    assert time.process_time() - begun < 5


def test_a_sheet_that_says_it_is_huge_is_no_larger_for_that(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", [["pid"], ["a"]])
    rewritten(path, SHEET, lambda text: text.replace('ref="A1:A2"', 'ref="A1:XFD1048576"'))
    assert cells(path) == [["a"]]


def test_a_row_far_below_is_not_waited_for(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", [["pid"], ["a"], ["b"]])
    far = "1000000000000"
    rewritten(path, SHEET, lambda text: text.replace('<row r="3"', f'<row r="{far}"').replace('r="A3"', f'r="A{far}"'))
    assert cells(path) == [["a"]]


@pytest.mark.process
def test_a_workbook_is_read_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", [["Title"], ["pid", "age"], ["ü", 30], ["b", 31.5]])
    frame = read_table(path, FileFormat(skip=1))
    assert frame.index.tolist() == [3, 4]
    assert frame.to_dict("list") == {"pid": ["ü", "b"], "age": ["30", "31.5"]}
    with pytest.raises(DataRefused, match=r"(?s)1 cell.*row 3, column 'age': holds a formula") as refused:
        read_table(book(tmp_path / "f.xlsx", [["pid", "age"], ["a", 1], ["b", "=A1"]]))
    assert (refused.value.total, len(refused.value.faults)) == (1, 1)


@pytest.mark.process
def test_a_reader_that_takes_all_memory_or_time_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row of the sheet is a cell of a million characters."""
    path = book(tmp_path / "t.xlsx", [["pid"], ["a"]])
    text = f't="inlineStr"><is><t>{"x" * (1 << 20)}</t></is></c></row>'
    rows = "".join(f'<row r="{row}"><c r="A{row}" {text}' for row in range(3, 403))
    rewritten(path, SHEET, lambda sheet: sheet.replace("</sheetData>", rows + "</sheetData>"))
    assert path.stat().st_size < 4 << 20
    with monkeypatch.context() as patched:
        patched.setattr(confined_reading, "LARGEST_MEMORY", 500 << 20)
        with pytest.raises(DataRefused, match="of memory to be read"):
            read_table(path)
    monkeypatch.setattr(confined_reading, "LONGEST_SECONDS", 1)
    with pytest.raises(DataRefused, match="takes longer to read than 1 s of a processor"):
        read_table(path)
