"""Read the owner's table from a file or an SQL query. Values stay as written; nothing is guessed.

Files are CSV, Parquet, Excel workbooks (`.xlsx`), SAS (`.sas7bdat`) and FHIR's bulk exports (`.ndjson`). The frame's
index, named `row`, counts as the owner's tools do: the first row below the header of a CSV file or sheet is the line
after the header, the first of a Parquet or SAS file or of a query is row 1, and a FHIR resource is its line.
Credentials come from a file or the environment and never stand in an error.
"""

from __future__ import annotations

import codecs
import csv
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasites.vault.cells import arrow_array
from datasites.vault.confined_reading import read_confined
from datasites.vault.fhir import read_resources
from policies.errors import DataRefused
from policies.schema.as_written import SEPARATORS, USUAL_FILE, FileFormat
from policies.text import password_in

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy.engine import URL

PASSWORD_VARIABLE = "DATASITE_DATABASE_PASSWORD"
BLOCK_BYTES = 16 << 20
ROWS_AT_ONCE = 50_000
MOST_FAULTS = 20
CSV, PARQUET, FOREIGN, FHIR = (".csv", ".tsv", ".txt", ""), (".parquet", ".pq"), (".xlsx", ".sas7bdat"), (".ndjson",)
KNOWN = "CSV (.csv, .tsv, .txt), Parquet (.parquet, .pq), Excel (.xlsx), SAS (.sas7bdat) or FHIR (.ndjson)"
# What may stand before a query: spaces and comments; but for MySQL's "/*! ... */", which it runs.
BEFORE_A_QUERY = re.compile(r"(\s|--[^\n]*(\n|$)|/\*(?!!).*?\*/)*", re.DOTALL)


@dataclass(frozen=True)
class SqlQuery:
    """A query whose answer is published.

    Args:
      query: one SELECT statement.
      database: an SQLAlchemy URL, as `postgresql://reader@host/name` or `sqlite:///records.db`.
      password_file: a file with the password alone; without one, `DATASITE_DATABASE_PASSWORD`, where set.
    """

    query: str
    database: str = field(repr=False)
    password_file: Path | None = None


def read_table(source: Path | str | SqlQuery, file: FileFormat = USUAL_FILE) -> pd.DataFrame:
    """The owner's table, its values as written (CSV, Excel, FHIR) or as typed (Parquet, SAS, SQL), its index the row.

    Args:
      file: how the file is laid out.

    Raises:
      DataRefused: it cannot be read; names the file, the row where there is one, and the next step.
    """
    if isinstance(source, SqlQuery):
        return _numbered(_read_sql(source), first=1)
    path = Path(source)
    if not path.is_file():
        raise DataRefused(f"{path} is not a file. Name one that is {KNOWN}.")
    ending = path.suffix.lower()
    if ending in PARQUET:
        return _numbered(_read_parquet(path), first=1)
    if ending in CSV:
        return _numbered(_read_csv(path, file), first=file.skip + 2)
    if ending in FOREIGN:
        table = read_confined(path, file)
        check_headers(path.name, list(table.column_names))
        frame = _as_frame(table)
        return _numbered(frame, first=1) if ending == ".sas7bdat" else _numbered(frame, first=file.skip + 2)
    if ending in FHIR:
        table, lines = read_resources(path, file.codes)
        return _as_frame(table).set_axis(lines, axis=0).rename_axis("row")
    raise DataRefused(f"{path.name} cannot be read by its ending. Save it as {KNOWN}.")


def read_header(path: Path, file: FileFormat = USUAL_FILE) -> list[str]:
    """Column names in the header row of a CSV file, without surrounding spaces. Raises `DataRefused`."""
    header = _header(path, file)
    if len(header) == 1 and (others := [other for other in SEPARATORS if other in header[0]]):
        raise DataRefused(
            f"{path.name} is not separated by {'commas' if file.separator == ',' else repr(file.separator)}. Declare"
            f" what it is separated by, as separator = {others[0]!r} under [file]."
        )
    if not any(header):
        raise DataRefused(f"{path.name} has no header row. Its first row should name the columns.")
    names = [name.strip() for name in header]
    check_headers(path.name, names)
    return names


def _header(path: Path, file: FileFormat) -> list[str]:
    """The header's cells as the file has them."""
    try:
        with path.open(encoding="utf-8-sig" if file.encoding == "utf-8" else file.encoding, newline="") as text:
            for _ in range(file.skip):
                text.readline()
            return next(csv.reader(text, delimiter=file.separator), [])
    except UnicodeError:
        raise _not_encoded(path, file.encoding) from None
    except csv.Error as error:
        raise DataRefused(f"{path.name} cannot be read as CSV: {error}. Save it as comma-separated UTF-8.") from None


def sniffed_format(path: Path) -> FileFormat:
    """Encoding and separator of a CSV file, as its beginning shows them: a guess, which its owner sees in a draft.

    Text that is not UTF-8 is taken for windows-1252, which most spreadsheets of the West write.
    """
    with path.open("rb") as file:
        begin = file.read(1 << 20)
    encoding = "utf-16" if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    if encoding == "utf-8":
        try:
            codecs.getincrementaldecoder("utf-8")().decode(begin)
        except UnicodeDecodeError:
            encoding = "windows-1252"
    header = begin.decode(encoding, errors="replace").partition("\n")[0]
    separator = max(SEPARATORS, key=header.count)  # the comma is first, where there are none
    return FileFormat(encoding=encoding, separator=separator)


def check_headers(table: str, names: list[str]) -> None:
    """Raise `DataRefused` where a name occurs twice."""
    for name in names:
        if names.count(name) > 1:
            raise DataRefused(f"{table} has {names.count(name)} columns named {name[:60]!r}. Give each its own name.")


def _numbered(frame: pd.DataFrame, *, first: int) -> pd.DataFrame:
    import pandas as pd

    frame.index = pd.RangeIndex(first, first + len(frame), name="row")
    return frame


def _as_frame(table: Any) -> pd.DataFrame:
    import pandas as pd

    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _read_csv(path: Path, file: FileFormat) -> pd.DataFrame:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    names = read_header(path, file)
    uneven: list[str] = []
    total = 0

    def note(row: Any) -> str:
        nonlocal total
        total += 1
        if len(uneven) < MOST_FAULTS:
            uneven.append(
                f"row {row.number} has {row.actual_columns} cells where the header has {row.expected_columns}"
            )
        return "skip"

    try:
        table = arrow_csv.read_csv(
            path,
            # One thread: only then does the handler hear the number of a row.
            read_options=arrow_csv.ReadOptions(
                use_threads=False, block_size=BLOCK_BYTES, encoding=file.encoding, skip_rows=file.skip
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=file.separator, newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=note
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(_header(path, file), pa.string()), strings_can_be_null=False
            ),
        )
    except UnicodeError:
        raise _not_encoded(path, file.encoding) from None
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise _not_encoded(path, file.encoding) from None
        raise DataRefused(f"{path.name} cannot be read as CSV: {str(error)[:300]}. Mend it there.") from None
    if total:
        faults = "\n".join(uneven)
        raise DataRefused(
            f"{path.name} has {total} uneven row(s). Look for a missing separator or quote.\n{faults}",
            faults=tuple(uneven),
            total=total,
        )
    return _without_blank_end(_as_frame(table.rename_columns(names)))


def _without_blank_end(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without blank lines at its end; one further up is kept, and refused as a row without a patient."""
    rows = len(frame)
    while rows and not any(frame.iloc[rows - 1]):
        rows -= 1
    return frame.iloc[:rows]


def _not_encoded(path: Path, encoding: str) -> DataRefused:
    """The refusal that names the first line which is not in the encoding."""
    called = "UTF-8" if encoding == "utf-8" else encoding
    next_step = "Save it as UTF-8, or declare its encoding, as encoding = 'windows-1252' under [file]."
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and encoding != "utf-16":
            return DataRefused(f"{path.name} begins as UTF-16 does, and is not {called}. Declare encoding = 'utf-16'.")
        file.seek(0)
        for number, line in enumerate(file if encoding != "utf-16" else (), start=1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as error:
                byte = f"0x{line[error.start]:02x}"
                return DataRefused(f"Line {number} of {path.name} has the byte {byte}, not {called}. {next_step}")
    return DataRefused(f"{path.name} is not {called}. {next_step}")


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataRefused(f"{path.name} cannot be read as Parquet: {str(error)[:300]}. Write it anew.") from None
    check_headers(path.name, list(table.column_names))
    return _as_frame(table)


def _read_sql(source: SqlQuery) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    comments = BEFORE_A_QUERY.match(source.query)
    begin = source.query[comments.end() if comments else 0 :]
    if not re.match(r"(select|with)\b", begin, re.IGNORECASE):
        raise DataRefused(
            "The query does not begin with SELECT or WITH (comments aside). Publishing reads and never changes a"
            " database."
        )
    url = _database_url(source)
    pieces_read: list[Any] = []
    try:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool, hide_parameters=True)
        if engine.dialect.name == "postgresql":
            engine = engine.execution_options(postgresql_readonly=True)
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA query_only = ON")
            streaming = connection.execution_options(stream_results=True)
            pieces = pd.read_sql_query(
                sqlalchemy.text(_verbatim(source.query)), streaming, chunksize=ROWS_AT_ONCE, dtype_backend="pyarrow"
            )
            for piece in pieces:
                check_headers("The query's answer", [str(name) for name in piece.columns])
                pieces_read.append(pa.table({name: arrow_array(piece[name]) for name in piece.columns}))
            connection.rollback()
    except UnicodeDecodeError:
        raise DataRefused(
            "The query's answer holds bytes that are no text in UTF-8. Leave that column out, or cast it in the query."
        ) from None
    except (SQLAlchemyError, pd.errors.DatabaseError, ImportError) as error:
        # pandas and SQLAlchemy wrap what the driver said; theirs repeats the whole query.
        reason = str(getattr(error, "orig", None) or getattr(error.__cause__, "orig", None) or error)
        raise DataRefused(
            f"The database refused or could not be reached ({type(error).__name__}): {_scrubbed(reason, url)}. "
            "Check the URL, the password file and the query."
        ) from None
    return _as_frame(_joined(pieces_read))


def _joined(pieces: list[Any]) -> Any:
    """Pieces of one answer as one table; a column whose pieces have no common type becomes text."""
    import pyarrow as pa

    columns = {}
    for place, name in enumerate(pieces[0].column_names):
        parts = [piece.column(place) for piece in pieces]
        # A piece without any value has a type by chance.
        parts = [pa.nulls(len(part)) if part.null_count == len(part) else part for part in parts]
        tables = [pa.table({name: part}) for part in parts]
        try:
            columns[name] = pa.concat_tables(tables, promote_options="permissive").column(0)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            columns[name] = pa.chunked_array([chunk for part in parts for chunk in _texts(part)])
    return pa.table(columns)


def _texts(part: Any) -> list[Any]:
    import pyarrow as pa

    text = part.cast(pa.string())
    return list(text.chunks) if isinstance(text, pa.ChunkedArray) else [text]


def _verbatim(query: str) -> str:
    """The query with its colons kept from SQLAlchemy, which would take `:name` for a parameter."""
    return query.replace("\\:", ":").replace("::", "\0").replace(":", "\\:").replace("\0", "::")


def _database_url(source: SqlQuery) -> URL:
    import sqlalchemy

    try:
        url = sqlalchemy.make_url(source.database)
    except Exception:  # whatever it says could repeat a password that stands in the URL
        raise DataRefused("The database URL cannot be read. Write it as postgresql://reader@host:5432/name.") from None
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    password = os.environ.get(PASSWORD_VARIABLE)
    if source.password_file is not None:
        try:
            text = source.password_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise DataRefused(f"{source.password_file} cannot be read. Name a file with the password alone.") from None
        password = password_in(text, str(source.password_file))
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise DataRefused(f"{url.database} is not a file. Name an SQLite database that exists.")  # else it is created
    return url.set(password=password) if password and url.password is None else url


def _scrubbed(reason: str, url: URL) -> str:
    """The first line of a driver's message, without what could be a password."""
    line = reason.strip().splitlines()[0][:300] if reason.strip() else "no reason given"
    for secret in (url.password, *(value for name, value in url.query.items() if "pass" in name.lower())):
        line = line.replace(str(secret), "***") if secret else line
    return line
