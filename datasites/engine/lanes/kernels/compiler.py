"""Compile the kernels to machine code that stands alone: it calls nothing and refers to nothing outside of itself."""

from __future__ import annotations

import struct
from typing import Any

from numba import njit, types

from datasites.engine.lanes.kernels import gaussians, interpreter, records, sampling, steps, sums
from policies.errors import DatasiteError

_FLOATS, _WHOLES, _WORDS, _DOUBLES = (
    types.CPointer(kind) for kind in (types.float32, types.int32, types.int64, types.float64)
)
_HALVES = types.CPointer(types.uint16)
_SIZE = types.int64
_SYMBOLS = 2  # SHT_SYMTAB

ENTRIES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "place_records": (
        sums.place_records,
        (_FLOATS, _SIZE, _SIZE, _SIZE, _SIZE, _FLOATS, _FLOATS, _WORDS, _SIZE, _SIZE, _FLOATS),
    ),
    "take_records": (
        records.take_records,
        (
            *(_DOUBLES, _SIZE, _SIZE, _WORDS, _SIZE, _WORDS, _DOUBLES, _SIZE),
            *(_FLOATS, _SIZE, _SIZE, _SIZE, _WHOLES, _DOUBLES, _WORDS),
        ),
    ),
    "sample": (
        sampling.sample,
        (
            *(_WORDS, _WORDS, _SIZE, _WORDS, _SIZE, _HALVES, _SIZE, _SIZE, _SIZE),
            *(_WHOLES, _WHOLES, _WORDS, _WORDS, _WORDS),
        ),
    ),
    "step": (
        steps.step,
        (_SIZE, _WHOLES, _DOUBLES, _FLOATS, _FLOATS, _FLOATS, _FLOATS, _SIZE, _DOUBLES, _FLOATS),
    ),
    "gaussians": (
        gaussians.gaussians,
        (_WORDS, _WORDS, _SIZE, _SIZE, types.float64, types.float64, _DOUBLES, _DOUBLES, _WORDS),
    ),
    "run": (interpreter.run, (_WORDS, _SIZE, _WORDS, _FLOATS, _FLOATS, _SIZE, _SIZE, _SIZE, _SIZE, _DOUBLES, _WHOLES)),
    "add_up": (
        sums.add_up,
        (
            *(_WORDS, _SIZE, _WORDS, _FLOATS, _SIZE, _SIZE, _SIZE, _DOUBLES, _WHOLES, _WHOLES),
            *(types.float64, types.float64, types.float64),
            *(_FLOATS, _WHOLES, _FLOATS, _FLOATS, _WHOLES, _WHOLES, _FLOATS, _SIZE),
        ),
    ),
}
"""The functions that are called from outside, and what they take."""


def compiled(name: str) -> tuple[str, bytes, str]:
    """Of an entry its name in the object file, the object file, and LLVM's optimised code, for this processor's level.

    The level is numba's setting NUMBA_CPU_NAME, fixed when numba is first imported. No fast-math is asked for.
    """
    function, signature = ENTRIES[name]
    entry = njit(types.void(*signature), error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    result = entry.overloads[tuple(signature)]
    module, machine = result.library._final_module, result.library._codegen._tm
    name, compiled_object = str(result.fndesc.llvm_func_name), machine.emit_object(module)
    if wanted := undefined_symbols(compiled_object):
        raise DatasiteError(f"The kernel {name} would call {', '.join(wanted)}. It must stand alone.")
    return name, compiled_object, str(module)


def undefined_symbols(compiled_object: bytes) -> list[str]:
    """What an ELF file of 64 bits wants from outside of itself: symbols of section 0 (elf(5))."""
    sections_at, size, count = (
        struct.unpack_from("<Q10xHH", compiled_object, 40)[0],
        *struct.unpack_from("<HH", compiled_object, 58),
    )
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", compiled_object, sections_at + number * size) for number in range(count)
    ]
    found = []
    for kind, begin, length, names in ((part[1], part[4], part[5], part[6]) for part in sections):
        if kind != _SYMBOLS:
            continue
        for place in range(begin, begin + length, 24):
            name, _, section = struct.unpack_from("<IHH", compiled_object, place)
            if name and section == 0:
                start = sections[names][4] + name
                found.append(compiled_object[start : compiled_object.index(b"\0", start)].decode())
    return found
