"""Server-sent events: pages hear what is new, few at a time, and no stream outlives or prolongs its session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from datasites.console import news as module
from datasites.console.news import ENOUGH, OVER, News
from datasites.people.accounts import Session
from tests.browser.conftest import SignIn
from tests.browser.desk import AUDITOR, OWNER, Desk
from tests.browser.test_decisions import ask
from tests.factories import DatasiteProcess


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "datasite")
    yield made
    made.close()


def session(desk: Desk, email: str = OWNER) -> Session:
    found = desk.datasite.accounts.session(desk.datasite.accounts.begin(email))
    assert found is not None
    return found


def run(story: Any) -> None:
    """Run a story in a thread of its own: Playwright keeps a loop running in the tests'."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, asyncio.wait_for(story, 60)).result()


@contextlib.asynccontextmanager
async def opened(news: News, *sessions: Session) -> AsyncIterator[list[AsyncIterator[str]]]:
    """A stream of each session, its first event heard."""
    streams = [news.listen(each) for each in sessions]
    for stream in streams:
        assert (await anext(stream)).startswith("data: ")
    yield streams
    for stream in streams:
        await stream.aclose()  # type: ignore[attr-defined]


def test_a_stream_tells_of_each_change_and_of_nothing_private(desk: Desk) -> None:
    async def story() -> None:
        async with opened(News(desk.datasite, look_seconds=0.01), session(desk)) as (stream,):
            desk.ask("1" * 32, purpose="Known to nobody.")
            event = await anext(stream)
            assert event.startswith('data: {"stamp": "')
            assert event.endswith('"waiting": 1}\n\n')
            assert "flu" not in event

    run(story())


def test_signing_out_ends_a_stream(desk: Desk) -> None:
    async def story() -> None:
        one, other = session(desk), session(desk, AUDITOR)
        async with opened(News(desk.datasite, look_seconds=0.01), one, other) as (first, second):
            desk.datasite.accounts.end(one)
            assert await anext(first) == OVER
            desk.datasite.accounts.set_state(AUDITOR, active=False)
            assert await anext(second) == OVER

    run(story())


def test_a_stream_keeps_no_idle_session_alive(desk: Desk) -> None:
    now = [desk.datasite.accounts.clock()]
    desk.datasite.accounts.clock = lambda: now[0]

    async def story() -> None:
        async with opened(News(desk.datasite, look_seconds=0.01), session(desk)) as (stream,):
            now[0] += desk.datasite.accounts.idle_seconds + 1
            assert await anext(stream) == OVER

    run(story())


def test_one_session_holds_few_streams_and_all_together_a_bounded_number(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 6)

    async def story() -> None:
        news, greedy = News(desk.datasite, look_seconds=0.01), session(desk)
        async with opened(news, *([greedy] * 5), session(desk, AUDITOR), session(desk, AUDITOR)) as streams:
            assert await anext(streams[0]) == ENOUGH  # its oldest ended for its fifth
            assert news.is_full
            late = news.listen(session(desk))
            assert [event async for event in late] == [ENOUGH]
        assert not news.is_full  # those that are left free their place

    run(story())


def test_closing_ends_every_stream(desk: Desk) -> None:
    async def story() -> None:
        news = News(desk.datasite, look_seconds=60)
        async with opened(news, session(desk)) as (stream,):
            news.close()
            assert await anext(stream) == ENOUGH
            assert news.is_full

    run(story())


def test_where_no_stream_is_free_the_page_asks_instead(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasites.people.roles import Role

    monkeypatch.setattr(module, "MOST", 0)
    owner = desk.browser(Role.OWNER)
    assert owner.get("/events").status_code == 503
    assert owner.get("/live").json()["waiting"] == 0


def test_an_open_page_hears_by_a_stream_and_without_one_by_asking(
    site: DatasiteProcess, researcher: Any, owner: Page, sign_in: SignIn
) -> None:
    deaf = sign_in()
    deaf.wait_for_url("**/requests")
    deaf.route("**/events", lambda route: route.fulfill(status=503))
    asked: list[str] = []
    owner.goto("/requests")
    owner.on("request", lambda request: asked.append(request.url))
    deaf.reload()
    ask(researcher, "heard_counts")
    for page in (owner, deaf):
        expect(page.get_by_role("link", name="heard_counts")).to_be_visible(timeout=15_000)
    assert not any(each.endswith("/live") for each in asked)


def test_a_page_left_open_goes_to_the_sign_in_when_its_session_ends(site: DatasiteProcess, sign_in: SignIn) -> None:
    page, other = sign_in(AUDITOR), sign_in(AUDITOR)
    for each in (page, other):
        each.wait_for_url("**/requests")
    other.goto("/account")
    other.get_by_role("button", name="Sign out everywhere").click()
    page.wait_for_url("**/sign-in", timeout=10_000)
