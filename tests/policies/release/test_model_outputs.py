"""A loss that does not fit the model's last layer is a finding at its line, with what to write."""

from __future__ import annotations

import textwrap

import pytest

from policies.errors import InspectionFailed
from policies.graph.exporter import export_source
from policies.release.model_outputs import check_last_layer
from policies.source.findings import Finding

REQUEST = """
def study(records, weights, round):
    from datasites.mechanisms import dp_sgd
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, {outputs})
            self.last = {last}

        def forward(self, x):
            x = {decoy} * 0 + self.layer(x)
            return {returned}

    return dp_sgd(Model, records, weights, round, loss="{loss}")
"""


def checked(loss: str, returned: str, *, outputs: int = 1, last: str = "nn.Identity()") -> Finding | None:
    decoy = "self.layer(x)" if last == "nn.Sigmoid()" else "torch.sigmoid(self.layer(x))"
    source = REQUEST.format(loss=loss, returned=returned, outputs=outputs, last=last, decoy=decoy)
    lines = source.split("\n")
    model = textwrap.dedent("\n".join(lines[3:-3]))
    graph, _ = export_source(model, "Model", (3,))
    try:
        check_last_layer(graph, loss, source, "Model")
    except InspectionFailed as error:
        (finding,) = error.findings
        assert isinstance(finding, Finding)
        return finding
    return None


@pytest.mark.parametrize(
    ("loss", "returned", "options", "says"),
    [
        ("binary_cross_entropy_with_logits", "torch.sigmoid(x)", {}, "sigmoid, or use loss='binary_cross_entropy'"),
        ("binary_cross_entropy_with_logits", "torch.sigmoid(x).squeeze(1)", {}, "without sigmoid"),
        ("binary_cross_entropy_with_logits", "self.last(x)", {"last": "nn.Sigmoid()"}, "without sigmoid"),
        ("cross_entropy", "F.softmax(x, dim=1)", {"outputs": 3}, "without softmax"),
        ("cross_entropy", "F.log_softmax(x, dim=1)", {"outputs": 3}, "without log_softmax"),
        ("cross_entropy", "F.logsigmoid(x)", {"outputs": 3}, "without logsigmoid"),
        ("cross_entropy", "torch.sigmoid(x)", {"outputs": 3}, "without sigmoid"),
        ("binary_cross_entropy", "self.layer(x)", {}, "torch.sigmoid"),
        ("binary_cross_entropy", "self.layer(x).view(-1)", {}, "with_logits"),
        ("discrete_hazards", "torch.sigmoid(x)", {"outputs": 4}, "without sigmoid"),
        ("multilabel_binary_cross_entropy_with_logits", "torch.sigmoid(x)", {"outputs": 4}, "without sigmoid"),
        ("poisson", "torch.exp(x)", {}, "without exp"),
        ("poisson", "F.softplus(x)", {}, "without softplus"),
        ("poisson", "F.relu(x)", {}, "without relu"),
        ("mean_squared_error", "torch.relu(x)", {}, "torch.tanh"),
        ("huber", "torch.sigmoid(x)", {}, "torch.tanh"),
    ],
)  # fmt: skip
def test_it_is_found_at_its_line(loss: str, returned: str, options: dict[str, object], says: str) -> None:
    if "self.layer" in returned:  # the last layer is called where it returns
        options = options | {"outputs": 1}
        returned = returned.replace("self.layer(x)", "self.last(x)")
        options |= {"last": "nn.Linear(1, 1)"}
    finding = checked(loss, returned, **options)  # type: ignore[arg-type]
    assert finding is not None
    assert says in finding.instead
    assert finding.line == (12 if "nn.Sigmoid" in str(options) else 16)
    assert finding.code == "loss"


@pytest.mark.parametrize(
    ("loss", "returned", "options"),
    [
        ("binary_cross_entropy_with_logits", "self.last(x)", {"last": "nn.Linear(1, 1)"}),
        ("binary_cross_entropy", "torch.sigmoid(x)", {}),
        ("binary_cross_entropy", "F.softmax(x, dim=1)[:, 1]", {"outputs": 2}),
        ("cross_entropy", "x", {"outputs": 3}),
        ("poisson", "x", {}),
        ("mean_squared_error", "torch.tanh(x)", {}),
        ("mean_squared_error", "2 * torch.sigmoid(x) - 1", {}),
        ("discrete_hazards", "x", {"outputs": 5}),
    ],
)
def test_what_fits_is_left_alone(loss: str, returned: str, options: dict[str, object]) -> None:
    assert checked(loss, returned, **options) is None  # type: ignore[arg-type]
