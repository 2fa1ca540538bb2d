"""Publish a table and take it back: private tensor, mock and public size, all or nothing."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasites.actions.balances import balance_dict
from datasites.actions.own_releases import PATIENTS, release_now
from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.directory import population_secret
from datasites.engine.matrix import in_groups
from datasites.ledger.records import CodeRequestRecord, DatasetRecord
from datasites.people.roles import OWNER, Actor
from datasites.vault.concerns import delta_concern, keep_report, name_concerns, overlap_concerns, read_report
from datasites.vault.identifiers import Concern, identifier_concerns
from datasites.vault.patient_marks import Marks, forget_unknown, keep_marks, thin_marks
from datasites.vault.private_rows import PrivateRows
from datasites.vault.tensor_files import tensors_to_write
from policies.errors import DataRefused, InvalidRequest, WrongStatus
from policies.numbers import counted, written
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import Query, Statistics
from policies.schema.columns import FloatArray, IntArray
from policies.schema.schemas import Schema
from policies.source.statuses import RequestStatus
from policies.text import visible

if TYPE_CHECKING:
    from datasites.vault.tables import SqlQuery

MOCK_ROWS = 200
MOST_PATIENTS = 1_000_000_000
OPEN = (RequestStatus.SUBMITTED, RequestStatus.CHECKED, RequestStatus.APPROVED)


@action(OWNER)
def publish(
    datasite: Datasite,
    actor: Actor,
    *,
    table: str | None,
    sql: str | None,
    database: str | None,
    password_file: str | None,
    schema: str,
    patients: float | None,
    count_epsilon: float | None,
    budget: list[float],
    public_mock: str | None,
    tensors: str | None = None,
    mock_epsilon: float | None = None,
) -> dict[str, Any]:
    """Check a table against its schema and publish it, all or nothing: private tensor, mock and public size.

    Every door hands on what was typed and refuses nothing itself, so that all of them refuse the same.

    Args:
      table: a file; or `sql` with its `database`.
      patients: the number that is published as declared; or `count_epsilon`, of a differentially private count.
      budget: ε and δ of the population, where it is new.
      tensors: the folder of the files that the table names, or an array's file; without it the table's own folder.
      public_mock: a file that is declared public; or `mock_epsilon`, of private tables that a mock with signal is
        drawn from. Else the mock is drawn from the schema alone.

    Raises:
      InvalidRequest: neither or both of two choices, or a figure outside its range; nothing was looked at.
      DataRefused: the schema or rows of the table; nothing was published.
      BudgetExceeded: the DP count or the mock does not fit; nothing was published.
    """
    _check_source(table, sql, database)
    _check_size(patients, count_epsilon)
    source = _source(table, sql, database, password_file)
    version = secrets.token_hex(8)
    datasite.publishing.add(version)  # so that nobody who looks for what is not published deletes its tensors
    try:
        read = _read(datasite, source, schema, PrivacyBudget(*budget), tensors, version=version)
        try:
            return _published(
                datasite, actor, read, version, patients, count_epsilon, budget, public_mock, mock_epsilon
            )
        finally:
            datasite.publishing.discard(version)
            datasite.forget_tables()  # of the version before this one, or of this one where it failed
            _keep_less_of_retired(datasite)
    finally:
        datasite.publishing.discard(version)


def _published(
    datasite: Datasite,
    actor: Actor,
    read: _Read,
    version: str,
    patients: float | None,
    count_epsilon: float | None,
    budget: list[float],
    public_mock: str | None,
    mock_epsilon: float | None,
) -> dict[str, Any]:
    """Store, count where a count was asked for, enter into the ledger. What raises leaves nothing published."""
    from datasites.vault.mocks import draw_mock
    from datasites.vault.mocks import public_mock as read_mock
    from datasites.vault.synthetic_mock import FUNCTION, check_mock_choice, questions, synthetic_rows

    declared, matrix, directory = read.schema, read.matrix, datasite.settings.directory
    check_mock_choice(public_mock, mock_epsilon, declared)
    mock = read_mock(Path(public_mock), declared) if public_mock else draw_mock(declared, MOCK_ROWS)
    _ensure_population(datasite, declared.population, PrivacyBudget(*budget), actor)
    record = DatasetRecord.of(
        declared,
        version=version,
        patients=None if patients is None else _two_digits(int(patients)),
        size_kind="dp-count" if patients is None else "declared",
    )
    record = datasite.ledger.datasets.stage(record)
    if mock_epsilon is not None:
        asked = questions(declared, mock_epsilon)
        with PrivateRows(in_groups(matrix, declared.most_records_per_patient)) as rows:
            mock = synthetic_rows(
                release_now(datasite, record, declared, asked, rows, FUNCTION, actor), asked, declared
            )
    asset = datasite.syft.upload(f"{declared.name} {version}", declared.description, matrix, mock)
    if count_epsilon is not None:
        with PrivateRows(in_groups(matrix, declared.most_records_per_patient)) as rows:
            del matrix, read.matrix  # the sealed copy is the only one while the runner counts
            record = _with_count(datasite, record, declared, rows, count_epsilon, actor)
    record = record.with_assets({"records": asset})
    keep_marks(directory, version, read.marks)
    keep_report(directory, version, read.notes, read.concerns)
    with _requests_followed(datasite, declared.name):
        datasite.ledger.datasets.publish(record, actor=actor.name)
    datasite.audit_log.record(actor.name, "publish", declared.name, version=version, size_kind=record.size_kind)
    return {
        "name": record.name,
        "version": version,
        "population": record.population,
        "patients": record.patients,
        "size_kind": record.size_kind,
        "budget": balance_dict(datasite.ledger, record.population, datasite.decisions.yearly_plan(record.population)),
        "notes": read.notes,
        "concerns": [dataclasses.asdict(concern) for concern in read.concerns],
    }


@action(OWNER)
def check_publication(
    datasite: Datasite,
    actor: Actor,
    *,
    table: str | None,
    sql: str | None,
    database: str | None,
    password_file: str | None,
    schema: str,
    budget: list[float],
    tensors: str | None = None,
) -> dict[str, Any]:
    """What publishing a table would say to its owner, faults included; nothing is published, kept or charged.

    Arguments are those of `publish`, which raises the same. What it answers counts rows: it is for the owner alone.
    """
    _check_source(table, sql, database)
    source = _source(table, sql, database, password_file)
    read = _read(datasite, source, schema, PrivacyBudget(*budget), tensors)
    return {
        "name": read.schema.name,
        "population": read.schema.population,
        "records": len(read.matrix),
        "patients": len(read.marks),
        "notes": read.notes,
        "concerns": [dataclasses.asdict(concern) for concern in read.concerns],
    }


@action(OWNER)
def publication_report(datasite: Datasite, actor: Actor, *, name: str = "", version: str = "") -> dict[str, Any]:
    """What was noticed when a dataset was published, of a published `name` or of any `version`, for the owner alone."""
    record = datasite.ledger.datasets.get(name=name, version=version or None)
    report = read_report(datasite.settings.directory, record.version)
    facts = {"name": record.name, "version": record.version, "kept": report is not None}
    return {**facts, **(report or {"notes": [], "concerns": []})}


@dataclasses.dataclass
class _Read:
    """A table that its schema fits, encoded, and what its owner alone is told of it."""

    schema: Schema
    matrix: FloatArray
    marks: Marks
    notes: list[str]
    concerns: list[Concern]

    def __repr__(self) -> str:
        return "_Read(…)"


def _source(table: str | None, sql: str | None, database: str | None, password_file: str | None) -> Path | SqlQuery:
    from datasites.vault.tables import SqlQuery

    return Path(table) if table else SqlQuery(str(sql), str(database), Path(password_file) if password_file else None)


def _read(
    datasite: Datasite,
    source: Path | SqlQuery,
    text: str,
    promised: PrivacyBudget,
    tensors: str | None,
    *,
    version: str = "",
) -> _Read:
    """Read a table, hold it and its tensors to its schema and look at it. Raises `DataRefused` or `WrongStatus`.

    Args:
      version: under which the tensors are kept on disk; without one they are only checked.
    """
    from datasites.vault.encoding import encode, read_table, unused_columns
    from datasites.vault.tensor_sources import TensorSources

    declared = Schema.from_toml(text)
    _check_stays(datasite, declared)
    _check_tensors_named(declared, tensors)
    frame = read_table(source, declared.file)
    unused, in_table = unused_columns(frame, declared), len(frame)
    concerns: list[Concern] = []
    of_patients: list[Marks] = []

    def look(distinct: Any, patients: IntArray, marks: Marks) -> None:
        concerns.extend(identifier_concerns(distinct, patients))
        of_patients.append(marks)

    directory = datasite.settings.directory
    secret = population_secret(directory)
    orders: list[IntArray] = []
    matrix = encode(frame, declared, population_secret=secret, taken_apart=True, look_at=look, ordered=orders.append)
    _check_can_be_sent(datasite, len(matrix))
    with_tensors = frame if declared.tensors else None
    del frame  # the owner's table as it was read: the matrix is all else that is needed of it
    (marks,) = of_patients
    notes = [f"Column {visible(name)!r} of the table is not in the schema and was left out." for name in unused]
    if len(matrix) < in_table:
        notes.append(
            f"{counted(in_table - len(matrix), 'record')} of patients with more than"
            f" {declared.most_records_per_patient:,} were left out, drawn at random. You alone are told. To keep more"
            " of each, raise most_records_per_patient in the schema."
        )
    known = datasite.ledger.budgets.populations()
    is_new = declared.population not in known
    budget = promised if is_new else datasite.ledger.budgets.balance(declared.population).budget
    others: dict[str, list[tuple[str, bool]]] = {}
    for record in datasite.ledger.datasets.list(status=None):
        if record.population != declared.population:
            others.setdefault(record.population, []).append((record.version, record.status == "published"))
    concerns += [
        *delta_concern(budget.delta, len(marks), is_new=is_new),
        *(name_concerns(declared.population, known) if is_new else ()),
        *overlap_concerns(directory, marks, others),
    ]
    if with_tensors is not None:  # last, as nothing after it may fail
        place = Path(tensors) if tensors else source.parent if isinstance(source, Path) else None
        with TensorSources(with_tensors, declared, place, scratch=directory) as sources:
            if not version:
                sources.check()
            else:
                with tensors_to_write(directory, version, declared, len(matrix)) as files:
                    sources.write(orders[0], files)
    return _Read(declared, matrix, marks, notes, concerns)


def _check_can_be_sent(datasite: Datasite, records: int) -> None:
    most = datasite.settings.runner_records
    if datasite.settings.runner_address and records > most:
        raise DataRefused(
            f"The table has {records} records, and the runner elsewhere is sent runner_records={most} with each round."
            " You alone are told. Raise it in settings.toml and start the datasite again."
        )


def _check_tensors_named(schema: Schema, tensors: str | None) -> None:
    if tensors and not schema.tensors:
        raise InvalidRequest("--tensors names files, and the schema declares no tensor. Write [tensors.NAME] there.")


def _keep_less_of_retired(datasite: Datasite) -> None:
    """Leave a sample of what recognises the patients of versions that are retired, and nothing of unknown ones."""
    records = datasite.ledger.datasets.list(status=None)
    forget_unknown(datasite.settings.directory, {record.version for record in records if record.status != "staged"})
    for record in records:
        if record.status == "retired":
            thin_marks(datasite.settings.directory, record.version)


def _check_stays(datasite: Datasite, schema: Schema) -> None:
    """Refuse a published name under another population, before anything is stored or charged there."""
    for dataset in datasite.ledger.datasets.list():
        if dataset.name == schema.name and dataset.population != schema.population:
            raise WrongStatus(
                f"{schema.name!r} is published of population {dataset.population!r}, whose budget it stays on, and this"
                f" schema says {schema.population!r}. Use that population, or another name."
            )


def _check_source(table: str | None, sql: str | None, database: str | None) -> None:
    if (table is None) == (sql is None) or (sql is None) != (database is None):
        raise InvalidRequest("Choose one table: a file, or --sql with --database.")


def _check_size(patients: float | None, count_epsilon: float | None) -> None:
    if (patients is None) == (count_epsilon is None):
        raise InvalidRequest(
            "Say how the number of patients is published, in one way: as a figure that you declare (--patients, rounded"
            " to two digits) or as a differentially private count (--count-epsilon, charged)."
        )
    if patients is not None and not (1 <= patients <= MOST_PATIENTS and float(patients).is_integer()):
        raise InvalidRequest(
            f"patients={written(patients)} is not a whole number from 1 to {MOST_PATIENTS:,}. Give the number of"
            " patients, rounded."
        )
    if count_epsilon is not None:
        _count_of_patients(count_epsilon)


def _count_of_patients(epsilon: float) -> Statistics:
    return Statistics(queries=(Query("count"),), epsilon=epsilon)


def _two_digits(number: int) -> int:
    """A number rounded to its two leading digits: a declared size is never exact."""
    step = 10 ** max(0, len(str(number)) - 2)
    return max(1, int(round(number / step) * step))


def _ensure_population(datasite: Datasite, name: str, budget: PrivacyBudget, actor: Actor) -> None:
    if name not in datasite.ledger.budgets.populations():
        datasite.ledger.budgets.create_population(name, budget, actor=actor.name)
        datasite.audit_log.record(actor.name, "create population", name, epsilon=budget.epsilon, delta=budget.delta)


def _with_count(
    datasite: Datasite, record: DatasetRecord, schema: Schema, rows: PrivateRows, epsilon: float, actor: Actor
) -> DatasetRecord:
    """The record with its DP count: reserve, run in the runner, settle, certify, like any release."""
    tensors = release_now(datasite, record, schema, _count_of_patients(epsilon), rows, PATIENTS, actor)
    return dataclasses.replace(record, patients=max(1, round(float(tensors["count"][0]))))


@action(OWNER)
def retire(datasite: Datasite, actor: Actor, *, name: str) -> dict[str, int]:
    """Take a dataset back: its rounds end, its requests are closed, and what they had reserved is free again.

    The population's ledger keeps every charge. Answers how many requests were `closed`.
    """
    version = datasite.ledger.datasets.get(name=name).version
    with _requests_followed(datasite, name) as requests:
        datasite.ledger.datasets.retire(version, actor=actor.name)
    datasite.forget_tables()
    _keep_less_of_retired(datasite)
    datasite.audit_log.record(actor.name, "retire", name, closed=len(requests))
    return {"closed": len(requests)}


@contextmanager
def _requests_followed(datasite: Datasite, name: str) -> Iterator[list[CodeRequestRecord]]:
    """The open requests on the published version of a dataset; PySyft's statuses follow what happens to them inside."""
    requests = [
        request
        for dataset in datasite.ledger.datasets.list()
        for request in datasite.ledger.requests.list()
        if dataset.name == name and request.version == dataset.version and request.status in OPEN
    ]
    yield requests
    for request in requests:
        datasite.project(datasite.ledger.requests.get(request.id))
