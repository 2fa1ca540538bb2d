"""A study's page in a browser: it fits a telephone and a desk, and axe finds nothing, folded or open, light or dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.researcher.devices.teams import answering, device, report, team
from tests.researcher.test_report import PAGES

DEVICES = {"devices": lambda: report().run(answering(team([70.0, 71.0]) | {"bare": device(None)}))}


@pytest.mark.parametrize(
    "kind", ["described by groups", "asked", "trained and scored", "alive by groups", "logistic", "devices"]
)
def test_a_report_is_accessible_and_fits(kind: str, chromium: Browser, tmp_path: Path) -> None:
    file = (PAGES | DEVICES)[kind]().report(tmp_path / "report.html")  # type: ignore[no-untyped-call]
    told = {}
    for width, scheme in ((1280, "light"), (390, "dark")):
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(file.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true })")
        spill = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert spill <= 0, (width, spill)
        for violation in Axe().run(page).response["violations"]:
            told[width, violation["id"]] = [node["html"][:120] for node in violation["nodes"][:3]]
        page.close()
    assert told == {}
