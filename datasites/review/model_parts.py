"""The parts of a model that do not come with a round's question: public weights, and what stays at the hospital."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy.typing as npt

from datasites.ledger.ledger import Ledger
from datasites.ledger.records import CodeRequestRecord
from datasites.settings import Settings
from datasites.vault.local_heads import LocalHeads, local_shapes
from datasites.vault.public_weights import PublicWeights, Taken, constant_shapes
from policies.errors import InvalidRequest, WeightsRefused
from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.release.plans import Plan
from policies.source.statuses import RequestStatus, RunStatus

Arrays = dict[str, npt.NDArray[Any]]
KEEPS_WEIGHTS = (RequestStatus.CHECKED, RequestStatus.APPROVED, RequestStatus.COMPLETED)
KEEPS_HEADS = (RequestStatus.APPROVED, RequestStatus.COMPLETED)


class ModelParts:
    """Public weights by request, and local parameters by request and round."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self.ledger = ledger
        self.public = PublicWeights(settings.directory / "public_weights", most=settings.public_weights_mib << 20)
        self.heads = LocalHeads(settings.directory / "local_heads")

    def take(self, record: CodeRequestRecord, *, begin: int, size: int, content: bytes) -> Taken:
        """The next bytes of the public weights that a request names, from its researcher.

        Raises:
          InvalidRequest: the request names none, or is closed.
          WeightsRefused: they are not those.
        """
        plan = record.plan
        wanted = public_weights_of(plan) if plan is not None else ""
        if plan is None or plan.graph is None or not wanted or record.status not in KEEPS_WEIGHTS:
            raise InvalidRequest(f"Request {record.id[:8]} is {record.status} and waits for no public weights.")
        return self.public.take(
            record.researcher, wanted, constant_shapes(plan.graph), begin=begin, size=size, content=content
        )

    def check_ready(self, record: CodeRequestRecord, plan: Plan, round_number: int, weights_digest: str) -> None:
        """Raise `WeightsRefused` unless a round may begin: with the weights that were named as the first ones, and with
        the public weights here."""
        mechanism = plan.mechanism
        first = mechanism.initial if isinstance(mechanism, DPSGD) and round_number == 1 else ""
        if first and first != weights_digest:
            raise WeightsRefused(
                f"Round 1 of this request begins with the weights {first[:12]}… that it names, and these are"
                f" {weights_digest[:12]}…. Send those, or submit a request that names these."
            )
        if wanted := public_weights_of(plan):
            self.public.check_here(record.researcher, wanted)

    def all_weights(self, record: CodeRequestRecord, plan: Plan, round_number: int, weights: Arrays) -> Arrays:
        """What came with the question, the frozen parameters, and the local ones as the last round left them.

        Raises `WeightsRefused` or `Unavailable` where they are not here as they should be.
        """
        wanted = public_weights_of(plan)
        if plan.graph is None or not wanted:
            return weights
        constants = self.public.load(record.researcher, wanted, constant_shapes(plan.graph))
        return {**weights, **constants, **(self._local(record, plan, round_number) or {})}

    def take_local(self, request: str, round_number: int, plan: Plan, tensors: Arrays) -> Arrays:
        """Keep what stays of a round's tensors; what leaves is what is left of them."""
        if plan.graph is None or not plan.graph.local or not isinstance(plan.mechanism, DPSGD):
            return tensors
        names = {parameter.name for parameter in plan.graph.local}
        if missing := names - set(tensors):
            raise WeightsRefused(f"The job gave no {', '.join(sorted(missing))}.")
        self.heads.keep(request, round_number, {name: tensors[name] for name in names})
        return {name: array for name, array in tensors.items() if name not in names}

    def _local(self, record: CodeRequestRecord, plan: Plan, round_number: int) -> Arrays | None:
        assert plan.graph is not None
        if not plan.graph.local:
            return None
        shapes = local_shapes(plan.graph)
        if isinstance(plan.mechanism, Evaluation):
            trained = self._trained(record, plan, plan.mechanism.trained_as)
            return None if trained is None else self.heads.after(trained, self._released(trained), shapes)
        before = [number for number in self._released(record.id) if number < round_number]
        return self.heads.after(record.id, before, shapes)

    def _released(self, request: str) -> list[int]:
        return [run.round for run in self.ledger.runs.list(request) if run.status is RunStatus.RELEASED]

    def _trained(self, record: CodeRequestRecord, plan: Plan, function: str) -> str | None:
        """The newest request of the same researcher's that trained this model's local parameters on the same table."""
        for request in reversed(self.ledger.requests.list(researcher=record.researcher)):
            other = request.plan if request.function == function and request.status in KEEPS_HEADS else None
            if other is None or request.version != record.version or not isinstance(other.mechanism, DPSGD):
                continue
            same = (other.graph, public_weights_of(other)) == (plan.graph, public_weights_of(plan))
            if same and self._released(request.id):
                return request.id
        return None

    def forget_if_over(self, request: str) -> bool:
        """Delete the local parameters of a study that is over; whether there were any."""
        return self.ledger.requests.get(request).status not in KEEPS_HEADS and self.heads.forget(request)

    def forget_unused(self, versions: Iterable[str]) -> None:
        """Delete public weights that no open request names, and local parameters of studies that are over.

        Args:
          versions: of the datasets that are published.
        """
        here, records = set(versions), self.ledger.requests.list()
        open_ones = [record for record in records if record.status in KEEPS_WEIGHTS and record.version in here]
        named = {
            (record.researcher, wanted)
            for record in open_ones
            if record.plan is not None and (wanted := public_weights_of(record.plan))
        }
        self.public.forget(keep=named)
        self.heads.forget_others(keep=[record.id for record in open_ones if record.status in KEEPS_HEADS])


def public_weights_of(plan: Plan) -> str:
    """The digest of public weights that a plan names, or ""."""
    return plan.mechanism.public_weights if isinstance(plan.mechanism, DPSGD | Evaluation) else ""
