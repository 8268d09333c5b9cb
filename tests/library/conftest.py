"""Libraries and projects to write down in a line, each in a folder of its own, with a cache of its own."""

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from raptr_dsl.api import check_file
from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.library.project import Project
from raptr_dsl.render import render_text

Make = Callable[..., Project]

SMALL = """\
doc "small, then all"
param small: fraction in 2/12 .. 1 = 6/12
stage small depth=small steps=50%
stage full steps=rest
"""


def manifest(name: str, version: str = "1.0.0", exports: tuple[str, ...] = ("small",), **needs: str) -> str:
    listed = ", ".join(f'"{path}"' for path in exports)
    lines = "".join(f'{other} = "{address}"\n' for other, address in needs.items())
    return f'name = "{name}"\nversion = "{version}"\nlicence = "MIT"\nexports = [{listed}]\n[dependencies]\n{lines}'


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def library(folder: Path, name: str, version: str = "1.0.0", text: str = SMALL, **needs: str) -> Path:
    """A library `name` that exports `small`."""
    return write(folder, {"raptr.toml": manifest(name, version, **needs), "small.raptr": text})


def git(folder: Path, *arguments: str) -> str:
    options = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(["git", *options, *arguments], cwd=folder, capture_output=True, text=True, env=inherited)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def repository(folder: Path) -> str:
    """Makes a git repository of a folder; the commit."""
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "x")
    return git(folder, "rev-parse", "HEAD")


def code(action: Callable[[], object]) -> str:
    """The code with which an action is refused."""
    with pytest.raises(RaptrError) as caught:
        action()
    assert render_text(caught.value.diagnostics)
    return caught.value.diagnostics[0].code


def used(made: Project, text: str = "use acme/small\nrun small steps=rest\n") -> list[str]:
    write(made.root, {"main.raptr": text})
    return [item.code for item in check_file(made.root / "main.raptr").diagnostics]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "raptr_dsl" / "libraries"


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Project]:
    """`project(acme="../acme")`: a project that depends on these, not locked yet."""

    def make(**needs: str) -> Project:
        root = tmp_path / "project"
        lines = "".join(f'{name} = "{address}"\n' for name, address in needs.items())
        write(root, {"raptr.toml": f"[dependencies]\n{lines}"})
        return Project.around(root)

    return make
