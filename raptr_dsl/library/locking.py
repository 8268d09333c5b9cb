"""From a project's manifest to its lock: the only code that fetches libraries."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.library.address import Address, parse_address
from raptr_dsl.library.cache import Cache
from raptr_dsl.library.git import read_git
from raptr_dsl.library.libraries import Pinned, changed
from raptr_dsl.library.lock import Pin
from raptr_dsl.library.manifest import Manifest, no_manifest, read_manifest, require_library
from raptr_dsl.library.packages import read_package
from raptr_dsl.library.remote import read_remote
from raptr_dsl.library.tree import MANIFEST, Tree, digest, read_folder

MOST_LIBRARIES = 256
DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Wanted:
    """A library that something needs; `chain` are the libraries that led to it, the project's own first."""

    name: str
    address: Address
    chain: tuple[str, ...] = ()

    def shown(self) -> str:
        return " → ".join(("the project", *self.chain, self.name))


def make_lock(
    project: Path, manifest: Manifest, before: Mapping[str, Pin], renew: Iterable[str], cache: Cache
) -> dict[str, Pin]:
    """What a project needs, with what those libraries need.

    A library of `before` at the same address keeps its pin, so long as its files are at hand, unless it is in `renew`.

    Raises:
        RaptrError: something cannot be fetched, is not sound, or is needed at two versions or by itself.
    """
    return _Locker(project, before, frozenset(renew), cache).lock(manifest)


def fetch(project: Path, name: str, address: Address) -> tuple[Tree, Manifest, str]:
    """The files of a library, its manifest, and the commit where there is one.

    Raises:
        RaptrError: it cannot be fetched or is not sound.
    """
    commit = ""
    match address.kind:
        case "folder":
            if not (project / address.location).is_dir():
                raise fail("library-file", f"there is no folder {address}", subject=name)
            tree = read_folder(project / address.location, name)
        case "package":
            tree = read_package(address.location, name)
        case "git":
            tree, commit = read_git(address, name)
        case "remote":
            tree = read_remote(address.location, name)
    if MANIFEST not in tree:
        if address.kind == "folder":
            raise no_manifest(project / address.location, str(address), name)
        raise fail("library-manifest", f"there is no {MANIFEST} at {address}", subject=name)
    manifest = require_library(read_manifest(tree[MANIFEST], f"{name}/{MANIFEST}"), name, f"{name}/{MANIFEST}")
    missing = [path for path in manifest.exports if f"{path}.raptr" not in tree]
    if missing:
        raise fail("library-manifest", f"it exports {missing[0]}, and has no {missing[0]}.raptr", subject=name)
    return tree, manifest, commit


class _Locker:
    def __init__(self, project: Path, before: Mapping[str, Pin], renew: frozenset[str], cache: Cache) -> None:
        self.project, self.before, self.renew, self.cache = project, before, renew, cache
        self.pins: dict[str, Pin] = {}
        self.first: dict[str, Wanted] = {}

    def lock(self, manifest: Manifest) -> dict[str, Pin]:
        waiting = [Wanted(name, address) for name, address in sorted(manifest.dependencies.items())]
        errors: list[RaptrError] = []
        while waiting:
            wanted = waiting.pop(0)
            try:
                waiting += self.add(wanted)
            except RaptrError as error:
                errors.append(error)
        if errors:
            raise RaptrError(item for error in errors for item in error.diagnostics)
        _refuse_circles(self.pins)
        return self.pins

    def add(self, wanted: Wanted) -> list[Wanted]:
        """Pins one library, and says what it needs in turn."""
        if len(wanted.chain) >= DEEPEST or len(self.pins) >= MOST_LIBRARIES:
            what = f"more than {DEEPEST} deep" if len(wanted.chain) >= DEEPEST else f"more than {MOST_LIBRARIES}"
            raise fail("library-limit", f"the libraries are {what}", subject=wanted.shown())
        known = self.pins.get(wanted.name)
        if known is None:
            pin, needs = self.pin(wanted)
            self.pins[wanted.name], self.first[wanted.name] = pin, wanted
            return needs
        if known.source != str(wanted.address):
            self.require_same(known, wanted)
        return []

    def pin(self, wanted: Wanted) -> tuple[Pin, list[Wanted]]:
        old = self.before.get(wanted.name)
        if old is not None and old.source == str(wanted.address) and wanted.name not in self.renew:
            if not self.is_at_hand(old):
                self.restore(old, wanted.address)
            return old, self.needs(wanted, self.manifest_of(old))
        tree, manifest, commit = fetch(self.project, wanted.name, wanted.address)
        needs = self.needs(wanted, manifest)
        self.cache.put(tree)
        pin = Pin(
            wanted.name,
            manifest.version,
            manifest.licence,
            str(wanted.address),
            commit,
            manifest.exports,
            tuple(sorted(manifest.dependencies)),
            {path: digest(data) for path, data in sorted(tree.items())},
        )
        return pin, needs

    def is_at_hand(self, pin: Pin) -> bool:
        kept = ((name, self.cache.get(name)) for name in pin.files.values())
        return all(data is not None and digest(data) == name for name, data in kept)

    def restore(self, pin: Pin, address: Address) -> None:
        """Brings what is locked into the cache, as on a machine that has the lock alone; nothing else will do."""
        try:
            tree = {path: Pinned(self.project, pin, self.cache).read(path) for path in pin.files}
        except RaptrError as error:
            if error.diagnostics[0].code != "library-missing":
                raise
            tree, _, _ = fetch(self.project, pin.name, replace(address, reference=pin.commit))
        found = {path: digest(data) for path, data in tree.items()}
        for path in sorted(found.keys() | pin.files.keys()):
            if found.get(path) != pin.files.get(path):
                raise changed(pin, path, found.get(path, "nothing"), str(address))
        self.cache.put(tree)

    def manifest_of(self, pin: Pin) -> Manifest:
        return read_manifest(self.cache.get(pin.files[MANIFEST]) or b"", f"{pin.name}/{MANIFEST}")

    def needs(self, wanted: Wanted, manifest: Manifest) -> list[Wanted]:
        chain = (*wanted.chain, wanted.name)
        return [
            Wanted(name, self.within(wanted, name, address), chain)
            for name, address in sorted(manifest.dependencies.items())
        ]

    def within(self, wanted: Wanted, name: str, address: Address) -> Address:
        """An address in a library's manifest as seen from the project."""
        is_beside = address.kind == "folder"
        if not address.is_local or (wanted.address.is_local and not is_beside):
            return address
        if wanted.address.kind != "folder":
            raise fail(
                "library-address",
                f"`{wanted.name}` needs `{name}` from a folder, which is not part of it",
                subject=wanted.name,
                help="its authors have to give an address that others can reach",
            )
        joined = os.path.normpath(os.path.join(wanted.address.location, address.location))
        return parse_address(joined if joined.startswith("..") else f"./{joined}", wanted.name)

    def require_same(self, known: Pin, wanted: Wanted) -> None:
        """Two ways to one library are fine where they lead to the same files."""
        tree, manifest, commit = fetch(self.project, wanted.name, wanted.address)
        if {path: digest(data) for path, data in tree.items()} == dict(known.files):
            return
        raise fail(
            "library-versions",
            f"`{wanted.name}` is needed at two versions",
            subject=wanted.name,
            notes=(
                f"{known.version} from {known.source}, by {self.first[wanted.name].shown()}",
                f"{manifest.version} from {wanted.address}{f' ({commit[:12]})' if commit else ''}, by {wanted.shown()}",
            ),
            help="have both depend on one version: a schedule has one meaning in a project",
        )


def _refuse_circles(lock: Mapping[str, Pin]) -> None:
    """Raises RaptrError: `library-cycle`, with the libraries that need each other in a circle."""
    done: set[str] = set()

    def visit(name: str, chain: tuple[str, ...]) -> None:
        if name in chain:
            circle = " → ".join((*chain[chain.index(name) :], name))
            raise fail(
                "library-cycle",
                f"these libraries need each other in a circle: {circle}",
                subject=name,
                help="take what they share into a library of its own",
            )
        if name not in done:
            for other in lock[name].dependencies:
                visit(other, (*chain, name))
            done.add(name)

    for name in sorted(lock):
        visit(name, ())
