from __future__ import annotations

import pytest

from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import Kernels, KernelsMissing


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    """The kernels that the installation compiled; tests are left out on a processor that has none."""
    try:
        compiled.level_of_this_processor()
    except KernelsMissing as error:
        pytest.skip(str(error))
    return compiled.load()
