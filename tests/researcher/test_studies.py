"""A study checks before it asks, asks once, and tells what the owners decided."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import torch
from numpy import testing  # at its import it starts a program, which no quick test may

import researcher
from policies.errors import GraphRefused, InspectionFailed, InvalidRequest, RuleBroken, Unavailable, WrongStatus
from researcher.checks import Request, check_source
from researcher.sources import request_source
from tests.researcher.conftest import TRAINING
from tests.researcher.fake_datasites import FakeDatasite
from tests.researcher.study_models import FluPredictor


def test_check_shows_the_cost_at_every_hospital_and_asks_nothing(make_study, hospitals):
    check = make_study(submit=False, evaluation=researcher.Evaluation(epsilon=0.5)).check()
    assert len(check.rows) == 6  # three hospitals, training and evaluation
    assert {row["ε"] for row in check.rows} == {2.0}
    assert "flu_2026_evaluation" in str(check)
    assert check.findings == ()
    for hospital in hospitals.values():
        assert "submit" not in hospital.calls


def test_a_check_says_which_engine_runs_the_model_where(make_study, hospitals):
    assert make_study(submit=False).check().engines == ()  # of datasites that say nothing of it
    for hospital in hospitals.values():
        hospital.engine = {"lanes": True, "why": ""}
    hospitals["rural"].engine = {"lanes": False, "why": "It uses <b>sort</b>: 300 numbers."}
    check = make_study(submit=False).check()
    slow = "rural: flu_2026 trains record by record, which is slower. It uses <b>sort</b>: 300 numbers."
    assert len(check.engines) == 2
    assert slow in check.engines
    assert slow in str(check)
    assert next(line for line in check.engines if line != slow).endswith(
        ": flu_2026 trains in lanes: one record in each lane of the processor's vectors."
    )
    assert "It uses &lt;b&gt;sort" in check._repr_html_()
    for said, once in ((True, True), ("yes", False), (None, False)):
        for hospital in hospitals.values():
            hospital.engine = {"lanes": True, "why": "", "once": said}
        (line,) = make_study(submit=False).check().engines
        assert line.endswith("is computed once a round, and not at each step.") == once


def test_a_check_says_what_is_nothing_at_hospitals(make_study, network):
    assert make_study(submit=False).check().notes == ()
    model = torch.nn.Sequential(
        torch.nn.Linear(10, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1), torch.nn.Sigmoid()
    )
    check = researcher.Study("dropped", network.dataset("flu"), model, TRAINING).check()
    (note,) = check.notes
    assert note.startswith("dropped: line ")
    assert "Dropout is nothing here: the noise of DP-SGD regularises already." in note
    assert note in str(check)


def test_nothing_leaves_for_a_hospital_when_the_local_inspection_refuses(make_study, hospitals, monkeypatch):
    def refuse(source):
        raise InspectionFailed("line 3: not allowed")

    monkeypatch.setattr("researcher.code_requests.inspect_source", refuse)
    with pytest.raises(InspectionFailed):
        make_study()
    assert all("quote" not in each.calls and "submit" not in each.calls for each in hospitals.values())


def test_hospitals_say_what_it_costs_while_the_model_is_exported_here(make_study, hospitals, monkeypatch):
    """Side by side: the export waits here until every hospital was asked for a quote of each request."""
    asked = threading.Barrier(2 * len(hospitals) + 1, timeout=10)
    quote = FakeDatasite.quote

    def waiting(self, *arguments):
        asked.wait()
        return quote(self, *arguments)

    exported = []

    def export(request, cohort):
        if not exported:
            asked.wait()
        exported.append(request.role)

    monkeypatch.setattr(FakeDatasite, "quote", waiting)
    monkeypatch.setattr("researcher.code_requests.check_source", export)
    study = make_study(submit=False, evaluation=researcher.Evaluation(epsilon=0.5))
    assert len(study.check().rows) == 2 * len(hospitals)
    assert exported == ["training", "evaluation"]


def test_a_model_that_cannot_be_exported_is_refused_without_waiting_for_hospitals(make_study, monkeypatch):
    ended = threading.Event()

    def refuse(request, cohort):
        raise GraphRefused("Its layer mixes records.")

    monkeypatch.setattr(FakeDatasite, "quote", lambda self, *arguments: ended.wait(20))
    monkeypatch.setattr("researcher.code_requests.check_source", refuse)
    began = time.monotonic()
    try:
        with pytest.raises(GraphRefused, match="mixes records"):
            make_study(submit=False).check()
        assert time.monotonic() - began < 10
    finally:
        ended.set()


def test_a_hospital_whose_rules_forbid_it_is_not_asked_and_the_reason_is_shown(make_study, hospitals):
    hospitals["rural"].findings = [{"line": 0, "why": "ε=2 is above this hospital's 1.", "instead": ""}]
    study = make_study()
    assert "submit" not in hospitals["rural"].calls
    assert study.check().findings == ("rural: ε=2 is above this hospital's 1.",)


def test_when_no_hospital_would_take_it_nothing_is_asked(make_study, hospitals):
    for hospital in hospitals.values():
        hospital.short = 1.5
    with pytest.raises(RuleBroken, match=r"Nothing was asked\. general: flu_2026: it is ε=1\.5 short"):
        make_study()


def test_submitting_again_asks_nobody_twice(make_study, hospitals):
    study = make_study()
    study.submit()
    assert [each.calls.count("submit") for each in hospitals.values()] == [1, 1, 1]


def test_a_study_whose_directory_was_lost_finds_its_requests_again(make_study, hospitals, tmp_path):
    make_study()
    again = make_study(state=tmp_path / "elsewhere")
    assert [each.calls.count("submit") for each in hospitals.values()] == [1, 1, 1]
    assert len(again.run().rounds) == 3


def test_another_source_under_the_same_name_is_refused(make_study):
    make_study()
    with pytest.raises(WrongStatus, match="another name"):
        make_study(training=replace(TRAINING, steps=5))


def test_waiting_ends_with_the_owners_words_when_nobody_approved(make_study, hospitals):
    for name, hospital in hospitals.items():
        hospital.answer_to_submit = "denied"
        hospital.decided_with[f"{name}-0"] = f"Not at {name}."
    with pytest.raises(WrongStatus, match=r"rural: denied Not at rural\."):
        make_study()


def test_waiting_names_who_has_not_decided(make_study, hospitals):
    hospitals["rural"].answer_to_submit = "checked"
    study = make_study(submit=False)
    study.submit()
    with pytest.raises(Unavailable, match=r"rural \(training: checked\)"):
        study.wait_for_approval(timeout=0.01)


def test_running_before_the_owner_decides_says_whom_it_waits_for(make_study, hospitals):
    for hospital in hospitals.values():
        hospital.answer_to_submit = "checked"
    study = make_study(submit=False)
    study.submit()
    with pytest.raises(
        Unavailable, match=r"rural: its owner has not decided yet\. Call study\.resume\(\) when they can"
    ):
        study.run()


def test_a_check_says_why_a_hospital_is_not_asked_and_a_finding_once(make_study, hospitals):
    hospitals["rural"].short = 1.5
    hospitals["general"].findings = [{"line": 7, "why": "Not allowed.", "instead": "Leave it out."}] * 2
    shown = str(make_study(submit=False).check())
    assert "rural: flu_2026: it is ε=1.5 short of the hospital's budget." in shown
    assert shown.count("general: line 7: Not allowed. Leave it out.") == 1


def test_a_model_for_other_inputs_is_told_the_shape_of_a_record(network):
    source = request_source("wide", TRAINING, model=FluPredictor)  # of ten inputs; the cohort's records have two
    with pytest.raises(GraphRefused, match=r"forward gets one record, of shape \(1, 2\)"):
        check_source(Request("training", "wide", source, TRAINING), network.dataset("flu"))


def test_running_before_submitting_is_refused_with_what_to_do(make_study):
    study = make_study(submit=False)
    with pytest.raises(WrongStatus, match=r"submit\(\) and wait_for_approval\(\)"):
        study.run()
    with pytest.raises(WrongStatus, match="nothing to resume"):
        study.resume()
    with pytest.raises(WrongStatus, match="Call submit"):
        study.wait_for_approval()


def test_a_request_that_is_revoked_during_a_study_is_named_with_its_owners_reason(make_study, hospitals):
    rural = hospitals["rural"]
    ask = rural.run

    def revoked_in_round_two(code, asset, weights, round):
        if round == 2:
            rural.statuses[code], rural.decided_with[code] = "revoked", "Our patients' board said no."
        return ask(code, asset, weights, round)

    rural.run = revoked_in_round_two
    result = make_study().run()
    assert result.missing == {"rural": dict.fromkeys((2, 3), "revoked. Our patients' board said no.")}


def test_an_evaluation_that_nobody_approved_uses_none_of_its_rounds(make_study, hospitals):
    study = make_study(evaluation=researcher.Evaluation(epsilon=0.5, rounds=1))
    result = study.run()
    for name, hospital in hospitals.items():
        hospital.statuses[f"{name}-1"], hospital.decided_with[f"{name}-1"] = "denied", f"Not at {name}."
    with pytest.raises(Unavailable, match=r"rural: denied\. Not at rural\."):
        result.evaluate()
    hospitals["rural"].statuses["rural-1"] = "approved"
    other = {name: value + 1 for name, value in result.weights.items()}
    assert set(study.evaluate(other).hospitals) == {"rural"}


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: {name: value for name, value in weights.items() if name != "output.bias"},
        lambda weights: {**weights, "more": weights["output.bias"]},
        lambda weights: {**weights, "output.bias": weights["output.bias"].repeat(2)},
        lambda weights: {**weights, "output.bias": weights["output.bias"] * float("nan")},
        lambda weights: {**weights, "output.bias": "large"},
        lambda weights: [*weights.values()],
        lambda weights: "weights",
    ],
)
def test_weights_of_another_model_are_refused_before_an_evaluation_is_used_up(make_study, hospitals, change):
    study = make_study(evaluation=researcher.Evaluation(epsilon=0.5, rounds=1))
    weights = dict(study.run().weights)
    charged = [list(hospital.charged) for hospital in hospitals.values()]
    with pytest.raises(InvalidRequest, match=r"Give result\.weights"):
        study.evaluate(change(weights))
    assert [hospital.charged for hospital in hospitals.values()] == charged
    assert study.evaluate(weights).hospitals


@pytest.mark.parametrize("number", [0, 2, -1, 1.0, True, "1", None])
def test_a_round_of_statistics_that_was_not_asked_for_is_refused(network, hospitals, tmp_path, monkeypatch, number):
    monkeypatch.setenv("RESEARCHER_DIR", str(tmp_path))
    study = network.dataset("flu").statistics(count=True, epsilon=0.4)
    with pytest.raises(InvalidRequest, match=r"round=.* is not from 1 to 1"):
        study.run(round=number)
    with pytest.raises(WrongStatus, match=r"not submitted yet\. Call submit"):
        study.run()


@pytest.mark.parametrize(
    "change",
    [
        {"name": 5},
        {"name": ""},
        {"name": "2026"},
        {"cohort": "flu"},
        {"cohort": None},
        {"training": {"rounds": 3}},
        {"training": None},
        {"evaluation": 0.5},
        {"seed": "one"},
        {"seed": None},
        {"purpose": None},
        {"state": 7},
        {"model": "FluPredictor"},
    ],
)
def test_a_study_of_the_wrong_kind_of_thing_says_what_to_give(network, tmp_path, change):
    values = {"name": "flu", "cohort": network.dataset("flu"), "model": FluPredictor, "training": TRAINING} | change
    with pytest.raises(InvalidRequest, match=r"Give|Begin with a letter"):
        researcher.Study(
            values.pop("name"), values.pop("cohort"), values.pop("model"), values.pop("training"), **values
        )


def test_withdrawing_closes_every_request(make_study, hospitals):
    table = make_study().withdraw()
    assert {row["status"] for row in table.rows} == {"withdrawn"}


def test_a_model_that_is_made_is_as_good_as_its_class(make_study, network):
    of_class = researcher.Study("x", network.dataset("flu"), FluPredictor, TRAINING)
    model = FluPredictor()
    made = researcher.Study("x", network.dataset("flu"), model, TRAINING)
    assert [request.source for request in made.requests.requests] == [
        request.source for request in of_class.requests.requests
    ]
    assert made.new_model() is not model
    for name, parameter in made.new_model().named_parameters():  # round 1 begins with its weights
        assert parameter.equal(model.get_parameter(name))


def test_what_is_no_model_is_refused(make_study, network):
    with pytest.raises(InvalidRequest, match="The model is str"):
        researcher.Study("x", network.dataset("flu"), "FluPredictor", TRAINING)


def test_evaluation_uses_one_round_per_model_and_asks_again_for_free(make_study, hospitals):
    study = make_study(evaluation=researcher.Evaluation(epsilon=0.5, rounds=1))
    result = study.run()
    first = result.evaluate()
    # Scores rise with the positives' share: 20 bins of 100 - b against b, so the AUC is well above 1/2.
    assert set(first.auc) == {"general", "paediatric", "rural", "combined"}
    assert first.auc["combined"].value > 0.7
    charged = sum(len(each.charged) for each in hospitals.values())
    result.evaluate()
    assert sum(len(each.charged) for each in hospitals.values()) == charged
    with pytest.raises(WrongStatus, match="All 1 approved evaluations"):
        study.evaluate({name: value + 1 for name, value in result.weights.items()})


def test_statistics_are_a_study_too(network, hospitals, tmp_path, monkeypatch):
    monkeypatch.setenv("RESEARCHER_DIR", str(tmp_path))
    hospitals["rural"].answer_to_submit = "denied"
    study = network.dataset("flu").statistics(count=True, mean="temperature", epsilon=0.4)
    study.progress = type(study.progress)(shown=False)
    study.check()
    study.submit()
    study.wait_for_approval(timeout=5)
    result = study.run()
    assert result["count"].value == 3000  # 1000 at the general, 2000 at the paediatric hospital
    assert result.hospitals["paediatric"]["mean/temperature"].value == 38.0
    assert result.missing["rural"].startswith("denied")
    assert "ε=0.4 was charged at each hospital" in str(result)
    charged = len(hospitals["general"].charged)
    hospitals["general"].down = True  # what it has released is kept here
    assert study.run()["count"].value == 3000
    assert len(hospitals["general"].charged) == charged


def test_a_result_comes_back_from_disk_with_model_releases_and_certificates(make_study, tmp_path):
    import torch

    result = make_study().run()
    directory = result.save(tmp_path / "saved")
    again = researcher.load(directory)
    for name in result.weights:
        testing.assert_array_equal(result.weights[name], again.weights[name])
    assert [each.certificate for each in again.releases] == [each.certificate for each in result.releases]
    assert again.rounds == result.rounds
    record = torch.zeros(1, 10)
    torch.testing.assert_close(again.to_model(FluPredictor)(record), result.to_model()(record))
    with pytest.raises(InvalidRequest, match="give the class"):
        again.to_model()


def test_a_result_comes_back_from_disk_with_its_evaluation(make_study, hospitals, tmp_path):
    result = make_study(evaluation=researcher.Evaluation(epsilon=0.5)).run()
    assert researcher.load(result.save(tmp_path / "before")).evaluation is None
    hospitals["rural"].down = True
    evaluation = result.evaluate(grace=0.01)
    again = researcher.load(result.save(tmp_path / "saved")).evaluation
    assert again is not None
    assert str(again) == str(evaluation)
    assert again.mechanism == evaluation.mechanism
    assert again.auc["combined"] == evaluation.auc["combined"]
    assert "connection refused" in again.missing["rural"]
    assert len(researcher.load(tmp_path / "saved").plot().axes) == 2


def _damaged(directory, name, change):
    path = directory / name
    path.write_text(change(path.read_text())) if name.endswith(".json") else path.write_bytes(b"none")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("result.json", lambda text: text[: len(text) // 2]),
        ("result.json", lambda text: "[" * 100_000),
        ("result.json", lambda text: "[]"),
        ("result.json", lambda text: "{}"),
        ("result.json", lambda text: text.replace('"role": "training"', '"role": "../../training"')),
        ("result.json", lambda text: text.replace('"bins": 20', '"bins": 21')),
        ("result.json", lambda text: text.replace('"epsilon": 0.5', '"epsilon": "much"')),
        ("result.json", lambda text: text.replace('"round": 1,', '"turn": 1,')),
        ("weights.safetensors", None),
        ("releases/training-rural-001.safetensors", None),
    ],
)
def test_a_damaged_result_is_named_in_one_sentence_with_how_to_get_it_again(make_study, tmp_path, name, change):
    result = make_study(evaluation=researcher.Evaluation(epsilon=0.5)).run()
    result.evaluate()
    directory = result.save(tmp_path / "saved")
    _damaged(directory, name, change)
    with pytest.raises(InvalidRequest, match=r"^The result in .* is damaged \(.*\)\. Save it again: study\.resume\(\)"):
        researcher.load(directory)


def test_a_result_that_cannot_be_written_names_the_directory(make_study, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest, match=r"cannot be written into .*file: Not a directory|File exists"):
        make_study().run().save(tmp_path / "file")


def test_a_notebook_shows_the_picture_of_a_result(make_study):
    from IPython.core.formatters import DisplayFormatter

    shown, _ = DisplayFormatter().format(make_study().run().plot())
    assert shown["image/png"].startswith(b"\x89PNG")


def test_a_notebooks_table_keeps_the_underscores_of_names(make_study):
    """Its page is read as Markdown, then as HTML, then searched for mathematics."""
    from html.parser import HTMLParser

    from markdown_it import MarkdownIt

    text: list[str] = []
    reader = HTMLParser()
    reader.handle_data = text.append
    reader.feed(MarkdownIt("commonmark", {"html": True}).render(make_study().status()._repr_html_()))
    assert "flu_2026" in text


def test_a_result_plots_who_took_part_and_roc_curves(make_study):
    result = make_study(evaluation=researcher.Evaluation(epsilon=0.5)).run()
    assert len(result.plot().axes) == 1
    result.evaluate()
    figure = result.plot()
    assert [axes.get_title() for axes in figure.axes] == ["Who took part", "ROC on the hold-outs, as released"]


def test_the_study_directory_is_private_and_holds_no_password(make_study):
    study = make_study()
    study.run()
    assert study.state.directory.stat().st_mode & 0o777 == 0o700
    assert not list(study.state.directory.rglob("*.draft"))


def test_a_comment_reaches_every_hospital_and_is_read_back(make_study, hospitals):
    study = make_study()
    told = study.comment("The protocol is attached.")
    assert len(told.rows) == len(hospitals)
    assert {row["from"] for row in told.rows} == {"researcher"}
    hospitals["rural"].written["rural-0"].append({"at": "2026-11-25T21:00:00", "from": "data owner", "text": "Thanks."})
    assert [row["comment"] for row in study.comments().rows if row["hospital"] == "rural"][-1] == "Thanks."


def test_a_hospital_that_does_not_answer_is_named_and_the_others_have_the_comment(make_study, hospitals):
    study = make_study()
    hospitals["rural"].down = True
    with pytest.raises(Unavailable, match="rural"):
        study.comment("Are you there?")
    assert all("comment" in each.calls for each in hospitals.values())
    assert any("rural does not answer" in row["comment"] for row in study.comments().rows)


def test_a_study_is_submitted_under_a_project_everywhere(make_study, hospitals):
    make_study(submit=False).submit(project="Flu 2026")
    assert {project for hospital in hospitals.values() for project in hospital.projects} == {"Flu 2026"}


def test_a_project_is_named_as_text(make_study):
    with pytest.raises(InvalidRequest, match="name of a project"):
        make_study(submit=False).submit(project=7)


def test_a_training_by_epochs_is_declared_for_the_published_sizes(make_study, hospitals):
    by_epochs = researcher.Training(
        loss="BCELoss", epochs=2, batch_size=80, max_grad_norm=1.0, lr=0.5, target_epsilon=2.0
    )
    study = make_study(submit=False, training=by_epochs)
    # 800 of 1,000 patients train at the smallest hospital: a tenth of them a step, ten steps a pass, a pass a round.
    assert (study.training.sampling_rate, study.training.steps, study.training.rounds) == (0.1, 10, 2)
    assert "sampling_rate=0.1" in study.sources["training"]
