"""Datasets: what is published, its schema and mock, a new version by upload, and retiring."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from starlette.responses import Response

from datasites.console.forms import Form, Upload
from datasites.console.page_requests import PageRequest
from datasites.console.wording import public
from policies.errors import DataRefused, DatasiteError, InvalidRequest

_FAULT = re.compile(r"^row (\d+), column '([^']*)': (.*)$", re.DOTALL)
ENDINGS = (".csv", ".parquet", ".pq")
SCRATCH = "upload-"  # begins the name of the directory that holds an upload while it is published


def datasets(visit: PageRequest) -> Response:
    """Every published dataset, its earlier versions below."""
    found = visit.act("datasets")
    balances = {each["population"]: each for each in found["populations"]}
    return visit.render(
        "datasets.html",
        published=[each for each in found["datasets"] if each["status"] == "published"],
        retired=[each for each in reversed(found["datasets"]) if each["status"] == "retired"],
        balances=balances,
    )


def dataset(visit: PageRequest) -> Response:
    """One version: schema and mock."""
    return visit.render("dataset.html", data=visit.act("dataset", version=visit.path["version"]))


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


def _form(
    visit: PageRequest, given: dict[str, str], *, error: DatasiteError | None = None, status: int = 200
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
            "epsilon": "6",
            "delta": "1e-5",
            **given,
        },
        populations=populations,
        why=public(error) if error else "",
        faults=_faults(error),
        total=getattr(error, "total", 0),
        largest=visit.datasite.settings.largest_body_mib,
    )


def _faults(error: DatasiteError | None) -> list[dict[str, str]]:
    """The table of faults: row, column and what is wrong."""
    rows = []
    for fault in getattr(error, "faults", ()):
        found = _FAULT.match(fault)
        row, column, what = found.groups() if found else ("", "", fault)
        rows.append({"row": row, "column": column, "what": what})
    return rows


def publish(visit: PageRequest) -> Response:
    """Check the uploaded table and publish it, all or nothing. The upload is removed again, whatever happens."""
    form = visit.form
    given = {name: form.text(name) for name in ("size", "patients", "count_epsilon", "epsilon", "delta")}
    given["schema"] = (form.fields.get("schema", [""])[-1]).replace("\r\n", "\n")
    try:
        done = _publish(visit, form, given["schema"])
    except DatasiteError as error:
        return _form(visit, given, error=error, status=422)
    notes = " ".join(done["notes"])
    return visit.go(
        f"/datasets/{done['version']}", f"Published {done['name']} with {done['patients']:,} patients. {notes}".strip()
    )


def _publish(visit: PageRequest, form: Form, schema: str) -> dict[str, Any]:
    upload, mock = form.files.get("table"), form.files.get("mock")
    if upload is None or not upload.size:
        raise DataRefused("No table was chosen. Choose a CSV or Parquet file.")
    declared = form.text("size") == "declared"
    patients = form.number("patients", "Number of patients") if declared else None
    if patients is not None and (patients != int(patients) or not 1 <= patients <= 1_000_000_000):
        raise InvalidRequest(f"Number of patients: {patients:g} is not a whole number from 1 to 1,000,000,000.")
    if declared and patients is None:
        raise InvalidRequest("Write the number of patients, rounded, or choose the differentially private count.")
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=visit.datasite.settings.directory) as scratch:
        arguments = {
            "table": _kept(Path(scratch), "table", upload),
            "public_mock": _kept(Path(scratch), "mock", mock) if mock and mock.size else None,
            "sql": None,
            "database": None,
            "password_file": None,
            "schema": schema,
            "patients": int(patients) if patients is not None else None,
            "count_epsilon": None if declared else form.number("count_epsilon", "ε of the count"),
            "budget": [form.number("epsilon", "ε") or 6.0, form.number("delta", "δ") or 1e-5],
        }
        done: dict[str, Any] = visit.act("publish", **arguments)
    return done


def _kept(scratch: Path, name: str, upload: Upload) -> str:
    """An upload as a file under a name of ours."""
    ending = Path(upload.filename).suffix.lower()
    if ending not in ENDINGS:
        raise DataRefused(f"{upload.filename[:80]!r} is neither CSV nor Parquet. Choose a .csv or .parquet file.")
    path = scratch / f"{name}{ending}"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        shutil.copyfileobj(upload.file, file, 1 << 20)
    return str(path)


def remove_uploads(directory: Path) -> None:
    """Remove the uploads that a killed process left in the datasite's directory; nothing may be publishing there."""
    for scratch in directory.glob(f"{SCRATCH}*"):
        shutil.rmtree(scratch)
