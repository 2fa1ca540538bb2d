"""A study's code requests at every hospital of its cohort: checking, submitting, waiting, withdrawing.

Nothing is asked before all of the check passes. What was asked is remembered in the study's directory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from policies.errors import DatasiteError, InvalidRequest, PermissionRefused, RuleBroken, Unavailable, WrongStatus
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import DPSGD, mechanism_from
from policies.source.inspection import inspect_source
from policies.source.statuses import RequestStatus, RunStatus
from policies.text import check_visible
from researcher.checks import (
    Check,
    Request,
    check_source,
    cost_row,
    engine_words_of,
    finding_text,
    named,
    notes_of,
    plan_facts,
    sha256,
    why_not,
)
from researcher.connections import Connection, ask_all
from researcher.expectations import expectations
from researcher.known_datasites import changed_key
from researcher.members import Hospitals
from researcher.progress import Progress
from researcher.releases import Asked, check_patience
from researcher.shared_noise import expected as expected_of_sharing
from researcher.state import StudyState, Tensors
from researcher.table import Table
from researcher.transport import ANSWER_SECONDS, within

UNDECIDED = frozenset({RequestStatus.SUBMITTED, RequestStatus.CHECKED})
APPROVED = frozenset({RequestStatus.APPROVED, RequestStatus.COMPLETED})
USED = frozenset({RunStatus.RELEASED, RunStatus.FAILED})
NOT_REACHED = "not reached"
AGAIN_SECONDS = 2.0  # for a first byte of a hospital that was not reached the last time that it was asked
KEYS = ("public_key", "verify_key")
Quotes = tuple[dict[str, dict[str, Any]], dict[str, DatasiteError]]
"""Of one request: quotes by hospital, and why others gave none."""


class CodeRequests:
    """The requests of one study, made once and remembered in its directory."""

    def __init__(
        self,
        cohort: Hospitals,
        requests: list[Request],
        state: StudyState,
        *,
        purpose: str,
        name: str,
        constants: Tensors | None = None,
    ) -> None:
        self.constants = constants or {}  # public weights that the requests name, for hospitals that approved
        self.cohort, self.requests, self.state, self.name = cohort, requests, state, name
        self.purpose = " ".join(purpose.split())  # a datasite takes one paragraph
        self._writing = threading.Lock()

    def check(self) -> Check:
        """Inspect here, then export here while every hospital says what each request would cost.

        Raises:
          InspectionFailed: with findings by line; no hospital was asked what it costs.
          GraphRefused: the model cannot run record by record; nothing was submitted.
          Unavailable: no hospital answered.
        """
        for request in self.requests:
            inspect_source(request.source)
        with self._all_quotes() as quoted:
            graphs = {request.role: check_source(request, self.cohort) for request in self.requests}
            all_quotes = {request.role: quoted(request) for request in self.requests}
        facts: dict[tuple[str, str], dict[str, Any]] = {}
        rows: list[dict[str, Any]] = []
        findings: list[str] = []
        reasons: dict[str, str] = {}
        digests: dict[tuple[str, str], str] = {}
        engines: dict[str, list[str]] = {}  # hospitals by what they say
        for request in self.requests:
            quotes, problems = all_quotes[request.role]
            for hospital in self.cohort.members:
                if hospital in problems:
                    reasons[hospital] = str(problems[hospital])
                    rows.append(
                        {"hospital": hospital, "request": request.function, "accepted": str(problems[hospital])}
                    )
                    continue
                quote = quotes[hospital]
                rows.append(cost_row(hospital, request, quote))
                if words := engine_words_of(request, quote):
                    engines.setdefault(words, []).append(hospital)
                digests[request.role, hospital] = str(quote["plan_digest"])
                findings += [f"{hospital}: {finding_text(finding)}" for finding in quote["findings"]]
                if why := why_not(quote):
                    reasons[hospital] = f"{request.function}: {why}"
                    continue
                try:
                    published = self.cohort.members[hospital].published
                    facts[request.role, hospital] = plan_facts(request, quote, published, graphs[request.role])
                except RuleBroken as broken:
                    reasons[hospital] = f"{request.function}: {broken}"
        if len(reasons) == len(self.cohort.members) and not any("ε" in row for row in rows):
            raise Unavailable("No hospital answered. " + " ".join(reasons.values()))
        told = tuple(f"{', '.join(names)}: {words}" for words, names in engines.items())
        sources = {request.role: request.source for request in self.requests}
        notes = tuple(dict.fromkeys(note for request in self.requests[:1] for note in notes_of(request)))
        expected = self._expectations(
            graphs.get("training"), {name for role, name in facts if role == "training"} - set(reasons)
        )
        for request in self.requests:
            expected += expected_of_sharing(request.function, request.mechanism)
        return Check(tuple(rows), sources, tuple(findings), reasons, digests, facts, told, notes, expected)

    def _expectations(self, graph: Graph | None, hospitals: Collection[str]) -> tuple[str, ...]:
        """What to expect of a training at those of the hospitals that would take it."""
        members = self.cohort.members
        patients = {name: members[name].published.training_patients for name in members if name in hospitals}
        return tuple(
            sentence
            for request in self.requests
            if isinstance(request.mechanism, DPSGD) and graph is not None
            for sentence in expectations(request.function, request.mechanism, patients, graph.parameter_count)
        )

    def submit(self, progress: Progress, *, project: str = "") -> Table:
        """Ask every hospital that would accept it, once. Hospitals already asked are left as they are.

        Raises:
          InspectionFailed, GraphRefused: as `check`.
          RuleBroken: no hospital would take it; the message says what each has against it.
        """
        self.check_same_study()
        check = self.check()
        hospitals = [name for name in self.cohort.members if name not in check.reasons]
        if not hospitals:
            explanation = " ".join(named(name, reason) for name, reason in check.reasons.items())
            raise RuleBroken(f"Nothing was asked. {explanation}")
        self._remember()
        self._everywhere(hospitals, lambda name: self._submit_at(name, check, progress, project))
        for name, reason in check.reasons.items():
            progress.say(f"{name}: not asked. {reason}")
        return self.status()

    @staticmethod
    def _everywhere(hospitals: list[str], act: Callable[[str], None]) -> None:
        """Do the same at every hospital at once; raises the first failure, once all have ended."""
        with ThreadPoolExecutor(max_workers=min(32, len(hospitals))) as pool:
            done = [pool.submit(act, name) for name in hospitals]
        for future in done:
            future.result()

    def status(self) -> Table:
        """Where each request stands, with the owner's comment."""
        rows = []
        statuses = self.statuses()
        for request in self.requests:
            for hospital in self._hospitals():
                status = statuses[request.role].get(hospital, {"status": "not asked"})
                done = sum(run.get("status") == RunStatus.RELEASED for run in status.get("rounds", []))
                rows.append(
                    {
                        "hospital": hospital,
                        "request": request.function,
                        "status": status["status"],
                        "rounds": f"{done}/{request.mechanism.rounds}",
                        "expires": str(status.get("expires") or "")[:10],
                        "comment": _comment(status),
                    }
                )
        return Table(rows)

    def statuses(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The datasites' own words on each request, by role and hospital; `not reached` where one does not answer."""
        return {request.role: self._statuses(request.role) for request in self.requests}

    def _statuses(
        self,
        role: str,
        *,
        ask: Collection[str] | None = None,
        silence: float = ANSWER_SECONDS,
        lately_away: Collection[str] = (),
    ) -> dict[str, dict[str, Any]]:
        codes = self.codes(role)
        asked = {name: datasite for name in codes if (datasite := self._datasite(name))}

        def status(name: str, datasite: Connection) -> dict[str, Any]:
            with within(silence=min(silence, AGAIN_SECONDS) if name in lately_away else silence):
                return datasite.request_status(codes[name])

        answered, problems = ask_all({name: asked[name] for name in asked if ask is None or name in ask}, status)
        problems_shown = {
            name: {"status": NOT_REACHED if isinstance(error, Unavailable) else "refused", "comment": str(error)}
            for name, error in problems.items()
        }
        return answered | problems_shown

    def wait(self, progress: Progress, *, timeout: float | None = None, poll: float = 0.5) -> Table:
        """Wait until every hospital that was asked has decided.

        Raises:
          WrongStatus: nothing was submitted, or nobody approved; the message carries the owners' comments.
          Unavailable: `timeout` seconds went by; the message names who has not decided.
        """
        if timeout is not None:
            check_patience(timeout=timeout)
        if not self._hospitals():
            raise WrongStatus(f"Study {self.name!r} was not submitted yet. Call submit() first.")
        if self.state.read("given_back"):  # it was decided, has run and is over
            return self.status()
        started, seen = time.monotonic(), dict[tuple[str, str], str]()
        while True:
            statuses = self.statuses()
            waiting = []
            for role, by_hospital in statuses.items():
                for hospital, status in by_hospital.items():
                    if seen.get((role, hospital)) != status["status"]:
                        seen[role, hospital] = status["status"]
                        progress.say(f"{hospital}: {role} {status['status']} {_comment(status)}".rstrip())
                    if status["status"] in UNDECIDED or status["status"] == NOT_REACHED:
                        waiting.append(f"{hospital} ({role}: {status['status']})")
            if not waiting:
                break
            if timeout is not None and time.monotonic() - started > timeout:
                raise Unavailable(
                    f"Not decided after {timeout:g} s: {', '.join(waiting)}. Call wait_for_approval() again later, or "
                    "run() with those who have approved."
                )
            time.sleep(poll)
            poll = min(5.0, poll * 1.2)
        if not any(status["status"] in APPROVED for by in statuses.values() for status in by.values()):
            decisions = "; ".join(
                f"{name}: {status['status']} {_comment(status)}".strip()
                for by in statuses.values()
                for name, status in by.items()
            )
            raise WrongStatus(f"No hospital approved study {self.name!r}. {decisions}.")
        return self.status()

    def withdraw(self) -> Table:
        """Close every request; what no run has touched goes back to each hospital's budget."""
        for request in self.requests:
            codes = self.codes(request.role)
            ask_all(
                {name: datasite for name in codes if (datasite := self._datasite(name))},
                lambda name, datasite, codes=codes: datasite.withdraw(codes[name]),  # type: ignore[misc]
            )
        return self.status()

    def give_back(self, roles: tuple[str, ...], words: str) -> None:
        """Close what of `roles` is approved or waits and has runs left, with `words` on it: the rest is given back.

        What a run has touched stays charged; a hospital that does not answer is asked at the next call.
        """
        done: dict[str, list[str]] = self.state.read("given_back")
        asked = [request for request in self.requests if request.role in roles]
        if all(set(self.codes(request.role)) <= set(done.get(request.role, [])) for request in asked):
            return
        statuses = self.statuses()
        for request in asked:
            codes = self.codes(request.role)
            answered = {name: status for name, status in statuses[request.role].items() if "rounds" in status}
            left = {
                name: datasite
                for name, status in answered.items()
                if status["status"] in UNDECIDED | {RequestStatus.APPROVED}
                and sum(run["status"] in USED for run in status["rounds"]) < request.mechanism.rounds
                and (datasite := self._datasite(name))
            }

            def close(name: str, datasite: Connection, codes: dict[str, str] = codes) -> None:
                datasite.comment(codes[name], words)
                datasite.withdraw(codes[name])

            _, failed = ask_all(left, close)
            done[request.role] = sorted({*done.get(request.role, []), *answered} - set(failed))
        self.state.write("given_back", done)

    def comment(self, text: str) -> Table:
        """Write on every request; what is written on each, by everybody. Raises `InvalidRequest` where it is none."""
        if not isinstance(text, str) or not text.strip():
            raise InvalidRequest(f"{text!r} is nothing to read. Write what the owners should know.")
        check_visible(text, "The comment")
        self._written(lambda datasite, code: datasite.comment(code, text), must=True)
        return self.comments()

    def comments(self) -> Table:
        """What is written on each request, oldest first: by whom, when, and the words."""
        return Table(self._written(lambda datasite, code: datasite.comments(code)))

    def _written(
        self, ask: Callable[[Connection, str], list[dict[str, str]]], *, must: bool = False
    ) -> list[dict[str, Any]]:
        """Ask about each request at each hospital; rows of what it answers, or of why it did not.

        With `must`, a hospital that does not answer raises, once all were asked.
        """
        if not self._hospitals():
            raise WrongStatus(f"Study {self.name!r} was not submitted yet. Call submit() first.")
        rows: list[dict[str, Any]] = []
        failed: list[str] = []
        for request in self.requests:
            codes = self.codes(request.role)
            asked = {name: datasite for name in codes if (datasite := self._datasite(name))}
            answers, problems = ask_all(asked, lambda name, datasite, codes=codes: ask(datasite, codes[name]))  # type: ignore[misc]
            failed += [f"{hospital}: {error}" for hospital, error in problems.items()]
            for hospital in codes:
                thread = answers.get(hospital, [{"from": "—", "at": "", "text": str(problems.get(hospital, ""))}])
                rows += [
                    {
                        "hospital": hospital,
                        "request": request.function,
                        "from": comment["from"],
                        "at": comment["at"][:16].replace("T", " "),
                        "comment": comment["text"],
                    }
                    for comment in thread
                ]
        if must and failed:
            raise Unavailable("Not everywhere. " + " ".join(failed))
        return rows

    def codes(self, role: str) -> dict[str, str]:
        """Identifiers of this role's code requests, by hospital."""
        return dict(self._study().get("requests", {}).get(role, {}))

    def approved(
        self,
        role: str,
        *,
        unreached: bool = False,
        ask: Collection[str] | None = None,
        silence: float = ANSWER_SECONDS,
        lately_away: Collection[str] = (),
    ) -> tuple[dict[str, Asked], dict[str, str]]:
        """Hospitals that can be asked for releases in `role`, and why the others cannot.

        Args:
          unreached: give also those that do not answer now: their release may be kept here, or they may come back.
          ask: of these hospitals alone; None for all.
          silence: seconds without a byte after which a hospital counts as not reached.
          lately_away: hospitals for which a shorter time does, since they were not reached before.
        """
        reason = "was not asked: it did not accept the request, or it does not fit its budget"
        missing = {name: reason for name in self._hospitals() if ask is None or name in ask}
        ready: dict[str, Asked] = {}
        statuses = self._statuses(role, ask=ask, silence=silence, lately_away=lately_away)
        for hospital, status in statuses.items():
            if status["status"] in APPROVED or (unreached and status["status"] == NOT_REACHED):
                try:
                    ready[hospital] = self._asked(role, hospital)
                    missing.pop(hospital, None)
                except PermissionRefused as refused:
                    missing[hospital] = refused.public_message
            elif status["status"] in UNDECIDED:
                missing[hospital] = "its owner has not decided yet."
            else:
                missing[hospital] = f"{status['status']}. {_comment(status)}".strip()
        return ready, missing

    def explained(
        self,
        role: str,
        missing: dict[str, str],
        *,
        ask: Collection[str] | None = None,
        silence: float = ANSWER_SECONDS,
    ) -> dict[str, str]:
        """Why hospitals did not release, in their owners' words where an owner has ended the request meanwhile.

        Args:
          ask, silence: as in `approved`; by default all of `missing`.
        """
        ask = missing if ask is None else ask
        if not ask:
            return missing
        _, reasons = self.approved(role, unreached=True, ask=ask, silence=silence)
        return {name: reasons.get(name, reason) for name, reason in missing.items()}

    def training_patients(self) -> dict[str, int]:
        """Public sizes as they were when the study was submitted: weights must not change between rounds."""
        return dict(self._study().get("training_patients", {}))

    def approved_training(self) -> dict[str, DPSGD]:
        """The training as each hospital's plan has it, its noise multiplier found; of hospitals whose plan is known."""
        kept = self._study().get("facts", {}).get("training", {})
        found = {name: facts["mechanism"] for name, facts in kept.items() if "mechanism" in facts}
        mechanisms = {name: mechanism_from(mechanism) for name, mechanism in found.items()}
        return {name: mechanism for name, mechanism in mechanisms.items() if isinstance(mechanism, DPSGD)}

    def _asked(self, role: str, hospital: str) -> Asked:
        """What a hospital is asked. Raises `PermissionRefused` where its keys are not those of the submission."""
        study, datasite = self.state.read("study"), self._datasite(hospital)
        assert datasite is not None
        described = self.cohort.network.descriptions.get(hospital, {})
        for kind in KEYS:
            known, shown = study.get(f"{kind}s", {}).get(hospital), described.get(kind)
            if known and shown and known != shown:
                raise changed_key(
                    hospital, kind, known, shown,
                    f"Where it is the new one, write it into {kind}s of {self.state.directory}/study.json and resume.",
                )  # fmt: skip
        facts = study.get("facts", {}).get(role, {}).get(hospital) or self._known_facts(role)
        if "name" in described:
            facts = facts | {"datasite": described["name"]}
        code, key = study["requests"][role][hospital], study["public_keys"][hospital]
        return Asked(hospital, datasite, code, study["assets"][hospital], key, facts, self.constants)

    def _known_facts(self, role: str) -> dict[str, Any]:
        """What certificates must say at least, for a study that was submitted before facts were kept."""
        request = next(request for request in self.requests if request.role == role)
        return {"function": request.function, "source_sha256": sha256(request.source)}

    def _hospitals(self) -> list[str]:
        """Those that were asked, then the others of the cohort; none before the first was asked."""
        asked, members = self._study().get("training_patients", {}), self.cohort.members
        if not asked:
            return []
        first = [name for name in members if name in asked] + [name for name in asked if name not in members]
        return [*first, *(name for name in members if name not in asked)]

    def _study(self) -> dict[str, Any]:
        """What the directory remembers. Raises `InvalidRequest` where somebody has changed it to what it never is."""
        study = self.state.read("study")
        nested = [study.get(name, {}) for name in ("requests", "sources", "training_patients", "assets", "facts")]
        nested += [study.get(f"{kind}s", {}) for kind in KEYS]
        nested += study["requests"].values() if isinstance(study.get("requests"), dict) else []
        if not all(isinstance(part, dict) for part in nested) or (study.get("requests") and "sources" not in study):
            raise self.state.damaged("study")
        return study

    def _datasite(self, hospital: str) -> Connection | None:
        return self.cohort.network.datasites.get(hospital)

    @contextmanager
    def _all_quotes(self) -> Iterator[Callable[[Request], Quotes]]:
        """Quotes of all requests at all hospitals, asked side by side from now on; read, they are waited for."""
        datasites = {name: member.datasite for name, member in self.cohort.members.items()}

        def quotes_of(request: Request) -> Quotes:
            return ask_all(datasites, lambda _, datasite: datasite.quote(request.source, self.cohort.name))

        pool = ThreadPoolExecutor(max_workers=len(self.requests))
        try:
            futures = {request.role: pool.submit(quotes_of, request) for request in self.requests}
            yield lambda request: futures[request.role].result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # a refusal here need not wait for hospitals

    def _submit_at(self, hospital: str, check: Check, progress: Progress, project: str) -> None:
        member = self.cohort.members[hospital]
        for request in self.requests:
            if hospital in self.codes(request.role):
                continue
            planned = check.digests[request.role, hospital]
            code = self._adopted(member.datasite, request, planned)
            code = code or member.datasite.submit(request.source, member.asset, self.purpose, project)
            if member.datasite.request_status(code)["plan_digest"] != planned:
                member.datasite.withdraw(code)
                raise RuleBroken(
                    f"{hospital} recorded another plan for {request.function} than it quoted, so it was withdrawn. "
                    "Submit again; where that does not help, ask its owner."
                )
            with self._writing:
                self._keep(request, hospital, code, check)
            progress.say(f"{hospital}: {request.function} submitted")

    def _keep(self, request: Request, hospital: str, code: str, check: Check) -> None:
        """Remember a submission."""
        member, described = self.cohort.members[hospital], self.cohort.network.descriptions[hospital]
        study = self.state.read("study")
        study.setdefault("requests", {}).setdefault(request.role, {})[hospital] = code
        study.setdefault("training_patients", {})[hospital] = member.published.training_patients
        study.setdefault("assets", {})[hospital] = member.asset
        for kind in KEYS:
            study.setdefault(f"{kind}s", {}).setdefault(hospital, described.get(kind, ""))
        facts = {**check.facts[request.role, hospital], "researcher": described.get("account")}
        facts = {name: value for name, value in facts.items() if value is not None or name == "graph_digest"}
        study.setdefault("facts", {}).setdefault(request.role, {})[hospital] = facts
        self.state.write("study", study)

    def _adopted(self, datasite: Connection, request: Request, plan_digest: str) -> str | None:
        """An open request for exactly this plan that is there already, as after this study's directory was lost."""
        for known in datasite.requests():
            if known["function"] == request.function and known["status"] in UNDECIDED | APPROVED:
                code = str(known["id"])
                if datasite.request_status(code)["plan_digest"] == plan_digest:
                    return code
        return None

    def _remember(self) -> None:
        if not self.state.read("study").get("requests"):
            about: dict[str, Any] = {"name": self.name, "dataset": self.cohort.name, "requests": {}}
            about["functions"] = {request.role: request.function for request in self.requests}
            about["sources"] = {request.role: sha256(request.source) for request in self.requests}
            self.state.write("study", about)

    def check_same_study(self) -> None:
        """Raise `WrongStatus` where this study's directory remembers requests with another source."""
        study = self._study()
        sources = {request.role: sha256(request.source) for request in self.requests}
        if study.get("requests") and study["sources"] != sources:
            raise WrongStatus(
                f"A study {self.name!r} with another source was submitted from {self.state.directory}. Give this one "
                "another name, or withdraw that one and remove its directory."
            )


def _comment(status: dict[str, Any]) -> str:
    """What an owner or a datasite said of a request, in one line."""
    return " ".join((status.get("comment") or "").split())
