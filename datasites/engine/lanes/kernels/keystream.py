"""AES-256 in counter mode by the processor's own instructions, four blocks in each vector and eight vectors at once.

The numbers are those of FIPS 197 and NIST SP 800-38A, and so those of any other library. No step looks anything up by a
secret: a processor takes as long for every key.
"""

from __future__ import annotations

import llvmlite.ir as ir
import numpy as np
from numba import njit
from numba.core import cgutils, config
from numba.extending import intrinsic

from datasites.engine.lanes.kernels.vectors import (
    W8,
    add,
    both,
    differ,
    load_words,
    reversed_bytes,
    splat_word,
    store_words,
)

WHOLE = config.CPU_NAME == "x86-64-v4"  # its vectors hold four blocks; those of others two
ROUNDS = 14
TOGETHER = 32  # blocks


def _round(name):
    """One round of four blocks beside each other."""

    def build(context, builder, signature, args):
        kind = W8.llvm if WHOLE else ir.VectorType(ir.IntType(64), 4)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind, kind]), f"llvm.x86.aesni.{name}.{512 if WHOLE else 256}"
        )
        if WHOLE:
            return builder.call(function, args)

        def half(value, begin):
            places = ir.Constant(ir.VectorType(ir.IntType(32), 4), list(range(begin, begin + 4)))
            return builder.shuffle_vector(value, ir.Constant(W8.llvm, ir.Undefined), places)

        low, high = (builder.call(function, [half(value, begin) for value in args]) for begin in (0, 4))
        return builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(ir.IntType(32), 8), list(range(8))))

    @intrinsic
    def operation(typing, block, key):
        return W8(W8, W8), build

    return operation


_middle, _last = _round("aesenc"), _round("aesenclast")


@njit(inline="always")
def _blocks(first, steps, mask, key):
    """Four counters as blocks of 16 bytes, the highest byte first, after the first key."""
    return differ(both(reversed_bytes(add(splat_word(first), steps)), mask), key)


def keystream(keys, shape, first, blocks, out):
    """Blocks number `first` and following, a whole number of `TOGETHER`s, as words in `out`.

    `keys` are the 15 keys of the rounds, each four times. `shape`: what is added to the four counters of a vector, and
    which half of a block they are.
    """
    steps, mask, four = load_words(shape, 0), load_words(shape, 8), np.int64(4)
    for at in range(0, blocks, TOGETHER):
        key, place = load_words(keys, 0), first + at
        a, b = _blocks(place, steps, mask, key), _blocks(place + four, steps, mask, key)
        c, d = _blocks(place + 2 * four, steps, mask, key), _blocks(place + 3 * four, steps, mask, key)
        e, f = _blocks(place + 4 * four, steps, mask, key), _blocks(place + 5 * four, steps, mask, key)
        g, h = _blocks(place + 6 * four, steps, mask, key), _blocks(place + 7 * four, steps, mask, key)
        for number in range(1, ROUNDS):
            key = load_words(keys, 8 * number)
            a, b, c, d = _middle(a, key), _middle(b, key), _middle(c, key), _middle(d, key)
            e, f, g, h = _middle(e, key), _middle(f, key), _middle(g, key), _middle(h, key)
        key, target = load_words(keys, 8 * ROUNDS), 2 * at
        store_words(out, target, _last(a, key))
        store_words(out, target + 8, _last(b, key))
        store_words(out, target + 16, _last(c, key))
        store_words(out, target + 24, _last(d, key))
        store_words(out, target + 32, _last(e, key))
        store_words(out, target + 40, _last(f, key))
        store_words(out, target + 48, _last(g, key))
        store_words(out, target + 56, _last(h, key))
