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
        (nn.Dropout(0.1), r"Layer '1' is Dropout.*random"),
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


def test_a_buffer_is_refused_by_name() -> None:
    class Buffered(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 1)
            self.register_buffer("scale", torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x * self.scale)

    with pytest.raises(GraphRefused, match="Buffer 'scale' is state"):
        export_model(Buffered, (3,))


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
