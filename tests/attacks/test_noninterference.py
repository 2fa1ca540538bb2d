"""Two hospitals whose tables differ by one patient answer with the same bytes, but for noise, keys and times.

The extra patient is the worst that a schema admits: two hundred visits, every value of columns and tensors at a bound.
Everything that anybody can see is asked of both: as a researcher, as another researcher, as a stranger, in the
console's every page and export, by the owner's commands, in the log. What is random by design (identifiers, digests,
signatures, tokens, the numbers that noise was added to, times) is replaced by its kind; the rest must be equal to the
byte. Nothing is left out for owners: their pages, too, say nothing of rows. Only how long a run took, and time and
memory of a trial on the mock, are shown to them, and are masked with the times.

The noise itself needs no fixing, since what it was added to is replaced by its kind and shape: a release's tensors.
That it could be fixed at all, by a constructor's argument and by nothing else, stands in the last test.
"""

from __future__ import annotations

import ast
import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from syft.types.errors import SyftException

from datasites.console.app import PAGES
from datasites.operations.control_socket import ask
from policies.release.tensors import digest, to_bytes
from tests.e2e.stock import asset_of, call, login, submit
from tests.factories import (
    OTHER,
    PASSWORD,
    RESEARCHER,
    SCHEMA,
    DatasiteProcess,
    cohort_source,
    initial_weights,
    regression_source,
    slow_training_source,
    statistics_source,
    survival_source,
    training_source,
    write_table,
)

EVALUATION = training_source("flu_scores").replace("dp_sgd", "evaluate").split("\n    return ")[0] + (
    "\n    return evaluate(FluPredictor, records, weights, round, loss='binary_cross_entropy', epsilon=0.3)\n"
)
TERMS = "'log(temperature)', 'spline(age, 3) * cough'"  # a model's four inputs, of columns at their bounds
GROUPS = EVALUATION.replace("flu_scores", "flu_groups").replace(
    "epsilon=0.3", "epsilon=0.3, subgroups=('cough', ('age', 18, 65))"
)
PARTS = {name: initial_weights()[name].numpy() for name in ("layer1.weight", "layer2.bias")}
KEPT = f"frozen=('layer1.weight',), local=('layer2.bias',), public_weights='{digest(PARTS)}'"
SOURCES = {
    "flu_round": training_source(epsilon=1.0).replace("learning_rate=1.0", f"learning_rate=1.0, inputs=({TERMS})"),
    "flu_scan": training_source("flu_scan", rounds=1, epsilon=0.5).replace(
        "learning_rate=1.0", "learning_rate=1.0, inputs='scan'"
    ),
    "flu_codes": training_source("flu_codes", rounds=1, epsilon=0.5)
    .replace("learning_rate=1.0", "learning_rate=1.0, inputs='codes'")
    .replace("nn.Linear(4, 8)", "nn.Embedding(8, 4)")
    .replace("torch.relu(self.layer1(x))", "torch.relu(self.layer1(x.long())).flatten(1)"),
    "flu_parts": training_source("flu_parts", rounds=1, epsilon=0.5).replace(
        "learning_rate=1.0", f"learning_rate=1.0, {KEPT}"
    ),
    "flu_head": EVALUATION.replace("flu_scores", "flu_head").replace(
        "epsilon=0.3", f"epsilon=0.3, {KEPT}, trained_as='flu_parts'"
    ),
    "flu_counts": statistics_source(),
    "flu_cohort": cohort_source(),
    "flu_alive": survival_source(),
    "flu_fitted": regression_source(),
    "flu_scores": EVALUATION,
    "flu_groups": GROUPS,
    "flu_ended": slow_training_source("flu_ended"),
    "flu_denied": statistics_source("flu_denied"),
    "flu_changed": statistics_source("flu_changed"),
    "flu_revoked": statistics_source("flu_revoked"),
    "flu_withdrawn": statistics_source("flu_withdrawn"),
}
WEIGHTLESS = {name for name, source in SOURCES.items() if "weights" not in source.split("\n")[0]}
APPROVED = (
    "flu_round",
    "flu_scan",
    "flu_codes",
    "flu_parts",
    "flu_head",
    "flu_counts",
    "flu_cohort",
    "flu_alive",
    "flu_fitted",
    "flu_scores",
    "flu_groups",
    "flu_ended",
    "flu_revoked",
)
UNSENT = {"flu_codes": {"layer1.bias"}, "flu_parts": set(PARTS), "flu_head": set(PARTS)}
PARTED = ("flu_parts", "flu_head")  # the second evaluates with the head that the first keeps
RELEASED = (*APPROVED[:5], "flu_counts", "flu_cohort", "flu_alive", "flu_fitted", "flu_scores")
OWNER = "owner@hospital.example"
SCAN = """
[tensors.scan]
shape = [4]
dtype = "float16"
minimum = -1
maximum = 1

[tensors.codes]
shape = [2]
vocabulary = ["A", "B", "C", "D", "E", "F"]
"""
UNEQUAL_HEADERS = {"date", "content-length", "set-cookie"}  # a body's length is the body's own, and that is compared
KEPT_OUT = {"/events"}  # a stream of what /live says

Seen = dict[str, str]
PROGRAM = Path(__file__).with_name("serve_with_leaks.py")


def serving(
    made: Path, folder: Path, jobs: Path, *, program: Path | None = None
) -> contextlib.AbstractContextManager[list[DatasiteProcess]]:
    """Two datasites on tables that differ by one patient, otherwise copies of one directory."""

    @contextlib.contextmanager
    def run() -> Iterator[list[DatasiteProcess]]:
        (folder / "schema.toml").write_text(SCHEMA.replace('name = "flu"', 'name = "visits"') + SCAN)
        head, *rows = write_table(folder / "one.csv").read_text().splitlines()
        table = "\n".join([f"{head},scan,codes", *(f"{row},some.npy,A B" for row in rows), ""])
        for name, value in (("some", 0.25), ("extreme", 1.0)):
            np.save(folder / f"{name}.npy", np.full(4, value))
        (folder / "one.csv").write_text(table)
        (folder / "two.csv").write_text(table + "extra,100,42.0,1,1,1,extreme.npy,F F\n" * 200)
        served = [DatasiteProcess(made, folder / name, jobs=jobs, program=program) for name in ("one", "two")]
        try:
            for each in served:
                each.start(wait=False)
            for each in served:
                each.wait_until_healthy(180)
                asked = {
                    "table": str(folder / f"{each.directory.name}.csv"), "sql": None, "database": None,
                    "password_file": None, "schema": (folder / "schema.toml").read_text(), "patients": 400,
                    "count_epsilon": None, "budget": [8.0, 1e-5], "public_mock": None,
                }  # fmt: skip
                act(each, "publish", **asked)
            yield served
        finally:
            for each in served:
                each.stop()

    return run()


def act(datasite: DatasiteProcess, action: str, **arguments: Any) -> Any:
    """What an owner's command does, without the second that a command takes to start."""
    return ask(datasite.directory / "control.sock", action, arguments)


def everything_seen(datasite: DatasiteProcess) -> Seen:
    """By place, all that anybody sees, in one fixed order of questions; what is random is replaced by its kind."""
    seen: dict[str, Any] = {}
    _as_stranger(datasite, seen)
    ids = _as_researcher(datasite, seen)
    _as_another_researcher(datasite, seen, ids)
    in_the_console(datasite, seen)
    by_command(datasite, seen, ids)
    seen["log"] = (datasite.directory / "datasite.log").read_text().replace(str(datasite.directory), "<directory>")
    return {place: without_what_is_random(value) for place, value in seen.items()}


def _as_stranger(datasite: DatasiteProcess, seen: dict[str, Any]) -> None:
    with httpx.Client(base_url=datasite.url, timeout=30) as stranger:
        for method, path, body in (
            ("GET", "/healthz", b""), ("GET", "/metrics", b""), ("GET", "/api/v2/metadata", b""),
            ("GET", "/api/v2/api", b""), ("GET", "/api/v2/new", b""), ("POST", "/api/v2/login", b"{}"),
            ("POST", "/api/v2/login", b'{"email": "nobody@x.example", "password": "wrong"}'),
            ("POST", "/api/v2/api_call", b"garbage"), ("GET", "/sign-in", b""), ("GET", "/no-such-page", b""),
            ("GET", "/static/console.css", b""),
        ):  # fmt: skip
            seen[f"stranger {method} {path} {body.decode()}"] = answered(stranger.request(method, path, content=body))
        for page in PAGES:
            if page.path not in KEPT_OUT:
                address = re.sub(r"{\w+(:int)?}", "1", page.path)
                seen[f"stranger {page.method} {page.path}"] = answered(stranger.request(page.method, address))


def _as_researcher(datasite: DatasiteProcess, seen: dict[str, Any]) -> dict[str, str]:
    client = login(datasite.url, RESEARCHER, PASSWORD)
    service = client.api.services.datasite
    seen["client mock"] = asset_of(client, "visits").mock.tolist()
    seen["client catalogue"] = repr([(each.name, each.description) for each in client.datasets])
    seen["client describe"] = service.describe()
    seen["client private"] = repr(asset_of(client, "visits").data)
    for name, source in SOURCES.items():
        seen[f"client quote {name}"] = service.quote(source=source, dataset="visits")
        submit(client, source, weights=name not in WEIGHTLESS, dataset="visits")
    seen["client quote of nonsense"] = service.quote(source="def f(:", dataset="visits")
    seen["client quote of no dataset"] = refusal(lambda: service.quote(source=SOURCES["flu_counts"], dataset="none"))
    ids = {each["function"]: each["id"] for each in service.requests()}
    seen["client early"] = refused_call(client, "flu_round", weights=initial_weights())
    _decide(datasite, seen, ids)
    service.withdraw(code=ids["flu_withdrawn"])
    bias = initial_weights()["layer2.bias"]
    seen["client wrong weights"] = refused_call(client, "flu_round", weights={"other": bias})
    seen["client wrong shape"] = refused_call(client, "flu_round", weights={**initial_weights(), "layer1.bias": bias})
    seen["client weights for counts"] = refused_call(client, "flu_counts", weights=initial_weights())
    kept = to_bytes(PARTS)
    for name in PARTED:
        seen[f"client public weights {name}"] = service.keep_weights(ids[name], 0, len(kept), kept)
    for name in RELEASED:
        sent = {key: each for key, each in initial_weights().items() if key not in UNSENT.get(name, ())}
        weights = {} if name in WEIGHTLESS else {"weights": sent}
        seen[f"client release {name}"] = until_done(client, name, **weights)
        seen[f"client certificates {name}"] = service.certificates(code=ids[name])
    seen["client ended run"] = _ended(datasite, client, ids["flu_ended"])
    act(datasite, "stop")
    seen["client stopped"] = refused_call(client, "flu_round", weights=initial_weights(), round=2)
    act(datasite, "resume")
    act(datasite, "revoke", request=ids["flu_revoked"], reason="No more.")
    other = {name: values + 1 for name, values in initial_weights().items()}
    seen["client other weights"] = refused_call(client, "flu_round", weights=other)
    seen["client too many rounds"] = refused_call(client, "flu_round", weights=initial_weights(), round=9)
    for name in ("flu_denied", "flu_changed", "flu_revoked", "flu_withdrawn"):
        seen[f"client call {name}"] = refused_call(client, name)
    seen["client describe after"] = service.describe()
    seen["client requests"] = service.requests()
    for name, code in ids.items():
        seen[f"client status {name}"] = service.request_status(code=code)
    return ids


def _decide(datasite: DatasiteProcess, seen: dict[str, Any], ids: dict[str, str]) -> None:
    for name in APPROVED:
        shown = act(datasite, "show", request=ids[name])
        seen[f"command show {name}"] = shown
        act(datasite, "approve", request=ids[name], plan_digest=shown["plan_digest"], typed=name)
    act(datasite, "deny", request=ids["flu_denied"], reason="Not now.")
    act(datasite, "ask_changes", request=ids["flu_changed"], comment="Say why.")


def until_done(client: Any, name: str, **arguments: Any) -> dict[str, Any]:
    """Every different answer until a round is over, its tensors as names, shapes, dtypes and sizes in bytes."""
    answers: list[dict[str, Any]] = []
    deadline = time.monotonic() + 100
    while not answers or answers[-1]["status"] == "running":
        assert time.monotonic() < deadline
        answer = call(client, name, dataset="visits", **arguments)
        if not answers or answer["status"] != answers[-1]["status"]:
            answers.append(answer)
        if answer["status"] == "running":
            time.sleep(0.2)
    last = answers[-1]
    if last["release"] is not None:
        shapes = {key: (tuple(each.shape), str(each.dtype), each.nbytes) for key, each in last["release"].items()}
        last["release"] = shapes
    return {"progress": [each["status"] for each in answers], "running": answers[0], "last": last}


def _ended(datasite: DatasiteProcess, client: Any, request: str) -> Any:
    """How a run looks that the owner ended while it read private rows."""
    first = call(client, "flu_ended", weights=initial_weights(), dataset="visits")
    deadline = time.monotonic() + 100
    run: dict[str, Any] = {"status": "reserved"}
    while run["status"] == "reserved":
        assert time.monotonic() < deadline
        time.sleep(0.05)
        run = next(each for each in act(datasite, "runs")["runs"] if each["request"] == request)
    act(datasite, "stop_run", run=run["id"])
    return first, until_done(client, "flu_ended", weights=initial_weights())["last"]


def _as_another_researcher(datasite: DatasiteProcess, seen: dict[str, Any], ids: dict[str, str]) -> None:
    client = login(datasite.url, OTHER, PASSWORD)
    service = client.api.services.datasite
    seen["other describe"] = service.describe()
    seen["other requests"] = service.requests()
    for name in ("request_status", "certificates", "withdraw"):
        seen[f"other {name}"] = refusal(lambda name=name: getattr(service, name)(code=ids["flu_round"]))


def in_the_console(datasite: DatasiteProcess, seen: dict[str, Any]) -> None:
    """Every page that an owner can open."""
    with httpx.Client(base_url=datasite.url, timeout=30) as browser:
        found = re.search(r'name="token" value="([^"]+)"', browser.get("/sign-in").text)
        assert found is not None
        fields = {"token": found[1], "email": OWNER, "password": PASSWORD, "next": "/"}
        signed_in = browser.post("/sign-in", data=fields, headers={"origin": datasite.url})
        assert signed_in.status_code == 303, signed_in.text
        requests = act(datasite, "requests")
        versions = [each["version"] for each in act(datasite, "datasets")["datasets"]]
        for page in PAGES:
            if page.method != "GET" or page.path in KEPT_OUT:
                continue
            for address in _addresses(page.path, requests, versions):
                place = (
                    f"console {page.path} {len([each for each in seen if each.startswith(f'console {page.path} ')])}"
                )
                seen[place] = answered(browser.get(address))


def _addresses(path: str, requests: list[dict[str, Any]], versions: list[str]) -> list[str]:
    """The addresses that a route stands for: every request, version and released round."""
    if "{version}" in path:
        return [path.replace("{version}", each) for each in versions]
    if "{id}" in path:
        wanted = requests if "{round" not in path else [each for each in requests if each["function"] == "flu_round"]
        return [path.replace("{id}", each["id"]).replace("{round:int}", "1") for each in wanted]
    return [re.sub(r"{\w+}", "none", path)]


def by_command(datasite: DatasiteProcess, seen: dict[str, Any], ids: dict[str, str]) -> None:
    """What an owner's commands answer, of the request `flu_round` above all."""
    for action in ("datasets", "requests", "researchers", "releases", "ledger", "runs", "isolation", "policy"):
        seen[f"command {action}"] = act(datasite, action)
    for name, code in ids.items():
        seen[f"command show {name} after"] = act(datasite, "show", request=code)
    seen["command what_if"] = act(datasite, "what_if", request=ids["flu_round"])
    seen["command log"] = act(datasite, "search_log", limit=500)
    seen["command certificate"] = act(datasite, "certificate", request=ids["flu_round"], round_number=1)
    seen["command retire"] = act(datasite, "retire", name="visits")


def answered(answer: httpx.Response) -> tuple[int, dict[str, str], str]:
    """Status, headers and body."""
    headers = {name: value for name, value in answer.headers.items() if name not in UNEQUAL_HEADERS}
    return answer.status_code, headers, answer.text


def refusal(asking: Callable[[], Any]) -> str:
    with pytest.raises(SyftException) as caught:
        asking()
    return str(caught.value)


def refused_call(client: Any, name: str, **arguments: Any) -> str:
    return refusal(lambda: call(client, name, dataset="visits", **arguments))


KINDS = (
    (r"<time [^>]*>[^<]*</time>", "<time>"),  # how long ago, in words
    (r"'loss_after': [\d.e-]+", "'loss_after': <noisy>"),  # of a trial on the mock, whose noise is fresh
    (r"before, [\d.]+ after", "before, <noisy> after"),
    (r"(data-label=\"(?:Smallest|Largest|Norm)\" class=\"num\">)[^<]*", r"\1<noisy>"),  # of what was released
    (r"'(seconds|memory)': [\d.e-]+", r"'\1': <measured>"),
    (r"'shows_in': (None|[\d.]+)", "'shows_in': <time>"),  # until the next multiple of a public time
    (r"in (less than )?[\d.]+ s\. The process held \d+ MB", "in <measured>"),
    (r"\"Took\">[\d.]+ s", '"Took"><measured>'),
    (r"https?://127\.0\.0\.1:\d+", "<address>"),
    (r"<code>[0-9a-f]{24}…", "<code><digest>"),
    (r"\b[0-9a-f]{128}\b", "<signature>"),
    (r"\b[0-9a-f]{64}\b", "<digest>"),
    (r"\b[0-9a-f]{32}\b", "<id>"),
    (r"\b[0-9a-f]{16}\b", "<version>"),
    (r"\b[0-9a-f]{12}\b", "<digest>"),
    (r"\b[0-9a-f]{8}\b", "<id>"),
    (r"(name=\\?\"(?:csrf|token)\\?\" value=\\?\")[^\"\\]+", r"\1<token>"),
    (r"\d{4}-\d\d-\d\d[T ][\d:.,]+(\+00:00|Z)?", "<time>"),
    (r"datetime=\"\d+\.\d+\"", 'datetime="<time>"'),
    (r"\d+ [A-Z][a-z]{2} \d{4}, \d\d:\d\d", "<time>"),
)


def without_what_is_random(value: Any) -> str:
    """A value as text, with identifiers, digests, tokens and times replaced by their kinds."""
    text = repr(value)
    for pattern, kind in KINDS:
        text = re.sub(pattern, kind, text)
    return text


def differences(one: Seen, two: Seen) -> dict[str, str]:
    """The places that differ, and the first difference in each."""
    assert set(one) == set(two)
    return {place: _first_difference(one[place], two[place]) for place in one if one[place] != two[place]}


def _first_difference(one: str, two: str) -> str:
    begin = next((index for index, pair in enumerate(zip(one, two, strict=False)) if pair[0] != pair[1]), 0)
    return f"{one[max(0, begin - 80) : begin + 80]!r} / {two[max(0, begin - 80) : begin + 80]!r}"


@pytest.mark.timeout(900)
def test_everything_but_noise_is_equal_to_the_byte(made_datasite: Path, tmp_path: Path, jobs: Path) -> None:
    with serving(made_datasite, tmp_path, jobs) as (one, two):
        seen = everything_seen(one)
        found = differences(seen, everything_seen(two))
    assert found == {}
    for name in ("flu_round", "flu_scan", "flu_codes", *PARTED):
        assert "'status': 'released'" in str(seen[f"client release {name}"])


@pytest.mark.timeout(900)
def test_each_planted_leak_is_found_where_it_is(made_datasite: Path, tmp_path: Path, jobs: Path) -> None:
    with serving(made_datasite, tmp_path, jobs, program=PROGRAM) as (one, two):
        found = differences(everything_seen(one), everything_seen(two))
    for place in (
        "client mock",
        "client describe",
        "client quote flu_round",
        "client status flu_round",
        "client status flu_denied",
        "client wrong weights",
        "client release flu_round",
        "client release flu_counts",
        "client certificates flu_scores",
        "stranger GET /sign-in",
        "console /requests 0",
        "console /datasets/{version} 0",
        "command datasets",
        "command certificate",
        "log",
    ):
        assert place in found, place
    assert "client too many rounds" not in found  # and nowhere else: the drive itself makes no difference
    assert "command ledger" not in found


def test_nothing_but_a_constructor_chooses_the_noise() -> None:
    """Keys come from the operating system; a constant one stands where the runner warms up on a mock, alone."""
    root = Path(__file__).resolve().parents[2] / "datasites"
    calls = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called.split(".")[-1] == "NoiseSource" or (path.name == "noise.py" and called == "cls"):
                    calls.add((path.name, ast.unparse(node)))
    assert calls == {
        ("warming.py", "NoiseSource(constant)"),
        ("noise.py", "NoiseSource(derived.finalize())"),
        ("noise.py", "cls(os.urandom(KEY_BYTES))"),
    }
    module = ast.parse((root / "jobs" / "warming.py").read_text())
    warming = [each for each in module.body if isinstance(each, ast.FunctionDef) and "constant" in ast.unparse(each)]
    assert [each.name for each in warming] == ["_warm_runner"]
    noise = (root / "engine" / "noise.py").read_text()
    assert not any(word in noise for word in ("environ", "getenv", "settings", "argv"))
