"""Synthetic patients of three hospitals who came with an acute respiratory illness. No real person stands behind a row.

A visit has ten features and one target, influenza confirmed by PCR. The generator first draws whether a visit is
influenza (local incidence, the patient's own susceptibility), then each finding given that and the patient's age.

Published figures that the tables below are built on. LR+ is sensitivity / (1 - specificity), LR- is
(1 - sensitivity) / specificity, OR is the ratio of the odds of a finding with and without influenza:

* Call et al., JAMA 2005;293:987-997 (systematic review): at any age absence of fever LR- 0.40, of cough LR- 0.42, of
  nasal congestion LR- 0.49; from 60 years on fever LR+ 3.8, chills LR+ 2.6, sneezing LR+ 0.47.
* Monto et al. 2000, as reported in table 4 of Ebell & Afonso, Ann Fam Med 2011;9:69-77: fever above 37.7 °C OR 3.26,
  cough OR 2.85, nasal congestion OR 1.98, sore throat OR 0.72. Govaert et al. 1998 (60 years and older), same table:
  cough OR 5.25, vaccinated OR 0.56.
* Ebell et al., J Am Board Fam Med 2012;25:55-62 (adult outpatients): fever with cough 2 points, myalgia 2, chills or
  sweats 1, onset less than 48 hours ago 1.
* Friedman & Attia, Arch Pediatr Adolesc Med 2004;158:391-394 (children): cough OR 7.2 and sore throat OR 3.9, the
  odds ratios as reported in table 5 of Ebell & Afonso 2011.
* Heinonen et al. (children up to 13, matched case-control study, PMID 22080425): fever was the only independent
  predictor, OR from 13.6 on, rising with the degree of fever.
* Vuichard-Gysin et al., PLoS One 2019 (PMC6370215): in children fever, chills and cough predict influenza; in adults
  chills and cough do, fever does not. Children and adults present differently, which is what makes hospitals disagree.

Everything else is a modelling assumption of ours, marked "assumed" where it stands: age mixes, incidences, coverage of
vaccination, the sensitivity of which a published ratio leaves one degree of freedom, days since onset, temperatures
given fever, symptom diaries, how long patients stay away, how findings of one patient go together, and what is left
unrecorded. Findings are independent given age, influenza and the patient: real ones are not, so the AUC here is higher
than a clinic's.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Table = dict[str, NDArray[np.float64]]
"""Columns by name, equally long; a missing value is NaN."""

FEATURES = (
    "age",
    "temperature",
    "days_since_onset",
    "cough",
    "sore_throat",
    "nasal_congestion",
    "myalgia",
    "chills",
    "vaccinated",
    "exposure",
)
TARGET = "influenza"
DIARY_DAYS = 5
DIARY = tuple(f"{what}_day{day}" for day in range(1, DIARY_DAYS + 1) for what in ("temperature", "cough"))
FOLLOW_UP_DAYS = 14
FOLLOW_UP = ("days_away", "returned")
COLUMNS = ("patient", *FEATURES, TARGET, *DIARY, *FOLLOW_UP)
REAL_COLUMNS = frozenset({"temperature", *(name for name in DIARY if name.startswith("temperature"))})


@dataclass(frozen=True)
class Finding:
    """Chance of a finding with and without influenza, for a child, an adult and an older adult.

    Args:
      child: (sensitivity, 1 - specificity) well below 13 years.
      adult: the same between 18 and 55 years.
      older: the same from 65 years on. Log-odds pass smoothly from one to the next.
      reported: whether a patient tells it, so that the patient's own readiness to report shifts it.
    """

    child: tuple[float, float]
    adult: tuple[float, float]
    older: tuple[float, float]
    reported: bool = True


# Sources as in the module's docstring; "assumed" says which end of a ratio we chose.
FINDINGS: Mapping[str, Finding] = {
    # child OR 13.6 (Heinonen), 0.90 assumed; adult OR 3.26 (Monto), 0.58 assumed; older LR+ 3.8 (Call), 0.46 assumed.
    "fever": Finding((0.90, 0.398), (0.58, 0.298), (0.46, 0.121), reported=False),
    # child OR 4, assumed between 7.2 (Friedman) and none (Heinonen); adult LR- 0.42 (Call), 0.86 assumed; older OR 5.25
    # (Govaert), 0.80 assumed.
    "cough": Finding((0.88, 0.647), (0.86, 0.667), (0.80, 0.432)),
    # child OR 3.9 (Friedman), 0.60 assumed; adult OR 0.72 (Monto), 0.60 assumed; older assumed uninformative.
    "sore_throat": Finding((0.60, 0.278), (0.60, 0.676), (0.40, 0.40)),
    # child assumed uninformative (Heinonen); adult OR 1.98 (Monto), 0.75 assumed; older assumed, as Call on sneezing.
    "nasal_congestion": Finding((0.72, 0.72), (0.75, 0.602), (0.45, 0.50)),
    # assumed throughout: two of six points in adults (Ebell 2012); small children cannot say.
    "myalgia": Finding((0.32, 0.15), (0.75, 0.40), (0.55, 0.30)),
    # child and adult assumed, in the direction of Vuichard-Gysin; older LR+ 2.6 (Call), 0.52 assumed.
    "chills": Finding((0.40, 0.20), (0.60, 0.25), (0.52, 0.20)),
    # assumed: somebody else in the household or class was ill.
    "exposure": Finding((0.60, 0.35), (0.42, 0.20), (0.30, 0.12)),
}
VACCINE_ODDS_RATIO = 0.56  # Govaert et al. 1998
REPORTING = 0.5  # assumed: log-odds per standard deviation of a patient's readiness to report, at every visit alike
SUSCEPTIBILITY = 0.5  # assumed: the same for the chance that a visit is influenza
FEVER_FADES = 0.20  # assumed: log-odds of fever lost per day since onset, past the second
AWAY = {True: 5.5, False: 3.5}  # assumed: median days until usual activities, with influenza and without
AWAY_SHAPE = 1.6  # assumed: of their Weibull distribution; from 60 years on all of it a third longer
LOST = 0.45  # assumed: share of visits after which calls ended before the fourteenth day, on any day alike
VISITS = (0.55, 0.27, 0.12, 0.06)  # assumed: share of patients with 1, 2, 3 and 4 visits


@dataclass(frozen=True)
class Hospital:
    """One hospital of the network. Every figure is assumed.

    Args:
      name: of its datasite and of its files.
      title: what people call it.
      patients: patients in its table, each with one to four visits.
      ages: (share, mean, standard deviation) of the groups that come, in years.
      incidence: share of visits of an average patient that are influenza.
      vaccinated: share of patients without influenza who were vaccinated this season.
      delay: mean days between onset and visit without influenza; with it, two thirds of that (Ebell 2012: early).
      unrecorded: share of visits without a temperature.
    """

    name: str
    title: str
    patients: int
    ages: tuple[tuple[float, float, float], ...]
    incidence: float
    vaccinated: float
    delay: float
    unrecorded: float


HOSPITALS = (
    Hospital(
        "general", "General hospital", 8_000, ((0.05, 10, 4), (0.80, 40, 13), (0.15, 70, 8)), 0.24, 0.35, 3.0, 0.02
    ),
    Hospital("paediatric", "Children's hospital", 7_000, ((0.75, 5, 3.5), (0.25, 13, 2)), 0.38, 0.20, 2.0, 0.01),
    Hospital("rural", "Rural hospital", 6_000, ((0.05, 9, 4), (0.30, 48, 10), (0.65, 73, 9)), 0.12, 0.55, 4.5, 0.10),
)


def make_patients(hospital: Hospital, *, seed: int, patients: int | None = None, visits: int | None = None) -> Table:
    """The visits of `hospital`, in random order: `COLUMNS`, patients numbered from 0, booleans 0 or 1, missing NaN.

    Args:
      seed: the same seed, the same table; hospitals differ under one seed.
      patients: how many instead of the hospital's own number.
      visits: exactly so many each instead of one to four.
    """
    rng = np.random.default_rng([seed, *hospital.name.encode()])
    count = hospital.patients if patients is None else patients
    ages = _ages(hospital, count, rng)
    reporting, susceptible, coverage = (rng.normal(size=count) for _ in range(3))
    each = rng.choice(4, size=count, p=VISITS) + 1 if visits is None else np.full(count, visits)
    who = rng.permutation(np.repeat(np.arange(count), each))
    age = ages[who]

    flu = rng.random(len(who)) < _expit(_logit(hospital.incidence) + SUSCEPTIBILITY * susceptible[who])
    days = np.clip(rng.gamma(1.5, hospital.delay / 1.5 * np.where(flu, 2 / 3, 1.0)).round(), 0, 14)
    table: Table = {"patient": who.astype(float), "age": age, "days_since_onset": days}
    for name, finding in FINDINGS.items():
        odds = _log_odds(finding, age, flu) + REPORTING * reporting[who] * finding.reported
        if name == "fever":
            odds = odds - FEVER_FADES * np.maximum(days - 2, 0)
        table[name] = (rng.random(len(who)) < _expit(odds)).astype(float)

    # One patient is vaccinated or not at all visits but for the odds ratio: a common uniform number per patient.
    shot = _logit(hospital.vaccinated) + np.where(flu, np.log(VACCINE_ODDS_RATIO), 0.0)
    table["vaccinated"] = (_normal_cdf(coverage[who]) < _expit(shot)).astype(float)
    fever = table.pop("fever") > 0
    table["temperature"] = _temperature(fever, flu, age, rng)
    table |= _diary(fever, flu, table, rng)
    table["temperature"][rng.random(len(who)) < hospital.unrecorded] = np.nan
    table[TARGET] = flu.astype(float)
    table |= _follow_up(flu, age, rng)
    return {name: table[name] for name in COLUMNS}


def make_test_population(*, seed: int, each: int = 4_000) -> Table:
    """The common test population: `each` fresh patients of every hospital, one visit each, in equal parts."""
    parts = [make_patients(hospital, seed=seed + 1_000_003, patients=each, visits=1) for hospital in HOSPITALS]
    return {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}


def write_csv(table: Table, path: Path, *, prefix: str = "P") -> None:
    """Write `table` as a hospital would: patient numbers as text, whole numbers without a point, missing as nothing."""
    columns = [_as_text(name, values, prefix) for name, values in table.items()]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table)
        writer.writerows(zip(*columns, strict=True))


def _as_text(name: str, values: NDArray[np.float64], prefix: str) -> list[str]:
    if name == "patient":
        return [f"{prefix}{int(value):06d}" for value in values]
    places = 1 if name in REAL_COLUMNS else 0
    return ["" if np.isnan(value) else f"{value:.{places}f}" for value in values]


def _ages(hospital: Hospital, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    shares, means, spreads = (np.array(column) for column in zip(*hospital.ages, strict=True))
    group = rng.choice(len(shares), size=count, p=shares)
    return np.asarray(np.clip(rng.normal(means[group], spreads[group]), 0, 100).round())


def _log_odds(finding: Finding, age: NDArray[np.float64], flu: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Log-odds of a finding: bands by age with soft edges (13 and 60 years), so that nobody changes on a birthday."""
    child, older = _expit((13 - age) / 2.0), _expit((age - 60) / 3.0)
    bands = (finding.child, finding.adult, finding.older)
    with_flu, without = (np.array([_logit(band[side]) for band in bands]) for side in (0, 1))
    weights = np.stack([child, (1 - child) * (1 - older), (1 - child) * older])
    weights /= weights.sum(axis=0)
    mixed: NDArray[np.float64] = np.where(flu, with_flu @ weights, without @ weights)
    return mixed


def _temperature(
    fever: NDArray[np.bool_], flu: NDArray[np.bool_], age: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Degrees Celsius, to a tenth: fever from 37.8 on, hotter in children and with influenza (Heinonen: the degree of
    fever tells; how much is assumed), else around 36.8 and a little more with influenza (assumed)."""
    hot = 37.8 + rng.gamma(2.0, np.where(age < 13, 0.45, 0.32) * np.where(flu, 1.3, 0.9))
    calm = np.minimum(rng.normal(36.75 + 0.2 * flu, 0.4), 37.7)
    return np.asarray(np.clip(np.where(fever, hot, calm), 35.0, 41.5).round(1))


def _diary(fever: NDArray[np.bool_], flu: NDArray[np.bool_], table: Table, rng: np.random.Generator) -> Table:
    """Five days from onset as recalled (assumed): influenza starts hot and its cough grows; colds stay level."""
    diary: Table = {}
    for day in range(1, DIARY_DAYS + 1):
        heat = np.where(flu, 1.6 - 0.30 * day, 0.5) * (0.35 + fever)
        temperature = 36.8 + heat + rng.normal(0, 0.45, size=len(flu))
        cough = table["cough"] * np.where(flu, 2.0 + 0.8 * day, 4.0) + rng.normal(0, 1.2, size=len(flu))
        diary[f"temperature_day{day}"] = np.clip(temperature, 35.0, 41.5).round(1)
        diary[f"cough_day{day}"] = np.clip(cough, 0, 10).round()
    return diary


def _follow_up(flu: NDArray[np.bool_], age: NDArray[np.float64], rng: np.random.Generator) -> Table:
    """Whole days from the visit until usual activities were taken up again, or until the last call without."""
    median = np.where(flu, AWAY[True], AWAY[False]) * np.where(age >= 60, 4 / 3, 1.0)
    away = np.floor(median * (rng.exponential(size=len(flu)) / np.log(2)) ** (1 / AWAY_SHAPE))
    called = np.where(rng.random(len(flu)) < LOST, rng.integers(1, FOLLOW_UP_DAYS, len(flu)), FOLLOW_UP_DAYS)
    return {"days_away": np.minimum(away, called).astype(float), "returned": (away <= called).astype(float)}


def _expit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 1 / (1 + np.exp(-x))
    return result


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def _normal_cdf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard normal distribution function by its logistic approximation (error below 0.01): for coverage only."""
    return _expit(1.702 * x)
