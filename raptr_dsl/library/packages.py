"""Libraries in installed Python packages: found by metadata, read as files. No code of theirs ever runs.

A package says `[project.entry-points."raptr_dsl.libraries"]` `acme = "acme_schedules"`: the library `acme` is the
folder of the package `acme_schedules`.
"""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from raptr_dsl.diagnostics import fail
from raptr_dsl.library.tree import Tree, belongs, read_file, require_bounded, require_safe

GROUP = "raptr_dsl.libraries"
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


def find_package(package: str, library: str) -> tuple[Path, str] | None:
    """The root of an installation and the folder of a library in it; None where the package is not installed.

    Raises:
        RaptrError: `library-package`: it provides no such library.
    """
    try:
        found = distribution(package)
    except PackageNotFoundError:
        return None
    return Path(str(found.locate_file(""))), _folder(found, package, library)


def read_package(package: str, library: str) -> Tree:
    """The files of a library that the installer has on record.

    Raises:
        RaptrError: `library-package`, and what reading files may raise.
    """
    located = find_package(package, library)
    if located is None:
        raise fail(
            "library-package",
            f"the Python package {package} is not installed here",
            subject=library,
            help=f"install it: pip install {package}",
        )
    root, folder = located
    prefix = f"{folder}/"
    recorded = [path.as_posix() for path in distribution(package).files or ()]
    inside = [path.removeprefix(prefix) for path in recorded if path.startswith(prefix)]
    for path in inside:
        if belongs(path):
            require_safe(path, library)
    tree = {path: read_file(root, prefix + path, library) for path in inside if belongs(path)}
    if not tree:
        raise fail(
            "library-package",
            f"the package {package} has no files of `{library}` on record, as where it is installed editable",
            subject=library,
            help="install it as it is published, or depend on its folder",
        )
    return require_bounded(tree, library)


def _folder(found: Distribution, package: str, library: str) -> str:
    values = [entry.value for entry in found.entry_points if entry.group == GROUP and entry.name == library]
    if len(values) == 1 and _MODULE.fullmatch(values[0]):
        return values[0].replace(".", "/")
    names = sorted(entry.name for entry in found.entry_points if entry.group == GROUP)
    provided = f"it provides {', '.join(names)}" if names else f"it has no entry point in the group {GROUP}"
    raise fail("library-package", f"the package {package} does not provide `{library}`", subject=library, help=provided)
