"""Libraries wherever fsspec reads: object stores, web servers, shared file systems. Needs the extra `remote`."""

import re
from typing import Any

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.library.tree import (
    FILE_BYTES,
    FOLDER_ENTRIES,
    TREE_BYTES,
    Tree,
    belongs,
    require_bounded,
    require_safe,
    require_small,
)

_SECRET = re.compile(r"(?<=://)[^/@\s]+@|(?<=[?&])\S+")


def read_remote(url: str, library: str) -> Tree:
    """The files of a library at an fsspec address.

    Raises:
        RaptrError: `library-fetch`, and what reading files may raise.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        help = 'install it: pip install "raptr-dsl[remote]"'
        raise fail("library-fetch", "to read this address takes fsspec", subject=library, help=help) from error
    try:
        system, root = url_to_fs(url)
        return require_bounded(_read(system, root, library), library)
    except RaptrError:
        raise
    except Exception as error:  # each of its stores has exceptions of its own
        said = _SECRET.sub("…", f"{type(error).__name__}: {error}")[:300]
        raise fail("library-fetch", f"the address cannot be read: {said}", subject=library) from error


def _read(system: Any, root: str, library: str) -> Tree:
    tree: Tree = {}
    seen = size = 0
    base = root.rstrip("/") + "/"
    for folder, folders, files in system.walk(root, detail=True):
        seen += len(folders) + len(files)
        if seen > FOLDER_ENTRIES:
            raise fail("library-limit", f"the address has more than {FOLDER_ENTRIES:,} entries", subject=library)
        for name, entry in files.items():
            path = f"{folder.rstrip('/')}/{name}"
            path = path.removeprefix(base) if path.startswith(base) else path.removeprefix("/").removeprefix(base)
            if not belongs(path):
                continue
            require_safe(path, library)
            if entry.get("islink") or entry.get("type") not in ("file", None):
                raise fail("library-file", f"{path} is not a regular file", subject=library)
            require_small(entry.get("size") or 0, path, library)
            with system.open(entry["name"], "rb") as file:
                tree[path] = file.read(FILE_BYTES + 1)
            size += len(tree[path])
            if size > TREE_BYTES:
                raise fail("library-limit", "the library is larger than 32 MiB", subject=library)
    return tree
