"""Read the owner's table from CSV, Parquet or an SQL query. Values stay as written; nothing is guessed.

The frame's index, named `row`, counts as the owner's tools do: the first row below a CSV's header is row 2, the first
of a Parquet file or query is row 1. Credentials come from a file or the environment and never stand in an error.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasites.vault.cells import arrow_array
from policies.errors import DataRefused
from policies.text import password_in

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy.engine import URL

PASSWORD_VARIABLE = "DATASITE_DATABASE_PASSWORD"
BLOCK_BYTES = 16 << 20
ROWS_AT_ONCE = 50_000
MOST_FAULTS = 20
ENDINGS = (".csv", ".txt", "", ".parquet", ".pq")


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


def read_table(source: Path | str | SqlQuery) -> pd.DataFrame:
    """The owner's table, its values as written (CSV) or as typed (Parquet, SQL), its index the row as in the source.

    Raises:
      DataRefused: it cannot be read; names the file, the row where there is one, and the next step.
    """
    if isinstance(source, SqlQuery):
        return _numbered(_read_sql(source), first=1)
    path = Path(source)
    if not path.is_file():
        raise DataRefused(f"{path} is not a file. Name a CSV or Parquet file.")
    if path.suffix.lower() not in ENDINGS:
        raise DataRefused(f"{path.name} is neither CSV nor Parquet by its ending. Save it as .csv or as .parquet.")
    if path.suffix.lower() in (".parquet", ".pq"):
        return _numbered(_read_parquet(path), first=1)
    return _numbered(_read_csv(path), first=2)


def read_header(path: Path) -> list[str]:
    """Column names in the first row of a CSV file, without surrounding spaces. Raises `DataRefused`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except csv.Error as error:
        raise DataRefused(f"{path.name} cannot be read as CSV: {error}. Save it as comma-separated UTF-8.") from None
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise DataRefused(f"{path.name} is not separated by commas. Save it as comma-separated UTF-8.")
    if not any(header):
        raise DataRefused(f"{path.name} has no header row. Its first row should name the columns.")
    names = [name.strip() for name in header]
    check_headers(path.name, names)
    return names


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


def _read_csv(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    names = read_header(path)
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
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            parse_options=arrow_csv.ParseOptions(
                newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=note
            ),
            convert_options=arrow_csv.ConvertOptions(column_types=_all_text(path), strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise _not_utf8(path) from None
        raise DataRefused(f"{path.name} cannot be read as CSV: {str(error)[:300]}. Mend it there.") from None
    if total:
        faults = "\n".join(uneven)
        raise DataRefused(
            f"{path.name} has {total} uneven row(s). Look for a missing comma or quote.\n{faults}",
            faults=tuple(uneven),
            total=total,
        )
    return _without_blank_end(_as_frame(table.rename_columns(names)))


def _all_text(path: Path) -> dict[str, Any]:
    """Every column read as text, under its header as the file has it."""
    import pyarrow as pa

    with path.open(encoding="utf-8-sig", newline="") as file:
        return dict.fromkeys(next(csv.reader(file)), pa.string())


def _without_blank_end(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without blank lines at its end; one further up is kept, and refused as a row without a patient."""
    rows = len(frame)
    while rows and not any(frame.iloc[rows - 1]):
        rows -= 1
    return frame.iloc[:rows]


def _not_utf8(path: Path) -> DataRefused:
    """The refusal that names the first line which is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = f"0x{line[error.start]:02x}"
                return DataRefused(f"Line {number} of {path.name} has the byte {byte}, not UTF-8. Save it as UTF-8.")
    return DataRefused(f"{path.name} is not UTF-8. Save it as UTF-8.")


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

    if not source.query.lstrip().lower().startswith(("select", "with")):
        raise DataRefused(
            "The query does not begin with SELECT or WITH. Publishing reads and never changes a database."
        )
    url = _database_url(source)
    pieces_read: list[Any] = []
    try:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool, hide_parameters=True)
        if engine.dialect.name == "postgresql":
            engine = engine.execution_options(postgresql_readonly=True)
        with engine.connect() as connection:
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
