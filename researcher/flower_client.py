"""Let a stock Flower server (`start_server`) drive the rounds of an approved study: one client for each hospital.

    researcher flower-client flower.example:8080 --study study.py --ca ca.pem

The server chooses weights, rounds and whom it asks, and nothing else: the hospitals run what their owners approved. A
client runs on the researcher's side, with the researcher's account. What it hands on are releases, noised and charged
at the hospital before they left it, each verified against its certificate here. Weights that were sent before are
answered with the release of then; a server that asks for more rounds than were approved is refused.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from policies.addresses import check_host_and_port, is_loopback
from policies.errors import DatasiteError, InvalidRequest, Unavailable, WrongStatus
from policies.numbers import counted
from policies.privacy.accountant import epsilon_of, resolve
from policies.release.tensors import digest
from policies.source.statuses import RunStatus
from researcher.compression import Carried
from researcher.releases import DEADLINE, GRACE, Answers, Asked, ask_everyone, check_patience
from researcher.state import Tensors
from researcher.studies import Study

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own lines; what matters is said by us, in words

import grpc
from flwr.proto import transport_pb2 as wire
from flwr.proto.transport_pb2_grpc import FlowerServiceStub

from researcher.flower_wire import check_settings, longest_message, read_weights, scalars, settings_of, written

if TYPE_CHECKING:
    from researcher.results import Result

ROLE = "training"
PATIENCE = 60.0  # seconds that a server may be away
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
FAULT = "The client failed. Its own screen says why."
_keeping = threading.Lock()  # clients of a study are threads, and are all sent the same joint model
NO_SCORES = "No scores are made for a server: hospitals score a model as an approved evaluation."


@dataclass
class HospitalClient:
    """Answers a Flower server for one hospital.

    Args:
      asked: where, and for what.
      carried: how weights and releases travel to the hospital and back.
      initial: the weights that a study begins with, in the model's order of parameters.
      patients: published number, by which a server weighs the hospital.
      released: rounds whose release was handed on, in order.
      seconds: that each of them took.
      joint: the last joint weights that the server has sent.
      refused: why it was last given no release.
      left: whether it has left the server; `channel` is its connection.
    """

    study: Study
    asked: Asked
    carried: Carried
    initial: Tensors
    patients: int
    deadline: float = DEADLINE
    grace: float = GRACE
    released: list[int] = field(default_factory=list)
    seconds: dict[int, float] = field(default_factory=dict)
    joint: Tensors | None = None
    refused: str = ""
    left: bool = False
    channel: Any = None

    def leave(self) -> None:
        """End the conversation from another thread."""
        self.left = True
        if self.channel is not None:
            self.channel.close()

    def answer(self, message: Any) -> Any | None:
        """What is answered to a server's message; None where the server ends it."""
        kind = message.WhichOneof("msg")
        if kind == "fit_ins":
            return wire.ClientMessage(fit_res=self._fit(message.fit_ins))
        if kind == "evaluate_ins":
            self._keep(message.evaluate_ins)
            status = wire.Status(code=wire.EVALUATE_NOT_IMPLEMENTED, message=NO_SCORES)
            return wire.ClientMessage(evaluate_res=wire.ClientMessage.EvaluateRes(status=status))
        if kind == "get_parameters_ins":
            parameters = written(self.initial, self.initial)
            answer = wire.ClientMessage.GetParametersRes(status=wire.Status(code=wire.OK), parameters=parameters)
            return wire.ClientMessage(get_parameters_res=answer)
        if kind == "get_properties_ins":
            about = wire.ClientMessage.GetPropertiesRes(
                status=wire.Status(code=wire.OK), properties=scalars({"hospital": self.asked.hospital})
            )
            return wire.ClientMessage(get_properties_res=about)
        return None

    def result(self) -> Result:
        """The last joint weights that the server has sent, with the releases that it was given.

        Raises `WrongStatus`, with the last reason, where it was given none.
        """
        from researcher.federated import RoundRecord
        from researcher.results import result_of

        if self.joint is None or not self.released:
            raise WrongStatus(f"The server was given no release. {self.refused or 'It asked for no round.'}")
        hospital, state = self.asked.hospital, self.study.state
        records = [
            RoundRecord(
                number, (hospital,), {hospital: self.seconds[number]}, {}, state.asked_with(ROLE, hospital, number)
            )
            for number in sorted(self.released)
        ]
        return result_of(self.study, self.joint, records, averaged={})

    def _fit(self, told: Any) -> Any:
        try:
            return self._release(told)
        except DatasiteError as refused:
            self.refused = why = refused.public_message
            self.study.progress.say(f"{self.asked.hospital}: not released. {why}")
        except Exception as error:  # a server learns nothing of a fault of ours
            why = FAULT
            self.study.progress.say(f"{self.asked.hospital}: {type(error).__name__}: {error}")
        return wire.ClientMessage.FitRes(status=wire.Status(code=wire.FIT_NOT_IMPLEMENTED, message=why))

    def _release(self, told: Any) -> Any:
        training, hospital = self.study.training, self.asked.hospital
        check_settings(settings_of(told.config), training)
        self.joint = weights = read_weights(told.parameters, self.initial)
        number = self._round_of(digest(weights))
        begun, half = self.carried.sent(weights, number)
        answers: Answers = ask_everyone(
            {hospital: self.asked},
            ROLE,
            number,
            begun,
            state=self.study.state,
            progress=self.study.progress,
            what=f"round {number}/{training.rounds}",
            deadline=self.deadline,
            grace=self.grace,
            half=half,
        )
        if hospital not in answers.releases:
            raise Unavailable(answers.missing[hospital])
        release = answers.releases[hospital]
        if number not in self.released:
            self.released.append(number)
            self.seconds[number] = answers.seconds[hospital]
        return wire.ClientMessage.FitRes(
            status=wire.Status(code=wire.OK),
            parameters=written(self.carried.received(hospital, release.tensors, begun, number), self.initial),
            num_examples=self.patients,
            metrics=scalars(
                {
                    "hospital": hospital,
                    "round": number,
                    "epsilon": epsilon_of(resolve(training), training.delta, number),
                    "certificate": release.certificate,
                }
            ),
        )

    def _round_of(self, sent: str) -> int:
        """The round that these weights are of: that of then where they were sent before, else the next one.

        It is written down before the hospital is asked, so that no round is ever asked with two weights.
        """
        name, rounds = f"flower/{quote(self.asked.hospital, safe='')}", self.study.training.rounds
        begun: list[str] = list(self.study.state.read(name).get("sent", []))
        number = begun.index(sent) + 1 if sent in begun else len(begun)
        if begun and not self.study.state.asked_with(ROLE, self.asked.hospital, number):
            status = self._status_of(number)
            if sent in begun and status == RunStatus.FAILED:
                raise WrongStatus(
                    f"Round {number} failed at {self.asked.hospital}, and its charge stays. It is not run again for"
                    " these weights. Its owner can see why."
                )
            if sent not in begun and status in (None, RunStatus.VOID):
                begun.pop()  # the hospital never read data for the last one
        if sent in begun:
            return number
        if len(begun) >= rounds:
            raise WrongStatus(
                f"All {counted(rounds, 'round')} that {self.asked.hospital} approved are used. Ask for more in a new"
                " study."
            )
        self.study.state.write(name, {"sent": [*begun, sent]})
        return len(begun) + 1

    def _status_of(self, number: int) -> str | None:
        """Where a round's run stands at the hospital; None where there is none. Raises `Unavailable`."""
        rounds = self.asked.datasite.request_status(self.asked.code)["rounds"]
        return next((str(run["status"]) for run in reversed(rounds) if run["round"] == number), None)

    def _keep(self, told: Any) -> None:
        """What a server would have scored is the joint model, which `study.evaluate()` then scores."""
        try:
            joint = read_weights(told.parameters, self.initial)
            if self.released:
                with _keeping:
                    self.study.state.write_tensors("final", joint)
            self.joint = joint
        except DatasiteError as refused:
            self.study.progress.say(f"{self.asked.hospital}: the joint model was not kept. {refused}")


@dataclass(frozen=True)
class Server:
    """A Flower server's address, and the authority of its certificate; None for plain text, on this machine alone."""

    address: str
    authority: bytes | None

    def __post_init__(self) -> None:
        check_host_and_port(self.address, "server_address")
        host = self.address.rpartition(":")[0].strip("[]")
        if self.authority is None and not is_loopback(host):
            raise InvalidRequest(
                f"{self.address} is another machine, and without a certificate anybody between reads and changes what"
                " is sent. Name the authority of its certificate: --ca ca.pem, or certificates=... in Python."
            )

    @classmethod
    def at(cls, address: str, ca: Path | str | None) -> Server:
        """The server whose certificate the authority in the file `ca` has signed."""
        if ca is None:
            return cls(address, None)
        try:
            return cls(address, Path(ca).read_bytes())
        except OSError as error:
            raise InvalidRequest(f"{ca} cannot be read: {error.strerror}. Give a PEM file.") from None

    def channel(self, longest: int) -> Any:
        """A connection on which no message is longer than `longest` bytes."""
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", longest),
            ("grpc.enable_http_proxy", 0),
        ]
        if self.authority is None:
            return grpc.insecure_channel(self.address, options=options)
        return grpc.secure_channel(self.address, grpc.ssl_channel_credentials(self.authority), options=options)


def drive(
    study: Study, server: Server, *, deadline: float = DEADLINE, grace: float = GRACE, patience: float = PATIENCE
) -> list[str]:
    """Let `server` drive `study`'s approved rounds until it has ended; what came of it, a line for each hospital.

    Args:
      deadline: seconds that a hospital may take for a round.
      grace: seconds that a datasite may be away before the server is told that it does not answer.
      patience: seconds that the server may be away.

    Raises:
      WrongStatus: nothing is approved, or the study was begun with a strategy of its own.
      Unavailable: the server was away for too long; what was released is kept, and calling this again goes on.
    """
    return [_told(client) for client in clients_of(study, server, deadline=deadline, grace=grace, patience=patience)]


def clients_of(
    study: Study, server: Server, *, deadline: float = DEADLINE, grace: float = GRACE, patience: float = PATIENCE
) -> list[HospitalClient]:
    """As `drive`; the clients, when the server has ended."""
    check_patience(deadline=deadline, grace=grace, patience=patience)
    if study.parts is not None and study.parts.released.keys() != dict(study.new_model().named_parameters()).keys():
        study.progress.say(f"The server has to send {', '.join(study.parts.released)}: the rest is frozen or local.")
    sizes = study.requests.training_patients()
    if not sizes:
        raise WrongStatus(f"Study {study.name!r} was not submitted yet. Call submit() and wait_for_approval() first.")
    if study.training.secure_aggregation is not None:
        raise InvalidRequest(
            "Hospitals release in sums alone where secure_aggregation was approved, and a Flower server asks each by"
            " itself. Run its strategy here: study.run, or a ServerApp with researcher flower-run."
        )
    study.requests.check_same_study()
    with study.state.lock():
        if begun := study.state.read("run"):
            raise WrongStatus(
                f"Study {study.name!r} was begun with {begun['strategy']['name']} here. Resume it as it was, or give"
                " the server a study with another name."
            )
        ready, missing = study.requests.approved(ROLE)
        for hospital, reason in missing.items():
            study.progress.say(f"{hospital}: takes no part. {reason}")
        if not ready:
            raise WrongStatus(f"No hospital of study {study.name!r} can take part. See study.status().")
        kept = study._initial()
        order = [name for name, _ in study.new_model().named_parameters() if name in kept]
        initial = {name: np.asarray(kept[name]) for name in order}
        carried = Carried(study.requests.approved_training(), sizes)
        clients = [
            HospitalClient(study, asked, carried, initial, sizes[hospital], deadline, grace)
            for hospital, asked in ready.items()
        ]
        with ThreadPoolExecutor(max_workers=len(clients)) as pool:
            done = [pool.submit(serve, client, server, patience=patience) for client in clients]
            try:
                for future in as_completed(done):
                    future.result()
            except BaseException:  # Ctrl-C, or one that cannot go on: the others would wait for a server that waits
                for client in clients:
                    client.leave()
                raise
    return clients


def _told(client: HospitalClient) -> str:
    training, rounds = client.study.training, len(client.released)
    if not rounds:
        return f"{client.asked.hospital}: no round was released."
    spent = epsilon_of(resolve(training), training.delta, max(client.released))
    return (
        f"{client.asked.hospital}: {counted(rounds, 'round')} of {training.rounds} released, ε = {spent:.3f}"
        f" (δ = {training.delta:g}) of {training.epsilon or spent:g}."
    )


def serve(client: HospitalClient, server: Server, *, patience: float = PATIENCE) -> None:
    """Answer `server` until it ends the conversation; dials again where it is away. Raises `Unavailable`."""
    away_since, pause, longest = time.monotonic(), FIRST_PAUSE, longest_message(client.initial)
    while not client.left:
        client.channel = channel = server.channel(longest)
        try:
            for _ in _conversation(channel, client):
                away_since, pause = time.monotonic(), FIRST_PAUSE
            return
        except (grpc.RpcError, ValueError) as lost:  # ValueError: the channel was closed here before it was used
            if client.left:
                return
            if time.monotonic() - away_since + pause > patience:
                code = getattr(lost, "code", lambda: None)()
                raise Unavailable(
                    f"The Flower server at {server.address} did not answer for {patience:g} s"
                    f" ({getattr(code, 'name', 'no answer')}). Where it talks TLS, name its authority with --ca. Start"
                    " this again when it is there: what was released is kept, and not paid for again."
                ) from None
        finally:
            channel.close()
        time.sleep(pause)
        pause = min(LONGEST_PAUSE, pause * 1.5)


def _conversation(channel: Any, client: HospitalClient) -> Iterator[None]:
    """One message of the server after another, each answered; ends where the server says that it has ended."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    ended = threading.Event()

    def outgoing() -> Iterator[Any]:
        while (answer := answers.get()) is not None:
            yield answer

    try:
        for message in FlowerServiceStub(channel).Join(outgoing()):
            answer = client.answer(message)
            if answer is None:  # whatever it says of coming back: it is dialled again by whoever runs this
                reason = wire.ClientMessage.DisconnectRes(reason=wire.Reason.ACK)
                answers.put(wire.ClientMessage(disconnect_res=reason))
                ended.set()
                return
            answers.put(answer)
            yield
    finally:
        answers.put(None)
    if not ended.is_set():
        raise grpc.RpcError("the server closed the stream")
