"""Bad values at the edges of an owner's command line: one line that names value and next step, and no traceback."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from datasites.cli import main as command_line
from datasites.datasite import Datasite
from datasites.directory import create_directory
from tests.factories import SCHEMA, write_table

LONG = "x" * 5000
NO_TEXT = "\udcff"  # what a byte that is not UTF-8 becomes in an argument
Run = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    settings = create_directory(
        root / "hospital", name="A", host="127.0.0.1", port=9400, owner_email="owner@datasite.example"
    )
    Datasite.create(settings, owner_password="long-enough-password")
    (root / "schema.toml").write_text(SCHEMA)
    write_table(root / "visits.csv", patients=20)
    (root / "password").write_text("correct horse battery\n")
    sqlite3.connect(root / "records.db").close()
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "root"))


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """What a command says that is refused."""

    def refused(*arguments: object, directory: Path | None = None) -> str:
        where = () if directory == Path() else ("--dir", str(directory or root / "hospital"))
        monkeypatch.setattr("sys.argv", ["datasite", *map(str, arguments), *where])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        said = capsys.readouterr()
        assert ended.value.code == 1, said
        assert said.err.startswith("Error: ")
        assert "Traceback" not in said.err
        return said.err.removeprefix("Error: ")

    return refused


# -- tables and databases --------------------------------------------------------------------------------------------

TABLES: dict[str, tuple[bytes, str]] = {
    "empty.csv": (b"", "empty.csv has no header row. Its first row should name the columns."),
    "bytes.csv": (bytes(range(256)), "Line 2 of bytes.csv has the byte 0x80, not UTF-8. Save it as UTF-8, or"),
    "header.csv": (b"patient,age,temperature,cough,onset,influenza\n", "The table has no rows. Publish one that has."),
    "others.csv": (b"a,b\n1,2\n", "Column 'patient' is declared and not in the table, which has a, b."),
    "empty.parquet": (b"", "empty.parquet cannot be read as Parquet"),
    "bytes.parquet": (bytes(range(256)), "bytes.parquet cannot be read as Parquet"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_cannot_be_read_is_named(run: Run, root: Path, name: str) -> None:
    content, said = TABLES[name]
    (root / name).write_bytes(content)
    assert said in run("publish", root / name, "--schema", root / "schema.toml", "--patients", 20)


DATABASES = {
    "": "The database URL cannot be read. Write it as postgresql://",
    "not a url": "The database URL cannot be read",
    "sqlite:////no/such.db": "/no/such.db is not a file",
    "oracle+nope://x": "The database refused or could not be reached (NoSuchModuleError)",
    "mysql://a@b/c": "The database refused or could not be reached (ModuleNotFoundError)",
    "postgresql://reader:secret@127.0.0.1:1/x": "Connection refused",
}


@pytest.mark.parametrize("database", DATABASES)
def test_a_database_that_cannot_be_reached_is_named_without_its_password(run: Run, root: Path, database: str) -> None:
    arguments = ("--sql", "select 1", "--database", database, "--schema", root / "schema.toml", "--patients", 20)
    said = run("publish", *arguments)
    assert DATABASES[database] in said
    assert "secret" not in said


QUERIES = {
    "": "does not begin with SELECT or WITH",
    "drop table t": "does not begin with SELECT or WITH",
    "select": "incomplete input",
    "select * from nope": "no such table: nope",
    "select x'ff' as patient": "holds bytes that are no text in UTF-8. Leave that column out, or cast it",
    "select 1 as patient, 2 as patient": "has 2 columns named 'patient'",
}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_that_cannot_be_answered_is_named(run: Run, root: Path, query: str) -> None:
    database = f"sqlite:///{root / 'records.db'}"
    arguments = ("--sql", query, "--database", database, "--schema", root / "schema.toml", "--patients", 20)
    assert QUERIES[query] in run("publish", *arguments)


SIZES = {
    ("--patients", "0"): "patients=0 is not a whole number from 1 to 1,000,000,000",
    ("--patients", "9" * 30): "is not a whole number from 1 to 1,000,000,000",
    ("--count-epsilon", "nan"): "epsilon=nan is not a number",
    ("--count-epsilon", "-1"): "epsilon=-1.0 is outside (0, 100]",
    ("--patients", "20", "--budget-epsilon", "inf"): "epsilon=inf is outside (0, 100]",
    ("--patients", "20", "--budget-delta", "2"): "delta=2.0 is outside (0, 0.01]",
    ("--patients", "20", "--public-mock", LONG): "File name too long. Mend the path",
}


@pytest.mark.parametrize("options", SIZES, ids=lambda options: " ".join(options)[:40])
def test_a_number_out_of_bounds_is_named_with_them(run: Run, root: Path, options: tuple[str, ...]) -> None:
    assert SIZES[options] in run("publish", root / "visits.csv", "--schema", root / "schema.toml", *options)


SCHEMAS = {
    b"\xff": "is not text in UTF-8. Save it as that.",
    b"[[": "The schema is not TOML",
    b"x = 1": "The schema declares no columns",
    b"x = " + b"9" * 5000: "The schema is not TOML",
    b"x = " + b"[" * 100_000: "The schema is not TOML",
    SCHEMA.replace("0.25", "nan").encode(): "holdout=nan is outside [0, 0.5]",
    SCHEMA.replace("maximum = 100", "maximum = 2026-01-01").encode(): "Column 'age': maximum=",
}


@pytest.mark.parametrize("content", SCHEMAS, ids=range(len(SCHEMAS)))
def test_a_schema_that_cannot_be_used_is_named(run: Run, root: Path, content: bytes) -> None:
    (root / "bad.toml").write_bytes(content)
    said = run("publish", root / "visits.csv", "--schema", root / "bad.toml", "--patients", 20)
    assert SCHEMAS[content] in said


# -- text and paths --------------------------------------------------------------------------------------------------

COMMANDS: dict[str, tuple[str, ...]] = {
    "retire": ("retire", "@"),
    "show": ("show", "@"),
    "approve": ("approve", "@", "--yes"),
    "deny": ("deny", "@", "--reason", "no"),
    "revoke": ("revoke", "@"),
    "ask-changes": ("ask-changes", "@", "--comment", "more"),
    "certificate": ("certificate", "@", "1"),
    "stop-run": ("stop-run", "@"),
    "what-if": ("what-if", "@"),
    "try": ("try", "@"),
    "audit": ("audit", "@"),
    "raise-budget": ("raise-budget", "@", "--epsilon", "3", "--yes"),
    "researchers disable": ("researchers", "disable", "@"),
    "researchers limit": ("researchers", "limit", "@", "--population", "p"),
    "inbox": ("inbox", "--population", "@"),
    "approve --dry-run": ("approve", "@", "--dry-run"),
    "projects reserve": ("projects", "reserve", "@", "--population", "p", "--epsilon", "1"),
    "projects free": ("projects", "free", "@", "--population", "p"),
    "console-users disable": ("console-users", "disable", "@"),
}


@pytest.mark.parametrize(
    "value", ["", LONG, NO_TEXT, "[/b]", "../.."], ids=["empty", "long", "no text", "markup", "path"]
)
@pytest.mark.parametrize("name", COMMANDS)
def test_what_names_nothing_is_refused_in_a_sentence(run: Run, name: str, value: str) -> None:
    said = run(*(value if word == "@" else word for word in COMMANDS[name]))
    assert said.rstrip().endswith((".", "them.", "anew."))


def test_text_that_is_none_is_refused_whatever_it_is_for(run: Run) -> None:
    assert "search='\\udcff' is not text in UTF-8. Type it anew." in run("log", "--search", NO_TEXT)
    assert "email='\\udcff' is not text in UTF-8. Type it anew." in run("sign-out", NO_TEXT)
    assert "nobody@a.example has no account of the console." in run("sign-out", "nobody@a.example")


def test_a_path_that_the_system_refuses_is_named(run: Run, root: Path) -> None:
    for arguments in (("schema", LONG), ("backup", LONG)):
        assert "File name too long" in run(*arguments, directory=Path() if arguments[0] == "schema" else None)
    assert f"{root / 'no'} is no directory. Make it first." in run("backup", root / "no" / "such")
    assert "is not a file" in run("restore", root / "none", directory=root / "new")
    (root / "none").write_bytes(os.urandom(500))
    assert "it is no tar file, or its end is missing" in run("restore", root / "none", directory=root / "new")
    assert f"{root / 'password'} is a file. Choose another --dir." in run(
        "init", "--name", "A", directory=root / "password"
    )
    assert "No such file or directory. Mend the path" in run("init", "--name", "A", directory=Path("/proc/none/here"))


@pytest.mark.parametrize("name", ["", " ", LONG, "\x1b[2J", "a\nb"])
def test_a_hospital_without_a_name_that_can_be_shown_is_not_made(run: Run, root: Path, name: str) -> None:
    assert "Write the hospital's name, as researchers see it." in run("init", "--name", name, directory=root / "new")
    assert "is not an e-mail address." in run("init", "--name", "A", "--email", name, directory=root / "new")
    assert not (root / "new").exists()


# -- files of the directory ------------------------------------------------------------------------------------------


def test_a_policy_that_cannot_be_read_is_named(run: Run, root: Path) -> None:
    path = root / "hospital" / "policy.toml"
    path.write_bytes(b"\xff")
    assert f"{path} is not UTF-8 at byte 0. Mend that line by hand." in run("policy", "show")
    path.unlink()
    assert "policy.toml cannot be read." in run("policy", "show")
    path.mkdir()
    assert "Is a directory. Mend the path" in run("policy", "set", root / "schema.toml")
    (root / "bad").write_bytes(b"\xff")
    assert "is not text in UTF-8" in run("policy", "set", root / "bad")
    assert "cannot be read: Is a directory" in run("policy", "set", path)


@pytest.mark.parametrize("content", [b"x = " + b"9" * 5000, b"x = " + b"[" * 100_000, b"x = 1", b"approval_days = nan"])
def test_rules_that_cannot_be_used_are_named_and_nothing_is_replaced(run: Run, root: Path, content: bytes) -> None:
    before = (root / "hospital" / "policy.toml").read_bytes()
    (root / "bad").write_bytes(content)
    assert "policy.toml cannot be used: " in run("policy", "set", root / "bad")
    assert (root / "hospital" / "policy.toml").read_bytes() == before


@pytest.mark.parametrize("content", [b"damaged", None])
def test_a_lost_key_is_named_with_the_way_back(run: Run, root: Path, content: bytes | None) -> None:
    for name in ("certificate.pem", "population.secret"):
        path = root / "hospital" / name
        path.unlink()
        if content:
            path.write_bytes(content)
    assert "certificate.pem in the datasite's directory is missing or damaged. Put it back from a backup." in run(
        "serve"
    )
    assert "certificate.pem in" in run("rotate-key", "--yes")
    said = run("publish", root / "visits.csv", "--schema", root / "schema.toml", "--patients", 20)
    assert "population.secret in the datasite's directory is missing or damaged." in said


@pytest.mark.parametrize("name", ["ledger.db", "console.db"])
def test_a_damaged_file_is_named_with_the_way_back(run: Run, root: Path, name: str) -> None:
    (root / "hospital" / name).write_bytes(b"no database at all, but long enough to be looked at")
    said = run("console-users", "list")
    assert "backup" in said
    assert ("console.db" in said) == (name == "console.db")


DIALS = {
    "no port": (("coordinator.example",), "HOST:PORT='coordinator.example' is no host and port"),
    "a url": (("https://coordinator.example:1",), "is no host and port. Write coordinator.example:9443."),
    "no such port": (("coordinator.example:99999",), "is no host and port"),
    "no authority": (("localhost:1", "--ca", "none.pem"), "--ca none.pem cannot be read: No such file or directory."),
    "plain http elsewhere": (
        ("localhost:1", "--datasite", "http://datasite.example:1"),
        "Write https://host:port, or http on loopback.",
    ),
    "a datasite without a port": (("localhost:1", "--datasite", "https://a.example"), "is no address. Write https://"),
    "no authority of it": (
        ("localhost:1", "--datasite", "https://a.example:1", "--datasite-ca", "none.pem"),
        "--datasite-ca none.pem cannot be read",
    ),
}


@pytest.mark.parametrize("name", DIALS)
def test_a_dial_out_that_cannot_be_is_refused_by_name(run: Run, name: str) -> None:
    arguments, said = DIALS[name]
    assert said in run("dial-out", *arguments)


def test_a_dial_out_needs_a_datasite(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATASITE_DIR", raising=False)
    assert "Name the datasite: --dir on its own machine" in run("dial-out", "localhost:1", directory=Path())


# -- a fault of ours -------------------------------------------------------------------------------------------------


def test_a_fault_of_ours_is_one_line_that_tells_how_to_see_more(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("p1, 39.3")  # a value that could be a patient's

    monkeypatch.setattr(command_line, "act", fail)
    said = run("datasets")
    assert said.startswith("This command failed inside (KeyError), a fault of the software. With DATASITE_TRACEBACK=1 ")
    assert "39.3" not in said
    monkeypatch.setenv("DATASITE_TRACEBACK", "1")
    monkeypatch.setattr("sys.argv", ["datasite", "datasets", "--dir", "."])
    with pytest.raises(KeyError):
        command_line.main()
    assert issubclass(typer.Exit, Exception)
