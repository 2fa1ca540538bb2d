"""`make demo-serve`: the demonstration's hospitals serve again, with everything in them, until Ctrl-C.

python -m compose.serve [build/demo]
"""

from __future__ import annotations

import signal
import sys
import threading
import tomllib
from collections.abc import Sequence
from pathlib import Path

from compose.processes import Datasite, DemonstrationFailed, everywhere


def left_datasites(directory: Path) -> list[Datasite]:
    """The datasites that a demonstration left. Raises `DemonstrationFailed` where there are none."""
    datasites = []
    for path in sorted(directory.glob("hospitals/*/settings.toml")):
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
        datasites.append(Datasite(path.parent.name, settings["name"], path.parent, settings["port"]))
    if not datasites:
        raise DemonstrationFailed(f"{directory} holds no demonstration. Run make demo first.")
    return datasites


def consoles(datasites: Sequence[Datasite]) -> str:
    """How to open each console, for people."""
    lines = []
    for datasite in datasites:
        settings = tomllib.loads((datasite.directory / "settings.toml").read_text(encoding="utf-8"))
        password = datasite.directory.parent / f"{datasite.name}.owner"
        lines.append(f"  {datasite.title}: {datasite.url}  as {settings['owner_email']}, password in {password}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; exit code 0."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    datasites: list[Datasite] = []
    try:
        datasites = left_datasites(Path(given[0] if given else "build/demo"))
        everywhere(datasites, lambda datasite: datasite.start())
        print(f"Consoles of the demonstration:\n{consoles(datasites)}\nCtrl-C ends them.", flush=True)
        stopped.wait()
    except DemonstrationFailed as error:
        print(f"The demonstration cannot be served. {error}", file=sys.stderr)
        return 1
    finally:
        for datasite in datasites:
            datasite.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
