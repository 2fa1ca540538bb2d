"""Who may come to which page, and what a stolen, foreign or stale browser gets: every route, every role."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasites.console.app import PAGES, Page
from datasites.people.accounts import Accounts, Role
from policies.source.statuses import RequestStatus
from tests.browser.desk import AUDITOR, EMAILS, OWNER, REVIEWER, VERSION, Browser, Desk, TestClient
from tests.factories import PASSWORD, RESEARCHER

CLOSED = [page for page in PAGES if page.roles is not None]
FIELDS = (
    "plan_digest", "typed", "reason", "template", "comment", "population", "epsilon", "email", "name", "role", "to",
    "text", "digest", "max_epsilon", "approval_days", "allowed_mechanisms", "schema", "size", "patients",
)  # fmt: skip
LEAVING = ("/sign-out", "/sign-out-everywhere", "/account/password")  # they end the session, and have their own tests


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("console") / "datasite")
    made.ask("f" * 32)
    yield made
    made.close()


@pytest.fixture(scope="module")
def browsers(desk: Desk) -> dict[Role, Browser]:
    """One signed-in browser for each role."""
    return {role: desk.browser(role) for role in Role}


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Desk]:
    """A console of this test's own."""
    made = Desk(tmp_path / "datasite")
    yield made
    made.close()


def address(route: Page) -> str:
    """A route with something in the place of each part."""
    parts = {
        "{id}": "f" * 32,
        "{run}": "a" * 32,
        "{round:int}": "1",
        "{version}": VERSION,
        "{name}": "nothing",
        "{token}": "t" * 43,
    }
    path = route.path
    for part, value in parts.items():
        path = path.replace(part, value)
    return path


def named(route: Page) -> str:
    return f"{route.method} {route.path}"


# -- who may come ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", CLOSED, ids=named)
def test_nothing_is_answered_without_a_session(desk: Desk, route: Page) -> None:
    answer = desk.browser().client.request(route.method, address(route))
    if route.method == "GET" and not route.by_script:
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in")
    else:
        assert answer.status_code == 401
    assert "flu" not in answer.text


def test_only_signing_in_and_the_link_of_an_invitation_are_open() -> None:
    assert {page.path for page in PAGES if page.roles is None} == {"/sign-in", "/invitation/{token}"}


def test_the_routes_served_are_the_routes_listed(desk: Desk) -> None:
    served = {
        (method, route.path)
        for route in desk.app.app.routes  # type: ignore[attr-defined]
        if hasattr(route, "methods")
        for method in route.methods - {"HEAD"}
    }
    assert served == {(page.method, page.path) for page in PAGES}


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("route", [each for each in CLOSED if each.path not in LEAVING], ids=named)
def test_every_role_reaches_its_own_routes_and_no_other(browsers: dict[Role, Browser], route: Page, role: Role) -> None:
    assert route.roles is not None
    browser = browsers[role]
    answer = browser.get(address(route)) if route.method == "GET" else browser.post(address(route))
    if role in route.roles:
        assert answer.status_code in (200, 303, 404, 422), answer.text
    else:
        assert answer.status_code == 403
        assert "Your role does not allow this" in answer.text


def test_readers_see_no_control_of_the_owner(browsers: dict[Role, Browser]) -> None:
    for path in ("/requests/" + "f" * 32, "/runs", "/ledger", "/datasets", "/people", "/policy"):
        forms = set(re.findall(r'action="([^"]+)"', browsers[Role.AUDITOR].get(path).text))
        owned = {page.path for page in PAGES if page.roles == frozenset({Role.OWNER})}
        assert not forms & owned, path
    assert "/approve" not in browsers[Role.AUDITOR].get("/requests/" + "f" * 32).text


# -- forms of others ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", [page for page in CLOSED if page.method == "POST"], ids=named)
def test_a_form_without_its_token_does_nothing(desk: Desk, browsers: dict[Role, Browser], route: Page) -> None:
    before = desk.office.ledger.entries.head(), desk.office.audit.head()
    for token in ("", browsers[Role.AUDITOR].csrf, "x" * 43):
        answer = browsers[Role.OWNER].post(address(route), csrf=token)
        assert answer.status_code == 403
    assert (desk.office.ledger.entries.head(), desk.office.audit.head()) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
    ids=str,
)
def test_a_form_sent_from_another_site_does_nothing(browsers: dict[Role, Browser], headers: dict[str, str]) -> None:
    answer = browsers[Role.OWNER].post("/runs/stop", headers=headers)
    assert answer.status_code == 403
    assert browsers[Role.OWNER].post("/sign-in", headers=headers).status_code == 403


def test_signing_in_needs_the_token_of_its_own_cookie(desk: Desk) -> None:
    fields = {"token": "guess", "email": OWNER, "password": PASSWORD}
    answer = desk.browser().client.post("/sign-in", data=fields)
    assert answer.status_code == 400
    assert not any(name.startswith("session") for name in answer.cookies)


# -- headers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/sign-in", "/requests", "/nothing", "/static/console.css", "/live"])
def test_every_answer_forbids_frames_foreign_scripts_and_sniffing(browsers: dict[Role, Browser], path: str) -> None:
    headers = browsers[Role.OWNER].get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    if not path.startswith("/static"):
        assert headers["cache-control"] == "no-store"


def test_no_page_has_an_inline_script_style_or_handler(browsers: dict[Role, Browser]) -> None:
    for page in PAGES:
        if page.method == "GET" and page.path != "/" and not page.by_script and "export" not in page.path:
            text = browsers[Role.OWNER].get(address(page)).text
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", text), page.path
            assert not re.search(r'(?:src|href|action)="(?:https?:)?//', text), page.path


# -- sessions ----------------------------------------------------------------------------------------------------------


def session_cookie(answer: Any) -> str:
    return next(each for each in answer.headers.get_list("set-cookie") if "session-" in each.split("=")[0])


def test_the_session_cookie_is_kept_from_scripts_and_other_sites(fresh: Desk) -> None:
    plain = session_cookie(fresh.browser().sign_in(OWNER)).lower()
    assert "httponly" in plain
    assert "samesite=strict" in plain
    assert "secure" not in plain
    browser = fresh.browser(address="https://testserver")
    tls = session_cookie(browser.sign_in(OWNER))
    assert tls.startswith("__Host-session-")
    assert "secure" in tls.lower()
    assert browser.get("/requests").headers["strict-transport-security"]


def test_signing_in_gives_a_new_id_and_ends_the_one_before(fresh: Desk) -> None:
    browser = fresh.browser(Role.OWNER)
    name, before = next((n, v) for n, v in browser.client.cookies.items() if n.startswith("session"))
    accounts = fresh.office.accounts
    kept = accounts.begin(OWNER)  # as if the cookie had been planted before the sign-in
    browser.client.cookies.set(name, kept)
    fixed = browser.client.cookies[name] if len(list(browser.client.cookies.jar)) == 1 else kept
    assert fixed == kept
    thief = TestClient(fresh.app, cookies={name: before}, follow_redirects=False)
    assert thief.get("/requests").status_code == 200  # a stolen id works while its session lives ...
    browser2 = fresh.browser(Role.OWNER)
    browser2.post("/sign-out-everywhere")
    assert thief.get("/requests").status_code == 303  # ... and no longer


def test_a_planted_session_id_is_not_taken_over(fresh: Desk) -> None:
    browser = fresh.browser()
    name = next(n for n in fresh.browser(Role.OWNER).client.cookies if n.startswith("session"))
    browser.client.cookies.set(name, "planted")
    answer = browser.sign_in(OWNER)
    assert "planted" not in session_cookie(answer)
    assert fresh.office.accounts.session("planted") is None


def test_session_ids_and_passwords_are_kept_as_hashes_alone(fresh: Desk) -> None:
    browser = fresh.browser(Role.SECOND_REVIEWER)
    token = next(value for name, value in browser.client.cookies.items() if name.startswith("session"))
    kept = (fresh.office.settings.directory / "console.db").read_bytes()
    assert token.encode() not in kept
    assert PASSWORD.encode() not in kept
    assert (fresh.office.settings.directory / "console.db").stat().st_mode & 0o77 == 0


def test_an_idle_session_ends_and_the_script_alone_keeps_none_alive(tmp_path: Path) -> None:
    now = [0.0]
    accounts = Accounts(tmp_path / "console.db", OWNER, idle_seconds=100, clock=lambda: now[0])
    token = accounts.begin(OWNER)
    now[0] = 90
    assert accounts.session(token, touch=False) is not None  # a look of the script
    now[0] = 101
    assert accounts.session(token) is None
    token = accounts.begin(OWNER)
    for _ in range(500):
        now[0] += 90
        if accounts.session(token) is None:
            break
    assert now[0] < 101 + 12 * 3600 + 91  # however busy, a session ends after 12 hours
    accounts.close()


def test_signing_out_ends_the_session_on_the_server(fresh: Desk) -> None:
    browser = fresh.browser(Role.AUDITOR)
    cookies = dict(browser.client.cookies)
    assert browser.post("/sign-out").status_code == 303
    assert TestClient(fresh.app, cookies=cookies, follow_redirects=False).get("/requests").status_code == 303


def test_closing_an_account_ends_its_sessions_at_once(fresh: Desk) -> None:
    browser, owner = fresh.browser(Role.AUDITOR), fresh.browser(Role.OWNER)
    owner.post("/people/console/state", email=AUDITOR, to="disabled")
    assert browser.get("/requests").status_code == 303
    assert fresh.browser().sign_in(AUDITOR).status_code == 401


def test_a_new_password_of_the_owner_signs_out_everywhere(fresh: Desk) -> None:
    browser = fresh.browser(Role.OWNER)
    fields = {"old": PASSWORD, "new": "another long password", "again": "another long password"}
    assert browser.post("/account/password", **fields | {"old": "wrong"}).headers["location"] == "/account"
    assert browser.get("/requests").status_code == 200
    assert browser.post("/account/password", **fields).headers["location"] == "/sign-in"
    assert browser.get("/requests").status_code == 303
    assert fresh.browser().sign_in(OWNER, "another long password").status_code == 303


def test_wrong_passwords_are_answered_alike_and_lock_the_account_for_longer_each_time(fresh: Desk) -> None:
    browser = fresh.browser()
    texts = set()
    for email in (OWNER, REVIEWER, "nobody@hospital.example"):
        answer = browser.sign_in(email, "not the password")
        assert answer.status_code == 401
        texts.add(re.sub(r'value="[^"]*"', "", answer.text))
    assert len(texts) == 1
    for _ in range(4):
        assert browser.sign_in(OWNER, "not the password").status_code == 401
    assert browser.sign_in(OWNER).status_code == 429  # the right one has to wait as well
    fresh.clock.now += 2
    assert browser.sign_in(OWNER, "not the password").status_code == 401
    fresh.clock.now += 1.5
    assert browser.sign_in(OWNER).status_code == 429
    fresh.clock.now += 1
    assert browser.sign_in(OWNER).status_code == 303


def test_researchers_are_told_that_their_way_in_is_python(fresh: Desk) -> None:
    answer = fresh.browser().sign_in(RESEARCHER)
    assert answer.status_code == 403
    assert "researchers work from Python" in answer.text
    assert "set-cookie" not in answer.headers or "session-" not in answer.headers["set-cookie"]


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_signing_in_leads_to_this_console_alone(fresh: Desk, to: str) -> None:
    assert fresh.browser().sign_in(OWNER, to=to).headers["location"] == "/"


def test_every_sign_in_and_refusal_of_an_account_is_in_the_log(fresh: Desk) -> None:
    fresh.browser().sign_in(OWNER, "wrong")
    fresh.browser().sign_in("nobody@hospital.example", "wrong")
    fresh.browser(Role.OWNER)
    found = [(row.who, row.what) for row in fresh.office.audit.entries()]
    assert found == [(OWNER, "sign in refused"), (OWNER, "sign in")]


def test_accounts_of_the_console_are_nobody_of_pysyft(fresh: Desk) -> None:
    browser = fresh.browser(Role.OWNER)
    for email in (OWNER, RESEARCHER, "nobody"):
        browser.post("/people/console", email=email, name="X", role="second_reviewer")
    browser.post("/people/researchers", email=REVIEWER, name="X")
    assert {each["email"] for each in fresh.office.accounts.users()} == {REVIEWER, AUDITOR}
    assert set(fresh.syft.names) == {RESEARCHER}


def test_the_owner_makes_auditors_and_no_second_reviewer(fresh: Desk) -> None:
    for role in ("second_reviewer", "owner", "auditor"):
        fresh.browser(Role.OWNER).post("/people/console", email=f"{role}@new.example", name="X", role=role)
    made = [each["role"] for each in fresh.office.accounts.users() if each["email"].endswith("@new.example")]
    assert made == ["auditor"] * 3


# -- bodies ------------------------------------------------------------------------------------------------------------


def test_a_large_form_is_refused_and_a_stranger_sends_nothing_at_all(desk: Desk, browsers: dict[Role, Browser]) -> None:
    large = "x" * (300 << 10)
    assert browsers[Role.OWNER].post("/policy/file", text=large).status_code == 413
    stranger = desk.browser()
    answer = stranger.client.post("/datasets/publish", content=b"x" * (1 << 20))
    assert answer.status_code == 401


@pytest.mark.parametrize("body", [b"\xff\xfe", b"a=%zz&&&", b"--x\r\n\r\n", b"{" * 50])
@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "multipart/form-data", "text/x"]
)
def test_a_malformed_form_is_a_refusal_and_no_failure(browsers: dict[Role, Browser], kind: str, body: bytes) -> None:
    answer = browsers[Role.OWNER].client.post("/policy", content=body, headers={"content-type": kind})
    assert answer.status_code in (303, 403)


# -- the two people ----------------------------------------------------------------------------------------------------


def with_policy(desk: Desk, **rules: float) -> None:
    found = desk.office.act("policy", "owner", {})
    lines = "\n".join(f"{name} = {value}" for name, value in rules.items())
    desk.office.act("change_policy", "owner", {"text": lines, "digest": found["digest"]})


def shown(browser: Browser, request: str) -> str:
    return str(browser.get(f"/requests/{request}").text)


def vote(browser: Browser, request: str, **fields: str) -> Any:
    digest = browser.desk.office.ledger.requests.get(request).plan_digest
    return browser.post(f"/requests/{request}/approve", plan_digest=digest, **fields)


@pytest.mark.parametrize("first", [Role.OWNER, Role.SECOND_REVIEWER])
def test_two_people_agree_and_neither_sees_the_others_vote_first(fresh: Desk, first: Role) -> None:
    with_policy(fresh, second_reviewer_epsilon=0.1)
    request = fresh.ask("1" * 32)
    second = Role.SECOND_REVIEWER if first is Role.OWNER else Role.OWNER
    one, other = fresh.browser(first), fresh.browser(second)
    reader = fresh.browser(Role.AUDITOR)
    hide = re.compile(r'value="[^"]*"|title="[^"]*"|\d+ minutes? ago|just now')

    def seen_by(browser: Browser) -> list[str]:
        paths = ("/requests", f"/requests/{request}", "/ledger", "/log", "/live")
        return [hide.sub("", browser.get(path).text) for path in paths]

    before = seen_by(other), seen_by(reader)
    assert vote(one, request).status_code == 303
    assert fresh.office.ledger.requests.get(request).status is RequestStatus.CHECKED
    assert (seen_by(other), seen_by(reader)) == before
    assert "You voted" in shown(one, request)
    assert "You voted" not in shown(other, request)
    vote(other, request)
    assert fresh.office.ledger.requests.get(request).status is RequestStatus.APPROVED
    assert EMAILS[first] in shown(reader, request)
    logged = fresh.office.audit.entries()[-1]
    assert logged.what == "approve"
    assert {each["who"] for each in logged.details["votes"]} == {OWNER, REVIEWER}


def test_voting_twice_from_one_side_is_one_vote(fresh: Desk) -> None:
    with_policy(fresh, second_reviewer_epsilon=0.1)
    request = fresh.ask("1" * 32)
    vote(fresh.browser(Role.OWNER), request)
    arguments = {"request": request, "plan_digest": fresh.office.ledger.requests.get(request).plan_digest}
    fresh.office.act("approve", "root", arguments)  # the command line
    fresh.office.approve_code(request, OWNER)  # a stock PySyft owner
    assert fresh.office.ledger.requests.get(request).status is RequestStatus.CHECKED
    assert len(fresh.office.ledger.requests.votes(request)) == 1


def test_the_control_socket_cannot_vote_for_the_second_reviewer(fresh: Desk) -> None:
    with_policy(fresh, second_reviewer_epsilon=0.1)
    request = fresh.ask("1" * 32)
    vote(fresh.browser(Role.OWNER), request)
    arguments = {"request": request, "plan_digest": fresh.office.ledger.requests.get(request).plan_digest}
    for actor in (REVIEWER, json.loads(f'"{REVIEWER}"')):
        fresh.office.act("approve", actor, arguments)
    assert fresh.office.ledger.requests.get(request).status is RequestStatus.CHECKED
    with pytest.raises(TypeError):
        fresh.office.act("approve", "root", {**arguments, "side": "second_reviewer"})


def test_either_of_two_can_deny_and_a_reviewer_decides_nothing_else(fresh: Desk) -> None:
    small = fresh.ask("1" * 32, epsilon=0.05)
    reviewer = fresh.browser(Role.SECOND_REVIEWER)
    with_policy(fresh, second_reviewer_epsilon=0.1)
    large = fresh.ask("2" * 32)
    for action, fields in (("deny", {"reason": "No."}), ("ask-changes", {"comment": "No."}), ("approve", {})):
        reviewer.post(
            f"/requests/{small}/{action}", plan_digest=fresh.office.ledger.requests.get(small).plan_digest, **fields
        )
        assert fresh.office.ledger.requests.get(small).status is RequestStatus.CHECKED
    reviewer.post(f"/requests/{large}/deny", reason="Too much.")
    assert fresh.office.ledger.requests.get(large).status is RequestStatus.DENIED


def test_a_large_request_needs_its_name_typed(fresh: Desk) -> None:
    with_policy(fresh, typed_confirmation_epsilon=0.1)
    request, owner = fresh.ask("1" * 32), fresh.browser(Role.OWNER)
    for typed in ("", "flu", "flu_count"):
        vote(owner, request, typed=typed)
        assert fresh.office.ledger.requests.get(request).status is RequestStatus.CHECKED
    vote(owner, request, typed="flu_counts")
    assert fresh.office.ledger.requests.get(request).status is RequestStatus.APPROVED


def test_what_cannot_be_approved_has_no_button_and_is_refused_all_the_same(fresh: Desk) -> None:
    with_policy(fresh, max_epsilon=0.1)
    request, owner = fresh.ask("1" * 32), fresh.browser(Role.OWNER)
    page = shown(owner, request)
    assert "This cannot be approved" in page
    assert f"/requests/{request}/approve" not in page
    vote(owner, request, typed="flu_counts")
    assert fresh.office.ledger.requests.get(request).status is RequestStatus.CHECKED


def test_a_page_that_was_read_before_the_plan_changed_approves_nothing(fresh: Desk) -> None:
    request, owner = fresh.ask("1" * 32), fresh.browser(Role.OWNER)
    owner.post(f"/requests/{request}/approve", plan_digest="0" * 64)
    owner.post(f"/requests/{request}/approve")
    assert fresh.office.ledger.requests.get(request).status is RequestStatus.CHECKED


# -- anything at all ---------------------------------------------------------------------------------------------------

EXAMPLES = 60
WORDS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["-1", "0", "1e308", "nan", "%00", "../..", "'--", "{{1}}", "f" * 32, "9" * 40]),
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"]),
    route=st.sampled_from(PAGES),
    words=st.lists(WORDS, min_size=3, max_size=3),
    names=st.lists(st.sampled_from(FIELDS), max_size=4),
)
def test_no_path_method_or_field_makes_a_page_fail(
    browsers: dict[Role, Browser], method: str, route: Page, words: list[str], names: list[str]
) -> None:
    if route.path in LEAVING or route.path == "/sign-in":
        return
    path = re.sub(r"{(\w+)(?::\w+)?}", lambda found: quote(words[0], safe="") or "x", route.path)
    fields = {"csrf": browsers[Role.OWNER].csrf, **dict.fromkeys(names, words[1])}
    query = {
        "page": words[2],
        "before": words[2],
        "q": words[1],
        "show": words[2],
        "like": words[0],
        "version": words[0],
    }
    answer = browsers[Role.OWNER].client.request(method, path, params=query, data=fields if method == "POST" else None)
    assert answer.status_code < 500, answer.text
    assert answer.headers["x-frame-options"] == "DENY"
