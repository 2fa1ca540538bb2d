"""Write a hospital's words into the researcher's network file, as its owner has read them out.

    python -m compose.introduce HOSPITAL WORD ...

The file that `NETWORK` names becomes /secrets/network.toml with these words and with paths that hold anywhere; words
that it has of other hospitals stay.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

SECRETS = Path("/secrets")
PATHS = re.compile(r'^(password_file|ca_file|token_file) = "(?=[^/])', re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Introduce a hospital; exit code 0, or 2 where there is none of that name that dials out."""
    hospital, *words = sys.argv[1:] if arguments is None else arguments
    network = Path(os.environ["NETWORK"])
    known = network.read_text(encoding="utf-8") if network.exists() else given()
    written = with_words(known, hospital, " ".join(words))
    if written is None:
        print(f"{network} has no hospital {hospital!r} that dials out.", file=sys.stderr)
        return 2
    network.write_text(written, encoding="utf-8")
    return 0


def given() -> str:
    """The network file of the researcher's secrets, its paths made absolute."""
    return PATHS.sub(rf'\1 = "{SECRETS}/', (SECRETS / "network.toml").read_text(encoding="utf-8"))


def with_words(network: str, hospital: str, words: str) -> str | None:
    """A network file with a hospital's words; None where it does not dial out."""
    table = re.compile(rf'(name = "{re.escape(hospital)}"\nvia = "coordinator"\nwords = )"[^"]*"')
    return table.sub(rf'\1"{words}"', network) if table.search(network) else None


if __name__ == "__main__":
    sys.exit(main())
