"""What pages show and how they behave in Chromium: hostile text stays text, anybody can use them, they fit a phone."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from datasites.console.app import PAGES
from tests.browser.conftest import SignIn
from tests.browser.desk import AUDITOR, OWNER, REVIEWER
from tests.browser.test_decisions import ask
from tests.e2e import stock
from tests.factories import PASSWORD, DatasiteProcess, statistics_source

HOSTILE = "\"><img src=x onerror='window.hit=1'><script>window.hit=1</script></textarea>{{7*7}}"
EVIL = "evil@university.example"
PLAIN = [page for page in PAGES if page.method == "GET" and page.roles and "{" not in page.path]
READ = [page.path for page in PLAIN if page.path != "/" and not page.by_script and "export" not in page.path]


@pytest.fixture(scope="module")
def visitors(site: DatasiteProcess, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Requests of a researcher who writes markup wherever something can be written; addresses of their pages."""
    password = tmp_path_factory.mktemp("evil") / "password"
    password.write_text(PASSWORD)
    names = ("--name", HOSTILE, "--institution", HOSTILE, "--password-file", str(password))
    site.cli("researchers", "add", EVIL, *names)
    client = stock.login(site.url, EVIL, PASSWORD)
    ask(client, "evil_counts", purpose=HOSTILE)
    noted = statistics_source("evil_notes").replace("    return", f"    # {HOSTILE}\n    return")
    stock.submit(client, noted, weights=False)
    with contextlib.suppress(Exception):  # refused, with findings that quote it
        stock.submit(
            client, f"def evil_bad(records, round):\n    import os  # {HOSTILE}\n    return '{HOSTILE[2:20]}'\n"
        )
    found = [each for each in site.json("requests") if each["researcher"] == EVIL]
    assert len(found) == 3
    site.cli(
        "ask-changes", next(each["id"] for each in found if each["function"] == "evil_notes"), "--comment", HOSTILE
    )
    return [f"/requests/{each['id']}" for each in found]


def test_what_a_researcher_writes_is_only_ever_text(
    site: DatasiteProcess, sign_in: SignIn, visitors: list[str]
) -> None:
    page = sign_in(user_agent=HOSTILE)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    for path in [*READ, *visitors, f"/requests?q={HOSTILE}", f"/log?q={HOSTILE}"]:
        page.goto(path)
        assert page.evaluate("window.hit") is None, path
        assert page.locator("img").count() == 0, path
        assert page.locator("script:not([src])").count() == 0, path
        assert "49" not in page.locator("blockquote.words").all_inner_texts(), path
    assert complaints == []
    purpose = next(path for path in visitors if "evil_counts" in _title(page, path))
    page.goto(purpose)
    assert page.locator("blockquote.words").inner_text() == HOSTILE
    page.goto("/people")
    expect(page.get_by_role("rowheader", name=HOSTILE)).to_be_visible()


def _title(page: Page, path: str) -> str:
    page.goto(path)
    return page.title()


def test_characters_that_reorder_or_hide_text_are_shown_by_name() -> None:
    from datasites.console.source import lines

    text = "".join(str(line.text) for line in lines("x = 1  # \u202e\u200b\x07"))
    assert "U+202E" in text
    assert "U+200B" in text
    assert "U+0007" in text
    assert "\u202e" not in text


def test_no_other_site_can_frame_the_console(site: DatasiteProcess, chromium: Browser) -> None:
    page = chromium.new_page()
    page.set_content(f'<iframe src="{site.url}/sign-in"></iframe>')
    page.wait_for_timeout(500)
    assert [frame.url for frame in page.frames[1:]] == ["chrome-error://chromewebdata/"]
    page.close()


def test_a_script_that_is_planted_does_not_run(owner: Page) -> None:
    owner.goto("/requests")
    plant = "() => { try { const made = document.createElement('script'); made.text = 'window.planted = 1';"
    owner.evaluate(f"{plant} document.body.append(made) }} catch {{}} }}")
    owner.evaluate("() => { try { document.body.innerHTML += '<img src=x onerror=\"window.planted = 1\">' } catch {} }")
    assert owner.evaluate("window.planted") is None
    assert owner.evaluate("document.cookie") == ""


BOTH = [
    (1280, "light"),
    (390, "dark"),
    pytest.param(1280, "dark", marks=pytest.mark.nightly),
    pytest.param(390, "light", marks=pytest.mark.nightly),
]


@pytest.fixture(scope="module")
def released(site: DatasiteProcess, researcher: Any) -> str:
    """The address of a release."""
    ask(researcher, "seen_counts")
    request = next(each["id"] for each in site.json("requests") if each["function"] == "seen_counts")
    site.cli("approve", request, "--yes")
    assert stock.call_until_done(researcher, "seen_counts", weights=None, round=1)["status"] == "released"
    return f"/releases/{request}/1"


@pytest.mark.parametrize("email", [OWNER, AUDITOR])
@pytest.mark.parametrize(("width", "scheme"), BOTH)
def test_pages_are_accessible_and_fit(
    sign_in: SignIn, visitors: list[str], released: str, width: int, scheme: str, email: str
) -> None:
    """Nothing at all that axe can find, what is folded included, at either width, in either scheme, in either role."""
    page = sign_in(email, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.wait_for_url("**/requests")
    page.goto("/datasets")
    dataset = page.locator("article h2 a").get_attribute("href")
    told = {}
    for path in [*READ, str(dataset), visitors[0], visitors[-1], released, "/nothing"]:
        page.goto(path)
        assert page.locator("h1").count() == 1, path
        spill = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert spill <= 0, (path, spill)
        for folded in (True, False):
            if not folded:
                page.evaluate("document.querySelectorAll('main details').forEach((part) => { part.open = true })")
            if violations := Axe().run(page).response["violations"]:
                told[path, folded] = [_told(violation) for violation in violations]
    assert told == {}


def test_help_beside_a_term_needs_no_mouse(sign_in: SignIn) -> None:
    page = sign_in()
    page.goto("/ledger")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.locator(":focus").get_attribute("aria-label") == "What is Order?":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/glossary#order")
    expect(page.locator("#order")).to_be_in_viewport()


def _told(violation: dict[str, Any]) -> str:
    return f"{violation['id']}: {violation['help']}: {[each['html'][:120] for each in violation['nodes'][:3]]}"


def test_pages_for_strangers_are_accessible_and_fit(site: DatasiteProcess, chromium: Browser) -> None:
    name = "Somebody With a Rather Long Name of the Institute of Epidemiology"
    made = site.cli("researchers", "invite", "long.address.of.somebody@epidemiology.university.example", "--name", name)
    link = re.search(r"/invitation/\S+", made.stdout)
    assert link is not None
    page = chromium.new_page(base_url=site.url, viewport={"width": 390, "height": 800})
    for path in ("/sign-in", link[0]):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        assert [_told(each) for each in Axe().run(page).response["violations"]] == []
    page.close()


def test_a_decision_needs_no_mouse(site: DatasiteProcess, researcher: Any, owner: Page) -> None:
    ask(researcher, "keyboard_counts")
    owner.goto("/requests?show=waiting&q=keyboard_counts")
    owner.keyboard.press("Tab")
    expect(owner.locator(":focus")).to_have_text("Skip to content")
    owner.keyboard.press("Enter")
    _press_until(owner, "keyboard_counts")
    owner.keyboard.press("Enter")
    owner.wait_for_url(re.compile("/requests/.+"))
    _press_until(owner, "Go to the decision")
    owner.keyboard.press("Enter")
    _press_until(owner, "Approve", most=5)
    owner.keyboard.press("Enter")
    expect(owner.locator("p.banner")).to_contain_text("Approved")


def _press_until(page: Page, text: str, *, most: int = 60) -> None:
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.locator(":focus").count() and page.locator(":focus").inner_text().strip() == text:
            return
    raise AssertionError(f"{text!r} was not reached")


def test_pages_work_without_the_script(sign_in: SignIn) -> None:
    page = sign_in(java_script_enabled=False)
    page.goto("/requests")
    page.get_by_label("Closed").check()
    page.get_by_role("button", name="Search").click()
    assert "show=closed" in page.url


def test_a_stolen_cookie_is_worthless_after_signing_out(
    sign_in: SignIn, chromium: Browser, site: DatasiteProcess
) -> None:
    page = sign_in(REVIEWER)
    page.wait_for_url("**/requests")
    kept = page.context.cookies()
    session = next(each for each in kept if each["name"].startswith("session-"))
    assert session["httpOnly"]
    assert session["sameSite"] == "Strict"
    page.goto("/account")
    page.get_by_role("button", name="Sign out everywhere").click()
    thief = chromium.new_context(base_url=site.url)
    thief.add_cookies(kept)  # type: ignore[arg-type]
    stolen = thief.new_page()
    stolen.goto("/requests")
    assert "/sign-in" in stolen.url
    thief.close()


def test_a_link_in_an_email_finds_the_owner_signed_in(sign_in: SignIn, site: DatasiteProcess) -> None:
    page = sign_in()
    page.wait_for_url("**/requests")
    page.goto(f"data:text/html,<a href='{site.url}/ledger'>Read it</a>")
    page.get_by_role("link", name="Read it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Ledger")


def test_the_owner_signs_in_with_pysyfts_password_alone(sign_in: SignIn) -> None:
    page = sign_in(OWNER, "not the password")
    expect(page.get_by_role("alert")).to_contain_text("Wrong e-mail or password")
