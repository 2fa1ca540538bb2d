"""What a place of accounts has stored, as whoever reads it sees it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg

from datasites.people.places import ConsolePlace
from datasites.people.rows import KEYS
from tests.postgres import PASSWORD


def all_text(place: ConsolePlace) -> str:
    """Every row, as text."""
    if isinstance(place, Path):
        with closing(sqlite3.connect(place)) as file:
            return "\n".join(file.iterdump())
    with psycopg.connect(place.database.url, password=PASSWORD) as team:
        found = (team.execute(f"SELECT to_jsonb({table})::text FROM {table}".encode()) for table in KEYS)
        return "\n".join(str(row[0]) for rows in found for row in rows)
