"""Several datasites together: reading `network.toml`, logging in, and finding a dataset in all of them.

What is asked of one datasite stands in `researcher.connections`; `researcher.client.Datasite` does it.
"""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from policies.errors import InvalidRequest, Unavailable
from policies.numbers import counted
from policies.text import password_in, visible
from researcher.cohort import Cohort, cohort_of
from researcher.connections import Connection, ask_all
from researcher.known_datasites import KnownDatasites

if TYPE_CHECKING:
    from researcher.sealed_calls import Way

LONGEST_NAME = 180  # of a datasite as the researcher calls it, as a file's name
FIELDS = {"name", "url", "email", "password", "password_file", "ca_file", "via", "words"}
VIA = "coordinator"


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
        return cohort_of(self, name, datasites)

    def refresh(self) -> Network:
        """Ask every datasite again what it publishes and what is left of its budgets."""
        self.descriptions, problems = ask_all(self.datasites, lambda _, datasite: datasite.describe())
        self.missing = {name: str(error) for name, error in problems.items()}
        return self

    def __repr__(self) -> str:
        lines = [f"Network of {counted(len(self.datasites), 'datasite')}"]
        for name in self.datasites:
            if name in self.missing:
                lines.append(f"  {name}: not reached. {self.missing[name]}")
            else:
                published = [dataset["name"] for dataset in self.descriptions.get(name, {}).get("datasets", [])]
                lines.append(f"  {name}: {', '.join(published) or 'publishes nothing yet'}")
        return "\n".join(map(visible, lines))


def connect(
    where: str | Path | Sequence[Mapping[str, Any]], *, coordinator: Mapping[str, str] | None = None
) -> Network:
    """Log in to several datasites.

    Args:
      where: a TOML file with one `[[datasites]]` table each (name, url, email, password_file and perhaps ca_file, paths
        relative to the file), or a list of mappings with the same keys, where `password` may stand for `password_file`.
        A hospital that opens no port has `via = "coordinator"` and `words`, those of its key, instead of a url.
      coordinator: where those hospitals dial in; the file's `[coordinator]` table by default. Either listen,
        certificate and key, for this process to listen; or address, token_file and perhaps ca_file.

    Returns:
      The network. A datasite that is down is left out with a warning, and named in `missing`.

    Raises:
      InvalidRequest: the file or a table in it is malformed.
      PermissionRefused: a datasite does not accept the password, shows a certificate that is not trusted, or another
        key than the first time (kept in `known_datasites.json` beside the file).
      Unavailable: no datasite answered.
    """
    entries, base, table = _read(where)
    known = KnownDatasites.beside(Path(where).expanduser()) if isinstance(where, (str, Path)) else KnownDatasites(None)
    for entry in entries:
        _check_entry(entry)
    way = _way(entries, base, table if coordinator is None else coordinator)
    connections = [_connection(entry, base, known, way) for entry in entries]
    by_name = {connection.name: connection for connection in connections}
    for name in by_name:
        if not name or len(quote(name, safe="")) > LONGEST_NAME or visible(name) != name:
            raise InvalidRequest(
                f"name={name[:LONGEST_NAME]!r} is empty, too long or not plain text. Files are called by a datasite's "
                "name: write a short one."
            )
    if len(by_name) != len(connections):
        raise InvalidRequest("Two datasites have the same name. Give each [[datasites]] table a name of its own.")
    return network_of(by_name)


def network_of(datasites: Mapping[str, Connection]) -> Network:
    """The network of connections that exist already; asks each what it publishes."""
    network = Network(dict(datasites))
    network.descriptions, problems = ask_all(network.datasites, lambda _, datasite: datasite.describe())
    for error in problems.values():
        if not isinstance(error, Unavailable):
            raise error
    network.missing = {name: str(error) for name, error in problems.items()}
    if not network.descriptions:
        raise Unavailable("No datasite answered. " + " ".join(network.missing.values()))
    for message in network.missing.values():
        warnings.warn(f"Left out: {message}", stacklevel=3)
    return network


def words_in(network: str | Path) -> frozenset[bytes]:
    """Fingerprints of the datasites that a network file reaches through a coordinator."""
    entries, _, _ = _read(network)
    for entry in entries:
        _check_entry(entry)
    return _fingerprints(entries)


def _read(where: str | Path | Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], Path, Any]:
    """The tables of datasites, where their paths begin, and the coordinator's table."""
    if not isinstance(where, (str, Path)):
        return _tables(where, "What connect() was given"), Path.cwd(), None
    path = Path(where).expanduser()
    text = _text(path, f"The network file {path}")
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path} is not TOML: {error}. Mend that line.") from None
    return _tables(tables.get("datasites"), str(path)), path.parent, tables.get(VIA)


def _way(entries: Sequence[Mapping[str, Any]], base: Path, table: Any) -> Way | None:
    """The coordinator that some of the datasites are reached through; None where none is."""
    if not any(entry.get("via") for entry in entries):
        return None
    from researcher.coordinator_table import way_of

    return way_of(table, base, _fingerprints(entries))


def _fingerprints(entries: Sequence[Mapping[str, Any]]) -> frozenset[bytes]:
    from policies.wire.key_words import fingerprint_in

    return frozenset(fingerprint_in(entry["words"]) for entry in entries if entry.get("via"))


def _tables(entries: object, what: str) -> list[dict[str, Any]]:
    if (
        not isinstance(entries, Sequence)
        or not entries
        or not all(isinstance(entry, Mapping) and all(isinstance(key, str) for key in entry) for entry in entries)
    ):
        raise InvalidRequest(
            f"{what} has no [[datasites]] table, or is no list of such. Write one with name, url, email and"
            " password_file."
        )
    return [dict(entry) for entry in entries]


def _shown(entry: Mapping[str, Any]) -> Any:
    return entry.get("name") or entry.get("url") or "a datasite"


def _check_entry(entry: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest` where a table of a datasite is none."""
    shown = _shown(entry)
    if unknown := set(entry) - FIELDS:
        raise InvalidRequest(f"{shown}: {', '.join(sorted(unknown))} is not known. Use {', '.join(sorted(FIELDS))}.")
    if not isinstance(entry.get("name", ""), str):
        raise InvalidRequest(f"name={entry['name']!r} is not a text. Write it in quotation marks.")
    for optional in ("password_file", "ca_file", "via", "words"):
        if not isinstance(entry.get(optional, ""), (str, Path)):
            raise InvalidRequest(f"{shown}: {optional}={entry[optional]!r} is not a text. Write it in quotation marks.")
    if "via" in entry:
        _check_via(entry, shown)
    for wanted in ("email",) if "via" in entry else ("url", "email"):
        if not isinstance(entry.get(wanted), str):
            raise InvalidRequest(f"{shown}: {wanted} is missing.")


def _check_via(entry: Mapping[str, Any], shown: str) -> None:
    if entry["via"] != VIA:
        raise InvalidRequest(f'{shown}: via={entry["via"]!r} is not known. Write via = "{VIA}", or a url.')
    if "url" in entry or "ca_file" in entry:
        raise InvalidRequest(f"{shown}: a datasite has via, or url and perhaps ca_file. Take one of them out.")
    if not entry.get("name"):
        raise InvalidRequest("A datasite that is reached via the coordinator has no name. Write one into its table.")
    if not entry.get("words"):
        raise InvalidRequest(
            f"{shown}: words is missing. Ask its owner, by telephone or in person, for the twelve words that `datasite"
            " status` shows there, and write them: whoever is between could else take the hospital's place."
        )


def _connection(entry: Mapping[str, Any], base: Path, known: KnownDatasites, way: Way | None) -> Connection:
    shown = _shown(entry)
    if "via" not in entry:
        _check_url(entry["url"], shown)
    password = _password(entry, base, shown)
    from researcher.client import Datasite

    if "via" in entry:
        return Datasite("", entry["email"], password, name=entry["name"], known=known, words=entry["words"], way=way)
    return Datasite(
        entry["url"],
        entry["email"],
        password,
        name=entry.get("name"),
        ca_file=base / entry["ca_file"] if entry.get("ca_file") else None,
        known=known,
        words=entry.get("words", ""),
    )


def _check_url(url: str, shown: str) -> None:
    from researcher.transport import check_url

    try:
        check_url(url)
    except InvalidRequest as error:
        raise InvalidRequest(f"{shown}: {error}") from None


def _password(entry: Mapping[str, Any], base: Path, shown: str) -> str:
    if isinstance(entry.get("password"), str):
        return str(entry["password"])
    if not entry.get("password_file"):
        raise InvalidRequest(
            f"{shown}: password_file is missing. Write the password into a file that only you can read."
        )
    path = base / str(entry["password_file"])
    return password_in(_text(path, f"{shown}: password_file {path}"), f"{shown}: password_file {path}")


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{what} is not text in UTF-8. Save it as that.") from None
    except (OSError, ValueError) as error:  # of a path with a null character
        raise InvalidRequest(f"{what} cannot be read: {getattr(error, 'strerror', error)}.") from None
