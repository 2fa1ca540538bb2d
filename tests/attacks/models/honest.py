"""Networks as researchers write them: all must be accepted and train. Name: (record's shape, source of the classes).

The last class is the model. `module(...)` writes the usual ones short: layers of `__init__`, then lines of forward.
"""
# ruff: noqa: E501 - a source on one line is easier to compare than one in pieces

from __future__ import annotations


def module(init: str, forward: str, *, name: str = "Model") -> str:
    """A class with one assignment a line in `__init__`, and the given lines as forward; the last is returned."""
    *lines, last = forward.strip().splitlines()
    body = "\n".join(f"        {line}" for line in [*lines, f"return {last.strip()}"])
    made = "\n".join(f"        self.{line.strip()}" for line in init.strip().splitlines())
    return (
        f"class {name}(nn.Module):\n    def __init__(self):\n        super().__init__()\n{made}\n\n"
        f"    def forward(self, x):\n{body}\n"
    )


SEQUENCE = (5, 2)
IMAGE = (1, 8, 8)

HONEST: dict[str, tuple[tuple[int, ...], str]] = {
    # the models that the mission names
    "flu": (
        (10,),
        module(
            "layer1 = nn.Linear(10, 32)\nlayer2 = nn.Linear(32, 1)",
            "torch.sigmoid(self.layer2(torch.relu(self.layer1(x))))",
        ),
    ),
    "flu lstm": (
        SEQUENCE,
        module(
            "lstm = nn.LSTM(2, 8, batch_first=True)\nout = nn.Linear(8, 1)",
            "series, (h, c) = self.lstm(x)\ntorch.sigmoid(self.out(series[:, -1]))",
        ),
    ),
    "health groupnorm": (
        (10,),
        module(
            "a = nn.Linear(10, 16)\nn = nn.GroupNorm(4, 16)\nb = nn.Linear(16, 2)", "self.b(F.relu(self.n(self.a(x))))"
        ),
    ),
    "health deep": (
        (10,),
        module(
            "a = nn.Linear(10, 64)\nb = nn.Linear(64, 32)\nc = nn.Linear(32, 2)",
            "self.c(F.relu(self.b(F.relu(self.a(x)))))",
        ),
    ),
    "arrhythmia": ((10,), module("linear = nn.Linear(10, 2)", "self.linear(x)")),
    "arrhythmia subclass": (
        (10,),
        "class Arrhythmia(nn.Linear):\n    def __init__(self):\n        super().__init__(10, 2)\n",
    ),
    # feed-forward
    "sequential": ((10,), module("net = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 2))", "self.net(x)")),
    "logistic": ((10,), module("out = nn.Linear(10, 1)", "torch.sigmoid(self.out(x)).squeeze(-1)")),
    "layernorm": (
        (10,),
        module(
            "a = nn.Linear(10, 16)\nn = nn.LayerNorm(16)\nb = nn.Linear(16, 2)", "self.b(F.gelu(self.n(self.a(x))))"
        ),
    ),
    "rmsnorm": (
        (10,),
        module("a = nn.Linear(10, 16)\nn = nn.RMSNorm(16)\nb = nn.Linear(16, 2)", "self.b(F.silu(self.n(self.a(x))))"),
    ),
    "residual": (
        (10,),
        module("a = nn.Linear(10, 10)\nb = nn.Linear(10, 2)", "x = x + torch.tanh(self.a(x))\nself.b(x)"),
    ),
    "residual in place": (
        (10,),
        module("a = nn.Linear(10, 10)\nb = nn.Linear(10, 2)", "y = self.a(x)\ny += x\nself.b(F.elu(y))"),
    ),
    "gated": ((10,), module("a = nn.Linear(10, 16)\nb = nn.Linear(8, 2)", "self.b(F.glu(self.a(x)))")),
    "maxout": (
        (10,),
        module(
            "a = nn.Linear(10, 12)\nb = nn.Linear(6, 2)", "y = self.a(x).reshape(-1, 6, 2)\nself.b(y.max(dim=-1)[0])"
        ),
    ),
    "prelu": ((10,), module("net = nn.Sequential(nn.Linear(10, 8), nn.PReLU(), nn.Linear(8, 2))", "self.net(x)")),
    "activations": (
        (10,),
        module(
            "a = nn.Linear(10, 2)",
            "y = F.softplus(x) + F.leaky_relu(x) + F.selu(x) + F.mish(x) + F.hardswish(x) + F.celu(x) + F.softsign(x)\n"
            "self.a(y + F.logsigmoid(x) + F.relu6(x) + F.hardtanh(x))",
        ),
    ),
    "log softmax": ((10,), module("a = nn.Linear(10, 3)", "F.log_softmax(self.a(x), dim=1)")),
    "parameter": (
        (10,),
        module("w = nn.Parameter(torch.ones(10, 2))\nb = nn.Parameter(torch.zeros(2))", "x @ self.w + self.b"),
    ),
    "einsum": ((10,), module("w = nn.Parameter(torch.ones(2, 10))", "torch.einsum('bi,oi->bo', x, self.w)")),
    "temperature": ((10,), module("a = nn.Linear(10, 2)\ns = nn.Parameter(torch.ones(1))", "self.a(x) / self.s.exp()")),
    "wide and deep": (
        (10,),
        module(
            "wide = nn.Linear(4, 2)\ndeep = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))",
            "self.wide(x[:, :4]) + self.deep(x[:, 4:])",
        ),
    ),
    "polynomial": ((10,), module("a = nn.Linear(20, 2)", "self.a(torch.cat([x, x ** 2], dim=1))")),
    "constants": ((4,), module("a = nn.Linear(4, 2)", "self.a(x * torch.tensor([1.0, 0.5, 2.0, 1.0]))")),
    "layers in a list": (
        (10,),
        module(
            "layers = nn.ModuleList([nn.Linear(10, 10) for _ in range(3)])\nout = nn.Linear(10, 2)",
            "for layer in self.layers:\n    x = F.relu(layer(x))\nself.out(x)",
        ),
    ),
    "helper method": (
        (10,),
        (
            "class Model(nn.Module):\n    def __init__(self, width=16):\n        super(Model, self).__init__()\n"
            "        self.a = nn.Linear(10, width)\n        self.b = nn.Linear(width, 2)\n\n"
            "    def encode(self, x: torch.Tensor) -> torch.Tensor:\n        return F.relu(self.a(x))\n\n"
            "    def forward(self, x):\n        return self.b(self.encode(x))\n"
        ),
    ),
    "helper class": (
        (10,),
        module("a = nn.Linear(10, 10)", "x + F.relu(self.a(x))", name="Block")
        + "\n"
        + module("first = Block()\nsecond = Block()\nout = nn.Linear(10, 2)", "self.out(self.second(self.first(x)))"),
    ),
    "initialised": (
        (10,),
        (
            "class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.a = nn.Linear(10, 2)\n        nn.init.xavier_uniform_(self.a.weight)\n        nn.init.zeros_(self.a.bias)\n\n"
            "    def forward(self, x):\n        return self.a(x)\n"
        ),
    ),
    "one layer twice": (
        (10,),
        module("a = nn.Linear(10, 10)\nb = nn.Linear(10, 2)", "self.b(self.a(torch.tanh(self.a(x))))"),
    ),
    "standardised within a record": (
        (10,),
        module(
            "a = nn.Linear(10, 2)",
            "self.a((x - x.mean(dim=1, keepdim=True)) / (x.var(dim=1, keepdim=True) + 1e-5).sqrt())",
        ),
    ),
    "mixture of experts": (
        (10,),
        module(
            "gate = nn.Linear(10, 3)\nexperts = nn.ModuleList([nn.Linear(10, 2) for _ in range(3)])",
            "g = torch.softmax(self.gate(x), dim=-1)\n"
            "torch.stack([e(x) for e in self.experts], dim=-1).mul(g.unsqueeze(1)).sum(-1)",
        ),
    ),
    # recurrent
    "gru": (
        SEQUENCE,
        module("gru = nn.GRU(2, 8, batch_first=True)\nout = nn.Linear(8, 1)", "y, h = self.gru(x)\nself.out(h[-1])"),
    ),
    "rnn": (
        SEQUENCE,
        module(
            "rnn = nn.RNN(2, 8, batch_first=True)\nout = nn.Linear(8, 1)", "y, h = self.rnn(x)\nself.out(y.mean(1))"
        ),
    ),
    "bidirectional": (
        SEQUENCE,
        module(
            "lstm = nn.LSTM(2, 4, num_layers=2, bidirectional=True, batch_first=True)\nout = nn.Linear(8, 1)",
            "self.out(self.lstm(x)[0][:, -1])",
        ),
    ),
    "lstm with its own start": (
        SEQUENCE,
        module(
            "lstm = nn.LSTM(2, 4, batch_first=True)\nout = nn.Linear(4, 1)",
            "h = torch.zeros(1, x.size(0), 4)\nc = torch.zeros(1, x.size(0), 4)\nself.out(self.lstm(x, (h, c))[0][:, -1])",
        ),
    ),
    "gru cell": (
        SEQUENCE,
        module(
            "cell = nn.GRUCell(2, 4)\nout = nn.Linear(4, 1)",
            "h = torch.zeros(x.shape[0], 4)\nfor t in range(x.shape[1]):\n    h = self.cell(x[:, t], h)\nself.out(h)",
        ),
    ),
    "own recurrence": (
        SEQUENCE,
        module(
            "a = nn.Linear(6, 4)\nout = nn.Linear(20, 1)",
            "h = torch.zeros(x.shape[0], 4)\nkept = []\nfor t in range(5):\n    h = torch.tanh(self.a(torch.cat([x[:, t], h], dim=1)))\n"
            "    kept.append(h)\nself.out(torch.cat(kept, dim=1))",
        ),
    ),
    "attention over time": (
        SEQUENCE,
        module(
            "rnn = nn.GRU(2, 4, batch_first=True)\ns = nn.Linear(4, 1)\nout = nn.Linear(4, 2)",
            "y, _ = self.rnn(x)\na = torch.softmax(self.s(y), dim=1)\nself.out((a * y).sum(dim=1))",
        ),
    ),
    # convolutional
    "conv1d": (
        SEQUENCE,
        module(
            "c = nn.Conv1d(2, 4, 3, padding=1)\nout = nn.Linear(4, 1)",
            "self.out(F.relu(self.c(x.transpose(1, 2))).mean(dim=-1))",
        ),
    ),
    "conv2d": (
        IMAGE,
        module(
            "c = nn.Conv2d(1, 4, 3, padding=1)\nout = nn.Linear(64, 2)",
            "y = F.max_pool2d(F.relu(self.c(x)), 2)\nself.out(y.flatten(1))",
        ),
    ),
    "lenet": (
        IMAGE,
        module(
            "net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.GroupNorm(1, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(27, 2))",
            "self.net(x)",
        ),
    ),
    "depthwise": (
        IMAGE,
        module(
            "d = nn.Conv2d(1, 4, 3)\np = nn.Conv2d(4, 4, 3, groups=4)\nout = nn.Linear(4, 2)",
            "self.out(F.relu(self.p(self.d(x))).mean(dim=(2, 3)))",
        ),
    ),
    "dilated": (
        (2, 9),
        module(
            "a = nn.Conv1d(2, 3, 3, dilation=2)\nb = nn.MaxPool1d(2)\nout = nn.Linear(6, 1)",
            "self.out(self.b(self.a(x)).flatten(1))",
        ),
    ),
    "causal": (
        (2, 9),
        module("a = nn.Conv1d(2, 3, 3)\nout = nn.Linear(3, 1)", "self.out(self.a(F.pad(x, (2, 0)))[:, :, -1])"),
    ),
    "autoencoder": (
        (2, 8),
        module(
            "a = nn.Conv1d(2, 3, 2, stride=2)\nb = nn.ConvTranspose1d(3, 2, 2, stride=2)\nout = nn.Linear(16, 2)",
            "self.out((x - self.b(F.relu(self.a(x)))).flatten(1))",
        ),
    ),
    "resnet block": (
        IMAGE,
        module(
            "a = nn.Conv2d(1, 4, 3, padding=1)\nb = nn.Conv2d(4, 4, 3, padding=1)\nn = nn.GroupNorm(2, 4)\nout = nn.Linear(4, 2)",
            "y = F.relu(self.a(x))\ny = F.relu(y + self.n(self.b(y)))\nself.out(F.adaptive_avg_pool2d(y, 1).flatten(1))",
        ),
    ),
    "adaptive": (
        (2, 9),
        module(
            "a = nn.Conv1d(2, 3, 3)\np = nn.AdaptiveMaxPool1d(1)\nout = nn.Linear(3, 1)",
            "self.out(self.p(self.a(x)).squeeze(-1))",
        ),
    ),
    # attention within a record
    "attention": (
        (5, 8),
        module(
            "a = nn.MultiheadAttention(8, 2, batch_first=True)\nout = nn.Linear(8, 2)",
            "y, w = self.a(x, x, x)\nself.out(y.mean(dim=1))",
        ),
    ),
    "attention without weights": (
        (5, 8),
        module(
            "a = nn.MultiheadAttention(8, 2, batch_first=True)\nout = nn.Linear(8, 2)",
            "y, _ = self.a(x, x, x, need_weights=False)\nself.out(y.mean(dim=1))",
        ),
    ),
    "causal attention": (
        (5, 8),
        module(
            "q = nn.Linear(8, 8)\nout = nn.Linear(40, 2)",
            "y = F.scaled_dot_product_attention(self.q(x), x, x, is_causal=True)\nself.out(y.flatten(1))",
        ),
    ),
    "masked attention": (
        (5, 8),
        module(
            "q = nn.Linear(8, 8)\nout = nn.Linear(8, 2)",
            "s = self.q(x) @ x.transpose(1, 2)\ns = s.masked_fill(s < -3.0, float('-inf'))\n"
            "self.out((torch.softmax(s / math.sqrt(8), dim=-1) @ x).mean(1))",
        ),
    ),
    "transformer": (
        (5, 8),
        module(
            "e = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)\nout = nn.Linear(8, 2)",
            "self.out(self.e(x).mean(dim=1))",
        ),
    ),
    "positions": (
        (5, 8),
        module(
            "p = nn.Parameter(torch.zeros(1, 5, 8))\na = nn.MultiheadAttention(8, 2, batch_first=True)\nout = nn.Linear(8, 2)",
            "x = x + self.p\nself.out(self.a(x, x, x)[0][:, 0])",
        ),
    ),
    # categories
    "embedding": (
        (3,),
        module(
            "e = nn.Embedding(4, 3)\nout = nn.Linear(5, 2)",
            "self.out(torch.cat([self.e(x[:, 0].clamp(0, 3).long()), x[:, 1:]], dim=1))",
        ),
    ),
    "missing values": (
        (10,),
        module(
            "a = nn.Linear(10, 2)\nfill = nn.Parameter(torch.zeros(10))", "self.a(torch.where(x > 0.9, self.fill, x))"
        ),
    ),
}
