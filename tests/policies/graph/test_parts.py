"""Parts of a model: what is frozen or local is so in the graph, by its own code or by declaration, and nowhere else."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from policies.errors import GraphRefused, UnsupportedMechanism
from policies.graph.exporter import export_model
from policies.graph.graphs import MAX_PARAMETERS, Graph
from policies.graph.parts import check_parted, check_public_weights
from policies.privacy.mechanisms import as_dict, mechanism_from
from policies.source.inspection import list_findings
from tests.factories import training_source
from tests.policies.plan_factories import training

DIGEST = "a" * 64


class Bodied(nn.Module):
    """A body of two layers and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4), nn.Tanh())
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.head(self.body(x)))


class Frozen(Bodied):
    """The same, frozen by its own code."""

    def __init__(self) -> None:
        super().__init__()
        self.body.requires_grad_(False)


class Large(nn.Module):
    """A body of more numbers than may be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, MAX_PARAMETERS // 3)
        self.head = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) + self.body(x).mean(1, keepdim=True)


def names(parameters: tuple) -> list[str]:
    return [parameter.name for parameter in parameters]


def test_a_model_that_declares_no_parts_is_written_as_it_was_before() -> None:
    graph = export_model(Bodied, (3,))
    assert set(graph.as_dict()) == {"parameters", "input_shape", "nodes", "output", "output_shape"}
    assert not set(as_dict(training())) & {"frozen", "local", "public_weights", "initial"}
    assert graph.trained == graph.weights == graph.parameters


@pytest.mark.parametrize("model", [Bodied, Frozen])
def test_frozen_parameters_are_constants_whether_the_code_or_the_declaration_says_so(model: type[nn.Module]) -> None:
    graph = export_model(model, (3,), frozen=("body.*",) if model is Bodied else ())
    assert names(graph.parameters) == ["head.weight", "head.bias"]
    assert names(graph.frozen) == ["body.0.weight", "body.0.bias", "body.2.weight", "body.2.bias"]
    assert graph.parameter_count == 5
    assert Graph.from_dict(graph.as_dict()) == graph
    assert graph.digest != export_model(Bodied, (3,)).digest


def test_local_parameters_are_trained_and_not_among_the_released() -> None:
    graph = export_model(Bodied, (3,), local=("head.*",))
    assert names(graph.local) == ["head.weight", "head.bias"]
    assert graph.trained == graph.parameters + graph.local
    assert graph.parameter_count == export_model(Bodied, (3,)).parameter_count


def test_a_frozen_body_may_be_larger_than_what_is_trained() -> None:
    with pytest.raises(GraphRefused, match="5,000,000 are allowed"):
        export_model(Large, (3,))
    assert export_model(Large, (3,), frozen=("body.*",)).frozen_count > MAX_PARAMETERS - 3


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"frozen": ("*",)}, "No parameter is trained and released"),
        ({"frozen": ("body.*",), "local": ("head.*",)}, "No parameter is trained and released"),
        ({"frozen": ("body.*",), "local": ("body.0.*",)}, "frozen and local"),
        ({"frozen": ("boddy.*",)}, "the name of no parameter. There are body.0.weight"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(parts: dict, says: str) -> None:
    with pytest.raises(GraphRefused, match=says):
        export_model(Bodied, (3,), **parts)


def test_a_graph_whose_exporter_lied_of_its_parts_is_refused() -> None:
    """The exporter runs the researcher's code: what it says of parts is held against the declaration."""
    graph = export_model(Bodied, (3,), frozen=("body.*",))
    check_parted(graph, ("body.*",), ())
    released = dataclasses.replace(graph, parameters=graph.parameters + graph.frozen, frozen=())
    with pytest.raises(GraphRefused, match=r"'body.0.weight' in another part"):
        check_parted(released, ("body.*",), ())
    local = export_model(Bodied, (3,), local=("head.*",))
    with pytest.raises(GraphRefused, match=r"'head.weight' in another part"):
        check_parted(dataclasses.replace(local, parameters=local.trained, local=()), (), ("head.*",))
    with pytest.raises(GraphRefused, match=r"'head.weight' in another part"):
        check_parted(local, (), ())
    check_parted(export_model(Frozen, (3,)), (), ())  # the model's own code may freeze


def test_frozen_parameters_need_a_digest_and_a_digest_needs_frozen_parameters() -> None:
    with pytest.raises(GraphRefused, match="Name their digest"):
        check_public_weights(export_model(Frozen, (3,)), training())
    with pytest.raises(GraphRefused, match="no parameter is frozen"):
        check_public_weights(export_model(Bodied, (3,)), training(public_weights=DIGEST))
    check_public_weights(export_model(Frozen, (3,)), training(public_weights=DIGEST))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"frozen": ("body.*",)}, "Name the digest"),
        ({"frozen": ("a b",), "public_weights": DIGEST}, "names of parameters"),
        ({"frozen": "body.*", "public_weights": DIGEST}, "names of parameters"),
        ({"local": ("x",) * 51, "public_weights": DIGEST}, "at most 50"),
        ({"public_weights": "body.pt"}, "64 hexadecimal digits"),
        ({"initial": DIGEST.upper()}, "64 hexadecimal digits"),
    ],
)
def test_a_declaration_of_parts_is_checked(fields: dict, says: str) -> None:
    with pytest.raises(UnsupportedMechanism, match=says):
        training(**fields)


def test_a_declaration_of_parts_is_read_back_equal() -> None:
    declared = training(frozen=("body.*",), local=("head.bias",), public_weights=DIGEST, initial="b" * 64)
    assert mechanism_from({**as_dict(declared), "frozen": ["body.*"]}) == declared


def frozen_source(line: str, *, where: str = "__init__") -> str:
    last = "self.layer2 = nn.Linear(8, 1)\n" if where == "__init__" else "def forward(self, x):\n"
    source = training_source().replace(last, last + f"            {line}\n")
    return source.replace("epsilon=2.0,", f"epsilon=2.0, public_weights='{DIGEST}',")


@pytest.mark.parametrize(
    "line",
    ["self.layer1.requires_grad_(False)", "for p in self.layer1.parameters(): p.requires_grad_(False)"],
)
def test_a_model_may_freeze_in_its_own_code_where_it_is_made_and_nowhere_else(line: str) -> None:
    assert list_findings(frozen_source(line)) == ()
    (finding, *_) = list_findings(frozen_source(line, where="forward"))
    assert finding.code == "state"
