"""Compile the kernels: `python -m datasites.engine.lanes [--again]`, at installation or when an image is built.

Each level of processors is compiled by a process of its own, beside the others, since numba takes its setting when it
is imported. Kernels of former sources are removed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from datasites.engine.lanes import compiled


def main(arguments: list[str]) -> None:
    """Compile what is missing, or everything `--again`."""
    place = compiled.directory()
    wanted = [name for name in compiled.LEVELS if "--again" in arguments or not (place / f"{name}.json").exists()]
    for former in place.parent.glob("kernels-*"):
        if former != place:
            shutil.rmtree(former, ignore_errors=True)
    compiling = [(level, _compiling(level)) for level in wanted]
    if failed := [level for level, process in compiling if process.wait()]:
        sys.exit(f"The kernels for {' and '.join(failed)} could not be compiled; what is printed above says why.")


def _compiling(level: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "NUMBA_CPU_NAME": level, "NUMBA_CPU_FEATURES": "", "NUMBA_OPT": "3"}
    return subprocess.Popen([sys.executable, "-m", "datasites.engine.lanes", level], env=environment)


def compile_one(level: str) -> None:
    """Compile all kernels for the level that the environment names."""
    from datasites.engine.lanes.kernels import compiler

    objects = {}
    for name in compiler.ENTRIES:
        symbol, content, _ = compiler.compiled(name)
        objects[name] = (symbol, content)
    compiled.keep(level, objects)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in compiled.LEVELS:
        compile_one(sys.argv[1])
    else:
        main(sys.argv[1:])
