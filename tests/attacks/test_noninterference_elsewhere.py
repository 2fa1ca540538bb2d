"""The same two hospitals, asked where `test_noninterference` does not: what operators, browsers' scripts and APIs see.

Standard error as JSON, /metrics, the stream of events, an invitation, every endpoint of PySyft's without argument and
with the private asset's identifier, what `try`, `audit`, `backup` and the verifications answer, commands as they are
printed, and rounds whose weights overflow on the extra patient alone. How often a client asked whether its round was
over depends on the load, so answers and lines of the log are compared by kind and not by number.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from tests.attacks.test_noninterference import (
    EVALUATION,
    OWNER,
    PROGRAM,
    Seen,
    act,
    answered,
    differences,
    serving,
    until_done,
    without_what_is_random,
)
from tests.e2e.stock import asset_of, login, submit
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess, run_datasite, statistics_source, training_source

TOKEN = "a token of these tests"
SOURCES = {"flu_round": training_source(epsilon=1.0), "flu_counts": statistics_source(), "flu_scores": EVALUATION}
# Of four features at most 1 the extra patient has every one: 4 · 8.52e37 is beyond float32, and nobody else's sum is.
POISON = {
    "layer1.weight": torch.full((8, 4), 8.52e37),
    "layer1.bias": torch.zeros(8),
    "layer2.weight": torch.tensor([[1.0, -1.0] * 4]),
    "layer2.bias": torch.zeros(1),
}
PRINTED = (("health",), ("datasets",), ("requests",), ("runs",), ("releases",), ("ledger",), ("ledger", "--verify"))
MEASURED = (
    (r"datasite_(start|last_backup)_time_seconds ([\d.e+]|<\w+>)+", "<time>"),  # its digits may look like a version's
    (r"/invitation/[\w-]+", "/invitation/<token>"),
    (r"(name=\"form_token\" value=\")[^\"]+", r"\1<token>"),
    (r"'made': [\d.]+", "'made': <time>"),
    (r"'bytes': \d+", "'bytes': <size>"),  # of a backup, for who takes it: it holds the private tables
    (r"(datasite_http_answers_total{[^}]+}) [\d.]+", r"\1 <asked>"),
    (r"│ \d+\.\d{3} +│", "│ <measured> │"),  # how long a run took, for owners
    (r'"stamp": ?"[\d.]+"', "<stamp>"),
)
MADE_UP = (
    "request",
    "function",
    "confidence",
    "epsilon",
    "pld_epsilon",
    "delta",
    "canaries",
    "guesses",
    "contradicted",
)


def everything_else(datasite: DatasiteProcess) -> Seen:
    """By place, what the other drive leaves out; what is random is replaced by its kind."""
    seen: dict[str, Any] = {}
    ids = _as_researcher(datasite, seen)
    _by_script(datasite, seen, ids)
    _by_command(datasite, seen, ids)
    bearer = {"authorization": f"Bearer {TOKEN}"}
    seen["metrics"] = answered(httpx.get(f"{datasite.url}/metrics", headers=bearer))
    datasite.stop()
    seen["standard error"] = _kinds(datasite.log())
    seen["log"] = (datasite.directory / "datasite.log").read_text()
    seen["log of PySyft"] = (datasite.directory / "datasite.out").read_text()
    return {place: _masked(value, datasite) for place, value in seen.items()}


def _kinds(lines: str) -> list[str]:
    """The different lines of a log, times and identifiers taken out."""
    return sorted({without_what_is_random(each) for each in lines.splitlines()})


def _masked(value: Any, datasite: DatasiteProcess) -> str:
    text = without_what_is_random(value).replace(str(datasite.directory), "<directory>")
    for pattern, kind in MEASURED:
        text = re.sub(pattern, kind, text)
    return text


def _as_researcher(datasite: DatasiteProcess, seen: dict[str, Any]) -> dict[str, str]:
    client = login(datasite.url, RESEARCHER, PASSWORD)
    service = client.api.services.datasite
    for name, source in SOURCES.items():
        submit(client, source, weights=name != "flu_counts", dataset="visits")
    ids = {each["function"]: each["id"] for each in service.requests()}
    for name in SOURCES:
        shown = act(datasite, "show", request=ids[name])
        act(datasite, "approve", request=ids[name], plan_digest=shown["plan_digest"], typed=name)
    for name in SOURCES:
        weights = {} if name == "flu_counts" else {"weights": POISON}
        seen[f"client poisoned {name}"] = until_done(client, name, **weights)
        seen[f"client certificates {name}"] = service.certificates(code=ids[name])
        seen[f"client status {name}"] = service.request_status(code=ids[name])
    asset = asset_of(client, "visits")
    for path in sorted(client.api.endpoints):
        for kind, arguments in (("", {}), (" by uid", {"uid": asset.action_id}), (" by id", {"id": asset.action_id})):
            seen[f"client {path}{kind}"] = _called(client, path, arguments)
    return ids


def _called(client: Any, path: str, arguments: dict[str, Any]) -> str:
    """An answer or a refusal, as text without addresses of memory."""
    try:
        target = client.api.services
        for part in path.split("."):
            target = getattr(target, part)
        found = repr(target(**arguments))
    except Exception as error:  # what is refused is a thing to see, too
        found = f"{type(error).__name__}: {error}"
    return re.sub(r"0x[0-9a-f]+", "<place>", found)


def _by_script(datasite: DatasiteProcess, seen: dict[str, Any], ids: dict[str, str]) -> None:
    link = act(datasite, "invite_researcher", email="new@university.example", name="New Body", institution="Theirs")
    seen["invitation"] = link
    seen["invitation's page"] = answered(httpx.get(datasite.url + "/invitation/" + link["link"].split("/")[-1]))
    with httpx.Client(base_url=datasite.url, timeout=120, headers={"origin": datasite.url}) as browser:
        found = re.search(r'name="token" value="([^"]+)"', browser.get("/sign-in").text)
        assert found is not None
        fields = {"token": found[1], "email": OWNER, "password": PASSWORD, "next": "/"}
        assert browser.post("/sign-in", data=fields).status_code == 303
        with browser.stream("GET", "/events") as stream:
            seen["events"] = next(each for each in stream.iter_lines() if each.startswith("data"))
        form = re.search(r'name="csrf" value="([^"]+)"', browser.get(f"/requests/{ids['flu_round']}").text)
        assert form is not None
        for path in ("/ledger/verify", "/log/verify", "/runs/stop", "/runs/resume"):
            seen[f"POST {path}"] = answered(browser.post(path, data={"csrf": form[1]}))
        revoked = {"csrf": form[1], "reason": "No more."}
        seen["POST revoke"] = answered(browser.post(f"/requests/{ids['flu_scores']}/revoke", data=revoked))


def _by_command(datasite: DatasiteProcess, seen: dict[str, Any], ids: dict[str, str]) -> None:
    seen["command try"] = act(datasite, "try_request", request=ids["flu_round"])
    audited = act(datasite, "audit", request=ids["flu_round"], canaries=100, seed=1)
    seen["command audit"] = {name: audited[name] for name in MADE_UP}, sorted(audited)  # the rest is noisy
    seen["command backup"] = act(datasite, "backup", file=f"{datasite.directory}.copy")
    seen["command spending"] = act(datasite, "spending", population="patients")
    version = act(datasite, "datasets")["datasets"][-1]["version"]
    seen["command dataset"] = act(datasite, "dataset", version=version)
    for action in ("verify_ledger", "verify_log", "search_log", "entries", "release_page"):
        seen[f"command {action}"] = act(datasite, action)
    seen["command researcher_budgets"] = act(datasite, "researcher_budgets", email=RESEARCHER)
    for action in ("console_users", "invitations", "health"):
        seen[f"command {action}"] = act(datasite, action)
    for arguments in PRINTED:
        done = run_datasite(*arguments, directory=datasite.directory)
        seen[f"printed {' '.join(arguments)}"] = done.stdout, done.stderr


@contextlib.contextmanager
def watched(made_datasite: Path, folder: Path, jobs: Path, **named: Any) -> Iterator[list[Seen]]:
    """What both hospitals show, with metrics and a JSON log."""
    made = folder / "made"
    shutil.copytree(made_datasite, made, ignore=shutil.ignore_patterns("*.sock"))
    (made / "metrics.token").write_text(TOKEN)
    settings = (made / "settings.toml").read_text()
    settings = re.sub(r'(?m)^metrics_token_file = ""', 'metrics_token_file = "metrics.token"', settings)
    (made / "settings.toml").write_text(re.sub(r'(?m)^log_format = "text"', 'log_format = "json"', settings))
    with serving(made, folder, jobs, **named) as both:
        yield [everything_else(each) for each in both]


@pytest.mark.timeout(900)
def test_operators_scripts_and_apis_see_nothing_of_the_extra_patient(
    made_datasite: Path, tmp_path: Path, jobs: Path
) -> None:
    with watched(made_datasite, tmp_path, jobs) as (one, two):
        assert '"logger": "datasites.access"' in one["standard error"]
        assert one["metrics"].startswith("(200")
        assert differences(one, two) == {}


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_planted_leaks_are_found_here_too(made_datasite: Path, tmp_path: Path, jobs: Path) -> None:
    with watched(made_datasite, tmp_path, jobs, program=PROGRAM) as (one, two):
        found = differences(one, two)
    for place in (
        "client poisoned flu_round",
        "client status flu_counts",
        "invitation's page",
        "command dataset",
        "log",
    ):
        assert place in found, place
    assert "printed datasets" in found
    assert "command entries" not in found
