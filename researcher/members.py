"""The hospitals that publish one dataset: sizes, mock rows, budgets. Public facts only.

`researcher.cohort.Cohort` is this with the questions that can be asked of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from policies.errors import CertificateRefused, PermissionRefused, Unavailable, UnsupportedMechanism
from policies.numbers import counted, written
from policies.release import certificates
from policies.release.plans import Published
from policies.schema.schemas import Schema
from policies.schema.targets import said
from researcher.connections import Connection, Reached, ask_all
from researcher.table import Table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


PUBLIC_MOCK = "the schema or a public file"
SYNTHETIC_MOCK = "synthetic_mock"  # the name of the release that a mock with signal is drawn from


@dataclass(frozen=True)
class Member:
    """One hospital's part of a cohort: the published dataset, its asset, and where to ask."""

    name: str
    published: Published
    asset: str
    datasite: Connection


@dataclass(frozen=True)
class Hospitals:
    """Public facts of a dataset that several hospitals publish under one schema.

    Args:
      name: the dataset's.
      members: by the hospital's name.
      network: where they are.
    """

    name: str
    members: Mapping[str, Member]
    network: Reached

    @property
    def schema(self) -> Schema:
        """The schema that all members share (hold-out share and population are the first member's)."""
        return next(iter(self.members.values())).published.schema

    @property
    def sizes(self) -> dict[str, int]:
        """Published number of patients at each hospital: typed by its owner or a DP count, never exact."""
        return {name: member.published.patients for name, member in self.members.items()}

    @property
    def training_patients(self) -> dict[str, int]:
        """Published number of patients outside the hold-out: the weights of federated averaging."""
        return {name: member.published.training_patients for name, member in self.members.items()}

    @cached_property
    def mock(self) -> pd.DataFrame:
        """Every hospital's mock rows in natural units, indexed by hospital and row; `mock_origins` says what of.

        A tensor is a column of arrays, drawn from the schema alone; a notebook shows pictures of the first ones.
        """
        import pandas as pd

        matrices, problems = ask_all(
            {name: member.datasite for name, member in self.members.items()},
            lambda name, datasite: _mock_of(self.members[name], datasite),
        )
        if not matrices:
            raise Unavailable(" ".join(str(error) for error in problems.values()))
        frames = {name: self.members[name].published.schema.frame(matrix) for name, matrix in matrices.items()}
        if self.schema.tensors:
            from researcher.mock_rows import MockRows, with_tensors

            drawn = {name: with_tensors(self.members[name].published.schema, rows) for name, rows in frames.items()}
            return MockRows(pd.concat(drawn, names=["hospital", "row"]))
        return pd.concat(frames, names=["hospital", "row"])

    @property
    def mock_origins(self) -> dict[str, str]:
        """What each hospital's mock is drawn from: its schema (or a public file), or private tables, with their ε.

        The latter by a certificate of the hospital's, which is verified. Raises `CertificateRefused`.
        """
        return {
            name: _origin_of(member, self.network.descriptions.get(name, {})) for name, member in self.members.items()
        }

    @property
    def budget(self) -> dict[str, dict[str, float | None]]:
        """What each hospital's ledger says now of the dataset's population: ε in all, spent, reserved, left, δ."""
        descriptions, _ = ask_all(
            {name: member.datasite for name, member in self.members.items()}, lambda _, datasite: datasite.describe()
        )
        return {
            name: dict(description["budgets"][self.members[name].published.population])
            for name, description in descriptions.items()
        }

    def table(self) -> Table:
        """Hospitals, published sizes and budgets left."""
        budgets = self.budget
        rows = []
        for name, member in self.members.items():
            left = budgets.get(name, {})
            rows.append(
                {
                    "hospital": name,
                    "patients": member.published.patients,
                    "size": member.published.size_kind,
                    "ε left": left.get("epsilon_remaining", "not reached"),
                    "of ε": left.get("epsilon", ""),
                    "δ": left.get("delta", ""),
                }
            )
        return Table(rows)

    def __repr__(self) -> str:
        schema = self.schema
        columns = ", ".join(f"{column.name} ({column.kind})" for column in schema.columns)
        lines = [f"Dataset {self.name!r} at {counted(len(self.members), 'hospital')}", str(self.table())]
        lines.append(f"Columns: {columns}")
        if schema.target:
            lines.append(f"Target: {said(schema.target, schema.column)}")
            lines += _inputs(schema)
            if named := [f"{one.name} ({one.term})" for one in schema.transformations if not one.feature]:
                lines.append(f"Transformations, by name among inputs=(...): {', '.join(named)}")
        for tensor in schema.tensors:
            gets = "it in [-1, 1]" if tensor.scaling == "symmetric" else "it in [0, 1]"
            if tensor.is_codes:
                gets = f"their numbers, for nn.Embedding({tensor.last_code + 1}, ..., padding_idx=0)(x.long())"
            lines.append(f"Tensor, as inputs={tensor.name!r}: {tensor.said()}; a model gets {gets}")
        if origins := {who: said for who, said in self.mock_origins.items() if said != PUBLIC_MOCK}:
            lines.append(f"Mock with signal: {', '.join(f'{who} ({said})' for who, said in origins.items())}")
        if schema.sequences:
            shapes = [f"{name} {schema.input_shape(name)}" for name, _ in schema.sequences]
            lines.append(f"Sequences, as inputs=...: {', '.join(shapes)}")
        return "\n".join(lines)


def _origin_of(member: Member, described: Mapping[str, Any]) -> str:
    published = member.published
    datasets: list[dict[str, Any]] = described.get("datasets", [])
    dataset = next((one for one in datasets if one["version"] == published.version), {})
    if not dataset.get("mock_certificate"):
        return PUBLIC_MOCK
    content = certificates.verify(dataset["mock_certificate"], public_key=described["public_key"])
    about = (content["function"], content["dataset"], content["version"], content["mechanism"]["kind"])
    if about != (SYNTHETIC_MOCK, published.name, published.version, "statistics"):
        raise CertificateRefused(f"{member.name} shows a certificate of something else for its mock. Ask its owner.")
    return f"private tables, ε = {written(content['mechanism']['epsilon'])}"


def _mock_of(member: Member, datasite: Connection) -> np.ndarray[Any, Any]:
    """A hospital's mock rows, as wide as its schema says."""
    rows, wanted = datasite.mock(member.asset), len(member.published.schema.matrix_columns)
    if rows.shape[1] != wanted:
        raise PermissionRefused(
            f"{member.name}: the mock is no table of the schema's {wanted} columns: it has {rows.shape[1]}."
            " Tell its owner."
        )
    return rows


def _inputs(schema: Schema) -> list[str]:
    """What a model gets of one record unless told otherwise; nothing where no column is a feature."""
    try:
        names = schema.feature_names
    except UnsupportedMechanism:
        return []
    return [f"A model gets {counted(len(names), 'number')} in [-1, 1] of each record: {', '.join(names)}"]
