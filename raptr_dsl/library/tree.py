"""The files of a library as `{path: bytes}`, read from a folder without following a link out of it.

What belongs to a library: `raptr.toml`, every `.raptr` file, and the licence and readme beside the manifest.
Everything else in the folder is passed over. Paths are plain ASCII, so that they mean the same on every file system.
"""

import os
import re
import stat
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from raptr_dsl.diagnostics import fail

Tree = dict[str, bytes]

MANIFEST = "raptr.toml"
VENDOR = "raptr_libraries"
FILE_BYTES = 4 * 2**20
TREE_BYTES = 32 * 2**20
TREE_FILES = 1_000
FOLDER_ENTRIES = 20_000
PATH_LENGTH = 200

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+.-]*(?<![.])")
_BESIDE = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|README)([.-][A-Za-z0-9.-]+)?")
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def digest(data: bytes) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return sha256(data).hexdigest()


def belongs(path: str) -> bool:
    """Whether a file of a library's folder is part of the library."""
    return path == MANIFEST or path.endswith(".raptr") or _BESIDE.fullmatch(path) is not None


def require_safe(path: str, library: str) -> None:
    """Refuses a path that leaves the library's folder, or that some file system reads as another.

    Raises:
        RaptrError: `library-path`.
    """
    segments = path.split("/")
    if len(path) <= PATH_LENGTH and all(_SEGMENT.fullmatch(part) and not _DEVICE.fullmatch(part) for part in segments):
        return
    raise fail(
        "library-path",
        f"{_shown(path)} is not a path within a library",
        help="paths in a library are relative, of letters, digits and _ + - . between slashes",
        subject=library,
    )


def require_sound(paths: Iterable[str], library: str) -> None:
    """Refuses unsafe paths, too many of them, and two that are one where case does not count.

    Raises:
        RaptrError: `library-path`, `library-limit`.
    """
    known: dict[str, str] = {}
    for path in sorted(paths):
        require_safe(path, library)
        other = known.setdefault(path.casefold(), path)
        if other != path:
            raise fail(
                "library-path",
                f"{other} and {path} are one file where case does not count",
                help="rename one of them",
                subject=library,
            )
        if any("/".join(path.split("/")[:end]).casefold() in known for end in range(1, path.count("/") + 1)):
            raise fail("library-path", f"{path} lies in a folder that is also a file", subject=library)
        if len(known) > TREE_FILES:
            raise fail("library-limit", f"the library has more than {TREE_FILES:,} files", subject=library)


def require_small(size: int, path: str, library: str) -> None:
    """Refuses a file beyond 4 MiB, before it is read where its size is known."""
    if size > FILE_BYTES:
        raise fail("library-limit", f"{path} is larger than 4 MiB", subject=library, help="divide it with `use`")


def require_bounded(tree: Tree, library: str) -> Tree:
    """The tree, if all of it together is within bounds."""
    require_sound(tree, library)
    for path, data in tree.items():
        require_small(len(data), path, library)
    if sum(map(len, tree.values())) > TREE_BYTES:
        raise fail("library-limit", "the library is larger than 32 MiB", subject=library)
    return tree


def read_folder(root: Path, library: str) -> Tree:
    """The files of a library in a folder.

    Raises:
        RaptrError: what is there is a link, a device or a pipe, unsafe, too large, or cannot be read.
    """
    tree: Tree = {}
    seen = size = 0
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            raise unreadable(folder or ".", error, library) from error
        for entry in entries:
            seen += 1
            if seen > FOLDER_ENTRIES:
                raise fail("library-limit", f"its folder has more than {FOLDER_ENTRIES:,} entries", subject=library)
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name[0] != "." and entry.name not in (VENDOR, "__pycache__"):
                    folders.append(path)
            elif belongs(path):
                tree[path] = read_file(root, path, library)
                size += len(tree[path])
                if size > TREE_BYTES:
                    raise fail("library-limit", "the library is larger than 32 MiB", subject=library)
    return require_bounded(tree, library)


def read_file(root: Path, path: str, library: str) -> bytes:
    """One file below a folder: a regular one, within bounds, reached without a link.

    Raises:
        RaptrError: `library-path`, `library-file`, `library-limit`.
    """
    require_safe(path, library)
    target = root
    try:
        for part in path.split("/"):
            target = target / part
            if target.is_symlink():
                raise fail(
                    "library-file", f"{path} is a link", subject=library, help="put the file itself into the library"
                )
        # A link or a pipe put there in the meantime is not followed or waited for.
        handle = os.open(target, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise fail("library-file", f"{path} is not a regular file", subject=library)
            require_small(status.st_size, path, library)
            data = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise unreadable(path, error, library) from error
    require_small(len(data), path, library)
    return data


def unreadable(path: str, error: OSError, library: str) -> Exception:
    reason = (error.strerror or "unknown reason").lower()
    return fail("library-file", f"{_shown(path)} cannot be read: {reason}", subject=library)


def _shown(path: str) -> str:
    shown = path.encode("unicode_escape").decode()
    return repr(shown if len(shown) <= 60 else shown[:57] + "…") if path else "an empty text"
