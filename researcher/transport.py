"""How a datasite is reached: TLS that is always checked, deadlines, and nowhere but where the researcher said.

Nothing in the environment weakens it. PySyft's `IGNORE_TLS_ERRORS` would turn the check off and `REQUESTS_CA_BUNDLE`
would change whom it trusts: here the authorities are the system's, or `ca_file` alone where one is named.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from policies.addresses import is_loopback
from policies.errors import InvalidRequest, PermissionRefused, Unavailable

CONNECT_SECONDS, READ_SECONDS = 5.0, 120.0


def check_url(url: str) -> None:
    """Pass where `url` is https, or plain http on this machine alone.

    Raises:
      InvalidRequest: it is neither, or holds more than scheme, host and port.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidRequest(f"url={url!r}: {error}. Write https://host:port.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidRequest(f"url={url!r} does not begin with https:// (or http:// on loopback) and a host.")
    if "@" in parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise InvalidRequest("A datasite's url is https://host:port and nothing more: no account, no path.")
    if parts.scheme == "http" and not is_loopback(host):
        raise InvalidRequest(
            f"url={url!r} is plain HTTP to another machine: whoever is between could read and change what is sent. "
            f"Write https://{parts.netloc}, and the hospital's authority as ca_file where the system does not know it."
        )


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """A context that checks certificate and host name. Raises `InvalidRequest` where `ca_file` cannot be used."""
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except ssl.SSLError:
        raise InvalidRequest(f"ca_file {ca_file} holds no certificate in PEM form. Ask the hospital for one.") from None
    except OSError as error:
        raise InvalidRequest(f"ca_file {ca_file} cannot be read: {error.strerror}.") from None


class Session(requests.Session):
    """A session of one datasite. Certificates are checked whatever a caller asks, and redirects are not followed.

    Args:
      context: as `tls_context` makes it.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self.mount("https://", _CheckedAdapter(context))
        # A datasite may start again between two calls, and a call that changes something is never sent twice.
        self.headers["Connection"] = "close"

    def request(self, *arguments: Any, **options: Any) -> requests.Response:
        """One request. Raises `Unavailable` at a fault of the datasite, `PermissionRefused` at a redirect."""
        options |= {"verify": True, "allow_redirects": False}
        if options.get("timeout") is None:
            options["timeout"] = (CONNECT_SECONDS, READ_SECONDS)
        answer = super().request(*arguments, **options)
        if answer.is_redirect:
            raise PermissionRefused(
                f"{answer.url} points to {answer.headers['location'][:200]!r}, which is not followed. If the hospital "
                "has moved there, write that address into network.toml."
            )
        if answer.status_code >= 500:  # syft would call it a failed connection
            raise Unavailable(
                f"{answer.url} answered with status {answer.status_code}: something failed there that only its "
                "owner can see. Try again, or tell the owner when it happened."
            )
        return answer

    def get_adapter(self, url: str) -> Any:
        """The way to `url`; none for plain HTTP to another machine."""
        check_url("{0.scheme}://{0.netloc}".format(urlsplit(url)))
        return super().get_adapter(url)

    def merge_environment_settings(self, url: str, *arguments: Any, **options: Any) -> Any:
        """What the environment adds: a proxy, which sees no more than host names, and on loopback nothing."""
        self.trust_env = url.lower().startswith("https://")
        return super().merge_environment_settings(url, *arguments, **options)


class _CheckedAdapter(HTTPAdapter):
    """Connects with one TLS context, and leaves alone what requests would put in its place."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, **options, ssl_context=self._context)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        host, _ = super().build_connection_pool_key_attributes(request, True, cert)
        return host, {"cert_reqs": "CERT_REQUIRED", "ssl_context": self._context}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing: the context decides."""
