"""What compiling needs of libraries: their files, offline, each compared with its digest whenever it is read."""

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from raptr_dsl.diagnostics import RaptrError, did_you_mean, fail
from raptr_dsl.files import shortest
from raptr_dsl.library.address import parse_address
from raptr_dsl.library.cache import Cache
from raptr_dsl.library.lock import LOCK, Lock, Pin, Standard, read_lock
from raptr_dsl.library.manifest import STANDARD, Manifest, read_manifest
from raptr_dsl.library.tree import MANIFEST, VENDOR, digest, read_file, read_folder
from raptr_dsl.resources import schedule_directory
from raptr_dsl.source import Source


class Files(Protocol):
    """Where the files of a library are."""

    def locate(self, path: str) -> tuple[Path, bytes]:
        """Where a file is on this machine, and its content."""
        ...


@dataclass(frozen=True, slots=True)
class Library:
    """One library at one version. `dependencies` are the names that its own schedules may `use`."""

    name: str
    version: str
    exports: tuple[str, ...]
    dependencies: tuple[str, ...]
    files: Files = field(repr=False, compare=False)

    def export(self, path: str) -> str:
        """The file of an exported schedule.

        Raises:
            RaptrError: `library-export`.
        """
        if path in self.exports:
            return f"{path}.raptr"
        nearest = did_you_mean(path, self.exports)
        known = ", ".join(f"{self.name}/{name}" for name in self.exports[:12])
        raise fail(
            "library-export",
            f"`{self.name}` {self.version} has no schedule `{path}`" if path else f"`{self.name}` is a library",
            help=f"did you mean `{self.name}/{nearest}`?" if nearest else f"it exports {known}",
        )

    def source(self, path: str) -> Source:
        """The text of one of its files.

        Raises:
            RaptrError: it is not there, is not what was locked, or is no text.
        """
        try:
            place, data = self.files.locate(path)
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise fail("library-file", f"{path} is not UTF-8", subject=self.name) from error
        return Source(shortest(place), text.removeprefix("\ufeff"), f"{self.name} {self.version}")


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of `std`, which are as trusted as the compiler beside them, but may be of another version of it.

    Attributes:
        locked: what the project was locked with, None where it has no lock.
    """

    root: Path
    library: str
    locked: Standard | None = None

    def locate(self, path: str) -> tuple[Path, bytes]:
        data = read_file(self.root, path, self.library)
        if self.locked is None or path == MANIFEST or digest(data) == self.locked.files.get(path):
            return self.root / path, data
        raise fail(
            "library-changed",
            f"{path} of `std` is not what was locked, which was std {self.locked.version}",
            subject=str(self.root / path),
            notes=_both(self.locked.files.get(path, "nothing"), digest(data)),
            help="install the version of raptr that it was locked with, or accept this one: `raptr lib update std`",
        )


@dataclass(frozen=True, slots=True)
class Pinned:
    """The files of a locked library: the vendored copy, else where it comes from, else the cache."""

    project: Path
    pin: Pin
    cache: Cache

    def read(self, path: str) -> bytes:
        return self.locate(path)[1]

    def locate(self, path: str) -> tuple[Path, bytes]:
        name, locked = self.pin.name, self.pin.files.get(path)
        if locked is None:
            raise fail("library-file", f"`{name}` {self.pin.version} has no file {path}", subject=name)
        where, data = self._found(path, locked)
        found = digest(data)
        if found == locked:
            return where, data
        raise changed(self.pin, path, found, str(where))

    def _found(self, path: str, locked: str) -> tuple[Path, bytes]:
        """Where the file is, and its content. A place that has the library at all has to have it as it was locked."""
        root = self.place()
        if root is not None:
            return root / path, read_file(*_below(root, path), self.pin.name)
        data = self.cache.get(locked)
        if data is None:
            raise fail(
                "library-missing",
                f"`{self.pin.name}` is locked, but not on this machine",
                help="fetch it once with `raptr lib lock`, or keep copies in the project with `raptr lib vendor`",
            )
        return self.cache.path(locked), data

    def place(self) -> Path | None:
        """The folder of the library on this machine, None where it is in the cache alone."""
        vendored = self.project / VENDOR / self.pin.name
        if vendored.is_dir() or vendored.is_symlink():
            return vendored
        address = parse_address(self.pin.source, self.pin.name)
        if address.kind == "folder":
            folder = self.project / address.location
            return folder if folder.is_dir() else None
        if address.kind != "package":
            return None
        from raptr_dsl.library.packages import find_package  # importlib.metadata is slow to import

        located = find_package(address.location, self.pin.name)
        folder = Path(*located) if located else None
        return folder if folder and folder.is_dir() else None


def _below(root: Path, path: str) -> tuple[Path, str]:
    """A vendored library that is a link is refused as a link within the project would be."""
    if root.parent.name == VENDOR:
        return root.parent, f"{root.name}/{path}"
    return root, path


def changed(pin: Pin, path: str, found: str, where: str) -> RaptrError:
    """The refusal of a file that is not what was locked: its name and both digests."""
    return fail(
        "library-changed",
        f"{path} of `{pin.name}` is not what was locked",
        subject=where,
        notes=_both(pin.files.get(path, "nothing"), found),
        help=f"if the change is meant, `raptr lib update {pin.name}` accepts it",
    )


def _both(locked: str, found: str) -> tuple[str, str]:
    return f"locked sha256:{locked}", f"found  sha256:{found}"


class Libraries:
    """The libraries that the schedules of a folder may use.

    Args:
        start: a folder of the project: the nearest one above it with a `raptr.toml` or `raptr.lock` is the project's.
    """

    def __init__(self, start: Path, cache: Cache | None = None) -> None:
        self.start = start
        self.cache = cache or Cache()

    def find(self, name: str, user: Library | None) -> Library:
        """A library by its name.

        Args:
            user: the library whose schedule uses it; None for a schedule of the project.

        Raises:
            RaptrError: `library-unknown`, `library-lock`.
        """
        if name == STANDARD:
            return standard(self.lock.standard)
        if user is not None:
            if name in user.dependencies and name in self.lock:
                return self._pinned(self.lock[name])
            raise self._unknown(name, user)
        declared = self.manifest.dependencies
        if name not in self.lock:
            raise self._unknown(name, None)
        if declared and name in declared and not _is_same(str(declared[name]), self.lock[name]):
            raise fail(
                "library-lock",
                f"{MANIFEST} has `{name}` from {declared[name]}, and {LOCK} from {self.lock[name].source}",
                help="bring the lock up to date with `raptr lib lock`",
            )
        return self._pinned(self.lock[name])

    @cached_property
    def project(self) -> Path | None:
        folder = Path(os.path.abspath(self.start))
        for place in (folder, *folder.parents):
            if (place / LOCK).is_file() or (place / MANIFEST).is_file():
                return place
        return None

    @cached_property
    def lock(self) -> Lock:
        found = read_lock(self.project) if self.project else None
        return Lock({}) if found is None else found

    @cached_property
    def manifest(self) -> Manifest:
        if self.project is None or not (self.project / MANIFEST).is_file():
            return Manifest()
        return read_manifest(read_file(self.project, MANIFEST, MANIFEST), str(self.project / MANIFEST))

    def _pinned(self, pin: Pin) -> Library:
        assert self.project, "a lock has a folder"
        return Library(pin.name, pin.version, pin.exports, pin.dependencies, Pinned(self.project, pin, self.cache))

    def _unknown(self, name: str, user: Library | None) -> RaptrError:
        known = [STANDARD, *(self.lock if user is None else user.dependencies)]
        nearest = did_you_mean(name, known)
        told = f"`{user.name}` does not depend on a library `{name}`" if user else f"there is no library `{name}` here"
        how = f"add it: raptr lib add {name} ADDRESS" if user is None else ""
        if user is None and name in self.manifest.dependencies:
            told, how = f"`{name}` is not locked", "lock it: raptr lib lock"
        elif name in standard().exports:
            nearest, how = "", f"did you mean `{STANDARD}/{name}`?"
        elif name.endswith(".raptr"):
            nearest, how = "", f'a file is named by its path, in quotes: use "./{name}"'
        return fail("library-unknown", told, help=f"did you mean `{nearest}`?" if nearest else how)


def standard(locked: Standard | None = None) -> Library:
    """`std`: the schedules that come with raptr; those that differ from what was locked are refused when read."""
    files = Folder(schedule_directory(), STANDARD, locked)
    manifest = read_manifest(files.locate(MANIFEST)[1], STANDARD)
    return Library(STANDARD, manifest.version, manifest.exports, (), files)


def lock_of_standard() -> Standard:
    """`std` as it is in this installation."""
    tree = read_folder(schedule_directory(), STANDARD)
    files = {path: digest(data) for path, data in sorted(tree.items()) if path.endswith(".raptr")}
    return Standard(standard().version, files)


def _is_same(declared: str, pin: Pin) -> bool:
    return os.path.normpath(declared) == os.path.normpath(pin.source) if declared[0] == "." else declared == pin.source
