"""Prometheus metrics at `/metrics`: how the datasite is, and nothing that depends on a private row.

Counted are requests, runs by the status that everybody may see, releases, entries and answers; ε is what researchers
read of each population too. No durations: how long a round takes depends on the rows that it sampled. No memory, no
processor, no sizes of files: a table's size is private. Of the disk only the share that is free, in whole percent,
rounded down.
"""

from __future__ import annotations

import hmac
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from datasites.ledger.ledger import Ledger
from policies.source.statuses import RequestStatus, RunStatus


def free_share(directory: Path) -> float:
    """The share of the directory's disk that is free, in whole percent, rounded down."""
    usage = shutil.disk_usage(directory)
    return usage.free * 100 // usage.total / 100


class Metrics:
    """Counts answers, and reads the rest from the ledger when it is asked.

    Args:
      is_stopped: whether the owner has stopped all work.
      token: that whoever asks has to show, as `Authorization: Bearer TOKEN`.
      clock: seconds since 1970.
      free: gives the share of a directory's disk that is free.
    """

    def __init__(
        self,
        directory: Path,
        ledger: Ledger,
        token: str,
        *,
        is_stopped: Callable[[], bool],
        clock: Callable[[], float] = time.time,
        free: Callable[[Path], float] = free_share,
    ) -> None:
        self.directory, self.ledger, self.is_stopped, self.free = directory, ledger, is_stopped, free
        self._token = token.encode()
        self._started = clock()
        self._answers: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def count(self, route: str, status: int) -> None:
        """Count one answer by the class of its route and of its status."""
        with self._lock:
            self._answers[route, f"{status // 100}xx"] += 1

    def admits(self, authorization: str) -> bool:
        """Whether a header's token is ours."""
        kind, _, token = authorization.partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: names are known when they are asked for."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What `text` writes."""
        yield InfoMetricFamily("datasite", "Software.", {"version": metadata.version("private-datasites")})
        yield GaugeMetricFamily("datasite_start_time_seconds", "When it started.", self._started)
        yield from self._ledger()
        yield from self._populations()
        yield from self._host()
        with self._lock:
            answers = sorted(self._answers.items())
        family = CounterMetricFamily("datasite_http_answers", "HTTP answers.", labels=("route", "status"))
        for labels, number in answers:
            family.add_metric(labels, number)
        yield family

    def _ledger(self) -> Iterator[Metric]:
        ledger = self.ledger
        requests = ledger.requests.count_by_status()
        runs = ledger.runs.count_by_status()
        by_status = {status.value: requests.get(status, 0) for status in RequestStatus}
        yield _by("datasite_requests", "Code requests.", by_status)
        by_status = {status.value: runs.get(status, 0) for status in RunStatus}
        yield _by("datasite_runs", "Runs by public status; in flight are reserved and running.", by_status)
        yield GaugeMetricFamily("datasite_releases", "Releases.", ledger.runs.release_page(limit=0)[0])
        yield GaugeMetricFamily("datasite_ledger_entries", "Entries of the ledger.", ledger.entries.head().seq)
        yield GaugeMetricFamily(
            "datasite_restored", "1 while a restored copy is not accepted.", int(ledger.recovery.is_restored)
        )
        yield GaugeMetricFamily("datasite_stopped", "1 after `datasite stop`.", int(self.is_stopped()))
        witness = ledger.witness
        now = "none" if witness is None else "behind" if witness.is_behind else "current"
        states = {state: int(state == now) for state in ("none", "current", "behind")}
        yield _by("datasite_witness", "The ledger's witness.", states, label="state")

    def _populations(self) -> Iterator[Metric]:
        balances = {name: self.ledger.budgets.balance(name) for name in self.ledger.budgets.populations()}
        for name, text, values in (
            (
                "budget",
                "ε that each population may lose.",
                {population: balance.budget.epsilon for population, balance in balances.items()},
            ),
            (
                "spent",
                "ε that it has lost.",
                {population: balance.epsilon_spent for population, balance in balances.items()},
            ),
            (
                "reserved",
                "ε reserved for approvals.",
                {population: balance.epsilon_reserved for population, balance in balances.items()},
            ),
        ):
            yield _by(f"datasite_epsilon_{name}", text, values, label="population")

    def _host(self) -> Iterator[Metric]:
        directory = self.directory
        yield GaugeMetricFamily("datasite_disk_free_ratio", "Share of the disk that is free.", self.free(directory))
        try:
            at = datetime.fromisoformat((directory / "last_backup").read_text(encoding="utf-8").strip()).timestamp()
        except (OSError, ValueError):
            at = 0.0
        yield GaugeMetricFamily("datasite_last_backup_time_seconds", "When it was last copied; 0 for never.", at)


def _by(name: str, text: str, values: Mapping[str, float], *, label: str = "status") -> Metric:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for labelled, value in values.items():
        family.add_metric([labelled], value)
    return family
