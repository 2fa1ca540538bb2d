"""How near private models of several hospitals come to one that is trained on everybody's records without privacy.

All in this process, with what a study has: the engine that trains at a hospital, with its sampling, clipping and secure
noise; noise found by the accountant for ε; the researcher's own loop of Flower's strategies; the average of the last
aggregates. *Pooled* is the same model on the same inputs of all training patients, all their records, by an ordinary
optimizer, without clipping and noise. AUCs are true ones, on patients whom nobody trained on.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import numpy as np
import torch
from flwr.app import Message
from sklearn.metrics import roc_auc_score
from torch import nn

from compose.baseline import Population, train_without_privacy
from datasites.engine.lanes import readiness
from datasites.engine.noise import NoiseSource
from datasites.engine.training import train_round
from policies.graph.exporter import export_model
from policies.graph.graphs import Graph
from policies.privacy.accountant import resolve
from policies.privacy.mechanisms import DPSGD
from policies.privacy.suggestion import Suggestion, suggest
from researcher.averaging import average
from researcher.federated import HospitalGrid, released, start, weights_of
from researcher.state import Tensors
from researcher.strategies import make_strategy
from tests.benchmarks.populations import NETWORKS, Network

SettingsFor = Callable[[Network, float], Suggestion]
"""What is asked at an ε, from what is public of a network."""


def suggested(network: Network, epsilon: float) -> Suggestion:
    """What the rule suggests: as an owner's policy of a hundred rounds allows it."""
    return suggest(network, epsilon=epsilon)


def as_the_demonstration_was(network: Network, epsilon: float) -> Suggestion:
    """What the demonstration asked for until version 0.2: few rounds of many steps, the last aggregate."""
    training = DPSGD(
        loss="binary_cross_entropy",
        rounds=5,
        steps=40,
        sampling_rate=0.1,
        clipping_norm=4.0,
        learning_rate=0.35,
        epsilon=epsilon,
    )
    return Suggestion(training, "FedAvg")


WAYS: dict[str, SettingsFor] = {"suggested": suggested, "5 rounds of 40 steps": as_the_demonstration_was}


class InProcess(HospitalGrid):
    """Hospitals that train in this process, on their own matrices and with their own noise."""

    def __init__(self, network: Network, training: DPSGD, keep: int) -> None:
        self.network, self.training, self.keep = network, training, keep
        self.graph = graph_of(network.model, network.schema.input_shape(training.inputs))
        self.names = sorted(network.matrices)
        self.sent: list[Tensors] = []

    def get_node_ids(self) -> list[int]:
        """All of them."""
        return list(range(1, len(self.names) + 1))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """A round of every hospital that was sampled."""
        messages, replies = sorted(messages, key=lambda message: message.metadata.dst_node_id), []
        if not messages:
            return []
        weights = weights_of(messages[0], len(self.sent))
        self.sent.append(weights)
        incoming = {name: torch.from_numpy(value.copy()) for name, value in weights.items()}
        for message in messages:
            name = self.names[message.metadata.dst_node_id - 1]
            patients = self.network.patients[name]
            release = train_round(
                self.graph,
                self.training,
                self.network.schema,
                patients,
                self.network.matrices[name],
                incoming,
                NoiseSource.from_os(),
                round=len(self.sent),
            )
            replies.append(released(message, {key: value.numpy() for key, value in release.items()}, patients))
        return replies


@functools.lru_cache
def graph_of(model: type[nn.Module], shape: tuple[int, ...]) -> Graph:
    """The graph of a model; kernels are loaded and tested on it, or this would measure the former engine."""
    graph = export_model(model(), shape)
    if why := readiness.prepare(graph, "binary_cross_entropy"):
        raise RuntimeError(f"The engine does not train in lanes: {why}")
    return graph


def joint(network: Network, settings: Suggestion, *, seed: int) -> float:
    """The true AUC of a joint private model.

    Args:
      seed: of the initial weights; hospitals' randomness is the operating system's.
    """
    training = resolve(settings.training)
    assert isinstance(training, DPSGD)
    torch.manual_seed(seed)
    initial = {name: value.detach().numpy().copy() for name, value in network.model().named_parameters()}
    grid = InProcess(network, training, settings.average_last)
    strategy = make_strategy(
        settings.strategy, training, hospitals=len(network.matrices), options=dict(settings.options)
    )
    last = start(strategy, grid, initial, rounds=training.rounds, timeout=60.0)
    assert last is not None
    return auc(network, average([*grid.sent, last][-settings.average_last :]))


def pooled(network: Network, *, seed: int) -> float:
    """The true AUC of the same model trained on everybody's records without privacy."""
    records = network.pooled
    population = Population(network.schema.inputs(records), network.schema.targets(records))
    trained = train_without_privacy(network.model, population, seed=seed)
    return auc(network, {name: value.detach().numpy() for name, value in trained.named_parameters()})


def auc(network: Network, weights: Tensors) -> float:
    """The chance that a patient with the illness scores above one without, among those whom nobody trained on."""
    model = network.model()
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    with torch.no_grad():
        scores = model(torch.from_numpy(network.schema.inputs(network.common))).squeeze(1).numpy()
    return float(roc_auc_score(network.schema.targets(network.common), scores))


@dataclass(frozen=True)
class Difference:
    """How far below the pooled model joint private ones were, over populations of several seeds.

    Args:
      way: of choosing settings.
      joint, pooled: true AUCs, by seed.
    """

    network: str
    epsilon: float
    way: str
    joint: tuple[float, ...]
    pooled: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the pooled less the joint AUC."""
        return float(np.mean(np.subtract(self.pooled, self.joint)))

    @property
    def error(self) -> float:
        """Its standard error, over seeds."""
        return float(np.std(np.subtract(self.pooled, self.joint), ddof=1) / math.sqrt(len(self.joint)))


def compare(name: str, epsilons: Sequence[float], seeds: Sequence[int], ways: Sequence[str]) -> list[Difference]:
    """Joint models at each ε beside the pooled one, a population anew for each seed."""
    pooled_at: list[float] = []
    joint_at: dict[tuple[float, str], list[float]] = {(epsilon, way): [] for epsilon in epsilons for way in ways}
    for seed in seeds:
        network = NETWORKS[name](seed)
        pooled_at.append(pooled(network, seed=seed))
        for (epsilon, way), found in joint_at.items():
            found.append(joint(network, WAYS[way](network, epsilon), seed=seed))
    return [
        Difference(name, epsilon, way, tuple(found), tuple(pooled_at)) for (epsilon, way), found in joint_at.items()
    ]


def figures(difference: Difference) -> dict[str, Any]:
    """Plain data of a difference, for `build/bench-utility.json`."""
    return {**vars(difference), "difference": difference.mean, "standard_error": difference.error}


def cells(difference: Difference) -> tuple[str, ...]:
    """A row of a table."""
    return (
        difference.network,
        f"{difference.epsilon:g}",
        difference.way,
        f"{np.mean(difference.pooled):.4f}",
        f"{np.mean(difference.joint):.4f}",
        f"{difference.mean:.4f} ± {difference.error:.4f}",
    )


def as_markdown(differences: Sequence[Difference]) -> str:
    """A table of differences."""
    head = (
        "| patients | ε | settings | pooled | joint, private | pooled less joint |",
        "| --- | --: | --- " + "| --: " * 3 + "|",
    )
    return "\n".join([*head, *(f"| {' | '.join(cells(difference))} |" for difference in differences)]) + "\n"


def ways_of(name: str) -> list[str]:
    """Of choosing settings that are shown for a network: the former one for the demonstration's alone."""
    return list(WAYS) if name == "influenza" else ["suggested"]


MEASURED: dict[str, tuple[float, ...]] = {
    "influenza": (2.0, 3.0, 8.0),
    "curved": (3.0,),
    "light chains": (1.0, 3.0),
    "fatty livers": (1.0, 3.0),
    "elderly": (3.0,),
    "breast masses": (2.0,),
}
"""Which ε is measured at which network."""
