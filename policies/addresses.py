"""Addresses: which only this machine reaches, where alone passwords and records go in plain HTTP, and whose one is."""

from __future__ import annotations

import ipaddress

from policies.errors import InvalidRequest


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine: localhost, 127.0.0.0/8 or ::1."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def owner_of(host: str) -> str:
    """Whose an address is: itself, or for IPv6 its network of 64 bits, which one customer has."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 6:
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return host


def check_host_and_port(address: str, what: str) -> None:
    """Pass an address as host:port. Raises `InvalidRequest`, calling it `what`."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port[:9]) < 65_536 or "/" in host:
        raise InvalidRequest(f"{what}={address[:200]!r} is no host and port. Write coordinator.example:9443.")
