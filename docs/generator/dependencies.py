"""Every locked package with its version, its licence, and who installs it, from the bills of materials below lock/."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXTRAS = ("datasite", "researcher", "notebook", "dev")


def table(root: Path) -> str:
    """One line a package, by name."""
    installed: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for extra in EXTRAS:
        bill = json.loads((root / "lock" / f"{extra}.cdx.json").read_text(encoding="utf-8"))
        for component in bill["components"]:
            installed[component["name"], component["version"], licence(component)].append(extra)
    lines = [
        f"| `{name}` | {version} | {stated} | {', '.join(extras)} |"
        for (name, version, stated), extras in sorted(installed.items())
    ]
    return "\n".join(("| package | version | licence | in the locks |", "| --- | --- | --- | --- |", *lines))


def licence(component: Mapping[str, Any]) -> str:
    """What a package states of its licence: an SPDX identifier or expression, else its own words."""
    stated = [choice.get("expression") or choice["license"].get("id") for choice in component["licenses"]]
    if exact := sorted({identifier for identifier in stated if identifier}):
        return " and ".join(exact)
    words = {
        choice["license"]["name"].removeprefix("License :: ").removeprefix("OSI Approved :: ")
        for choice in component["licenses"]
    }
    return " and ".join(sorted(words)).replace("|", "/")
