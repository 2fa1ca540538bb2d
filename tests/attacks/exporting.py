"""Payloads on our side: what inspection says of them, and what they reach in the exporter where it is left out."""

from __future__ import annotations

import json
from pathlib import Path

from datasites.jobs.pool import KINDS, JobPool
from datasites.settings import job_socket
from policies.errors import DatasiteError
from policies.source.inspection import list_findings
from tests.attacks.payloads import Payload
from tests.attacks.witnesses import Canaries, Witnesses


class Exporting:
    """This process stands for the datasite, with its secrets; the exporter is a real one.

    Args:
      jobs: the directory of its socket.
    """

    def __init__(self, witnesses: Witnesses, canaries: Canaries, jobs: Path) -> None:
        self.witnesses = witnesses
        self.aims = {**witnesses.aims(), **canaries.aims()}
        self.pool = JobPool({kind: job_socket(jobs, kind) for kind in KINDS}, start_parents=False)

    def codes(self, payload: Payload) -> set[str]:
        """Codes of what inspection has against it."""
        return {each.code for each in list_findings(payload.request(self.aims))}

    def bypass(self, payload: Payload) -> tuple[list[str], bool]:
        """What it reached in the exporter without inspection, and whether a graph came out."""
        seconds = 2 if payload.category == "resources" else 20
        job = {"job": "export", "source": payload.unchecked(self.aims), "model": "Model"}
        self.witnesses.seen("")
        try:
            answer = self.pool.run(
                "exporter", {**job, "input_shape": list(payload.shape)}, seconds=seconds, memory=512 << 20
            )
        except DatasiteError as error:
            if "not running" in str(error):  # then there was nothing to attack
                raise
            return self.witnesses.seen(str(error)), False
        said = json.dumps(answer.message, ensure_ascii=False) + answer.payload.decode("latin-1")
        return self.witnesses.seen(said), answer.done
