"""Rounds whose releases leave in sums alone: who takes part, this datasite's answers at each step, and its masks.

The steps are those of `policies.secure_sums.party`. Here they meet the ledger: only approved requests are answered, a
release that is not under masks is written nowhere, and it is masked only for the weights that its round keys were
signed for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasites.directory import signing_key
from datasites.ledger.ledger import Ledger
from datasites.ledger.records import CodeRequestRecord
from datasites.settings import Settings
from datasites.vault.round_secrets import RoundSecrets
from policies.errors import InvalidRequest, UnsupportedMechanism, WrongStatus
from policies.privacy.mechanisms import DPSGD, Mechanism
from policies.privacy.secure_aggregation import SecureAggregation
from policies.release.plans import Plan, Published
from policies.release.summed import scale_of, steps_of
from policies.release.summed_step import whole_words
from policies.release.tensors import Array
from policies.schema.schemas import Schema
from policies.secure_sums.encoding import counted, encoded, shaped
from policies.secure_sums.messages import context_of, hex_of
from policies.secure_sums.party import PartyState, answer, begun, masked
from policies.source.statuses import RequestStatus, RunStatus

GOES_ON = (RequestStatus.APPROVED, RequestStatus.COMPLETED)


def declared_in(mechanism: Mechanism) -> SecureAggregation | None:
    """The secure aggregation that a mechanism declares, or None."""
    declared: SecureAggregation | None = getattr(mechanism, "secure_aggregation", None)
    return declared


def check_roster(mechanism: Mechanism, published: Published, public_key: str) -> None:
    """Raise `UnsupportedMechanism` unless a roster has this datasite, by its key, with its published patients."""
    declared = declared_in(mechanism)
    if declared is None:
        return
    party = declared.party_of(public_key)
    if party is None:
        raise UnsupportedMechanism(
            f"secure_aggregation does not name this datasite by its key {public_key[:16]}… Make the study anew:"
            " hospitals may have changed their keys."
        )
    patients = declared.hospitals[party - 1].patients
    if patients != published.training_patients:
        raise UnsupportedMechanism(
            f"secure_aggregation says {patients:,} patients of this datasite; it publishes"
            f" {published.training_patients:,} for training. Make the study anew."
        )


def check_scale(mechanism: Mechanism, published: Published) -> None:
    """Raise `UnsupportedMechanism` unless the numbers of an analysis mean at this datasite what the roster says."""
    declared = declared_in(mechanism)
    if declared is None:
        return
    own = scale_of(mechanism, published.schema)
    if declared.scale != own:
        raise UnsupportedMechanism(
            f"secure_aggregation adds up numbers of scale={declared.scale[:16]!r}, and those of {published.name!r} here"
            f" have scale={own[:16]!r}: columns have other bounds, labels, units or missing values than elsewhere,"
            " so nothing can be added up. Ask the hospitals to publish alike, or begin anew with those that do."
        )


class SecureRounds:
    """This datasite's part in secure sums, over one ledger."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self.settings, self.ledger = settings, ledger
        self.secrets = RoundSecrets(settings.directory)

    def answer(
        self, record: CodeRequestRecord, round_number: int, step: str, message: dict[str, Any]
    ) -> dict[str, Any]:
        """What this datasite answers to a step's message; written before it is sent, and the same to the same.

        Raises:
          WrongStatus: the request is not approved, the step comes too early, was answered to another message, or does
            not hold against a relay that lies.
          InvalidRequest: the message is none, or the request releases by itself.
        """
        plan, declared = _secure_plan(record)
        if record.status not in GOES_ON:
            raise WrongStatus(f"Request {record.id[:8]} is {record.status}. Nothing more is added up for it.")
        if type(round_number) is not int or not 1 <= round_number <= plan.rounds:
            raise InvalidRequest(f"round={str(round_number)[:20]} is outside [1, {plan.rounds}].")
        released = self._has_released(record, round_number)
        with self.secrets.changing(record.id, round_number) as state:
            if state is None:
                if step != "keys":
                    raise WrongStatus(f"Round {round_number} has no keys here. Ask for those first.")
                if released:
                    raise WrongStatus(
                        f"Round {round_number} was released before this datasite was put back from a backup, and its"
                        " keys are gone. Go on with the next round."
                    )
                state = self._begun(plan, declared, round_number, message)
            told = answer(
                state,
                step,
                message,
                declared=declared,
                signing_key=signing_key(self.settings.directory),
                has_released=released,
            )
            self.secrets.keep(record.id, round_number, state)
        return told

    def check_ready(self, record: CodeRequestRecord, plan: Plan, round_number: int, weights_digest: str) -> None:
        """Raise `WrongStatus` unless a secure round has exchanged its shares, for these very weights."""
        if declared_in(plan.mechanism) is not None:
            self._ready(record.id, plan, round_number, weights_digest)

    def masked(
        self,
        request: str,
        plan: Plan,
        round_number: int,
        weights_digest: str,
        release: Mapping[str, Array],
        weights: Mapping[str, Array],
        schema: Schema,
    ) -> dict[str, Array]:
        """A release as it leaves: as it is, or under this round's masks where it leaves in sums alone."""
        declared = declared_in(plan.mechanism)
        if declared is None:
            return dict(release)
        state = self._ready(request, plan, round_number, weights_digest)
        if isinstance(plan.mechanism, DPSGD) and plan.mechanism.step_grid is not None:
            words = whole_words(release)
        elif (steps := steps_of(plan.mechanism, schema, release)) is not None:
            words = counted(release, steps, declared)
        else:
            words = encoded(release, weights, declared, state.party)
        return shaped(masked(state, words, declared=declared), release)

    def _ready(self, request: str, plan: Plan, round_number: int, weights_digest: str) -> PartyState:
        declared, state = declared_in(plan.mechanism), self.secrets.find(request, round_number)
        assert declared is not None
        if state is None or "boxes" not in state.asked:
            raise WrongStatus(
                f"Round {round_number} leaves in a sum alone, and its hospitals have not exchanged their shares yet."
                " Ask for its steps keys, shares and boxes first; study.run() does."
            )
        if state.context != _context(plan, declared, round_number, weights_digest):
            raise WrongStatus(
                f"The keys of round {round_number} were made for other weights. Send everybody the same weights."
            )
        return state

    def _begun(self, plan: Plan, declared: SecureAggregation, round_number: int, message: dict[str, Any]) -> PartyState:
        own = signing_key(self.settings.directory).public_key().public_bytes_raw().hex()
        party = declared.party_of(own)
        if party is None:
            raise WrongStatus(
                f"This datasite's key is {own[:16]}… now, which is not in the roster of this request. Submit it anew."
            )
        weights_digest = hex_of(message.get("weights_digest"), "weights_digest", 32)
        return begun(_context(plan, declared, round_number, weights_digest), party)

    def _has_released(self, record: CodeRequestRecord, round_number: int) -> bool:
        return any(
            run.round == round_number and run.status is RunStatus.RELEASED for run in self.ledger.runs.list(record.id)
        )


def _secure_plan(record: CodeRequestRecord) -> tuple[Plan, SecureAggregation]:
    plan = record.plan
    declared = declared_in(plan.mechanism) if plan is not None else None
    if plan is None or declared is None:
        raise InvalidRequest(
            f"Request {record.id[:8]} releases by itself, in no sum. Call it as f(records=asset, ...)."
        )
    return plan, declared


def _context(plan: Plan, declared: SecureAggregation, round_number: int, weights_digest: str) -> str:
    return context_of(
        declared, source_sha256=plan.source_sha256, round_number=round_number, weights_digest=weights_digest
    )
