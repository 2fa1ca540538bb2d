"""E-mail to the owner when a request waits or its researcher writes on it. Off where no SMTP server is set.

A message names the request, who asks and the dataset: what the inbox shows, and no text that a researcher wrote but the
request's name. It is sent beside the work: a mail server that is down delays nothing and is noted in the log.
"""

from __future__ import annotations

import logging
import smtplib
import ssl
import threading
import time
from collections.abc import Callable
from email.message import EmailMessage

from datasites.ledger.records import CodeRequestRecord
from datasites.logs import Shown
from datasites.settings import Settings
from policies.errors import InvalidRequest
from policies.text import password_in

logger = logging.getLogger(__name__)
SECONDS = 20


class Notices:
    """Sends notices, at most one in `least_seconds`: whoever asks much fills no mailbox, and the inbox shows all.

    Args:
      clock: seconds.
    """

    def __init__(
        self, settings: Settings, *, least_seconds: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings, self.least_seconds, self.clock = settings, least_seconds, clock
        self._last = {"request": -least_seconds, "comment": -least_seconds}
        self._lock = threading.Lock()

    def waits(self, record: CodeRequestRecord) -> threading.Thread | None:
        """Send word of a request that waits, in a thread of its own; None where none is sent."""
        return self._begin("request", record, message)

    def commented(self, record: CodeRequestRecord) -> threading.Thread | None:
        """Send word that a researcher wrote on a request; as seldom, and without keeping back that a request waits."""
        return self._begin("comment", record, comment_message)

    def _begin(
        self, kind: str, record: CodeRequestRecord, make: Callable[[Settings, CodeRequestRecord], EmailMessage]
    ) -> threading.Thread | None:
        with self._lock:
            if not self.settings.smtp_host or self.clock() - self._last[kind] < self.least_seconds:
                return None
            self._last[kind] = self.clock()
        thread = threading.Thread(target=_send, args=(self.settings, record, make), name="notice", daemon=True)
        thread.start()
        return thread


def comment_message(settings: Settings, record: CodeRequestRecord) -> EmailMessage:
    """The e-mail of a comment: whose request it is on, and nothing of what was written."""
    return _addressed(
        settings,
        f"{settings.name}: a comment on request {record.function}",
        f"{record.researcher} wrote on the request {record.function} on {record.dataset}.\n\nRead it:\n",
        record,
    )


def message(settings: Settings, record: CodeRequestRecord) -> EmailMessage:
    """The e-mail of one request."""
    return _addressed(
        settings,
        f"{settings.name}: request {record.function} waits for your decision",
        f"{record.researcher} asks for {record.function} on {record.dataset}.\n\nRead it and decide:\n",
        record,
    )


def _addressed(settings: Settings, subject: str, text: str, record: CodeRequestRecord) -> EmailMessage:
    address = (settings.console_url or settings.url).rstrip("/")
    made = EmailMessage()
    made["Subject"] = subject
    made["From"] = settings.smtp_from or settings.owner_email
    made["To"] = settings.smtp_to or settings.owner_email
    made.set_content(f"{text}{address}/requests/{record.id}\n")
    return made


def _send(
    settings: Settings, record: CodeRequestRecord, make: Callable[[Settings, CodeRequestRecord], EmailMessage]
) -> None:
    context = ssl.create_default_context()
    try:
        made = make(settings, record)
        with _server(settings, context) as server:
            if settings.smtp_security == "starttls":
                server.starttls(context=context)
            if settings.smtp_user:
                server.login(settings.smtp_user, _password(settings))
            server.send_message(made)
    except (OSError, ValueError, smtplib.SMTPException, InvalidRequest) as error:
        logger.warning("The notice of a request was not sent: %s.", Shown(type(error).__name__))


def _password(settings: Settings) -> str:
    path = settings.directory / "smtp.password"
    return password_in(path.read_text(encoding="utf-8"), str(path))


def _server(settings: Settings, context: ssl.SSLContext) -> smtplib.SMTP:
    if settings.smtp_security == "tls":
        return smtplib.SMTP_SSL(settings.smtp_host, settings.smtp_port, timeout=SECONDS, context=context)
    return smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=SECONDS)
