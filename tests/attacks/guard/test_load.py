"""Everything at once against one datasite: it stays small, and who asks honestly is answered meanwhile."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import psutil
import pytest
import requests
import torch
from syft.types.uid import UID

from policies.graph.graphs import MAX_PARAMETERS
from tests.attacks.guard.attacker import OTHER, RESEARCHER, Refusal, Site
from tests.factories import DatasiteProcess

MOST_MORE = 1_300 << 20  # bytes: half of memory_mib for one account's calls, and what is not counted
SLOWEST = 20.0  # seconds for an honest question, on a loaded machine


class Watched:
    """How much memory a process takes at most while something is done."""

    def __init__(self, pid: int) -> None:
        self.process, self._done = psutil.Process(pid), threading.Event()
        self.before = self.most = self.process.memory_info().rss
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.02):
            self.most = max(self.most, self.process.memory_info().rss)

    @property
    def more(self) -> int:
        return self.most - self.before


@contextlib.contextmanager
def meanwhile(*attacks: Callable[[], None]) -> Iterator[None]:
    """Attacks that go on, each in a thread of its own and again and again, until the inside is done."""
    done = threading.Event()

    def again(attack: Callable[[], None]) -> None:
        while not done.is_set():
            with contextlib.suppress(Refusal, OSError, requests.RequestException):
                attack()

    threads = [threading.Thread(target=again, args=(attack,)) for attack in attacks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def open_connections(site: Site, number: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """So many connections that have sent something and stay open."""
    place = urlsplit(site.url)
    opened: list[socket.socket] = []
    try:
        for _ in range(number):
            connection = socket.create_connection((place.hostname, place.port), timeout=SLOWEST)
            opened.append(connection)
            with contextlib.suppress(OSError):
                connection.sendall(sent)
        yield opened
    finally:
        for connection in opened:
            connection.close()


def assert_well(site: Site) -> None:
    """The page of its health, a sign-in and a call are answered in time."""
    for ask in (
        lambda: requests.get(f"{site.url}/healthz", timeout=SLOWEST).raise_for_status(),
        lambda: site.login(OTHER),
        lambda: site.call(OTHER, "datasite.requests"),
    ):
        began = time.monotonic()
        ask()
        assert time.monotonic() - began < SLOWEST


def pid_of(process: DatasiteProcess) -> int:
    assert process.process is not None
    return process.process.pid


@pytest.mark.parametrize("times", [1, 4], ids=["as_large_as_any_plan", "larger"])
def test_small_messages_that_unpack_to_much_take_bounded_memory(
    ours: Site, datasite_process: DatasiteProcess, times: int
) -> None:
    """Eight of 19 kB at once took 8 GB."""
    ours.key(OTHER)
    zeros = {"all": torch.zeros(times * MAX_PARAMETERS, dtype=torch.float64)}
    bombs = [ours.signed(RESEARCHER, "code.call", uid=UID(), weights=zeros) for _ in range(8)]
    assert len(bombs[0]) < 1 << 20
    sending = meanwhile(*(lambda bomb=bomb: ours.send(bomb) for bomb in bombs))  # type: ignore[misc]
    with Watched(pid_of(datasite_process)) as watched, sending:
        assert_well(ours)
        time.sleep(2)
    assert watched.more < MOST_MORE


@pytest.mark.parametrize(
    ("number", "sent"),
    [
        (700, b""),
        (700, b"GET /healthz HTTP/1.1\r\nHost: a\r\n"),
        (100, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 170_000),
        (20, b"POST /api/v2/api_call HTTP/1.1\r\nHost: a\r\nContent-Length: 67108864\r\n\r\n" + b"x" * (4 << 20)),
    ],
    ids=["silent", "half", "heads", "bodies"],
)
def test_connections_that_never_ask_keep_nobody_out(
    ours: Site, datasite_process: DatasiteProcess, number: int, sent: bytes
) -> None:
    """980 half-open ones stopped even `/healthz`; 100 MB of heads took 1.4 GB; five slow bodies refused sign-ins."""
    ours.key(OTHER)
    with Watched(pid_of(datasite_process)) as watched, open_connections(ours, number, sent):
        assert_well(ours)
    assert watched.more < 400 << 20
