"""The influenza demonstration: what `compose.demo` shows on the synthetic patients of `compose.patients`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from compose.analyses import kaplan_meier
from compose.baseline import Floats, pooled, population_of
from compose.demonstration import Demonstration, Site
from compose.patients import HOSPITALS, Table, make_patients, make_test_population
from compose.study import REGRESSION, SURVIVAL, FluPredictor
from compose.tables import schema_path, write_tables
from policies.schema.schemas import Schema
from policies.schema.survival_cells import survival_groups, time_grid


def synthetic_patients(data: Path, *, seed: int) -> Demonstration:
    """Write the three hospitals' CSV files below `data`; the demonstration that reads them."""
    write_tables(data, seed=seed)
    return influenza(data, seed=seed)


def influenza(data: Path, *, seed: int) -> Demonstration:
    """The demonstration on files that somebody wrote below `data` from this seed.

    The script makes the same patients again, in memory, to judge the models by; a hospital's files are not read.
    """
    schemas = {each.name: Schema.from_toml(schema_path(each.name).read_text(encoding="utf-8")) for each in HOSPITALS}
    tables = {each.name: make_patients(each, seed=seed) for each in HOSPITALS}
    common = make_test_population(seed=seed)
    return Demonstration(
        title="Three hospitals train FluPredictor together",
        name="flu-2026",
        dataset="flu",
        model=FluPredictor,
        sites=[Site(each.name, each.title, data / each.name / "flu.csv", schema_path(each.name)) for each in HOSPITALS],
        common=population_of(common, schemas[HOSPITALS[0].name]),
        pooled=pooled(population_of(table, schemas[name]) for name, table in tables.items()),
        statistic=("temperature", "mean temperature at the visit"),
        histogram="age",
        synthetic=True,
        purpose="To tell influenza from other respiratory illness at the first visit, before a PCR result.",
        survival=SURVIVAL,
        survival_title="How long patients stay away from usual activities",
        regression=REGRESSION,
        true_survival=true_survival(tables.values(), schemas[HOSPITALS[0].name]),
    )


def true_survival(tables: Iterable[Table], schema: Schema) -> dict[str, Floats]:
    """The curves that `SURVIVAL` asks for, of all visits in one place and without privacy, by group."""
    assert SURVIVAL.by is not None
    columns = (SURVIVAL.time, SURVIVAL.event, SURVIVAL.by)
    chosen = [[table[column] for column in columns] for table in tables]
    times, events, groups = (np.concatenate(parts) for parts in zip(*chosen, strict=True))
    return {
        label: kaplan_meier(times[groups == place], events[groups == place], time_grid(SURVIVAL, schema).ends)
        for place, label in enumerate(survival_groups(SURVIVAL, schema))
    }
