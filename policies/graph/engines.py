"""Which of a datasite's two engines runs a model, in words for owners and researchers.

*In lanes* is the fast one: one record in each lane of the processor's vectors. *Record by record* is torch, with a
place in the batch for each record. Both give the same guarantee. The graph decides, and whether the datasite's
processor has the kernels; no value of a record does.
"""

from __future__ import annotations

LONGEST_REASON = 300  # letters of why a model does not run in lanes

LIMITS: dict[str, str] = {
    "_adaptive_avg_pool2d": "into 1,024 parts at most",
    "adaptive_max_pool2d": "into 1,024 parts at most",
    "bitwise_and.Tensor": "of flags",
    "bitwise_not": "of flags",
    "bitwise_or.Tensor": "of flags",
    "bitwise_xor.Tensor": "of flags",
    "convolution": "with weights that are a parameter",
    "index_select": "with constant places, or 4,096 numbers at most",
    "mul.Tensor": "of float32, of flags, or of whole numbers and a constant up to 4,096",
    "native_group_norm": "of one record",
    "pow.Scalar": "of a base above zero",
    "prod.dim_int": "of float32",
    "sort": "of 128 numbers at most",
    "topk": "of 128 numbers at most, in order",
}
"""Operators that run in lanes under a condition; every other one that a graph may have does as it is."""


ONCE = "What its frozen body computes of a record is computed once a round, and not at each step."


def engine_words(*, lanes: bool, why: str, trains: bool, once: bool = False) -> str:
    """Which engine runs a model, in one to three sentences.

    Args:
      why: what keeps it from lanes, in whole sentences that name the operator.
      trains: whether it trains there or is scored.
      once: whether a frozen body runs once a round, over all records, and its head alone at each step.
    """
    verb = "Trains" if trains else "Scores"
    words = f"{verb} record by record, which is slower. {why}".rstrip()
    if lanes:
        words = f"{verb} in lanes: one record in each lane of the processor's vectors."
    return f"{words} {ONCE}" if once else words
