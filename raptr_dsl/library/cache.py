"""Files by their content: a file that was fetched once is there for every project, under its digest.

Nothing in it is trusted: whoever reads compares with the digest that is asked for.
"""

import os
import re
from pathlib import Path

from raptr_dsl.diagnostics import fail
from raptr_dsl.files import replacing
from raptr_dsl.library.tree import FILE_BYTES, Tree, digest

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Cache:
    """`folder` is that of the user unless given: `$XDG_CACHE_HOME/raptr_dsl/libraries`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(
            os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "raptr_dsl", "libraries"
        )

    def path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"{digest!r} is not a digest")
        return self.folder / digest[:2] / digest

    def get(self, digest: str) -> bytes | None:
        """What is kept under a digest, which it need not have; None where there is nothing to read."""
        try:
            with self.path(digest).open("rb") as file:
                return file.read(FILE_BYTES + 1)
        except OSError:
            return None

    def put(self, tree: Tree) -> None:
        """Keeps the files of a library; what is there already and whole is left alone.

        Raises:
            RaptrError: `library-cache`.
        """
        for data in tree.values():
            name = digest(data)
            if self.get(name) == data:
                continue
            path = self.path(name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as file:
                    file.write(data)
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise fail("library-cache", f"the cache cannot be written: {reason}", subject=str(path)) from error
