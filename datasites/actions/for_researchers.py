"""What a researcher asks of a datasite, by way of PySyft: plain data in, plain data out, `DatasiteError` raised.

Whoever asks is named by the e-mail of their account. Another's request is answered as one that does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from datasites.actions.balances import balance_for_researchers
from datasites.actions.comments import write_comment
from datasites.actions.own_releases import PATIENTS
from datasites.actions.requests import cost_dict, line_dict
from datasites.datasite import Datasite
from datasites.ledger.records import CodeRequestRecord
from datasites.review.planning import published_from
from datasites.review.rounds import Arrays
from datasites.vault.synthetic_mock import FUNCTION
from policies.errors import InvalidRequest
from policies.secure_sums.messages import read_message
from policies.source.statuses import STATUS_TEXT, Party, RequestStatus

PROTOCOL = 1
MOST_LISTED = 1000


class ForResearchers:
    """The researchers' half of a datasite."""

    def __init__(self, datasite: Datasite) -> None:
        self.datasite = datasite

    def describe(self, researcher: str) -> dict[str, Any]:
        """Name, public key, datasets with schemas and public sizes, and budgets left."""
        datasite, ledger = self.datasite, self.datasite.ledger
        rules = datasite.decisions.read_rules()
        datasets, budgets = [], {}
        sizes, mocks = self._own_certificates(PATIENTS), self._own_certificates(FUNCTION)
        for record in ledger.datasets.list():
            published = published_from(record)
            datasets.append(
                {
                    "name": published.name,
                    "version": published.version,
                    "population": published.population,
                    "schema": published.schema.as_dict(),
                    "patients": published.patients,
                    "size_kind": published.size_kind,
                    "training_patients": published.training_patients,
                    "asset": record.assets["records"],
                    "size_certificate": sizes.get(record.version),
                    **({"mock_certificate": mocks[record.version]} if record.version in mocks else {}),
                }
            )
            own = ledger.budgets.researcher_balance(published.population, researcher, limit=rules.researcher_epsilon)
            plan = rules.yearly_plans.get(published.population)
            budgets[published.population] = {
                **balance_for_researchers(ledger, published.population, plan, researcher),
                "researcher_epsilon_remaining": own.epsilon_remaining,
            }
        return {
            "name": datasite.settings.name,
            "protocol": PROTOCOL,
            "public_key": datasite.public_key(),
            "datasets": datasets,
            "budgets": budgets,
        }

    def quote(self, researcher: str, source: str, dataset: str) -> dict[str, Any]:
        """Findings, plan, cost and engine of a source, before it is submitted."""
        quote = self.datasite.submissions.quote(source, dataset, researcher)
        return {
            "accepted": quote.accepted,
            "findings": [asdict(finding) for finding in quote.findings],
            "plan": quote.plan.as_dict() if quote.plan else None,
            "plan_digest": quote.plan.digest if quote.plan else None,
            "cost": cost_dict(quote.cost) if quote.cost else None,
            "engine": asdict(quote.engine) if quote.engine else None,
        }

    def submit(
        self,
        researcher: str,
        source: str,
        asset: str,
        purpose: str,
        store: Callable[[], dict[str, str]],
        project: str = "",
    ) -> None:
        """Inspect and record a request, under a project where one is named; `store` keeps it in PySyft."""
        datasite = self.datasite
        record = datasite.submissions.submit(researcher, source, asset, purpose, store, project)
        filed = {"project": project} if project else {}
        datasite.audit_log.record(
            researcher, "submit", record.id, function=record.function, dataset=record.dataset, **filed
        )
        datasite.decisions.decide_at_once(record)
        if datasite.ledger.requests.get(record.id).status is RequestStatus.CHECKED:
            datasite.notices.waits(record)
            datasite.mock_runs.start(record)

    def ask(self, researcher: str, code: str, round_number: int, weights: Arrays) -> dict[str, Any]:
        """A round of the researcher's own approved request."""
        return self.datasite.rounds.ask(self._own(researcher, code), round_number, weights)

    def look(self, researcher: str, code: str, round_number: int, weights_digest: str) -> dict[str, Any]:
        """Where a round of the researcher's own request stands that was asked for with weights of this digest."""
        return self.datasite.rounds.look(self._own(researcher, code), round_number, weights_digest)

    def secure_sum(self, researcher: str, code: str, round_number: int, step: str, message: str) -> str:
        """This datasite's answer to one step of a secure sum of the researcher's own request; JSON both."""
        self.datasite.rounds.check_not_stopped()
        content = read_message(message)
        return json.dumps(self.datasite.rounds.secure.answer(self._own(researcher, code), round_number, step, content))

    def status(self, researcher: str, code: str) -> dict[str, Any]:
        """Where the researcher's own request stands, in fixed texts and what people wrote."""
        ledger = self.datasite.ledger
        ledger.expire_due()
        record = self._own(researcher, code)
        comments = ledger.requests.comments(record.id)
        return {
            "request": record.id,
            "function": record.function,
            "status": record.status.value,
            "text": STATUS_TEXT[record.status],
            "comment": next((comment.text for comment in reversed(comments) if comment.actor != researcher), ""),
            "findings": [asdict(finding) for finding in record.findings],
            "rounds": [{"round": run.round, "status": run.status.value} for run in ledger.runs.list(record.id)],
            "expires": record.expires_at,
            "plan_digest": record.plan_digest,
            "purpose": record.purpose,
        }

    def requests_of(self, researcher: str) -> list[dict[str, Any]]:
        """The researcher's own requests in the order they came: all that wait, and the newest of the others."""
        lines = list(self.datasite.ledger.requests.lines(researcher=researcher, most=MOST_LISTED))
        lines.reverse()
        return [line_dict(line) for line in sorted(lines, key=lambda line: line.submitted_at)]

    def keep_weights(self, researcher: str, code: str, begin: int, size: int, content: bytes) -> dict[str, Any]:
        """Take the next bytes of the public weights that the researcher's own request names."""
        taken = self.datasite.rounds.parts.take(self._own(researcher, code), begin=begin, size=size, content=content)
        return asdict(taken)

    def withdraw(self, researcher: str, code: str) -> dict[str, Any]:
        """Take the researcher's own request back. What a study left here goes, also where all its rounds are used."""
        record = self._own(researcher, code)
        if self.datasite.rounds.parts.heads.forget(record.id) and record.status is RequestStatus.COMPLETED:
            self.datasite.audit_log.record(researcher, "withdraw", record.id, deleted="local parameters")
            return self.status(researcher, code)
        self.datasite.ledger.transition(record.id, RequestStatus.WITHDRAWN, actor=researcher, party=Party.RESEARCHER)
        self.datasite.audit_log.record(researcher, "withdraw", record.id)
        return self.status(researcher, code)

    def comment(self, researcher: str, code: str, text: str) -> list[dict[str, str]]:
        """Write on the researcher's own request; the owner gets word by e-mail. All that is written on it."""
        record = self._own(researcher, code)
        write_comment(self.datasite, record, researcher, text)
        self.datasite.notices.commented(record)
        return self.comments(researcher, code)

    def comments(self, researcher: str, code: str) -> list[dict[str, str]]:
        """What is written on the researcher's own request, oldest first; the hospital's people are not told apart."""
        record = self._own(researcher, code)
        return [
            {
                "at": comment.at,
                "from": "researcher" if comment.actor == researcher else "data owner",
                "text": comment.text,
            }
            for comment in self.datasite.ledger.requests.comments(record.id)
        ]

    def certificates(self, researcher: str, code: str) -> list[str]:
        """Certificates of the researcher's own releases, oldest first."""
        record = self._own(researcher, code)
        return [release.certificate for release in self.datasite.ledger.runs.releases(record.id)]

    def _own(self, researcher: str, code: str) -> CodeRequestRecord:
        try:
            record = self.datasite.ledger.requests.get(code)
        except InvalidRequest:
            record = None
        if record is None or record.researcher != researcher:
            raise InvalidRequest("You have no such request here. `client.api.services.datasite.requests()` lists them.")
        return record

    def _own_certificates(self, function: str) -> dict[str, str]:
        """The certificates of the datasite's own releases called `function`, as of counts of patients, by version."""
        ledger = self.datasite.ledger
        own = {
            record.id: record.version for record in ledger.requests.list(by_owner=True) if record.function == function
        }
        return {
            own[release.request]: release.certificate for release in ledger.runs.releases() if release.request in own
        }
