"""Every installed backend: a new one joins the shared tests by being registered."""

import jax
import pytest

from raptr_dsl.backend import Backend
from raptr_dsl.registry import installed, load_to_run

BACKENDS = sorted(name for name, declared in installed().items() if declared.distribution == "raptr-dsl")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return load_to_run(request.param)


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Trainers of one shape in different tests share their compiled programs by JAX's persistent cache."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
