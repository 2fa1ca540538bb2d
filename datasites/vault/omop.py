"""Draft the query and the schema of a table of an OMOP common data model (CDM 5.4), for the owner to finish.

Kinds, categories and dates come from the model's own definition, none from a database. Queries are plain enough for
PostgreSQL and SQLite, and read from whatever schema the connection finds `person` and the others in.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.errors import InvalidRequest

MOST_CONCEPTS = 500
LARGEST_CONCEPT = 2**31 - 1

SEX = "CASE p.gender_concept_id WHEN 8507 THEN 'male' WHEN 8532 THEN 'female' ELSE 'other' END AS sex"
AGE = "CAST(SUBSTR(CAST({date} AS VARCHAR(10)), 1, 4) AS INTEGER) - p.year_of_birth AS age"
SEX_COLUMN = 'kind = "category"\ncategories = ["male", "female", "other"]'
AGE_COLUMN = 'kind = "integer"\nunit = "years"\nminimum = 0\nmaximum = 120\noutside = "clamp"'
DATE_COLUMN = (
    'kind = "date"\nminimum = 2000-01-01      # fill in: the first and last day of the study\nmaximum = 2030-01-01'
)
END_COLUMN = f"{DATE_COLUMN}\nmissing = {{constant = 2030-01-01, indicator = true}}"

PERSON = f"""\
SELECT p.person_id, p.year_of_birth, {SEX},
  CASE p.race_concept_id WHEN 8515 THEN 'asian' WHEN 8516 THEN 'black' WHEN 8527 THEN 'white' ELSE 'other' END AS race,
  CASE WHEN d.person_id IS NULL THEN 0 ELSE 1 END AS died
FROM person p LEFT JOIN death d ON d.person_id = p.person_id
"""
VISIT = f"""\
SELECT e.person_id, e.visit_start_date AS start_date, e.visit_end_date AS end_date,
  CASE e.visit_concept_id WHEN 9201 THEN 'inpatient' WHEN 9202 THEN 'outpatient' WHEN 9203 THEN 'emergency'
    WHEN 262 THEN 'emergency and inpatient' ELSE 'other' END AS visit,
  {AGE.format(date="e.visit_start_date")}, {SEX}
FROM visit_occurrence e JOIN person p ON p.person_id = e.person_id
"""
EVENT = """\
SELECT e.person_id, CAST(e.{concept} AS VARCHAR(20)) AS concept, e.{date} AS start_date,{value}
  {age}, {sex}
FROM {table} e JOIN person p ON p.person_id = e.person_id
WHERE e.{concept} IN ({concepts})
"""
# Of each table of events: the column of its concept, of its date, and of a number where it has one.
EVENTS = {
    "condition_occurrence": ("condition_concept_id", "condition_start_date", ""),
    "drug_exposure": ("drug_concept_id", "drug_exposure_start_date", ""),
    "procedure_occurrence": ("procedure_concept_id", "procedure_date", ""),
    "measurement": ("measurement_concept_id", "measurement_date", "value_as_number"),
    "observation": ("observation_concept_id", "observation_date", "value_as_number"),
}
TABLES = ("person", "visit_occurrence", *EVENTS)

TOP = """\
# Draft of a schema for {table} of an OMOP CDM 5.4 database. It becomes public with the dataset.
# Kinds and categories are the model's. Its query: `datasite schema --omop {table} ... --query`.
name = "{table}"
population = ""          # fill in: the patients; every table about them shares one budget
description = ""
patient = "person_id"
holdout = 0.2            # share of patients kept for evaluation, 0 to 0.5
"""


def omop_query(table: str, concepts: Sequence[int] = ()) -> str:
    """The query of a table's draft. Raises `InvalidRequest` where the table or concepts are not as they should be."""
    _check(table, concepts)
    about = f"-- {table} of an OMOP CDM 5.4 database, as `datasite schema --omop {table}` describes it.\n"
    if table == "person":
        return about + PERSON
    if table == "visit_occurrence":
        return about + VISIT
    concept, date, number = EVENTS[table]
    return about + EVENT.format(
        table=table,
        concept=concept,
        date=date,
        concepts=", ".join(map(str, concepts)),
        value=f" e.{number} AS value," if number else "",
        age=AGE.format(date=f"e.{date}"),
        sex=SEX,
    )


def omop_schema(table: str, concepts: Sequence[int] = ()) -> str:
    """TOML text of a draft of the schema that goes with `omop_query`. Raises `InvalidRequest` as it does."""
    _check(table, concepts)
    columns = {"age": AGE_COLUMN, "sex": SEX_COLUMN}
    if table == "person":
        columns = {
            "year_of_birth": 'kind = "integer"\nminimum = 1900\nmaximum = 2030\noutside = "clamp"',
            "sex": SEX_COLUMN,
            "race": 'kind = "category"\ncategories = ["asian", "black", "white", "other"]',
            "died": 'kind = "boolean"',
        }
    elif table == "visit_occurrence":
        kinds = '"inpatient", "outpatient", "emergency", "emergency and inpatient", "other"'
        visit = f'kind = "category"\ncategories = [{kinds}]'
        columns = {"start_date": DATE_COLUMN, "end_date": END_COLUMN, "visit": visit, **columns}
    else:
        listed = ", ".join(f'"{concept}"' for concept in concepts)
        first = {"concept": f'kind = "category"\ncategories = [{listed}]'} if len(concepts) > 1 else {}
        value = 'kind = "real"\nunit = ""\n# minimum =            # fill in\n# maximum =            # fill in\n'
        number = {"value": f'{value}outside = "clamp"'} if EVENTS[table][2] else {}
        columns = {**first, "start_date": DATE_COLUMN, **number, **columns}
    parts = [TOP.format(table=table), *(f"[columns.{name}]\n{body}\n" for name, body in columns.items())]
    return "\n".join(parts)


def _check(table: str, concepts: Sequence[int]) -> None:
    if table not in TABLES:
        raise InvalidRequest(f"{table[:60]!r} is no table of OMOP that is drafted. Choose one of {', '.join(TABLES)}.")
    if (table in EVENTS) != bool(concepts):
        raise InvalidRequest(
            f"{table} holds many concepts. Say which, as --concept 201826 --concept 3004249."
            if table in EVENTS
            else f"{table} has no concepts to choose. Leave --concept out."
        )
    if len(concepts) > MOST_CONCEPTS or len(set(concepts)) != len(concepts):
        raise InvalidRequest(f"{len(concepts)} concepts are above {MOST_CONCEPTS}, or one is there twice.")
    for concept in concepts:
        if not 0 <= concept <= LARGEST_CONCEPT:
            raise InvalidRequest(f"--concept {concept} is not a whole number from 0 to {LARGEST_CONCEPT}.")
