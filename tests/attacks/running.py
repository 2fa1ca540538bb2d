"""A runner under attack: jobs with plans, graphs, weights and rows that no honest datasite would hand over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datasites.jobs.pool import KINDS, Answer, JobPool
from datasites.settings import job_socket
from datasites.vault.mocks import draw_mock
from datasites.vault.private_rows import PrivateRows
from policies.errors import DatasiteError
from policies.privacy.mechanisms import as_dict
from policies.release.tensors import from_bytes, to_bytes
from tests.attacks.witnesses import ROW, ROW_DIGITS, Witnesses
from tests.policies.plan_factories import (
    LINEAR,
    SCHEMA,
    evaluation,
    plan_of,
    regression,
    statistics,
    survival,
    training,
)

ROWS = 60


class Running:
    """Hands jobs to a real runner; `told` is all that the last job said, and `witnesses` see what it reached."""

    def __init__(self, witnesses: Witnesses, jobs: Path) -> None:
        self.witnesses = witnesses
        self.pool = JobPool({kind: job_socket(jobs, kind) for kind in KINDS}, start_parents=False)
        self.weights = {"layer.weight": np.zeros((2, 3), np.float32), "layer.bias": np.zeros(2, np.float32)}
        self.told = ""

    @property
    def graph(self) -> dict[str, Any]:
        """An honest graph, the caller's own to spoil."""
        copy: dict[str, Any] = json.loads(json.dumps(LINEAR.as_dict()))
        return copy

    def rows(self) -> Any:
        """A table of 60 patients; the first one's temperature is the cell by which rows are known."""
        rows = draw_mock(SCHEMA, ROWS)
        rows[:, 0], rows[:, 1] = np.arange(ROWS), 0
        rows[0, 3] = 34 + ROW
        return rows

    def run(
        self,
        job: str = "train",
        *,
        graph: Mapping[str, Any] | None = None,
        weights: Mapping[str, Any] | bytes | None = None,
        rows: Any = None,
        mechanism: Mapping[str, Any] | None = None,
        changes: Mapping[str, Any] | None = None,
        seconds: float = 20,
        memory: int = 512 << 20,
        largest: int = 1 << 20,
    ) -> Answer | None:
        """One job, or None where it was ended. Whatever is not given is honest."""
        declared: Any = {
            "train": training(steps=2),
            "evaluate": evaluation(),
            "statistics": statistics(),
            "survival": survival(),
            "regression": regression(),
        }[job]
        plan = plan_of(declared).as_dict()
        if job in ("train", "evaluate") and graph is not None:
            plan["graph"] = dict(graph)
        plan["mechanism"] = {**plan["mechanism"], **(mechanism or {})}
        weights = self.weights if weights is None else weights
        payload = weights if isinstance(weights, bytes) else to_bytes(weights)
        given = {
            "job": "analyse" if job in ("survival", "regression") else job,
            "plan": plan,
            "mechanism": {**as_dict(plan_of(declared).mechanism), **(mechanism or {})},
            "schema": SCHEMA.as_dict(),
            "training_patients": 48,
            **(changes or {}),
        }
        bounds: dict[str, Any] = {"seconds": seconds, "memory": memory, "largest": largest}
        try:
            with PrivateRows(self.rows() if rows is None else rows) as held:
                answer = self.pool.run("runner", given, payload, rows=held, **bounds)
        except DatasiteError as error:
            if "not running" in str(error):  # then there was nothing to attack
                raise
            self.told = str(error)
            return None
        self.told = json.dumps(answer.message, ensure_ascii=False)
        if answer.done:
            self.told += repr({name: value.tolist() for name, value in from_bytes(answer.payload).items()})
        return answer

    def accepts(self, job: str = "train", **options: Any) -> bool:
        """Whether a job ends with a release."""
        answer = self.run(job, **options)
        return answer is not None and answer.done

    def tells_rows(self) -> bool:
        """Whether what the last job said holds the cell by which rows are known."""
        return ROW_DIGITS in self.told or f"{34 + ROW:.6f}"[:8] in self.told
