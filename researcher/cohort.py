"""One dataset at several hospitals, addressed as one: public facts only.

A cohort exists only where the hospitals' schemas agree on everything that a model or a statistic sees: columns in order
with kinds, units, bounds, categories and treatment of missing values, the target, and sequences. They may differ in
population, patient column, hold-out share and descriptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from policies.errors import InvalidRequest, Unavailable, UnsupportedMechanism
from policies.privacy.mechanisms import Query, Statistics
from policies.release.plans import Published
from policies.schema.schemas import Schema
from researcher.network import Connection, Network, ask_all, counted
from researcher.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from researcher.statistics import StatisticsStudy

MAY_DIFFER = {"population", "patient", "holdout", "description", "name"}


@dataclass(frozen=True)
class Member:
    """One hospital's part of a cohort: the published dataset, its asset, and where to ask."""

    name: str
    published: Published
    asset: str
    datasite: Connection


@dataclass(frozen=True)
class Cohort:
    """A dataset that several hospitals publish under one schema.

    Args:
      name: the dataset's.
      members: by the hospital's name.
      network: where they are.
    """

    name: str
    members: Mapping[str, Member]
    network: Network

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
        """Every hospital's mock rows in natural units, indexed by hospital and row. Drawn from the schema alone."""
        import pandas as pd

        matrices, problems = ask_all(
            {name: member.datasite for name, member in self.members.items()},
            lambda name, datasite: datasite.mock(self.members[name].asset),
        )
        if not matrices:
            raise Unavailable(" ".join(str(error) for error in problems.values()))
        frames = {name: self.members[name].published.schema.frame(matrix) for name, matrix in matrices.items()}
        return pd.concat(frames, names=["hospital", "row"])

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

    def only(self, *names: str) -> Cohort:
        """The cohort of the named members alone, as for a hospital's own local model."""
        return Cohort(self.name, {name: self.members[name] for name in _known(names, self.members)}, self.network)

    def statistics(
        self,
        *,
        epsilon: float,
        count: bool = False,
        sum: str | Sequence[str] = (),
        mean: str | Sequence[str] = (),
        variance: str | Sequence[str] = (),
        histogram: str | Sequence[str] = (),
        quantiles: Mapping[str, Sequence[float]] | None = None,
        crosstab: Sequence[tuple[str, str]] | tuple[str, str] = (),
        records_per_patient: int = 1,
        bins: int = 10,
        rounds: int = 1,
        name: str | None = None,
        purpose: str = "",
    ) -> StatisticsStudy:
        """A study that asks every hospital for statistics with pure ε, `epsilon` for all of them together.

        Returns:
          A study: `check()`, `submit()`, `wait_for_approval()`, `run()`.

        Raises:
          UnsupportedMechanism: a column is not in the schema, or cannot be asked for this.
        """
        from researcher.statistics import StatisticsStudy

        queries = [Query("count")] if count else []
        for statistic, columns in {"sum": sum, "mean": mean, "variance": variance, "histogram": histogram}.items():
            queries += [Query(statistic, (column,)) for column in _listed(columns)]
        for column, ranks in (quantiles or {}).items():
            queries.append(Query("quantiles", (column,), tuple(ranks)))
        pairs = [crosstab] if crosstab and isinstance(crosstab[0], str) else crosstab
        queries += [Query("crosstab", (str(pair[0]), str(pair[1]))) for pair in pairs]
        for query in queries:
            self.schema.check_query(query)
        mechanism = Statistics(
            queries=tuple(queries), epsilon=epsilon, records_per_patient=records_per_patient, bins=bins, rounds=rounds
        )
        return StatisticsStudy(self, mechanism, name=name, purpose=purpose)

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
        columns = ", ".join(f"{each.name} ({each.kind})" for each in schema.columns)
        lines = [f"Dataset {self.name!r} at {counted(len(self.members), 'hospital')}", str(self.table())]
        lines.append(f"Columns: {columns}")
        if schema.target:
            lines.append(f"Target: {schema.target} ({', '.join(schema.classes)})")
            lines += _inputs(schema)
        if schema.sequences:
            shapes = [f"{name} {schema.input_shape(name)}" for name, _ in schema.sequences]
            lines.append(f"Sequences, as inputs=...: {', '.join(shapes)}")
        return "\n".join(lines)


def _inputs(schema: Schema) -> list[str]:
    """What a model gets of one record unless told otherwise; nothing where no column is a feature."""
    try:
        names = schema.feature_names
    except UnsupportedMechanism:
        return []
    return [f"A model gets {counted(len(names), 'number')} in [-1, 1] of each record: {', '.join(names)}"]


def cohort_of(network: Network, name: str, datasites: Sequence[str] | None = None) -> Cohort:
    """The members of `network` (or of `datasites`) that publish `name`, as one cohort; see `Network.dataset`."""
    wanted = _known(datasites, network.datasites) if datasites is not None else list(network.datasites)
    members = {}
    for each in wanted:
        for dataset in network.descriptions.get(each, {}).get("datasets", []):
            if dataset["name"] == name:
                members[each] = Member(each, _published(dataset), str(dataset["asset"]), network.datasites[each])
    if not members:
        raise InvalidRequest(f"No datasite publishes a dataset {name!r}. {_offers(network)}")
    if datasites is not None and (lacking := [each for each in wanted if each not in members]):
        raise InvalidRequest(f"{', '.join(lacking)} does not publish {name!r} or does not answer. {_offers(network)}")
    check_same_schema({each: member.published.schema for each, member in members.items()})
    return Cohort(name, members, network)


def check_same_schema(schemas: Mapping[str, Schema]) -> None:
    """Raise `InvalidRequest`, naming the first difference, unless all schemas mean the same to a model."""
    (first, reference), *others = schemas.items()
    for other, schema in others:
        for where, left, right in _differences(reference.as_dict(), schema.as_dict()):
            raise InvalidRequest(
                f"{first} and {other} publish different schemas, so they are not one cohort: {where} is {left!r} at "
                f"{first} and {right!r} at {other}. Ask them to publish alike, or choose with "
                f"network.dataset(..., datasites=[...])."
            )


def _differences(left: Any, right: Any, where: str = "") -> Iterable[tuple[str, Any, Any]]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in [*left, *(key for key in right if key not in left)]:
            if key not in MAY_DIFFER or (key == "name" and where):
                yield from _differences(left.get(key), right.get(key), f"{where}.{key}" if where else key)
    elif isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        for index in range(max(len(left), len(right))):
            a = left[index] if index < len(left) else None
            b = right[index] if index < len(right) else None
            named = next((each["name"] for each in (a, b) if isinstance(each, dict) and "name" in each), index)
            yield from _differences(a, b, f"{where}[{named}]")
    elif left != right:
        yield where, left, right


def _published(dataset: Mapping[str, Any]) -> Published:
    return Published(
        name=dataset["name"],
        version=dataset["version"],
        population=dataset["population"],
        schema=Schema.from_dict(dataset["schema"]),
        patients=int(dataset["patients"]),
        size_kind=dataset["size_kind"],
    )


def _offers(network: Network) -> str:
    offers = []
    for each in network.datasites:
        names = [dataset["name"] for dataset in network.descriptions.get(each, {}).get("datasets", [])]
        offers.append(f"{each}: {'not reached' if each in network.missing else ', '.join(names) or 'nothing'}")
    return f"Published are: {'; '.join(offers)}."


def _known(names: Sequence[str], among: Mapping[str, Any]) -> list[str]:
    for name in names:
        if name not in among:
            raise InvalidRequest(f"No datasite is called {name!r}. There are {', '.join(among)}.")
    return list(names)


def _listed(columns: str | Sequence[str]) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns)
