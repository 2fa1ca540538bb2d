"""One person's device: reads its own numbers, answers with noise, and keeps what it cost in a ledger of its own.

A question comes as text and an answer goes as text, whoever carries them. Which questions are answered, and in which
words they are refused, depends on the question, the budget and what the person accepted, and never on the numbers. Only
whether a device has a number at all shows, as it shows who takes part.

This needs Python's own library alone, and `cryptography` for noise that is shared.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from policies.canonical import canonical
from policies.errors import BudgetExceeded, DatasiteError, InvalidRequest, PermissionRefused, WrongStatus
from policies.numbers import written
from policies.privacy.device_reports import NUMBERS as NUMBERS_EACH
from policies.privacy.device_reports import UNITS, DeviceQuestion, question_from, roster_digest, units
from researcher.devices.ledger import ACCEPTED, ANSWER, FACT, ROUND, Book, Ledger

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from policies.secure_sums.committee import Work

LONGEST_TEXT = 1 << 25  # characters: a member of a committee is sent what thousands of devices signed
ABOUT = {"what": "about"}
NUMBERS = "numbers"  # the step in which the masked numbers leave
JOIN, SUM = "join", "sum"  # of a committee
TEAM_STEPS = (JOIN, NUMBERS, SUM)
_SECURE = random.SystemRandom()


class Device:
    """A device that answers questions about its person.

    Args:
      readings: gives the person's numbers by column, whenever a question is answered.
      ledger: of this device alone.
      source: of random bits; the operating system's.
      work: for simulated devices, which share what takes time and is the same for all of them.
    """

    __slots__ = ("_ledger", "_readings", "_source", "_work")

    def __init__(
        self,
        readings: Callable[[], Mapping[str, Any]],
        ledger: Ledger,
        *,
        source: random.Random = _SECURE,
        work: Work | None = None,
    ) -> None:
        self._readings, self._ledger, self._source, self._work = readings, ledger, source, work

    def answer(self, text: str) -> str:
        """What is answered to a text, stored before it is returned. A refusal is an answer too: `{"refused": why}`."""
        try:
            told = self._answered(text)
        except DatasiteError as error:
            told = {"refused": error.public_message}
        return canonical(told).decode()

    def accept(self, question: str) -> str:
        """The person accepts the roster of a question with shared noise; says in words what that is.

        From now on questions to this very roster cost their ε, since no more of its devices are trusted to work
        together than it allows. Without, they cost what they would if all others did.

        Raises:
          InvalidRequest: the text is no question, or one without a roster.
        """
        asked = question_from(_read(question).get("question"))
        if asked.roster is None:
            raise InvalidRequest(
                "This question shares no noise: every device adds all of its own, and nobody is trusted."
            )
        with self._ledger.transaction() as book:
            book.write(ACCEPTED, roster_digest(asked.roster), "")
        return in_words(asked)

    def remaining(self) -> float:
        """ε that is left."""
        with self._ledger.transaction() as book:
            return (book.budget() - book.spent()) / UNITS

    def _answered(self, text: str) -> dict[str, Any]:
        data = _read(text)
        if data == ABOUT:
            with self._ledger.transaction() as book:
                key = self._key(book).public_key().public_bytes_raw().hex()
            return {"key": key, "remaining": self.remaining()}
        question = question_from(data.get("question"))
        if set(data) == {"question"} and question.roster is None:
            return self._with_own_noise(question)
        if set(data) == {"question", "step", "message"} and question.shared is not None:
            return self._in_a_sum(question, data["step"], data["message"])
        if set(data) == {"question", "step", "message"} and question.team is not None:
            return self._in_a_team(question, data["step"], data["message"])
        raise InvalidRequest("A question with shared noise is asked in steps, and one without is asked at once.")

    def _with_own_noise(self, question: DeviceQuestion) -> dict[str, Any]:
        with self._ledger.transaction() as book:
            if (told := book.read(ANSWER, question.digest)) is None:
                charge = self._affordable(book, question)
                numbers = question.answered(self._values(question), self._source)
                told = json.dumps({"numbers": numbers})
                book.write(ANSWER, question.digest, told, charge=charge)
        return dict(json.loads(told))

    def _in_a_sum(self, question: DeviceQuestion, step: object, message: object) -> dict[str, Any]:
        from policies.secure_sums import party

        roster = question.shared
        assert roster is not None
        with self._ledger.transaction() as book:
            key = self._key(book)
        place = roster.party_of(key.public_key().public_bytes_raw().hex())
        if place is None:
            raise PermissionRefused("The roster of this question does not name this device. Ask without it.")
        if not isinstance(message, dict) or not isinstance(step, str):
            raise InvalidRequest("A step of a secure sum has a name and a message.")
        with self._ledger.transaction() as book:
            released = book.read(ANSWER, question.digest)
            kept = book.read(ROUND, question.digest)
            if kept is None:
                self._affordable(book, question)
                self._values(question)
                state = party.begun(context_of(question), place)
            else:
                state = party.PartyState.from_dict(json.loads(kept))
            if step == NUMBERS:
                told = released or self._masked(book, question, state)
                return dict(json.loads(told))
            answer = party.answer(
                state, step, message, declared=roster, signing_key=key, has_released=released is not None
            )
            book.write(ROUND, question.digest, json.dumps(state.as_dict()))
        return answer

    def _masked(self, book: Book, question: DeviceQuestion, state: Any) -> str:
        from policies.secure_sums import party

        if "boxes" not in state.asked or "survivors" in state.asked:
            raise WrongStatus("The numbers of this device leave after the step 'boxes', and once. Ask for that first.")
        charge = self._affordable(book, question)
        numbers = question.answered(self._values(question), self._source)
        told = json.dumps({"numbers": party.masked_numbers(state, numbers)})
        book.write(ANSWER, question.digest, told, charge=charge)
        return told

    def _in_a_team(self, question: DeviceQuestion, step: object, message: object) -> dict[str, Any]:
        from policies.secure_sums import committee

        if not isinstance(message, dict) or step not in TEAM_STEPS:
            raise InvalidRequest(f"A step of a team's sum is one of {', '.join(TEAM_STEPS)}, and has a message.")
        work = self._work or committee.Work()
        with self._ledger.transaction() as book:
            if step == JOIN:
                return {name: self._joined(book, question)[name] for name in ("key", "signature")}
            if step == SUM:
                return self._summed(book, question, message, work)
            if (told := book.read(ANSWER, question.digest)) is None:
                told = self._shared_out(book, question, message, work)
        return dict(json.loads(told))

    def _joined(self, book: Book, question: DeviceQuestion) -> dict[str, Any]:
        """This device's round key as a member of the committee, made when it is first asked for."""
        from policies.secure_sums import committee

        if (kept := book.read(ROUND, question.digest)) is None:
            private, key = committee.new_round_key()
            signature = committee.signed(self._key(book), committee.join_text(context_of(question), key))
            kept = json.dumps({"private": private.private_bytes_raw().hex(), "key": key, "signature": signature})
            book.write(ROUND, question.digest, kept)
        return dict(json.loads(kept))

    def _shared_out(self, book: Book, question: DeviceQuestion, message: dict[str, Any], work: Work) -> str:
        from policies.secure_sums import committee

        assert question.team is not None
        team, context, key = question.team, context_of(question), self._key(book)
        members = work.joined(team, context, message)
        charge = self._affordable(book, question)
        numbers = question.answered(self._values(question), self._source)
        own = key.public_key().public_bytes_raw().hex()
        answer = committee.shared_out(team, context, members, numbers, own=own, work=work)
        signature = committee.signed(key, committee.numbers_text(context, answer["key"]))
        told = json.dumps(answer | {"signature": signature})
        book.write(ANSWER, question.digest, told, charge=charge)
        return told

    def _summed(self, book: Book, question: DeviceQuestion, message: dict[str, Any], work: Work) -> dict[str, Any]:
        from policies.secure_sums import committee

        assert question.team is not None
        kept, asked = self._joined(book, question), hashlib.sha256(canonical(message)).hexdigest()
        if "asked" in kept:
            if kept["asked"] != asked:
                raise WrongStatus(
                    "This device gave its sum of this question for other devices, and gives one. It is kept."
                )
            return {"sums": kept["sums"]}
        sums = committee.summed(
            question.team, context_of(question), message,
            private=bytes.fromhex(kept["private"]), own=self._key(book).public_key().public_bytes_raw().hex(),
            count=NUMBERS_EACH * len(question.columns), work=work,
        )  # fmt: skip
        done = {**kept, "private": "", "asked": asked, "sums": sums}
        book.write(ROUND, question.digest, json.dumps(done))
        return {"sums": sums}

    def _affordable(self, book: Book, question: DeviceQuestion) -> int:
        """What a question costs this person, in millionths. Raises `BudgetExceeded` where that is not left."""
        accepted = question.roster is None or book.read(ACCEPTED, roster_digest(question.roster)) is not None
        epsilon = question.epsilon if accepted else question.epsilon_if(1)
        charge, left = units(epsilon), book.budget() - book.spent()
        if charge > left:
            why = (
                ""
                if accepted
                else " This person did not accept the roster, so it costs as if all others worked together."
            )
            raise BudgetExceeded(
                f"This question costs ε={written(epsilon)} and ε={written(left / UNITS)} is left on this device."
                f"{why} Ask for a smaller epsilon.",
                requested=epsilon,
                remaining=left / UNITS,
            )
        return charge

    def _values(self, question: DeviceQuestion) -> dict[str, float]:
        values = self._readings()
        wanted = {column.name: _finite(values.get(column.name)) for column in question.columns}
        if None in wanted.values():
            raise PermissionRefused("This device does not have a number in each of these columns.")
        return {name: value for name, value in wanted.items() if value is not None}

    def _key(self, book: Book) -> Ed25519PrivateKey:
        """The key that signs its steps in secure sums, made when it is first asked for."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if (kept := book.read(FACT, "key")) is None:
            kept = Ed25519PrivateKey.generate().private_bytes_raw().hex()
            book.write(FACT, "key", kept)
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(kept))


def in_words(question: DeviceQuestion) -> str:
    """What a person accepts with the roster of a question."""
    roster, count = question.roster, question.sharing
    assert roster is not None
    return (
        f"{count:,} devices add parts of one noise, and any {question.parts:,} parts are the whole. That your answer"
        f" costs ε={written(float(question.epsilon))} holds while no more than {roster.colluding:,} of the other"
        f" {count - 1:,} devices work together with the researcher. If more do, it can be as much as"
        f" ε={written(math.ceil(question.epsilon_if(1) * 100) / 100)}."
    )


def context_of(question: DeviceQuestion) -> str:
    """Of the one round that a question with shared noise has."""
    from policies.secure_sums import committee, messages

    if question.team is not None:
        return committee.context_of(question.digest, question.team)
    assert question.shared is not None
    return messages.context_of(question.shared, source_sha256=question.digest, round_number=1, weights_digest="")


def _read(text: object) -> dict[str, Any]:
    try:
        data = json.loads(text) if isinstance(text, str) and len(text) <= LONGEST_TEXT else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise InvalidRequest(f"A device is asked in JSON, in an object of up to {LONGEST_TEXT} characters.")
    return data


def _finite(value: object) -> float | None:
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
