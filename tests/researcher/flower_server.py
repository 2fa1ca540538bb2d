"""A stock Flower server as its users write it, in a process of its own: what a test's clients join."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import flwr as fl
import numpy as np

from tests.factories import free_port


class Keeping(fl.server.strategy.FedAvg):
    """Flower's own `FedAvg`, which writes down what it has aggregated."""

    def __init__(self, kept: Path, **options: Any) -> None:
        super().__init__(**options)
        self.kept = kept

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        refused = [failure[1].status.message for failure in failures if isinstance(failure, tuple)]
        told = [{"examples": result.num_examples, **result.metrics} for _, result in results]
        if parameters is not None:
            np.savez(self.kept / f"{server_round}.npz", *fl.common.parameters_to_ndarrays(parameters))
        (self.kept / f"{server_round}.json").write_text(json.dumps({"told": told, "refused": refused}))
        return parameters, metrics


class ServerProcess:
    """The server, and what it has written down."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.kept, self.port = directory, free_port()
        directory.mkdir(parents=True, exist_ok=True)
        self.address = f"localhost:{self.port}"
        with (directory / "log").open("wb") as log:
            command = [sys.executable, "-m", __name__, f"127.0.0.1:{self.port}", str(directory), *options]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ended(self) -> None:
        """Wait until it has ended by itself."""
        assert self.process.wait(timeout=60) == 0, (self.kept / "log").read_text()

    def told(self, number: int) -> dict[str, Any]:
        """What the clients said in a round: metrics of those that released, words of those that did not."""
        told: dict[str, Any] = json.loads((self.kept / f"{number}.json").read_text())
        return told

    def aggregate(self, number: int) -> list[np.ndarray[Any, Any]]:
        """What came out of a round."""
        with np.load(self.kept / f"{number}.npz") as arrays:
            return [arrays[name] for name in arrays.files]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("kept", type=Path)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tls", type=Path)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--late", type=float, default=0.0)
    options = parser.parse_args()
    certificates = None
    if options.tls:
        names = ("ca.pem", "coordinator.pem", "coordinator.key")
        certificates = tuple((options.tls / name).read_bytes() for name in names)
    time.sleep(options.late)
    rate = {"lr": options.lr} if options.lr else {}
    fl.server.start_server(
        server_address=options.address,
        config=fl.server.ServerConfig(num_rounds=options.rounds, round_timeout=60.0),
        strategy=Keeping(
            options.kept,
            fraction_fit=1.0,
            min_fit_clients=options.clients,
            min_available_clients=options.clients,
            on_fit_config_fn=lambda number: {"server_round": number, **rate},
        ),
        certificates=certificates,
    )


if __name__ == "__main__":
    main()
