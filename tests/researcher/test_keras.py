"""Keras models as torch: the same outputs, a source that hospitals take, weights both ways; the rest is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import researcher
from policies.errors import InvalidRequest, UnsupportedMechanism
from policies.graph.exporter import export_source
from policies.privacy.mechanisms import DPSGD
from policies.source.inspection import inspect_source
from researcher.instances import class_of
from researcher.keras import for_loss, load, source_of, tensors_of, to_torch
from researcher.keras_layers import KINDS, Refusal
from researcher.keras_training import compiled_settings, copy_of
from researcher.sources import request_source
from tests.researcher.keras_package import keras

L = keras.layers
MECHANISM = DPSGD(
    loss="cross_entropy", rounds=1, steps=1, sampling_rate=0.1, clipping_norm=1.0, epsilon=1.0, learning_rate=1.0
)


def sequential(shape: tuple[int, ...], *layers: Any) -> Any:
    return keras.Sequential([keras.Input(shape), *layers])


def functional(shape: tuple[int, ...], *layers: Any) -> Any:
    first = outputs = keras.Input(shape)
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(first, outputs)


MODELS: dict[str, Callable[[], Any]] = {
    "dense": lambda: sequential((6,), L.Dense(8, "relu"), L.Dropout(0.3), L.Dense(3, "softmax", use_bias=False)),
    "functional": lambda: functional((6,), L.Dense(8), L.LeakyReLU(), L.Dense(1, "sigmoid")),
    "nested": lambda: keras.Sequential([keras.Input((6,)), keras.Sequential([L.Dense(4, "tanh")]), L.Dense(1)]),
    "every activation": lambda: sequential(
        (6,), L.Dense(8, "elu"), L.Dense(8, "selu"), L.Dense(8, "gelu"), L.Dense(8, "silu"), L.Dense(8, "mish"),
        L.Dense(8, "relu6"), L.Dense(8, "softplus"), L.Dense(8, "softsign"), L.Dense(8, "leaky_relu"),
        L.Activation("exponential"), L.Dense(8, "tanh"), L.ELU(0.5), L.ReLU(max_value=0.5), L.ReLU(negative_slope=0.1),
        L.ReLU(), L.Activation("log_softmax"), L.Dense(3), L.Softmax(),
    ),
    "lstm": lambda: sequential((7, 3), L.LSTM(5, return_sequences=True), L.LSTM(4), L.Dense(1)),
    "lstm without bias": lambda: sequential((7, 3), L.LSTM(5, use_bias=False), L.Dense(1)),
    "gru": lambda: sequential((7, 3), L.GRU(5, return_sequences=True), L.GRU(4, use_bias=False), L.Dense(1)),
    "conv1d": lambda: sequential(
        (9, 4), L.Conv1D(6, 3, padding="same", strides=2, activation="relu"), L.Conv1D(4, 2, padding="causal",
        dilation_rate=2), L.MaxPooling1D(2), L.Flatten(), L.Dense(2),
    ),
    "conv1d groups": lambda: sequential(
        (8, 4), L.Conv1D(4, 4, padding="same", groups=2, use_bias=False), L.AveragePooling1D(3, strides=2),
        L.GlobalAveragePooling1D(), L.Dense(1),
    ),
    "conv2d": lambda: sequential(
        (9, 8, 2), L.Conv2D(4, (3, 2), padding="same", groups=2, activation="tanh"), L.GroupNormalization(2),
        L.AveragePooling2D((2, 3), strides=1), L.Conv2D(3, 2, strides=2), L.GlobalMaxPooling2D(), L.Dense(1),
    ),
    "conv2d same with strides": lambda: sequential(
        (9, 8, 2), L.Conv2D(4, (3, 4), strides=(2, 3), padding="same"), L.MaxPooling2D(2), L.Flatten(), L.Dense(1)
    ),
    "pooled to one": lambda: sequential(
        (8, 6, 3), L.GlobalAveragePooling2D(keepdims=True), L.Flatten(), L.Reshape((3, 1)), L.GlobalMaxPooling1D(),
        L.Dense(1),
    ),
    "norms": lambda: sequential(
        (6, 4), L.LayerNormalization(), L.GroupNormalization(-1, epsilon=1e-5), L.LayerNormalization(center=False,
        scale=False), L.Flatten(), L.GroupNormalization(4), L.Dense(1),
    ),
    "embedding": lambda: sequential((5,), L.Embedding(11, 3), L.LSTM(4), L.Dense(1, "sigmoid")),
}  # fmt: skip


def model_of(name: str) -> Any:
    """The model with weights of its own in every array: zeros and ones would hide one that is in another's place."""
    model = MODELS[name]()
    random = np.random.default_rng(0)
    model.set_weights([random.normal(0, 0.4, array.shape).astype(np.float32) for array in model.get_weights()])
    return model


def inputs_of(model: Any, rows: int = 5) -> np.ndarray[Any, Any]:
    shape = (rows, *model.input_shape[1:])
    if type(model.layers[0]).__name__ == "Embedding":
        return np.random.default_rng(1).integers(0, 11, shape).astype(np.float32)
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def outputs_of(model: torch.nn.Module, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        return np.asarray(model.eval()(torch.from_numpy(inputs)))


@pytest.mark.parametrize("name", MODELS)
def test_torch_gives_what_keras_gives(name: str) -> None:
    model = model_of(name)
    inputs = inputs_of(model)
    theirs = model.predict(inputs, verbose=0)
    assert theirs.std() > 1e-3  # it tells rows apart
    np.testing.assert_allclose(outputs_of(to_torch(model), inputs), theirs, rtol=1e-6, atol=1e-6)


def test_every_layer_that_is_offered_is_compared_with_keras() -> None:
    text = Path(__file__).read_text(encoding="utf-8").partition("def model_of")[0]
    assert [kind for kind in KINDS if f"L.{kind}(" not in text] == []


@pytest.mark.parametrize("name", MODELS)
def test_a_hospital_takes_the_source_and_makes_the_same_model(name: str) -> None:
    model = model_of(name)
    made = to_torch(model)
    source = request_source("study", MECHANISM, model=class_of(made))
    inspection = inspect_source(source)
    assert inspection.model is not None
    _, weights = export_source(inspection.model_source or "", inspection.model, model.input_shape[1:])
    assert {name: value.shape for name, value in weights.items()} == {
        name: value.shape for name, value in tensors_of(model).items()
    }
    assert max(map(len, source_of(model).splitlines())) <= 120


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_exact_both_ways(name: str) -> None:
    model, other = model_of(name), MODELS[name]()
    load(other, tensors_of(model))
    for theirs, ours in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(theirs, ours)


def test_what_torch_trained_keras_predicts() -> None:
    """An LSTM has two biases in torch, both trained; Keras's one is their sum."""
    model = model_of("lstm")
    made, inputs = to_torch(model), inputs_of(model)
    random = np.random.default_rng(2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += torch.from_numpy(random.normal(0, 0.3, tuple(parameter.shape)).astype(np.float32))
    load(model, {name: value.detach().numpy() for name, value in made.named_parameters()})
    np.testing.assert_allclose(model.predict(inputs, verbose=0), outputs_of(made, inputs), rtol=1e-6, atol=1e-6)


def test_the_source_reads_as_torch_is_written() -> None:
    model = sequential((4,), L.Dense(8, "relu", name="hidden"), L.Dropout(0.5), L.Dense(1, "sigmoid"))
    assert (
        source_of(model)
        == """class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, 8)
        self.dropout1 = nn.Dropout(0.5)
        self.dense2 = nn.Linear(8, 1)

    def forward(self, x):
        x = torch.relu(self.hidden(x))
        x = self.dropout1(x)
        x = torch.sigmoid(self.dense2(x))
        return x
"""
    )


def test_the_same_model_made_again_has_the_same_source() -> None:
    """Keras numbers layers over all models of a process; a study's name and its digests may not."""
    assert source_of(MODELS["dense"]()) == source_of(MODELS["dense"]())


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "batch norm": (lambda: sequential((4,), L.Dense(2), L.BatchNormalization()), "Use LayerNormalization or Group"),
    "bidirectional": (lambda: sequential((4, 2), L.Bidirectional(L.LSTM(2))), "Bidirectional .* Use LSTM or GRU"),
    "another layer": (lambda: sequential((4,), L.RepeatVector(3), L.Dense(1)), "RepeatVector .* There are "),
    "lambda": (lambda: sequential((4,), L.Dense(2), L.Lambda(lambda x: x)), "write the model as an nn.Module|Lambda"),
    "gru before": (lambda: sequential((4, 2), L.GRU(2, reset_after=False)), "Use reset_after=True"),
    "gate": (lambda: sequential((4, 2), L.LSTM(2, activation="relu")), r"LSTM\(activation='relu'\).* Use 'tanh'"),
    "stateful": (lambda: keras.Sequential([keras.Input((4, 2), 1), L.LSTM(2, stateful=True)]), "carry one"),
    "recurrent dropout": (lambda: sequential((4, 2), L.LSTM(2, recurrent_dropout=0.1)), "Use a Dropout layer"),
    "regularizer": (lambda: sequential((4,), L.Dense(2, kernel_regularizer="l2")), r"_regularizer=.*weight_decay"),
    "mask": (lambda: sequential((4,), L.Embedding(5, 2, mask_zero=True), L.LSTM(2)), "mask_zero=True"),
    "own activation": (lambda: sequential((4,), L.Dense(2, activation="hard_silu")), "activation="),
    "channels": (lambda: sequential((4, 4, 2), L.Conv2D(2, 2, data_format="channels_first")), "Use channels_last"),
    "pool same": (lambda: sequential((5, 2), L.MaxPooling1D(2, padding="same")), "Use padding='valid'"),
    "no input": (lambda: keras.Sequential([L.Dense(2)]), r"Begin it with keras\.Input\(\(10,\)\)"),
    "nothing to train": (lambda: sequential((4,), L.Flatten()), "no layer with weights"),
    "half precision": (lambda: sequential((4,), L.Dense(2, dtype="float16")), "Use float32"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_translated_is_refused_by_name(name: str) -> None:
    make, said = REFUSED[name]
    with pytest.raises(Refusal, match=said):
        to_torch(make())


def test_branches_and_classes_of_ones_own_are_refused() -> None:
    first = keras.Input((4,))
    dense = L.Dense(4)
    with pytest.raises(Refusal, match="branches and shared layers are not translated"):
        to_torch(keras.Model(first, L.Add()([dense(first), L.Dense(4)(first)])))
    with pytest.raises(Refusal, match=r"branches and shared|something else than its last"):
        to_torch(keras.Model(first, dense(dense(first))))

    class Mine(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = L.Dense(1)

        def call(self, x: Any) -> Any:
            return -self.inner(x)

    with pytest.raises(Refusal, match="Mine is a class of your own"):
        to_torch(Mine())


def test_a_layer_that_is_not_trained_is_said_as_frozen() -> None:
    model = model_of("dense")
    model.layers[0].trainable = False
    with pytest.raises(Refusal, match=r"Give Study frozen='dense1\.\*' instead"):
        to_torch(model)


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="are those of another model"):
        load(model_of("lstm"), tensors_of(model_of("gru")))


def test_a_loss_of_logits_takes_the_model_before_its_last_softmax() -> None:
    model = model_of("dense")
    inputs = inputs_of(model)
    logits = outputs_of(for_loss(model, "cross_entropy"), inputs)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chances, model.predict(inputs, verbose=0), rtol=1e-5, atol=1e-6)
    sigmoid = model_of("functional")
    assert "torch.sigmoid" in source_of(sigmoid)
    kept = outputs_of(for_loss(sigmoid, "binary_cross_entropy"), inputs)
    np.testing.assert_allclose(kept, sigmoid.predict(inputs, verbose=0), rtol=1e-6, atol=1e-6)


def test_a_study_takes_a_keras_model_and_owners_read_torch(network: Any, tmp_path: Path) -> None:
    model = sequential((2,), L.Dense(4, "relu"), L.Dense(1, "sigmoid"))
    training = researcher.Training(
        loss="binary_cross_entropy", epsilon=2.0, rounds=2, steps=2, sampling_rate=0.1, clipping_norm=1.0,
        learning_rate=0.5,
    )  # fmt: skip
    study = researcher.Study("flu-2026", network.dataset("flu"), model, training, state=tmp_path / "s", progress=False)
    text = study.sources["training"]
    assert "self.dense1 = nn.Linear(2, 4)" in text
    assert "keras" not in text.lower()
    assert not study.check().reasons
    drawn = study.new_model().state_dict()
    assert all(np.array_equal(drawn[name], value) for name, value in tensors_of(model).items())  # round 1 has Keras's


def compiled(loss: Any, *layers: Any, optimizer: Any = "adam", **options: Any) -> dict[str, Any]:
    model = sequential((6,), L.Dense(4), *layers)
    model.compile(optimizer=optimizer, loss=loss, **options)
    return compiled_settings(model)


def test_what_a_model_was_compiled_with_is_understood() -> None:
    assert compiled("binary_crossentropy", L.Dense(1, "sigmoid"), metrics=["accuracy", keras.metrics.AUC()]) == {
        "loss": "binary_cross_entropy", "optimizer": "adam", "learning_rate": 0.001, "metrics": ("accuracy", "AUC"),
    }  # fmt: skip
    losses = keras.losses
    assert compiled(losses.BinaryCrossentropy(from_logits=True), L.Dense(1))["loss"] == (
        "binary_cross_entropy_with_logits"
    )
    assert compiled("sparse_categorical_crossentropy", L.Dense(3, "softmax"))["loss"] == "cross_entropy"
    assert compiled(losses.CategoricalCrossentropy(from_logits=True), L.Dense(3))["loss"] == "cross_entropy"
    assert compiled(losses.mean_squared_error, L.Dense(1))["loss"] == "mean_squared_error"
    assert compiled(losses.Huber(delta=2.0), L.Dense(1))["huber_delta"] == 2.0
    assert compiled("poisson", L.Dense(1, "exponential"))["loss"] == "poisson"
    sgd = compiled("mse", L.Dense(1), optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    assert sgd == {"loss": "mean_squared_error", "optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9}
    assert compiled_settings(sequential((6,), L.Dense(1))) == {}


@pytest.mark.parametrize(
    ("loss", "last", "options", "said"),
    [
        ("mae", L.Dense(1), {}, r"compile\(loss='mae'\) is not taken. Use 'huber' or 'mse'"),
        ("binary_crossentropy", L.Dense(1), {}, "ends in 'linear'"),
        ("sparse_categorical_crossentropy", L.Dense(3), {}, "ends in 'linear'"),
        ("binary_crossentropy", L.Dense(3, "softmax"), {}, "goes with a model that ends in 'sigmoid'"),
        (keras.losses.BinaryCrossentropy(from_logits=True), L.Dense(1, "sigmoid"), {}, "from_logits=True does not go"),
        (keras.losses.BinaryCrossentropy(label_smoothing=0.1), L.Dense(1, "sigmoid"), {}, "label_smoothing=0.1"),
        ("mse", L.Dense(1), {"optimizer": "rmsprop"}, r"optimizer='RMSprop'\) is not taken. Use 'adam' or 'sgd'"),
        ("mse", L.Dense(1), {"optimizer": keras.optimizers.AdamW()}, "AdamW"),
        ("mse", L.Dense(1), {"optimizer": keras.optimizers.Adam(clipnorm=1.0)}, "say max_grad_norm"),
        ("mse", L.Dense(1), {"optimizer": keras.optimizers.Adam(beta_1=0.5)}, "beta_1=0.5"),
        ("mse", L.Dense(1), {"optimizer": keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)}, "nesterov=True"),
        (
            "mse", L.Dense(1),
            {"optimizer": keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9))},
            "is a schedule, which is not taken",
        ),
    ],
)  # fmt: skip
def test_what_was_compiled_and_cannot_be_honoured_is_refused(loss: Any, last: Any, options: Any, said: str) -> None:
    with pytest.raises(UnsupportedMechanism, match=said):
        compiled(loss, last, **options)


def test_a_copy_is_compiled_as_the_model_was() -> None:
    model = sequential((6,), L.Dense(1))
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss=keras.losses.Huber(delta=3.0), metrics=["mae"])
    copied, inputs = copy_of(model), inputs_of(model)
    assert copied.get_compile_config() == model.get_compile_config()
    far = np.full((5, 1), 40.0, np.float32)  # where delta decides
    assert copied.evaluate(inputs, far, verbose=0) == model.evaluate(inputs, far, verbose=0)
    assert copied.get_weights()[0] is not model.get_weights()[0]


@pytest.mark.process
def test_keras_is_never_imported_by_us() -> None:
    modules = "researcher.keras, researcher.keras_training, researcher.secureml, researcher.studies"
    code = f"import {modules}, sys; assert 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
