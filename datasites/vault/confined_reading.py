"""Read a file of a foreign format in a process of its own, which may take so much memory and time and no more.

Readers of workbooks and of SAS files follow what a file says of itself, so a file made to do harm could let one take
all memory or never end. The process gets the path and a file in memory to write its answer to, as Arrow's stream of
records or as a refusal; nothing of it is on a disk. `python -m datasites.vault.confined_reading` is that process.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from policies.errors import DataRefused
from policies.schema.as_written import FileFormat

LARGEST_MEMORY = 8 << 30  # bytes of address space; a workbook of a million rows and ten columns takes a fifth
LONGEST_SECONDS = 1800  # of a processor; such a workbook takes a minute or two
_REFUSED = 3  # exit status of a process that wrote why


def read_confined(path: Path, file: FileFormat) -> Any:
    """The table of a workbook or a SAS file as a pyarrow table, texts or typed columns.

    Raises:
      DataRefused: what the file cannot be read for, with rows where it is they; or it needs too much memory or time.
    """
    import pyarrow as pa

    descriptor = os.memfd_create("table", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "rb") as answer:
        arguments = [str(descriptor), str(path.resolve()), json.dumps(file.as_dict())]
        limits = [str(LARGEST_MEMORY), str(LONGEST_SECONDS)]
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ}
        done = subprocess.run(
            [sys.executable, "-m", "datasites.vault.confined_reading", *arguments, *limits],
            env=kept,
            pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        answer.seek(0)
        if done.returncode == _REFUSED:
            raise DataRefused(**json.load(answer))
        if done.returncode:
            raise _ended(path, done.returncode)
        table = pa.ipc.open_stream(pa.memory_map(f"/proc/self/fd/{descriptor}")).read_all()
        table.validate(full=True)
    return table


def _ended(path: Path, status: int) -> DataRefused:
    if status == -signal.SIGXCPU:
        return DataRefused(
            f"{path.name} takes longer to read than {LONGEST_SECONDS} s of a processor. Save it as CSV or Parquet."
        )
    return DataRefused(
        f"{path.name} let its reader fail (status {status}), or needs more than {LARGEST_MEMORY >> 30} GiB of memory to"
        " be read. Save it as CSV or Parquet."
    )


# -- in the process --------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Read one file into the descriptor given; the exit status says whether it holds a table or a refusal."""
    descriptor, path, written, memory, seconds = arguments
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    file = FileFormat.from_dict(json.loads(written))
    with open(int(descriptor), "wb") as answer, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of styles, charts and the like, which nobody here reads
        try:
            _write(Path(path), file, answer)
        except DataRefused as refusal:
            said = {"message": str(refusal), "faults": list(refusal.faults), "total": refusal.total}
        except MemoryError:
            said = {
                "message": f"{Path(path).name} needs more than {int(memory) / (1 << 30):.3g} GiB of memory to be read."
                " Save it as CSV or Parquet."
            }
        else:
            return 0
        answer.seek(0)
        answer.truncate()
        answer.write(json.dumps(said).encode())
    return _REFUSED


def _write(path: Path, file: FileFormat, answer: Any) -> None:
    """Read a file and write it piece by piece, so that it is never whole in memory."""
    import pyarrow as pa

    from datasites.vault.sas import read_sas
    from datasites.vault.workbooks import read_workbook

    pieces: Iterator[Any] = read_workbook(path, file) if path.suffix.lower() == ".xlsx" else read_sas(path)
    first = next(pieces)
    with contextlib.closing(pa.ipc.new_stream(answer, first.schema)) as stream:
        stream.write_table(first)
        for piece in pieces:
            stream.write_table(piece)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
