"""How a dial-out's connection stands: a small file that its process writes and `datasite status` reads."""

from __future__ import annotations

import contextlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TELL_SECONDS = 10.0  # between two writings


class State:
    """What `datasite status` shows of one connection: a JSON file, replaced whole."""

    def __init__(self, address: str, directory: Path | None) -> None:
        self._path = directory / f"{re.sub('[^A-Za-z0-9.-]', '_', address)}.json" if directory else None
        self.calls, self._losses = 0, 0
        self._now: dict[str, Any] = {"coordinator": address, "state": "connecting", "since": _time(), "reason": ""}
        if directory is not None:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.write()

    def connected(self) -> bool:
        """The stream stands; whether that is new."""
        return self._set("connected", "")

    def lost(self, reason: str) -> bool:
        """The stream was lost, or did not come about; whether that is new."""
        self._losses += self._now["state"] == "connected"
        return self._set("connecting", reason)

    def ended(self) -> None:
        """The process ends."""
        self._set("ended", "")

    def _set(self, state: str, reason: str) -> bool:
        is_new = (self._now["state"], self._now["reason"]) != (state, reason)
        if is_new:
            self._now |= {"state": state, "reason": reason, "since": _time()}
        self.write()
        return is_new

    def write(self) -> None:
        """Write it as it is now; a disk that is full ends no connection."""
        if self._path is not None:
            about = {**self._now, "calls": self.calls, "losses": self._losses, "at": _time(), "pid": os.getpid()}
            draft = self._path.with_name(f".{self._path.name}.new")  # as all drafts here, which no backup has
            with contextlib.suppress(OSError):
                draft.write_text(json.dumps(about), encoding="utf-8")
                draft.chmod(0o640)  # the datasite may be another user of the group
                draft.replace(self._path)


def read_states(directory: Path, *, now: datetime | None = None) -> list[dict[str, Any]]:
    """The connections of a directory of states; one that was not written for a while is `"silent"`.

    What is no state is left out: the files are another process's.
    """
    now, states = now or datetime.now(UTC), []
    for path in sorted(directory.glob("*.json")):
        try:
            about = json.loads(path.read_text(encoding="utf-8")[: 64 << 10])
            texts = {name: str(about[name])[:300] for name in ("coordinator", "state", "since", "reason", "at")}
            counts = {name: int(about[name]) for name in ("calls", "losses")}
            silent = (now - datetime.fromisoformat(texts["at"])).total_seconds() > 3 * TELL_SECONDS
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if silent and texts["state"] != "ended":
            texts["state"] = "silent"
        states.append({**texts, **counts})
    return states


def _time() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
