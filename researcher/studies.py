"""Studies: what a researcher asks of a cohort, from the first check to the result.

`Study` trains a model in federated rounds and may score it on the hospitals' hold-outs; `researcher.statistics` has the
other kind. Both are `check()`, `submit()`, `wait_for_approval()`, `run()`, and `status()`, `resume()`, `withdraw()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.errors import InvalidRequest, WrongStatus
from policies.privacy import mechanisms
from policies.privacy.mechanisms import DPSGD
from policies.privacy.secure_aggregation import SecureAggregation
from policies.privacy.subgroups import Subgroup, column_of
from policies.privacy.suggestion import Suggestion
from policies.release.tensors import digest
from researcher.averaging import average, check_average_last
from researcher.checks import Check, Request, sha256
from researcher.code_requests import CodeRequests
from researcher.keras import for_loss, is_keras
from researcher.members import Hospitals
from researcher.model_parts import Parts, parts_of
from researcher.parameters import DRAWING, load_parameters
from researcher.progress import Progress
from researcher.releases import DEADLINE, GRACE, Answers, ask_everyone, check_patience
from researcher.rosters import NAME as ROSTER
from researcher.rosters import Wanted, roster_of, sharing
from researcher.shared_noise import SharedNoise
from researcher.sources import freezes, function_name, request_source
from researcher.state import StudyState, Tensors, default_directory
from researcher.table import Table
from researcher.training import TrainingByEpochs

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy
    from torch import nn

    from researcher.curves import Rule
    from researcher.outcome_results import OutcomeResult
    from researcher.results import EvaluationResult, Result
    from researcher.scored_rounds import ScoredRounds
    from researcher.secure_sums import SecureSum


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a study's model is scored on the hold-outs. Its loss and inputs are the training's.

    Args:
      epsilon: of each model scored, at each hospital, in (0, 100]; pure.
      bins: of the scores, 2 to 1000.
      rounds: how many models may be scored.
      subgroups: columns whose groups are scored apart, as `("sex", ("age", 40, 65))`. All patients and each column
        share `epsilon` equally: the groups of one column cost together what all patients cost.
      secure_aggregation: True to read nothing but the sum of the tables over hospitals; takes the study's roster. Or a
        `SharedNoise`, under which hospitals of that roster add parts of one noise to the tables.
    """

    epsilon: float
    bins: int = 20
    rounds: int = 1
    subgroups: tuple[Subgroup, ...] = ()
    secure_aggregation: bool | SharedNoise = False

    def shares(self, training: DPSGD) -> Table:
        """What each table has of ε, at each hospital and for each model scored."""
        return evaluation_shares(self.mechanism(training))

    def mechanism(self, training: DPSGD, trained_as: str = "") -> mechanisms.Evaluation:
        """The declared mechanism for a model trained by `training`, by the request of that name."""
        return mechanisms.Evaluation(
            loss=training.loss,
            epsilon=self.epsilon,
            bins=self.bins,
            rounds=self.rounds,
            inputs=training.inputs,
            target=training.target,
            horizon=training.horizon,
            subgroups=self.subgroups,
            frozen=training.frozen,
            local=training.local,
            public_weights=training.public_weights,
            trained_as=trained_as if training.local else "",
            secure_aggregation=self._roster(training.secure_aggregation),
        )

    def _roster(self, roster: SecureAggregation | None) -> SecureAggregation | None:
        if not self.secure_aggregation or roster is None:
            return None
        return sharing(roster, self.secure_aggregation) if isinstance(self.secure_aggregation, SharedNoise) else roster


def _given(model: Any) -> tuple[nn.Module | None, type[nn.Module]]:
    """The model that was given, if it was made already, and its class."""
    import torch

    from researcher.instances import class_of, copy_of

    if isinstance(model, torch.nn.Module):
        return copy_of(model), class_of(model)
    if not isinstance(model, type):
        raise InvalidRequest(
            f"The model is {type(model).__name__}. Give a class that derives from nn.Module, a model of it, or one of"
            " Keras."
        )
    return None, model


def evaluation_shares(mechanism: mechanisms.Evaluation) -> Table:
    """ε of each table of an evaluation, per model scored: of all patients, and of the groups of each subgroup."""
    share = mechanism.epsilon / (1 + len(mechanism.subgroups))
    named = ["all patients", *(f"by {column_of(subgroup)}" for subgroup in mechanism.subgroups)]
    return Table([{"table": name, "ε": share, "of": mechanism.epsilon} for name in named])


def _check_roster(argument: str, training: DPSGD) -> None:
    if training.secure_aggregation is None:
        raise InvalidRequest(
            f"{argument}=Evaluation(secure_aggregation=True) adds up over the roster of its study, and this one has"
            " none. Begin it with secure_aggregation=True."
        )


def _check_kind(name: str, value: object, kinds: type | tuple[type, ...], instead: str) -> None:
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise InvalidRequest(f"{name}={repr(value)[:80]} is not of its kind. Give {instead}.")


class AskingStudy:
    """What every study does with its code requests."""

    requests: CodeRequests

    def __init__(self, name: str, cohort: Hospitals, *, purpose: str, state: Path | str | None, progress: bool) -> None:
        _check_kind("name", name, str, "a text, as 'flu-2026'")
        _check_kind("cohort", cohort, Hospitals, "network.dataset(...)")
        _check_kind("purpose", purpose, str, "a text for the owners")
        _check_kind("state", state, (str, Path, type(None)), "a directory")
        self.name, self.cohort = name, cohort
        self.function = function_name(name)
        self.state = StudyState(Path(state) if state else default_directory(self.function))
        self.progress = Progress(shown=progress)

    @property
    def sources(self) -> dict[str, str]:
        """What the owners will read, by role."""
        return {request.role: request.source for request in self.requests.requests}

    def check(self) -> Check:
        """Inspect as the owner would and ask what it costs at every hospital. Nothing is asked, nothing is charged.

        Raises:
          InspectionFailed: with findings by line.
          GraphRefused: the model cannot be trained privately; names the layer and what to use instead.
        """
        return self.requests.check()

    def submit(self, *, project: str = "") -> Table:
        """Check, then ask every hospital where it fits. Calling it again asks only hospitals not yet asked.

        Args:
          project: the agreement under which the hospitals file the requests, by the name that they gave you; a hospital
            that has none of this name refuses.
        """
        _check_kind("project", project, str, "the name of a project, as the hospitals told you")
        return self.requests.submit(self.progress, project=project)

    def wait_for_approval(self, *, timeout: float | None = None) -> Table:
        """Wait until every hospital asked has decided. Raises `WrongStatus` if none approved, `Unavailable` if late."""
        return self.requests.wait(self.progress, timeout=timeout)

    def status(self) -> Table:
        """Where each request stands at each hospital, with its owner's comment."""
        return self.requests.status()

    def comment(self, text: str) -> Table:
        """Write on the study's requests at every hospital, while they wait or are approved; what is written on each."""
        return self.requests.comment(text)

    def comments(self) -> Table:
        """What the hospitals and you wrote on the study's requests, oldest first."""
        return self.requests.comments()

    def withdraw(self) -> Table:
        """Close every request; what no run has touched goes back to the hospitals' budgets."""
        return self.requests.withdraw()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} on {self.cohort.name!r} at {', '.join(self.cohort.members)}>"


class Study(AskingStudy):
    """A model trained by federated rounds at the hospitals of a cohort.

    Args:
      name: names the requests too: `flu-2026` becomes `flu_2026` and `flu_2026_evaluation`.
      cohort: `network.dataset(...)`.
      model: a class without arguments, subclass of `torch.nn.Module`; or a model made of layers of torch, as
        `nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 1))`, whose weights are then those of round 1. One of
        Keras is written as torch (`researcher.keras`).
      training: the declared mechanism, where `epsilon` is for all rounds together, at each hospital; or what
        `researcher.Training.suggest` gives, with its strategy and `average_last` as defaults. One by epochs becomes
        that of the cohort's published sizes.
      evaluation: how the result is scored, or None.
      curve: how the model is scored after every so many rounds, or None. Its `epsilon` is of each point, at each
        hospital; all points are in the request that owners approve, and charged as each is asked.
      every: rounds from one point of the curve to the next.
      stop_when: a rule that reads the curve and ends training, as `researcher.no_better(for_rounds=10)`: what no run
        has used by then goes back to the hospitals' budgets.
      purpose: why, in the words that the owners will read.
      state: the study's directory, instead of `.researcher/<function>`.
      seed: of the initial weights and of the sampling of hospitals; public.
      secure_aggregation: True to read nothing but the mean over hospitals, of more than half of them; or the fewest
        that a mean may be of. Each hospital's weights leave under masks that cancel in the sum.
      average_last: how many of the last aggregates the resulting model is the average of. That costs nothing, since
        they are made of releases, and takes out noise; 1 is the last aggregate alone, which None is unless suggested.
      progress: False for silence.
      weights: public weights to begin with: a file (`.safetensors`, `.pt`, `.npz`) or a `state_dict`, of all of the
        model's parameters or of some. Requests name them by digest; nothing checks where they come from.
      frozen: names of parameters that are not trained, as "body.*": public constants. So are those to which the model's
        own code gives `requires_grad_(False)`.
      local: names of parameters that are trained at each hospital and stay there.
    """

    def __init__(
        self,
        name: str,
        cohort: Hospitals,
        model: type[nn.Module] | nn.Module | Any,
        training: DPSGD | Suggestion | TrainingByEpochs,
        *,
        evaluation: Evaluation | None = None,
        curve: Evaluation | None = None,
        every: int = 1,
        stop_when: Rule | None = None,
        purpose: str = "",
        state: Path | str | None = None,
        seed: int = 0,
        secure_aggregation: Wanted = False,
        average_last: int | None = None,
        progress: bool = True,
        weights: object = None,
        frozen: str | tuple[str, ...] = (),
        local: str | tuple[str, ...] = (),
    ) -> None:
        if isinstance(training, TrainingByEpochs) and isinstance(cohort, Hospitals):
            training = training.at(cohort.training_patients)
        suggested = training if isinstance(training, Suggestion) else None
        training = training.training if isinstance(training, Suggestion) else training
        if average_last is None:
            average_last = suggested.average_last if suggested else 1
        _check_kind("training", training, DPSGD, "researcher.Training(...)")
        self._given, model = _given(for_loss(model, training.loss) if is_keras(model) else model)
        _check_kind("evaluation", evaluation, (Evaluation, type(None)), "researcher.Evaluation(...) or None")
        _check_kind("seed", seed, int, "a whole number")
        if not 0 <= seed < 2**63:
            raise InvalidRequest(f"seed={seed} is outside [0, 2^63). Give another.")
        check_average_last(average_last, training.rounds)
        super().__init__(name, cohort, purpose=purpose, state=state, progress=progress)
        if roster := roster_of(cohort, secure_aggregation, self.state):
            training = replace(training, secure_aggregation=roster)
        self.model, self.training, self.evaluation, self.seed = model, training, evaluation, seed
        self.average_last, self._suggested = average_last, suggested
        self.parts: Parts | None = None
        frozen, local = frozen or training.frozen, local or training.local
        if weights is not None or frozen or local or freezes(model):
            self.parts = parts_of(self._fresh, self.state, weights=weights, frozen=frozen, local=local)
            first = digest(dict(self.parts.released)) if weights is not None else ""
            self.training = training = self.parts.declared_in(training, initial=first)
        source = request_source(self.function, training, model=model, purpose=purpose)
        asked = [Request("training", self.function, source, training)]
        if evaluation is not None:
            if evaluation.secure_aggregation:
                _check_roster("evaluation", training)
            scored, function = evaluation.mechanism(training, self.function), f"{self.function}_evaluation"
            source = request_source(function, scored, model=model, purpose=purpose)
            asked.append(Request("evaluation", function, source, scored))
        self.curve, self.every, self.stop_when = curve, every, stop_when
        if curve is not None or every != 1 or stop_when is not None:
            asked.append(self._curve_request(purpose))
        constants = self.parts.constants if self.parts is not None else {}
        self.requests = CodeRequests(cohort, asked, self.state, purpose=purpose, name=name, constants=constants)
        self._strategy: str | Strategy | None = None

    def _curve_request(self, purpose: str) -> Request:
        from researcher.curves import LearningCurve, check_rule
        from researcher.scored_rounds import ROLE, points_of, told

        if self.curve is None:
            raise InvalidRequest("every= and stop_when= read a curve. Give curve=researcher.Evaluation(epsilon=0.05).")
        _check_kind("curve", self.curve, Evaluation, "researcher.Evaluation(...) or None")
        if self.curve.secure_aggregation:
            _check_roster("curve", self.training)
        if self.curve.rounds != 1:
            raise InvalidRequest(f"rounds={self.curve.rounds} of a curve follow from every. Leave rounds out.")
        mechanism = replace(self.curve, rounds=points_of(self.training, self.every)).mechanism(
            self.training, self.function
        )
        if self.stop_when is not None:
            check_rule(self.stop_when, LearningCurve((), mechanism, self.cohort.schema))
        function, words = f"{self.function}_curve", told(purpose, self.function, self.every)
        return Request(ROLE, function, request_source(function, mechanism, model=self.model, purpose=words), mechanism)

    def _scored_rounds(self, *, deadline: float, grace: float) -> ScoredRounds | None:
        from researcher.scored_rounds import ROLE, ScoredRounds

        for request in self.requests.requests:
            if request.role == ROLE and isinstance(request.mechanism, mechanisms.Evaluation):
                return ScoredRounds(
                    self.requests,
                    request.mechanism,
                    self.every,
                    self.training.rounds,
                    self.cohort.schema,
                    self.progress,
                    self.stop_when,
                    deadline=deadline,
                    grace=grace,
                )
        return None

    def submit(self, *, project: str = "") -> Table:
        """As every study's; public weights and a roster are kept in its directory, and are the same when it goes on."""
        if self.training.secure_aggregation is not None:
            self.requests.check_same_study()
            self.state.write(ROSTER, self.training.secure_aggregation.as_dict())
        if self.parts is not None:
            self.requests.check_same_study()
            for name, tensors in (("initial", self.parts.released), ("constants", self.parts.constants)):
                if tensors and self.state.read_tensors(name) is None:
                    self.state.write_tensors(name, tensors)
        return super().submit(project=project)

    def run(
        self,
        strategy: str | Strategy | None = None,
        *,
        deadline: float = DEADLINE,
        grace: float = GRACE,
        buffer: int | None = None,
        **options: Any,
    ) -> Result:
        """Train in rounds and return the joint model with its releases and certificates.

        An interrupted study goes on where it was; one that is complete gives its result again. Neither pays twice.

        Args:
          strategy: one of Flower's by name, or an instance, which is used unchanged (on a copy). None is the suggested
            one with its options, where the training was suggested, and else FedAvg.
          deadline: seconds that a hospital may take for a round before the round is closed without it.
          grace: seconds that a datasite may be away before it is left out of the round; with a buffer also those that
            one may be silent which stands still.
          buffer: how many answers close a round, so that nobody waits for the slowest: a release that comes later
            enters a later aggregate, weighed by 1/√(1 + rounds that it is late), at no further cost (FedBuff, Nguyen et
            al. 2022, arXiv:2106.06639). None waits for every hospital until the deadline.
          options: the named strategy's own, as `fraction_train`, `min_train_nodes`, `min_available_nodes`.

        Raises:
          InvalidRequest: the strategy is unknown or failed in a rehearsal on made-up weights; nothing was charged.
          Unavailable: fewer hospitals than the quorum; names who is missing. Call `resume()` later.
          WrongStatus: nothing was submitted, another source was, or the study was begun with other weights.
        """
        from researcher.federated import DatasiteGrid, run_rounds
        from researcher.late_releases import check_buffer
        from researcher.rehearsal import rehearse
        from researcher.results import result_of
        from researcher.strategies import check_offered, describe, make_strategy, quorum_of

        if strategy is None:
            strategy = self._suggested.strategy if self._suggested else "FedAvg"
            options = dict(self._suggested.options if self._suggested else {}) | options
        check_patience(deadline=deadline, grace=grace)
        sizes, rounds = self.requests.training_patients(), self.training.rounds
        if not sizes:
            raise WrongStatus(
                f"Study {self.name!r} was not submitted yet. Call submit() and wait_for_approval() first."
            )
        self.requests.check_same_study()
        flower_strategy = make_strategy(strategy, self.training, hospitals=len(sizes), options=options)
        about: dict[str, Any] = {"strategy": describe(strategy, options), "seed": self.seed, "rounds": rounds}
        if self.average_last > 1:  # told, and free to change later: what was asked of hospitals is the same
            about["average_last"] = self.average_last
        check_buffer(
            buffer,
            quorum=quorum_of(flower_strategy),
            hospitals=len(sizes),
            in_sums=self.training.secure_aggregation is not None,
        )
        if buffer is not None:
            about["buffer"] = buffer
        with self.state.lock():
            complete = self._check_begun(about)
            initial = self._initial()
            if not complete:
                if self.state.read("run").get("strategy") != about["strategy"]:
                    check_offered(flower_strategy, options)
                rehearse(flower_strategy, initial, sizes, rounds=rounds, proximal_mu=self.training.proximal_mu)
                if not self.state.read("run"):
                    self.state.write("run", about)
            self._strategy = strategy
            grid = DatasiteGrid(
                self.requests,
                flower_strategy,
                rounds,
                self.seed,
                self.progress,
                deadline=deadline,
                grace=grace,
                begin=lambda: self._begin(about),
                keep=max(self.average_last - 1, 1),
                buffer=buffer,
            )
            scored = self._scored_rounds(deadline=deadline, grace=grace)
            last = run_rounds(grid, initial, after=scored)
            first = max(1, len(grid.closed) - self.average_last + 1)  # whose aggregate the next round began with
            sent_last = {number - 1: sent for number, sent in grid.sent.items() if number > first}
            aggregates = sent_last | {len(grid.closed): last}
            weights = average([aggregates[number] for number in sorted(aggregates)])
            self._begin(about)
            self.state.write_tensors("final", weights)
            if scored is not None:
                self.requests.give_back(("training", "curve"), scored.words_of_end(self.function))
        return result_of(
            self,
            weights,
            grid.closed,
            averaged=aggregates if self.average_last > 1 else {},
            curve=scored.curve if scored else None,
            ended=scored.ended if scored else "",
            begun=grid.sent.get(len(grid.closed)),
        )

    def resume(
        self,
        strategy: str | Strategy | None = None,
        *,
        deadline: float = DEADLINE,
        grace: float = GRACE,
        buffer: int | None = None,
        **options: Any,
    ) -> Result:
        """Go on with an interrupted study; closed rounds are answered from its directory.

        Args:
          strategy: the same instance, made anew, where the study was begun with one in another process. Another one is
            taken as well, as long as it would have sent the same weights in the rounds that were begun.
          buffer: as in `run`; None is what the study was begun with.
          options: the named strategy's, where they shall change: `resume(min_train_nodes=1)` goes on with fewer.
        """
        begun = self.state.read("run")
        if not begun:
            raise WrongStatus(f"Study {self.name!r} was not run yet, so there is nothing to resume. Call run().")
        about = begun["strategy"]
        buffer = begun.get("buffer") if buffer is None else buffer
        if strategy is not None:
            return self.run(strategy, deadline=deadline, grace=grace, buffer=buffer, **options)
        if about["instance"]:
            if self._strategy is None or isinstance(self._strategy, str):
                raise WrongStatus(
                    f"The study was begun with a {about['name']} of your own: resume(strategy=...) needs it."
                )
            return self.run(self._strategy, deadline=deadline, grace=grace, buffer=buffer, **options)
        options = about["options"] | options
        return self.run(about["name"], deadline=deadline, grace=grace, buffer=buffer, **options)

    def evaluate(
        self, weights: Tensors | None = None, *, deadline: float = DEADLINE, grace: float = GRACE
    ) -> EvaluationResult | OutcomeResult:
        """Score a model at every hospital that approved the evaluation; each new model uses up one of its rounds.

        Raises:
          InvalidRequest: `weights` are not of this study's model.
          WrongStatus: the study has no evaluation, or all its rounds are used.
        """
        from researcher.results import check_anybody, evaluation_of

        if self.evaluation is None:
            raise WrongStatus(
                "This study asked for no evaluation. Begin one with evaluation=researcher.Evaluation(...)."
            )
        check_patience(deadline=deadline, grace=grace)
        weights = self._checked(weights) if weights is not None else self._final()
        self.requests.check_same_study()
        with self.state.lock():
            ready, missing = self.requests.approved("evaluation", unreached=True)
            if not ready:  # before one of the approved evaluations is used up
                check_anybody(Answers(missing=missing))
            number = self._evaluation_round(digest(weights))
            secure = self._secure_evaluation(number, weights)
            if secure is None:
                answers = self._ask(ready, "evaluation", number, weights, deadline=deadline, grace=grace)
            else:
                with self.progress.running(f"{self.name}: evaluation"):
                    answers = secure.ask(
                        ready, progress=self.progress, what="evaluation", deadline=deadline, grace=grace
                    )
        answers.missing = missing | self.requests.explained("evaluation", answers.missing)
        return evaluation_of(answers, self.evaluation.mechanism(self.training), None, self.cohort.schema)

    def _secure_evaluation(self, number: int, weights: Tensors) -> SecureSum | None:
        """The sum of an evaluation's tables, where they are read in it alone."""
        from researcher.secure_sums import SecureSum, sums_reader

        for request in self.requests.requests:
            scored = request.mechanism
            if request.role == "evaluation" and isinstance(scored, mechanisms.Evaluation) and scored.secure_aggregation:
                read = sums_reader(scored, self.cohort.schema)
                source, roster = sha256(request.source), scored.secure_aggregation
                return SecureSum(roster, source, "evaluation", number, weights, self.state, read=read)
        return None

    def new_model(self, weights: Tensors | None = None) -> nn.Module:
        """The model with `weights`, or as it was before the first round; local parameters are as they began."""
        model = self._fresh()
        if self.parts is not None:
            weights = {**self.parts.constants, **(self.parts.released if weights is None else weights)}
        if weights is not None:
            load_parameters(model, weights)
        return model

    def _fresh(self) -> nn.Module:
        """The model as its class and the study's seed make it."""
        import torch

        from researcher.instances import copy_of

        with DRAWING, torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            try:
                return self.model() if self._given is None else copy_of(self._given)
            except Exception as error:  # whatever the researcher's class does
                raise InvalidRequest(
                    f"{self.model.__name__} cannot be made ({type(error).__name__}: {error}). Hospitals make it as "
                    f"{self.model.__name__}(), without arguments."
                ) from error

    def _ask(self, ready: Any, role: str, number: int, weights: Tensors, *, deadline: float, grace: float) -> Answers:
        with self.progress.running(f"{self.name}: {role}"):
            return ask_everyone(
                ready,
                role,
                number,
                weights,
                state=self.state,
                progress=self.progress,
                what=role,
                deadline=deadline,
                grace=grace,
            )

    def _initial(self) -> Tensors:
        """The weights of round 1, kept from the first run on: a newer torch might draw others."""
        kept = self.state.read_tensors("initial")
        if kept is None:
            drawn = {
                name: value.detach().numpy().astype("float32") for name, value in self.new_model().named_parameters()
            }
            kept = {name: drawn[name] for name in self.parts.released} if self.parts is not None else drawn
            self.state.write_tensors("initial", kept)
        return kept

    def _final(self) -> Tensors:
        kept = self.state.read_tensors("final")
        if kept is None:
            raise WrongStatus(f"Study {self.name!r} has no result yet. Call run() or resume() first.")
        return kept

    def _checked(self, weights: Tensors) -> Tensors:
        """Weights as float32. Raises `InvalidRequest` where they are not those of the model."""
        initial = self._initial()
        try:
            converted = {str(name): np.ascontiguousarray(value, dtype=np.float32) for name, value in weights.items()}
        except (AttributeError, TypeError, ValueError):
            raise InvalidRequest("Weights are arrays by name. Give result.weights.") from None
        wrong = [name for name in {*converted, *initial} if name not in converted or name not in initial]
        wrong += [name for name in converted if name in initial and converted[name].shape != initial[name].shape]
        wrong += [name for name, value in converted.items() if not np.isfinite(value).all()]
        if wrong:
            raise InvalidRequest(
                f"The weights {', '.join(sorted(set(wrong)))} are not the model's, by name, shape or finite values. "
                "Give result.weights."
            )
        return converted

    def _check_begun(self, about: Mapping[str, Any]) -> bool:
        """Whether it has its result. Raises `WrongStatus` where the study was begun so that it cannot go on."""
        begun, complete = self.state.read("run"), self.state.read_tensors("final") is not None
        fixed = ("seed", "rounds", "strategy") if complete else ("seed", "rounds")
        if begun and any(begun[name] != about[name] for name in fixed):
            raise WrongStatus(
                f"Study {self.name!r} was begun with {begun['strategy']['name']} {begun['strategy']['options']}, seed "
                f"{begun['seed']}. Resume it as it was, or begin a study with another name."
            )
        return complete

    def _begin(self, about: Mapping[str, Any]) -> None:
        if self.state.read("run") != about:
            self.state.write("run", about)

    def _evaluation_round(self, weights_digest: str) -> int:
        assert self.evaluation is not None
        scored = self.state.read("evaluations")
        if weights_digest not in scored:
            if len(scored) >= self.evaluation.rounds:
                raise WrongStatus(
                    f"All {self.evaluation.rounds} approved evaluations are used. Ask for more in a new study."
                )
            scored[weights_digest] = len(scored) + 1
            self.state.write("evaluations", scored)  # before asking: two models must never share a round
        return int(scored[weights_digest])
