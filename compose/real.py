"""`make demo-real`: the same network on real patients, scikit-learn's breast cancer table (Wisconsin, 569 women).

Street, Wolberg & Mangasarian 1993 measured nuclei in an image of a fine needle aspirate; the ten "mean" features are
used. One woman in six is kept back as the common test population; the others are dealt to three hospitals at random,
158 each, and go through CSV, schema and publishing like anyone's data. The schema's bounds are public ranges typed by
hand, wider than any tumour should be; nothing was computed from the table.

What privacy leaves at this size, as `make bench-utility` has it of eight deals (ε = 2, δ = 1e-5, some 150 training
patients a hospital): joint 0.986 on women held out, 0.005 below the same model without privacy. The table is easy,
nearly linear, and ten features suffice; a harder question at so few patients would not survive ε = 2. A hospital's
own evaluation has some 32 women in its hold-out, so what it releases is rough: with five bins and ε = 0.8 the AUC of
one hospital has a standard error near 0.05 to 0.1, and the combined one is the one to read.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compose.baseline import Floats, Population, population_of
from compose.demonstration import Demonstration, Site
from compose.study import MalignancyPredictor
from policies.schema.schemas import Schema

SCHEMA = Path(__file__).parent / "hospitals" / "breast.toml"
NAMES = (("north", "North hospital"), ("middle", "Middle hospital"), ("south", "South hospital"))
KEPT_BACK = 6  # one in so many
SPLIT_SEED = 7
FEATURES = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave_points",
    "symmetry",
    "fractal_dimension",
)
TARGET = "malignant"


def real_patients(data: Path) -> Demonstration:
    """Write three hospitals' CSV files and schemas into `data`; the demonstration that reads them."""
    table = real_table()
    schema = Schema.from_toml(SCHEMA.read_text(encoding="utf-8"))
    order = np.random.default_rng(SPLIT_SEED).permutation(len(table[TARGET]))
    kept, dealt = order[::KEPT_BACK], np.delete(order, slice(None, None, KEPT_BACK))
    sites = []
    for place, (name, title) in enumerate(NAMES):
        rows = dealt[place :: len(NAMES)]
        write_rows(table, rows, data / f"{name}.csv")
        own = SCHEMA.read_text(encoding="utf-8").replace('population = "hospital"', f'population = "{name}-hospital"')
        (data / f"{name}.toml").write_text(own, encoding="utf-8")
        sites.append(Site(name, title, data / f"{name}.csv", data / f"{name}.toml"))
    return Demonstration(
        title="Three hospitals train MalignancyPredictor on real patients",
        name="breast-2026",
        dataset="breast",
        model=MalignancyPredictor,
        sites=sites,
        common=_rows(table, kept, schema),
        pooled=_rows(table, dealt, schema),
        statistic=("radius", "mean radius of nuclei"),
        histogram="texture",
        synthetic=False,
        purpose="To tell malignant from benign breast masses in a fine needle aspirate.",
        evaluation_epsilon=0.8,
        bins=5,
    )


def real_table() -> dict[str, Floats]:
    """Ten mean features and the target, 1 where malignant, by column; from scikit-learn, without a download."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    table = {name: np.asarray(found.data[:, place]) for place, name in enumerate(FEATURES)}
    return {**table, TARGET: (found.target == 0).astype(np.float64)}


def write_rows(table: dict[str, Floats], rows: npt.NDArray[np.int64], path: Path) -> None:
    """Write the women in `rows` as a hospital's table, one row each, with a made-up patient number."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["patient", *FEATURES, TARGET])
        for row in rows:
            features = [f"{table[name][row]:.5g}" for name in FEATURES]
            writer.writerow([f"W{row:04d}", *features, int(table[TARGET][row])])


def _rows(table: dict[str, Floats], rows: npt.NDArray[np.int64], schema: Schema) -> Population:
    return population_of({name: values[rows] for name, values in table.items()}, schema)
