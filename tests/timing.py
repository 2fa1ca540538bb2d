"""How much longer code takes on some values than on others, measured on a machine that does other things as well."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")
TURNS = 9


def unevenness(
    work: Callable[[T], object], given: Mapping[str, T], *, even: float, most_turns: int = 45, usual: T | None = None
) -> float:
    """Processor time on the slowest values over that on the fastest.

    Each time is held against that on `usual` just before and just after, and the median of many turns is taken: what
    else the machine does slows down all three. Turns go on, up to `most_turns`, while the ratio is above `even`.
    `usual` lies elsewhere in memory than all `given`, so that none of them is the warmer in caches for it: left out, a
    copy of the first of them.
    """
    taken: dict[str, list[float]] = {name: [] for name in given}
    if usual is None:
        usual = copy.deepcopy(next(iter(given.values())))
    ratio = math.inf
    done = 0
    while done < most_turns and ratio > even:
        for _ in range(TURNS):
            before = _seconds(work, usual)
            for name, values in given.items():
                it, after = _seconds(work, values), _seconds(work, usual)
                taken[name].append(2 * it / max(before + after, 1e-9))
                before = after
        done += TURNS
        medians = [statistics.median(times) for times in taken.values()]
        ratio = max(medians) / max(min(medians), 1e-9)
    return ratio


def _seconds(work: Callable[[T], object], values: T) -> float:
    begin = time.process_time()
    work(values)
    return time.process_time() - begin
