import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from datasites.engine import gradient_recorder, training
from datasites.engine.gradient_recorder import NotRecordable, recorded, recorded_once
from datasites.engine.interpreter import forward
from datasites.engine.training import record_gradients, taped, train_round
from policies.errors import DatasiteError
from policies.graph.exporter import export_model
from tests.datasites.engine.training_factories import (
    Logarithm,
    Plain,
    Sigmoid,
    exported,
    matrix,
    mechanism,
    schema,
    source,
)

SIZE = 6


class Series(nn.Module):
    """An LSTM over four steps, normalised by groups."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.norm, self.out = nn.LSTM(1, 4, batch_first=True), nn.GroupNorm(2, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.out(self.norm(self.lstm(x)[0][:, -1])))


class Picture(nn.Module):
    """A convolution, pooling, and a parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.out = nn.Conv1d(1, 3, 2), nn.MaxPool1d(2), nn.Linear(3, 2)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.pool(torch.relu(self.conv(x.transpose(1, 2)))).mean(2))


class Attention(nn.Module):
    """Softmax attention, layer norm, embedding by a cut-off feature, a constant and a list of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm, self.out = nn.Embedding(3, 4), nn.LayerNorm(4), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm(self.embedding(x[..., 0].clamp(0, 2).long()) * torch.tensor([1.0, 2.0, 3.0, 4.0]))
        mixed = torch.softmax(seen @ seen.transpose(1, 2), dim=-1) @ seen
        return self.out(torch.cat([mixed.mean(1), mixed.amax(1)], dim=1))


MODELS = [
    (Sigmoid, (3,), "binary_cross_entropy"),
    (Logarithm, (3,), "binary_cross_entropy_with_logits"),
    (Series, (4, 1), "binary_cross_entropy"),
    (Picture, (5, 1), "cross_entropy"),
    (Attention, (4, 1), "cross_entropy"),
]
SPOILT = [math.nan, math.inf, -math.inf, 1e38, -1e38, 1e-45]


@pytest.mark.parametrize(("model", "shape", "loss"), MODELS)
def test_a_tape_gives_the_same_bits_also_where_records_are_not_finite(
    model: type[nn.Module], shape: tuple[int, ...], loss: str
) -> None:
    torch.manual_seed(3)
    made = model()
    graph = export_model(made, shape)
    names = {each.name for each in graph.parameters}
    gradients = record_gradients(forward(graph), loss)
    tape = taped(gradients, graph, 2, SIZE)
    assert tape is not gradients
    for scale in (1.0, 30.0, 1e30):
        weights = {name: scale * p.detach() for name, p in made.named_parameters() if name in names}
        inputs = torch.randn(SIZE, *shape)
        for spoilt in SPOILT:
            inputs[1].fill_(spoilt)
            inputs[2].view(-1)[0] = spoilt
            labels = torch.randint(2, (SIZE,))
            (found, aux), (expected, other) = (each(weights, inputs, labels) for each in (tape, gradients))
            assert list(found) == list(expected)
            for one, two in zip((*found.values(), *aux), (*expected.values(), *other), strict=True):
                assert one.shape == two.shape
                assert torch.equal(one.isnan(), two.isnan())
                assert torch.equal(one.nan_to_num(0.0), two.nan_to_num(0.0))


@pytest.mark.parametrize("model", [Sigmoid, Logarithm])
@pytest.mark.parametrize("spoilt", [0.5, math.nan, math.inf])
def test_training_with_and_without_a_tape_releases_the_same_bits(
    model: type[nn.Module], spoilt: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = "binary_cross_entropy" if model is Sigmoid else "binary_cross_entropy_with_logits"
    made, table = mechanism(loss=loss, steps=30, sampling_rate=0.5, momentum=0.5), matrix(40, each=2)
    table[::3, 2] = spoilt
    graph, weights = exported(model)
    recordings: list[object] = []
    monkeypatch.setattr(training, "recorded", lambda *given: recordings.append(given) or recorded(*given))
    releases = []
    for worth in (1, 1000):
        monkeypatch.setattr(training, "STEPS_WORTH_A_TAPE", worth)
        releases.append(train_round(graph, made, schema(), 40, table, weights, source()))
    assert len(recordings) == 1
    assert all(torch.equal(releases[0][name], releases[1][name]) for name in weights)


def test_a_tape_is_made_before_rows_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, weights = exported(Plain)
    made = mechanism(loss="binary_cross_entropy_with_logits", steps=50)
    monkeypatch.setattr(training, "taped", lambda *given: (_ for _ in ()).throw(InterruptedError()))
    with pytest.raises(InterruptedError):
        train_round(graph, made, schema(), 10, None, weights, source())  # type: ignore[arg-type]


def test_recording_leaves_torchs_own_randomness_alone() -> None:
    graph, _ = exported(Plain)
    before = torch.get_rng_state()
    taped(record_gradients(forward(graph), "binary_cross_entropy_with_logits"), graph, 2, SIZE)
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_that_is_too_large_to_record_trains_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, weights = exported(Sigmoid)
    made, table = mechanism(steps=30), matrix(20)
    expected = train_round(graph, made, schema(), 20, table, weights, source())
    monkeypatch.setattr(gradient_recorder, "LARGEST_RECORDING", 1000)
    gradients = record_gradients(forward(graph), made.loss)
    assert taped(gradients, graph, 2, SIZE) is gradients
    released = train_round(graph, made, schema(), 20, table, weights, source())
    assert all(torch.equal(released[name], expected[name]) for name in weights)


def examples(*shapes: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    made = torch.Generator().manual_seed(0)
    first, second = ([torch.randn(shape, generator=made) for shape in shapes] for _ in range(2))
    return first, second


def changed_under_a_view(made: Tensor) -> list[Tensor]:
    view = made.view(3, 1)
    made.add_(1)
    return [view]


def by_value(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [torch.add(tensors[0], 1) if seen.pop() else torch.mul(tensors[0], 2)]


seen: list[bool] = []

REFUSED: dict[str, tuple[Callable[[Sequence[Tensor]], Sequence[Tensor]], str]] = {
    "a change of an argument": (lambda given: [given[0].add_(1)], "writes"),
    "a change that a view shows": (lambda given: changed_under_a_view(given[0] + 1), "writes"),
    "random numbers": (lambda given: [given[0] + torch.rand_like(given[0])], "random"),
    "a value as a number": (lambda given: [given[0] * given[0].sum().item()], "something else|depend"),
    "a tensor made outside": (lambda given: [given[0] + torch.from_numpy(given[0].numpy() * 2)], "no operator"),
    "other operators for other values": (by_value, "depend"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_depends_on_values_or_writes_is_not_recorded(case: str) -> None:
    seen[:] = [True, False]
    function, message = REFUSED[case]
    with pytest.raises(NotRecordable, match=message):
        recorded(function, examples((3,)))


def test_one_run_refuses_what_asks_for_a_value_and_gives_what_other_arguments_come_to() -> None:
    examples = ([torch.ones(3)], [torch.arange(3.0)])
    for asks in (lambda x: x * 2 if x.sum() > 0 else x, lambda x: x * float(x.max())):
        with pytest.raises(NotRecordable):
            recorded_once(lambda tensors, asks=asks: [asks(tensors[0])], examples)
    recording = recorded_once(lambda tensors: [tensors[0] * 3], examples)
    assert torch.equal(recording.other[0][0], torch.arange(3.0))
    assert torch.equal(recording.other[1][0], torch.arange(3.0) * 3)
    assert len(recording.calls) == 1


def test_what_is_changed_in_place_is_made_anew() -> None:
    def function(given: Sequence[Tensor]) -> list[Tensor]:
        before = given[0] * 2
        twice = before + 1
        before.fill_(7.0).unsqueeze_(0)
        zeros = torch.zeros_like(given[0])
        early = zeros + given[0]
        zeros.add_(given[0])
        return [before, twice, before + given[0], early, zeros]

    tape = recorded(function, examples((3,)))
    given = torch.tensor([4.0, 5.0, 6.0])
    for one, two in zip(tape([given]), function([given]), strict=True):
        assert torch.equal(one, two)


def test_constants_of_the_function_are_kept() -> None:
    constant = torch.tensor([1.0, 2.0, 3.0])
    tape = recorded(lambda given: [given[0] * constant + torch.ones(3)], examples((3,)))
    given = torch.tensor([4.0, 5.0, 6.0])
    assert torch.equal(tape([given])[0], given * constant + 1)


def test_views_of_views_show_the_inputs_of_this_call() -> None:
    def function(given: Sequence[Tensor]) -> list[Tensor]:
        turned = given[0].t().unsqueeze(0).expand(2, 3, 2)
        return [turned.permute(2, 0, 1)[1].detach(), given[0].view(-1).view(3, 2), given[0], *given[0].split(1)]

    tape = recorded(function, examples((2, 3)))
    given = torch.arange(6.0).view(2, 3)
    for one, two in zip(tape([given]), function([given]), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("given", [torch.zeros(4), torch.zeros(3, dtype=torch.float64), torch.zeros(6)[::2]])
def test_a_tape_refuses_other_shapes_and_layouts(given: Tensor) -> None:
    tape = recorded(lambda given: [given[0] + 1], examples((3,)))
    with pytest.raises(DatasiteError, match="tape"):
        tape([given])
