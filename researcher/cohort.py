"""One dataset at several hospitals, addressed as one.

A cohort exists only where the hospitals' schemas agree on everything that a model or a statistic sees: columns in order
with kinds, units, bounds, categories and treatment of missing values, the target, and sequences. They may differ in
population, patient column, hold-out share and descriptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.errors import InvalidRequest
from policies.privacy.grouping import groupings_from
from policies.privacy.mechanisms import KaplanMeier, Query, Regression, Statistics, check_range
from policies.release.plans import Published
from policies.schema.questions import check_statistics
from policies.schema.schemas import Schema
from researcher.connections import Reached
from researcher.formulas import read_formula
from researcher.members import Hospitals, Member
from researcher.regression import RegressionStudy
from researcher.rosters import Wanted
from researcher.statistics import StatisticsStudy
from researcher.survival import SurvivalStudy

MAY_DIFFER = {"population", "patient", "holdout", "most_records_per_patient", "description", "name"}


@dataclass(frozen=True, repr=False)
class Cohort(Hospitals):
    """A dataset that several hospitals publish under one schema.

    Args:
      name: the dataset's.
      members: by the hospital's name.
      network: where they are.
    """

    def only(self, *names: str) -> Cohort:
        """The cohort of the named members alone, as for a hospital's own local model. Raises `InvalidRequest`."""
        chosen = _known(names, self.members)
        if not chosen:
            raise InvalidRequest(f"Name at least one hospital. There are {', '.join(self.members)}.")
        return Cohort(self.name, {name: self.members[name] for name in chosen}, self.network)

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
        missing: str | Sequence[str] = (),
        where: str = "",
        group_by: str | Sequence[str] | Mapping[str, Sequence[float | str]] = (),
        records_per_patient: int = 1,
        bins: int = 10,
        rounds: int = 1,
        secure_aggregation: Wanted = False,
        name: str | None = None,
        purpose: str = "",
    ) -> StatisticsStudy:
        """A study that asks every hospital for statistics with pure ε, `epsilon` for all of them together.

        Args:
          missing: columns of which it is asked how many records have a value and how many have none.
          where: a condition for the records that count, as `"age >= 65 and ward == 'icu'"`; hospitals' owners read it.
          group_by: columns whose groups are answered apart, at no other cost than all together: categories and booleans
            by name, numbers and dates with edges, as `{"age": [18, 65], "ward": []}`.
          secure_aggregation: True to read nothing but sums over more than half of the hospitals, at the same ε; or the
            fewest hospitals that a sum may be of. Or a `researcher.SharedNoise`, for sharper counts.

        Returns:
          A study: `check()`, `submit()`, `wait_for_approval()`, `run()`.

        Raises:
          UnsupportedMechanism: a column is not in the schema, or cannot be asked for this.
          InvalidRequest: an argument is not of its kind.
        """
        queries = [Query("count")] if count else []
        for statistic, columns in {
            "sum": sum,
            "mean": mean,
            "variance": variance,
            "histogram": histogram,
            "missing": missing,
        }.items():
            queries += [Query(statistic, (column,)) for column in _listed(statistic, columns)]
        for column, ranks in _ranks(quantiles).items():
            queries.append(Query("quantiles", (column,), tuple(ranks)))
        queries += [Query("crosstab", pair) for pair in _pairs(crosstab)]
        for query in queries:
            self.schema.check_query(query)
        mechanism = Statistics(
            queries=tuple(queries),
            epsilon=epsilon,
            records_per_patient=records_per_patient,
            bins=bins,
            rounds=rounds,
            where=where,
            group_by=groupings_from(group_by),
        )
        check_statistics(mechanism, self.schema)
        return StatisticsStudy(self, mechanism, name=name, purpose=purpose, secure_aggregation=secure_aggregation)

    def kaplan_meier(
        self,
        time: str,
        event: str,
        *,
        epsilon: float,
        by: str | None = None,
        bins: int = 24,
        until: float | None = None,
        rounds: int = 1,
        where: str = "",
        secure_aggregation: Wanted = False,
        name: str | None = None,
        purpose: str = "",
    ) -> SurvivalStudy:
        """A study that asks every hospital for survival over time with pure ε: see `policies.privacy.survival`.

        Args:
          time: a column of times from each patient's beginning to the event, or to when the patient was last seen.
          event: whether the event was seen: a boolean, or a category of two labels of which the second is the event.
          by: a boolean or category whose groups get a curve each, at the same ε.
          bins: intervals of time.
          until: where the grid of time ends, in the column's unit; None for the column's largest value.
          where: a condition as in `statistics`, for records that count.
          secure_aggregation: True to read nothing but sums over more than half of the hospitals, at the same ε; or the
            fewest hospitals that a sum may be of. Or a `researcher.SharedNoise`, for sharper counts.

        Returns:
          A study: `check()`, `submit()`, `wait_for_approval()`, `run()`.

        Raises:
          UnsupportedMechanism: a column is not in the schema, or cannot be asked for this.
        """
        mechanism = KaplanMeier(
            time=time, event=event, by=by, epsilon=epsilon, bins=bins, until=until, rounds=rounds, where=where
        )
        return SurvivalStudy(self, mechanism, name=name, purpose=purpose, secure_aggregation=secure_aggregation)

    def regression(
        self,
        formula: str,
        *,
        family: str = "gaussian",
        epsilon: float | None = None,
        noise_multiplier: float | None = None,
        delta: float = 1e-5,
        outcome_range: tuple[float, float] | None = None,
        rounds: int = 1,
        where: str = "",
        secure_aggregation: bool | int = False,
        name: str | None = None,
        purpose: str = "",
    ) -> RegressionStudy:
        """A study that asks every hospital for a regression: see `policies.privacy.regression`.

        Args:
          formula: as `"sbp ~ age * C(ward) + log(crp, 1)"`; its operators mean what they do in R, an intercept is
            always in it, and its functions are those of terms (`policies.schema.terms`).
          family: `"gaussian"`, `"binomial"` or `"poisson"`.
          epsilon: for the whole regression at `delta`, at each hospital; or give `noise_multiplier`.
          outcome_range: narrower public bounds that the outcome is held to, for less noise.
          where: a condition as in `statistics`, for records that count.
          secure_aggregation: True to read nothing but the coefficients of more than half of the hospitals together, at
            the same ε; or the fewest that they may be of.

        Returns:
          A study: `check()`, `submit()`, `wait_for_approval()`, `run()`.

        Raises:
          InvalidRequest: the formula cannot be read, or `secure_aggregation` is no threshold of these hospitals.
          UnsupportedMechanism: a term or the outcome is not of this schema.
        """
        outcome, terms = read_formula(formula)
        mechanism = Regression(
            outcome=outcome,
            terms=terms,
            family=family,
            epsilon=epsilon,
            noise_multiplier=noise_multiplier,
            delta=delta,
            outcome_range=outcome_range,
            rounds=rounds,
            where=where,
        )
        return RegressionStudy(self, mechanism, name=name, purpose=purpose, secure_aggregation=secure_aggregation)

    def describe(
        self,
        *,
        epsilon: float,
        columns: str | Sequence[str] = (),
        where: str = "",
        group_by: str | Sequence[str] | Mapping[str, Sequence[float | str]] = (),
        records_per_patient: int = 1,
        bins: int | None = None,
        secure_aggregation: Wanted = False,
        name: str | None = None,
        purpose: str = "",
    ) -> StatisticsStudy:
        """A study of the whole schema in one request: the distribution of every column, missing values apart.

        Every column has an equal share of `epsilon`. `run()` gives a result whose `describe()` is a DataFrame with
        counts, means, quantiles and the most common categories, each with its error.

        Args:
          columns: those that are described; all of the schema's where none are named.
          where, group_by: as in `statistics`; with groups it is the first table of a paper.
          bins: of a numeric column; None takes as many as the noise at the smallest hospital allows.
          secure_aggregation: True to read nothing but sums over more than half of the hospitals, at the same ε; or the
            fewest hospitals that a sum may be of. Or a `researcher.SharedNoise`, for sharper counts.

        Raises:
          UnsupportedMechanism: a column, the condition or a group does not fit the schema.
          InvalidRequest: an argument is not of its kind.
        """
        names = _listed("columns", columns) or [column.name for column in self.schema.columns]
        check_range("epsilon", epsilon, 0, 100, open_low=True)
        mechanism = Statistics(
            queries=tuple(Query("describe", (column,)) for column in names),
            epsilon=epsilon,
            bins=_fitting_bins(min(self.sizes.values()), epsilon / len(names)) if bins is None else bins,
            records_per_patient=records_per_patient,
            where=where,
            group_by=groupings_from(group_by),
        )
        check_statistics(mechanism, self.schema)
        return StatisticsStudy(self, mechanism, name=name, purpose=purpose, secure_aggregation=secure_aggregation)


def _fitting_bins(patients: float, epsilon: float) -> int:
    """How many bins a column is cut into: more where each still holds much against its noise. Public figures alone."""
    for bins in (50, 30, 20):
        if patients / bins >= 10 / epsilon:
            return bins
    return 10


def cohort_of(network: Reached, name: str, datasites: Sequence[str] | None = None) -> Cohort:
    """The members of `network` (or of `datasites`) that publish `name`, as one cohort; see `Network.dataset`."""
    wanted = _known(_names(datasites), network.datasites) if datasites is not None else list(network.datasites)
    members = {}
    for hospital in wanted:
        for dataset in network.descriptions.get(hospital, {}).get("datasets", []):
            if dataset["name"] == name:
                members[hospital] = Member(
                    hospital, _published(dataset), str(dataset["asset"]), network.datasites[hospital]
                )
    if not members:
        raise InvalidRequest(f"No datasite publishes a dataset {name!r}. {_offers(network)}")
    if datasites is not None and (lacking := [hospital for hospital in wanted if hospital not in members]):
        raise InvalidRequest(f"{', '.join(lacking)} does not publish {name!r} or does not answer. {_offers(network)}")
    check_same_schema({hospital: member.published.schema for hospital, member in members.items()})
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
            named = next((item["name"] for item in (a, b) if isinstance(item, dict) and "name" in item), index)
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


def _offers(network: Reached) -> str:
    offers = []
    for hospital in network.datasites:
        names = [dataset["name"] for dataset in network.descriptions.get(hospital, {}).get("datasets", [])]
        offers.append(f"{hospital}: {'not reached' if hospital in network.missing else ', '.join(names) or 'nothing'}")
    return f"Published are: {'; '.join(offers)}."


def _names(datasites: Any) -> Sequence[str]:
    if isinstance(datasites, (list, tuple)):
        return datasites
    raise InvalidRequest(f"datasites={datasites!r} is no list of names. Write it as ['general', 'rural'].")


def _known(names: Sequence[str], among: Mapping[str, Any]) -> list[str]:
    for name in names:
        if not isinstance(name, str) or name not in among:
            raise InvalidRequest(f"No datasite is called {name!r}. There are {', '.join(among)}.")
    return list(names)


def _listed(statistic: str, columns: Any) -> list[str]:
    if isinstance(columns, str):
        return [columns]
    if isinstance(columns, (list, tuple)):
        return list(columns)
    raise InvalidRequest(f"{statistic}={columns!r} is neither a column nor a list of columns.")


def _ranks(quantiles: Any) -> Mapping[str, Sequence[float]]:
    ranks = {} if quantiles is None else quantiles
    if not isinstance(ranks, Mapping) or not all(isinstance(value, (list, tuple)) for value in ranks.values()):
        raise InvalidRequest(f"quantiles={quantiles!r} should be ranks by column, as {{'age': [0.25, 0.5, 0.75]}}.")
    return ranks


def _pairs(crosstab: Any) -> list[tuple[str, str]]:
    pairs = [crosstab] if crosstab and isinstance(crosstab, tuple) and isinstance(crosstab[0], str) else crosstab
    sound = isinstance(pairs, (list, tuple)) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs
    )
    if not sound:
        raise InvalidRequest(
            f"crosstab={crosstab!r} should be two columns, as ('sex', 'influenza'), or a list of such."
        )
    return [(str(first), str(second)) for first, second in pairs]
