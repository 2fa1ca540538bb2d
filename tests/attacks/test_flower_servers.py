"""A Flower server that lies: other shapes, numbers that are none, promises of terabytes, settings, rounds without end.

The hospitals here are fakes that count what they are charged; the client is the real one, asked as over the wire. What
it answers is a release of an approved round, or a refusal, and nothing else.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from flwr.proto import transport_pb2 as wire

from policies.release.tensors import digest
from researcher.compression import Carried
from researcher.flower_client import FAULT, HospitalClient
from researcher.flower_wire import written
from tests.researcher.conftest import _plain_certificates, hospitals, make_study, network

__all__ = ["_plain_certificates", "hospitals", "make_study", "network"]


@pytest.fixture
def client(make_study: Any) -> HospitalClient:
    study = make_study()
    ready, _ = study.requests.approved("training")
    initial = {name: value.detach().numpy() for name, value in study.new_model().named_parameters()}
    carried = Carried(study.requests.approved_training(), study.requests.training_patients())
    return HospitalClient(study, ready["general"], carried, initial, 800, grace=0.01)


def fit(client: HospitalClient, parameters: Any = None, **settings: Any) -> Any:
    """What is answered to `fit`."""
    told = wire.ServerMessage.FitIns(parameters=parameters or written(client.initial, client.initial))
    for name, value in settings.items():
        kind = {str: "string", bool: "bool", float: "double", int: "sint64", bytes: "bytes"}[type(value)]
        setattr(told.config[name], kind, value)
    answer = client.answer(wire.ServerMessage(fit_ins=told))
    assert answer is not None
    return answer.fit_res


def moved(client: HospitalClient, by: float) -> Any:
    return written({name: value + np.float32(by) for name, value in client.initial.items()}, client.initial)


def parameters_with(client: HospitalClient, first: bytes) -> Any:
    parameters = written(client.initial, client.initial)
    parameters.tensors[0] = first
    return parameters


def saved(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, value, **options)
    return file.getvalue()


def header_of(text: str) -> bytes:
    """A file of numpy's that has a header and no numbers."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


SHAPE = (32, 10)
LIES: dict[str, bytes] = {
    "another shape": saved(np.zeros((10, 32), dtype=np.float32)),
    "no number": saved(np.full(SHAPE, np.nan, dtype=np.float32)),
    "infinite in our width alone": saved(np.full(SHAPE, 1e300)),
    "objects": saved(np.full(SHAPE, None, dtype=object), allow_pickle=True),
    "texts": saved(np.full(SHAPE, "a")),
    "complex numbers": saved(np.full(SHAPE, 1j)),
    "a record": saved(np.zeros(SHAPE, dtype=[("a", "f4"), ("b", "f4")])),
    "a terabyte that is not there": header_of(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    ),
    "this shape without numbers": header_of("{'descr': '<f4', 'fortran_order': False, 'shape': (32, 10), }\n"),
    "a header that is a program": header_of("__import__('os').abort()\n"),
    "a header without end": header_of("(" * 9000),
    "more numbers than its shape": saved(np.zeros(SHAPE, dtype=np.float32)) + b"more",
    "nothing": b"",
    "no array": b"GET / HTTP/1.1",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_sends_what_is_no_model_gets_a_refusal(client: HospitalClient, hospitals: Any, lie: str) -> None:
    answer = fit(client, parameters_with(client, LIES[lie]))
    assert answer.status.code == wire.FIT_NOT_IMPLEMENTED
    assert "hidden.weight" in answer.status.message
    assert not answer.parameters.tensors
    assert not hospitals["general"].charged
    assert "run" not in hospitals["general"].calls
    assert fit(client).status.code == wire.OK  # and the next one is served


@pytest.mark.parametrize("number", [0, 3, 5, 10_000])
def test_another_number_of_tensors_is_refused(client: HospitalClient, hospitals: Any, number: int) -> None:
    answer = fit(client, wire.Parameters(tensors=[saved(np.zeros(SHAPE, dtype=np.float32))] * number))
    assert "and the approved model has 4" in answer.status.message
    assert not hospitals["general"].charged


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("epsilon", 100.0), ("noise_multiplier", 0.0), ("clipping_norm", 1e9), ("steps", 10_000), ("epochs", 3)),
        *(("lr", 0.5), ("learning_rate", True), ("proximal_mu", 0.1), ("code", b"import os"), ("local_epochs", 1)),
    ],
)
def test_a_server_sets_nothing(client: HospitalClient, hospitals: Any, name: str, value: Any) -> None:
    answer = fit(client, **{name: value})
    assert f"The server sets {name}=" in answer.status.message
    assert not hospitals["general"].charged


def test_a_server_that_sends_endless_settings_is_refused(client: HospitalClient) -> None:
    assert "sent 65 settings" in fit(client, **{f"round{number}": 1 for number in range(65)}).status.message


def test_rounds_without_end_end_with_the_approved_ones(client: HospitalClient, hospitals: Any) -> None:
    codes = [fit(client, moved(client, number)).status.code for number in range(8)]
    assert codes == [wire.OK] * 3 + [wire.FIT_NOT_IMPLEMENTED] * 5
    assert hospitals["general"].charged == [("general-0", number) for number in (1, 2, 3)]


def test_a_round_that_is_replayed_gives_the_same_release_and_costs_nothing(
    client: HospitalClient, hospitals: Any
) -> None:
    first = fit(client)
    fit(client, moved(client, 1))
    again = [fit(client) for _ in range(5)]
    assert all(list(answer.parameters.tensors) == list(first.parameters.tensors) for answer in again)
    assert all(answer.metrics["round"].sint64 == 1 for answer in again)
    assert len(hospitals["general"].charged) == 2


def test_a_round_that_failed_is_not_paid_for_again_by_repeating_it(client: HospitalClient, hospitals: Any) -> None:
    general = hospitals["general"]
    general.failing_rounds = {1}
    real = general.request_status

    def failed(code: str) -> Any:
        told = real(code)
        return {**told, "rounds": [{"round": 1, "status": "failed"}, *told["rounds"]]}

    assert "failed" in fit(client).status.message
    general.request_status = failed
    asked = general.calls.count("run")
    for _ in range(3):
        assert "is not run again for these weights" in fit(client).status.message
    assert general.calls.count("run") == asked
    assert fit(client, moved(client, 1)).metrics["round"].sint64 == 2


def test_what_the_hospital_never_began_is_not_lost(client: HospitalClient, hospitals: Any) -> None:
    hospitals["general"].down_in_rounds = {1}
    for number in range(5):
        assert fit(client, moved(client, number)).status.code == wire.FIT_NOT_IMPLEMENTED
    hospitals["general"].down_in_rounds = set()
    assert fit(client, moved(client, 9)).metrics["round"].sint64 == 1


def test_a_server_gets_nothing_but_releases(client: HospitalClient, hospitals: Any) -> None:
    """No scores, no properties beyond a name, and no words of a fault of ours."""
    answer = client.answer(wire.ServerMessage(evaluate_ins=wire.ServerMessage.EvaluateIns()))
    assert answer is not None
    assert (answer.evaluate_res.loss, answer.evaluate_res.num_examples) == (0.0, 0)
    properties = client.answer(wire.ServerMessage(get_properties_ins=wire.ServerMessage.GetPropertiesIns()))
    assert properties is not None
    assert dict(properties.get_properties_res.properties).keys() == {"hospital"}
    hospitals["general"].run = lambda *_: 1 / 0
    assert fit(client).status.message == FAULT
    assert client.answer(wire.ServerMessage()) is None


def test_a_lie_for_the_joint_model_is_not_kept(client: HospitalClient) -> None:
    fit(client)
    for lie in LIES.values():
        told = wire.ServerMessage.EvaluateIns(parameters=parameters_with(client, lie))
        client.answer(wire.ServerMessage(evaluate_ins=told))
    assert client.study.state.read_tensors("final") is None
    assert client.joint is not None
    assert digest(client.joint) == digest(client.initial)
