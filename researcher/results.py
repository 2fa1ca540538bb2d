"""Results of a study of a model: the joint model, its rounds, releases and certificates, and its scores.

Everything here is made of releases, so keeping, plotting and sharing it costs no budget.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from policies.errors import DatasiteError, InvalidRequest, Unavailable, WrongStatus
from policies.privacy.mechanisms import DPSGD, Evaluation, as_dict, check_range, mechanism_from
from policies.privacy.outcomes import Outcome
from policies.release.tensors import from_bytes, to_bytes
from policies.schema.schemas import Schema
from researcher import scores as score_figures
from researcher.figures import Estimate
from researcher.members import Hospitals
from researcher.outcome_figures import ClassScores, Groups
from researcher.outcome_results import OutcomeResult, frame_of, group_table, groups_of, hospitals_of, in_units
from researcher.parameters import load_parameters
from researcher.releases import Answers
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
    """

    hospitals: Mapping[str, score_figures.Scores]
    releases: tuple[Release, ...]
    missing: Mapping[str, str]
    classes: tuple[str, ...]
    mechanism: Evaluation
    subgroups: Groups = field(default_factory=dict)
    schema: Schema | None = None

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

    def new_model(self, weights: Tensors | None = None) -> nn.Module: ...
    def evaluate(
        self, weights: Tensors | None = None, *, deadline: float = ..., grace: float = ...
    ) -> EvaluationResult | OutcomeResult: ...


@dataclass
class Result:
    """A jointly trained model and all that it came from.

    Args:
      name: of the study.
      weights: the last aggregate, by parameter name; float32.
      rounds: whose releases went into each, and why others are missing.
      releases: every release of the study, each with its certificate.
      classes: labels of the target.
      study: which made it; None where it was loaded from disk.
    """

    name: str
    weights: Tensors
    rounds: Sequence[RoundRecord]
    releases: tuple[Release, ...]
    classes: tuple[str, ...] = ()
    study: Trained | None = None
    evaluation: EvaluationResult | OutcomeResult | None = field(default=None, repr=False)

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
            seconds = sum(record.answered[name] for record in self.rounds if name in record.answered)
            why = "; ".join(f"round {number}: {reason}" for number, reason in self.missing.get(name, {}).items())
            rows.append(
                {
                    "hospital": name,
                    "rounds": f"{len(took)}/{len(self.rounds)}",
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
        load_parameters(trained, self.weights)
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
        return self.evaluation

    def save(self, path: str | Path) -> Path:
        """Write weights, releases and certificates into the directory `path`; `researcher.load` reads it.

        Each certificate lies beside the release that it certifies, where `researcher verify` looks for it.
        """
        if not isinstance(path, (str, Path)):
            raise InvalidRequest(f"{path!r} is no directory. Name one, as result.save('flu-2026').")
        directory, releases = Path(path), self._releases()
        about = {
            "schema_version": 1,
            "name": self.name,
            "classes": list(self.classes),
            "rounds": [record.as_dict() for record in self.rounds],
            "releases": [release.about() for release in releases],
            "evaluation": self.evaluation.about() if self.evaluation else None,
        }
        try:
            (directory / "releases").mkdir(parents=True, exist_ok=True)
            replace_file(directory / "weights.safetensors", to_bytes(self.weights))
            for release in releases:
                stem = f"releases/{release.stem}"
                replace_file(directory / f"{stem}.safetensors", to_bytes(release.tensors))
                replace_file(directory / f"{stem}.certificate.json", release.certificate.encode())
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
        """A figure that a notebook shows: who took part in each round, and the ROC curves where it was evaluated."""
        from researcher.plots import picture_of

        scored = self.evaluation
        evaluated = scored if isinstance(scored, EvaluationResult) and len(scored.classes) == 2 else None
        names = [*evaluated.hospitals, "combined"] if evaluated else []
        return picture_of(self.name, self.rounds, {name: evaluated.roc(name) for name in names} if evaluated else {})

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
            scores=self.evaluation.sections() if self.evaluation else [],
            releases=self._releases(),
        )
        return write_page(path, made)

    def __repr__(self) -> str:
        return f"Result of study {self.name!r}: {len(self.rounds)} rounds, {len(self.releases)} releases\n{self.table}"

    def _repr_html_(self) -> str:
        return f"<p>Result of {len(self.rounds)} rounds</p>{self.table._repr_html_()}"


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
    """The result that `Result.save` wrote. Raises `InvalidRequest` where `path` is not one."""
    from researcher.federated import RoundRecord

    if not isinstance(path, (str, Path)):
        raise InvalidRequest(f"{path!r} is no directory. Name the one that result.save(...) wrote.")
    directory = Path(path)
    if not os.path.exists(directory / "result.json"):  # which is False for a name that no file can have
        raise InvalidRequest(f"{directory} holds no result. Name the directory that result.save(...) wrote.")
    try:
        about = json.loads((directory / "result.json").read_text(encoding="utf-8"))
        releases = tuple(_saved_release(directory, entry) for entry in about["releases"])
        weights = from_bytes((directory / "weights.safetensors").read_bytes())
        rounds = [RoundRecord.from_dict(record) for record in about["rounds"]]
        result = Result(str(about["name"]), weights, rounds, releases, tuple(map(str, about["classes"])))
        if about.get("evaluation"):
            result.evaluation = _saved_evaluation(about["evaluation"], result)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, DatasiteError) as error:
        why = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise InvalidRequest(
            f"The result in {directory} is damaged ({why}). Save it again: study.resume() gives it at no cost."
        ) from None
    return result


def _saved_release(directory: Path, entry: Mapping[str, Any]) -> Release:
    release = Release(tensors={}, certificate="", **entry)
    if release.role not in ROLES:  # it is part of a file's name
        raise ValueError(f"a role {str(release.role)[:40]!r}, which is none")
    stem = directory / "releases" / release.stem
    certificate = Path(f"{stem}.certificate.json").read_text(encoding="utf-8")
    return replace(release, tensors=from_bytes(Path(f"{stem}.safetensors").read_bytes()), certificate=certificate)


def _saved_evaluation(about: Mapping[str, Any], result: Result) -> EvaluationResult | OutcomeResult:
    mechanism = mechanism_from(about["mechanism"])
    if not isinstance(mechanism, Evaluation):
        raise TypeError(f"a {mechanism.kind} for an evaluation")
    stems = {str(stem) for stem in about["releases"]}
    answers = Answers({one.hospital: one for one in result.releases if one.stem in stems}, missing=about["missing"])
    schema = Schema.from_dict(about["schema"]) if "schema" in about else None
    return evaluation_of(answers, mechanism, result.classes if schema is None else None, schema)


def result_of(study: Trained, weights: Tensors, rounds: Sequence[RoundRecord]) -> Result:
    """The result of a study whose rounds are all closed."""
    classes = study.cohort.schema.predicting(study.training).classes
    return Result(study.name, weights, list(rounds), tuple(study.state.releases()), classes, study)


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
    tensors = {name: release.tensors for name, release in given.items()}
    wanted = mechanism.outcome is not Outcome.CLASS or bool(mechanism.subgroups)
    if schema is not None and wanted:
        schema = schema.predicting(mechanism)
        groups = groups_of(mechanism, schema, tensors)
        if mechanism.outcome is not Outcome.CLASS:
            hospitals = hospitals_of(mechanism, schema, tensors)
            return OutcomeResult(hospitals, releases, answers.missing, mechanism, schema, groups)
    elif wanted:
        raise InvalidRequest(
            f"The scores of {mechanism.loss} say nothing without their schema. Ask the study for them."
        )
    else:
        groups = {}
    if classes is None:
        assert schema is not None
        classes = schema.predicting(mechanism).classes
    scores = {name: score_figures.read_scores(np.asarray(part["scores"]), mechanism) for name, part in tensors.items()}
    kept = schema if mechanism.subgroups else None
    return EvaluationResult(scores, releases, answers.missing, classes, mechanism, groups, kept)


def check_anybody(answers: Answers) -> None:
    """Raise `Unavailable`, naming everybody's reason, where nobody answered."""
    if not answers.releases:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(answers.missing.items()))
        raise Unavailable(f"No hospital answered. {reasons}", missing=dict(answers.missing))
