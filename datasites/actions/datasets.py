"""Datasets and budgets as an owner reads them, and a budget raised."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np

from datasites.actions.balances import balances
from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.ledger.records import DatasetRecord
from datasites.people.roles import CONSOLE, OWNER, Actor
from datasites.review.planning import published_from
from datasites.vault.mocks import draw_mock
from datasites.vault.synthetic_mock import FUNCTION
from policies.privacy.budget import PrivacyBudget
from policies.schema.columns import Column, FloatArray
from policies.schema.schemas import FIRST_COLUMN, Schema
from policies.schema.targets import said

logger = logging.getLogger(__name__)
MOCK_ROWS_SHOWN = 8


@action(CONSOLE)
def datasets(datasite: Datasite, actor: Actor) -> dict[str, Any]:
    """Published and retired datasets, and the budgets of their populations."""
    records = [record for record in datasite.ledger.datasets.list(status=None) if record.status != "staged"]
    names = ("name", "version", "population", "patients", "size_kind", "status")
    return {
        "datasets": [{name: getattr(record, name) for name in names} for record in records],
        "populations": balances(datasite),
    }


@action(CONSOLE)
def dataset(datasite: Datasite, actor: Actor, *, version: str) -> dict[str, Any]:
    """One version of a dataset: its schema, as data and as the file, and rows of the mock that researchers see.

    A retired version's mock went with its table; then there are no rows.
    """
    record = datasite.ledger.datasets.get(version=version)
    schema = published_from(record).schema
    mock, own = _mock(datasite, record), datasite.ledger.requests.list(by_owner=True)
    synthetic = any(request.function == FUNCTION and request.version == version for request in own)
    return {
        "name": record.name,
        "version": record.version,
        "population": record.population,
        "patients": record.patients,
        "size_kind": record.size_kind,
        "status": record.status,
        "changed_at": record.changed_at,
        "schema": schema.as_dict(),
        "target": said(schema.target, schema.column),
        "columns": [
            {
                "name": column.name,
                "kind": column.kind,
                "unit": column.unit,
                "range": ", ".join(column.labels) or f"{column.written(column.low)} to {column.written(column.high)}",
                "missing": "refused" if column.missing == "refuse" else f"read as {column.written(column.fill)}",
                "description": column.description,
                "target": column.name in schema.target_columns,
                "feature": column.feature and column.name not in schema.target_columns,
            }
            for column in schema.columns
        ],
        "transformations": [
            {"name": declared.name, "words": schema.input_words((declared.name,)), "feature": declared.feature}
            for declared in schema.transformations
        ],
        "tensors": [
            {"name": tensor.name, "said": tensor.said(), "description": tensor.description} for tensor in schema.tensors
        ],
        "toml": schema.to_toml(),
        "mock": {
            "declared": mock is not None and not synthetic and not _is_drawn(schema, mock),
            "synthetic": synthetic,
            "columns": [column.name for column in schema.columns],
            "rows": [
                [_mock_cell(column, value) for column, value in zip(schema.columns, row, strict=True)]
                for row in ([] if mock is None else mock[:MOCK_ROWS_SHOWN, FIRST_COLUMN:].tolist())
            ],
        },
    }


def _mock(datasite: Datasite, record: DatasetRecord) -> FloatArray | None:
    """The whole mock of a version as PySyft holds it; None where it is gone."""
    asset = record.assets.get("records")
    if record.status != "published" or asset is None:
        return None
    try:
        return np.asarray(datasite.syft.mock(asset), dtype=np.float64)
    except Exception:  # PySyft's own; the page shows the schema all the same
        logger.warning("The mock of a dataset could not be read.", exc_info=True)
        return None


def _is_drawn(schema: Schema, mock: FloatArray) -> bool:
    """Whether a mock is the one that is drawn from the schema alone; else the owner declared a file public."""
    return bool(len(mock) >= 2 and np.array_equal(mock, draw_mock(schema, len(mock)), equal_nan=True))


def _mock_cell(column: Column, value: float) -> str:
    if not math.isfinite(value):
        return "missing"
    return f"{value:.4g}" if column.kind == "real" else column.written(value)


@action(OWNER)
def raise_budget(datasite: Datasite, actor: Actor, *, population: str, epsilon: float) -> dict[str, float]:
    """Raise a population's ε; answers the new total, which is the promise from now on."""
    delta = datasite.ledger.budgets.balance(population).budget.delta
    budget = datasite.ledger.budgets.raise_budget(population, PrivacyBudget(epsilon, delta), actor=actor.name)
    datasite.audit_log.record(actor.name, "raise budget", population, epsilon=epsilon)
    return {"epsilon": budget.epsilon, "delta": budget.delta}
