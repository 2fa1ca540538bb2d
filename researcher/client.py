"""One datasite, asked in PySyft's protocol, without PySyft.

Calls are written by `policies.wire.calls` as PySyft's own client writes them, and signed here. Answers are read by
`researcher.answers`, as plain values, after their signature was checked with the key that this datasite showed the
first time (`researcher.known_datasites`): a hospital that was taken over could name any object in them.

Everything above speaks to `researcher.connections.Connection`, which `Datasite` implements with plain data. Signing in
happens at the first call and again after a failure, so a datasite that is down now may answer later.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import requests
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from requests.exceptions import InvalidSchema, InvalidURL

from policies.errors import DatasiteError, InvalidRequest, PermissionRefused, Unavailable
from policies.release.compression import unpacked, widened
from policies.release.tensors import digest
from policies.secure_sums.messages import read_message
from policies.source.statuses import RunStatus
from policies.wire.calls import Identifier, Server, submission, write_call, write_envelope
from policies.wire.envelopes import read_envelope
from policies.wire.key_words import fingerprint, fingerprint_in, words_of
from researcher import answers
from researcher.answers import Record, Unreadable, read, shaped
from researcher.known_datasites import KnownDatasites
from researcher.sealed_calls import SCHEME, SealedSession, Way
from researcher.traffic import count
from researcher.transport import LARGEST_ANSWER, SMALL_ANSWER, Session, check_url, proxy_of, tls_context

ROUTES = "/api/v2/"
SIGNED_OUT = (
    "{name} has signed you out: your password there was changed, or your account was closed. A round that was under way"
    " is not released. The next call signs in anew with the password that you have given; where that is refused, ask"
    " the hospital."
)
FLOAT32_BYTES = 4
MOCK_BYTES = 256 << 20  # of a dataset's mock rows
_KEY, _ID = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class _Account:
    """A signed-in account: the key that signs its calls, and the server that they are for."""

    signing_key: Ed25519PrivateKey
    server: Server

    def signed(self, message: bytes) -> bytes:
        """The message in an envelope with this account's signature."""
        return write_envelope(self.signing_key.public_key().public_bytes_raw(), message, self.signing_key.sign(message))


class Datasite:
    """A hospital's datasite as one researcher sees it.

    Args:
      url: as "https://hospital.example:9401".
      email: of the researcher's account there.
      password: of that account. It is kept in memory for logging in again and shown nowhere.
      name: what the researcher calls it; where none is given, `url` until `describe` has told.
      ca_file: PEM file of the authority behind the datasite's TLS certificate, where the system does not know it; no
        other authority is then believed.
      known: the keys that datasites showed before; this one is held to its own. None remembers them in this object.
      words: of the datasite's key, as its owner read them out; it is then held to that key from the first time on.
      way: a coordinator that the hospital dials in to, instead of `url`; it needs `words`.

    Making one raises `InvalidRequest` where `url` is plain HTTP to another machine or `ca_file` cannot be used. Every
    method raises `Unavailable` when the datasite cannot be reached, and `PermissionRefused` with the datasite's
    own words when it refuses.
    """

    def __init__(
        self,
        url: str,
        email: str,
        password: str,
        *,
        name: str | None = None,
        ca_file: str | Path | None = None,
        known: KnownDatasites | None = None,
        words: str = "",
        way: Way | None = None,
    ) -> None:
        self._print = fingerprint_in(words) if words or way else b""
        if way is None:
            check_url(url)
            tls = tls_context(Path(ca_file) if ca_file else None)
            self._new_session: Callable[[], Session | SealedSession] = lambda: Session(tls)
        else:
            url, through = f"{SCHEME}{self._print.hex()}", way
            self._new_session = lambda: SealedSession(through, self._print, self.name)
        self.url, self.email, self.name = url.rstrip("/"), email, name or url
        self._password = password
        self._known = known or KnownDatasites(None)
        self._account: _Account | None = None
        self._lock = threading.RLock()
        self._sent: set[tuple[str, int, str]] = set()  # rounds that run there, whose weights it has

    def __repr__(self) -> str:
        return f"<Datasite {self.name} at {self.url} as {self.email}>"

    def describe(self) -> dict[str, Any]:
        """Name, public key, datasets with their schemas, and budgets left: all public.

        To what the datasite says come the keys that it is held to and the account that asks: `verify_key`, `account`.
        Raises `PermissionRefused` where its keys are not those that it showed before.
        """
        with self._calls() as account:
            described = shaped(self._service("describe"), answers.DESCRIPTION, f"{self.name}: description")
            answers.check_description(described, self.name)
            self._known.check(self.url, self.name, "public_key", described["public_key"])
            return {**described, "verify_key": account.server.verify_key.hex(), "account": self.email}

    def quote(self, source: str, dataset: str) -> dict[str, Any]:
        """What the datasite's inspection finds in `source` and what it would cost; nothing is asked or charged."""
        quote = shaped(self._service("quote", source=source, dataset=dataset), answers.QUOTE, f"{self.name}: quote")
        return dict(quote)

    def submit(self, source: str, asset: str, purpose: str = "", project: str = "") -> str:
        """Ask for `source` on the dataset version `asset` with an ordinary code request; its identifier.

        Args:
          project: of the hospital's, to file the request under.
        """
        with self._calls() as account:
            code = submission(account.server, source, _identifier(asset))
            filed: dict[str, Any] = {"project": project} if project else {}
            request = self._call("code.request_code_execution", code=code, reason=purpose, **filed)
            with self._read_by_us():
                return _identifier(request["changes"][0]["linked_user_code"]["object_uid"])

    def requests(self) -> list[dict[str, Any]]:
        """The researcher's own code requests there."""
        return list(shaped(self._service("requests"), answers.REQUESTS, f"{self.name}: list of requests"))

    def request_status(self, code: str) -> dict[str, Any]:
        """Status, the owner's comment and the rounds of a request."""
        return dict(shaped(self._service("request_status", code=code), answers.STATUS, f"{self.name}: status"))

    def certificates(self, code: str) -> list[str]:
        """The signed certificates of a request's releases, as JSON texts."""
        listed = self._service("certificates", code=code)
        return list(shaped(listed, answers.CERTIFICATES, f"{self.name}: list of certificates"))

    def withdraw(self, code: str) -> dict[str, Any]:
        """Close a request; what no run has touched goes back to the budget."""
        return dict(shaped(self._service("withdraw", code=code), answers.STATUS, f"{self.name}: status"))

    def keep_weights(self, code: str, begin: int, size: int, content: bytes) -> dict[str, Any]:
        """Give the next bytes of the public weights that a request names: `{"kept", "have"}`; b"" only asks."""
        told = self._service("keep_weights", code=code, begin=begin, size=size, content=content)
        return dict(shaped(told, answers.KEPT_WEIGHTS, f"{self.name}: answer to public weights"))

    def comment(self, code: str, text: str) -> list[dict[str, str]]:
        """Write on a request; everything that is written on it: `{"at", "from", "text"}`."""
        return self._comments(self._service("comment", code=code, text=text))

    def comments(self, code: str) -> list[dict[str, str]]:
        """What is written on a request, oldest first."""
        return self._comments(self._service("comments", code=code))

    def _comments(self, comments: Any) -> list[dict[str, str]]:
        return list(shaped(comments, answers.COMMENTS, f"{self.name}: list of comments"))

    def secure_sum(self, code: str, round: int, step: str, message: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer to one step of a secure sum (`policies.secure_sums`), in plain data that was not looked at yet."""
        told = self._service("secure_sum", code=code, round=round, step=step, message=json.dumps(message))
        with self._read_by_us():
            try:
                return read_message(told)
            except InvalidRequest:
                raise Unreadable("A step of a secure sum is answered by a JSON object.") from None

    def mock(self, asset: str) -> np.ndarray[Any, Any]:
        """The public stand-in of a dataset version, float64 [rows, 2 + columns]."""
        with self._calls():
            rows = self._data(self._call("action.get_mock", uid=self._uid(asset), largest=MOCK_BYTES), MOCK_BYTES)
        if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype != np.float64:
            raise PermissionRefused(f"{self.name}: the mock is no table of numbers. Tell its owner.")
        return rows

    def run(
        self, code: str, asset: str, weights: Mapping[str, np.ndarray[Any, Any]] | None, round: int
    ) -> dict[str, Any]:
        """Call an approved request once: `{"status", "round", "release", "certificate", "shows_in"}`, at once.

        While it runs, `shows_in` is the seconds until it may be released, or None where that is not known yet. Calling
        again with the same weights costs nothing and answers with the stored release when there is one. float16 weights
        are widened there, by a datasite that has approved a compressed training.
        """
        size = sum(value.size * FLOAT32_BYTES for value in weights.values()) if weights is not None else 0
        largest = LARGEST_ANSWER + 2 * size  # a release is as large as the weights, or small
        asked = (code, round, digest(widened(weights or {})))
        with self._calls():
            if asked not in self._sent:
                given = self._run(code, asset, round, largest, **_carried(weights))
            else:
                try:
                    given = self._run(code, asset, round, largest, weights_digest=asked[2])
                except _Refused:  # by a datasite that looks by weights alone, or that does not have them any more
                    given = self._run(code, asset, round, largest, **_carried(weights))
            answer = dict(shaped(given, answers.ANSWER, f"{self.name}: answer to a call"))
            (self._sent.add if answer["status"] == RunStatus.RUNNING else self._sent.discard)(asked)
        for name, value in (answer["release"] or {}).items():
            if not isinstance(name, str) or not isinstance(value, np.ndarray):
                raise PermissionRefused(f"{self.name}: the release is not arrays by name. Tell its owner.")
        if answer["release"] and weights:
            answer["release"] = unpacked(answer["release"], {name: value.shape for name, value in weights.items()})
        return answer

    def _run(self, code: str, asset: str, round: int, largest: int, **more: Any) -> Any:
        """One call of approved code. `plain`: PySyft there keeps nothing of the answer, which comes by itself."""
        arguments = {"records": self._uid(asset), "round": round, "plain": True, **more}
        given = self._call("code.call", uid=self._uid(code), largest=largest, **arguments)
        return self._data(given, largest) if isinstance(given, Record) else given  # an object by datasites of 0.1

    def _data(self, stored: Any, largest: int) -> Any:
        """What an object at the datasite holds: in itself, or in a blob that is fetched."""
        with self._read_by_us():
            if not isinstance(stored, Record):
                raise Unreadable("An object was asked for.")
            blob = stored.fields.get("syft_blob_storage_entry_id")
            if blob is None:
                return stored["syft_action_data_cache"]
            content = self._call("blob_storage.read", uid=self._uid(blob), largest=largest)["syft_object"]
            return read(content if isinstance(content, bytes) else b"", largest=largest)

    def _uid(self, identifier: str) -> Identifier:
        return Identifier(_identifier(identifier))

    def _service(self, method: str, **arguments: Any) -> Any:
        return self._call(f"datasite.{method}", **arguments)

    def _call(self, path: str, *, largest: int = LARGEST_ANSWER, **arguments: Any) -> Any:
        """The value that a call is answered with. Raises `_Refused` with the datasite's words where it refuses."""
        with self._calls() as account, self._read_by_us():
            body = account.signed(write_call(account.server, path, arguments))
            answer = self._session.request("POST", self._route("api_call"), data=body, largest=largest)
            count(sent=len(body), received=len(answer.content))
            if answer.status_code != 200:  # sign in again next time
                self._account = None
                if answer.status_code == 401:
                    raise Unavailable(SIGNED_OUT.format(name=self.name))
                raise Unavailable(f"{self.name} answered a call with status {answer.status_code}. Try again.")
            reply = read(_opened(answer.content, account.server.verify_key, self.name), largest=largest)
            return self._value(reply["data"] if isinstance(reply, Record) else reply)

    def _value(self, reply: Any) -> Any:
        if isinstance(reply, Record) and reply.name == "SyftError":
            raise _Refused(f"{self.name}: {_indented(reply['message'])}")
        if not isinstance(reply, Record) or reply.name != "SyftSuccess":
            raise Unreadable("This is no answer to a call.")
        return reply["value"]

    def _route(self, name: str) -> str:
        return f"{self.url}{ROUTES}{name}"

    @contextlib.contextmanager
    def _read_by_us(self) -> Iterator[None]:
        try:
            yield
        except (Unreadable, LookupError, TypeError) as error:
            why = f" {error}" if isinstance(error, Unreadable) else ""
            raise PermissionRefused(
                f"{self.name} at {self.url} sent what no datasite sends; nothing of it was used.{why} Tell its owner."
            ) from None

    @contextlib.contextmanager
    def _calls(self) -> Iterator[_Account]:
        """A signed-in account, one call at a time, with the network's errors turned into ours."""
        with self._lock, self._translated():
            if self._account is None:
                self._account = self._login()
            yield self._account

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DatasiteError:
            raise
        except requests.exceptions.SSLError as error:
            self._account = None
            reason, advice = _tls_reason(error)
            if proxy := proxy_of(self.url):
                advice += f" It was reached through {proxy}, which may show a certificate of its own."
            raise PermissionRefused(
                f"{self.name}: the TLS certificate of {self.url} was not accepted ({reason}). {advice}"
            ) from None
        except (requests.exceptions.ProxyError, InvalidURL, InvalidSchema) as error:
            self._account = None
            raise Unavailable(
                f"{self.name} at {self.url} is not reached through the environment's {proxy_of(self.url) or 'proxy'} "
                f"({_reason(error)}). Mend that, or name the hospital in NO_PROXY where it is reached without."
            ) from None
        except requests.exceptions.ConnectionError as error:
            self._account = None
            raise Unavailable(
                f"{self.name} at {self.url} does not answer ({_reason(error)}). Is it running? Is the address right?"
            ) from None
        except requests.exceptions.Timeout:
            raise Unavailable(f"{self.name} at {self.url} did not answer in time. Try again.") from None
        except requests.exceptions.RequestException as error:
            raise Unavailable(f"{self.name} at {self.url}: {type(error).__name__}. Try again.") from None

    def _login(self) -> _Account:
        self._session = self._new_session()
        answer = self._session.request("GET", self._route("metadata"), largest=SMALL_ANSWER)
        if answer.status_code != 200:
            raise Unavailable(
                f"{self.name} at {self.url} answered with status {answer.status_code}: this is not a datasite."
            )
        about = _metadata(answer.content)
        if about is None:
            raise Unavailable(f"{self.name} at {self.url} answered with no description: this is not a datasite.")
        self._check_words(bytes.fromhex(about["verify_key"]))
        self._known.check(self.url, self.name, "verify_key", about["verify_key"])  # before the password is sent
        with self._read_by_us():
            account = {"email": self.email, "password": self._password}
            answer = self._session.request("POST", self._route("login"), json=account, largest=SMALL_ANSWER)
            if answer.status_code != 200:
                raise Unavailable(f"{self.name} answered a sign-in with status {answer.status_code}. Try again.")
            reply = read(answer.content, largest=0)
            if isinstance(reply, Record) and reply.name == "SyftSuccess":
                reply = reply["value"]
            if not isinstance(reply, Record) or reply.name != "UserPrivateKey":
                message = _indented(reply["message"]) if isinstance(reply, Record) and reply.name == "SyftError" else ""
                raise PermissionRefused(
                    f"{self.name} at {self.url} does not accept {self.email} with this password. "
                    f"Check the password file named in network.toml, or ask the hospital for a new password. {message}"
                )
            key = reply["signing_key"]["signing_key"]
            if type(key) is not bytes or len(key) != 32:
                raise Unreadable("It gave no key to sign with.")
            server = Server(about["id"], about["name"], bytes.fromhex(about["verify_key"]))
            return _Account(Ed25519PrivateKey.from_private_bytes(key), server)

    def _check_words(self, key: bytes) -> None:
        """Hold the datasite to the words that its owner read out, where there are any."""
        if self._print and fingerprint(key) != self._print:
            raise PermissionRefused(
                f"{self.name} at {self.url} shows a key with the words {words_of(fingerprint(key))!r}, and you have"
                f" {words_of(self._print)!r}. Nothing was sent. Ask the owner, by telephone or in person, for the words"
                " that `datasite status` shows there; where they are the first, write those."
            )


class _Refused(PermissionRefused):
    """A refusal in the datasite's own words."""


def _metadata(content: bytes) -> dict[str, str] | None:
    """Identifier, name and key that a datasite shows to everybody, or None where it shows no such thing."""
    try:
        metadata = json.loads(content)
        about = {name: metadata[name] for name in ("id", "name", "verify_key")}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(type(value) is str for value in about.values()) or not _KEY.fullmatch(about["verify_key"]):
        return None
    if not _ID.fullmatch(about["id"]) or not 0 < len(about["name"]) <= answers.LONGEST_NAME:
        return None
    return about


def _opened(content: bytes, known: bytes, name: str) -> bytes:
    """The message in a signed answer. Raises `PermissionRefused` unless the key that is known signed it."""
    try:
        envelope = read_envelope(content)
        if envelope.key != known:
            raise InvalidSignature
        Ed25519PublicKey.from_public_bytes(known).verify(envelope.signature, envelope.message)
    except InvalidSignature:
        raise PermissionRefused(
            f"{name} sent an answer that its key {known.hex()[:16]}… did not sign; it was not read. Tell its owner."
        ) from None
    except Exception:  # whatever a reader of broken bytes raises
        raise Unreadable("It is no signed answer.") from None
    return envelope.message


def _carried(weights: Mapping[str, np.ndarray[Any, Any]] | None) -> dict[str, Any]:
    """Weights as they travel in a call; nothing for a request that takes none."""
    if weights is None:
        return {}
    return {"weights": dict(weights)}


def _identifier(value: Any) -> str:
    """PySyft's identifier in hex. Raises `Unreadable` where it is none."""
    if not isinstance(value, str) or not _ID.fullmatch(value.replace("-", "")):
        raise Unreadable("An identifier is none.")
    return value


def _indented(message: Any) -> str:
    """A datasite's words: in one line, or with the further lines set in, so that none looks like ours."""
    return str(message).replace("\n", "\n    ")


def _tls_reason(error: BaseException) -> tuple[str, str]:
    """Why a certificate was not accepted, and what to do about it."""
    text, clock = str(error), f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC on this machine's clock"
    if "not yet valid" in text:
        return f"it is not valid yet, at {clock}", "Set the clock if it is wrong, or tell the hospital."
    if "expired" in text:
        return f"it has expired, at {clock}", "Set the clock if it is wrong, or ask the hospital for a new certificate."
    if "doesn't match" in text or "not valid for" in text:
        return "it is for another host name", "Is the url in network.toml the one that the hospital gave you?"
    if "WRONG_VERSION" in text:
        return "TLS was not answered", "Is the port in network.toml the one that the hospital gave you?"
    known = "self-signed" in text or "unable to get" in text or "signature" in text
    reason = "its authority is not known" if known else type(error).__name__
    return reason, "Name the hospital's authority as ca_file in network.toml."


def _reason(error: BaseException) -> str:
    """A network error in a few words, without the address and the object dump that requests puts in."""
    text = str(error)
    known: dict[str, Callable[[str], bool]] = {
        "it asks for an account": lambda text: "Tunnel connection failed: 407" in text,
        "it refuses the way there": lambda text: "Tunnel connection failed" in text,
        "connection refused": lambda text: "refused" in text,
        "no such host": lambda text: "resolve" in text or "Name or service" in text,
        "timed out": lambda text: "timed out" in text.lower(),
        "no way there": lambda text: "No route" in text or "unreachable" in text,
        "it hung up, as a datasite does while it starts": lambda text: "reset" in text or "RemoteDisconnected" in text,
        "TLS was not answered": lambda text: "WRONG_VERSION" in text,
        "this is not the address of a proxy": lambda text: isinstance(error, (InvalidURL, InvalidSchema)),
    }
    return next((words for words, matches in known.items() if matches(text)), type(error).__name__)
