"""Rehearse a strategy with made-up weights before a hospital is asked, so that a bad one costs nothing.

Flower's loop runs over a grid that answers by itself: once with every hospital, once with no more than the quorum. What
a strategy raises there, or sends that is not the model's weights, would have come after hospitals were charged.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import numpy as np
from flwr.app import ConfigRecord, Message
from flwr.serverapp.strategy import Strategy

from policies.errors import DatasiteError, InvalidRequest
from policies.numbers import counted
from policies.privacy.mechanisms import DPSGD
from researcher.federated import HospitalGrid, is_training, left_out, released, start, weights_of
from researcher.flower_wire import unread
from researcher.state import Tensors
from researcher.strategies import quorum_of

ROUNDS = 2  # the second is the first with an aggregate, momentum and all
MOST_LOOKS = 3  # at who is there, before a strategy is said to wait for more hospitals than there are


class MadeUpHospitals(HospitalGrid):
    """Answers with the weights that it is sent and a little more, different at each hospital.

    Args:
      patients: published number at each hospital.
      answering: how many of those asked answer.
      proximal_mu: of the approved training, which a strategy may send.
      training: the approved one, where an app may say its learning rate.
    """

    def __init__(
        self,
        patients: list[int],
        answering: int,
        initial: Tensors,
        proximal_mu: float = 0.0,
        training: DPSGD | None = None,
    ) -> None:
        self.patients, self.answering, self.initial = patients, answering, initial
        self.proximal_mu, self.training = proximal_mu, training
        self.looks, self.rounds = 0, 0

    def get_node_ids(self) -> list[int]:
        """Every hospital. Raises `InvalidRequest` where more are waited for."""
        self.looks += 1
        if self.looks > MOST_LOOKS:
            raise InvalidRequest(f"it waits for more than the {counted(len(self.patients), 'hospital')} of this study.")
        return list(range(1, len(self.patients) + 1))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Made-up releases, and nobody's answer from whoever is beyond those that answer."""
        self.looks, messages = 0, sorted(messages, key=lambda message: message.metadata.dst_node_id)
        if not messages or not is_training(messages[0]):
            return [left_out(message, "not asked") for message in messages]
        self.rounds += 1
        weights = weights_of(messages[0], self.rounds - 1)
        check_same_shapes(weights, self.initial)
        for message in messages:
            check_read(message, self.proximal_mu, self.training)
        replies = []
        for place, message in enumerate(messages):
            if place < self.answering:
                node = message.metadata.dst_node_id
                made_up = {name: value + np.float32(1e-3 * node) for name, value in weights.items()}
                replies.append(released(message, made_up, self.patients[node - 1]))
            else:
                replies.append(left_out(message, "made up: this hospital does not answer"))
        return replies


def rehearse(
    strategy: Strategy,
    initial: Tensors,
    sizes: Mapping[str, int],
    *,
    rounds: int,
    proximal_mu: float = 0.0,
    training: DPSGD | None = None,
    train_config: ConfigRecord | None = None,
) -> None:
    """Run a copy of `strategy` on made-up weights.

    Args:
      sizes: published number of patients at each hospital of the study.
      proximal_mu: of the approved training.
      training: the approved one, where an app may say its learning rate.
      train_config: what an app gives its strategy for hospitals.

    Raises:
      InvalidRequest: it fails, with all hospitals or with a quorum; nothing was asked or charged.
    """
    rehearsed = min(rounds, ROUNDS)
    for answering in sorted({len(sizes), min(quorum_of(strategy), len(sizes))}, reverse=True):
        grid = MadeUpHospitals([sizes[name] for name in sorted(sizes)], answering, initial, proximal_mu, training)
        try:
            arrays = start(
                copy.deepcopy(strategy), grid, initial, rounds=rehearsed, timeout=1.0, train_config=train_config
            )
            if grid.rounds != rehearsed or arrays is None:
                raise InvalidRequest("it asks no hospital.")
            check_same_shapes(arrays, initial)
            if not all(np.isfinite(value).all() for value in arrays.values()):
                raise InvalidRequest("its aggregate is not finite.")
        except (Exception, SystemExit) as error:  # whatever Flower or a strategy of the researcher's own raises
            cause = str(error) if isinstance(error, DatasiteError) else f"{type(error).__name__}: {error}"
            raise InvalidRequest(
                f"{type(strategy).__name__} failed in a rehearsal with made-up weights, when {answering} of"
                f" {counted(len(sizes), 'hospital')} answered: {cause.rstrip('.')}. Nothing was asked or charged."
                " Change its options, or take another strategy."
            ) from None


def check_read(message: Message, proximal_mu: float, training: DPSGD | None = None) -> None:
    """Raise `InvalidRequest` where a message has settings for hospitals: they run what they approved and read none.

    With `training` its learning rate and proximal term may be said, as they were approved.
    """
    sent = {name: value for record in message.content.config_records.values() for name, value in record.items()}
    sent |= {name: value for record in message.content.metric_records.values() for name, value in record.items()}
    known = {"server-round": sent.get("server-round"), "proximal-mu": proximal_mu}
    others = {name: value for name, value in sorted(sent.items()) if name not in known or value != known[name]}
    if wrong := unread(others, training) if training else [f"{name}={value!r}" for name, value in others.items()]:
        raise InvalidRequest(
            f"it sends {', '.join(wrong)[:200]}, which no hospital reads: each runs what it approved. Say in the"
            " study's researcher.Training what shall hold there."
        )


def check_same_shapes(sent: Tensors, expected: Tensors) -> None:
    """Raise `InvalidRequest` where these are not the weights of the same model."""
    shapes, wanted = ({name: value.shape for name, value in tensors.items()} for tensors in (sent, expected))
    if shapes != wanted:
        raise InvalidRequest(f"the weights that it sends are {_listed(shapes)}, and the model's are {_listed(wanted)}.")


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items()))[:300] or "none"
