"""Standard error holds nothing private: an attack plants a value everywhere it could come from, and looks."""

from __future__ import annotations

import ast
import json
import logging
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path

import pytest

from datasites.logs import Shown, public_event
from tests.factories import DatasiteProcess

ROOT = Path(__file__).resolve().parents[2]
PRIVATE = "temperature 41.77 of patient p4711"

# Everything that a program can do to write, with a private value in it. Run beside the real set-up of serving.
ATTACK = """
    import logging, os, subprocess, sys, threading, traceback, warnings
    from pathlib import Path
    from datasites.logs import Shown, serving_logs, say

    value = {private!r}
    with serving_logs(Path(sys.argv[1]), sys.argv[2]) as out:
        say("serving", name="Small")
        print(value)
        print(value, file=sys.stderr)
        os.write(1, value.encode()); os.write(2, value.encode())
        subprocess.run([sys.executable, "-c", f"import sys; print({{value!r}}); print({{value!r}}, file=sys.stderr)"])
        warnings.warn(value)
        for name in ("datasites.review.rounds", "syft.server", "uvicorn.error", "root", "datasites.ledger.ledger"):
            log = logging.getLogger(name)
            log.warning("Run %s ended: %s", Shown("3f2a91c0"), value)
            log.error("Failed with %d rows and %s.", 4711, ValueError(value))
            try:
                raise ValueError(value)
            except ValueError as error:
                log.exception("It failed.")
                log.error("It failed: %r", error, exc_info=error)
        logging.getLogger("syft").error(value)
        logging.getLogger("sqlalchemy").critical(f"SELECT {{value}}")

        def fall():
            raise RuntimeError(value)

        thread = threading.Thread(target=fall)
        thread.start()
        thread.join()

        class Falling:
            def __del__(self):
                raise RuntimeError(value)

        falling = Falling()
        del falling
        traceback.print_exc()
"""


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.process
def test_no_private_value_reaches_the_operator_by_any_way_of_writing(tmp_path: Path, log_format: str) -> None:
    program = textwrap.dedent(ATTACK).format(private=PRIVATE)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), log_format],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for text in (done.stdout, done.stderr):
        for part in ("41.77", "4711", "temperature", "Traceback"):
            assert part not in text, text
    assert "3f2a91c0" in done.stderr  # what is marked as shown is
    kept = (tmp_path / "datasite.log").read_text() + (tmp_path / "datasite.out").read_text()
    assert kept.count(PRIVATE) > 10  # and the owner has it all
    if log_format == "json":
        lines = [json.loads(line) for line in done.stderr.splitlines()]
        assert all({"time", "level", "logger", "event"} <= set(line) for line in lines)
        assert lines[0]["event"] == "serving"


def test_an_event_of_ours_shows_its_text_and_what_is_marked() -> None:
    def event(name: str, text: object, *arguments: object) -> str:
        return public_event(logging.LogRecord(name, 30, "", 0, text, arguments, None))

    assert event("datasites.review.rounds", "Run %s: %s", Shown("ab"), PRIVATE) == "Run ab: …"
    assert event("datasites.review.rounds", "Run %s: %r", Shown("ab"), PRIVATE) == "Run ab: …"
    assert PRIVATE not in event("datasites.review.rounds", "Run %d", PRIVATE)
    assert PRIVATE not in event("datasites.review.rounds", ValueError(PRIVATE))
    assert PRIVATE not in event("datasites_of_somebody", PRIVATE)
    assert PRIVATE not in event("datasites.review.rounds", f"Fixed.\n%s{PRIVATE}", Shown("a"))


OURS = sorted(ROOT.glob("datasites/**/*.py")) + sorted(ROOT.glob("policies/**/*.py"))


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_log_text_of_ours_is_a_constant(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            on = node.func.value
            if isinstance(on, ast.Name) and on.id in ("logger", "access", "logging") and node.func.attr in LEVELS:
                first = node.args[0]
                allowed = isinstance(first, ast.Constant) or (path.name == "logs.py" and isinstance(first, ast.Name))
                assert allowed, f"{path}:{node.lineno}"


LEVELS = ("debug", "info", "warning", "error", "critical", "exception")


@pytest.mark.slow
def test_each_request_has_one_line_with_no_query_body_or_account(
    made_datasite: Path, tmp_path: Path, jobs: Path
) -> None:
    datasite = DatasiteProcess(made_datasite, tmp_path / "datasite", jobs=jobs)
    datasite.set(log_format="json")
    (datasite.directory / "serve.out").unlink()  # of the directory that this is a copy of
    datasite.start()
    try:
        for path in (
            "/sign-in?next=/secret-query",
            "/api/v2/metadata",
            "/api/v2/nothing-here",
            "/requests/secret-path",
        ):
            try:
                with urllib.request.urlopen(datasite.url + path, timeout=10) as answer:
                    identifier = answer.headers["x-request-id"]
            except urllib.error.HTTPError as error:
                error.close()
        body = json.dumps({"email": "secret@account.example", "password": "secret-password"}).encode()
        login = urllib.request.Request(f"{datasite.url}/api/v2/login", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(login, timeout=10).close()
        assert datasite.cli("health").stdout.strip() == "ok"
    finally:
        datasite.stop()
    text = datasite.log()
    assert "secret" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    seen = [(each["method"], each["route"], each["status"]) for each in lines if each["logger"] == "datasites.access"]
    assert seen[0] == ("GET", "console", 200)
    assert ("GET", "/api/v2/metadata", 200) in seen
    assert ("GET", "other", 404) in seen
    assert ("POST", "/api/v2/login", 200) in seen
    assert not [each for each in seen if each[1] == "/healthz"]
    assert identifier in {each.get("request") for each in lines}
    assert datasite.cli("health", check=False).returncode == 1
