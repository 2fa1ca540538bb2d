"""A network of no hospital, from a schema alone: so that a study's file makes its study where nobody can be reached."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import researcher
from policies.errors import Unavailable
from policies.schema.schemas import Schema
from researcher import network
from researcher.connections import Connection


class NoHospital:
    """A connection that tells what a hospital with this schema would publish, and nothing else."""

    name = "simulated"

    def __init__(self, schema: Schema, patients: int) -> None:
        self.schema, self.patients = schema, patients

    def describe(self) -> dict[str, Any]:
        """The dataset and a budget."""
        dataset = {
            "name": self.schema.name,
            "version": "simulated",
            "population": self.schema.population,
            "schema": json.loads(json.dumps(self.schema.as_dict())),
            "patients": self.patients,
            "size_kind": "declared",
            "asset": "0" * 32,
        }
        return {"name": self.name, "public_key": "", "datasets": [dataset], "budgets": {}}

    def __getattr__(self, name: str) -> Any:
        raise Unavailable(
            "This hospital is simulated, and answers no question. Simulate the study, or connect() to real ones."
        )


@contextmanager
def simulated_network(schema: Schema, patients: int) -> Iterator[None]:
    """While this is held, `researcher.connect` reaches such a hospital whatever it is given."""
    hospital: Connection = NoHospital(schema, patients)
    kept = network.connect

    def connect(where: object, *, coordinator: object = None) -> network.Network:
        return network.network_of({hospital.name: hospital})

    researcher.connect = network.connect = connect
    try:
        yield
    finally:
        researcher.connect = network.connect = kept
