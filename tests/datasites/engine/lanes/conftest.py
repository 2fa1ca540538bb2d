from __future__ import annotations

import pytest

from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import Kernels, KernelsMissing


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    """The kernels that the installation compiled, for these tests alone: others train as if there were none.

    Tests are left out on a processor that has none.
    """
    try:
        level = compiled.level_of_this_processor()
    except KernelsMissing as error:
        pytest.skip(str(error))
    return compiled._load(compiled.directory(), level)
