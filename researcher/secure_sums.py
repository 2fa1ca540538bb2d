"""Rounds whose releases can be read in sums alone: relay the hospitals' messages, collect what is masked, open the sum.

    keys → shares → boxes → every hospital's masked release → survivors → reveal → the mean

This side only relays (`policies.secure_sums.party` says what each hospital checks), so it holds no secret, and a study
that goes on after an interruption sends every hospital the messages that were decided on: they lie in the study's
directory with what was answered, under `sums/`. Whoever drops out of a step is missing from there on; the round closes
as long as `threshold` hospitals go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from policies.errors import PermissionRefused, Unavailable
from policies.privacy.mechanisms import DPSGD, Mechanism
from policies.privacy.secure_aggregation import SecureAggregation
from policies.release.summed import steps_of
from policies.release.summed_step import after_round
from policies.release.tensors import digest
from policies.schema.schemas import Schema
from policies.secure_sums import messages
from policies.secure_sums.encoding import Words, added, words_of
from policies.secure_sums.opening import open_sum, read_revealed
from policies.secure_sums.party import BOX_BYTES
from researcher.connections import Connection, ask_all
from researcher.progress import Progress
from researcher.releases import DEADLINE, FIRST_PAUSE, GRACE, LONGEST_PAUSE, Answers, Asked, ask_everyone
from researcher.state import Release, StudyState, Tensors

Reader = Callable[[int, dict[str, Any]], Any]
ReadSum = Callable[[Words, Tensors], Tensors]
"""Tensors of the words of an opened sum; the second are a masked release, for names and shapes."""


@dataclass
class SecureSum:
    """One round's sum, as far as it came.

    Args:
      declared: who takes part, as owners approved it.
      source_sha256: of the request.
      weights: that everybody is sent; {} for an analysis without a model.
      read: what an opened sum says; None of a training, which is given instead.
      training: how weights are trained: under shared noise the sum is of gradients, and a step is taken here.
      told: what was decided and answered, as plain data; kept in the study's directory after each step.
    """

    declared: SecureAggregation
    source_sha256: str
    role: str
    round: int
    weights: Tensors
    state: StudyState
    read: ReadSum | None = None
    training: DPSGD | None = None
    told: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kept = self.state.read(self._name)
        if kept.get("context") == self.context:
            self.told = kept
        else:
            self.told = {"context": self.context}

    @property
    def context(self) -> str:
        """The round's, as every hospital computes it."""
        sent = digest(self.weights)
        return messages.context_of(
            self.declared, source_sha256=self.source_sha256, round_number=self.round, weights_digest=sent
        )

    @property
    def _name(self) -> str:
        return _name_of(self.role, self.round)

    def ask(
        self,
        asked: Mapping[str, Asked],
        *,
        progress: Progress,
        what: str,
        deadline: float = DEADLINE,
        grace: float = GRACE,
    ) -> Answers:
        """Go through the round with the hospitals in `asked`: masked releases by hospital, and their mean.

        Raises:
          Unavailable: fewer than `threshold` are left; names who is missing. Asking again goes on from there.
          CertificateRefused: hospitals gave shares that do not come to what they signed.
        """
        members = {name: one for name, one in asked.items() if self.declared.party_of(one.public_key)}
        self._names = {self.party(one): name for name, one in members.items()}
        self._missing = {name: "it has another key than the roster names." for name in asked if name not in members}
        self._asked, self._grace = members, grace
        keys = self._decided("book", "keys", self._names, self._asks_keys, self._announced)
        boxes = self._decided("boxes", "shares", keys, lambda _: {"book": keys}, self._sealed)
        received = self._collect(
            "received", "boxes", boxes, lambda party: {"boxes": _for(party, boxes)}, lambda _, told: told
        )
        self._enough(received, "exchanged their shares")  # before any of them reads a row
        answers = self._released(deadline, progress, what)
        survivors = self.told["survivors"]
        signatures = self._collect(
            "signatures", "survivors", survivors, lambda _: {"survivors": survivors}, self._signature
        )
        self._enough(signatures, "signed who is in the sum")
        self._collect("revealed", "reveal", signatures, lambda _: {"signatures": signatures}, self._revealed)
        self._enough(self.told["revealed"], "gave their shares")
        answers.mean = self.mean(answers.releases)
        self.state.write_tensors(self._name, answers.mean)
        answers.missing = {**self._missing, **answers.missing}
        return answers

    def mean(self, releases: Mapping[str, Release]) -> Tensors:
        """The mean over those in the sum, weighed by their patients, from what is kept; nothing is asked.

        Of an evaluation's tables it is the sum itself.
        """
        declared, numbered = self.declared, messages.numbered
        parties = {int(party): name for party, name in self.told["names"].items()}
        masked = {party: words_of(releases[parties[party]].tensors) for party in self.told["survivors"]}
        total = open_sum(
            declared,
            self.context,
            book=numbered(declared, self.told["book"], "book"),
            sharing=numbered(declared, self.told["boxes"], "boxes"),
            masked=masked,
            revealed={
                party: read_revealed(declared, told)
                for party, told in numbered(declared, self.told["revealed"], "revealed").items()
            },
        )
        if self.read is not None:
            return self.read(total, next(iter(releases.values())).tensors)
        assert self.training is not None
        return after_round(total, self.weights, self.training, round=self.round, parties=list(masked))

    def party(self, asked: Asked) -> int:
        """A hospital's number in the roster."""
        party = self.declared.party_of(asked.public_key)
        assert party is not None
        return party

    # -- steps ---------------------------------------------------------------------------------------------------

    def _decided(
        self, what: str, step: str, among: Iterable[int | str], message: Callable[[int], dict[str, Any]], read: Reader
    ) -> dict[str, Any]:
        """What a step came to, once: later steps are about these hospitals alone."""
        if what not in self.told:
            self._enough(self._collect(what, step, among, message, read, keep=False), f"answered the step {step!r}")
            self._keep()
        decided: dict[str, Any] = self.told[what]
        return decided

    def _collect(
        self,
        what: str,
        step: str,
        among: Iterable[int | str],
        message: Callable[[int], dict[str, Any]],
        read: Reader,
        *,
        keep: bool = True,
    ) -> dict[str, Any]:
        """Ask those who have not answered a step yet; all answers so far, by party as text."""
        told: dict[str, Any] = dict(self.told.get(what, {}))
        wanted = {int(party) for party in among}
        asked = {
            self._names[party]: self._asked[self._names[party]]
            for party in sorted(wanted)
            if str(party) not in told and party in self._names
        }

        def ask(name: str, datasite: Connection) -> Any:
            one = self._asked[name]
            party = self.party(one)
            answer = _patiently(lambda: datasite.secure_sum(one.code, self.round, step, message(party)), self._grace)
            return read(party, answer)

        answered, problems = ask_all({name: one.datasite for name, one in asked.items()}, ask)
        told |= {str(self.party(self._asked[name])): answer for name, answer in answered.items()}
        self._missing |= {name: f"dropped out at the step {step!r}: {error}" for name, error in problems.items()}
        self.told[what] = dict(sorted(told.items(), key=lambda item: int(item[0])))
        if keep:
            self._keep()
        return dict(self.told[what])

    def _released(self, deadline: float, progress: Progress, what: str) -> Answers:
        """Masked releases of those who exchanged shares; who has one when this is first over is in the sum."""
        decided = self.told.get("survivors")
        wanted = decided if decided is not None else [int(party) for party in self.told["received"]]
        asked = {self._names[party]: self._asked[self._names[party]] for party in wanted if party in self._names}
        answers = ask_everyone(
            asked, self.role, self.round, self.weights or None,
            state=self.state, progress=progress, what=what, deadline=deadline, grace=self._grace,
        )  # fmt: skip
        got = {str(self.party(self._asked[name])): name for name in answers.releases}
        if decided is None:
            self._missing |= answers.missing
            self._enough(got, "released")
            self.told["survivors"] = sorted(int(party) for party in got)
            self.told["names"] = got
            self._keep()
        elif lost := [party for party in decided if str(party) not in got]:
            names = ", ".join(self.declared.hospitals[party - 1].name for party in lost)
            raise Unavailable(
                f"The masked release of {names} in round {self.round} is gone, and the sum is over it. Resume when it"
                " can be fetched again, which costs nothing."
            )
        return answers

    def _enough(self, answered: Mapping[str, Any], did: str) -> None:
        if len(answered) < self.declared.threshold:
            reasons = " ".join(f"{name}: {reason}" for name, reason in sorted(self._missing.items()))
            raise Unavailable(
                f"{len(answered)} hospitals {did} in round {self.round}, and the sum needs"
                f" threshold={self.declared.threshold}. Missing: {reasons or 'nobody else can be asked.'} Call"
                " study.resume() when they can take part: what was released is not paid for again."
            )

    def _keep(self) -> None:
        self.state.write(self._name, self.told)

    # -- reading what hospitals answer -----------------------------------------------------------------------------

    def _asks_keys(self, _: int) -> dict[str, Any]:
        return {"weights_digest": digest(self.weights)}

    def _announced(self, party: int, told: dict[str, Any]) -> dict[str, str]:
        announced = messages.announced_in({name: value for name, value in told.items() if name != "party"})
        messages.check_announced(self.declared, self.context, party, announced)
        return announced

    def _sealed(self, party: int, told: dict[str, Any]) -> dict[str, str]:
        boxes = messages.numbered(self.declared, told.get("boxes"), "boxes")
        wanted = {int(other) for other in self.told["book"]} - {party}
        if set(boxes) != wanted:
            raise PermissionRefused("it sent shares for other hospitals than those of the round. Tell its owner.")
        return {str(to): messages.hex_of(box, "a box", BOX_BYTES) for to, box in boxes.items()}

    def _signature(self, party: int, told: dict[str, Any]) -> str:
        signature = messages.hex_of(told.get("signature"), "a signature", 64)
        text = messages.survivors_text(self.context, self.told["survivors"])
        if not messages.is_signed(self.declared, party, text, signature):
            raise PermissionRefused("its signature is not one of its certificate key. Tell its owner.")
        return signature

    def _revealed(self, _: int, told: dict[str, Any]) -> dict[str, Any]:
        read_revealed(self.declared, told)
        return {"seeds": told["seeds"], "keys": told["keys"]}


def mean_of(state: StudyState, role: str, round: int) -> Tensors | None:
    """The mean that a round of a study came to, or None where it is not over."""
    return state.read_tensors(_name_of(role, round))


def sums_reader(mechanism: Mechanism, schema: Schema) -> ReadSum:
    """Reads the sum of tables, counts or other numbers on public steps."""

    def read(total: Words, like: Tensors) -> Tensors:
        steps = steps_of(mechanism, schema, like)
        assert steps is not None
        return added(total, like, steps)

    return read


def _name_of(role: str, round: int) -> str:
    return f"sums/{role}-{round:03d}"


def _for(party: int, boxes: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """What the others sealed for a party."""
    return {sender: sealed[str(party)] for sender, sealed in boxes.items() if sender != str(party)}


def _patiently(ask: Callable[[], dict[str, Any]], grace: float) -> dict[str, Any]:
    """An answer, asked for again while a datasite is away for no longer than `grace` seconds."""
    started, pause = time.monotonic(), FIRST_PAUSE
    while True:
        try:
            return ask()
        except Unavailable:
            if time.monotonic() - started + pause > grace:
                raise
        time.sleep(pause)
        pause = min(LONGEST_PAUSE, pause * 1.5)
