"""Libraries of schedules: folders with a `raptr.toml`, found, pinned, verified on every read; never run.

`Libraries` is what compiling needs: it reads `raptr.lock`, a vendored copy or the cache, and no network.
`locking` is what `raptr lib` needs: it fetches, and writes the lock.
"""

from raptr_dsl.library.libraries import Libraries, Library

__all__ = ["Libraries", "Library"]
