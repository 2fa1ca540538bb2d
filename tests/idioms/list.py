"""How people write models: 150 idioms of public model code for tables and time series in medicine.

Each is a module as its author has it, imports and all, whose `Model` trains on records of `shape`. Nothing here is
copied: they are habits (how a layer is made, how a mask is applied, how a size is asked for), one at a time in a model
small enough to train in a test.
"""
# ruff: noqa: E501 - models are written as people write them

from __future__ import annotations

import textwrap
from dataclasses import dataclass

TABLE = (8,)
SERIES = (6, 4)  # steps, channels
IMPORTS = "import math\n\nimport torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"


@dataclass(frozen=True)
class Idiom:
    """A module's text and the shape of one record. `words` is what its refusal has to say, where it is refused."""

    shape: tuple[int, ...]
    text: str
    words: str = ""


IDIOMS: dict[str, Idiom] = {}


def table(name: str, init: str, forward: str, **more: str) -> None:
    """An idiom on a table's record: lines of `__init__` and of `forward(self, x)`, the last one returned."""
    _add(name, TABLE, init, forward, **more)


def series(name: str, init: str, forward: str, **more: str) -> None:
    """An idiom on a record of six steps and four channels."""
    _add(name, SERIES, init, forward, **more)


def module(name: str, text: str, shape: tuple[int, ...] = TABLE, *, words: str = "", imports: str = IMPORTS) -> None:
    """An idiom that is a whole module."""
    assert name not in IDIOMS, name
    IDIOMS[name] = Idiom(shape, imports + "\n\n" + textwrap.dedent(text).strip() + "\n", words)


def _add(
    name: str,
    shape: tuple[int, ...],
    init: str,
    forward: str,
    *,
    before: str = "",
    methods: str = "",
    head: str = "def __init__(self):",
    signature: str = "def forward(self, x):",
    words: str = "",
    imports: str = IMPORTS,
) -> None:
    def lines(text: str, by: int) -> str:
        return textwrap.indent(textwrap.dedent(text).strip(), " " * by)

    *most, last = textwrap.dedent(forward).strip().split("\n")
    body = "\n".join([*most, last if last.startswith(("return", " ")) else f"return {last}"])
    text = textwrap.dedent(before).strip() + "\n\n\n" if before else ""
    text += f"class Model(nn.Module):\n    {head}\n        super().__init__()\n{lines(init, 8)}\n\n"
    text += lines(methods, 4) + "\n\n" if methods else ""
    text += f"    {signature}\n{lines(body, 8)}\n"
    module(name, text, shape, words=words, imports=imports)


ONE = "self.fc = nn.Linear(8, 1)"
TWO = "self.fc1 = nn.Linear(8, 16)\nself.fc2 = nn.Linear(16, 1)"
HEAD = "self.head = nn.Linear(4, 1)"

# -- arithmetic with numbers and tensors

table("one minus", ONE, "self.fc(1 - x)")
table("one minus a gate", TWO, "g = torch.sigmoid(self.fc1(x))\nself.fc2(g * torch.tanh(self.fc1(x)) + (1 - g) * 0.5)")
table("one minus a float", ONE, "self.fc(1.0 - x)")
table("torch.rsub", ONE, "self.fc(torch.rsub(x, 1))")
table("one over", ONE, "self.fc(1 / (1 + x.abs()))")
table("two to the power", ONE, "self.fc(2 ** x)")
table("square by power", ONE, "self.fc(x ** 2)")
table("floor division", ONE, "self.fc((x * 4) // 1)")
table("remainder", ONE, "self.fc(x % 1)")
table("minus in front", ONE, "self.fc(-x)")
table("in place", TWO, "h = self.fc1(x)\nh += 1\nh *= 0.5\nself.fc2(h)")
table("method arithmetic", ONE, "self.fc(x.add(1).mul(2).sub(1).div(2))")
table("method arithmetic in place", TWO, "h = self.fc1(x)\nh = h.add_(1).mul_(0.5)\nself.fc2(h)")
table("torch arithmetic", ONE, "self.fc(torch.add(torch.mul(x, 2), 1, alpha=3))")
table("addcmul", ONE, "self.fc(torch.addcmul(x, x, x, value=0.5))")
table("lerp", TWO, "h = self.fc1(x)\nself.fc2(torch.lerp(h, torch.relu(h), 0.5))")
table("swish by hand", TWO, "h = self.fc1(x)\nself.fc2(h * h.sigmoid())")
table("gelu by hand", TWO, "h = self.fc1(x)\nh = 0.5 * h * (1 + torch.erf(h / math.sqrt(2)))\nself.fc2(h)")
table("sign and absolute", ONE, "self.fc(torch.sign(x) * torch.log1p(torch.abs(x)))")
table("rounding", ONE, "self.fc(torch.round(x * 10) / 10)")
table("hypot and trunc", ONE, "self.fc(torch.trunc(x * 3) + x.frac())")
table("square root of squares", ONE, "self.fc((x.square() + 1e-6).sqrt())")

# -- bounds, masks and conditions

table("clip", ONE, "self.fc(x.clip(-0.5, 0.5))")
table("torch.clip", ONE, "self.fc(torch.clip(x, min=-0.5, max=0.5))")
table("clamp below", ONE, "self.fc(x.clamp(min=0))")
table("clamp_min", ONE, "self.fc(x.clamp_min(0.0))")
table("clamp in place", TWO, "h = self.fc1(x)\nself.fc2(h.clamp_(0, 1))")
table("bool", ONE, "self.fc(x.masked_fill(x.bool(), 0.5))")
table("bool of a comparison", ONE, "mask = (x > 0).bool()\nself.fc(x * mask.float())")
table("mask by to", ONE, "mask = (x > 0).to(torch.float32)\nself.fc(x * mask)")
table("mask by to of x", ONE, "mask = (x > 0).to(x.dtype)\nself.fc(x * mask)")
table("invert a mask", ONE, "mask = x > 0\nself.fc(x.masked_fill(~mask, 0.0))")
table("and of masks", ONE, "mask = (x > -0.5) & (x < 0.5)\nself.fc(torch.where(mask, x, torch.zeros_like(x)))")
table("where with a number", ONE, "self.fc(torch.where(x > 0, x, 0.1 * x))")
table("where as a method", ONE, "self.fc(x.where(x > 0, torch.zeros_like(x)))")
table("logical and", ONE, "self.fc(x * torch.logical_and(x > 0, x < 1))")
table("isnan", ONE, "self.fc(torch.where(torch.isnan(x), torch.zeros_like(x), x))")
table("nan to num", ONE, "self.fc(torch.nan_to_num(x, nan=0.0))")
table(
    "masked fill with minus infinity",
    TWO,
    "h = self.fc1(x)\na = F.softmax(h.masked_fill(h < 0, float('-inf')), dim=-1)\nself.fc2(torch.nan_to_num(a))",
)
table("maximum of a tensor and a number", ONE, "self.fc(torch.maximum(x, torch.tensor(0.0)))")
table("boolean indexing", ONE, "h = x.clone()\nh[h < 0] = 0\nself.fc(h)")
table("if a record is large", ONE, "if x.sum() > 0:\n    x = -x\nself.fc(x)", words="torch.where")
table("assert of a shape", ONE, "assert x.shape[1] == 8\nself.fc(x)")
table("if of a shape", ONE, "if x.dim() == 3:\n    x = x.squeeze(1)\nself.fc(x)")

# -- largest, smallest, order and choice

series("torch.max over time", HEAD, "h, _ = torch.max(x, 1)\nself.head(h)")
series("torch.max with dim", HEAD, "h = torch.max(x, dim=1)[0]\nself.head(h)")
series("max values", HEAD, "self.head(x.max(dim=1).values)")
series("min over time", HEAD, "self.head(torch.min(x, 1)[0])")
series("mean and max pooling", "self.head = nn.Linear(8, 1)", "self.head(torch.cat([x.mean(1), x.max(1)[0]], dim=-1))")
series("standard deviation over time", HEAD, "self.head(torch.std(x, dim=1))")
series(
    "mean and variance",
    "self.head = nn.Linear(8, 1)",
    "v, m = torch.var_mean(x, dim=1)\nself.head(torch.cat((m, v), 1))",
)
series("median over time", HEAD, "self.head(x.median(dim=1).values)")
series("topk pooling", HEAD, "self.head(x.topk(3, dim=1).values.mean(1))")
series("sort over time", "self.head = nn.Linear(24, 1)", "h, _ = torch.sort(x, dim=1)\nself.head(h.flatten(1))")
series("argmax", HEAD, "self.head(x.argmax(dim=1).float())")
series("kth value", HEAD, "self.head(torch.kthvalue(x, 3, dim=1).values)")
series("any and all", HEAD, "self.head((x > 0).any(dim=1).float() - (x > 0).all(dim=1).float())")
series("count of values above", HEAD, "self.head((x > 0).sum(dim=1).float())")
series(
    "gather the last step",
    HEAD,
    "index = torch.full((x.size(0), 1, 4), 5, dtype=torch.long)\nself.head(x.gather(1, index).squeeze(1))",
)
series("last step", HEAD, "self.head(x[:, -1, :])")
series("ellipsis", HEAD, "self.head(x[..., -1, :])")
series("none as an axis", HEAD, "self.head((x * x[:, -1][:, None, :]).sum(1))")
series("index by a list", HEAD, "self.head(x[:, [0, 2, 5]].mean(1))")
series("differences", "self.head = nn.Linear(20, 1)", "self.head((x[:, 1:] - x[:, :-1]).reshape(x.size(0), -1))")
series("torch.diff", "self.head = nn.Linear(20, 1)", "self.head(torch.diff(x, dim=1).flatten(start_dim=1))")
series("cumulative maximum", HEAD, "self.head(torch.cummax(x, dim=1).values.mean(1))")
series("roll", HEAD, "self.head((x * torch.roll(x, 1, dims=1)).mean(1))")

# -- shapes

series("view with size", "self.head = nn.Linear(24, 1)", "self.head(x.view(x.size(0), -1))")
series("view with shape", "self.head = nn.Linear(24, 1)", "b, t, c = x.shape\nself.head(x.contiguous().view(b, t * c))")
series("view of minus one", "self.head = nn.Linear(24, 1)", "self.head(x.view(-1, 24))")
series("reshape of sizes", "self.head = nn.Linear(24, 1)", "self.head(torch.reshape(x, (x.shape[0], -1)))")
series("len of a batch", "self.head = nn.Linear(24, 1)", "self.head(x.reshape(len(x), -1))")
series("size with a negative axis", HEAD, "self.head(x.sum(1) / x.size(-1))")
series(
    "transpose and contiguous",
    "self.conv = nn.Conv1d(4, 3, 3, padding=1)\nself.head = nn.Linear(3, 1)",
    "h = self.conv(x.transpose(1, 2).contiguous())\nself.head(h.mean(dim=-1))",
)
series(
    "permute of three",
    "self.conv = nn.Conv1d(4, 3, 3, padding='same')\nself.head = nn.Linear(3, 1)",
    "h = F.relu(self.conv(x.permute(0, 2, 1)))\nself.head(h.max(dim=2)[0])",
)
series("squeeze the score", HEAD, "self.head(x.mean(1)).squeeze(-1)")
series("squeeze everything", HEAD, "self.head(x.mean(1)).squeeze()")
series("stack and cat", "self.head = nn.Linear(8, 1)", "self.head(torch.stack([x.mean(1), x[:, 0]], dim=1).flatten(1))")
series("chunk", "self.head = nn.Linear(2, 1)", "a, b = x.mean(1).chunk(2, dim=-1)\nself.head(a * torch.sigmoid(b))")
series("unbind", HEAD, "h = 0\nfor step in x.unbind(1):\n    h = 0.5 * h + step\nself.head(h)")
series("repeat and expand", HEAD, "w = torch.ones(1, 6, 1).expand(x.size(0), -1, -1)\nself.head((x * w).mean(1))")
series("repeat interleave", "self.head = nn.Linear(48, 1)", "self.head(x.repeat_interleave(2, dim=1).flatten(1))")
series("tile", "self.head = nn.Linear(48, 1)", "self.head(x.tile((1, 2, 1)).flatten(1))")
series("unfold windows", "self.head = nn.Linear(12, 1)", "w = x.unfold(1, 3, 1)\nself.head(w.mean(1).flatten(1))")
series("hstack", "self.head = nn.Linear(8, 1)", "self.head(torch.hstack((x[:, 0], x[:, -1])))")
series("concatenate", "self.head = nn.Linear(8, 1)", "self.head(torch.concat([x[:, 0], x[:, -1]], dim=-1))")
series(
    "pad in time",
    "self.conv = nn.Conv1d(4, 3, 3)\nself.head = nn.Linear(3, 1)",
    "h = F.pad(x.transpose(1, 2), (2, 0))\nself.head(self.conv(h)[:, :, -1])",
)
series(
    "flatten layer",
    "self.net = nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 1))",
    "self.net(x)",
)
series(
    "unsqueeze a channel",
    "self.conv = nn.Conv2d(1, 2, (3, 4))\nself.head = nn.Linear(8, 1)",
    "h = self.conv(x.unsqueeze(1))\nself.head(h.view(h.size(0), -1))",
)
series("movedim and swapaxes", HEAD, "self.head(x.movedim(1, 2).swapaxes(1, 2).mean(1))")

# -- tensors that a model makes

series("linspace of times", HEAD, "t = torch.linspace(0, 1, 6)\nself.head((x * t[None, :, None]).sum(1))")
series(
    "arange on the device of x",
    HEAD,
    "t = torch.arange(x.size(1), device=x.device, dtype=torch.float32)\nself.head((x * t.view(1, -1, 1)).mean(1))",
)
series(
    "zeros on the device of x",
    "self.cell = nn.GRUCell(4, 5)\nself.head = nn.Linear(5, 1)",
    "h = torch.zeros(x.size(0), 5, device=x.device)\nfor t in range(x.size(1)):\n    h = self.cell(x[:, t], h)\nself.head(h)",
)
series(
    "zeros to the device",
    "self.lstm = nn.LSTM(4, 5, batch_first=True)\nself.head = nn.Linear(5, 1)",
    "h0 = torch.zeros(1, x.size(0), 5).to(x.device)\nc0 = torch.zeros(1, x.size(0), 5).to(x.device)\nout, _ = self.lstm(x, (h0, c0))\nself.head(out[:, -1, :])",
)
series(
    "new_zeros",
    "self.cell = nn.LSTMCell(4, 5)\nself.head = nn.Linear(5, 1)",
    "h = x.new_zeros(x.size(0), 5)\nc = x.new_zeros(x.size(0), 5)\nfor t in range(6):\n    h, c = self.cell(x[:, t, :], (h, c))\nself.head(h)",
)
series(
    "dtype and device of x",
    HEAD,
    "w = torch.ones(6, dtype=x.dtype, device=x.device)\nself.head(torch.einsum('btc,t->bc', x, w))",
)
series("float tensor of a list", HEAD, "w = torch.FloatTensor([1, 2, 3, 4])\nself.head(x.mean(1) * w)")
series("tensor of a list", HEAD, "w = torch.tensor([1.0, 2.0, 3.0, 4.0], device=x.device)\nself.head(x.mean(1) * w)")
series(
    "causal mask",
    "self.q = nn.Linear(4, 4)\nself.k = nn.Linear(4, 4)\nself.head = nn.Linear(4, 1)",
    "a = self.q(x) @ self.k(x).transpose(-2, -1) / math.sqrt(4)\nmask = torch.triu(torch.ones(6, 6), diagonal=1).bool()\na = a.masked_fill(mask, -1e9).softmax(-1)\nself.head((a @ x)[:, -1])",
)
series(
    "causal mask by tril",
    "self.q = nn.Linear(4, 4)\nself.head = nn.Linear(4, 1)",
    "a = torch.bmm(self.q(x), x.permute(0, 2, 1))\nmask = torch.tril(torch.ones(x.size(1), x.size(1), device=x.device)) == 0\na = F.softmax(a.masked_fill(mask, float('-inf')), dim=-1)\nself.head(torch.bmm(a, x).mean(1))",
)
series("eye", HEAD, "self.head((torch.eye(6, device=x.device) @ x).mean(1))")
series(
    "positional encoding made in forward",
    HEAD,
    "pos = torch.arange(0, 6).unsqueeze(1)\ndiv = torch.exp(torch.arange(0, 4, 2) * (-math.log(10000.0) / 4))\npe = torch.cat([torch.sin(pos * div), torch.cos(pos * div)], dim=1)\nself.head((x + pe).mean(1))",
)
series(
    "positional encoding in a buffer",
    "pe = torch.zeros(6, 4)\nposition = torch.arange(0, 6, dtype=torch.float).unsqueeze(1)\ndiv_term = torch.exp(torch.arange(0, 4, 2).float() * (-math.log(10000.0) / 4))\npe[:, 0::2] = torch.sin(position * div_term)\npe[:, 1::2] = torch.cos(position * div_term)\nself.register_buffer('pe', pe.unsqueeze(0))\nself.head = nn.Linear(4, 1)",
    "x = x + self.pe[:, :x.size(1)]\nself.head(x.mean(dim=1))",
)
table(
    "scaling in a buffer",
    "self.register_buffer('scale', torch.full((8,), 0.5))\nself.fc = nn.Linear(8, 1)",
    "self.fc(x * self.scale)",
)
table("ones_like and full_like", ONE, "self.fc(x * torch.full_like(x, 2.0) + torch.ones_like(x))")
table("random noise in training", ONE, "x = x + 0.1 * torch.randn_like(x)\nself.fc(x)", words="draw nothing")

# -- layers as people choose them

table("dropout layer", TWO + "\nself.dropout = nn.Dropout(0.2)", "h = self.dropout(F.relu(self.fc1(x)))\nself.fc2(h)")
table(
    "dropout in a sequence",
    "self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(p=0.5), nn.Linear(16, 1))",
    "self.net(x)",
)
table("dropout function", TWO, "h = F.dropout(F.relu(self.fc1(x)), p=0.5, training=self.training)\nself.fc2(h)")
series(
    "dropout of a recurrent layer",
    "self.gru = nn.GRU(4, 5, num_layers=2, batch_first=True, dropout=0.3)\nself.head = nn.Linear(5, 1)",
    "out, h = self.gru(x)\nself.head(h[-1])",
)
series(
    "spatial dropout",
    "self.conv = nn.Conv1d(4, 3, 3)\nself.drop = nn.Dropout1d(0.1)\nself.head = nn.Linear(3, 1)",
    "self.head(self.drop(self.conv(x.transpose(1, 2))).mean(2))",
)
series(
    "dropout of a transformer",
    "layer = nn.TransformerEncoderLayer(d_model=4, nhead=2, dim_feedforward=8, dropout=0.1, batch_first=True)\nself.enc = nn.TransformerEncoder(layer, num_layers=1)\nself.head = nn.Linear(4, 1)",
    "self.head(self.enc(x).mean(dim=1))",
)
series(
    "dropout of attention",
    "self.attn = nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True)\nself.head = nn.Linear(4, 1)",
    "h, _ = self.attn(x, x, x)\nself.head(h.mean(1))",
)
table(
    "alpha dropout",
    "self.net = nn.Sequential(nn.Linear(8, 16), nn.SELU(), nn.AlphaDropout(0.1), nn.Linear(16, 1))",
    "self.net(x)",
)
table(
    "batch norm",
    "self.fc1 = nn.Linear(8, 16)\nself.bn = nn.BatchNorm1d(16)\nself.fc2 = nn.Linear(16, 1)",
    "self.fc2(F.relu(self.bn(self.fc1(x))))",
    words="GroupNorm",
)
table(
    "batch norm in a sequence",
    "self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))",
    "self.net(x)",
    words="GroupNorm",
)
table(
    "layer norm",
    "self.fc1 = nn.Linear(8, 16)\nself.norm = nn.LayerNorm(16)\nself.fc2 = nn.Linear(16, 1)",
    "self.fc2(F.gelu(self.norm(self.fc1(x))))",
)
table(
    "group norm of single values",
    "self.fc1 = nn.Linear(8, 16)\nself.norm = nn.GroupNorm(4, 16)\nself.fc2 = nn.Linear(16, 1)",
    "self.fc2(F.relu(self.norm(self.fc1(x))))",
)
series(
    "group norm of a series",
    "self.conv = nn.Conv1d(4, 8, 3, padding=1)\nself.gn = nn.GroupNorm(num_groups=2, num_channels=8)\nself.head = nn.Linear(8, 1)",
    "self.head(F.relu(self.gn(self.conv(x.transpose(1, 2)))).mean(-1))",
)
series(
    "instance norm",
    "self.conv = nn.Conv1d(4, 8, 3)\nself.norm = nn.InstanceNorm1d(8)\nself.head = nn.Linear(8, 1)",
    "self.head(F.relu(self.norm(self.conv(x.transpose(1, 2)))).mean(-1))",
)
table(
    "embedding of a code",
    "self.emb = nn.Embedding(10, 4)\nself.fc = nn.Linear(11, 1)",
    "code = ((x[:, 0] + 1) * 4.5).long()\nself.fc(torch.cat([self.emb(code), x[:, 1:]], 1))",
)
table(
    "embedding with a padding index",
    "self.emb = nn.Embedding(10, 4, padding_idx=0)\nself.fc = nn.Linear(4, 1)",
    "codes = (x.abs() * 9).long().clamp(0, 9)\nself.fc(self.emb(codes).sum(1))",
)
table(
    "embedding bag",
    "self.bag = nn.EmbeddingBag(10, 4, mode='sum')\nself.fc = nn.Linear(4, 1)",
    "codes = ((x + 1) * 4.5).long().clamp(0, 9)\nself.fc(self.bag(codes))",
)
table(
    "embedding bag of a mean",
    "self.bag = nn.EmbeddingBag(num_embeddings=10, embedding_dim=4, mode='mean')\nself.fc = nn.Linear(4, 1)",
    "self.fc(self.bag((x.abs() * 9).long().clamp(max=9)))",
)
table(
    "list of embeddings",
    "self.embs = nn.ModuleList([nn.Embedding(5, dim) for dim in (2, 3)])\nself.fc = nn.Linear(5, 1)",
    "codes = ((x[:, :2] + 1) * 2).long()\nself.fc(torch.cat([emb(codes[:, i]) for i, emb in enumerate(self.embs)], dim=1))",
)
table("bilinear", "self.bilinear = nn.Bilinear(8, 8, 4)\nself.fc = nn.Linear(4, 1)", "self.fc(self.bilinear(x, x))")
table(
    "cosine similarity layer",
    "self.fc1 = nn.Linear(8, 8)\nself.cos = nn.CosineSimilarity(dim=1)\nself.fc = nn.Linear(1, 1)",
    "self.fc(self.cos(self.fc1(x), x).unsqueeze(1))",
)
series(
    "adaptive pooling",
    "self.conv = nn.Conv1d(4, 3, 3)\nself.pool = nn.AdaptiveAvgPool1d(1)\nself.head = nn.Linear(3, 1)",
    "self.head(self.pool(self.conv(x.transpose(1, 2))).squeeze(-1))",
)
series(
    "adaptive maximum pooling",
    "self.conv = nn.Conv1d(4, 3, 3)\nself.pool = nn.AdaptiveMaxPool1d(1)\nself.head = nn.Linear(3, 1)",
    "self.head(self.pool(self.conv(x.transpose(1, 2))).view(x.size(0), -1))",
)
series(
    "pooling by function",
    "self.conv = nn.Conv1d(4, 3, 3)\nself.head = nn.Linear(3, 1)",
    "h = F.relu(self.conv(x.transpose(1, 2)), inplace=True)\nself.head(F.adaptive_avg_pool1d(h, 1).squeeze(2))",
)
series(
    "upsampling",
    "self.up = nn.Upsample(scale_factor=2)\nself.conv = nn.Conv1d(4, 3, 3)\nself.head = nn.Linear(3, 1)",
    "self.head(self.conv(self.up(x.transpose(1, 2))).mean(2))",
)
series(
    "causal convolution with chomp",
    "self.conv = nn.Conv1d(4, 3, 3, padding=2, dilation=1)\nself.head = nn.Linear(3, 1)",
    "h = self.conv(x.transpose(1, 2))[:, :, :-2].contiguous()\nself.head(h[:, :, -1])",
)
series(
    "weight norm",
    "self.conv = nn.utils.weight_norm(nn.Conv1d(4, 3, 3))\nself.head = nn.Linear(3, 1)",
    "self.head(self.conv(x.transpose(1, 2)).mean(2))",
    words="weight_norm",
)
series(
    "weight norm as a parametrization",
    "self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 3, 3))\nself.head = nn.Linear(3, 1)",
    "self.head(self.conv(x.transpose(1, 2)).mean(2))",
)
table(
    "group norm with a group for each value",
    "self.fc1 = nn.Linear(8, 16)\nself.norm = nn.GroupNorm(16, 16)\nself.fc2 = nn.Linear(16, 1)",
    "self.fc2(self.norm(self.fc1(x)) + self.fc1(x))",
)
series(
    "index by two lists",
    HEAD,
    "rows = torch.arange(x.size(0))\nlast = (x[:, :, 0] > 0).sum(1).clamp(min=1) - 1\nself.head(x[rows, last])",
)
table(
    "products of pairs in loops",
    "self.fc = nn.Linear(6, 1)",
    "pairs = []\nfor i in range(4):\n    for j in range(i + 1, 4):\n        pairs.append(x[:, i] * x[:, j])\nself.fc(torch.stack(pairs, dim=1))",
)
table(
    "radial basis functions",
    "self.centres = nn.Parameter(torch.randn(5, 8))\nself.fc = nn.Linear(5, 1)",
    "self.fc(torch.exp(-torch.cdist(x.unsqueeze(1), self.centres).squeeze(1) ** 2))",
)
table(
    "random features in a buffer",
    "self.register_buffer('omega', torch.randn(8, 8))\nself.fc = nn.Linear(8, 1)",
    "self.fc(torch.cos(x @ self.omega))",
    words="drawn at random",
)
series(
    "bidirectional LSTM",
    "self.rnn = nn.LSTM(4, 5, bidirectional=True, batch_first=True)\nself.head = nn.Linear(10, 1)",
    "out, (h, c) = self.rnn(x)\nself.head(torch.cat((h[-2], h[-1]), dim=1))",
)
series(
    "flatten_parameters",
    "self.rnn = nn.GRU(4, 5, batch_first=True)\nself.head = nn.Linear(5, 1)",
    "self.rnn.flatten_parameters()\nout, _ = self.rnn(x)\nself.head(out[:, -1])",
)
series(
    "LSTM with time first",
    "self.rnn = nn.LSTM(4, 5)\nself.head = nn.Linear(5, 1)",
    "out, _ = self.rnn(x.permute(1, 0, 2))\nself.head(out[-1])",
)
table("softmax layer", "self.net = nn.Sequential(nn.Linear(8, 2), nn.Softmax(dim=1))", "self.net(x)")
table("log softmax output", "self.fc = nn.Linear(8, 3)", "F.log_softmax(self.fc(x), dim=1)")
table("sigmoid function", ONE, "torch.sigmoid(self.fc(x))")
table("F.sigmoid and F.tanh", TWO, "F.sigmoid(self.fc2(F.tanh(self.fc1(x))))")
table(
    "linear function",
    "self.weight = nn.Parameter(torch.randn(1, 8) * 0.1)\nself.bias = nn.Parameter(torch.zeros(1))",
    "F.linear(x, self.weight, self.bias)",
)

# -- parameters and how they begin

table(
    "parameter of random numbers",
    "self.w = nn.Parameter(torch.rand(8, 1))\nself.b = nn.Parameter(torch.Tensor(1).zero_())",
    "torch.mm(x, self.w) + self.b",
)
table(
    "parameter of an empty tensor",
    "self.w = nn.Parameter(torch.empty(8, 1))\nnn.init.xavier_uniform_(self.w)",
    "x @ self.w",
)
table("register_parameter", "self.register_parameter('w', nn.Parameter(torch.full((8, 1), 0.1)))", "x.matmul(self.w)")
table(
    "isinstance loop",
    TWO
    + "\nfor m in self.modules():\n    if isinstance(m, nn.Linear):\n        nn.init.kaiming_normal_(m.weight, nonlinearity='relu')\n        if m.bias is not None:\n            nn.init.zeros_(m.bias)",
    "self.fc2(F.relu(self.fc1(x)))",
)
table(
    "isinstance loop with a tuple",
    TWO
    + "\nfor module in self.modules():\n    if isinstance(module, (nn.Linear, nn.Conv1d)):\n        nn.init.normal_(module.weight, std=0.02)\n    elif isinstance(module, nn.LayerNorm):\n        nn.init.constant_(module.weight, 1.0)",
    "self.fc2(F.relu(self.fc1(x)))",
)
table(
    "apply of a method",
    TWO + "\nself.apply(self._init_weights)",
    "self.fc2(F.relu(self.fc1(x)))",
    methods="def _init_weights(self, m):\n    if isinstance(m, nn.Linear):\n        nn.init.xavier_normal_(m.weight)\n        m.bias.data.fill_(0.01)",
)
table(
    "init_weights method",
    TWO + "\nself.init_weights()",
    "self.fc2(F.relu(self.fc1(x)))",
    methods="def init_weights(self):\n    nn.init.xavier_uniform_(self.fc1.weight)\n    nn.init.zeros_(self.fc1.bias)",
)
table("weight data", ONE + "\nself.fc.weight.data.uniform_(-0.1, 0.1)\nself.fc.bias.data.zero_()", "self.fc(x)")
table(
    "named parameters loop",
    TWO
    + "\nfor name, p in self.named_parameters():\n    if 'weight' in name:\n        nn.init.xavier_uniform_(p)\n    else:\n        nn.init.zeros_(p)",
    "self.fc2(F.relu(self.fc1(x)))",
)
table(
    "parameters with dim above one",
    TWO + "\nfor p in self.parameters():\n    if p.dim() > 1:\n        nn.init.xavier_uniform_(p)",
    "self.fc2(F.relu(self.fc1(x)))",
)
table(
    "reset_parameters",
    "self.w = nn.Parameter(torch.empty(8, 1))\nself.reset_parameters()",
    "x @ self.w",
    methods="def reset_parameters(self):\n    bound = 1.0 / math.sqrt(self.w.size(0))\n    nn.init.uniform_(self.w, -bound, bound)",
)
table("with no_grad at the start", ONE + "\nwith torch.no_grad():\n    self.fc.bias.fill_(-2.0)", "self.fc(x)")
table(
    "tied weights",
    "self.enc = nn.Linear(8, 4)\nself.dec = nn.Linear(4, 8)\nself.dec.weight = nn.Parameter(self.enc.weight.t())\nself.out = nn.Linear(8, 1)",
    "self.out(self.dec(F.relu(self.enc(x))))",
    words="of its own",
)
table(
    "tied weights by F.linear",
    "self.enc = nn.Linear(8, 4)\nself.out = nn.Linear(8, 1)",
    "h = torch.relu(self.enc(x))\nself.out(F.linear(h, self.enc.weight.t()))",
)
table(
    "tied layers",
    "self.a = nn.Linear(8, 8)\nself.b = nn.Linear(8, 8)\nself.b.weight = self.a.weight\nself.out = nn.Linear(8, 1)",
    "self.out(self.b(F.relu(self.a(x))))",
)
table(
    "frozen layer",
    TWO + "\nfor p in self.fc1.parameters():\n    p.requires_grad = False",
    "self.fc2(F.relu(self.fc1(x)))",
    words="requires_grad",
)
table(
    "parameter list and dict",
    "self.ws = nn.ParameterList([nn.Parameter(torch.randn(8, 1) * 0.1) for _ in range(2)])\nself.bs = nn.ParameterDict({'a': nn.Parameter(torch.zeros(1))})",
    "x @ self.ws[0] + (x @ self.ws[1]).relu() + self.bs['a']",
)
table(
    "temperature as exp of a parameter",
    ONE + "\nself.log_t = nn.Parameter(torch.tensor(0.0))",
    "self.fc(x) / self.log_t.exp()",
)

# -- how a class is written

table("super with arguments", "super(Model, self).__init__()\n" + ONE, "self.fc(x)")
table(
    "sizes as default arguments",
    "self.fc1 = nn.Linear(n_in, n_hidden)\nself.fc2 = nn.Linear(n_hidden, n_out)",
    "self.fc2(torch.relu(self.fc1(x)))",
    head="def __init__(self, n_in=8, n_hidden=16, n_out=1):",
)
table(
    "activation as a default argument",
    "self.fc1 = nn.Linear(8, 16)\nself.act = act()\nself.fc2 = nn.Linear(16, 1)",
    "self.fc2(self.act(self.fc1(x)))",
    head="def __init__(self, act=nn.ReLU):",
)
table(
    "activation function as a default",
    TWO + "\nself.activation = activation",
    "self.fc2(self.activation(self.fc1(x)))",
    head="def __init__(self, activation=F.relu):",
)
table(
    "activation instance as a default",
    TWO + "\nself.act = act",
    "self.fc2(self.act(self.fc1(x)))",
    head="def __init__(self, act=nn.GELU()):",
)
table(
    "hidden sizes in a list",
    "layers = []\nlast = 8\nfor size in hidden:\n    layers.append(nn.Linear(last, size))\n    layers.append(nn.ReLU())\n    last = size\nlayers.append(nn.Linear(last, 1))\nself.net = nn.Sequential(*layers)",
    "self.net(x)",
    head="def __init__(self, hidden=(16, 8)):",
)
table(
    "hidden sizes in a mutable default",
    "dims = [8] + hidden\nself.layers = nn.ModuleList([nn.Linear(a, b) for a, b in zip(dims[:-1], dims[1:])])\nself.out = nn.Linear(dims[-1], 1)",
    "for layer in self.layers:\n    x = F.relu(layer(x))\nself.out(x)",
    head="def __init__(self, hidden=[16, 8]):",
)
table(
    "layers += list",
    "layers = []\nfor _ in range(2):\n    layers += [nn.Linear(8, 8), nn.Tanh()]\nself.net = nn.Sequential(*layers, nn.Linear(8, 1))",
    "self.net(x)",
)
table(
    "typed signatures",
    ONE,
    "self.fc(x)",
    head="def __init__(self) -> None:",
    signature="def forward(self, x: torch.Tensor) -> torch.Tensor:",
)
table(
    "typing imports",
    ONE,
    "self.fc(x if scale is None else x * scale)",
    signature="def forward(self, x: Tensor, scale: Optional[float] = None) -> Tensor:",
    imports="from typing import List, Optional, Tuple\n\nimport torch\nfrom torch import Tensor, nn\n",
)
table(
    "docstrings and comments",
    '"""A small network.\n\nArgs: none.\n"""\n' + ONE + "  # one logit",
    '"""Scores of records."""\nself.fc(x)',
)
module(
    "helper function outside",
    "def block(a, b):\n    return nn.Sequential(nn.Linear(a, b), nn.ReLU())\n\n\nclass Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.net = nn.Sequential(block(8, 16), nn.Linear(16, 1))\n\n    def forward(self, x):\n        return self.net(x)",
)
module(
    "activation function outside",
    "def swish(x):\n    return x * torch.sigmoid(x)\n\n\nclass Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fc1 = nn.Linear(8, 16)\n        self.fc2 = nn.Linear(16, 1)\n\n    def forward(self, x):\n        return self.fc2(swish(self.fc1(x)))",
)
module(
    "constants outside",
    "HIDDEN = 16\nN_FEATURES = 8\n\n\nclass Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.net = nn.Sequential(nn.Linear(N_FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))\n\n    def forward(self, x):\n        return self.net(x)",
)
module(
    "residual block class",
    "class Residual(nn.Module):\n    def __init__(self, dim, expand=2):\n        super().__init__()\n        self.norm = nn.LayerNorm(dim)\n        self.ff = nn.Sequential(nn.Linear(dim, dim * expand), nn.GELU(), nn.Linear(dim * expand, dim))\n\n    def forward(self, x):\n        return x + self.ff(self.norm(x))\n\n\nclass Model(nn.Module):\n    def __init__(self, depth=2):\n        super().__init__()\n        self.blocks = nn.Sequential(*[Residual(8) for _ in range(depth)])\n        self.head = nn.Linear(8, 1)\n\n    def forward(self, x):\n        return self.head(self.blocks(x))",
)
module(
    "static method",
    "class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(8, 1)\n\n    @staticmethod\n    def scale(x):\n        return x * 2\n\n    def forward(self, x):\n        return self.fc(self.scale(x))",
)
module(
    "lambda in forward",
    "class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fc1 = nn.Linear(8, 16)\n        self.fc2 = nn.Linear(16, 1)\n        self.act = lambda h: h * torch.sigmoid(h)\n\n    def forward(self, x):\n        return self.fc2(self.act(self.fc1(x)))",
)
module(
    "dictionary of activations",
    "class Model(nn.Module):\n    def __init__(self, act='relu'):\n        super().__init__()\n        self.fc1 = nn.Linear(8, 16)\n        self.act = {'relu': nn.ReLU(), 'tanh': nn.Tanh()}[act]\n        self.fc2 = nn.Linear(16, 1)\n\n    def forward(self, x):\n        return self.fc2(self.act(self.fc1(x)))",
)
module(
    "choice by a flag",
    "class Model(nn.Module):\n    def __init__(self, bidirectional=False, pooling='mean'):\n        super().__init__()\n        self.pooling = pooling\n        self.rnn = nn.GRU(4, 5, batch_first=True, bidirectional=bidirectional)\n        self.head = nn.Linear(5 * (2 if bidirectional else 1), 1)\n\n    def forward(self, x):\n        out, h = self.rnn(x)\n        if self.pooling == 'mean':\n            out = out.mean(dim=1)\n        elif self.pooling == 'max':\n            out = out.max(dim=1)[0]\n        else:\n            raise ValueError('pooling')\n        return self.head(out)",
    SERIES,
)
module(
    "subclass of a sequence",
    "class Model(nn.Sequential):\n    def __init__(self):\n        super().__init__(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))",
)
module(
    "string formatting in an error",
    "class Model(nn.Module):\n    def __init__(self, dim=8, heads=2):\n        super().__init__()\n        if dim % heads != 0:\n            raise ValueError(f'dim {dim} is not divisible by heads {heads}')\n        self.fc = nn.Linear(dim, 1)\n\n    def forward(self, x):\n        return self.fc(x)",
)
module(
    "numpy in init",
    "import numpy as np\n\n\nclass Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(8, 1)\n        self.scale = float(np.sqrt(8))\n\n    def forward(self, x):\n        return self.fc(x / self.scale)",
    words="math",
)
module(
    "property",
    "class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(8, 1)\n\n    @property\n    def scale(self):\n        return 0.5\n\n    def forward(self, x):\n        return self.fc(x * self.scale)",
)
module(
    "keyword dictionary",
    "class Model(nn.Module):\n    def __init__(self, **kwargs):\n        super().__init__()\n        self.fc = nn.Linear(8, kwargs.get('out', 1))\n\n    def forward(self, x):\n        return self.fc(x)",
    words="Name every argument",
)
module(
    "returns a dictionary",
    "class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(8, 1)\n\n    def forward(self, x):\n        return {'logits': self.fc(x)}",
    words="return one tensor|Return the scores",
)

# -- small parts of published architectures, as papers describe them

series(
    "decay of missing values",
    "self.decay = nn.Parameter(torch.zeros(4))\nself.head = nn.Linear(4, 1)",
    "gamma = torch.exp(-torch.relu(self.decay))\nh = x[:, 0]\nfor t in range(1, x.shape[1]):\n    m = (x[:, t].abs() > 0.1).float()\n    h = m * x[:, t] + (1 - m) * gamma * h\nself.head(h)",
)
series(
    "attention pooling",
    "self.score = nn.Linear(4, 1)\nself.head = nn.Linear(4, 1)",
    "w = torch.softmax(self.score(x), dim=1)\nself.head(torch.sum(w * x, dim=1))",
)
series(
    "attention in reverse time",
    "self.rnn = nn.GRU(4, 4, batch_first=True)\nself.alpha = nn.Linear(4, 1)\nself.head = nn.Linear(4, 1)",
    "g, _ = self.rnn(torch.flip(x, dims=[1]))\na = F.softmax(self.alpha(torch.flip(g, [1])).squeeze(2), dim=1)\nself.head(torch.bmm(a.unsqueeze(1), x).squeeze(1))",
)
series(
    "squeeze and excitation",
    "self.fc1 = nn.Linear(4, 2)\nself.fc2 = nn.Linear(2, 4)\nself.head = nn.Linear(4, 1)",
    "h = x.permute(0, 2, 1)\ns = torch.sigmoid(self.fc2(F.relu(self.fc1(h.mean(-1)))))\nself.head((h * s.unsqueeze(-1)).mean(-1))",
)
series(
    "class token",
    "self.cls = nn.Parameter(torch.zeros(1, 1, 4))\nlayer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, norm_first=True, activation='gelu')\nself.enc = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)\nself.head = nn.Linear(4, 1)",
    "tokens = torch.cat([self.cls.expand(x.size(0), -1, -1), x], dim=1)\nself.head(self.enc(tokens)[:, 0])",
)
table(
    "tokens of features",
    "self.w = nn.Parameter(torch.randn(8, 4) * 0.1)\nself.b = nn.Parameter(torch.zeros(8, 4))\nself.attn = nn.MultiheadAttention(4, 2, batch_first=True)\nself.head = nn.Linear(4, 1)",
    "t = x.unsqueeze(-1) * self.w + self.b\nh, weights = self.attn(t, t, t, need_weights=False)\nself.head((t + h).mean(1))",
)
table(
    "cross network",
    "self.ws = nn.ModuleList([nn.Linear(8, 1, bias=False) for _ in range(2)])\nself.bs = nn.ParameterList([nn.Parameter(torch.zeros(8)) for _ in range(2)])\nself.fc = nn.Linear(8, 1)",
    "x0 = x\nfor w, b in zip(self.ws, self.bs):\n    x = x0 * w(x) + b + x\nself.fc(x)",
)
table(
    "factorisation machine",
    "self.linear = nn.Linear(8, 1)\nself.v = nn.Parameter(torch.randn(8, 3) * 0.01)",
    "square_of_sum = torch.pow(torch.mm(x, self.v), 2)\nsum_of_square = torch.mm(x.pow(2), self.v.pow(2))\nself.linear(x) + 0.5 * torch.sum(square_of_sum - sum_of_square, dim=1, keepdim=True)",
)
series(
    "convolutions side by side",
    "self.convs = nn.ModuleList([nn.Conv1d(4, 3, k, padding=k // 2) for k in (1, 3, 5)])\nself.head = nn.Linear(9, 1)",
    "h = torch.cat([F.relu(c(x.transpose(1, 2))) for c in self.convs], dim=1)\nself.head(F.adaptive_max_pool1d(h, 1).squeeze(-1))",
)
table(
    "highway",
    "self.h = nn.Linear(8, 8)\nself.t = nn.Linear(8, 8)\nself.fc = nn.Linear(8, 1)",
    "t = torch.sigmoid(self.t(x))\nself.fc(torch.relu(self.h(x)) * t + x * (1 - t))",
)
table(
    "a network for each feature",
    "self.nets = nn.ModuleList([nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1)) for _ in range(8)])\nself.bias = nn.Parameter(torch.zeros(1))",
    "torch.cat([net(x[:, i:i + 1]) for i, net in enumerate(self.nets)], dim=-1).sum(dim=-1, keepdim=True) + self.bias",
)
table(
    "monotone weights",
    "self.w = nn.Parameter(torch.zeros(8, 1))\nself.b = nn.Parameter(torch.zeros(1))",
    "torch.matmul(x, F.softplus(self.w)) + self.b",
)
table(
    "ordered cut points",
    "self.fc = nn.Linear(8, 1)\nself.first = nn.Parameter(torch.tensor([-1.0]))\nself.steps = nn.Parameter(torch.zeros(2))",
    "cuts = torch.cat([self.first, self.first + torch.cumsum(F.softplus(self.steps), 0)])\np = torch.sigmoid(cuts - self.fc(x))\nones = torch.ones_like(p[:, :1])\nzeros = torch.zeros_like(p[:, :1])\ntorch.log((torch.cat([p, ones], 1) - torch.cat([zeros, p], 1)).clamp(min=1e-7))",
)
table(
    "experts and a gate",
    "self.experts = nn.ModuleList([nn.Linear(8, 4) for _ in range(3)])\nself.gate = nn.Linear(8, 3)\nself.fc = nn.Linear(4, 1)",
    "g = F.softmax(self.gate(x), dim=-1)\nh = torch.stack([e(x) for e in self.experts], dim=1)\nself.fc(torch.einsum('be,beh->bh', g, F.relu(h)))",
)
table(
    "sparse attention by sorting",
    "self.att = nn.Linear(8, 8)\nself.fc = nn.Linear(8, 1)",
    "z = self.att(x)\ns, _ = torch.sort(z, dim=-1, descending=True)\nk = torch.arange(1, 9, device=z.device, dtype=z.dtype)\nc = torch.cumsum(s, dim=-1) - 1\nsupport = (1 + k * s) > c + s * 0\ntau = (torch.where(support, s, torch.zeros_like(s)).sum(-1, keepdim=True) - 1) / support.sum(-1, keepdim=True).clamp(min=1)\nself.fc(x * torch.clamp(z - tau, min=0))",
)
series(
    "time as sines",
    "self.w = nn.Parameter(torch.randn(1, 3) * 0.1)\nself.p = nn.Parameter(torch.zeros(3))\nself.head = nn.Linear(7, 1)",
    "t = torch.arange(x.size(1)).float().to(x.device).unsqueeze(-1) / x.size(1)\ne = torch.sin(t @ self.w + self.p)\ne = e.unsqueeze(0).repeat(x.size(0), 1, 1)\nself.head(torch.cat([x, e], dim=-1).mean(dim=1))",
)
series(
    "steps of Euler",
    "self.f = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))\nself.head = nn.Linear(4, 1)",
    "h = x[:, 0]\nfor _ in range(5):\n    h = h + 0.2 * self.f(h)\nself.head(h)",
)
series(
    "backcast and forecast",
    "self.blocks = nn.ModuleList([nn.Linear(24, 25) for _ in range(2)])\nself.out = nn.Linear(1, 1)",
    "residual = x.flatten(1)\nforecast = 0\nfor block in self.blocks:\n    theta = F.relu(block(residual))\n    backcast, part = theta.split([24, 1], dim=-1)\n    residual = residual - backcast\n    forecast = forecast + part\nself.out(forecast)",
)
series(
    "patches of a series",
    "self.embed = nn.Linear(8, 4)\nself.head = nn.Linear(12, 1)",
    "b, t, c = x.shape\nh = x.reshape(b, t // 2, 2 * c)\nself.head(self.embed(h).flatten(1))",
)
series(
    "mixing over time and channels",
    "self.time = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 6))\nself.chan = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))\nself.norm = nn.LayerNorm(4)\nself.head = nn.Linear(4, 1)",
    "x = x + self.time(self.norm(x).transpose(1, 2)).transpose(1, 2)\nx = x + self.chan(self.norm(x))\nself.head(x.mean(1))",
)
series(
    "forward fill",
    HEAD,
    "last = x[:, 0]\nfilled = [last]\nfor t in range(1, x.size(1)):\n    last = torch.where(x[:, t] == 0, last, x[:, t])\n    filled.append(last)\nself.head(torch.stack(filled, 1).mean(1))",
)
series(
    "standardised within a record",
    HEAD,
    "m = x.mean(dim=1, keepdim=True)\ns = x.std(dim=1, keepdim=True, unbiased=False) + 1e-5\nself.head(((x - m) / s)[:, -1])",
)
series(
    "several heads",
    "self.rnn = nn.GRU(4, 5, batch_first=True)\nself.heads = nn.ModuleDict({'a': nn.Linear(5, 1), 'b': nn.Linear(5, 1)})",
    "h = self.rnn(x)[1].squeeze(0)\ntorch.cat([self.heads[name](h) for name in ('a', 'b')], dim=1)",
)
table(
    "autoencoder beside a classifier",
    "self.encoder = nn.Sequential(nn.Linear(8, 4), nn.LeakyReLU(0.2, inplace=True))\nself.classifier = nn.Linear(4, 1)",
    "z = self.encoder(x)\nself.classifier(z).view(-1, 1)",
)
table(
    "wide and deep by columns",
    "self.wide = nn.Linear(3, 1)\nself.deep = nn.Sequential(nn.Linear(5, 8), nn.ELU(), nn.Linear(8, 1))",
    "self.wide(x[:, :3]) + self.deep(x[:, 3:])",
)
table(
    "layers by name",
    "self.net = nn.Sequential(OrderedDict([('fc1', nn.Linear(8, 16)), ('act', nn.ReLU()), ('fc2', nn.Linear(16, 1))]))",
    "self.net(x)",
    imports=IMPORTS + "from collections import OrderedDict\n",
)
table(
    "layers added in a loop",
    "self.net = nn.Sequential()\nfor i, size in enumerate([16, 4]):\n    self.net.add_module(f'fc{i}', nn.Linear(8 if i == 0 else 16, size))\n    self.net.add_module(f'act{i}', nn.ReLU())\nself.net.add_module('out', nn.Linear(4, 1))",
    "self.net(x)",
)
table(
    "one hot of a code",
    "self.fc = nn.Linear(12, 1)",
    "code = ((x[:, 0] + 1) * 2).long()\nself.fc(torch.cat([F.one_hot(code, num_classes=5).float(), x[:, 1:]], dim=1))",
)
series("mean over two axes", "self.fc = nn.Linear(1, 1)", "self.fc(x.mean((1, 2)).unsqueeze(-1))")
series(
    "device of the parameters",
    "self.cell = nn.GRUCell(4, 5)\nself.head = nn.Linear(5, 1)",
    "device = next(self.parameters()).device\nh = torch.zeros(x.shape[0], 5).to(device)\nfor t in range(x.shape[1]):\n    h = self.cell(x[:, t], h)\nself.head(h)",
)
