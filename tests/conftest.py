"""What every test shares: hypothesis profiles and golden files."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

# Workers share the cores: one thread each, set before torch or numpy are imported anywhere (subprocesses inherit it).
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Small programs that run once or twice: only that they compile fast matters. `make bench` sets it empty.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1",
)

# The gate draws the same examples every time, so that a red run is about the change; `make fuzz` looks for new ones.
settings.register_profile("gate", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("fuzz", deadline=None, max_examples=50, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files instead of comparing with them")


@dataclass(frozen=True)
class Golden:
    """Compares text with a file that holds what is expected; `golden(path, actual)`."""

    update: bool

    def __call__(self, path: Path, actual: str) -> None:
        """Fails with a diff unless `path` holds exactly `actual`; under `update` writes it there."""
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(actual.encode())
            return
        if not path.exists():
            pytest.fail(f"no golden file {path}: read the output below, then run with --update-golden\n\n{actual}")
        expected = path.read_bytes().decode()
        if actual == expected:
            return
        diff = difflib.unified_diff(
            expected.splitlines(), actual.splitlines(), f"{path.name} (expected)", "actual", lineterm=""
        )
        lines = "\n".join(diff) or "only line ends or the last newline differ"
        pytest.fail(f"{path} is not what the code prints now; if that is right, run with --update-golden\n{lines}")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(update=request.config.getoption("--update-golden"))
