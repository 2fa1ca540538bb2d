"""Decode pictures and arrays in a process of its own, which may take so much memory and time for each and no more.

Decoders follow what a file says of itself: a picture of a few bytes can say that it is enormous, and one made to do
harm can use a fault of its decoder. The process gets declarations at its start and then the contents of one file after
the other; it opens no file, and answers numbers or a fault. `python -m datasites.vault.tensor_decoding` is it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, BinaryIO, Self

import numpy as np

from datasites.vault.tensor_faults import NO_MEMORY, TensorFault
from datasites.vault.tensor_values import decoded
from policies.schema.tensors import Stored, Tensor
from policies.text import visible

LARGEST_FILE = 256 << 20  # bytes
LARGEST_MEMORY = 4 << 30  # bytes of address space
LONGEST_SECONDS = 60.0  # of one file
LONGEST_FAULT = 500  # characters

_ASKED = struct.Struct("!HHQ")  # place of the tensor, bytes of the ending, bytes of the content
_ANSWERED = struct.Struct("!BQ")  # whether it is a fault, bytes of the answer


class Decoder:
    """The process, started when it is first asked, and again where a file ended it. Use it in a `with`."""

    def __init__(self, tensors: Sequence[Tensor], *, seconds: float = LONGEST_SECONDS) -> None:
        self._tensors, self._seconds = tuple(tensors), seconds
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, tensor: Tensor, kind: str, content: bytes) -> Stored:
        """What is kept of a file's content. Raises `TensorFault`, also where it let the decoder fail."""
        process = self._process = self._process or self._started()
        assert process.stdin is not None
        ending = kind.encode()
        try:
            process.stdin.write(_ASKED.pack(self._tensors.index(tensor), len(ending), len(content)) + ending + content)
            process.stdin.flush()
            deadline = time.monotonic() + self._seconds
            is_fault, size = _ANSWERED.unpack(self._read(_ANSWERED.size, deadline))
            if size != tensor.record_bytes and not (is_fault and size <= 4 * LONGEST_FAULT):
                raise EOFError
            answer = self._read(size, deadline)
        except TimeoutError:
            self.close()
            raise TensorFault(f"takes longer than {self._seconds:g} s to decode; save it smaller") from None
        except (OSError, EOFError):
            self.close()
            raise TensorFault("let its decoder fail; save it anew, or leave the record out") from None
        if is_fault:
            raise TensorFault(visible(answer.decode("utf-8", "replace"))[:LONGEST_FAULT])
        return np.frombuffer(answer, np.dtype(tensor.dtype).newbyteorder("<")).reshape(tensor.shape)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(OSError):
                process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ}
        declared = json.dumps([[tensor.name, tensor.as_dict()] for tensor in self._tensors])
        return subprocess.Popen(
            [sys.executable, "-m", "datasites.vault.tensor_decoding", declared, str(LARGEST_MEMORY)],
            env={**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor, parts = self._process.stdout.fileno(), bytearray()
        while len(parts) < size:
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            part = os.read(descriptor, min(size - len(parts), 1 << 20))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)


# -- in the process --------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Answer one file after the other until there is none."""
    declared, memory = arguments
    tensors = [Tensor.from_dict(name, fields) for name, fields in json.loads(declared)]
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asks, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    while header := _exactly(asks, _ASKED.size):
        place, ending, size = _ASKED.unpack(header)
        kind, content = _exactly(asks, ending).decode(), _exactly(asks, size)
        is_fault, answer = _answer(tensors[place], kind, content)
        answers.write(_ANSWERED.pack(is_fault, len(answer)) + answer)
        answers.flush()
    return 0


def _answer(tensor: Tensor, kind: str, content: bytes) -> tuple[bool, bytes]:
    try:
        return False, decoded(tensor, kind, content).tobytes()
    except TensorFault as fault:
        return True, str(fault)[:LONGEST_FAULT].encode("utf-8", "replace")
    except MemoryError:
        return True, NO_MEMORY.encode()


def _exactly(asks: BinaryIO | Any, size: int) -> bytes:
    content: bytes = asks.read(size)
    return content if len(content) == size else b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
