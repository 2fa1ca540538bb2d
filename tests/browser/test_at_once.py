"""What happens to a request before anybody looks: a notice by e-mail, and what the policy decides by itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from datasites.actions.for_researchers import ForResearchers
from datasites.people.notices import Notices, message
from datasites.people.roles import Role
from policies.source.statuses import RequestStatus
from tests.browser.desk import OWNER, Desk
from tests.factories import RESEARCHER


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "datasite")
    yield made
    made.close()


def policy(desk: Desk, *lines: str) -> None:
    found = desk.act("policy", {})
    desk.act("change_policy", {"text": "\n".join(lines), "digest": found["digest"]})


def arrives(desk: Desk, id: str = "1" * 32, *, epsilon: float = 0.2) -> RequestStatus:
    """A checked request, as the datasite has it after it was submitted."""
    desk.ask(id, epsilon=epsilon)
    desk.datasite.decisions.decide_at_once(desk.datasite.ledger.requests.get(id))
    return desk.datasite.ledger.requests.get(id).status


def test_nothing_is_decided_at_once_unless_the_owner_says_so(desk: Desk) -> None:
    assert arrives(desk) is RequestStatus.CHECKED
    assert arrives(desk, "2" * 32, epsilon=5.0) is RequestStatus.CHECKED


def test_a_failed_check_denies_at_once_with_its_reason(desk: Desk) -> None:
    policy(desk, "deny_at_once = true")
    assert arrives(desk, epsilon=5.0) is RequestStatus.DENIED
    assert "is above 4" in desk.datasite.ledger.requests.comments("1" * 32)[-1].text
    assert desk.datasite.audit_log.entries()[-1].who == "policy"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("approve_at_once_epsilon = 0.2",), RequestStatus.APPROVED),
        (("approve_at_once_epsilon = 0.19",), RequestStatus.CHECKED),
        (("approve_at_once_epsilon = 0.2", "second_reviewer_epsilon = 0.1"), RequestStatus.CHECKED),
        (("approve_at_once_epsilon = 0.2", "max_epsilon = 0.1"), RequestStatus.CHECKED),
    ],
)
def test_only_what_is_small_clean_and_one_persons_is_approved_at_once(
    desk: Desk, lines: tuple[str, ...], status: RequestStatus
) -> None:
    policy(desk, *lines)
    assert arrives(desk) is status


def test_the_budget_holds_whatever_the_policy_approves(desk: Desk) -> None:
    policy(desk, "approve_at_once_epsilon = 4.0")
    assert [arrives(desk, f"{number:032x}", epsilon=3.5) for number in range(3)].count(RequestStatus.APPROVED) <= 2
    balance = desk.datasite.ledger.budgets.balance("patients")
    assert balance.epsilon_spent + balance.epsilon_reserved <= balance.budget.epsilon


def test_the_form_turns_rules_on_and_off_and_the_log_says_so(desk: Desk) -> None:
    owner = desk.browser(Role.OWNER)
    rules = desk.act("policy", {})["rules"]
    fields = {name: "" if value is None else str(value) for name, value in rules.items() if name != "deny_at_once"}
    fields |= {"allowed_mechanisms": "statistics", "deny_at_once": "true", "approve_at_once_epsilon": "0,1"}
    fields["digest"] = desk.act("policy", {})["digest"]
    assert owner.post("/policy", **fields).status_code == 303
    new = desk.datasite.decisions.read_rules()
    assert (new.deny_at_once, new.approve_at_once_epsilon, new.allowed_mechanisms) == (True, 0.1, ("statistics",))
    text = (desk.datasite.settings.directory / "policy.toml").read_text()
    assert "# what may run" not in text
    assert text.count("# largest ε of one request") == 1  # the comments of the file stay
    assert set(desk.datasite.audit_log.entries()[-1].details["changed"]) == {
        "deny_at_once", "approve_at_once_epsilon", "allowed_mechanisms",
    }  # fmt: skip
    again = owner.post("/policy", **fields)  # with the digest of before
    assert again.status_code == 422
    assert "was changed since" in again.text


def test_a_policy_that_cannot_be_read_is_not_saved(desk: Desk) -> None:
    owner = desk.browser(Role.OWNER)
    before = desk.act("policy", {})
    answer = owner.post("/policy/file", digest=before["digest"], text="max_epsilon = 'four'")
    assert answer.status_code == 422
    assert "four" in answer.text
    assert desk.act("policy", {}) == before


# -- notices -----------------------------------------------------------------------------------------------------------


class MailServer(threading.Thread):
    """Takes one message by SMTP."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.lines: list[str] = []
        self.start()

    def run(self) -> None:
        connection, _ = self.listener.accept()
        with connection, connection.makefile("rw", newline="\r\n") as stream, self.listener:
            self._say(stream, "220 here")
            body = False
            for line in stream:
                self.lines.append(line.rstrip())
                if body and line.rstrip() != ".":
                    continue
                word = line[:4].upper()
                body = word == "DATA"
                self._say(stream, "354 go on" if body else "221 bye" if word == "QUIT" else "250 yes")

    @staticmethod
    def _say(stream: object, text: str) -> None:
        stream.write(text + "\r\n")  # type: ignore[attr-defined]
        stream.flush()  # type: ignore[attr-defined]


def test_a_waiting_request_sends_word_once_in_a_while(desk: Desk) -> None:
    server = MailServer()
    settings = replace(
        desk.datasite.settings, smtp_host="127.0.0.1", smtp_port=server.port, smtp_security="none",
        smtp_to="privacy@hospital.example", console_url="https://console.hospital.example/",
    )  # fmt: skip
    record = desk.datasite.ledger.requests.get(desk.ask("1" * 32, purpose="A secret purpose"))
    now = [0.0]
    notices = Notices(settings, clock=lambda: now[0])
    sent = notices.waits(record)
    assert sent is not None
    sent.join(10)
    server.join(10)
    text = "\n".join(server.lines)
    assert "Subject: Test Hospital: request flu_counts waits for your decision" in text
    assert f"https://console.hospital.example/requests/{record.id}" in text
    assert "secret purpose" not in text
    now[0] = 59
    assert notices.waits(record) is None  # whoever asks much fills no mailbox
    assert Notices(desk.datasite.settings).waits(record) is None  # no server is set


def test_a_comment_sends_word_without_a_word_of_it_and_keeps_no_request_back(desk: Desk) -> None:
    server = MailServer()
    settings = replace(
        desk.datasite.settings, smtp_host="127.0.0.1", smtp_port=server.port, smtp_security="none",
        smtp_to="privacy@hospital.example", console_url="https://console.hospital.example/",
    )  # fmt: skip
    record = desk.datasite.ledger.requests.get(desk.ask("1" * 32))
    desk.datasite.notices = Notices(settings, clock=lambda: 0.0)
    ForResearchers(desk.datasite).comment(RESEARCHER, record.id, "A secret word")
    server.join(10)
    text = "\n".join(server.lines)
    assert "Subject: Test Hospital: a comment on request flu_counts" in text
    assert f"https://console.hospital.example/requests/{record.id}" in text
    assert "secret" not in text
    assert desk.datasite.notices.commented(record) is None  # at most one a minute
    assert desk.datasite.notices.waits(record) is not None


def test_a_mail_server_that_is_down_delays_nothing(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    settings = replace(desk.datasite.settings, smtp_host="127.0.0.1", smtp_port=1, smtp_security="none")
    sent = Notices(settings).waits(desk.datasite.ledger.requests.get(desk.ask("1" * 32)))
    assert sent is not None
    sent.join(10)
    assert "was not sent" in caplog.text


def test_a_notice_goes_to_the_owner_where_nobody_else_is_named(desk: Desk) -> None:
    made = message(desk.datasite.settings, desk.datasite.ledger.requests.get(desk.ask("1" * 32)))
    assert (made["To"], made["From"]) == (OWNER, OWNER)
