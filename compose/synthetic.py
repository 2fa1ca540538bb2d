"""The influenza demonstration: what `compose.demo` shows on the synthetic patients of `compose.patients`."""

from __future__ import annotations

from pathlib import Path

from compose.baseline import pooled, population_of
from compose.demonstration import Demonstration, Site
from compose.patients import HOSPITALS, make_patients, make_test_population, write_csv
from compose.study import TRAINING, FluPredictor
from policies.schemas import Schema

SCHEMAS = Path(__file__).parent / "hospitals"


def synthetic_patients(data: Path, *, seed: int) -> Demonstration:
    """Write the three hospitals' CSV files into `data`; the demonstration that reads them."""
    schemas = {each.name: Schema.from_toml(schema_path(each.name).read_text(encoding="utf-8")) for each in HOSPITALS}
    tables = {each.name: make_patients(each, seed=seed) for each in HOSPITALS}
    for name, table in tables.items():
        write_csv(table, data / f"{name}.csv", prefix=name[0].upper())
    common = make_test_population(seed=seed)
    return Demonstration(
        title="Three hospitals train FluPredictor together",
        name="flu-2026",
        dataset="flu",
        model=FluPredictor,
        training=TRAINING,
        sites=[Site(each.name, each.title, data / f"{each.name}.csv", schema_path(each.name)) for each in HOSPITALS],
        common=population_of(common, schemas[HOSPITALS[0].name]),
        pooled=pooled(population_of(table, schemas[name]) for name, table in tables.items()),
        statistic=("temperature", "mean temperature at the visit"),
        histogram="age",
        synthetic=True,
        purpose="To tell influenza from other respiratory illness at the first visit, before a PCR result.",
    )


def schema_path(hospital: str) -> Path:
    """A hospital's schema.toml."""
    return SCHEMAS / f"{hospital}.toml"
