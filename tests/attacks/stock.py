"""A stock PySyft server of our own under attack, where an owner approves every request as a stock owner would.

It runs in a process of its own, in a temporary directory, under limits, with the same canaries and witnesses.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import requests
import torch
from syft.serde.deserialize import _deserialize
from syft.service.action.action_object import ActionObject
from syft.service.code.user_code import SubmitUserCode
from syft.types.uid import UID

from tests.attacks.guard.attacker import OWNER, RESEARCHER, Refusal, Site
from tests.attacks.payloads import Payload
from tests.attacks.witnesses import Witnesses
from tests.factories import free_port

HEADER = "def any_name(records):\n    return 1\n"
LONGEST_LOG = 30 << 20


def _limits() -> None:
    """Bounds on what a bomb can do to this machine; the bombs themselves stop far below."""
    resource.setrlimit(resource.RLIMIT_AS, (24 << 30, 24 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (1800, 1800))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 30, 2 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))


class StockServer:
    """Started again where an attack ended it."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or Path(tempfile.mkdtemp(prefix="stock-"))
        self.tokens: dict[str, str] = {}
        self.starts = 0
        self._form: tuple[UID, dict[str, Any]] | None = None

    def start(self, tokens: dict[str, str] | None = None) -> Site:
        """A running server with one table and two researchers, and these tokens as its canaries."""
        self.tokens = tokens or self.tokens
        self.starts += 1
        self._form = None
        folder = self.directory / str(self.starts)
        folder.mkdir()
        port, self.log = free_port(), folder / "out.log"
        environment = {**os.environ, "CANARIES": json.dumps(self.tokens)}
        program = Path(__file__).with_name("stock_server.py")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(program), str(folder), str(port)],
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
                preexec_fn=_limits,
                umask=0o022,  # as a shell has it
            )
        self.site = Site("stock", f"http://127.0.0.1:{port}", folder)
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"{self.site.url}/healthz", timeout=1):
                    return self.site
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(self.log.read_text()) from None
                time.sleep(0.1)

    def aims(self) -> dict[str, object]:
        """Where the server's canaries lie."""
        return dict(json.loads((self.site.directory / "canaries.json").read_text()))

    def asset_and_form(self) -> tuple[UID, dict[str, Any]]:
        """The table's identifier and the fields of a code request on it; asked for once, since asking is slow."""
        if self._form is None:
            plain = self.site.submission(HEADER)
            names = ("signature", "input_policy_type", "input_policy_init_kwargs", "input_kwargs")
            fields = {
                each: getattr(plain, each) for each in (*names, "output_policy_type", "output_policy_init_kwargs")
            }
            self._form = self.site.asset().action_id, fields
        return self._form

    def ended(self) -> bool:
        """Whether the server's process is gone, or does not answer any more."""
        if self.process.poll() is not None:
            return True
        try:
            return not self.site.http("GET", "/metadata").ok
        except requests.RequestException:
            return True

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def attempt(server: StockServer, payload: Payload, witnesses: Witnesses) -> list[str]:
    """What a text reached on a stock server whose owner approved it; `ended` where the server did not survive it."""
    aims = {**witnesses.aims(), **server.aims()}
    text = payload.stock(aims) if payload.is_text else payload.stock_text(aims)
    assert text is not None
    witnesses.seen("")
    at, begin, said = server.log.stat().st_size, time.monotonic(), ""
    try:
        said = _ask(server, payload.name, text)
    except Refusal as refusal:
        said = refusal.text + refusal.trace
    except (requests.RequestException, ValueError, TypeError, AttributeError, KeyError) as error:
        said = repr(error)
    if payload.header.get("sign", "-") in said:
        witnesses.made.touch()  # the answer alone tells what was asked
    took = time.monotonic() - begin
    with server.log.open("rb") as log:
        log.seek(at)
        said += log.read(LONGEST_LOG).decode("utf-8", "replace")
    time.sleep(0.1)  # for what was sent to arrive
    reached = witnesses.seen(said)
    if took > float(payload.header.get("seconds", "inf")):
        reached.append("time")
    if server.ended():
        reached.append("ended")
        server.stop()
        server.start()
    return sorted(set(reached))


def _ask(server: StockServer, name: str, text: str) -> str:
    site = server.site
    asset, plain = server.asset_and_form()
    plain = SubmitUserCode(**{**plain, "code": text.strip("\n") + "\n", "func_name": name})
    request = site.call(RESEARCHER, "code.request_code_execution", code=plain)
    site.call(OWNER, "request.apply", uid=request.id)
    value = site.call(RESEARCHER, "code.call", uid=request.code_id, records=asset)
    return _shown(site, value)


def _shown(site: Site, value: Any) -> str:
    """All that a researcher can read of an answer."""
    if isinstance(value, ActionObject):
        if value.syft_blob_storage_entry_id is not None:
            stored = site.call(RESEARCHER, "blob_storage.read", uid=value.syft_blob_storage_entry_id).syft_object
            return _shown(site, _deserialize(stored, from_bytes=True) if isinstance(stored, bytes) else stored)
        return _shown(site, value.syft_action_data_cache)
    if isinstance(value, torch.Tensor):
        return repr(value.tolist())
    if isinstance(value, dict):
        return "".join(f"{key}: {_shown(site, each)}\n" for key, each in value.items())
    if isinstance(value, list | tuple):
        return "".join(_shown(site, each) for each in value)
    return str(value)
