"""Networks that try to carry one record's values to another, to keep them, or to break the bounds.

Name: (record's shape, source, wall, words of the refusal). The wall is where each must stop:
`inspection` (the text is refused), `exporter` (the text would pass inspection, the graph is refused), or `harmless`
(a graph comes out, and one record's gradient depends on no other record).
"""
# ruff: noqa: E501 - a source on one line is easier to compare than one in pieces

from __future__ import annotations

from tests.attacks.models.honest import SEQUENCE, module

_A = "a = nn.Linear(10, 2)"
_FORWARD = "    def forward(self, x):\n        return self.a(x)\n"
_INIT = (
    "class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.a = nn.Linear(10, 2)\n"
)


def _flat(forward: str) -> tuple[tuple[int, ...], str]:
    return (10,), module(_A, forward)


def _init(line: str, forward: str = _FORWARD) -> tuple[tuple[int, ...], str]:
    return (10,), f"{_INIT}        {line}\n\n{forward}"


MUTANTS: dict[str, tuple[tuple[int, ...], str, str, str]] = {
    # the batch meets itself
    "batch mean": (*_flat("self.a(x - x.mean(dim=0))"), "exporter", "other records"),
    "batch sum multiplies the output": (*_flat("self.a(x) * x.sum(dim=0)[:2].sum()"), "exporter", "other records"),
    "batch product": (*_flat("self.a(x) * x.prod(dim=0, keepdim=True)[:, :2]"), "exporter", "other records"),
    "batch maximum": (*_flat("self.a(x) * x.amax(dim=0)[:2]"), "exporter", "other records"),
    "batch softmax": (*_flat("torch.softmax(self.a(x), dim=0)"), "exporter", "other records"),
    "batch attention": (
        *_flat("torch.softmax(x @ x.transpose(0, 1), dim=-1) @ self.a(x)"),
        "exporter",
        "other records",
    ),
    "batch sort": (*_flat("self.a(x.sort(dim=0)[0])"), "exporter", "other records"),
    "batch roll": (*_flat("self.a(torch.roll(x, 1, 0))"), "exporter", "other records"),
    "batch flip": (*_flat("self.a(x.flip(0))"), "exporter", "other records"),
    "batch cumulative sum": (*_flat("self.a(x.cumsum(0))"), "exporter", "other records"),
    "first record for all": (*_flat("self.a(x[:1].expand(x.shape[0], 10))"), "exporter", "other records"),
    "batch norm by hand": (*_flat("self.a((x - x.mean(0)) / (x.std(0) + 1e-5))"), "exporter", "other records"),
    "batch as sequence": (
        SEQUENCE,
        module("r = nn.LSTM(2, 4)\nout = nn.Linear(4, 1)", "self.out(self.r(x)[0][:, -1])"),
        "exporter",
        "other records",
    ),
    "batch attention layer": (
        (5, 8),
        module("m = nn.MultiheadAttention(8, 2)\nout = nn.Linear(8, 2)", "self.out(self.m(x, x, x)[0][:, 0])"),
        "exporter",
        "other records",
    ),
    "batch reshaped away": (*_flat("self.a(x).reshape(1, -1)"), "exporter", "batch of 3"),
    "batch summed away": (*_flat("self.a(x).sum(0)"), "exporter", "batch of 3"),
    "scores of one record only": (*_flat("self.a(x)[:1]"), "exporter", "batch of 3"),
    "fixed batch of one": (*_flat("self.a(x.view(1, 10))"), "exporter", "fails on a batch"),
    "batch size as a signal": (*_flat("self.a(x) * x.shape[0]"), "exporter", "other records"),
    "batch mean behind a switch": (
        *_flat("y = self.a(x)\nz = y - y.mean(0) if x.shape[0] > 64 else y\nz"),
        "harmless",
        "",
    ),
    # state
    "batch norm": (
        (10,),
        module("n = nn.BatchNorm1d(10)\na = nn.Linear(10, 2)", "self.a(self.n(x))"),
        "inspection",
        "GroupNorm",
    ),
    "instance norm": (
        (2, 9),
        module("n = nn.InstanceNorm1d(2)\na = nn.Linear(18, 2)", "self.a(self.n(x).flatten(1))"),
        "harmless",
        "",
    ),
    "functional batch norm": (*_flat("self.a(F.batch_norm(x, None, None, training=True))"), "inspection", "GroupNorm"),
    "running buffer": (
        *_init(
            "self.register_buffer('seen', torch.zeros(10))",
            "    def forward(self, x):\n        self.seen += x[0]\n        return self.a(x)\n",
        ),
        "inspection",
        "one patient's values",
    ),
    "running buffer through an alias": (
        *_init(
            "self.register_buffer('seen', torch.zeros(10))",
            "    def forward(self, x):\n        seen = self.seen\n        seen.copy_(x[0])\n        return self.a(x)\n",
        ),
        "exporter",
        "",
    ),
    "buffer of random numbers": (
        *_init(
            "self.register_buffer('scale', torch.rand(10))",
            "    def forward(self, x):\n        return self.a(x * self.scale)\n",
        ),
        "exporter",
        "drawn at random",
    ),
    "cached activation": (*_flat("self.seen = x\nself.a(x)"), "inspection", "one patient's values"),
    "sum kept in a parameter": (*_flat("self.a.bias += x.sum()\nself.a(x)"), "inspection", "change only itself"),
    "list stashed in the module": (
        (10,),
        _INIT
        + "        self.seen = []\n\n    def forward(self, x):\n        self.seen.append(x)\n        return self.a(x)\n",
        "inspection",
        "append",
    ),
    "stash through an alias": (
        (10,),
        _INIT
        + "        self.seen = []\n\n    def forward(self, x):\n        seen = self.seen\n        seen.append(x)\n        return self.a(x)\n",
        "exporter",
        "keeps a tensor",
    ),
    "counter": (
        (10,),
        _INIT
        + "        self.n = [0]\n\n    def forward(self, x):\n        n = self.n\n        n[0] = n[0] + 1\n        return self.a(x) * n[0]\n",
        "exporter",
        "called again",
    ),
    "class attribute as a stash": (
        (10,),
        "class Model(nn.Module):\n    seen = []\n\n" + _INIT.split("\n", 1)[1] + "\n" + _FORWARD,
        "harmless",
        "",
    ),
    "write into a parameter": (*_flat("w = self.a.weight\nw[0] = x[0]\nself.a(x)"), "exporter", ""),
    "write into the record": (*_flat("x[:, 0] = 1.0\nself.a(x)"), "exporter", ""),
    "global": (*_flat("global seen\nself.a(x)"), "inspection", "Global"),
    "default argument as a stash": (
        (10,),
        _INIT + "\n    def forward(self, x, seen=dict()):\n        return self.a(x)\n",
        "inspection",
        "default",
    ),
    # the values of a record steer Python
    "if on a value": (*_flat("y = self.a(x)\nz = y if x.sum() > 0 else -y\nz"), "exporter", "depends on the values"),
    "loop on a value": (*_flat("y = self.a(x)\nfor _ in range(int(x[0, 0])):\n    y = y + 1\ny"), "exporter", ""),
    "item": (*_flat("self.a(x) * x[0, 0].item()"), "inspection", "item"),
    "tolist": (*_flat("self.a(x) * x.tolist()[0][0]"), "inspection", "tolist"),
    "nonzero": (*_flat("self.a(x) * torch.nonzero(x).sum()"), "inspection", "nonzero"),
    "boolean index": (*_flat("self.a(x) + x[x > 0].sum()"), "exporter", ""),
    "while": (
        (10,),
        _INIT
        + "\n    def forward(self, x):\n        while x.sum() < 3:\n            x = x + 1\n        return self.a(x)\n",
        "inspection",
        "While",
    ),
    # gradients of their own
    "autograd function": (
        (10,),
        "class Shout(torch.autograd.Function):\n    def forward(self, x):\n        return x\n\n"
        + module(_A, "self.a(x)"),
        "inspection",
        "derives from",
    ),
    "hook": (*_init("self.register_forward_hook(print)"), "inspection", "register_forward_hook"),
    "tensor hook": (*_flat("y = self.a(x)\ny.register_hook(abs)\ny"), "inspection", "register_hook"),
    "detach": (*_flat("self.a(x) * self.a(x).detach()"), "inspection", "detach"),
    "no_grad": (
        (10,),
        _INIT
        + "\n    def forward(self, x):\n        with torch.no_grad():\n            y = self.a(x)\n        return y\n",
        "inspection",
        "With",
    ),
    "data": (*_flat("self.a.weight.data\nself.a(x)"), "inspection", "data"),
    "frozen parameter": (*_init("self.a.weight.requires_grad = False"), "inspection", "Freeze in __init__"),
    # numbers
    "inf times zero for one patient": (*_flat("self.a(x) + (x[:, :1] > 0.5) * 0.0 * float('inf')"), "exporter", ""),
    "nan for one patient": (*_flat("self.a(x) + torch.log((x[:, :1] < 2.0) * 1.0) * 0.0"), "harmless", ""),
    "huge constant": (*_flat("self.a(x) * 1e30"), "exporter", "Use one within"),
    "huge constants multiplied": (*_flat("self.a(x) * 1e9 * 1e9 * 1e9 * 1e9 * 1e9"), "harmless", ""),
    "overflow": (*_flat("self.a(torch.exp(torch.exp(x * 100.0)))"), "harmless", ""),
    "double": (*_flat("self.a(x).double().float()"), "inspection", "double"),
    "integers": (*_flat("self.a(x.long().float())"), "harmless", ""),
    "half": (*_flat("self.a(x).half()"), "inspection", "half"),
    "complex": (*_flat("self.a(x) * 1j"), "inspection", "plain numbers"),
    # randomness
    "dropout": (
        (10,),
        module("d = nn.Dropout(0.5)\na = nn.Linear(10, 2)", "self.a(self.d(x))"),
        "harmless",
        "",
    ),
    "functional dropout": (*_flat("self.a(F.dropout(x))"), "exporter", "self.training"),
    "transformer with dropout": (
        (5, 8),
        module(
            "e = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)\nout = nn.Linear(8, 2)",
            "self.out(self.e(x)[:, 0])",
        ),
        "harmless",
        "",
    ),
    "lstm with dropout": (
        SEQUENCE,
        module(
            "r = nn.LSTM(2, 4, num_layers=2, dropout=0.5, batch_first=True)\nout = nn.Linear(4, 1)",
            "self.out(self.r(x)[0][:, -1])",
        ),
        "harmless",
        "",
    ),
    "randn": (*_flat("self.a(x) + torch.randn(2)"), "inspection", "random"),
    "rand_like": (*_flat("self.a(x + torch.rand_like(x))"), "inspection", "random"),
    # parameters that are not plain
    "tied weights": (
        (10,),
        _INIT + "        self.b = nn.Linear(10, 2)\n        self.b.weight = self.a.weight\n\n" + _FORWARD,
        "harmless",
        "",
    ),
    "tied weights with a huge factor": (
        (10,),
        _INIT
        + "        self.b = nn.Linear(10, 2)\n        self.b.weight = self.a.weight\n\n"
        + "    def forward(self, x):\n        return self.a(x) * 1e9 + self.b(x) * 1e-9\n",
        "harmless",
        "",
    ),
    "tied to the batch": (
        (10,),
        _INIT + "\n    def forward(self, x):\n        self.a.bias = x[0]\n        return self.a(x)\n",
        "inspection",
        "change only itself",
    ),
    # operators that graphs have in other words, over the batch
    "batch maximum with dim": (
        *_flat("self.a(torch.max(x, 0)[0].expand(x.shape[0], 10))"),
        "exporter",
        "other records",
    ),
    "batch maximum as a place": (*_flat("self.a(x) * torch.max(x, 0)[1][:2].float()"), "exporter", "other records"),
    "batch median": (*_flat("self.a(x - x.median(0).values)"), "exporter", "other records"),
    "batch kth value": (*_flat("self.a(x) + torch.kthvalue(x, 1, dim=0).values[:2]"), "exporter", "other records"),
    "batch cumulative maximum": (*_flat("self.a(torch.cummax(x, 0).values)"), "exporter", "other records"),
    "batch variance and mean": (*_flat("self.a(x) * torch.var_mean(x, 0)[1][:2]"), "exporter", "other records"),
    "batch gathered": (
        *_flat("i = torch.zeros(x.shape[0], 10).long()\nself.a(x.gather(0, i))"),
        "exporter",
        "other records",
    ),
    "batch by a list of places": (*_flat("self.a(x[[0] * x.shape[0]])"), "exporter", "other records"),
    "batch scattered": (
        *_flat("i = torch.zeros(1, 10).long()\nself.a(x.scatter(0, i, 1.0))"),
        "exporter",
        "other records",
    ),
    "batch unfolded": (*_flat("self.a(x.unfold(0, 1, 1).squeeze(-1).flip(0))"), "exporter", "other records"),
    "batch distances": (*_flat("self.a(x) * torch.cdist(x, x).sum()"), "exporter", "other records"),
    "batch masked by its mean": (*_flat("h = x.clone()\nh[h < x.mean()] = 0\nself.a(h)"), "exporter", "other records"),
    "batch in one bag": (
        (10,),
        module(
            "e = nn.EmbeddingBag(4, 2)",
            "c = (x.abs() * 3).long().clamp(0, 3).flatten()\nself.e(c, torch.zeros(1).long()).expand(x.shape[0], 2)",
        ),
        "exporter",
        "other records",
    ),
    "batch normalised as one record": (
        (10,),
        module("n = nn.InstanceNorm1d(1)\na = nn.Linear(10, 2)", "self.a(self.n(x.T.unsqueeze(0)).squeeze(0).T)"),
        "exporter",
        "",
    ),
    "batch diagonal": (*_flat("self.a(x) * (x @ x.T).diagonal().sum()"), "exporter", "other records"),
    "batch squeezed": (*_flat("self.a(x - x.mean()).sum(1).squeeze()"), "exporter", "other records"),
    "batch in a lambda": (*_flat("f = lambda y: y - y.mean(0)\nself.a(f(x))"), "exporter", "other records"),
    "tied modules": (
        (10,),
        _INIT + "        self.b = self.a\n\n    def forward(self, x):\n        return self.a(x) + self.b(x)\n",
        "harmless",
        "",
    ),
    "parameter as a view": (*_init("self.b = nn.Parameter(self.a.weight[:1])"), "exporter", "share memory"),
    "no parameters": (
        (10,),
        "class Model(nn.Module):\n    def forward(self, x):\n        return x.sum(dim=1, keepdim=True)\n",
        "exporter",
        "no parameters",
    ),
    "too many parameters": (
        (10,),
        module("a = nn.Linear(10, 600000)\nb = nn.Linear(10, 2)", "self.b(x)"),
        "exporter",
        "elements",
    ),
    "too many operators": (
        (10,),
        module(_A, "for _ in range(1200):\n    x = torch.tanh(x) + 0.1\nself.a(x)"),
        "exporter",
        "operators",
    ),
    "too large an intermediate": (
        (10,),
        module(_A, "self.a(x) + torch.ones(3000, 3000).sum() * 0.0"),
        "exporter",
        "elements",
    ),
    "embedding without a bound": (
        (10,),
        module("e = nn.Embedding(4, 2)", "self.e((x[:, 0] * 9).long())"),
        "exporter",
        "fails on a batch",
    ),
    "output does not use the record": (*_flat("self.a.weight[:1, :2].expand(x.shape[0], 2)"), "harmless", ""),
    "several outputs": (*_flat("self.a(x), x"), "exporter", "one tensor"),
    # issue 3's list, other ways to the same ends
    "batch product multiplies the output": (*_flat("self.a(x) * x.prod(0).prod()"), "exporter", "other records"),
    "batch norm by matrix": (*_flat("self.a(x) / (x.T @ x).diagonal().sum()"), "exporter", "other records"),
    "batch by einsum": (*_flat("torch.einsum('bi,ci->bc', x, x) @ self.a(x)"), "exporter", "other records"),
    "batch by transpose": (*_flat("self.a(x.T.reshape(-1, 10))"), "exporter", "other records"),
    "batch by scaled attention": (
        *_flat("self.a(F.scaled_dot_product_attention(x.unsqueeze(0), x.unsqueeze(0), x.unsqueeze(0)).squeeze(0))"),
        "exporter",
        "other records",
    ),
    "batch top": (*_flat("self.a(x) + x.topk(1, 0)[0].sum()"), "exporter", "other records"),
    "batch as channels": (
        (10,),
        module(
            "n = nn.GroupNorm(1, 1)\na = nn.Linear(10, 2)",
            "self.a(self.n(x.unsqueeze(0).unsqueeze(0)).reshape(-1, 10))",
        ),
        "exporter",
        "other records",
    ),
    "running mean in a list": (
        (10,),
        _INIT
        + "        self.m = [0.0]\n\n    def forward(self, x):\n        m = self.m\n        m[0] = m[0] + x.mean()\n        return self.a(x) + m[0]\n",
        "exporter",
        "",
    ),
    "dictionary as a stash": (
        (10,),
        _INIT + "\n    def forward(self, x):\n        self.__dict__['seen'] = x\n        return self.a(x)\n",
        "inspection",
        "__dict__",
    ),
    "setattr as a stash": (*_flat("setattr(self, 'seen', x)\nself.a(x)"), "inspection", "setattr"),
    "attention over records with a mask": (
        *_flat("torch.softmax((x @ x.T).tril(), dim=1) @ self.a(x)"),
        "harmless",
        "",
    ),
    "inf minus inf for one patient": (
        *_flat("self.a(x) + torch.where(x[:, :1] > 0.9, math.inf, 0.0) - torch.where(x[:, :1] > 0.9, math.inf, 0.0)"),
        "harmless",
        "",
    ),
    "zero over zero for one patient": (*_flat("self.a(x) + (x[:, :1] - x[:, :1]) / x[:, 1:2]"), "harmless", ""),
    "huge powers": (*_flat("self.a((x * 1e9) ** 4)"), "harmless", ""),
    "denormal numbers": (*_flat("self.a(x * 1e-9 * 1e-9 * 1e-9 * 1e-9 * 1e-9)"), "harmless", ""),
    "integer overflow": (*_flat("self.a(((x * 1e9).long() * 1000000000 * 1000000000).float())"), "harmless", ""),
    "remainder of the smallest integer": (
        *_flat("self.a((torch.exp(x * 1e3).long() % -1).float())"),
        "harmless",
        "",
    ),
    "row numbers from a record": (
        (10,),
        module("e = nn.Embedding(4, 2)", "self.e((x[:, 0] * 1e9).clamp(0, 3).long())"),
        "harmless",
        "",
    ),
    "parameter through a view": (*_flat("w = self.a.weight.view(-1)\nw += x[0, 0]\nself.a(x)"), "exporter", ""),
    "parameter in a list": (
        (10,),
        _INIT
        + "        self.w = [self.a.weight]\n\n    def forward(self, x):\n        w = self.w\n        return F.linear(x, w[0])\n",
        "exporter",
        "drawn at random",
    ),
    "lambda": (*_flat("f = lambda y: y\nself.a(f(x))"), "harmless", ""),
    "list beside the class as a stash": (
        (10,),
        "SEEN = []\n\n\n" + _INIT + "\n    def forward(self, x):\n        SEEN.append(x)\n        return self.a(x)\n",
        "inspection",
        "append",
    ),
    "list beside the class as a stash by another name": (
        (10,),
        "SEEN = []\n\n\n"
        + _INIT
        + "\n    def forward(self, x):\n        seen = SEEN\n        seen.append(x)\n        return self.a(x)\n",
        "harmless",
        "",
    ),
    "setup called in forward": (
        (10,),
        _INIT
        + "        self.f = self.reset\n\n    def reset(self):\n        nn.init.zeros_(self.a.weight)\n\n"
        + "    def forward(self, x):\n        self.f()\n        return self.a(x)\n",
        "exporter",
        "",
    ),
    "assert about values": (*_flat("assert x.sum() > 0\nself.a(x)"), "exporter", "values of a record"),
    "walrus": (*_flat("self.a(y := x)"), "inspection", "Assign it"),
    "getattr": (*_flat("getattr(self, 'a')(x)"), "inspection", "getattr"),
    "metaclass": (
        (10,),
        "class Model(nn.Module, metaclass=type):\n" + _INIT.split("\n", 1)[1] + "\n" + _FORWARD,
        "inspection",
        "metaclass",
    ),
    "bernoulli": (*_flat("self.a(x * torch.bernoulli(x))"), "inspection", "bernoulli"),
}
