"""The documents' pictures of the console, taken anew on a copy of the demonstration's first hospital.

    python -m compose.pictures [--demonstration build/demo] [--every DIRECTORY]

Needs `make demo` first, and Debian's Chromium. `--every` writes every page at both widths, light and dark, to be looked
at, instead of the pictures.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

import researcher
from compose.processes import Datasite, free_port, write_network
from compose.study import FluPredictor

HERE = Path(__file__).parent / "pictures"
OWNER = "owner@datasite.example"
PURPOSE = (
    "To predict influenza at triage before the test is back, from ten questions, jointly at three hospitals. The model"
    " will be compared with the 2026 season's and published with its certificate. No record leaves a hospital."
)
PAGES = ("requests", "runs", "releases", "ledger", "datasets", "datasets/publish", "people", "policy", "log", "account")


@contextmanager
def serving(demonstration: Path) -> Iterator[Datasite]:
    """A copy of the demonstration's first hospital, with a training, statistics and a request that is too much."""
    with tempfile.TemporaryDirectory() as scratch:
        first = sorted(demonstration.glob("hospitals/*/settings.toml"))[0].parent
        root, port = Path(scratch), free_port()
        directory = root / first.name
        shutil.copytree(first, directory, ignore=shutil.ignore_patterns("*.sock"))
        for path in first.parent.glob(f"{first.name}.*"):
            shutil.copy(path, root)
        settings = directory / "settings.toml"
        settings.write_text(re.sub(r"(?m)^port = \d+", f"port = {port}", settings.read_text()))
        datasite = Datasite(first.name, first.name, directory, port)
        datasite.start()
        try:
            _ask(datasite, root)
            yield datasite
        finally:
            datasite.stop()


def _ask(datasite: Datasite, root: Path) -> None:
    cohort = researcher.connect(write_network([datasite], root)).dataset("flu")
    for name, epsilon in (("flu-2027", 1.2), ("flu-large", 4.0)):
        training = researcher.Training.suggest(cohort, epsilon=epsilon)
        study = researcher.Study(
            name, cohort, FluPredictor, training, purpose=PURPOSE, state=root / name, progress=False
        )  # fmt: skip
        study.submit()
    statistics = cohort.statistics(epsilon=0.1, count=True, mean="temperature").mechanism
    researcher.StatisticsStudy(
        cohort, statistics, name="flu-winter", purpose="To plan beds.", state=root / "winter", progress=False
    ).submit()
    for request in datasite.ask("requests", "--status", "checked"):
        datasite.owner("try", request["id"])


def _signed_in(browser: Browser, datasite: Datasite, width: int, scheme: str) -> Page:
    size = {"width": width, "height": 1180}
    page = browser.new_context(base_url=datasite.url, viewport=size, color_scheme=scheme).new_page()  # type: ignore[arg-type]
    page.goto("/sign-in")
    page.get_by_label("E-mail").fill(OWNER)
    page.get_by_label("Password").fill(datasite.directory.with_suffix(".owner").read_text())
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/requests")
    return page


def take(browser: Browser, datasite: Datasite) -> None:
    """The three pictures of docs/owners.md."""
    page = _signed_in(browser, datasite, 1280, "light")
    page.screenshot(path=HERE / "1-inbox.png", clip={"x": 0, "y": 0, "width": 1280, "height": 620})
    page.get_by_role("link", name="flu_2027").click()
    page.locator("#typed").fill("flu_2027")
    page.screenshot(path=HERE / "2-request.png")
    page.goto("/ledger")
    page.screenshot(path=HERE / "3-ledger.png", clip={"x": 0, "y": 0, "width": 1280, "height": 900})


def take_all(browser: Browser, datasite: Datasite, directory: Path) -> None:
    """Every page at both widths, light and dark."""
    directory.mkdir(parents=True, exist_ok=True)
    for width, scheme in ((1280, "light"), (390, "dark"), (1280, "dark"), (390, "light")):
        page = _signed_in(browser, datasite, width, scheme)
        waiting = [f"requests/{request['id']}" for request in datasite.ask("requests")[:4]]
        dataset = f"datasets/{datasite.ask('datasets')['datasets'][0]['version']}"
        for path in (*PAGES, *waiting, dataset, "ledger?like=" + waiting[0].split("/")[1]):
            page.goto(f"/{path}")
            name = re.sub(r"\W+", "-", re.sub(r"[0-9a-f]{16,}", "x", path))
            number = waiting.index(path) if path in waiting else ""
            page.screenshot(path=directory / f"{name}{number}-{width}-{scheme}.png", full_page=True)
        page.context.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Take the pictures; exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m compose.pictures", description="Pictures of the console.")
    parser.add_argument("--demonstration", type=Path, default=Path("build/demo"))
    parser.add_argument("--every", type=Path, metavar="DIRECTORY", help="every page, both widths, light and dark")
    chosen = parser.parse_args(arguments)
    if not list(chosen.demonstration.glob("hospitals/*/settings.toml")):
        print(f"{chosen.demonstration} holds no demonstration. Run make demo first.", file=sys.stderr)
        return 1
    with serving(chosen.demonstration) as datasite, sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        if chosen.every:
            take_all(browser, datasite, chosen.every)
        else:
            take(browser, datasite)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
