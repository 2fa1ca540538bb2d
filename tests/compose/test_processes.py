"""Health is asked of this machine itself, whatever proxy the environment names."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from compose.processes import Datasite
from tests.factories import free_port

HEALTHY = Path(__file__).parents[2] / "compose" / "containers" / "healthy.py"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where something answers with 200, and nothing that the environment's proxy leads to."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    server = HTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_the_demonstration_finds_its_datasites(port: int, tmp_path: Path) -> None:
    assert Datasite("a", "A", tmp_path, port)._healthy()


@pytest.mark.process
def test_a_containers_health_check_finds_its_service(port: int) -> None:
    done = subprocess.run([sys.executable, str(HEALTHY), f"http://127.0.0.1:{port}/"], timeout=60, check=False)
    assert done.returncode == 0
