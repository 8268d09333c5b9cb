"""Two teams, for real: one library a wheel that pip installs, one a git repository; a project that uses both."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.library.conftest import git, library, repository, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RAPTR = Path(sys.executable).parent / "raptr"
MAIN = """\
use acme/small as warm
use other/small
run warm(small=4/12) steps=40%
run small steps=rest
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library `acme`, as `raptr lib new` makes it and `python -m build` packs it."""
    folder = tmp_path_factory.mktemp("acme-package")
    for command in (
        [RAPTR, "lib", "new", folder, "--name", "acme"],
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", folder],
    ):
        if command[0] == sys.executable:
            marker = folder / "acme_schedules" / "__init__.py"
            marker.write_text("raise SystemExit('a library must never be imported')\n")
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture
def site(wheel: Path, tmp_path: Path) -> Path:
    """A folder into which pip has installed the wheel."""
    folder = tmp_path / "site"
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)
    return folder


@pytest.fixture
def raptr(tmp_path: Path, site: Path) -> Run:
    """`raptr ARGUMENTS` as a process of its own in the project; offline it finds neither git nor the repository."""
    root = write(tmp_path / "project", {"main.raptr": MAIN})

    def run(*arguments: str, online: bool = False) -> Done:
        environment = os.environ | {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(tmp_path / "xdg")}
        if not online:
            environment["PATH"] = ""
        done = subprocess.run([RAPTR, *arguments], cwd=root, env=environment, capture_output=True, text=True)
        return Done(done.returncode, done.stdout, done.stderr)

    return run


def test_lock_go_offline_compile_and_refuse_one_byte(raptr: Run, tmp_path: Path, site: Path) -> None:
    commit = repository(library(tmp_path / "other", "other"))
    added = raptr("lib", "add", "acme", "package:acme-schedules", online=True)
    assert added.code == 0, added.err
    added = raptr("lib", "add", "other", f"git+file://{tmp_path}/other@main", online=True)
    assert added.code == 0 and commit[:12] in added.err, added.err

    (tmp_path / "other").rename(tmp_path / "unreachable")
    compiled = raptr("compile", "main.raptr", "--model", "bert-base", "--steps", "1000")
    assert compiled.code == 0, compiled.err
    assert raptr("lib", "verify").code == 0
    plan = (tmp_path / "project" / "main.plan.json").read_bytes()

    # One byte of the installed package.
    installed = site / "acme_schedules" / "small.raptr"
    good = installed.read_bytes()
    installed.write_bytes(good.replace(b"50%", b"51%"))
    refused = raptr("compile", "main.raptr", "--model", "bert-base", "--steps", "1000")
    assert refused.code == 1
    assert "error[library-changed]" in refused.err and str(installed) in refused.err
    assert refused.err.count("sha256:") == 2
    assert raptr("lib", "verify").code == 1
    installed.write_bytes(good)

    # One byte of the cached repository.
    (kept,) = [path for path in (tmp_path / "xdg").rglob("*") if path.is_file() and b'doc "small' in path.read_bytes()]
    content = kept.read_bytes()
    kept.write_bytes(content.replace(b"50%", b"51%"))
    refused = raptr("compile", "main.raptr", "--model", "bert-base", "--steps", "1000")
    assert refused.code == 1 and "small.raptr of `other`" in refused.err and refused.err.count("sha256:") == 2
    kept.write_bytes(content)

    # Vendored, neither the package nor the cache is needed.
    assert raptr("lib", "vendor").code == 0
    kept.unlink()
    installed.unlink()
    again = raptr("compile", "main.raptr", "--model", "bert-base", "--steps", "1000")
    assert again.code == 0, again.err
    assert (tmp_path / "project" / "main.plan.json").read_bytes() == plan


def test_a_change_upstream_reaches_the_project_by_an_update_alone(raptr: Run, tmp_path: Path) -> None:
    repository(library(tmp_path / "other", "other"))
    raptr("lib", "add", "acme", "package:acme-schedules", online=True)
    raptr("lib", "add", "other", f"git+file://{tmp_path}/other@main", online=True)
    library(tmp_path / "other", "other", "2.0.0", text="stage full steps=rest\n")
    git(tmp_path / "other", "commit", "--quiet", "--all", "--message", "2.0.0")
    assert "other 1.0.0" in raptr("lib", "list", online=True).out
    assert raptr("lib", "lock", online=True).code == 0
    assert "other 1.0.0" in raptr("lib", "list", online=True).out
    assert raptr("lib", "update", "other", online=True).code == 0
    assert "other 2.0.0" in raptr("lib", "list", online=True).out
