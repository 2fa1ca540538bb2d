"""Write two tables, as packages ship them, with the schemas that an owner would declare.

    python examples/public_tables.py tables
    datasite publish tables/diabetes.csv --schema tables/diabetes.toml --patients 442
    datasite publish tables/breast_cancer.csv --schema tables/breast_cancer.toml --patients 686

* `diabetes`: 442 people, ten measurements, and how far their diabetes had progressed a year later (Efron et al. 2004,
  from scikit-learn). The outcome is a number.
* `breast_cancer`: 686 women of the German Breast Cancer Study Group 2, and how many days passed until recurrence or
  death, or until they were last seen (Schumacher et al. 1994, from lifelines). The outcome is a time with an event.

Bounds are what a clinician would say beforehand; they are not taken from the table.
"""

import sys
from pathlib import Path

import pandas as pd
from lifelines.datasets import load_gbsg2
from sklearn.datasets import load_diabetes

DIABETES = {
    "age": (18, 100, "years"),
    "bmi": (15, 50, "kg/m²"),
    "bp": (50, 150, "mmHg"),
    "s1": (80, 320, "mg/dl"),
    "s2": (30, 250, "mg/dl"),
    "s3": (15, 110, "mg/dl"),
    "s4": (1, 10, ""),
    "s5": (3, 6.5, ""),
    "s6": (50, 130, "mg/dl"),
    "progression": (0, 350, ""),
}
BREAST_CANCER = {
    "age": (20, 90, "years"),
    "tsize": (0, 120, "mm"),
    "pnodes": (0, 30, ""),
    "progrec": (0, 500, "fmol/mg"),
    "estrec": (0, 500, "fmol/mg"),
    "time": (0, 3000, "days"),
}


def column(name: str, low: float, high: float, unit: str, *, kind: str = "real") -> str:
    return (
        f'[columns.{name}]\nkind = "{kind}"\nminimum = {low}\nmaximum = {high}\noutside = "clamp"\n'
        f'unit = "{unit}"\nmissing = "refuse"\n'
    )


def label(name: str, *categories: str) -> str:
    kind = f'kind = "category"\ncategories = {list(categories)!r}' if categories else 'kind = "boolean"'
    return f"[columns.{name}]\n{kind}\n"


def head(name: str, target: str = "") -> str:
    return f'name = "{name}"\npopulation = "{name}-patients"\npatient = "patient"\nholdout = 0.3\n{target}\n'


def diabetes() -> tuple[pd.DataFrame, str]:
    table = load_diabetes(as_frame=True, scaled=False).frame.rename(columns={"target": "progression"})
    table["sex"] = table["sex"].map({1.0: "female", 2.0: "male"})
    columns = [column(name, *bounds) for name, bounds in DIABETES.items()] + [label("sex", "female", "male")]
    return table, head("diabetes", 'target = "progression"') + "\n".join(columns)


def breast_cancer() -> tuple[pd.DataFrame, str]:
    table = load_gbsg2().rename(columns={"cens": "recurred"})
    columns = [column(name, *bounds) for name, bounds in BREAST_CANCER.items()]
    columns += [label("recurred"), label("horTh", "no", "yes"), label("menostat", "Pre", "Post")]
    columns += [label("tgrade", "I", "II", "III")]
    target = '[target]\ntime = "time"\nevent = "recurred"\nhorizon = 1800\n'
    return table, head("breast_cancer") + "\n".join(columns) + target


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "tables")
    folder.mkdir(parents=True, exist_ok=True)
    for made in (diabetes, breast_cancer):
        table, schema = made()
        table.insert(0, "patient", [f"P{number}" for number in range(len(table))])
        table.to_csv(folder / f"{made.__name__}.csv", index=False)
        (folder / f"{made.__name__}.toml").write_text(schema, encoding="utf-8")
        print(f"Wrote {folder / made.__name__}.csv: {len(table)} patients, {len(table.columns)} columns.")
