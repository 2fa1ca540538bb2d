"""Dry-run requests on mock rows before review, in the confined runner, with no private row near.

Rows are drawn from the schema at the public size and noise is the plan's own, so whatever is shown here is public.
They run one after the other beside the rounds of approved requests, and are kept in the directory, a file for each.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from typing import Any

from datasites.files import replace_private
from datasites.jobs.pool import JobPool
from datasites.ledger.ledger import Ledger
from datasites.ledger.records import CodeRequestRecord
from datasites.review.planning import published_from
from datasites.settings import Settings
from policies.errors import DatasiteError, WrongStatus
from policies.graph.engines import LONGEST_REASON, engine_words
from policies.numbers import counted
from policies.privacy.mechanisms import as_dict
from policies.release.plans import Plan, Published
from policies.text import visible

logger = logging.getLogger(__name__)
SECONDS = 120.0
MEMORY = 8 << 30
MOST_WAITING = 100  # further ones stay untried until somebody asks
KINDS: dict[str, type | tuple[type, ...]] = {
    "rows": int, "seconds": (int, float), "memory": int, "finite": bool, "answers": int, "steps": int,
    "steps_of_round": int, "parameters": int, "moved": bool, "loss_before": (int, float), "loss_after": (int, float),
    "lanes": bool, "slower": str, "once": bool,
}  # fmt: skip


class MockRuns:
    """Runs requests on mock rows, and remembers what came of it."""

    def __init__(self, settings: Settings, ledger: Ledger, pool: JobPool) -> None:
        self.ledger, self.pool = ledger, pool
        self.directory = settings.directory / "trials"
        self.ended = 0  # how many have ended: pages look again
        self._waiting: list[str] = []
        self._one_at_a_time, self._lock = threading.Lock(), threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def of(self, request: str) -> dict[str, Any] | None:
        """What a request did on the mock; None where it was not tried.

        `facts`, or in `failed` the reason for the owner; `lines` says the same in plain words. While it is being tried,
        `pending`.
        """
        with self._lock:
            if request in self._waiting:
                return _shown({}, pending=True)
        try:
            return _shown(json.loads((self.directory / f"{request}.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    def start(self, record: CodeRequestRecord) -> bool:
        """Try a request soon, in a thread of its own; False where too many wait."""
        with self._lock:
            if self._closing.is_set() or record.plan is None or len(self._waiting) >= MOST_WAITING:
                return False
            if record.id not in self._waiting:
                self._waiting.append(record.id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mock-runs", daemon=True)
                self._thread.start()
        return True

    def run(self, record: CodeRequestRecord) -> dict[str, Any]:
        """Try a request now, and wait for it. Raises `WrongStatus` where it has no plan."""
        if record.plan is None:
            raise WrongStatus(f"Request {record.id[:8]} has no plan, so there is nothing to run.")
        with self._one_at_a_time:
            found = self._try(record.plan, published_from(self.ledger.datasets.get(version=record.version)))
        self.directory.mkdir(mode=0o700, exist_ok=True)
        replace_private(self.directory / f"{record.id}.json", json.dumps(found))
        self.ended += 1
        return _shown(found)

    def _try(self, plan: Plan, published: Published) -> dict[str, Any]:
        job = {
            "job": "try",
            "plan": plan.as_dict(),
            "mechanism": as_dict(plan.mechanism),
            "schema": published.schema.as_dict(),
            "training_patients": published.training_patients,
            "patients": published.patients,
        }
        try:
            answer = self.pool.run("runner", job, seconds=SECONDS, memory=MEMORY, stop=self._closing.is_set)
        except DatasiteError as error:
            return {"failed": str(error)}
        if not answer.done:
            return {"failed": answer.output[-20_000:] or "It ended without a word."}
        said = answer.message.get("facts")
        return {"facts": {name: _checked(said, name) for name in KINDS}}

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or self._closing.is_set():
                    self._thread = None
                    return
                request = self._waiting[0]
            try:
                self.run(self.ledger.requests.get(request))
            except Exception as error:
                if not self._closing.is_set():
                    logger.warning("Request %s was not tried on the mock: %s", request[:8], type(error).__name__)
            finally:
                with self._lock:
                    self._waiting.remove(request)
                self.ended += 1  # only now: a page that looked sooner would see it pending

    def close(self) -> None:
        """End what runs and start no more."""
        self._closing.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout=5)


def _shown(kept: dict[str, Any], *, pending: bool = False) -> dict[str, Any]:
    lines = ["It is being run on the mock now."] if pending else sentences(kept)
    return {"facts": kept.get("facts"), "failed": kept.get("failed", ""), "pending": pending, "lines": lines}


def _checked(said: Any, name: str) -> Any:
    """A figure that a job said, where it is one of its kind."""
    value = said.get(name) if isinstance(said, dict) else None
    kind = KINDS[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        return None
    if isinstance(value, str):
        return visible(value[:LONGEST_REASON])
    return value if not isinstance(value, float) or math.isfinite(value) else None


def sentences(kept: dict[str, Any]) -> list[str]:
    """A mock run in plain words."""
    facts = kept.get("facts")
    if not facts or facts["rows"] is None:
        return ["It failed on the mock. Approved, its rounds would most likely not run."]
    seconds, memory = facts["seconds"] or 0.0, (facts["memory"] or 0) / 1e6
    size = counted(facts["rows"], "mock row")
    used = f"The process held {memory:,.0f} MB of memory at most."
    if facts["steps"] is None:
        what = f"Answered {counted(facts['answers'], 'statistic')}" if facts["answers"] else "Scored"
        sound = "All that came out is finite." if facts["finite"] else "Some of what came out is not finite."
        lines = [f"{what} over {size} in {_time(seconds)}. {used}", sound]
        if facts.get("lanes") is not None:
            lines.append(engine_words(lanes=facts["lanes"], why=facts.get("slower") or "", trains=False))
        return lines
    steps, planned = facts["steps"], facts["steps_of_round"]
    ran = f"{steps:,} of the {counted(planned, 'step')}"
    if steps == planned:
        ran = f"all {steps:,} steps" if steps > 1 else "the one step"
    lines = [f"Trained for {ran} of a round on {size} in {_time(seconds)}. {used}"]
    changed = "changed" if facts["moved"] else "did not change"
    finite = "all of them are finite" if facts["finite"] else "some of them are not finite"
    lines.append(f"The model's {facts['parameters']:,} numbers {changed}, and {finite}.")
    if facts.get("lanes") is not None:  # unknown of runs from before there were lanes
        why, once = facts.get("slower") or "", bool(facts.get("once"))
        lines.append(engine_words(lanes=facts["lanes"], why=why, trains=True, once=once))
    if facts["loss_before"] is not None and facts["loss_after"] is not None:
        lines.append(
            f"Mean loss on mock rows: {facts['loss_before']:.3f} before, {facts['loss_after']:.3f} after. The mock's"
            " outcomes are drawn at random, so this shows that it runs and not how well it learns."
        )
    return lines


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else "less than 0.1 s"
