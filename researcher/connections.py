"""The interface to one datasite, and concurrent calls to many.

`Connection` speaks plain data; `researcher.client.Datasite` is that in PySyft's protocol, and tests have others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from policies.errors import DatasiteError

if TYPE_CHECKING:
    import numpy as np

Answer = TypeVar("Answer")


class Connection(Protocol):
    """One datasite, in plain data. All methods raise `Unavailable` or `PermissionRefused`."""

    name: str

    def describe(self) -> dict[str, Any]: ...
    def quote(self, source: str, dataset: str) -> dict[str, Any]: ...
    def submit(self, source: str, asset: str, purpose: str = "", project: str = "") -> str: ...
    def requests(self) -> list[dict[str, Any]]: ...
    def request_status(self, code: str) -> dict[str, Any]: ...
    def certificates(self, code: str) -> list[str]: ...
    def withdraw(self, code: str) -> dict[str, Any]: ...
    def secure_sum(self, code: str, round: int, step: str, message: Mapping[str, Any]) -> dict[str, Any]: ...
    def comment(self, code: str, text: str) -> list[dict[str, str]]: ...
    def comments(self, code: str) -> list[dict[str, str]]: ...
    def keep_weights(self, code: str, begin: int, size: int, content: bytes) -> dict[str, Any]: ...
    def mock(self, asset: str) -> np.ndarray[Any, Any]: ...
    def run(
        self, code: str, asset: str, weights: Mapping[str, np.ndarray[Any, Any]] | None, round: int
    ) -> dict[str, Any]: ...


class Reached(Protocol):
    """Datasites by name, what each said of itself at the start, and why others are missing."""

    datasites: dict[str, Connection]
    descriptions: dict[str, dict[str, Any]]
    missing: dict[str, str]


def ask_all(
    datasites: Mapping[str, Connection], question: Callable[[str, Connection], Answer]
) -> tuple[dict[str, Answer], dict[str, DatasiteError]]:
    """Ask every datasite at once: answers by name, and errors by name."""
    answers: dict[str, Answer] = {}
    problems: dict[str, DatasiteError] = {}
    if not datasites:
        return answers, problems
    with ThreadPoolExecutor(max_workers=min(32, len(datasites))) as pool:
        futures = {name: pool.submit(question, name, datasite) for name, datasite in datasites.items()}
    for name, future in futures.items():
        try:
            answers[name] = future.result()
        except DatasiteError as error:
            problems[name] = error
    return answers, problems
