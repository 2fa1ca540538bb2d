"""Datasets: what is published, its schema and mock, a new version by upload, and retiring."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.responses import Response

from datasites.console import formats
from datasites.console.forms import Form, Upload
from datasites.console.page_requests import PageRequest
from datasites.console.wording import public
from policies.errors import DatasiteError, InvalidRequest
from policies.numbers import counted
from policies.privacy.budget import PrivacyBudget

_FAULT = re.compile(r"^row (\d+), column '([^']*)': (.*)$", re.DOTALL)
_ENDING = re.compile(r"(\.[a-z0-9]{1,10})?")
NEW_BUDGET = PrivacyBudget(6.0, 1e-5)  # of a population that a form says no other for
SCRATCH = "upload-"  # begins the name of the directory that holds an upload while it is published


def datasets(visit: PageRequest) -> Response:
    """Every published dataset, its earlier versions below."""
    shown = visit.act("datasets")
    balances = {balance["population"]: balance for balance in shown["populations"]}
    return visit.render(
        "datasets.html",
        published=[dataset for dataset in shown["datasets"] if dataset["status"] == "published"],
        retired=[dataset for dataset in reversed(shown["datasets"]) if dataset["status"] == "retired"],
        balances=balances,
    )


def dataset(visit: PageRequest) -> Response:
    """One version: schema and mock, and for the owner what publishing noticed."""
    version = visit.path["version"]
    noticed = visit.act("publication_report", version=version) if visit.is_owner else None
    return visit.render("dataset.html", data=visit.act("dataset", version=version), noticed=noticed)


def retire(visit: PageRequest) -> Response:
    """Take a dataset back, its name typed."""
    name = visit.path["name"]
    if visit.form.text("typed") != name:
        raise InvalidRequest(f"Type the name of the dataset, {name[:80]}, to retire it.")
    visit.act("retire", name=name)
    return visit.go("/datasets", f"Retired {name}. Its population's ledger keeps every charge.")


def publish_form(visit: PageRequest) -> Response:
    """The form for a new dataset, or a new version of one."""
    version = visit.query("version")
    given = {"schema": visit.act("dataset", version=version)["toml"]} if version else {}
    return _form(visit, given)


def publish_form_with(visit: PageRequest, schema: str) -> Response:
    """The form for a new dataset, with a schema that was drafted."""
    return _form(visit, {"schema": schema})


def _form(
    visit: PageRequest,
    given: dict[str, str],
    *,
    error: DatasiteError | None = None,
    seen: dict[str, Any] | None = None,
    status: int = 200,
) -> Response:
    populations = visit.datasite.ledger.budgets.populations()
    return visit.render(
        "publish.html",
        status=status,
        given={
            "schema": "",
            "size": "count",
            "patients": "",
            "count_epsilon": "0.1",
            "mock_epsilon": "",
            "epsilon": formats.in_a_field(NEW_BUDGET.epsilon),
            "delta": formats.in_a_field(NEW_BUDGET.delta),
            **given,
        },
        populations=populations,
        why=public(error) if error else "",
        seen=seen,
        faults=_faults(error),
        total=getattr(error, "total", 0),
        largest=visit.datasite.settings.largest_body_mib,
    )


@dataclass(frozen=True)
class Fault:
    """One line of the table of faults; `row` and `column` are empty where a fault is of neither."""

    row: int | None
    column: str
    what: str


def _faults(error: DatasiteError | None) -> list[Fault]:
    faults = []
    for text in getattr(error, "faults", ()):
        place = _FAULT.match(text)
        faults.append(Fault(int(place[1]), place[2], place[3]) if place else Fault(None, "", text))
    return faults


def publish(visit: PageRequest) -> Response:
    """Check the uploaded table and publish it, all or nothing; or only check it, as `datasite publish --check` does.

    The upload is removed again, whatever happens.
    """
    form = visit.form
    given = {
        name: form.text(name) for name in ("size", "patients", "count_epsilon", "mock_epsilon", "epsilon", "delta")
    }
    given["schema"] = (form.fields.get("schema", [""])[-1]).replace("\r\n", "\n")
    only_check = form.text("step") == "check"
    try:
        done = _publish(visit, form, given["schema"], only_check=only_check)
    except DatasiteError as error:
        return _form(visit, given, error=error, status=422)
    if only_check:
        return _form(visit, given, seen=done)
    return visit.go(
        f"/datasets/{done['version']}", f"Published {done['name']} with {counted(done['patients'], 'patient')}."
    )


def _publish(visit: PageRequest, form: Form, schema: str, *, only_check: bool) -> dict[str, Any]:
    """What was typed, handed on as the command line does: it is judged in the action alone."""
    declared = form.text("size") == "declared"
    epsilon, delta = form.number("epsilon", "ε"), form.number("delta", "δ")
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=visit.datasite.settings.directory) as scratch:
        arguments: dict[str, Any] = {
            "table": _kept(Path(scratch), "table", form.files.get("table")),
            "sql": None,
            "database": None,
            "password_file": None,
            "schema": schema,
            "tensors": _kept(Path(scratch), "tensors", form.files.get("tensors")),
            "budget": [
                NEW_BUDGET.epsilon if epsilon is None else epsilon,
                NEW_BUDGET.delta if delta is None else delta,
            ],
        }
        if only_check:
            seen: dict[str, Any] = visit.act("check_publication", **arguments)
            return seen
        arguments |= {
            "public_mock": _kept(Path(scratch), "mock", form.files.get("mock")),
            "patients": form.number("patients", "Number of patients") if declared else None,
            "count_epsilon": None if declared else form.number("count_epsilon", "ε of the count"),
            "mock_epsilon": form.number("mock_epsilon", "ε of the mock"),
        }
        done: dict[str, Any] = visit.act("publish", **arguments)
    return done


def _kept(scratch: Path, name: str, upload: Upload | None) -> str | None:
    """An upload as a file under a name of ours, with its own ending; None where no file was chosen."""
    if upload is None or not (upload.filename or upload.size):
        return None
    ending = Path(upload.filename).suffix.lower()
    if not _ENDING.fullmatch(ending):
        ending = ".unknown"
    path = scratch / f"{name}{ending}"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        shutil.copyfileobj(upload.file, file, 1 << 20)
    return str(path)


def remove_uploads(directory: Path) -> None:
    """Remove the uploads that a killed process left in the datasite's directory; nothing may be publishing there."""
    for scratch in directory.glob(f"{SCRATCH}*"):
        shutil.rmtree(scratch)
