"""Bad values at the edges of the researcher's library and command line: one error of ours, with value and next step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import researcher
from policies.errors import InvalidRequest, Unavailable
from researcher import __main__ as command_line
from researcher import state
from tests.researcher.conftest import TRAINING
from tests.researcher.study_models import FluPredictor

LONG = "x" * 5000
NO_TEXT = "\udcff"
ENTRY = '[[datasites]]\nname = "a"\nurl = "http://127.0.0.1:1"\nemail = "a@b.example"\npassword_file = "password"\n'


WORDS = " ".join(["aardvark"] * 12)
VIA = (
    f'[[datasites]]\nname = "a"\nvia = "coordinator"\nwords = "{WORDS}"\nemail = "a@b.example"\n'
    'password_file = "password"\n'
)
HERE = '[coordinator]\nlisten = "127.0.0.1:1"\ncertificate = "none.pem"\nkey = "none.key"\n'
ELSEWHERE = '[coordinator]\naddress = "c.example:1"\ntoken_file = "password"\n'


# -- connect ---------------------------------------------------------------------------------------------------------

FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "has no [[datasites]] table"),
    "not UTF-8": (b"\xff", "is not text in UTF-8. Save it as that."),
    "not TOML": (b"[[", "is not TOML"),
    "deep": (b"a=" + b"[" * 100_000, "is not TOML"),
    "a number": (b"datasites = 5", "has no [[datasites]] table, or is no list of such"),
    "numbers": (b"datasites = [1]", "has no [[datasites]] table, or is no list of such"),
    "twice": ((ENTRY + ENTRY).encode(), "Two datasites have the same name"),
    "no authority": ((ENTRY + 'ca_file = "none.pem"').encode(), "none.pem cannot be read: No such file"),
    "a key as authority": ((ENTRY + 'ca_file = "password"').encode(), "holds no certificate in PEM form"),
    "a number as authority": ((ENTRY + "ca_file = 5").encode(), "a: ca_file=5 is not a text"),
    "no coordinator": (VIA.encode(), "there is no [coordinator] table"),
    "another way": (VIA.replace("coordinator", "relay").encode(), "a: via='relay' is not known"),
    "two ways": ((VIA + 'url = "http://127.0.0.1:1"').encode(), "a: a datasite has via, or url"),
    "no words": (VIA.replace("words =", "# words =").encode(), "a: words is missing. Ask its owner"),
    "wrong words": (VIA.replace("aardvark", "xyzzy").encode(), "'xyzzy' is no word of a key"),
    "few words": (VIA.replace("aardvark ", "").encode(), "a key has 12 words, and these are 1."),
    "a number as words": (VIA.replace(f'"{WORDS}"', "5").encode(), "a: words=5 is not a text"),
    "no certificate": ((HERE + VIA).encode(), "none.pem cannot be read: No such file"),
    "half a coordinator": ((HERE.replace("key", "# key") + VIA).encode(), "[coordinator]: key is missing"),
    "two coordinators": ((HERE + 'address = "a:1"\n' + VIA).encode(), "listen and address exclude each other"),
    "no port": ((ELSEWHERE.replace(":1", "") + VIA).encode(), "address='c.example' is no host and port"),
    "a short token": ((ELSEWHERE + VIA).encode(), "holds no token of 24 characters or more"),
    "an unknown field": ((ELSEWHERE + "port = 5\n" + VIA).encode(), "[coordinator]: port is not known"),
    "an unknown key": ((ENTRY + "port = 5").encode(), "a: port is not known. Use ca_file"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_network_file_that_cannot_be_used_is_named(tmp_path: Path, name: str) -> None:
    content, said = FILES[name]
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "network.toml").write_bytes(content)
    with pytest.raises(InvalidRequest) as told:
        researcher.connect(tmp_path / "network.toml")
    assert said in str(told.value)


NETWORKS: list[tuple[Any, str]] = [
    (None, "What connect() was given"),
    (5, "What connect() was given"),
    (b"bytes", "What connect() was given"),
    ([], "What connect() was given"),
    ([1], "What connect() was given"),
    ({"url": "https://a.example"}, "What connect() was given"),
    ([{}], "url is missing"),
    ([{"url": "https://a.example", "email": 5}], "email is missing"),
    ([{"url": "https://a.example", "email": "a", "password": 5}], "password_file is missing"),
    ([{"url": "https://a.example", "email": "a", "password": "p", "name": 5}], "name=5 is not a text"),
    ([{"url": "https://a..b", "email": "a", "password": "p"}], "Write https://host:port"),
    ([{"url": f"https://{'a' * 70}.example", "email": "a", "password": "p"}], "Write https://host:port"),
    ([{"url": f"https://{NO_TEXT}.example", "email": "a", "password": "p"}], "Write https://host:port"),
    ([{"url": "https://a.example:99999", "email": "a", "password": "p"}], "Write https://host:port"),
    ([{"url": "https://[::1", "email": "a", "password": "p"}], "Write https://host:port"),
    ("", "cannot be read: Is a directory"),
    (LONG, "cannot be read: File name too long"),
    ("a\0b", "cannot be read: embedded null byte"),
]


@pytest.mark.parametrize(("where", "said"), NETWORKS, ids=range(len(NETWORKS)))
def test_a_network_that_is_none_is_refused(where: Any, said: str) -> None:
    with pytest.raises(InvalidRequest) as told:
        researcher.connect(where)
    assert said in str(told.value)


# -- datasets and statistics -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [5, None, "nope", ["flu"], NO_TEXT])
def test_a_dataset_that_nobody_publishes_is_named(network: Any, name: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"No datasite publishes a dataset .* Published are: general: flu"):
        network.dataset(name)


@pytest.mark.parametrize("datasites", [5, "general", ["nobody"], [5], [["general"]], []])
def test_datasites_that_are_none_are_named(network: Any, datasites: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"is no list of names|No datasite is called|No datasite publishes"):
        network.dataset("flu", datasites=datasites)


@pytest.mark.parametrize("names", [(), (5,), (["general"],), ("nobody",)])
def test_a_cohort_of_nobody_is_refused(network: Any, names: Any) -> None:
    with pytest.raises(InvalidRequest, match="There are general, paediatric, rural"):
        network.dataset("flu").only(*names)


STATISTICS: list[dict[str, Any]] = [
    {},
    {"epsilon": "much", "count": True},
    {"epsilon": float("inf"), "count": True},
    {"mean": 5},
    {"mean": ["age", 5]},
    {"mean": "nope"},
    {"sum": None},
    {"quantiles": ["age"]},
    {"quantiles": {"age": 5}},
    {"quantiles": {"age": "0.5"}},
    {"quantiles": {"age": ["half"]}},
    {"quantiles": {"age": [2.0]}},
    {"quantiles": {5: [0.5]}},
    {"crosstab": ("influenza",)},
    {"crosstab": 5},
    {"crosstab": [5]},
    {"crosstab": ("nope", "influenza")},
    {"count": True, "bins": 0},
    {"count": True, "rounds": "two"},
    {"count": True, "name": 5},
    {"count": True, "purpose": 5},
    {"count": True, "purpose": NO_TEXT},
]


@pytest.mark.parametrize("options", STATISTICS, ids=str)
def test_statistics_that_cannot_be_asked_for_are_refused(network: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        network.dataset("flu").statistics(**{"epsilon": 1.0, **options})


# -- studies and what they keep --------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"seed": -1}, {"seed": 2**80}, {"purpose": NO_TEXT}, {"purpose": "\x1b[2J"}])
def test_a_study_with_a_value_out_of_bounds_is_refused(network: Any, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"seed=.* is outside|The purpose holds characters"):
        researcher.Study("flu", network.dataset("flu"), FluPredictor, TRAINING, **change)


DAMAGED = [b"[", b"\xff", b"[]", b"5", b"[" * 100_000, b'{"requests": 5}', b'{"requests": {"training": 5}}']
CALLS = ("status", "submit", "wait_for_approval", "run", "withdraw")


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_studys_damaged_memory_is_named_and_nothing_is_charged(
    make_study: Any, hospitals: Any, content: bytes
) -> None:
    study = make_study()
    path = study.state.directory / "study.json"
    path.write_bytes(content)
    for call in CALLS:
        with pytest.raises(InvalidRequest, match=r"study\.json is damaged\. Put it back from a copy; or move .* away"):
            getattr(study, call)()
    path.unlink()
    assert len(make_study().run().rounds) == 3  # as the message says
    assert all(len(hospital.charged) == 3 for hospital in hospitals.values())


@pytest.mark.parametrize(
    "name", ["run.json", "rounds/0001.json", "initial.safetensors", "releases/training-rural-001.json"]
)
def test_every_other_damaged_file_of_a_study_is_named_too(make_study: Any, hospitals: Any, name: str) -> None:
    study = make_study()
    study.run()
    (study.state.directory / name).write_bytes(b"{")
    with pytest.raises(InvalidRequest, match=f"{name} is damaged"):
        study.resume()
    assert all(len(hospital.charged) == 3 for hospital in hospitals.values())


def test_a_place_that_cannot_be_written_is_named_before_anything_is_asked(
    make_study: Any, hospitals: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", "/proc/none/here", tmp_path / LONG):
        with pytest.raises(
            Unavailable, match=r"The study's directory .* cannot be used: .* give the study another place"
        ):
            make_study(state=place)
    assert all("submit" not in hospital.calls for hospital in hospitals.values())


def test_a_full_disk_stops_a_study_and_leaves_no_hospital_out(
    make_study: Any, hospitals: Any, monkeypatch: Any
) -> None:
    study, replace, full = make_study(), state.replace_file, True

    def replace_file(path: Path, data: bytes) -> None:
        if full and "releases" in str(path):
            raise OSError(28, "No space left on device", str(path))
        replace(path, data)

    monkeypatch.setattr(state, "replace_file", replace_file)
    with pytest.raises(Unavailable, match=r"No space left on device\. Mend that and resume"):
        study.run()
    full = False
    result = study.resume()
    assert result.missing == {}
    assert all(len(hospital.charged) == 3 for hospital in hospitals.values())


@pytest.mark.parametrize("path", [None, 5, b"bytes", "a\0b", LONG, "none"])
def test_a_result_that_is_none_is_named(path: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"holds no result|is no directory|cannot be read"):
        researcher.load(path)


ASKED: dict[str, tuple[str, tuple[Any, ...]]] = {
    "roc of nobody": ("roc", ("nobody",)),
    "roc of a number": ("roc", (5,)),
    "calibration of nobody": ("calibration", (["rural"],)),
    "confusion of nobody": ("confusion", ("nobody",)),
    "accuracy above 1": ("accuracy", (1.5,)),
    "accuracy at a text": ("accuracy", ("half",)),
    "confusion at none": ("confusion", ("rural", float("nan"))),
}


@pytest.mark.parametrize("name", ASKED)
def test_scores_that_are_not_there_are_named(make_study: Any, name: str) -> None:
    scores = make_study(evaluation=researcher.Evaluation(epsilon=0.5)).run().evaluate()
    method, arguments = ASKED[name]
    with pytest.raises(
        InvalidRequest, match=r"No scores of .* There are those of general|threshold=.* is (outside|not)"
    ):
        getattr(scores, method)(*arguments)


def test_a_statistic_that_is_not_there_is_named(network: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("RESEARCHER_DIR", str(tmp_path))
    study = network.dataset("flu").statistics(count=True, mean="temperature", epsilon=0.4)
    study.submit()
    with pytest.raises(InvalidRequest, match=r"There is no statistic 'sum'\. There are count, mean/temperature\."):
        study.run()["sum"]


class _Failing(FluPredictor):
    def __init__(self) -> None:
        raise ZeroDivisionError("division by zero")


@pytest.mark.parametrize("model", [FluPredictor(), int, "FluPredictor", lambda: FluPredictor(), _Failing])
def test_a_class_of_models_that_is_none_is_named(make_study: Any, model: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"is no class of models\. Give the class|fails with ZeroDivisionError"):
        make_study().run().to_model(model)


@pytest.mark.parametrize("path", [None, 5, "a\0b", LONG, "/proc/none"])
def test_a_place_for_a_result_that_is_none_is_named(make_study: Any, path: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"is no directory\. Name one|cannot be written into"):
        make_study().run().save(path)


@pytest.mark.parametrize("seconds", ["soon", -1, float("nan"), True])
def test_seconds_to_wait_that_are_none_are_refused(make_study: Any, seconds: Any) -> None:
    study = make_study()
    with pytest.raises(InvalidRequest, match=r"timeout=.* Give seconds\."):
        study.wait_for_approval(timeout=seconds)
    assert study.wait_for_approval(timeout=0).rows


@pytest.mark.parametrize("text", [None, 5, "", "  ", NO_TEXT, "\x1b[2J"])
def test_a_comment_that_is_none_is_refused(make_study: Any, text: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"is nothing to read|The comment holds characters"):
        make_study().comment(text)


# -- the command line ------------------------------------------------------------------------------------------------


def _said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    monkeypatch.setattr(sys, "argv", ["researcher", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1, said
    assert said.startswith("Error: ")
    assert said.count("\n") == 1
    return said


STUDIES: dict[bytes, str] = {
    b"\xff": "SyntaxError",
    b"x = 1": "makes 0 studies",
    b"1 / 0": "line 1: ZeroDivisionError: division by zero. Mend the file.",
    b"raise SystemExit(3)": "ended itself with 3 before it had made a study",
    b"import sys; sys.exit('no')": "ended itself with 'no' before",
}


@pytest.mark.parametrize("content", STUDIES, ids=range(len(STUDIES)))
def test_a_file_that_makes_no_study_is_named(monkeypatch: Any, capsys: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "study.py").write_bytes(content)
    assert STUDIES[content] in _said(monkeypatch, capsys, "status", tmp_path / "study.py")


def test_files_that_the_system_refuses_are_named(monkeypatch: Any, capsys: Any, tmp_path: Path) -> None:
    assert "is not a file" in _said(monkeypatch, capsys, "status", tmp_path)
    assert "File name too long" in _said(monkeypatch, capsys, "status", LONG)
    assert "File name too long" in _said(monkeypatch, capsys, "verify", LONG)
    assert "Is a directory" in _said(monkeypatch, capsys, "verify", tmp_path)
    (tmp_path / "a.certificate.json").write_bytes(b"\xff")
    assert "is no certificate: it is not text in UTF-8" in _said(
        monkeypatch, capsys, "verify", tmp_path / "a.certificate.json"
    )
    (tmp_path / "b.certificate.json").write_text("{}")
    (tmp_path / "b.safetensors").mkdir()
    assert "Is a directory" in _said(monkeypatch, capsys, "verify", tmp_path / "b.certificate.json")


def test_a_fault_of_ours_is_one_line_that_tells_how_to_see_more(monkeypatch: Any, capsys: Any, tmp_path: Path) -> None:
    def fail(_: Path) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(command_line, "load_study", fail)
    said = _said(monkeypatch, capsys, "status", tmp_path)
    assert "failed inside (KeyError), a fault of the software. With RESEARCHER_TRACEBACK=1 before the command" in said
    assert "secret" not in said
    monkeypatch.setenv("RESEARCHER_TRACEBACK", "1")
    with pytest.raises(KeyError):
        command_line.main()
