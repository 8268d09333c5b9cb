"""The wheel as users get it: built two ways, installed in a fresh environment, used from elsewhere."""

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parent.parent
PRINT_SITE = "import sysconfig; print(sysconfig.get_path('purelib'))"


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def build(output: Path, *options: str) -> Path:
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", output, *options, ROOT, cwd=output)
    (wheel,) = output.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"), "--wheel")


@pytest.fixture(scope="module")
def wheel_from_sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sdist"))


@dataclass(frozen=True)
class Installation:
    """A virtual environment with the wheel in it, and a directory that is not the repository."""

    environment: Path
    elsewhere: Path

    def script(self, name: str, *arguments: str | Path) -> str:
        return run(self.environment / "bin" / name, *arguments, cwd=self.elsewhere)

    def python(self, code: str) -> str:
        return self.script("python", "-c", code).strip()


@pytest.fixture(scope="module")
def installed(wheel_from_sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    environment, elsewhere = tmp_path_factory.mktemp("venv"), tmp_path_factory.mktemp("elsewhere")
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=elsewhere)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel_from_sdist, cwd=elsewhere)
    # The dependencies come from the environment of the tests, without the network. Python does not read
    # the .pth files of a directory that a .pth file adds, so the editable install there stays out of sight.
    site = Path(run(python, "-c", PRINT_SITE, cwd=elsewhere).strip())
    (site / "borrowed_dependencies.pth").write_text(run(sys.executable, "-c", PRINT_SITE, cwd=elsewhere))
    return Installation(environment, elsewhere)


def files_of(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def test_both_ways_to_the_wheel_give_the_same_files(wheel: Path, wheel_from_sdist: Path) -> None:
    assert files_of(wheel) == files_of(wheel_from_sdist)


def test_wheel_holds_the_tracked_files_of_the_package_and_nothing_else(wheel: Path) -> None:
    moved = {"backends/": "", "grammars/": "raptr_dsl/grammars/", "schedules/": "raptr_dsl/schedules/"}
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "raptr_dsl", *moved, cwd=ROOT)
    expected = set()
    for name in tracked.splitlines():
        prefix = next((prefix for prefix in moved if name.startswith(prefix)), "")
        expected.add(moved.get(prefix, "") + name.removeprefix(prefix))
    assert files_of(wheel) == expected


def test_modules_come_from_the_wheel(installed: Installation) -> None:
    for name in ("raptr_dsl", "raptr_reference"):
        origin = Path(installed.python(f"import {name}; print({name}.__file__)"))
        assert origin.is_relative_to(installed.environment)


def test_data_files_are_found(installed: Installation) -> None:
    grammar = Path(installed.python("from raptr_dsl.resources import grammar_file; print(grammar_file())"))
    assert grammar.is_relative_to(installed.environment)
    assert grammar.read_bytes() == (ROOT / "grammars" / "raptr.lark").read_bytes()


def test_version_is_that_of_the_distribution(installed: Installation) -> None:
    version = installed.python("from importlib.metadata import version; print(version('raptr-dsl'))")
    assert installed.python("import raptr_dsl; print(raptr_dsl.__version__)") == version
    assert version in installed.script("raptr", "--version")


def test_a_shipped_schedule_checks_and_compiles(installed: Installation) -> None:
    directory = installed.python("from raptr_dsl.resources import schedule_directory; print(schedule_directory())")
    schedules = sorted(Path(directory).rglob("*.raptr"))
    assert schedules
    installed.script("raptr", "check", *schedules)
    (installed.elsewhere / "own.raptr").write_text("stage depth=6/12 steps=50%\nstage steps=rest\n")
    installed.script("raptr-compile", "own.raptr", "--model", "bert-base", "--steps", "1000", "-o", "own.plan.json")
    assert (installed.elsewhere / "own.plan.json").stat().st_size > 0


def test_backends_are_listed(installed: Installation) -> None:
    listing = installed.script("raptr", "backends")
    for name in ("jax", "reference", "torch"):
        assert name in listing
