"""Results of a study of a model: the joint model, its rounds, releases and certificates, and its scores.

Everything here is made of releases, so keeping, plotting and sharing it costs no budget.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from policies.errors import DatasiteError, InvalidRequest, Unavailable, WrongStatus
from policies.privacy.mechanisms import DPSGD, Evaluation, as_dict, check_range, mechanism_from
from policies.privacy.outcomes import Outcome
from policies.release.tensors import digest, from_bytes, to_bytes
from policies.schema.schemas import Schema
from researcher import scores as score_figures
from researcher.averaging import check_average
from researcher.code_requests import CodeRequests
from researcher.curves import LearningCurve, Point
from researcher.exports import export, is_export, unpacked
from researcher.figures import Estimate
from researcher.members import Hospitals
from researcher.opened_sums import FOLDER as SUMS
from researcher.opened_sums import (
    Opening,
    aggregate_of,
    begun_file,
    check_aggregate,
    check_summed,
    masked_of,
    name_of,
    openings_of,
    saved_openings,
)
from researcher.outcome_figures import ClassScores, Groups
from researcher.outcome_results import (
    OutcomeResult,
    frame_of,
    group_table,
    groups_of,
    hospitals_of,
    in_units,
    summed_as_data,
)
from researcher.parameters import load_parameters
from researcher.releases import Answers
from researcher.rosters import in_a_sum
from researcher.state import ROLES, Release, StudyState, Tensors, replace_file
from researcher.table import Table
from researcher.traffic import bytes_of

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from researcher.federated import RoundRecord
    from researcher.plots import Picture


@dataclass(frozen=True)
class EvaluationResult:
    """A model's scores on the hold-outs, per hospital and combined, with uncertainty.

    Args:
      hospitals: score histograms as released, by hospital.
      releases: what they came in, with certificates.
      missing: hospitals that did not answer, with the reason.
      classes: labels of the target.
      mechanism: as it was approved and has run.
      subgroups: the groups of each declared subgroup.
      schema: of the dataset, where there are subgroups.
      summed: the opened tables, where hospitals can be read in their sum alone: then that is the one in `hospitals`.
    """

    hospitals: Mapping[str, score_figures.Scores]
    releases: tuple[Release, ...]
    missing: Mapping[str, str]
    classes: tuple[str, ...]
    mechanism: Evaluation
    subgroups: Groups = field(default_factory=dict)
    schema: Schema | None = None
    summed: Tensors = field(default_factory=dict)

    @property
    def subgroup_table(self) -> Table:
        """One row per group of each subgroup, hospitals combined."""
        return group_table(self.subgroups)

    def to_frame(self) -> pd.DataFrame:
        """Every figure of every hospital and group as a row of numbers, with its 95 % interval."""
        return frame_of({name: ClassScores(scores) for name, scores in self._all().items()}, self.subgroups)

    @property
    def combined(self) -> score_figures.Scores:
        """All hospitals' held-out patients in one histogram."""
        return score_figures.combine_scores(self.hospitals.values())

    @property
    def auc(self) -> dict[str, Estimate]:
        """Area under the ROC curve, by hospital and `"combined"`; for two classes.

        A hospital with patients of one class has none, which its note says, and is left out of what is combined.
        """
        alone = {name: score_figures.auc(scores) for name, scores in self.hospitals.items()}
        return alone | {"combined": score_figures.joint_auc(self.hospitals)}

    def figure(self, name: str) -> dict[str, Estimate]:
        """`"AUC"`, of two classes, or `"accuracy"`, by hospital and `"combined"`. Raises `InvalidRequest`."""
        if name == "AUC" and len(self.classes) == 2:
            return self.auc
        if name == "accuracy":
            return {who: found.estimate for who, found in self.accuracy().items()}
        raise InvalidRequest(f"No figure {name!r} is of {self.mechanism.loss}. There are AUC and accuracy.")

    def roc(self, hospital: str = "combined") -> score_figures.Roc:
        """The ROC curve of one hospital, or of all."""
        return score_figures.roc(self._of(hospital))

    def accuracy(self, threshold: float = 0.5) -> dict[str, score_figures.Accuracy]:
        """Share called right at a threshold in [0, 1], by hospital and `"combined"`."""
        check_range("threshold", threshold, 0, 1)
        return {name: score_figures.accuracy(scores, threshold) for name, scores in self._all().items()}

    def calibration(self, hospital: str = "combined") -> score_figures.Calibration:
        """Observed against predicted of one hospital, or of all."""
        return score_figures.calibration(self._of(hospital))

    def confusion(self, hospital: str = "combined", threshold: float = 0.5) -> score_figures.Confusion:
        """Numbers of patients by true and predicted class, at a threshold in [0, 1]."""
        check_range("threshold", threshold, 0, 1)
        return score_figures.confusion(self._of(hospital), self.classes, threshold)

    @property
    def table(self) -> Table:
        """One row per hospital, and one for all."""
        areas = self.auc if len(self.classes) == 2 else {}
        rows = []
        for name, scores in self._all().items():
            row: dict[str, Any] = {"hospital": name, "held-out patients": str(scores.patients)}
            if areas:
                row["AUC"] = str(areas[name])
            rows.append(row | {"accuracy": str(score_figures.accuracy(scores).estimate)})
        return Table(rows + [{"hospital": name, "accuracy": reason} for name, reason in self.missing.items()])

    def plot(self) -> Picture:
        """A figure that a notebook shows: ROC curves and calibration where there are two classes, else accuracy."""
        from researcher.plots import picture_of_scores

        if len(self.classes) != 2:
            return picture_of_scores({}, None, {name: found.estimate for name, found in self.accuracy().items()})
        return picture_of_scores({name: self.roc(name) for name in self._all()}, self.calibration(), self.auc)

    def report(self, path: str | Path) -> Path:
        """Write the scores as one HTML page of its own. Raises `InvalidRequest` where it cannot be written."""
        from researcher.report import evaluation_page
        from researcher.report_parts import write_page

        made = evaluation_page("Evaluation", self.sections(), releases=self.releases, missing=self.missing)
        return write_page(path, made)

    def sections(self) -> list[str]:
        """Parts of a page: figures, curves and calibration, and figures by group where subgroups were asked."""
        from researcher.report import score_sections

        groups = score_sections(self.subgroup_table.rows, {}, {}, None) if self.subgroups else []
        if len(self.classes) != 2:
            return score_sections(self.table.rows, {}, {}, None) + groups
        curves = {name: self.roc(name) for name in self._all()}
        return score_sections(self.table.rows, self.auc, curves, self.calibration()) + groups

    def about(self) -> dict[str, Any]:
        """Plain data, from which and from its releases it can be made again."""
        return {
            "mechanism": as_dict(self.mechanism),
            "releases": [release.stem for release in self.releases],
            "missing": dict(self.missing),
            **({"schema": self.schema.as_dict()} if self.schema is not None else {}),
            **summed_as_data(self.summed),
        }

    def _of(self, hospital: str) -> score_figures.Scores:
        known = self._all()
        if not isinstance(hospital, str) or hospital not in known:
            raise InvalidRequest(f"No scores of {hospital!r} are here. There are those of {', '.join(known)}.")
        return known[hospital]

    def _all(self) -> dict[str, score_figures.Scores]:
        return dict(self.hospitals) | {"combined": self.combined}

    def __str__(self) -> str:
        return str(self.table) + (f"\n{self.subgroup_table}" if self.subgroups else "")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table._repr_html_() + (self.subgroup_table._repr_html_() if self.subgroups else "")


class Trained(Protocol):
    """The study that a result came from, as `researcher.studies.Study` is."""

    name: str
    cohort: Hospitals
    training: DPSGD
    state: StudyState
    requests: CodeRequests

    def new_model(self, weights: Tensors | None = None) -> nn.Module: ...
    def evaluate(
        self, weights: Tensors | None = None, *, deadline: float = ..., grace: float = ...
    ) -> EvaluationResult | OutcomeResult: ...


@dataclass
class Result:
    """A jointly trained model and all that it came from.

    Args:
      name: of the study.
      weights: the last aggregate, or the average of the last ones, by parameter name; float32.
      rounds: whose releases went into each, and why others are missing.
      releases: every release of the study, each with its certificate.
      classes: labels of the target.
      study: which made it; None where it was loaded from disk.
      constants: the model's other parameters: frozen ones, and local ones as they began at each hospital.
      averaged: aggregates that `weights` are the average of, by the round that each came out of; empty where they are
        the last aggregate alone.
      curve: the model's scores after every so many rounds, where the study asked for them.
      ended: why training ended before its last round; "" where it did not.
      openings: what opens each sum of masked releases again (`researcher.opened_sums`), by role and round.
      begun: what the last round began with, where hospitals can be read in their mean alone and the last aggregate is
        found from it again; else empty.
    """

    name: str
    weights: Tensors
    rounds: Sequence[RoundRecord]
    releases: tuple[Release, ...]
    classes: tuple[str, ...] = ()
    study: Trained | None = None
    evaluation: EvaluationResult | OutcomeResult | None = field(default=None, repr=False)
    constants: Tensors = field(default_factory=dict)
    averaged: Mapping[int, Tensors] = field(default_factory=dict, repr=False)
    curve: LearningCurve | None = field(default=None, repr=False)
    ended: str = ""
    openings: Mapping[str, Opening] = field(default_factory=dict, repr=False)
    begun: Tensors = field(default_factory=dict, repr=False)

    @property
    def certificates(self) -> list[dict[str, Any]]:
        """Every release's certificate, read."""
        return [json.loads(release.certificate) for release in self.releases]

    @property
    def missing(self) -> dict[str, dict[int, str]]:
        """Hospitals that were left out: why, by hospital and round."""
        reasons: dict[str, dict[int, str]] = {}
        for record in self.rounds:
            for name, reason in record.missing.items():
                reasons.setdefault(name, {})[record.round] = reason
        return reasons

    @property
    def table(self) -> Table:
        """One row per hospital: rounds that it took part in, and why it is missing from the others."""
        names = sorted({name for record in self.rounds for name in [*record.answered, *record.missing]})
        rows = []
        for name in names:
            took = [record.round for record in self.rounds if name in record.answered]
            late = sum(name in record.late for record in self.rounds)
            seconds = sum(record.answered[name] for record in self.rounds if name in record.answered)
            why = "; ".join(f"round {number}: {reason}" for number, reason in self.missing.get(name, {}).items())
            rows.append(
                {
                    "hospital": name,
                    "rounds": f"{len(took)}/{len(self.rounds)}" + (f", {late} late" if late else ""),
                    "seconds": seconds,
                    "sent": bytes_of(name, [record.sent_bytes for record in self.rounds]),
                    "received": bytes_of(name, [record.received_bytes for record in self.rounds]),
                    "missing": why,
                }
            )
        return Table(rows)

    def to_model(self, model: type[nn.Module] | None = None) -> nn.Module:
        """The torch model with the joint weights, ready to predict.

        Args:
          model: its class, where the result was loaded from disk.
        """
        if model is None and self.study is None:
            raise InvalidRequest("This result was loaded from disk: give the class, as result.to_model(FluPredictor).")
        trained = self.study.new_model() if model is None and self.study else _made(model)
        load_parameters(trained, {**self.weights, **self.constants})
        return trained.eval()

    def in_units(self, outputs: Any) -> np.ndarray[Any, Any]:
        """What outputs of the model [N, outputs] say, in units that people read.

        Of a number its value in the target's units, of a count its rate; the chance of each class or label; of a time
        the chance of no event by each interval's end.
        """
        if self.study is None:
            raise WrongStatus(
                "This result was loaded from disk, without its study's loss. Ask study.run(), at no cost."
            )
        detached = outputs.detach().numpy() if hasattr(outputs, "detach") else outputs
        return in_units(detached, self.study.training, self.study.cohort.schema)

    def evaluate(self, **options: Any) -> EvaluationResult | OutcomeResult:
        """Score the joint model on the hold-out of every hospital that approved the evaluation; charged there."""
        if self.study is None:
            raise WrongStatus("This result was loaded from disk: evaluate it with study.evaluate(result.weights).")
        self.evaluation = self.study.evaluate(self.weights, **options)
        self.releases = tuple(self.study.state.releases())
        self.openings = openings_of(self.study.state, self.releases)
        return self.evaluation

    def save(self, path: str | Path) -> Path:
        """Write weights, releases and certificates into the directory `path`; `researcher.load` reads it.

        A name that ends with `.safetensors` gets all of the model's weights, one with `.onnx` the model itself, which
        needs the package `onnx`, one with `.md` a model card, and one with `.zip` a bundle of everything, which
        `researcher.load` reads too.

        Each certificate lies beside the release that it certifies, where `researcher verify` looks for it.
        """
        if not isinstance(path, (str, Path)):
            raise InvalidRequest(f"{path!r} is no directory. Name one, as result.save('flu-2026').")
        if is_export(Path(path)):
            return export(self, Path(path))
        directory, releases = Path(path), self._releases()
        about: dict[str, Any] = {
            "schema_version": 1,
            "name": self.name,
            "classes": list(self.classes),
            "rounds": [record.as_dict() for record in self.rounds],
            "releases": [release.about() for release in releases],
            "evaluation": self.evaluation.about() if self.evaluation else None,
            **({"curve": self.curve.about()} if self.curve else {}),
            **({"ended": self.ended} if self.ended else {}),
        }
        if self.averaged:
            about["averaged"] = sorted(self.averaged)
        try:
            (directory / "releases").mkdir(parents=True, exist_ok=True)
            for number, aggregate in self.averaged.items():
                (directory / "averaged").mkdir(exist_ok=True)
                replace_file(_aggregate(directory, number), to_bytes(aggregate))
            replace_file(directory / "weights.safetensors", to_bytes(self.weights))
            if self.constants:
                replace_file(directory / "constants.safetensors", to_bytes(self.constants))
            for release in releases:
                stem = f"releases/{release.stem}"
                replace_file(directory / f"{stem}.safetensors", to_bytes(release.tensors))
                replace_file(directory / f"{stem}.certificate.json", release.certificate.encode())
            for name, opening in self.openings.items():
                (directory / SUMS).mkdir(exist_ok=True)
                replace_file(directory / SUMS / f"{name}.json", (json.dumps(opening) + "\n").encode())
            if self.begun:
                replace_file(begun_file(directory, self.rounds[-1].round), to_bytes(self.begun))
            replace_file(directory / "result.json", (json.dumps(about, indent=2) + "\n").encode())
        except (OSError, ValueError) as error:  # of a path with a null character
            error = error if isinstance(error, OSError) else OSError(0, str(error))
            raise InvalidRequest(
                f"The result cannot be written into {directory}: {error.strerror}. Name another directory."
            ) from None
        return directory

    def _releases(self) -> list[Release]:
        """The study's releases, with those of an evaluation that this result was given."""
        known = {release.stem: release for release in self.releases}
        return list((known | {release.stem: release for release in self._scored()}).values())

    def _scored(self) -> tuple[Release, ...]:
        return self.evaluation.releases if self.evaluation else ()

    def plot(self) -> Picture:
        """A figure that a notebook shows: who took part in each round, the learning curve and ROC curves it has."""
        from researcher.plots import picture_of

        scored = self.evaluation
        evaluated = scored if isinstance(scored, EvaluationResult) and len(scored.classes) == 2 else None
        names = [*evaluated.hospitals, "combined"] if evaluated else []
        curves = {name: evaluated.roc(name) for name in names} if evaluated else {}
        learning = (self.curve.names[0], self.curve.figure()) if self.curve else None
        return picture_of(self.name, self.rounds, curves, learning)

    def report(self, path: str | Path) -> Path:
        """Write the study as one HTML page of its own, with the evaluation where there is one.

        Raises:
          InvalidRequest: the file cannot be written.
        """
        from researcher.report import training_page
        from researcher.report_parts import write_page

        made = training_page(
            self.name,
            rounds=[record.as_dict() for record in self.rounds],
            classes=self.classes,
            parameters=sum(int(np.asarray(values).size) for values in self.weights.values()),
            scores=[section for part in (self.curve, self.evaluation) if part for section in part.sections()],
            ended=self.ended,
            releases=self._releases(),
        )
        return write_page(path, made)

    @property
    def _what(self) -> str:
        average = f", the model an average of the last {len(self.averaged)} aggregates" if self.averaged else ""
        return f"{len(self.rounds)} rounds{average}"

    def __repr__(self) -> str:
        ended = f"\n{self.ended}" if self.ended else ""
        return f"Result of study {self.name!r}: {self._what}, {len(self.releases)} releases{ended}\n{self.table}"

    def _repr_html_(self) -> str:
        return f"<p>Result of {self._what}</p>{self.table._repr_html_()}"


def _made(model: Any) -> nn.Module:
    from torch import nn

    if not isinstance(model, type) or not issubclass(model, nn.Module):
        raise InvalidRequest(f"{model!r} is no class of models. Give the class, as result.to_model(FluPredictor).")
    try:
        return model()
    except Exception as error:  # whatever the researcher's class does
        raise InvalidRequest(
            f"{model.__name__}() fails with {type(error).__name__}: {error}. Mend the class."
        ) from error


def load(path: str | Path) -> Result:
    """The result that `Result.save` wrote. Raises `InvalidRequest` where `path` is not one.

    Sums that hospitals released under masks are opened again: scores are those of their sum, and weights are the mean.
    """
    from researcher.federated import RoundRecord

    if not isinstance(path, (str, Path)):
        raise InvalidRequest(f"{path!r} is no directory. Name the one that result.save(...) wrote.")
    directory = Path(path)
    if directory.suffix == ".zip" and os.path.isfile(directory):
        with tempfile.TemporaryDirectory() as folder:
            return load(unpacked(directory, Path(folder)))
    if not os.path.exists(directory / "result.json"):  # which is False for a name that no file can have
        raise InvalidRequest(f"{directory} holds no result. Name the directory that result.save(...) wrote.")
    try:
        about = json.loads((directory / "result.json").read_text(encoding="utf-8"))
        releases = tuple(_saved_release(directory, entry) for entry in about["releases"])
        weights = from_bytes((directory / "weights.safetensors").read_bytes())
        rounds = [RoundRecord.from_dict(record) for record in about["rounds"]]
        averaged = {int(number): from_bytes(_aggregate(directory, number).read_bytes()) for number in _averaged(about)}
        check_average(weights, averaged, releases)
        fixed = directory / "constants.safetensors"
        constants = from_bytes(fixed.read_bytes()) if fixed.exists() else {}
        classes = tuple(map(str, about["classes"]))
        result = Result(str(about["name"]), weights, rounds, releases, classes, constants=constants, averaged=averaged)
        result.openings = saved_openings(directory)
        result.begun = _checked_begun(directory, result)
        if about.get("evaluation"):
            result.evaluation = _saved_evaluation(about["evaluation"], result)
        if about.get("curve"):
            result.curve = _saved_curve(about["curve"], result)
        result.ended = str(about.get("ended", ""))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, DatasiteError) as error:
        why = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise InvalidRequest(
            f"The result in {directory} is damaged ({why}). Save it again: study.resume() gives it at no cost."
        ) from None
    return result


def _averaged(about: Mapping[str, Any]) -> list[int]:
    return [int(number) for number in about.get("averaged", [])]


def _aggregate(directory: Path, number: int) -> Path:
    """The file of the aggregate that came out of a round."""
    return directory / "averaged" / f"{number:04d}.safetensors"


def _checked_begun(directory: Path, result: Result) -> Tensors:
    """What the last round began with, once the last aggregate is what follows from it; {} where none is kept."""
    last = result.rounds[-1].round if result.rounds else 0
    opening, path = result.openings.get(name_of("training", last)), begun_file(directory, last)
    if opening is None or not path.exists():
        return {}
    begun, file = from_bytes(path.read_bytes()), "weights.safetensors"
    if result.averaged:
        file = str(_aggregate(directory, last).relative_to(directory))
    aggregate = result.averaged[last] if result.averaged else result.weights
    check_aggregate(opening, masked_of(result.releases, "training", last), begun, aggregate, file=file)
    return begun


def _saved_release(directory: Path, entry: Mapping[str, Any]) -> Release:
    release = Release(tensors={}, certificate="", **entry)
    if release.role not in ROLES:  # it is part of a file's name
        raise ValueError(f"a role {str(release.role)[:40]!r}, which is none")
    stem = directory / "releases" / release.stem
    certificate = Path(f"{stem}.certificate.json").read_text(encoding="utf-8")
    return replace(release, tensors=from_bytes(Path(f"{stem}.safetensors").read_bytes()), certificate=certificate)


def _saved_curve(about: Mapping[str, Any], result: Result) -> LearningCurve:
    schema = Schema.from_dict(about["schema"])
    points = []
    for point in about["points"]:
        entry = {"mechanism": about["mechanism"], "schema": about["schema"], **point}
        scores = _saved_evaluation(entry, result) if point["releases"] else None
        points.append(Point(int(point["round"]), scores, dict(point["missing"])))
    return LearningCurve(tuple(points), _evaluation_from(about["mechanism"]), schema)


def _evaluation_from(data: dict[str, Any]) -> Evaluation:
    mechanism = mechanism_from(data)
    if not isinstance(mechanism, Evaluation):
        raise TypeError(f"a {mechanism.kind} for an evaluation")
    return mechanism


def _saved_evaluation(about: Mapping[str, Any], result: Result) -> EvaluationResult | OutcomeResult:
    mechanism = _evaluation_from(about["mechanism"])
    stems = {str(stem) for stem in about["releases"]}
    answers = Answers({one.hospital: one for one in result.releases if one.stem in stems}, missing=about["missing"])
    if "summed" in about:
        answers.mean = {str(name): np.asarray(cells, dtype=np.float64) for name, cells in about["summed"].items()}
    schema = Schema.from_dict(about["schema"]) if "schema" in about else None
    if answers.mean is not None:
        masked = list(answers.releases.values())
        opening = result.openings.get(name_of(masked[0].role, masked[0].round))
        if opening is not None:
            check_summed(opening, masked, schema, answers.mean)
    return evaluation_of(answers, mechanism, result.classes if schema is None else None, schema)


def result_of(
    study: Trained,
    weights: Tensors,
    rounds: Sequence[RoundRecord],
    *,
    averaged: Mapping[int, Tensors],
    curve: LearningCurve | None = None,
    ended: str = "",
    begun: Tensors | None = None,
) -> Result:
    """The result of a study whose rounds are all closed, or that has ended before.

    Args:
      begun: what the last round began with.
    """
    classes = study.cohort.schema.predicting(study.training).classes
    releases, constants = tuple(study.state.releases()), study.requests.constants
    openings, last = openings_of(study.state, releases), rounds[-1].round if rounds else 0
    opening = openings.get(name_of("training", last))
    if begun and opening is not None:
        found = aggregate_of(opening, masked_of(releases, "training", last), begun)
        is_mean = digest(found) == digest(averaged.get(last, weights))
    return Result(
        study.name,
        weights,
        list(rounds),
        releases,
        classes,
        study,
        openings=openings,
        begun=begun if begun and opening is not None and is_mean else {},
        constants=constants,
        averaged=averaged,
        curve=curve,
        ended=ended,
    )


def evaluation_of(
    answers: Answers, mechanism: Evaluation, classes: tuple[str, ...] | None, schema: Schema | None = None
) -> EvaluationResult | OutcomeResult:
    """Scores from the hospitals' answers. Raises `Unavailable` where nobody answered.

    Args:
      classes: labels of the target; None to take them from `schema`.
      schema: of the dataset; needed of targets that are no class, and of subgroups.
    """
    check_anybody(answers)
    given = dict(sorted(answers.releases.items()))
    releases = tuple(given.values())
    tensors, count = {name: release.tensors for name, release in given.items()}, 1
    summed: Tensors = {}
    if mechanism.secure_aggregation is not None:
        if answers.mean is None:
            raise InvalidRequest(
                "These scores can be read in their sum alone, which is not here. study.evaluate() gives it at no cost."
            )
        count, summed = len(given), answers.mean
        tensors = {in_a_sum(count): summed}
    wanted = mechanism.outcome is not Outcome.CLASS or bool(mechanism.subgroups)
    if schema is not None and wanted:
        schema = schema.predicting(mechanism)
        groups = groups_of(mechanism, schema, tensors, count)
        if mechanism.outcome is not Outcome.CLASS:
            hospitals = hospitals_of(mechanism, schema, tensors, count)
            return OutcomeResult(hospitals, releases, answers.missing, mechanism, schema, groups, summed)
    elif wanted:
        raise InvalidRequest(
            f"The scores of {mechanism.loss} say nothing without their schema. Ask the study for them."
        )
    else:
        groups = {}
    if classes is None:
        assert schema is not None
        classes = schema.predicting(mechanism).classes
    scores = {
        name: score_figures.read_scores(np.asarray(part["scores"]), mechanism, count) for name, part in tensors.items()
    }
    kept = schema if mechanism.subgroups else None
    return EvaluationResult(scores, releases, answers.missing, classes, mechanism, groups, kept, summed)


def check_anybody(answers: Answers) -> None:
    """Raise `Unavailable`, naming everybody's reason, where nobody answered."""
    if not answers.releases:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(answers.missing.items()))
        raise Unavailable(f"No hospital answered. {reasons}", missing=dict(answers.missing))
