"""A new library: a Python package around a folder of schedules, so that pip, git and a path all find it."""

from collections.abc import Iterator
from pathlib import Path

from raptr_dsl.diagnostics import fail
from raptr_dsl.files import replacing
from raptr_dsl.library.manifest import render_manifest, require_name
from raptr_dsl.library.packages import GROUP
from raptr_dsl.library.tree import MANIFEST

FIRST = """\
doc "Half of the blocks, then all of them: say here where the method comes from"

param small: fraction in 1/12 .. 1 = 6/12

keep depth=[first, last]
default scale=sqrt

stage small depth=small steps=50%
stage full steps=rest
"""

PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}-schedules"
version = "0.1.0"
description = "Schedules for raptr_dsl"
license = "{licence}"

[project.entry-points."{group}"]
{name} = "{module}"

[tool.hatch.build.targets.wheel]
packages = ["{module}"]
"""


def make_library(folder: Path, name: str, licence: str) -> Iterator[Path]:
    """Writes the files of a new library, and says which.

    Raises:
        RaptrError: `library-name`; `output-exists` if a file is there; `output-write`.
    """
    require_name(name, str(folder))
    module = f"{name.replace('-', '_')}_schedules"
    files = {
        Path("pyproject.toml"): PROJECT.format(name=name, licence=licence, module=module, group=GROUP),
        Path(module, MANIFEST): render_manifest(name, "0.1.0", licence, ["small"], "What these schedules are for"),
        Path(module, "small.raptr"): FIRST,
    }
    for path in files:
        if (folder / path).exists():
            raise fail("output-exists", "this file is there already", subject=str(folder / path))
    for path, text in files.items():
        target = folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as file:
                file.write(text.encode())
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise fail("output-write", f"this file cannot be written: {reason}", subject=str(target)) from error
        yield target
