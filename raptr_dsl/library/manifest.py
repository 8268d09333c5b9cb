"""`raptr.toml`: what a library is called, what it exports, what it needs. A project has one too."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raptr_dsl.diagnostics import RaptrError, did_you_mean, fail
from raptr_dsl.library.address import Address, parse_address
from raptr_dsl.library.tree import MANIFEST, read_file, require_safe

STANDARD = "std"
MOST_DEPENDENCIES = 100
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})")
_TEXTS = ("name", "version", "licence", "description")
_KEYS = (*_TEXTS, "exports", "dependencies")


@dataclass(frozen=True, slots=True)
class Manifest:
    """See docs/libraries.md. A project that is no library may leave out all but its dependencies.

    Attributes:
        exports: the schedules others may `use`, each the path of a file without `.raptr`.
        dependencies: where each library that the schedules `use` comes from.
    """

    name: str = ""
    version: str = ""
    licence: str = ""
    description: str = ""
    exports: tuple[str, ...] = ()
    dependencies: Mapping[str, Address] = field(default_factory=dict)


def read_manifest(data: bytes, subject: str) -> Manifest:
    """A manifest, all its mistakes reported at once.

    Raises:
        RaptrError: `library-manifest`, `library-name`, `library-address`, `library-path`.
    """
    try:
        content = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise fail("library-manifest", f"this is not TOML: {error}", subject=subject) from error
    errors: list[RaptrError] = []
    for key in content.keys() - set(_KEYS):
        nearest = did_you_mean(key, _KEYS)
        help = f"did you mean `{nearest}`?" if nearest else f"legal here: {', '.join(_KEYS)}"
        errors.append(fail("library-manifest", f"a manifest has no `{key}`", subject=subject, help=help))
    errors += [
        fail("library-manifest", f"`{key}` is not a text", subject=subject)
        for key in _TEXTS
        if not isinstance(content.get(key, ""), str)
    ]
    name, version = content.get("name", ""), content.get("version", "")
    if isinstance(name, str) and name and not _NAME.fullmatch(name):
        errors.append(_bad_name(name, subject))
    if isinstance(version, str) and version and not _VERSION.fullmatch(version):
        help = 'write three numbers: version = "1.2.0"'
        errors.append(fail("library-manifest", f"`{version}` is not a version", subject=subject, help=help))
    exports = _exports(content.get("exports", []), subject, errors)
    dependencies = _dependencies(content.get("dependencies", {}), subject, errors)
    if errors:
        raise RaptrError(item for error in errors for item in error.diagnostics)
    texts = {key: content.get(key, "") for key in _TEXTS}
    return Manifest(**texts, exports=exports, dependencies=dependencies)


def load_manifest(folder: Path) -> Manifest:
    """The manifest of the library in a folder.

    Raises:
        RaptrError: there is none (`library-manifest`), or it cannot be read.
    """
    if not (folder / MANIFEST).exists():
        raise no_manifest(folder, str(folder), str(folder))
    return read_manifest(read_file(folder, MANIFEST, str(folder)), str(folder / MANIFEST))


def no_manifest(folder: Path, shown: str, subject: str) -> RaptrError:
    """`raptr lib new acme` puts the library into acme/acme_schedules; whoever names acme means that."""
    if not folder.is_dir():
        return fail("library-manifest", f"there is no folder {shown}", subject=subject)
    inside = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
    help = f"did you mean {shown.rstrip('/')}/{inside[0]}?" if inside else "`raptr lib new FOLDER` makes a library"
    return fail("library-manifest", f"there is no {MANIFEST} in {shown}", subject=subject, help=help)


def require_library(manifest: Manifest, name: str, subject: str) -> Manifest:
    """The manifest, if it is one of a library that calls itself as those who use it do.

    Raises:
        RaptrError: `library-manifest`, `library-name`.
    """
    missing = [key for key in ("name", "version", "licence", "exports") if not getattr(manifest, key)]
    if missing:
        told = " and ".join(f"`{key}`" for key in missing)
        raise fail("library-manifest", f"the manifest of a library has {told}; this one does not", subject=subject)
    if manifest.name != name:
        raise fail(
            "library-name",
            f"the library calls itself `{manifest.name}`, and is to be `{name}`",
            subject=subject,
            help=f"depend on it as `{manifest.name}`",
        )
    return manifest


def require_name(name: str, subject: str) -> None:
    """Refuses what cannot be the name of a dependency: `std` comes with raptr, and nothing takes its place."""
    if name == STANDARD:
        raise fail("library-name", "`std` is the library that comes with raptr", subject=subject, help="rename it")
    if not _NAME.fullmatch(name):
        raise _bad_name(name, subject)


def _bad_name(name: str, subject: str) -> RaptrError:
    return fail(
        "library-name",
        f"{name[:70]!r} is not the name of a library",
        subject=subject,
        help="use lower-case letters, digits, - and _, beginning with a letter",
    )


def _exports(value: Any, subject: str, errors: list[RaptrError]) -> tuple[str, ...]:
    if not _is_list_of_texts(value):
        errors.append(fail("library-manifest", "`exports` is not a list of texts", subject=subject))
        return ()
    for path in value:
        try:
            require_safe(f"{path}.raptr", subject)
        except RaptrError as error:
            errors.append(error)
    return tuple(value)


def _dependencies(value: Any, subject: str, errors: list[RaptrError]) -> dict[str, Address]:
    if not isinstance(value, dict) or not _is_list_of_texts(list(value.values())):
        errors.append(fail("library-manifest", "`dependencies` is not a table of addresses", subject=subject))
        return {}
    if len(value) > MOST_DEPENDENCIES:
        errors.append(fail("library-limit", f"there are more than {MOST_DEPENDENCIES} dependencies", subject=subject))
        return {}
    found: dict[str, Address] = {}
    for name, text in value.items():
        try:
            require_name(name, subject)
            found[name] = parse_address(text, f"{subject}: {name}")
        except RaptrError as error:
            errors.append(error)
    return found


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def render_manifest(name: str, version: str, licence: str, exports: Iterable[str], description: str) -> str:
    """The manifest of a new library."""
    listed = ", ".join(f'"{path}"' for path in exports)
    return (
        f'name = "{name}"\nversion = "{version}"\nlicence = "{licence}"\ndescription = "{description}"\n'
        f"exports = [{listed}]\n\n[dependencies]\n"
    )
