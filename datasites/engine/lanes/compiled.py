"""Compiled kernels: where they are kept, under which name, and how a process gets them.

`python -m datasites.engine.lanes` compiles them, at installation. They are object files beside this package's own
bytecode, in a directory whose name is a hash of every source that a kernel is made of, so kernels of other sources are
never taken for these. Loading one maps machine code that refers to nothing outside of itself; nothing is unpickled,
and neither numba nor a compiler is needed. A confined job loads nothing: it has what its parent loaded before the fork.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.errors import DatasiteError

ROOM = Path(__file__).parent
SOURCES = ("instructions.py", "programs.py", "kernels/*.py")  # all that decides what the machine code does
COMPILER = ("numba 0.68.1", "llvmlite 0.50.0")  # as lock/ pins them

LEVELS = {
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86-64-v3": {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"},
}
"""Levels of processors that kernels are compiled for, the best first, and what each wants beyond the one after it."""

_POINTER, _SIZE, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
ARGUMENTS: dict[str, str] = {
    "place_records": "piiiippp" + "iip",
    "take_records": "piipippi" + "piiippp",
    "sample": "ppipipiii" + "ppppp",
    "step": "ippppppipp",
    "gaussians": "ppiinnppp",
    "run": "pippp" + "iiii" + "pp",
    "add_up": "pippiiippp" + "nnn" + "ppppppp" + "i",
}
"""Of every entry the kinds of its arguments: pointer, size, number."""
_KINDS = {"p": _POINTER, "i": _SIZE, "n": _NUMBER}


class KernelsMissing(DatasiteError):
    """No compiled kernels for these sources and this processor; training goes the former way."""


@dataclass(frozen=True, eq=False)
class Kernels:
    """Machine code in this process: the entries by name, and the level that they were compiled for."""

    level: str
    entries: dict[str, Callable[..., int]]
    engine: Any  # of llvmlite, which owns the memory that the entries are in


_loaded: Kernels | None = None


def fingerprint() -> str:
    """Hash of all that the machine code is made of."""
    hashed = hashlib.sha256("\n".join(COMPILER).encode())
    for pattern in SOURCES:
        for path in sorted(ROOM.glob(pattern)):
            content = path.read_bytes()
            hashed.update(f"\n{path.relative_to(ROOM)} {len(content)}\n".encode() + content)
    return hashed.hexdigest()[:32]


def directory() -> Path:
    """Where kernels of these sources are kept."""
    return ROOM / "__pycache__" / f"kernels-{fingerprint()}"


def level_of_this_processor() -> str:
    """The best of `LEVELS` that this processor has. Raises `KernelsMissing` where it has none."""
    if platform.machine() != "x86_64":
        raise KernelsMissing(f"There are kernels for x86-64 alone, and this is {platform.machine()}.")
    flags = _processor_flags()
    if not LEVELS["x86-64-v3"] <= flags:
        missing = ", ".join(sorted(LEVELS["x86-64-v3"] - flags))
        raise KernelsMissing(f"This processor has no {missing}, which the kernels need.")
    return "x86-64-v4" if LEVELS["x86-64-v4"] <= flags else "x86-64-v3"


def _processor_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())


def loaded() -> Kernels | None:
    """What `load` has loaded into this process or into its parent before the fork; None before."""
    return _loaded


def load() -> Kernels:
    """Load the kernels into this process, once. Raises `KernelsMissing` with the reason where that is not possible."""
    global _loaded
    if _loaded is None:
        _loaded = _load(directory(), level_of_this_processor())
    return _loaded


def unload() -> None:
    """Use the kernels no more in this process and in those that it forks."""
    global _loaded
    _loaded = None


def _load(place: Path, level: str) -> Kernels:
    listed = _index(place, level)
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_triple(binding.get_process_triple())
    machine = target.create_target_machine(codemodel="jitdefault", jit=True)
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    for name, (symbol, digest) in listed.items():
        content = _object(place, level, name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise KernelsMissing(f"The compiled kernel {name} in {place} is damaged. {HOW_TO_COMPILE}")
        engine.add_object_file(binding.ObjectFileRef.from_data(content))
        listed[name] = [symbol, ""]
    engine.finalize_object()
    entries = {name: _function(engine.get_function_address(symbol), name) for name, (symbol, _) in listed.items()}
    return Kernels(level, entries, engine)


HOW_TO_COMPILE = "Run `python -m datasites.engine.lanes`, as the installation does."


def _index(place: Path, level: str) -> dict[str, list[str]]:
    try:
        listed: dict[str, list[str]] = json.loads((place / f"{level}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise KernelsMissing(f"No kernels are compiled for {level} from these sources. {HOW_TO_COMPILE}") from None
    if set(listed) != set(ARGUMENTS):
        raise KernelsMissing(f"The list of kernels in {place} is damaged. {HOW_TO_COMPILE}")
    return listed


def _object(place: Path, level: str, name: str) -> bytes:
    try:
        return (place / f"{level}.{name}.o").read_bytes()
    except OSError:
        raise KernelsMissing(f"The compiled kernel {name} is not in {place}. {HOW_TO_COMPILE}") from None


def _function(address: int, name: str) -> Callable[..., int]:
    """An entry by numba's calling convention: places for a result and an error, then the arguments; 0 is success."""
    kinds = [_KINDS[kind] for kind in ARGUMENTS[name]]
    return ctypes.CFUNCTYPE(ctypes.c_int32, _POINTER, _POINTER, *kinds)(address)


def keep(level: str, objects: dict[str, tuple[str, bytes]]) -> None:
    """Write object files, then the list that makes them count; whoever reads meanwhile sees all of them or none."""
    place = directory()
    place.mkdir(parents=True, exist_ok=True)
    for name, (_, content) in objects.items():
        _replace(place / f"{level}.{name}.o", content)
    listed = {name: [symbol, hashlib.sha256(content).hexdigest()] for name, (symbol, content) in objects.items()}
    _replace(place / f"{level}.json", json.dumps(listed).encode())


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
