"""What accounting imports of scipy: special functions to price a request; the rest where a distribution is wanted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from policies.privacy import accountant

PROGRAM = """
import json, sys
from policies.privacy import accountant

def parts():
    return sorted({".".join(name.split(".")[:2]) for name in sys.modules if name.startswith("scipy.")})

renyi = accountant._gaussian_epsilon(1.1, 0.02, 500, 1e-6)
before = parts()
pld = [accountant._pld_gaussian(1.1, 0.02, 500, 1e-6), accountant._pld_pure(0.1, 20, 1e-6)]
print(json.dumps([renyi, pld, before, parts()]))
"""


@pytest.mark.process
def test_pricing_imports_special_functions_alone_and_says_what_it_says_with_everything() -> None:
    import scipy.signal
    import scipy.stats  # noqa: F401

    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    renyi, pld, before, after = json.loads(done.stdout)
    assert "scipy.special" in before
    assert not {"scipy.fft", "scipy.optimize", "scipy.signal", "scipy.stats"} & set(before)
    assert "scipy.fft" in after
    assert renyi == accountant._gaussian_epsilon(1.1, 0.02, 500, 1e-6)
    assert pld == [accountant._pld_gaussian(1.1, 0.02, 500, 1e-6), accountant._pld_pure(0.1, 20, 1e-6)]
