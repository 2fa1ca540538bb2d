"""Every idiom of the list trains, or is refused by line with what to write: from a researcher's file to an engine."""

from __future__ import annotations

import importlib.util
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasites.engine.interpreter import forward
from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import KernelsMissing
from datasites.engine.noise import NoiseSource
from datasites.engine.training import train_round
from policies.errors import DatasiteError, InspectionFailed
from policies.graph.exporter import export_source
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import DPSGD
from policies.schema.columns import Column
from policies.schema.schemas import Schema
from policies.source.inspection import Inspection, inspect_source
from researcher.sources import request_source
from tests.idioms.list import IDIOMS, Idiom

PATIENTS = 40
TRAINED = [name for name, idiom in IDIOMS.items() if not idiom.words]
REFUSED = [name for name, idiom in IDIOMS.items() if idiom.words]


def imported(idiom: Idiom, folder: Path) -> ModuleType:
    """The researcher's file, as Python imports it."""
    path = folder / f"model_{len(list(folder.iterdir()))}.py"
    path.write_text(idiom.text)
    spec = importlib.util.spec_from_file_location("their_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["their_model"] = module
    with warnings.catch_warnings(action="ignore"):  # of torch, about what it will do otherwise one day
        spec.loader.exec_module(module)
    return module


def asked(model: type[nn.Module], mechanism: DPSGD) -> Inspection:
    """What a hospital reads of the request that the researcher's library writes."""
    return inspect_source(request_source("idiom", mechanism, model=model))


def declared(loss: str = "cross_entropy") -> DPSGD:
    return DPSGD(
        loss=loss, rounds=1, steps=2, sampling_rate=0.5, clipping_norm=1.0, noise_multiplier=1.0, learning_rate=0.1,
        inputs="series",
    )  # fmt: skip


def schema(shape: tuple[int, ...], classes: int) -> Schema:
    """A sequence of that shape, or as many columns, and a target."""
    steps, width = shape if len(shape) == 2 else (1, shape[0])
    names = [[f"x{step}_{channel}" for channel in range(width)] for step in range(steps)]
    columns = [Column(name=name, kind="real", minimum=-1, maximum=1) for step in names for name in step]
    labels = {"kind": "boolean"} if classes == 2 else {"kind": "category", "categories": tuple("abcdefgh"[:classes])}
    return Schema(
        name="t", population="p", patient="id", target="y", columns=(*columns, Column(name="y", **labels)),  # type: ignore[arg-type]
        sequences=(("series", tuple(tuple(step) for step in names)),),
    )  # fmt: skip


def rows(shape: tuple[int, ...], classes: int) -> np.ndarray:
    draw = np.random.default_rng(5)
    cells = draw.uniform(-1, 1, (PATIENTS, int(np.prod(shape))))
    return np.column_stack([np.arange(PATIENTS), np.zeros(PATIENTS), cells, draw.integers(0, classes, PATIENTS)])


def gradients(graph: Graph, weights: dict[str, Tensor], records: Tensor) -> dict[str, Tensor]:
    run = forward(graph)
    made = torch.func.grad(lambda weights, record: run(weights, record).square().sum())
    found: dict[str, Tensor] = torch.func.vmap(made, in_dims=(None, 0))(weights, records)
    return found


@pytest.mark.parametrize("name", TRAINED)
def test_an_idiom_trains_as_it_does_in_torch(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idiom = IDIOMS[name]
    model = imported(idiom, tmp_path).Model
    inspection = asked(model, declared())
    assert inspection.model_source is not None
    graph, weights = export_source(inspection.model_source, "Model", idiom.shape)
    records = torch.rand(4, *idiom.shape, generator=torch.Generator().manual_seed(3)) * 2 - 1
    plain = model().eval()
    assert [name for name, _ in plain.named_parameters()] == [parameter.name for parameter in graph.parameters]
    plain.load_state_dict(weights, strict=False)
    _check_outputs(graph, weights, plain, records)
    _check_gradients(graph, weights, plain, records)
    _check_apart(graph, weights, records)
    _check_trains(graph, weights, idiom.shape, monkeypatch)


def _check_outputs(graph: Graph, weights: dict[str, Tensor], model: nn.Module, records: Tensor) -> None:
    with torch.no_grad():
        found = torch.func.vmap(forward(graph), in_dims=(None, 0))(weights, records)
        torch.testing.assert_close(found, model(records), rtol=1e-4, atol=1e-5)


def _check_gradients(graph: Graph, weights: dict[str, Tensor], model: nn.Module, records: Tensor) -> None:
    found = gradients(graph, weights, records)
    assert any(gradient.abs().sum() > 0 for gradient in found.values())
    for record in range(2):
        model.zero_grad()
        model(records[[record, record + 2]])[0].square().sum().backward()
        for name, parameter in model.named_parameters():
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(found[name][record], expected, rtol=1e-3, atol=1e-4)


def _check_apart(graph: Graph, weights: dict[str, Tensor], records: Tensor) -> None:
    """One record's gradient is the same to the bit whatever its neighbours are."""
    expected = gradients(graph, weights, records)
    for poison in (float("nan"), -1e30, 0.0):
        neighbours = records.clone()
        neighbours[1:] = poison
        for name, found in gradients(graph, weights, neighbours).items():
            assert torch.equal(found[0], expected[name][0])


def _check_trains(
    graph: Graph, weights: dict[str, Tensor], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round at a hospital, in lanes where it has kernels, releases weights that are finite and have moved."""
    try:
        level = compiled.level_of_this_processor()
        monkeypatch.setattr(compiled, "_loaded", compiled._load(compiled.directory(), level))
    except KernelsMissing:
        pass
    outputs = int(np.prod(graph.output_shape))
    classes = max(2, outputs)
    loss = "cross_entropy" if outputs > 1 else "binary_cross_entropy_with_logits"
    table, released = rows(shape, classes), {}
    mechanism = declared(loss)
    if len(shape) == 1:  # one step of a table's columns is a record of one dimension more
        mechanism = DPSGD(**{**vars(mechanism), "inputs": "features"})
    released = train_round(graph, mechanism, schema(shape, classes), PATIENTS, table, weights, NoiseSource(bytes(32)))
    assert all(torch.isfinite(weight).all() for weight in released.values())
    assert any(not torch.equal(weight, weights[name]) for name, weight in released.items())


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_place_and_what_to_write(name: str, tmp_path: Path) -> None:
    idiom = IDIOMS[name]
    model = imported(idiom, tmp_path).Model

    def whole_way() -> None:
        inspection = asked(model, declared())
        assert inspection.model_source is not None
        export_source(inspection.model_source, "Model", idiom.shape)

    with pytest.raises(DatasiteError) as refused:
        whole_way()
    said = str(refused.value)
    if isinstance(refused.value, InspectionFailed):
        said = "\n".join(map(str, refused.value.findings))
    assert re.search(idiom.words, said), said
    assert re.search(r"line \d+|'[\w.]+'|forward|[Bb]uffer", said), said


def test_nineteen_of_twenty_idioms_train() -> None:
    assert len(IDIOMS) >= 150
    assert len(TRAINED) >= 0.95 * len(IDIOMS)


def test_dropout_is_noted_by_its_line(tmp_path: Path) -> None:
    inspection = asked(imported(IDIOMS["dropout function"], tmp_path).Model, declared())
    (note,) = inspection.notes
    assert re.fullmatch(r"line \d+: dropout is nothing here: the noise of DP-SGD regularises already\.", note)
    assert not asked(imported(IDIOMS["one minus"], tmp_path).Model, declared()).notes
