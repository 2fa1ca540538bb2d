"""Several datasites together: reading `network.toml`, logging in, and finding a dataset in all of them.

`Connection` is all that the rest of this package asks of one datasite; `researcher.client.Datasite` is that over syft.
"""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from policies.errors import DatasiteError, InvalidRequest, Unavailable

if TYPE_CHECKING:
    import numpy as np

    from researcher.cohort import Cohort

Answer = TypeVar("Answer")
FIELDS = {"name", "url", "email", "password", "password_file", "ca_file"}


class Connection(Protocol):
    """One datasite, in plain data. All methods raise `Unavailable` or `PermissionRefused`."""

    name: str

    def describe(self) -> dict[str, Any]: ...
    def quote(self, source: str, dataset: str) -> dict[str, Any]: ...
    def submit(self, source: str, asset: str, purpose: str = "") -> str: ...
    def requests(self) -> list[dict[str, Any]]: ...
    def request_status(self, code: str) -> dict[str, Any]: ...
    def certificates(self, code: str) -> list[str]: ...
    def withdraw(self, code: str) -> dict[str, Any]: ...
    def mock(self, asset: str) -> np.ndarray[Any, Any]: ...
    def run(
        self, code: str, asset: str, weights: Mapping[str, np.ndarray[Any, Any]] | None, round: int
    ) -> dict[str, Any]: ...


@dataclass
class Network:
    """The datasites that a researcher has accounts at.

    Args:
      datasites: by name.
      missing: those that did not answer at the start, with the reason. They may answer later.
    """

    datasites: dict[str, Connection]
    descriptions: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def dataset(self, name: str, *, datasites: Sequence[str] | None = None) -> Cohort:
        """The dataset `name` at every datasite that publishes it (or at those in `datasites`), as one cohort.

        Raises:
          InvalidRequest: nobody publishes it, or the hospitals' schemas differ; the message says who and where.
        """
        from researcher.cohort import cohort_of

        return cohort_of(self, name, datasites)

    def refresh(self) -> Network:
        """Ask every datasite again what it publishes and what is left of its budgets."""
        self.descriptions, problems = ask_all(self.datasites, lambda _, each: each.describe())
        self.missing = {name: str(error) for name, error in problems.items()}
        return self

    def __repr__(self) -> str:
        lines = [f"Network of {counted(len(self.datasites), 'datasite')}"]
        for name in self.datasites:
            if name in self.missing:
                lines.append(f"  {name}: not reached. {self.missing[name]}")
            else:
                published = [each["name"] for each in self.descriptions.get(name, {}).get("datasets", [])]
                lines.append(f"  {name}: {', '.join(published) or 'publishes nothing yet'}")
        return "\n".join(lines)


def connect(where: str | Path | Sequence[Mapping[str, Any]]) -> Network:
    """Log in to several datasites.

    Args:
      where: a TOML file with one `[[datasites]]` table each (name, url, email, password_file and perhaps ca_file, paths
        relative to the file), or a list of mappings with the same keys, where `password` may stand for `password_file`.

    Returns:
      The network. A datasite that is down is left out with a warning, and named in `missing`.

    Raises:
      InvalidRequest: the file or a table in it is malformed.
      PermissionRefused: a datasite does not accept the password or shows a certificate that is not trusted.
      Unavailable: no datasite answered.
    """
    entries, base = _read(where)
    connections = [_connection(entry, base) for entry in entries]
    by_name = {each.name: each for each in connections}
    if len(by_name) != len(connections):
        raise InvalidRequest("Two datasites have the same name. Give each [[datasites]] table a name of its own.")
    return network_of(by_name)


def network_of(datasites: Mapping[str, Connection]) -> Network:
    """The network of connections that exist already; asks each what it publishes."""
    network = Network(dict(datasites))
    network.descriptions, problems = ask_all(network.datasites, lambda _, each: each.describe())
    for error in problems.values():
        if not isinstance(error, Unavailable):
            raise error
    network.missing = {name: str(error) for name, error in problems.items()}
    if not network.descriptions:
        raise Unavailable("No datasite answered. " + " ".join(network.missing.values()))
    for message in network.missing.values():
        warnings.warn(f"Left out: {message}", stacklevel=3)
    return network


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


def counted(number: int, noun: str) -> str:
    """A number with its noun, as "1 hospital" or "3 hospitals"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _read(where: str | Path | Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], Path]:
    if not isinstance(where, (str, Path)):
        return [dict(each) for each in where], Path.cwd()
    path = Path(where).expanduser()
    try:
        entries = tomllib.loads(path.read_text()).get("datasites")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}. Name the network file of your study.") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"{path} is not TOML: {error}.") from None
    if not isinstance(entries, list) or not entries:
        raise InvalidRequest(f"{path} has no [[datasites]] table. Write one with name, url, email and password_file.")
    return entries, path.parent


def _connection(entry: Mapping[str, Any], base: Path) -> Connection:
    shown = entry.get("name") or entry.get("url") or "a datasite"
    if unknown := set(entry) - FIELDS:
        raise InvalidRequest(f"{shown}: {', '.join(sorted(unknown))} is not known. Use {', '.join(sorted(FIELDS))}.")
    for wanted in ("url", "email"):
        if not isinstance(entry.get(wanted), str):
            raise InvalidRequest(f"{shown}: {wanted} is missing.")
    from researcher.transport import check_url

    try:
        check_url(entry["url"])
    except InvalidRequest as error:
        raise InvalidRequest(f"{shown}: {error}") from None
    password = _password(entry, base, shown)
    from researcher.client import Datasite  # syft takes seconds: only when there is something to connect to

    return Datasite(
        entry["url"],
        entry["email"],
        password,
        name=entry.get("name"),
        ca_file=base / entry["ca_file"] if entry.get("ca_file") else None,
    )


def _password(entry: Mapping[str, Any], base: Path, shown: str) -> str:
    if isinstance(entry.get("password"), str):
        return str(entry["password"])
    if not entry.get("password_file"):
        raise InvalidRequest(
            f"{shown}: password_file is missing. Write the password into a file that only you can read."
        )
    path = base / str(entry["password_file"])
    try:
        return path.read_text().strip("\r\n")
    except OSError as error:
        raise InvalidRequest(f"{shown}: password_file {path} cannot be read: {error.strerror}.") from None
