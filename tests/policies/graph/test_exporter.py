"""The exporter gives the same graph of the same source everywhere, and says what it refuses and where."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from policies.errors import GraphRefused
from policies.graph.exporter import export_model, export_source

SOURCE = """\
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(2, 4, batch_first=True)
        self.out = nn.Linear(4, 1)

    def forward(self, x):
        y, _ = self.rnn(x)
        return torch.sigmoid(self.out(y[:, -1]))
"""


@pytest.mark.process
def test_the_digest_is_the_same_in_every_process() -> None:
    graph, _ = export_source(SOURCE, "Model", (5, 2))
    program = f"from policies.graph.exporter import export_source as e; print(e({SOURCE!r}, 'Model', (5, 2))[0].digest)"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == graph.digest
    assert export_source("\n\n" + SOURCE, "Model", (5, 2))[0].digest == graph.digest


def test_initial_weights_depend_on_the_seed_alone_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    graph, one = export_source(SOURCE, "Model", (5, 2))
    assert torch.equal(torch.get_rng_state(), before)
    again, other = export_source(SOURCE, "Model", (5, 2))[1], export_source(SOURCE, "Model", (5, 2), seed=1)[1]
    assert list(one) == [each.name for each in graph.parameters]
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_class_and_its_instance_give_the_same_graph() -> None:
    class Small(nn.Linear):
        def __init__(self) -> None:
            super().__init__(10, 2)

    assert export_model(Small, (10,)) == export_model(Small().eval(), (10,))


def test_exporting_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    loud = SOURCE.replace("        y, _", "        print('here')\n        y, _").replace(
        "y[:, -1]))", "y[:, -1])) + x.sum().item()"
    )
    with pytest.raises(GraphRefused):
        export_source(loud, "Model", (5, 2))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.BatchNorm1d(10), r"Layer '1' is BatchNorm1d.*nn.GroupNorm or nn.LayerNorm"),
        (nn.SyncBatchNorm(10), r"Layer '1' is SyncBatchNorm.*nn.GroupNorm or nn.LayerNorm"),
        (nn.InstanceNorm1d(10, track_running_stats=True), r"Layer '1' keeps statistics of records"),
    ],
)
def test_a_layer_that_mixes_records_is_refused_by_name(layer: nn.Module, words: str) -> None:
    with pytest.raises(GraphRefused, match=words):
        export_model(nn.Sequential(nn.Linear(10, 10), layer, nn.Linear(10, 1)), (10,))


def test_an_operator_is_refused_with_layer_and_line() -> None:
    source = SOURCE.replace("self.out(y[:, -1])", "torch.linalg.inv(y)").replace("y, _ = self.rnn(x)", "y = x")
    with pytest.raises(GraphRefused, match=r"Operator linalg_inv\S* is not allowed at line 12"):
        export_source(source, "Model", (2, 2))


def test_control_flow_on_values_is_refused_with_its_line() -> None:
    source = SOURCE.replace("        y, _", "        if x.sum() > 0:\n            x = -x\n        y, _")
    with pytest.raises(GraphRefused, match=r"depends on the values of a record at line 11\. Use torch.where"):
        export_source(source, "Model", (5, 2))


def test_a_shape_that_does_not_fit_says_so() -> None:
    with pytest.raises(GraphRefused, match="cannot be exported"):
        export_model(nn.Linear(10, 2), (9,))


class Buffered(nn.Linear):
    def __init__(self, value: Tensor | None = None) -> None:
        super().__init__(3, 1)
        self.register_buffer("scale", torch.ones(3) if value is None else value)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.scale)


def test_a_buffer_is_a_constant() -> None:
    graph = export_model(Buffered, (3,))
    (constant,) = [node for node in graph.nodes if node.op == "constant"]
    assert constant.args[0] == [1.0, 1.0, 1.0]
    assert [parameter.name for parameter in graph.parameters] == ["weight", "bias"]


@pytest.mark.parametrize("value", [torch.ones(4097), torch.ones(3, dtype=torch.float64), torch.ones(0)])
def test_a_buffer_that_is_no_constant_is_refused_by_name(value: Tensor) -> None:
    with pytest.raises(GraphRefused, match=r"Buffer 'scale' has .* a constant has 1 to 4,096 of float32"):
        export_model(Buffered(value), (3,))


def test_a_buffer_that_forward_changes_is_refused() -> None:
    class Counting(Buffered):
        def forward(self, x: Tensor) -> Tensor:
            self.scale += 1
            return super().forward(x)

    with pytest.raises(GraphRefused, match=r"writes into the record or a parameter|called again"):
        export_model(Counting, (3,))


@pytest.mark.parametrize("drawn", ["nn.Parameter(torch.rand(3))", "torch.ones(3)"])
def test_what_is_drawn_at_random_is_a_parameter(drawn: str) -> None:
    source = (
        "import torch\nfrom torch import nn\n\nclass Model(nn.Linear):\n    def __init__(self):\n"
        "        super().__init__(3, 1)\n        self.scale = DRAWN\n\n    def forward(self, x):\n"
        "        return super().forward(x * self.scale)\n"
    )
    export_source(source.replace("DRAWN", drawn), "Model", (3,))
    with pytest.raises(GraphRefused, match="drawn at random, so that every hospital would have another"):
        export_source(source.replace("DRAWN", "torch.rand(3)"), "Model", (3,))


def test_dropout_is_nothing_and_a_model_is_in_training_again_afterwards() -> None:
    plain = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 1))
    dropped = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 1), nn.Dropout(0.9))
    assert export_model(dropped, (10,)).nodes == export_model(plain, (10,)).nodes
    assert dropped.training


def test_dropout_that_ignores_whether_it_trains_is_refused() -> None:
    class Dropping(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(super().forward(x), 0.5)

    with pytest.raises(GraphRefused, match=r"another output when it is called again|self\.training"):
        export_model(Dropping(3, 1), (3,))


def test_tied_layers_have_one_parameter() -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    tied[1].weight = tied[0].weight
    graph = export_model(tied, (3,))
    assert [parameter.name for parameter in graph.parameters] == ["0.weight", "0.bias", "1.bias", "2.weight", "2.bias"]
    tied[1].weight = nn.Parameter(tied[0].weight.t())
    with pytest.raises(GraphRefused, match=r"'0\.weight' and '1\.weight' share memory and are two"):
        export_model(tied, (3,))


def test_a_padding_row_is_zero_whatever_its_weights() -> None:
    padded = nn.Sequential(nn.Embedding(4, 2, padding_idx=1), nn.Flatten(), nn.Linear(6, 1))

    class Coded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = padded

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.abs().long())  # type: ignore[no-any-return]

    assert any(node.op == "where.self" for node in export_model(Coded(), (3,)).nodes)
    with torch.no_grad():
        padded[0].weight[1] = 1.0  # type: ignore[index]
    with pytest.raises(GraphRefused, match="padding row of other numbers than zero"):
        export_model(Coded(), (3,))


def test_a_batch_of_one_may_lose_its_dimension_at_the_end() -> None:
    class Squeezed(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).squeeze()

    assert export_model(Squeezed(3, 1), (3,)).output_shape == ()
    with pytest.raises(GraphRefused, match="turns a batch of 3"):
        export_model(nn.Sequential(Squeezed(3, 2), nn.Flatten(0)), (3,))


@pytest.mark.parametrize("source", ["1 / 0", "class Other: pass", "Model = 3", "def Model(): pass", "x = ("])
def test_a_source_without_a_model_is_refused(source: str) -> None:
    with pytest.raises(GraphRefused):
        export_source(source, "Model", (3,))


class _Stopped(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = super().forward(x)
        return hidden + super().forward(x)


class _Detached(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


@pytest.mark.parametrize(
    ("model", "says"),
    [(_Stopped, "torch.no_grad"), (_Detached, r"\.detach\(\)")],
)
def test_what_changes_gradients_alone_is_refused(model: type[nn.Linear], says: str) -> None:
    with pytest.raises(GraphRefused, match=says):
        export_model(model(3, 1), (3,))
