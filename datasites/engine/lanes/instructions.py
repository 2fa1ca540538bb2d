"""The instructions of a record's program, and for each one which memory it reads and writes.

A program is a list of instructions of thirty-two whole numbers: a code, then its fields in the order given here. All
sixteen records of a block run it together, one in each lane, so one *slot* of lane memory is sixteen floats and
addresses count floats. Three memories exist: `scratch`, which every block of records uses again; `own`, of one block
alone; `uniform`, the model's parameters and the program's constants, one float each and the same for all records.
Addresses below the scratch's size are scratch, all others are the block's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

LANES = 16
WORDS = 32  # of an instruction

Fields = Mapping[str, int]
Terms = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Access:
    """Addresses `start + Σ index · stride` for every index below its count, in lane memory or in the uniforms."""

    start: int
    counts: tuple[int, ...]
    strides: tuple[int, ...]
    writes: bool = False
    uniform: bool = False


Accesses = Callable[[Fields, Terms], list[Access]]


@dataclass(frozen=True)
class Instruction:
    """A code's name, the names of its fields, and what it reads, then writes."""

    name: str
    fields: tuple[str, ...]
    accesses: Accesses
    relative: frozenset[str]  # fields that are addresses in lane memory


def _lane(fields: Fields, address: str, *runs: tuple[str, str]) -> Access:
    return Access(fields[address], tuple(fields[n] for n, _ in runs), tuple(fields[s] for _, s in runs))


def _row(fields: Fields, address: str, count: str = "n") -> Access:
    """Written: slots in one piece."""
    return Access(fields[address], (fields[count],), (LANES,), writes=True)


def _one(fields: Fields, address: str) -> Access:
    return Access(fields[address], (), (), uniform=True)


def _written(access: Access) -> Access:
    return Access(access.start, access.counts, access.strides, writes=True)


def _unary(fields: Fields, terms: Terms) -> list[Access]:
    return [_lane(fields, "x", ("n", "sx")), _row(fields, "y")]


def _binary(fields: Fields, terms: Terms) -> list[Access]:
    return [_lane(fields, "x", ("n", "sx")), _lane(fields, "z", ("n", "sz")), _row(fields, "y")]


def _threshold(fields: Fields, terms: Terms) -> list[Access]:
    return [_one(fields, "k"), *_binary(fields, terms)]


def _clamp(fields: Fields, terms: Terms) -> list[Access]:
    bounds = [_one(fields, name) for name in ("low", "high") if fields[name] != -1]
    return [*bounds, *_unary(fields, terms)]


def _where(fields: Fields, terms: Terms) -> list[Access]:
    return [_lane(fields, "w", ("n", "sw")), *_binary(fields, terms)]


def _linear(fields: Fields, terms: Terms) -> list[Access]:
    weights = _lane(fields, "w", ("O", "wO"), ("K", "wK"))
    bias = _lane(fields, "b", ("O", "bO"))
    uniform = [Access(each.start, each.counts, each.strides, uniform=True) for each in (weights, bias)]
    if fields["b"] == -1:
        uniform.pop()
    target = _lane(fields, "y", ("O", "yO"), ("Q", "yQ"))
    return [*uniform, _lane(fields, "x", ("K", "xK"), ("Q", "xQ")), _written(target)]


def _product(fields: Fields, terms: Terms) -> list[Access]:
    target = _lane(fields, "y", ("M", "yM"), ("J", "yJ"))
    left, right = _lane(fields, "x", ("M", "xM"), ("K", "xK")), _lane(fields, "z", ("K", "zK"), ("J", "zJ"))
    return [left, right, _written(target)]


def _several(fields: Fields, *names: str) -> tuple[int, ...]:
    return tuple(fields[name] for name in names)


def _convolve(fields: Fields, terms: Terms) -> list[Access]:
    kernel, places = _several(fields, "k0", "k1", "k2", "k3"), _several(fields, "q0", "q1", "q2")
    weights = Access(fields["w"], (fields["O"], *kernel), _several(fields, "wO", "w0", "w1", "w2", "w3"), uniform=True)
    bias = Access(fields["b"], (fields["O"],), (fields["bO"],), uniform=True)
    over = Access(fields["x"], (*kernel, *places), _several(fields, "x0", "x1", "x2", "x3", "p0", "p1", "p2"))
    target = Access(fields["y"], (fields["O"], *places), _several(fields, "yO", "y0", "y1", "y2"), writes=True)
    return [weights, *([] if fields["b"] == -1 else [bias]), over, target]


def _correlate(fields: Fields, terms: Terms) -> list[Access]:
    kernel, places = _several(fields, "k0", "k1", "k2", "k3"), _several(fields, "q0", "q1", "q2")
    left = Access(fields["z"], (fields["M"], *places), _several(fields, "zM", "z0", "z1", "z2"))
    over = Access(fields["x"], (*kernel, *places), _several(fields, "x0", "x1", "x2", "x3", "p0", "p1", "p2"))
    return [left, over, _written(_lane_of(fields["y"], (fields["M"], fields["yM"]), (math.prod(kernel), LANES)))]


def _windows(fields: Fields, address: str) -> Access:
    sizes = _several(fields, "q0", "q1", "q2", "k0", "k1")
    return Access(fields[address], sizes, _several(fields, "p0", "p1", "p2", "x0", "x1"))


def _largest(fields: Fields, terms: Terms) -> list[Access]:
    target = Access(fields["y"], (math.prod(_several(fields, "q0", "q1", "q2")),), (LANES,), writes=True)
    return [_windows(fields, "x"), target]


def _to_largest(fields: Fields, terms: Terms) -> list[Access]:
    given = Access(fields["z"], (math.prod(_several(fields, "q0", "q1", "q2")),), (LANES,))
    return [_windows(fields, "x"), _windows(fields, "y"), given, _written(_windows(fields, "y"))]


def _lane_of(start: int, *runs: tuple[int, int]) -> Access:
    return Access(start, tuple(count for count, _ in runs), tuple(stride for _, stride in runs))


def _four(fields: Fields, *, uniform: bool) -> list[Access]:
    sizes, strides = (tuple(fields[f"{name}{i}"] for i in range(4)) for name in "ds")
    size = sizes[0] * sizes[1] * sizes[2] * sizes[3]
    return [
        Access(fields["x"], sizes, strides, uniform=uniform),
        Access(fields["y"], (size,), (LANES,), writes=True),
    ]


def _placed(fields: Fields, *, adds: bool) -> list[Access]:
    counts, to, of = (tuple(fields[f"{name}{i}"] for i in range(4)) for name in "dts")
    target, source = Access(fields["y"], counts, to), Access(fields["x"], counts, of)
    return [*([target] if adds else []), source, _written(target)]


def _over(fields: Fields, terms: Terms) -> list[Access]:
    return [_lane(fields, "x", ("n", "outer"), ("k", "inner")), _row(fields, "y")]


def _gather(fields: Fields, terms: Terms) -> list[Access]:
    target = Access(fields["y"], (1,), (LANES,), writes=True)
    return [_lane(fields, "x", ("n", "sx")), Access(fields["z"], (1,), (LANES,)), target]


def _scatter(fields: Fields, terms: Terms) -> list[Access]:
    return [
        *(Access(fields[name], (1,), (LANES,)) for name in "xz"),
        Access(fields["y"], (fields["n"],), (LANES,)),
        _row(fields, "y"),
    ]


def _fill(fields: Fields, terms: Terms) -> list[Access]:
    return [_one(fields, "k"), _row(fields, "y")]


def _norm_outer(fields: Fields, terms: Terms) -> list[Access]:
    return [_lane(fields, "x", ("n", "sx")), _lane(fields, "z", ("k", "sz"))]


def _norm_terms(fields: Fields, terms: Terms) -> list[Access]:
    accesses = []
    for left, left_stride, right, right_stride in terms[fields["first"] : fields["first"] + fields["T"]]:
        accesses.append(Access(left, (fields["O"],), (left_stride,)))
        accesses.append(Access(right, (fields["K"],), (right_stride,)))
    return accesses


def _read(fields: Fields, terms: Terms) -> list[Access]:
    return [_lane(fields, "x", ("n", "sx"))]


UNARY = (
    "copy relu sigmoid tanh exp expm1 log log1p sqrt negative absolute erf cut sin cos atan".split()
)  # y[i] = f(x[i]), and the same of what follows
BINARY = (
    "add subtract multiply divide sigmoid_backward tanh_backward less at_most equal unequal".split()
)  # y[i] = f(x[i], z[i])

OF_PARAMETERS = ("linear", "convolve")  # whose w are uniforms

_OTHERS: list[tuple[str, str, Accesses]] = [
    ("threshold_backward", "y n x sx z sz k", _threshold),  # z[i] > k ? x[i] : 0
    ("clamp", "y n x sx low high", _clamp),
    ("where", "y n x sx z sz w sw", _where),  # w[i] != 0 ? x[i] : z[i]
    ("linear", "y O K Q x yO yQ xK xQ w wO wK b bO", _linear),  # y[o, q] = b[o] + Σ w[o, k] x[k, q]
    ("product", "y M K J x yM yJ xM xK z zK zJ", _product),  # y[m, j] = Σ x[m, k] z[k, j]
    # y[o · yO + q · y] = b[o] + Σ over k of w[o · wO + k · w] x[k · x + q · p], k and q of several dimensions; bits of
    # `turned` say which of k run from the end of the parameters
    (
        "convolve",
        "y O yO q0 q1 q2 y0 y1 y2 p0 p1 p2 x k0 k1 k2 k3 x0 x1 x2 x3 w wO w0 w1 w2 w3 turned b bO",
        _convolve,
    ),
    # y[m · yM + k] = Σ over q of z[m · zM + q · z] x[k · x + q · p]
    ("correlate", "y M yM k0 k1 k2 k3 x0 x1 x2 x3 q0 q1 q2 z zM z0 z1 z2 x p0 p1 p2", _correlate),
    ("move", "y d0 d1 d2 d3 x s0 s1 s2 s3", lambda fields, _: _four(fields, uniform=False)),
    ("lift", "y d0 d1 d2 d3 x s0 s1 s2 s3", lambda fields, _: _four(fields, uniform=True)),  # uniforms into lanes
    # y[t · i] = x[s · i] for every index i below d, and the same with +=
    ("place", "y d0 d1 d2 d3 t0 t1 t2 t3 x s0 s1 s2 s3", lambda fields, _: _placed(fields, adds=False)),
    ("add_to", "y d0 d1 d2 d3 t0 t1 t2 t3 x s0 s1 s2 s3", lambda fields, _: _placed(fields, adds=True)),
    ("sum", "y n x k inner outer", _over),  # y[i] = Σ x[i, k]
    ("maximum", "y n x k inner outer", _over),
    # y[q] = largest over k of x[q · p + k · x]; and y[q · p + k · x] += z[q] for the first k where that is it
    ("largest", "y q0 q1 q2 p0 p1 p2 x k0 k1 x0 x1", _largest),
    ("to_largest", "y q0 q1 q2 p0 p1 p2 x k0 k1 x0 x1 z", _to_largest),
    ("gather", "y n x sx z", _gather),  # y = x[z], z a whole number in [0, n)
    ("scatter", "y n x z", _scatter),  # y[z] += x
    ("fill", "y n k", _fill),
    ("norm_outer", "x n sx z k sz", _norm_outer),  # norm² += |x|² |z|²
    ("norm_terms", "first T O K", _norm_terms),  # norm² += |Σ over terms of left ⊗ right|²
    ("norm_direct", "x n sx", _read),  # norm² += |x|²
    ("finite", "x n sx", _read),  # the record counts as zero where x is not finite
]


def _instructions() -> list[Instruction]:
    every = [(name, "y n x sx", _unary) for name in UNARY]
    every += [(name, "y n x sx z sz", _binary) for name in BINARY]
    made = []
    for name, fields, accesses in every + _OTHERS:
        names = tuple(fields.split())
        lanes = (
            {"y", "x", "z", "w"} - ({"x"} if name == "lift" else set()) - ({"w"} if name in OF_PARAMETERS else set())
        )
        made.append(Instruction(name, names, accesses, frozenset(lanes.intersection(names))))
    return made


INSTRUCTIONS = _instructions()
CODES = {instruction.name: code for code, instruction in enumerate(INSTRUCTIONS)}


def encoded(name: str, fields: Mapping[str, int]) -> list[int]:
    """An instruction as its numbers. All fields must be given, and no other."""
    instruction = INSTRUCTIONS[CODES[name]]
    if set(fields) != set(instruction.fields):
        raise KeyError(f"{name} has the fields {', '.join(instruction.fields)}, not {', '.join(fields)}.")
    words = [CODES[name], *(int(fields[field]) for field in instruction.fields)]
    return words + [0] * (WORDS - len(words))
