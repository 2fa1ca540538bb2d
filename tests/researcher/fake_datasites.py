"""Datasites that answer like real ones, in this process: the protocol of `researcher.network.Connection`.

Each keeps a ledger of its own: a (request, round) is charged once, answers the same weights with the stored release,
and refuses other weights. Tests turn them off, make them slow, deny, or fail a round.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from policies.errors import PermissionRefused, Unavailable, WrongStatus
from policies.release.tensors import digest
from policies.schema.schemas import Schema

SCHEMA = """
name = "flu"
population = "{population}"
description = "Visits for fever"
patient = "patient_id"
target = "influenza"
holdout = 0.2

[columns.age]
kind = "integer"
unit = "years"
minimum = 0
maximum = {oldest}
outside = "clamp"

[columns.temperature]
kind = "real"
unit = "°C"
minimum = 34.0
maximum = 42.0

[columns.influenza]
kind = "boolean"
"""


class FakeDatasite:
    """One hospital. `offset` is what its training adds to every weight, so that tests can do the sum."""

    def __init__(self, name: str, *, patients: int = 1000, offset: float = 1.0, oldest: int = 110) -> None:
        self.name, self.patients, self.offset = name, patients, offset
        self.schema = Schema.from_toml(SCHEMA.format(population=f"{name}-patients", oldest=oldest))
        self.sources: dict[str, str] = {}
        self.statuses: dict[str, str] = {}
        self.decided_with: dict[str, str] = {}
        self.projects: list[str] = []
        self.written: dict[str, list[dict[str, str]]] = {}
        self.releases: dict[tuple[str, int], tuple[str, dict[str, np.ndarray[Any, Any]]]] = {}
        self.charged: list[tuple[str, int]] = []
        self.calls: list[str] = []
        self.down = False
        self.down_in_rounds: set[int] = set()
        self.slow_in_rounds: set[int] = set()
        self.failing_rounds: set[int] = set()
        self.polls_before_release = 0
        self.answer_to_submit = "approved"
        self.findings: list[dict[str, Any]] = []
        self.short = 0.0
        self.engine: dict[str, Any] | None = None
        self.public: dict[str, bytes] = {}  # by request, files of public weights that came whole
        self.growing: dict[str, bytes] = {}
        self.parts_sent = 0
        self._polled = 0

    def describe(self) -> dict[str, Any]:
        self._called("describe")
        population = self.schema.population
        dataset = {
            "name": "flu",
            "version": f"version-{self.name}",
            "population": population,
            "schema": json.loads(json.dumps(self.schema.as_dict())),
            "patients": self.patients,
            "size_kind": "declared",
            "training_patients": round(self.patients * 0.8),
            "asset": f"asset-{self.name}",
        }
        budget = {"epsilon": 6.0, "delta": 1e-5, "epsilon_spent": 0.0, "epsilon_remaining": 6.0}
        return {"name": self.name, "public_key": "00", "datasets": [dataset], "budgets": {population: budget}}

    def quote(self, source: str, dataset: str) -> dict[str, Any]:
        self._called("quote")
        cost = {
            "epsilon": 2.0,
            "delta": 1e-5,
            "rounds": 5,
            "noise_multiplier": 1.1,
            "spent_before": 0.0,
            "spent_after": 2.0,
            "budget": 6.0,
            "fits": not self.short,
            "short": self.short,
        }
        digest_of_plan = f"plan of {source}"
        accepted = not self.findings and not self.short
        return {
            "accepted": accepted,
            "findings": self.findings,
            "plan_digest": digest_of_plan,
            "cost": cost,
            "engine": self.engine,
        }

    def submit(self, source: str, asset: str, purpose: str = "", project: str = "") -> str:
        self._called("submit")
        self.projects.append(project)
        assert asset == f"asset-{self.name}"
        if source in self.sources.values():
            raise WrongStatus("You asked this before.")
        code = f"{self.name}-{len(self.sources)}"
        self.sources[code], self.statuses[code] = source, self.answer_to_submit
        return code

    def requests(self) -> list[dict[str, Any]]:
        self._called("requests")
        return [
            {"id": code, "function": source[4 : source.index("(")], "status": self.statuses[code]}
            for code, source in self.sources.items()
        ]

    def request_status(self, code: str) -> dict[str, Any]:
        self._called("request_status")
        rounds = [{"round": number, "status": "released"} for each, number in self.releases if each == code]
        return {
            "status": self.statuses[code],
            "comment": self.decided_with.get(code, ""),
            "rounds": rounds,
            "expires": None,
            "plan_digest": f"plan of {self.sources[code]}",
        }

    def comment(self, code: str, text: str) -> list[dict[str, str]]:
        self._called("comment")
        self.written.setdefault(code, []).append(
            {"at": "2026-11-25T20:00:00+00:00", "from": "researcher", "text": text}
        )
        return self.written[code]

    def comments(self, code: str) -> list[dict[str, str]]:
        self._called("comments")
        return self.written.get(code, [])

    def certificates(self, code: str) -> list[str]:
        self._called("certificates")
        return ["{}" for each, _ in self.releases if each == code]

    def withdraw(self, code: str) -> dict[str, Any]:
        self._called("withdraw")
        self.statuses[code] = "withdrawn"
        return self.request_status(code)

    def keep_weights(self, code: str, begin: int, size: int, content: bytes) -> dict[str, Any]:
        self._called("keep_weights")
        have = self.public.get(code) or self.growing.get(code, b"")
        if content and code not in self.public:
            assert begin == len(have)
            self.parts_sent += 1
            self.growing[code] = have = have + content
            if len(have) == size:
                self.public[code] = have
        return {"kept": code in self.public, "have": len(have)}

    def mock(self, asset: str) -> np.ndarray[Any, Any]:
        self._called("mock")
        return np.array([[0.0, 0.0, 30.0, 37.0, 0.0], [1.0, 0.0, 41.0, 39.0, 1.0]])

    def run(
        self, code: str, asset: str, weights: Mapping[str, np.ndarray[Any, Any]] | None, round: int
    ) -> dict[str, Any]:
        self._called("run")
        if round in self.down_in_rounds:
            raise Unavailable(f"{self.name} does not answer (connection refused).")
        if self.statuses[code] not in ("approved", "completed"):
            raise PermissionRefused(f"This request is {self.statuses[code]}.")
        running = {"status": "running", "round": round, "release": None, "certificate": None}
        if round in self.slow_in_rounds:
            return running
        if round in self.failing_rounds:
            return running | {"status": "failed"}
        sent = digest(weights or {})
        if (code, round) not in self.releases:
            if self._polled < self.polls_before_release:
                self._polled += 1
                return running
            self.releases[code, round] = (sent, self._release(self.sources[code], weights))
            self.charged.append((code, round))
        kept, release = self.releases[code, round]
        if kept != sent:
            raise WrongStatus(f"Round {round} was run with other weights.")
        certificate = json.dumps({"datasite": self.name, "round": round, "release": digest(release)})
        return {"status": "released", "round": round, "release": release, "certificate": certificate}

    def _release(
        self, source: str, weights: Mapping[str, np.ndarray[Any, Any]] | None
    ) -> dict[str, np.ndarray[Any, Any]]:
        if "evaluate" in source:
            bins = np.linspace(0.0, 100.0, 20)
            return {"scores": np.stack([bins[::-1], bins])}
        if weights is None:
            return {"count": np.array([float(self.patients)]), "mean/temperature": np.array([37.0 + self.offset])}
        # In order of name, as a release is read from its bytes; weights are sent in the model's own order.
        return {name: (value * 0.5 + self.offset).astype("float32") for name, value in sorted(weights.items())}

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if self.down:
            raise Unavailable(f"{self.name} does not answer (connection refused).")
