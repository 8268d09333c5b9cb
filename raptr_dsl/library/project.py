"""What `raptr lib` does to a project: its manifest, its lock, its vendored copies."""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from raptr_dsl.diagnostics import Diagnostic, RaptrError, fail
from raptr_dsl.files import replacing
from raptr_dsl.library.address import parse_address
from raptr_dsl.library.cache import Cache
from raptr_dsl.library.libraries import Libraries, Pinned, lock_of_standard, standard
from raptr_dsl.library.lock import Lock, Pin, read_lock, write_lock
from raptr_dsl.library.locking import make_lock
from raptr_dsl.library.manifest import STANDARD, Manifest, read_manifest, require_name
from raptr_dsl.library.tree import MANIFEST, VENDOR, Tree, belongs, digest, read_file, read_folder


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with a `raptr.toml` or a `raptr.lock`, or one that is to become such."""

    root: Path
    cache: Cache

    @classmethod
    def around(cls, folder: Path, cache: Cache | None = None) -> "Project":
        """The project that a folder is in; the folder itself if it is in none."""
        cache = cache or Cache()
        return cls(Libraries(folder, cache).project or folder, cache)

    def manifest(self) -> Manifest:
        if not (self.root / MANIFEST).is_file():
            return Manifest()
        return read_manifest(read_file(self.root, MANIFEST, MANIFEST), str(self.root / MANIFEST))

    def lock(self) -> Lock:
        """Raises RaptrError: `library-lock`, where there is none."""
        lock = read_lock(self.root)
        if lock is None:
            raise fail("library-lock", "there is no raptr.lock here", subject=str(self.root), help="run raptr lib lock")
        return lock

    def add(self, name: str, text: str) -> Lock:
        """Makes a library a dependency: in the manifest, whose comments stay, and in the lock; or in neither."""
        import tomlkit

        require_name(name, name)
        address = parse_address(text, name)
        before = self.manifest()
        manifest = Manifest(dependencies=dict(before.dependencies) | {name: address})
        lock = self._made(manifest, renew=[name])
        path = self.root / MANIFEST
        document = tomlkit.parse(path.read_text("utf-8")) if path.is_file() else tomlkit.document()
        if "dependencies" not in document:
            document["dependencies"] = tomlkit.table()
        document["dependencies"][name] = str(address)  # pyright: ignore[reportIndexIssue]
        try:
            with replacing(path) as file:
                file.write(tomlkit.dumps(document).encode())
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise fail("output-write", f"this file cannot be written: {reason}", subject=str(path)) from error
        return self._written(lock)

    def update(self, names: Iterable[str] = (), *, everything: bool = False) -> Lock:
        """Writes the lock: what is new is pinned, and what is named (or all) is pinned anew as it is now."""
        manifest = self.manifest()
        old = self._old()
        known = {*old, *manifest.dependencies, STANDARD}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise fail("library-unknown", f"the project uses no library `{unknown[0]}`")
        if not (self.root / MANIFEST).is_file():
            raise fail(
                "library-manifest",
                f"nothing says which libraries to lock: there is no {MANIFEST} here or above",
                subject=str(self.root),
                help="`raptr lib add NAME ADDRESS` begins one; an empty one locks std alone",
            )
        return self._written(self._made(manifest, renew=known if everything else names))

    def _written(self, lock: Lock) -> Lock:
        """Vendored copies follow the lock: else they would be refused as changed."""
        write_lock(self.root, lock)
        if (self.root / VENDOR).is_dir():
            self.vendor()
        return lock

    def _made(self, manifest: Manifest, renew: Iterable[str]) -> Lock:
        old, renewed = self._old(), set(renew)
        standard = lock_of_standard() if STANDARD in renewed or old.standard is None else old.standard
        return Lock(make_lock(self.root, manifest, old, renewed, self.cache), standard)

    def _old(self) -> Lock:
        """The lock as it is; one that is damaged pins nothing, and is written anew."""
        try:
            found = read_lock(self.root)
        except RaptrError:
            found = None
        return Lock({}) if found is None else found

    def vendor(self) -> Path:
        """Copies the locked libraries into the project, verified, each as a whole or not at all."""
        folder = self.root / VENDOR
        trees = {name: self._tree(pin) for name, pin in self.lock().items()}
        unfinished = folder.with_name(f".{VENDOR}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            for name, tree in trees.items():
                for path, data in tree.items():
                    target = unfinished / name / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(data)
            unfinished.mkdir(exist_ok=True)
            if folder.is_symlink():
                raise fail("library-file", f"{VENDOR} is a link", subject=str(folder), help="take it away")
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise fail("output-write", f"this folder cannot be written: {reason}", subject=str(folder)) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return folder

    def _tree(self, pin: Pin) -> Tree:
        """The files as they were locked: from the cache, else from wherever they are found."""
        tree: Tree = {}
        for path, locked in pin.files.items():
            data = self.cache.get(locked)
            tree[path] = data if data is not None and digest(data) == locked else self._pinned(pin).read(path)
        return tree

    def _pinned(self, pin: Pin) -> Pinned:
        return Pinned(self.root, pin, self.cache)

    def verify(self) -> Iterator[Diagnostic]:
        """What is not as it was locked, in any place where a library is: each file of it, and files too many."""
        lock = self.lock()
        std = standard(lock.standard).files
        for path in lock.standard.files if lock.standard else ():
            try:
                std.locate(path)
            except RaptrError as error:
                yield from error.diagnostics
        for pin in lock.values():
            for path in pin.files:
                try:
                    self._pinned(pin).read(path)
                except RaptrError as error:
                    yield from error.diagnostics
            yield from self._strangers(pin)

    def _strangers(self, pin: Pin) -> Iterator[Diagnostic]:
        place = self._pinned(pin).place()
        if place is None:
            return
        try:
            present = read_folder(place, pin.name)
        except RaptrError as error:
            yield from error.diagnostics
            return
        for path in sorted(present.keys() - pin.files.keys()):
            if belongs(path):
                yield Diagnostic("library-file", f"{path} is not among the files that were locked", subject=str(place))
