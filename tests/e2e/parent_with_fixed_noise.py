"""A runner's warm parent whose jobs draw the same every time: for tests that compare two of them to the bit.

python tests/e2e/parent_with_fixed_noise.py SOCKET
"""

from __future__ import annotations

import sys

from datasites.engine.noise import NoiseSource
from datasites.jobs.parent import main

if __name__ == "__main__":
    NoiseSource.from_os = classmethod(lambda cls: cls(bytes(range(32))))  # type: ignore[method-assign,assignment]
    main(["runner", sys.argv[1], "--alone"])
