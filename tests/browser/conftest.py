"""Fixtures of the console's tests: one Chromium, and one real datasite that the pages are driven on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from datasites.people import accounts
from tests.browser.desk import AUDITOR, OWNER, REVIEWER
from tests.e2e import stock
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess

SignIn = Callable[..., Page]
PATIENCE = 30_000  # milliseconds: a loaded machine is slow, and what never comes is missed anyway

expect.set_options(timeout=PATIENCE)


@pytest.fixture(autouse=True, scope="session")
def cheap_passwords() -> None:
    """In this process passwords are hashed as cheaply as can be; a datasite's own process hashes them in full."""
    accounts.SCRYPT.update(n=16, p=1)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without its sandbox where the tests run as root."""
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def site(made_datasite: Path, tmp_path_factory: pytest.TempPathFactory, jobs: Path) -> Iterator[DatasiteProcess]:
    """One serving datasite for all tests here, with a second reviewer and an auditor."""
    scratch = tmp_path_factory.mktemp("console")
    (scratch / "password").write_text(PASSWORD)
    served = DatasiteProcess(made_datasite, scratch / "datasite", jobs=jobs).start()
    for email, role in ((REVIEWER, "second_reviewer"), (AUDITOR, "auditor")):
        served.cli("console-users", "add", email, "--role", role, "--password-file", str(scratch / "password"))
    yield served
    served.stop()


@pytest.fixture(scope="module")
def researcher(site: DatasiteProcess) -> Any:
    """A stock PySyft client on the other side."""
    return stock.login(site.url, RESEARCHER, PASSWORD)


@pytest.fixture(scope="module")
def sign_in(site: DatasiteProcess, chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignIn]:
    """A new browser profile, signed in as somebody; its complaints fail the test that looks at `complaints`."""
    contexts = []

    def enter(email: str = OWNER, password: str = PASSWORD, **options: Any) -> Page:
        context = chromium.new_context(base_url=site.url, **options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.goto("/sign-in")
        page.get_by_label("E-mail").fill(email)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()
        return page

    yield enter
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def owner(sign_in: SignIn) -> Page:
    """The owner's browser."""
    page = sign_in()
    page.wait_for_url("**/requests")
    return page


def downloaded(page: Page, act: Callable[[], None]) -> str:
    """The text of what a click downloads."""
    with page.expect_download() as expected:
        act()
    return Path(expected.value.path()).read_text(encoding="utf-8")
