"""From released statistics to what a researcher reads: values with standard errors, per hospital and combined.

Everything here is arithmetic on releases and public numbers, so it costs no budget. Two kinds of error are kept apart:

* `noise_error` comes from the mechanism: how far the answer is from the hospital's own records.
* `sampling_error` is how far those records are from the population that they are drawn from, made of released figures
  alone. Where these do not say it exactly, it is an upper value: an unreleased variance is taken as the largest that
  the released mean and the bounds allow (Bhatia & Davis 2000), and k records of one patient may be copies of one
  another. Counts, sums and cells describe the hospital itself and have none.

Intervals take variances at the value that is tried and not at the estimate (`figures.accepted`), as an estimate at a
bound would have none. Those of averages over hospitals come from the hospitals' own (Zou & Donner 2008,
doi:10.1002/sim.3095: recovering variances from confidence limits), each end from the ends on its side.

Reading model scores is in `researcher.scores`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from policies.errors import WeightsRefused
from policies.privacy.draws import PARTS, TREE_BRANCHING, TREE_HEIGHT, epsilon_per_query
from policies.privacy.mechanisms import Query, Statistics
from policies.privacy.shared_mechanisms import shared_draws
from policies.schema.columns import TIMES, Column
from policies.schema.noise_scales import (
    LAPLACE_95,
    half_range,
    mean_error,
    rank_error,
    rank_shift,
    standard_error,
    variance_error,
)
from policies.schema.questions import CELLS, DIVIDED, answer_shape, cell_labels, groups_of, is_counted
from policies.schema.schemas import Schema
from policies.schema.summed_statistics import answers_from, rounding_of
from researcher.figures import (
    COUNTED,
    NORMAL_95,
    Cells,
    Estimate,
    FloatArray,
    Quantiles,
    accepted,
    design_effect,
    step_ends,
)
from researcher.groups import Grouped, combine_groups

__all__ = ["Cells", "Estimate", "Quantiles", "Statistic", "combine_means", "combine_statistics", "read_statistics"]

Statistic = Estimate | Quantiles | Cells | Grouped


def read_statistics(
    release: Mapping[str, npt.ArrayLike],
    mechanism: Statistics,
    schema: Schema,
    *,
    patients: float,
    noise: float = 1.0,
) -> dict[str, Statistic]:
    """One hospital's released statistics, by `query.key`, as values with errors.

    Args:
      patients: the hospital's published number of patients. Errors of means, variances and quantiles are only as true
        as this figure.
      noise: its deviation over that of what one hospital adds by itself.

    Raises:
      WeightsRefused: a statistic is missing from the release, has another shape or is not finite.
    """
    mechanism = replace(mechanism, epsilon=mechanism.epsilon / noise)  # all deviations go with 1/ε
    tensors = {query: _tensor(release, query, schema, mechanism) for query in mechanism.queries}
    groups = groups_of(mechanism, schema)
    if groups is None:
        return {**_read_all(tensors, mechanism, schema, patients)}
    by_group = [
        _read_all(
            {query: np.atleast_1d(tensor[place]) for query, tensor in tensors.items()}, mechanism, schema, patients
        )
        for place in range(groups.count)
    ]
    return {
        query.key: Grouped(groups.columns, groups.names, tuple(statistics[query.key] for statistics in by_group))
        for query in mechanism.queries
    }


def read_sums(
    sums: Mapping[str, npt.ArrayLike], mechanism: Statistics, schema: Schema, *, sizes: Sequence[float]
) -> dict[str, Statistic]:
    """Statistics of several hospitals' records together, from the sums of what their answers are made of.

    They are read as if one hospital had all records and noise of √n times the deviation that each of n hospitals adds:
    the sums of n independent draws. A sum of Laplace noises has shorter tails than one of the same deviation, so that
    intervals hold. Nothing is known of single hospitals, so that errors of sampling are those of one table. Shared
    noise is one noise and a little more: n parts, of which t - k make the whole.

    Args:
      sums: as `policies.schema.summed_statistics` names them.
      sizes: published numbers of patients of those in the sum.
    """
    noise = shared_deviation(mechanism, hospitals=len(sizes))
    if noise is None:
        noise = math.sqrt(len(sizes))
    noise *= rounding_of(mechanism, schema)
    answers = answers_from(sums, mechanism, schema)
    return read_statistics(answers, mechanism, schema, patients=sum(sizes), noise=noise)


def shared_deviation(mechanism: Statistics, *, hospitals: int) -> float | None:
    """The deviation of shared noise over one hospital's own, of whichever draw has most; None where none is shared."""
    shared = shared_draws(mechanism)
    if shared is None:
        return None
    errors = [shared.standard_error(draw, hospitals=hospitals) for draw in range(len(shared.draws))]
    return max(error * epsilon / math.sqrt(2) for error, epsilon in zip(errors, shared.draws, strict=True))


def _read_all(
    tensors: Mapping[Query, FloatArray], mechanism: Statistics, schema: Schema, patients: float
) -> dict[str, Estimate | Quantiles | Cells]:
    """Statistics of one group, or of all records together."""
    numbers = {
        query: _number(query, tensor, mechanism)
        for query, tensor in tensors.items()
        if is_counted(query, mechanism, schema) and tensor.size == max(len(query.ranks), 1) + 1
    }
    own = {query: tensor[:-1] if query in numbers else tensor for query, tensor in tensors.items()}
    known = {query.key: float(tensor.ravel()[0]) for query, tensor in own.items() if tensor.size == 1}
    read: dict[str, Estimate | Quantiles | Cells] = {}
    for query, tensor in own.items():
        number = numbers.get(query)
        size = patients if number is None else max(number.value - number.noise_error, 1.0)
        statistic = _read(query, tensor, mechanism, schema, size, known)
        if not isinstance(statistic, Cells):
            column = schema.column(query.columns[0]) if query.name in DIVIDED else None
            statistic = replace(statistic, records=number, clock=column if column and column.kind in TIMES else None)
        read[query.key] = statistic
    return read


def _number(query: Query, tensor: FloatArray, mechanism: Statistics) -> Estimate:
    """The number of records that a mean, a variance or quantiles are of, which comes last."""
    parts = PARTS[query.name]
    noise = math.sqrt(2) * mechanism.records_per_patient * parts / epsilon_per_query(mechanism)
    if query.name == "quantiles":
        noise *= math.sqrt(TREE_BRANCHING)  # the cells of the tree's first level, added up
    return Estimate(float(tensor[-1]), noise, unit="records", bounds=COUNTED)


def combine_statistics(
    hospitals: Mapping[str, Mapping[str, Statistic]],
    *,
    patients: Mapping[str, float],
    size_errors: Mapping[str, float] | None = None,
) -> dict[str, Statistic]:
    """The same statistics over all hospitals together, as if their records lay in one table.

    Counts, sums and cells are added. Means are averaged by public size; variances too, plus the spread between the
    hospitals' means where the mean was asked as well (else it is the variance within hospitals). Quantiles are those
    of the size-weighted mixture of the hospitals' distributions, on straight lines between released points.

    Args:
      hospitals: what `read_statistics` gave, by hospital. A statistic that one of them lacks is left out.
      patients: public sizes, by hospital.
      size_errors: standard errors of sizes that are DP counts; it enters the error of a mean.
    """
    if not hospitals:
        return {}
    errors = size_errors or {}
    first = next(iter(hospitals.values()))
    if any(isinstance(statistic, Grouped) for statistic in first.values()):
        return combine_groups(hospitals, lambda one: combine_statistics(one, patients=patients, size_errors=errors))
    keys = [key for key in first if all(key in statistics for statistics in hospitals.values())]
    sizes = np.array([max(float(patients[name]), 1.0) for name in hospitals])
    spread = np.array([float(errors.get(name, 0.0)) for name in hospitals])
    combined: dict[str, Statistic] = {}
    for key in keys:
        parts = [statistics[key] for statistics in hospitals.values()]
        means = [statistics.get(key.replace("variance/", "mean/", 1)) for statistics in hospitals.values()]
        records = [part.records for part in parts if not isinstance(part, Cells | Grouped) and part.records]
        if len(records) < len(parts):
            combined[key] = _combine(key, parts, sizes, spread, means)
            continue
        counted = np.array([max(number.value, 1.0) for number in records])
        joint = _combine(key, parts, counted, np.array([number.noise_error for number in records]), means)
        assert isinstance(joint, Estimate | Quantiles)
        total = Estimate(
            sum(number.value for number in records), _norm(np.array([number.noise_error for number in records]))
        )
        combined[key] = replace(joint, records=replace(total, unit="records", bounds=COUNTED))
    return combined


def combine_means(parts: list[Estimate], sizes: npt.ArrayLike, size_errors: npt.ArrayLike = 0.0) -> Estimate:
    """The size-weighted average of estimates. An error e of a size n moves it by (own value - average) e / Σn."""
    weights = np.asarray(sizes, dtype=np.float64)
    values = np.array([part.value for part in parts])
    share = weights / weights.sum()
    average = float(share @ values)
    noise = share * np.array([part.noise_error for part in parts])
    sizing = (values - average) * np.asarray(size_errors, dtype=np.float64) / weights.sum()
    sampling = share * np.array([part.sampling_error for part in parts])
    bounds = min(part.bounds[0] for part in parts), max(part.bounds[1] for part in parts)
    noise_error, ends = _norm(np.r_[noise, sizing]), None
    if any(part.ends for part in parts):
        sized = LAPLACE_95 * sizing
        below, above = (np.array([abs(part.interval[end] - part.value) for part in parts]) for end in (0, 1))
        ends = average - _norm(np.r_[share * below, sized]), average + _norm(np.r_[share * above, sized])
    unit, clock = parts[0].unit, parts[0].clock
    return Estimate(average, noise_error, _norm(sampling), unit, bounds, ends, clock=clock)


def _tensor(release: Mapping[str, npt.ArrayLike], query: Query, schema: Schema, mechanism: Statistics) -> FloatArray:
    wanted = answer_shape(query, mechanism, schema)
    if query.key not in release:
        raise WeightsRefused(f"The release has no {query.key}. It has {', '.join(sorted(release))}.")
    tensor = np.asarray(release[query.key], dtype=np.float64)
    if not mechanism.where and not mechanism.group_by and tensor.shape == (max(len(query.ranks), 1),):
        # Version 0.1 had no number with it: it counted the constant of a missing value.
        wanted = tensor.shape if is_counted(query, mechanism, schema) else wanted
    if tensor.shape != wanted or not np.isfinite(tensor).all():
        raise WeightsRefused(f"{query.key} has shape {tensor.shape}, wanted {wanted} and finite. Fetch it again.")
    return tensor


def _read(
    query: Query,
    tensor: FloatArray,
    mechanism: Statistics,
    schema: Schema,
    patients: float,
    known: Mapping[str, float],
) -> Estimate | Quantiles | Cells:
    if query.name in CELLS:
        labels = cell_labels(query, mechanism, schema)
        noise = standard_error(query, mechanism, schema)
        return Cells(query.columns, labels, tensor, noise, mechanism.records_per_patient)
    value = float(tensor.ravel()[0])
    if query.name == "count":
        return Estimate(value, standard_error(query, mechanism, schema), unit="patients", bounds=COUNTED)
    column = schema.column(query.columns[0])
    if query.name == "sum":
        return Estimate(value, standard_error(query, mechanism, schema), unit=column.unit)
    if query.name == "quantiles":
        return _read_quantiles(query, tensor, mechanism, column, patients)
    epsilon, records = epsilon_per_query(mechanism), mechanism.records_per_patient
    mean, variance = known.get(f"mean/{column.name}"), known.get(f"variance/{column.name}")
    drawn = max(patients, 1.0) / design_effect(records)
    if query.name == "mean":
        noise = mean_error(column, epsilon=epsilon, records=records, patients=patients, mean=value)
        sampling = math.sqrt(_spread(column, value, variance) / drawn)
        largest = math.inf
        if variance is not None:
            error = variance_error(column, epsilon=epsilon, records=records, patients=patients, mean=value)
            largest = _largest_variance(column, value, variance, error, drawn)
        ends = _mean_ends(column, value, noise, largest, drawn)
        return Estimate(value, noise, sampling, column.unit, (column.low, column.high), ends)
    noise = variance_error(
        column, epsilon=epsilon, records=records, patients=patients, mean=mean, variance=None if mean is None else value
    )
    # (x - mean)² lies in [0, furthest²] with mean `value`, so its own variance is at most value * (furthest² - value).
    furthest = _furthest(column, mean) ** 2
    above = max(value * (furthest - value), 0.0)
    bounds = (0.0, half_range(column) ** 2)  # half of the records at each bound
    low, high = accepted(value / furthest, 1.0, ((noise / furthest) ** 2, 0.0, 0.0), 1 / drawn, (0.0, 1.0))
    unit = f"{column.unit}²" if column.unit else ""
    return Estimate(value, noise, math.sqrt(above / drawn), unit, bounds, (low * furthest, high * furthest))


def _read_quantiles(
    query: Query, tensor: FloatArray, mechanism: Statistics, column: Column, patients: float
) -> Quantiles:
    epsilon, records = epsilon_per_query(mechanism), mechanism.records_per_patient
    drawn = max(patients, 1.0) / design_effect(records)
    # Of a sum of noises more lies above 0 than of one Laplace of its deviation: √(2/π) of it at most, and not √½.
    more = 1.0 if mechanism.secure_aggregation is None else 2 / math.sqrt(math.pi)
    return Quantiles(
        ranks=query.ranks,
        values=tuple(float(value) for value in tensor),
        bounds=(column.low, column.high),
        noise_error=rank_error(epsilon=epsilon, records=records, patients=patients),
        sampling_errors=tuple(math.sqrt(rank * (1 - rank) / drawn) for rank in query.ranks),
        unit=column.unit,
        shift=rank_shift(epsilon=epsilon, records=records, patients=patients) * more,
        # The tree knows a value's leaf. Version 0.1 may have had it in the leaf below its own.
        resolution=2 * (column.high - column.low) / TREE_BRANCHING**TREE_HEIGHT,
    )


def _mean_ends(column: Column, mean: float, noise: float, variance: float, drawn: float) -> tuple[float, float]:
    """Of a mean m in [0, 1] over the bounds, whose variance is at most m (1 - m) and at most what is known of it."""
    width = column.high - column.low
    place, error = (mean - column.low) / width, noise / width
    low, high = accepted(place, 1.0, (error**2, 0.0, 0.0), 1 / drawn, (0.0, 1.0))
    reach = math.sqrt((LAPLACE_95 * error) ** 2 + NORMAL_95**2 * variance / width**2 / drawn)
    return column.low + width * max(low, place - reach), column.low + width * min(high, place + reach)


def _largest_variance(column: Column, mean: float, variance: float, error: float, drawn: float) -> float:
    """One standard error above a released variance, by its own noise and by what sampling may hide in a tail.

    A rare value far off may be in no record at all: then the records' variance is next to nothing, and an interval
    built on it would be too sure. The v that solves v = variance + error + √(v (furthest² - v) / n).
    """
    furthest = _furthest(column, mean) ** 2
    known = (max(variance, 0.0) + error) / furthest
    middle, square = known + 1 / (2 * drawn), 1 + 1 / drawn
    return furthest * min((middle + math.sqrt(max(middle**2 - square * known**2, 0.0))) / square, 1.0)


def _furthest(column: Column, mean: float | None) -> float:
    """The largest distance of a value from the mean; from any, where it is not known."""
    if mean is None:
        return column.high - column.low
    inside = min(max(mean, column.low), column.high)
    return max(inside - column.low, column.high - inside)


def _spread(column: Column, mean: float, variance: float | None) -> float:
    """The released variance, or the largest that a mean between public bounds allows."""
    if variance is not None:
        return max(variance, 0.0)
    return max((mean - column.low) * (column.high - mean), 0.0)


def _combine(
    key: str, parts: list[Statistic], sizes: FloatArray, spread: FloatArray, means: list[Statistic | None]
) -> Statistic:
    cells = [part for part in parts if isinstance(part, Cells)]
    if cells:
        noise = math.sqrt(sum(part.noise_error**2 for part in cells))
        added = np.sum([part.counts for part in cells], axis=0)
        return replace(cells[0], counts=added, noise_error=noise)
    quantiles = [part for part in parts if isinstance(part, Quantiles)]
    if quantiles:
        return _mix(quantiles, sizes)
    numbers = [part for part in parts if isinstance(part, Estimate)]
    if key.split("/")[0] in ("count", "sum"):
        noise = math.sqrt(sum(part.noise_error**2 for part in numbers))
        total = sum(part.value for part in numbers)
        return Estimate(total, noise, 0.0, numbers[0].unit, COUNTED if key == "count" else (-math.inf, math.inf))
    average = combine_means(numbers, sizes, spread)
    between = [mean for mean in means if isinstance(mean, Estimate)]
    if key.startswith("variance/") and len(between) == len(numbers):
        return _with_between(average, between, sizes)
    return average


def _with_between(within: Estimate, means: list[Estimate], sizes: FloatArray) -> Estimate:
    """Within plus between: Σ w (m - M)², less what the means' own noise adds to it; ∂m = 2 w (m - M)."""
    share = sizes / sizes.sum()
    noise = np.array([mean.noise_error for mean in means])
    apart = np.array([mean.value for mean in means])
    apart = apart - share @ apart
    between = max(float(share @ apart**2 - (share * (1 - share)) @ noise**2), 0.0)
    slopes = 2 * share * apart
    sampling = slopes * np.array([mean.sampling_error for mean in means])
    slope = np.abs(slopes)
    below, above = (
        np.r_[
            abs(within.interval[end] - within.value),
            slope * [max(abs(side - mean.value) for side in mean.interval) for mean in means],
        ]
        for end in (0, 1)
    )
    value = within.value + between
    return replace(
        within,
        value=value,
        ends=(value - _norm(below), value + _norm(above)) if within.ends else None,
        noise_error=_norm(np.r_[within.noise_error, slopes * noise]),
        sampling_error=_norm(np.r_[within.sampling_error, sampling]),
    )


def _mix(parts: list[Quantiles], sizes: FloatArray) -> Quantiles:
    share = sizes / sizes.sum()
    grid = np.unique(np.r_[np.linspace(*parts[0].bounds, 2001), [value for part in parts for value in part.values]])
    below = np.sum([weight * part.share_below(grid) for weight, part in zip(share, parts, strict=True)], axis=0)
    sampling = np.array([part.sampling_errors for part in parts])
    mixed = replace(
        parts[0],
        values=tuple(float(value) for value in np.interp(parts[0].ranks, below, grid)),
        noise_error=_norm(share * np.array([part.noise_error for part in parts])),
        shift=float(share @ np.array([part.shift for part in parts])),
        sampling_errors=tuple(float(error) for error in np.sqrt(((share[:, None] * sampling) ** 2).sum(axis=0))),
    )
    return replace(mixed, ends=step_ends(parts, share, mixed.ranks, mixed.reaches))


def _norm(errors: FloatArray) -> float:
    return float(np.sqrt((np.asarray(errors) ** 2).sum()))
