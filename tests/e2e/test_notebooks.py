"""Stock PySyft in a real notebook: what an owner and a researcher show on their pages is no traceback and no error.

Cells run in kernels of their own, with nothing of ours imported. A notebook prints objects by PySyft's own rules, which
ask the datasite for much that a script never asks for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess, training_source

OWNER = "owner@hospital.example"
TROUBLE = re.compile(r"Traceback|Error|Exception|Jane Doe|OpenMined|object at 0x[0-9a-f]+>$")
# PySyft itself names its modules so where it prints them as text; each is shown as a table beside that.
MODULE = re.compile(r"<syft\.client\.api\.APIModule object at 0x[0-9a-f]+>|<IPython\.core\.display\.\w+ object>")
AS_SUBMITTED = """\
@sy.syft_function(input_policy=sy.MixedInputPolicy(records=asset, weights=dict, round=int, client=client))
"""
RUN = """\
import time, torch
generator = torch.Generator().manual_seed(7)
shapes = {"layer1.weight": (8, 4), "layer1.bias": (8,), "layer2.weight": (1, 8), "layer2.bias": (1,)}
weights = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}
while True:
    answer = client.code.flu_book(records=asset, weights=weights, round=1).get()
    if answer["status"] != "running":
        break
    time.sleep(0.2)
answer["status"], sorted(answer["release"])
"""


@dataclass
class Page:
    """What stood under each cell of a notebook that ran."""

    shown: dict[str, str]  # by the cell's last line
    troubles: list[str]


def run(folder: Path, url: str, email: str, *cells: str) -> Page:
    """Sign in and run cells in a new kernel."""
    begin = ("import syft as sy", f"client = sy.login(url={url!r}, email={email!r}, password={PASSWORD!r})")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (*begin, *cells)])
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True, resources=where).execute()
    page = Page({}, [])
    for cell in notebook.cells:
        line = cell.source.splitlines()[-1]
        for output in cell.outputs:
            if output.output_type == "error":
                page.troubles.append(f"{line}: {output.ename}: {output.evalue}")
                continue
            data = {"text/plain": output.text} if output.output_type == "stream" else output.data
            page.shown[line] = page.shown.get(line, "") + "\n".join(str(data[kind]) for kind in sorted(data))
            words = MODULE.sub("", _words(data))
            if found := TROUBLE.search(words):
                page.troubles.append(f"{line}: {words[max(0, found.start() - 100) : found.end() + 100]}")
    return page


def _words(data: dict[str, str]) -> str:
    """The text of an output, without the scripts and styles of PySyft's tables."""
    html = re.sub(r"<(script|style)\b.*?</\1>", "", data.get("text/html", ""), flags=re.DOTALL)
    return "\n".join((data.get("text/plain", ""), data.get("text/markdown", ""), html))


def test_a_notebook_of_a_researcher_and_one_of_an_owner_show_no_error(
    shared_datasite: DatasiteProcess, tmp_path: Path
) -> None:
    url = shared_datasite.url
    asking = run(
        tmp_path,
        url,
        RESEARCHER,
        "client",
        "client.metadata",
        "client.account",
        "client.datasets",
        'client.datasets["flu"]',
        'asset = client.datasets["flu"].assets[0]\nasset',
        "asset.mock",
        "asset.pointer",
        "client.code",
        AS_SUBMITTED + training_source("flu_book"),
        "request = client.code.request_code_execution(flu_book)\nrequest",
        "client.requests",
        "request.code",
        "request.status",
        "client.code[0]",
    )
    assert asking.troubles == []
    assert "Test Hospital" in asking.shown["client"]
    assert "influenza" in asking.shown['client.datasets["flu"]'] or "flu" in asking.shown['client.datasets["flu"]']
    assert "PENDING" in asking.shown["request.status"]
    assert "flu_book" in asking.shown["client.requests"]
    assert "tensor" in asking.shown["asset.pointer"]

    deciding = run(
        tmp_path,
        url,
        OWNER,
        "client",
        "client.requests",
        "request = client.requests[0]\nrequest",
        "request.code",
        "request.changes",
        "client.datasets",
        'asset = client.datasets["flu"].assets[0]\nasset',
        "asset.mock",
        'request.approve(typed="flu_book")',
        "request.status",
        "client.code",
    )
    assert deciding.troubles == []
    assert "decide" in deciding.shown["client"]
    assert "tensor" in deciding.shown["asset.mock"]
    assert "APPROVED" in deciding.shown["request.status"]

    running = run(
        tmp_path,
        url,
        RESEARCHER,
        'asset = client.datasets["flu"].assets[0]',
        "client.requests[0].status",
        RUN,
    )
    assert running.troubles == []
    assert "APPROVED" in running.shown["client.requests[0].status"]
    assert "released" in running.shown['answer["status"], sorted(answer["release"])']


SINGLE = """\
@sy.syft_function_single_use(records={records})
def {name}(records):
    from datasites.mechanisms import statistics

    return statistics(records, count=True, mean="temperature", epsilon=0.1)
"""
CALL = """\
import time
while True:
    answer = client.code.{name}(records=asset).get()
    if answer["status"] != "running":
        break
    time.sleep(0.2)
answer["status"], sorted(answer["release"])
"""


def test_a_single_use_function_of_statistics_is_approved_and_answered(
    shared_datasite: DatasiteProcess, tmp_path: Path
) -> None:
    """The first function of PySyft's own tutorials: bound to an asset, or to its pointer, and called once approved."""
    url, find = shared_datasite.url, 'asset = client.datasets["flu"].assets[0]\nasset'
    cells = [find]
    for name, records in (("flu_single", "asset"), ("flu_pointed", "asset.pointer")):
        cells += [SINGLE.format(name=name, records=records), f"client.code.request_code_execution({name})"]
    asking = run(tmp_path, url, RESEARCHER, *cells, "client.requests")
    assert asking.troubles == []
    for name in ("flu_single", "flu_pointed"):
        assert name in asking.shown["client.requests"]

    approve = [f'[r for r in client.requests if r.code.service_func_name == "{name}"][0].approve()'
               for name in ("flu_single", "flu_pointed")]  # fmt: skip
    assert run(tmp_path, url, OWNER, *approve).troubles == []

    answered = run(tmp_path, url, RESEARCHER, find, CALL.format(name="flu_single"), CALL.format(name="flu_pointed"))
    assert answered.troubles == []
    shown = answered.shown['answer["status"], sorted(answer["release"])']
    assert shown.count("('released', ['count', 'mean/temperature'") == 2


EXACT = """\
policy = sy.ExactMatch(records=asset)
@sy.syft_function(input_policy=policy, output_policy=sy.SingleExecutionExactOutput())
def flu_jobs(records):
    from datasites.mechanisms import statistics

    return statistics(records, count=True, mean="temperature", epsilon=0.1)
"""
FIND = 'asset = client.datasets["flu"].assets[0]\nasset'


def test_a_job_news_and_a_project_are_shown_as_the_ledger_has_them(
    shared_datasite: DatasiteProcess, tmp_path: Path
) -> None:
    """`blocking=False`, `job.wait()`, `client.jobs`, `.notifications` and `.projects`, of both sides."""
    url = shared_datasite.url
    asking = run(tmp_path, url, RESEARCHER, FIND, EXACT, "client.code.request_code_execution(flu_jobs)")
    assert asking.troubles == []
    asked = next(request for request in shared_datasite.json("requests") if request["function"] == "flu_jobs")
    shared_datasite.cli("projects", "make", "Winter study", "--parties", "Two of us", "--ends", "2090-01-01")
    shared_datasite.cli("projects", "file", asked["id"], "Winter study")

    lists = ("client.jobs", "client.notifications", "client.projects", "client.projects[0]")
    deciding = run(
        tmp_path,
        url,
        OWNER,
        "client.notifications[0]",
        "client.notifications",
        'waiting = [r for r in client.requests if r.code.service_func_name == "flu_jobs"][0]\nwaiting.approve()',
    )
    assert deciding.troubles == []
    assert "flu_jobs" in deciding.shown["client.notifications"]

    running = run(
        tmp_path,
        url,
        RESEARCHER,
        FIND,
        "job = client.code.flu_jobs(records=asset, blocking=False)\njob",
        "job.wait().get()['status']",
        "job.result",
        "job.status",
        "job.logs()",
        "client.jobs[0]",
        "client.jobs.get_by_user_code_id(job.user_code_id)",
        "client.notifications[0].link",
        "[request.code.service_func_name for request in client.projects[0].requests]",
        'client.get_project(name="Winter study").description',
        *lists,
    )
    assert running.troubles == []
    assert "released" in running.shown["job.wait().get()['status']"]
    assert "COMPLETED" in running.shown["job.status"]
    assert "flu_jobs" in running.shown["client.jobs"]
    assert "flu_jobs" in running.shown["client.notifications"]
    assert "Winter study" in running.shown["client.projects"]
    assert "flu_jobs" in running.shown["[request.code.service_func_name for request in client.projects[0].requests]"]

    looking = run(tmp_path, url, OWNER, *lists, "client.jobs[0]")
    assert looking.troubles == []
    assert "Winter study" in looking.shown["client.projects"]
    assert "flu_jobs" in looking.shown["client.jobs"]


AS_OUTSIDE_TESTS = """\
from syft.types.errors import SyftException, syft_exception_handler
get_ipython().set_custom_exc((SyftException,), syft_exception_handler)
"""


def test_a_refusal_is_a_sentence_on_the_page_and_no_traceback(shared_datasite: DatasiteProcess, tmp_path: Path) -> None:
    """PySyft shows its errors so but where it finds a test at work, as it does here; a cell undoes that."""
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(cell)
            for cell in (
                "import syft as sy",
                f"client = sy.login(url={shared_datasite.url!r}, email={OWNER!r}, password={PASSWORD!r})",
                AS_OUTSIDE_TESTS,
                "client.settings.get()",
            )
        ]
    )
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    (refusal,) = notebook.cells[-1].outputs
    assert refusal.output_type == "display_data"
    assert "The owner sets this datasite up" in refusal.data["text/html"]


def test_a_researcher_sets_a_password_of_their_own(shared_datasite: DatasiteProcess, tmp_path: Path) -> None:
    """Every client is signed out by it, this one too; the old password opens nothing more."""
    email, second = "changing@university.example", "another password of mine"
    (tmp_path / "first").write_text(PASSWORD)
    password = ("--password-file", str(tmp_path / "first"))
    shared_datasite.cli("researchers", "add", email, "--name", "Third", *password)
    page = run(
        tmp_path,
        shared_datasite.url,
        email,
        f'client.account.set_password("{second}", confirm=False)',
        "client.datasets.get_all()",
        f'len(sy.login(url="{shared_datasite.url}", email="{email}", password="{second}").datasets.get_all())',
        f'sy.login(url="{shared_datasite.url}", email="{email}", password="{PASSWORD}")',
    )
    assert [trouble.split(":")[0] for trouble in page.troubles] == ["client.datasets.get_all()", 'sy.login(url="http']
    assert "401" in page.troubles[0]  # a stock client tells no more of why it is signed out
    assert page.shown[next(line for line in page.shown if line.startswith("len("))].strip().endswith("1")


REFUSED_TO_RESEARCHERS = {
    'client.account.set_password("short", confirm=False)': "has 5 characters",
    'client.account.set_email("another@university.example")': "The hospital keeps accounts",
    "sy.Project(name='mine', description='', members=[client]).send()": "datasite projects",
    "client.api.services.job.kill(id=sy.UID())": "datasite stop-run",
    "client.notifications.get_all_read()": "Who read what is not kept",
}
UPLOAD = """\
import torch
rows = torch.zeros(3, 2)
client.upload_dataset(sy.Dataset(name="mine", asset_list=[sy.Asset(name="rows", data=rows, mock=rows)]))
"""
REFUSED_TO_OWNERS = {
    'client.account.set_password("another password", confirm=False)': "datasite password EMAIL",
    UPLOAD: "datasite publish",
    'client.users.create(email="b@x.example", name="B", password="p p p p", password_verify="p p p p")': (
        "The hospital makes accounts"
    ),
    "client.settings.get()": "The owner sets this datasite up",
    "client.settings.allow_guest_signup(True)": "The hospital makes accounts",
}


@pytest.mark.parametrize(
    ("email", "cells"), [(RESEARCHER, REFUSED_TO_RESEARCHERS), (OWNER, REFUSED_TO_OWNERS)], ids=["researcher", "owner"]
)
def test_what_stays_refused_says_who_does_it(
    shared_datasite: DatasiteProcess, tmp_path: Path, email: str, cells: dict[str, str]
) -> None:
    page = run(tmp_path, shared_datasite.url, email, *cells)
    for cell, sentence in cells.items():
        said = [trouble for trouble in page.troubles if trouble.startswith(cell.splitlines()[-1])]
        assert any(sentence in trouble for trouble in said), (
            cell,
            "\n".join(trouble[:400] for trouble in page.troubles),
        )
    assert not any("AttributeError" in trouble for trouble in page.troubles)
