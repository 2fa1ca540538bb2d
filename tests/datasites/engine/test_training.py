import math
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from opacus.accountants import RDPAccountant
from torch import Tensor, nn
from torch.nn import functional

from datasites.engine import training
from datasites.engine.clipping import GridOptimizer, clipped_sum
from datasites.engine.grid import grid_of
from datasites.engine.interpreter import forward
from datasites.engine.losses import record_loss
from datasites.engine.training import physical_batch, read_back_epsilon, record_gradients, train_round
from policies.errors import DatasiteError, UnsupportedMechanism, WeightsRefused
from policies.privacy.mechanisms import DPSGD
from policies.release.compression import noise_of_round
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

Matrix = npt.NDArray[np.float64]
PATIENTS = 40


def train(
    table: Matrix, made: DPSGD, *, model: type[nn.Module] = Sigmoid, seed: int = 0, published: int = PATIENTS
) -> dict[str, Tensor]:
    graph, weights = exported(model)
    return train_round(graph, made, schema(), published, table, weights, source(seed))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def change(one: dict[str, Tensor], other: dict[str, Tensor]) -> Tensor:
    return torch.cat([(one[name].double() - other[name].double()).flatten() for name in one])


def noise_alone(made: DPSGD, *, seed: int = 0, published: int = PATIENTS, steps: int = 1) -> Tensor:
    """What an SGD of learning rate 1 adds to the weights over steps whose batches are empty."""
    return noise_of_steps(made, seed=seed, published=published, steps=steps).sum(0)


def noise_of_steps(made: DPSGD, *, seed: int = 0, published: int = PATIENTS, steps: int = 1) -> Tensor:
    """The same of each step: drawn together, used apart."""
    graph, _ = exported(Sigmoid)
    gaussian, grid = source(seed).child("gaussian"), grid_of(made.clipping_norm)
    std = math.nextafter(made.noise_multiplier * made.clipping_norm / grid, math.inf)  # type: ignore[operator]
    drawn = gaussian.gaussian_on_grid((steps, graph.parameter_count), std, 1.0)
    return torch.from_numpy(-drawn * grid / (made.sampling_rate * published))


def test_the_same_key_gives_the_same_bits_and_another_does_not() -> None:
    made = mechanism(sampling_rate=0.4, steps=5)
    assert same(train(matrix(PATIENTS, each=3), made), train(matrix(PATIENTS, each=3), made))
    assert not same(train(matrix(PATIENTS, each=3), made), train(matrix(PATIENTS, each=3), made, seed=1))


def test_a_release_has_the_names_order_and_shapes_of_the_graph() -> None:
    graph, weights = exported(Sigmoid)
    before = {name: value.clone() for name, value in weights.items()}
    released = train(matrix(PATIENTS), mechanism())
    assert [(name, tuple(value.shape)) for name, value in released.items()] == [
        (each.name, each.shape) for each in graph.parameters
    ]
    assert all(value.dtype == torch.float32 and not value.requires_grad for value in released.values())
    assert same(weights, before)


class Squeezed(Plain):
    """One number, and not one in a list."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(1)


@pytest.mark.parametrize("steps", [1, training.STEPS_WORTH_A_TAPE])
def test_an_output_without_dimensions_trains_as_one_in_a_list(steps: int) -> None:
    made = mechanism(loss="binary_cross_entropy_with_logits", steps=steps)
    assert same(train(matrix(PATIENTS), made, model=Squeezed), train(matrix(PATIENTS), made, model=Plain))


def test_an_empty_batch_takes_a_step_on_noise_alone() -> None:
    made = mechanism(sampling_rate=1e-9, noise_multiplier=1e-3, steps=3)
    _, weights = exported(Sigmoid)
    moved = change(train(matrix(PATIENTS), made), weights)
    expected = noise_alone(made, steps=3)
    assert torch.allclose(moved, expected, rtol=1e-5, atol=0.1)  # deviation 25,000 a step
    assert moved.abs().min() > 0


def test_a_table_without_rows_trains_on_noise_alone() -> None:
    _, weights = exported(Sigmoid)
    made = mechanism()
    assert torch.allclose(change(train(matrix(0), made), weights), noise_alone(made), atol=1e-6)


def test_noise_has_the_deviation_of_the_plan() -> None:
    made = mechanism(noise_multiplier=3.0, clipping_norm=0.5, steps=100, sampling_rate=0.25)
    _, weights = exported(Sigmoid)
    moved = change(train(matrix(0), made), weights)
    # 100 steps of deviation 3 · 0.5 / (0.25 · 40) = 0.15 add up to 1.5; over n parameters n s² / 1.5² is chi-square.
    assert abs((moved**2).sum().item() / 1.5**2 - len(moved)) < 5 * math.sqrt(2 * len(moved))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.9, "learning_rate": 0.2},
        {"weight_decay": 0.1, "learning_rate": 0.5},
        {"momentum": 0.5, "weight_decay": 0.05, "proximal_mu": 0.2, "learning_rate": 0.3},
    ],
)
def test_the_public_grid_knows_the_noise_of_a_round(changes: dict[str, float]) -> None:
    """`policies.release.compression` takes its grid from this figure, which no data has a part in."""
    made = mechanism(noise_multiplier=3.0, clipping_norm=0.5, steps=40, sampling_rate=0.25, **changes)
    _, weights = exported(Sigmoid)
    moved = torch.cat([change(train(matrix(0), made, seed=seed), weights) for seed in range(20)])
    alike = torch.cat([value.flatten() for value in weights.values()]).repeat(20).double()
    # Weight decay alone moves weights by a public factor, which is taken out as the part along the start.
    moved = moved - alike * (moved @ alike) / (alike @ alike)
    deviation = noise_of_round(made, PATIENTS)
    assert abs((moved**2).sum().item() / deviation**2 - len(moved)) < 5 * math.sqrt(2 * len(moved))


def test_a_neighbour_changes_one_step_by_its_clipped_gradient_alone() -> None:
    table = matrix(PATIENTS)
    graph, weights = exported(Sigmoid)
    made = mechanism(clipping_norm=0.3)
    moved = change(train(table, made), train(table[:-1], made)) * PATIENTS
    gradients, _ = record_gradients(forward(graph), made.loss)(
        weights, torch.from_numpy(schema().inputs(table[-1:])), torch.from_numpy(schema().targets(table[-1:]))
    )
    found = clipped_sum(list(gradients.values()), torch.ones(1, dtype=torch.bool), clipping_norm=0.3) * grid_of(0.3)
    assert torch.allclose(moved, -found, atol=PATIENTS * 1e-6)  # weights near 1 are float32
    assert moved.norm() <= 0.3 + PATIENTS * 1e-6


def test_one_patient_with_many_records_weighs_no_more() -> None:
    table = matrix(PATIENTS)
    many = np.concatenate([table, np.repeat(table[-1:], 500, axis=0)])
    assert same(train(many, mechanism(steps=5)), train(table, mechanism(steps=5)))


def test_steps_sample_patients_by_poisson() -> None:
    seen: list[int] = []
    original = training._padded
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_padded", lambda x, y, *rest: (seen.append(len(y)), original(x, y, *rest))[1])
        train(matrix(PATIENTS, each=5), mechanism(sampling_rate=0.3, steps=300))
    sizes = np.array(seen)
    variance = PATIENTS * 0.3 * 0.7
    assert abs(sizes.mean() - PATIENTS * 0.3) < 5 * math.sqrt(variance / 300)
    assert abs(sizes.var() - variance) < 5 * variance * math.sqrt(2 / 300)


def scramble(rows: Matrix) -> None:
    rows[:, 2:] = np.nan


def far(rows: Matrix) -> None:
    rows[:, 2:] = 1e308


@pytest.mark.parametrize("spoil", [scramble, far])
def test_hold_out_rows_never_influence_training(spoil: Callable[[Matrix], None]) -> None:
    made = mechanism(sampling_rate=0.5, steps=4)
    table = matrix(PATIENTS + 30, held_out=30)
    other = table.copy()
    spoil(other[-30:])
    assert same(train(table, made), train(other, made))
    assert same(train(table, made), train(table[:PATIENTS], made))


def test_records_that_are_not_finite_contribute_exactly_zero() -> None:
    table = matrix(PATIENTS)
    finite = table[table[:, 2] > 0]
    spoilt = np.concatenate([finite, np.repeat(table[table[:, 2] < 0], 3, axis=0)])
    spoilt[:, 0] = np.arange(len(spoilt))
    made = mechanism(loss="binary_cross_entropy_with_logits", steps=3)
    released = train(spoilt, made, model=Logarithm)
    assert same(released, train(finite, made, model=Logarithm))
    assert all(torch.isfinite(value).all() for value in released.values())


def test_the_divisor_is_public_and_not_the_number_of_rows() -> None:
    # Records that contribute zero change the number of rows and nothing else: 1, 20 or 400 patients, one divisor.
    table = np.repeat(matrix(1), 400, axis=0)
    table[:, 0], table[0, 2], table[1:, 2] = np.arange(400), 0.5, -0.5
    made = mechanism(loss="binary_cross_entropy_with_logits")
    releases = [train(table[:rows], made, model=Logarithm) for rows in (1, 20, 400)]
    assert same(releases[0], releases[1])
    assert same(releases[0], releases[2])


@pytest.mark.parametrize("size", [1, 7, 40, 512])
def test_the_physical_batch_changes_no_bit(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    made = mechanism(sampling_rate=0.7, steps=4, momentum=0.5)
    # One step's gradients may differ in float32 between batch widths, where a kernel adds in another order.
    expected = train(matrix(PATIENTS), made)
    monkeypatch.setattr(training, "physical_batch", lambda graph, expected: size)
    assert torch.allclose(change(train(matrix(PATIENTS), made), expected), torch.zeros(1).double(), atol=1e-5)


def test_physical_batches_have_one_public_size(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = exported(Sigmoid)
    shapes: list[tuple[int, ...]] = []
    original = GridOptimizer.clip_and_accumulate

    def watch(self: GridOptimizer) -> None:
        shapes.append(tuple(self.params[0].grad_sample.shape))
        original(self)

    monkeypatch.setattr(GridOptimizer, "clip_and_accumulate", watch)
    for rows in (0, 3, PATIENTS, 200):
        train(matrix(rows), mechanism(sampling_rate=0.5, steps=3))
    assert {shape[0] for shape in shapes} == {physical_batch(graph, 20)} == {29}  # 20 + 2√20 = 28.9


def test_a_physical_batch_is_smaller_for_a_large_model() -> None:
    graph, _ = exported(Sigmoid)
    assert physical_batch(graph, 10_000) == 512
    assert physical_batch(graph, 0.01) == 1


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_without_noise_it_is_clipped_sgd(optimizer: str) -> None:
    table, made = matrix(PATIENTS), mechanism(noise_multiplier=1e-6, steps=20, learning_rate=0.1, optimizer=optimizer)
    _, weights = exported(Sigmoid)
    model = Sigmoid()
    model.load_state_dict(weights)
    stepper = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](model.parameters(), lr=0.1)
    inputs, labels = torch.from_numpy(schema().inputs(table)), torch.from_numpy(schema().targets(table))
    for _ in range(20):
        total = [torch.zeros_like(p) for p in model.parameters()]
        for record, label in zip(inputs, labels, strict=True):
            loss = functional.binary_cross_entropy(model(record[None])[0, 0], label.float())
            found = torch.autograd.grad(loss, list(model.parameters()))
            norm = torch.cat([each.flatten() for each in found]).norm()
            total = [a + b * (1 / norm).clamp(max=1) for a, b in zip(total, found, strict=True)]
        for p, each in zip(model.parameters(), total, strict=True):
            p.grad = each / PATIENTS
        stepper.step()
    moved = change(train(table, made), dict(model.named_parameters()))
    assert moved.abs().max() < (1e-3 if optimizer == "sgd" else 1e-2)


@pytest.mark.parametrize(("schedule", "share"), [("constant", 1.0), ("linear", 0.75), ("cosine", 0.85355339)])
def test_the_learning_rate_of_a_round_is_what_its_schedule_says_and_nothing_else(schedule: str, share: float) -> None:
    # The second of four rounds of one step: a quarter has passed; (1 + cos(π/4)) / 2 = 0.8536.
    _, weights = exported(Sigmoid)
    moved = []
    for made in (mechanism(rounds=4), mechanism(rounds=4, schedule=schedule)):
        graph, _ = exported(Sigmoid)
        released = train_round(graph, made, schema(), PATIENTS, matrix(PATIENTS), weights, source(), round=2)
        moved.append(change(released, weights))
    assert torch.allclose(moved[1], moved[0] * share, atol=1e-6)
    assert moved[0].abs().max() > 0.01


def test_training_learns() -> None:
    table = matrix(2000)
    made = mechanism(sampling_rate=0.1, steps=150, learning_rate=2.0)
    released = train(table, made, published=2000)
    graph, _ = exported(Sigmoid)
    scores = torch.vmap(forward(graph), in_dims=(None, 0))(released, torch.from_numpy(schema().inputs(table)))
    right = (scores[:, 0] > 0.5) == torch.from_numpy(schema().targets(table)).bool()
    assert right.double().mean() > 0.93


def test_fedprox_pulls_towards_the_incoming_weights() -> None:
    # With gradients of zero, d ← d - μ d - noise: after many steps a random walk is held at noise² / (2μ - μ²).
    _, weights = exported(Sigmoid)
    free, pulled = (change(train(matrix(0), mechanism(steps=200, proximal_mu=mu)), weights).norm() for mu in (0.0, 0.5))
    expected = math.sqrt(41) / PATIENTS / math.sqrt(2 * 0.5 - 0.25)  # 41 parameters, deviation 1/40 a step
    assert abs(pulled - expected) < 0.5 * expected
    assert free > 5 * pulled


def test_weight_decay_and_momentum_are_what_torch_makes_of_the_noisy_gradient() -> None:
    made = mechanism(noise_multiplier=1e-9, weight_decay=0.25)
    _, weights = exported(Sigmoid)
    moved = change(train(matrix(0), made), weights)
    assert torch.allclose(moved, -0.25 * change(weights, {n: torch.zeros_like(w) for n, w in weights.items()}))
    one, two = (change(train(matrix(0), mechanism(steps=steps, momentum=0.5)), weights).double() for steps in (1, 2))
    first, second = noise_of_steps(mechanism(), steps=2)
    assert torch.allclose(one, noise_alone(mechanism()), atol=1e-6)
    assert torch.allclose(two, first * 1.5 + second, atol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324])
@pytest.mark.parametrize("columns", [slice(2, 5), slice(5, 6), slice(2, 6)])
def test_no_row_makes_training_raise_print_or_warn(
    value: float, columns: slice, capfd: pytest.CaptureFixture[str]
) -> None:
    table = matrix(PATIENTS)
    table[::2, columns] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model, loss in ((Sigmoid, "binary_cross_entropy"), (Logarithm, "binary_cross_entropy_with_logits")):
            released = train(table, mechanism(loss=loss, steps=3, sampling_rate=0.5), model=model)
            assert all(torch.isfinite(each).all() for each in released.values())
    assert capfd.readouterr() == ("", "")


def test_weights_that_overflow_are_a_release_like_any_other() -> None:
    released = train(
        matrix(PATIENTS), mechanism(learning_rate=1000.0, noise_multiplier=1000.0, weight_decay=10.0, steps=60)
    )
    assert not all(torch.isfinite(each).all() for each in released.values())
    assert {name: each.shape for name, each in released.items()} == {
        name: each.shape for name, each in exported(Sigmoid)[1].items()
    }


@pytest.mark.parametrize("score", [0.0, 1e-45, 1e-30, 0.3, 0.5, 1 - 1e-7, 1.0])
@pytest.mark.parametrize("label", [0, 1])
def test_cross_entropy_of_one_output_is_torchs(score: float, label: int) -> None:
    ours, theirs = (torch.tensor([score], requires_grad=True) for _ in range(2))
    value = record_loss(ours, torch.tensor(label), "binary_cross_entropy")
    wanted = functional.binary_cross_entropy(theirs, torch.tensor([float(label)]))
    value.backward()  # type: ignore[no-untyped-call]
    wanted.backward()  # type: ignore[no-untyped-call]
    assert value.item() == pytest.approx(wanted.item())
    assert ours.grad is not None
    assert theirs.grad is not None
    assert ours.grad.item() == pytest.approx(theirs.grad.item(), rel=1e-6)


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("label", [0, 1])
def test_an_output_that_is_no_probability_has_no_finite_loss(score: float, label: int) -> None:
    # torch's own function raises here, which would tell the researcher about a record.
    assert not math.isfinite(record_loss(torch.tensor([score]), torch.tensor(label), "binary_cross_entropy").item())


@pytest.mark.parametrize("label", [0, 1, 2])
def test_cross_entropy_of_classes_is_torchs(label: int) -> None:
    logits = torch.tensor([0.3, -2.0, 9.0])
    expected = functional.cross_entropy(logits[None], torch.tensor([label]))
    assert record_loss(logits, torch.tensor(label), "cross_entropy").item() == pytest.approx(expected.item())


@pytest.mark.parametrize("classes", [2, 3])
def test_one_logit_per_class_trains(classes: int) -> None:
    graph, weights = exported(Plain, classes)
    released = train_round(
        graph, mechanism(loss="cross_entropy"), schema(classes), 10, matrix(10, classes=classes), weights, source()
    )
    assert not same(released, weights)


ORDERS = [*range(2, 64), 128, 256]


@pytest.mark.parametrize(("multiplier", "rate", "steps"), [(1.0, 0.05, 40), (0.6, 0.2, 7), (4.0, 1.0, 3)])
def test_epsilon_read_back_from_opacus_is_that_of_the_plan(multiplier: float, rate: float, steps: int) -> None:
    from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    made = mechanism(noise_multiplier=multiplier, sampling_rate=rate, steps=steps)
    graph, weights = exported(Sigmoid)
    counted = RDPAccountant()
    for _ in range(3):
        train_round(graph, made, schema(), PATIENTS, matrix(PATIENTS), weights, source(), accountant=counted)
    ours = RdpAccountant(ORDERS, NeighboringRelation.ADD_OR_REMOVE_ONE)
    ours.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(multiplier)), 3 * steps)
    read = read_back_epsilon(counted, delta=1e-5, orders=ORDERS)
    assert read == pytest.approx(ours.get_epsilon(1e-5), rel=1e-6)


def test_nothing_is_released_where_opacus_counted_other_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RDPAccountant, "step", lambda self, **arguments: None)
    with pytest.raises(DatasiteError, match="counted"):
        train(matrix(PATIENTS), mechanism())


@pytest.mark.parametrize(
    ("model", "made", "classes", "message"),
    [
        (Sigmoid, mechanism(noise_multiplier=None, epsilon=1.0), 2, "noise multiplier"),
        (Sigmoid, mechanism(loss="cross_entropy"), 2, "one logit per class"),
        (Sigmoid, mechanism(), 3, "one output and two classes"),
        (Sigmoid, mechanism(inputs=("x0",)), 2, "takes records of"),
    ],
)
def test_what_does_not_go_together_is_refused_before_rows_are_looked_at(
    model: type[nn.Module], made: DPSGD, classes: int, message: str
) -> None:
    graph, weights = exported(model)
    with pytest.raises(UnsupportedMechanism, match=message):
        train_round(graph, made, schema(classes), 10, None, weights, source())  # type: ignore[arg-type]


def test_weights_of_another_model_are_refused() -> None:
    graph, _ = exported(Sigmoid)
    with pytest.raises(WeightsRefused, match=r"layer1\.weight"):
        train_round(graph, mechanism(), schema(), 10, matrix(3), exported(Plain)[1], source())
