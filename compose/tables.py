"""Each hospital's table and schema as files, for hospitals that are started elsewhere, as in containers.

    python -m compose.tables DIR [--seed 2027]

writes DIR/general/flu.csv and DIR/general/flu.toml, and so for each hospital, always the same for a seed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from compose.patients import HOSPITALS, make_patients, write_csv

SEED = 2027
SCHEMAS = Path(__file__).parent / "hospitals"


def schema_path(hospital: str) -> Path:
    """A hospital's schema.toml."""
    return SCHEMAS / f"{hospital}.toml"


def write_tables(directory: Path, *, seed: int = SEED) -> list[Path]:
    """Write every hospital's folder; the CSV files."""
    written = []
    for hospital in HOSPITALS:
        folder = directory / hospital.name
        folder.mkdir(parents=True, exist_ok=True)
        table = folder / "flu.csv"
        write_csv(make_patients(hospital, seed=seed), table, prefix=hospital.name[0].upper())
        shutil.copyfile(schema_path(hospital.name), folder / "flu.toml")
        written.append(table)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m compose.tables", description="Made-up patients of each hospital.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=SEED)
    chosen = parser.parse_args(arguments)
    for path in write_tables(chosen.directory, seed=chosen.seed):
        print(f"Wrote {path} and {path.with_suffix('.toml')}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
