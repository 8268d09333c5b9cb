"""Every installed backend: a new one joins the shared tests by being registered."""

import pytest

from raptr_dsl.backend import Backend
from raptr_dsl.registry import installed, load_to_run

BACKENDS = sorted(name for name, declared in installed().items() if declared.distribution == "raptr-dsl")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return load_to_run(request.param)
