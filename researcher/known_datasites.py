"""Trust on first use: datasites' keys as first shown, in a file; one that shows another key later is refused.

A datasite signs its answers with one key (`verify_key`, PySyft's) and its certificates with another (`public_key`).
The file lies beside `network.toml`, or with the studies where nothing can be written there.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from policies.errors import InvalidRequest, PermissionRefused
from researcher.state import default_directory, replace_file

FILE = "known_datasites.json"
WORDS = {"verify_key": "key of its answers", "public_key": "key of its certificates"}


def changed_key(who: str, kind: str, old: str, new: str, what_to_do: str) -> PermissionRefused:
    """The error that says a key changed: which, from what to what, and what to do."""
    return PermissionRefused(
        f"{who} shows another {WORDS[kind]} than before: {new}, and it was {old}. Its owner may have changed it, or "
        f"somebody else answers there. Ask the owner, by telephone or in person, which key is theirs. {what_to_do}"
    )


class KnownDatasites:
    """Keys by address and kind. Safe to use from many threads.

    Args:
      path: of the file, made when a key is first written; None remembers in this object alone.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._entries: dict[str, dict[str, str]] | None = None

    @classmethod
    def beside(cls, network_file: Path) -> KnownDatasites:
        """Those of a network file."""
        beside = network_file.parent / FILE
        if beside.exists() or os.access(network_file.parent, os.W_OK):
            return cls(beside)
        return cls(default_directory(FILE))

    def check(self, url: str, name: str, kind: str, key: str) -> None:
        """Remember the key that a datasite shows, or raise `PermissionRefused` where it is not the one remembered.

        Args:
          kind: `"verify_key"` or `"public_key"`.
        """
        with self._lock:
            if self._entries is None:
                self._entries = self._read()
            known = self._entries.setdefault(url, {})
            if kind not in known:
                known[kind] = key
                self._write()
            elif known[kind] != key:
                where = f"remove {url} from {self.path}" if self.path else "make the connection anew"
                raise changed_key(
                    f"{name} at {url}", kind, known[kind], key, f"Where it is the new one, {where} and connect again."
                )

    def _read(self) -> dict[str, dict[str, str]]:
        if self.path is None or not self.path.exists():
            return {}
        try:
            entries: Any = json.loads(self.path.read_text(encoding="utf-8"))
            sound = all(isinstance(key, str) for keys in entries.values() for key in keys.values())
        except (OSError, ValueError, AttributeError, RecursionError):
            sound = False
        if not sound:
            raise InvalidRequest(
                f"{self.path} is no list of datasites' keys. Restore it, or ask each owner for theirs."
            )
        return dict(entries)

    def _write(self) -> None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._entries, indent=2, sort_keys=True) + "\n"
            replace_file(self.path, text.encode())
