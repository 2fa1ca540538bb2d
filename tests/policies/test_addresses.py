"""Plain HTTP goes to this machine alone: what counts as it, and what does not."""

from __future__ import annotations

import pytest

from policies.addresses import is_loopback


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "::1"])
def test_this_machine_is_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "localhost.example", "127.evil.example", "10.0.0.1", "::", "127.1", "::ffff:10.0.0.1"]
)
def test_no_other_host_is_loopback(host: str) -> None:
    assert not is_loopback(host)
