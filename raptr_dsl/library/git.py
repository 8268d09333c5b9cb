"""Libraries in git repositories. Nothing is checked out: no hook, filter or link of the repository has any effect."""

import os
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.library.address import Address
from raptr_dsl.library.tree import (
    FOLDER_ENTRIES,
    TREE_BYTES,
    Tree,
    belongs,
    require_bounded,
    require_safe,
    require_small,
)

SECONDS = 300
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ENTRY = re.compile(rb"(\d{6}) (\w+) ([0-9a-f]+) +(-|\d+)\t(.+)", re.DOTALL)
_SECRET = re.compile(r"(?<=://)[^/@\s]+@")
_SAFE = (
    *("-c", "protocol.allow=never"),
    *(word for name in ("https", "http", "ssh", "file") for word in ("-c", f"protocol.{name}.allow=always")),
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "fetch.recurseSubmodules=false"),
)


def read_git(address: Address, library: str) -> tuple[Tree, str]:
    """The files of a library in a repository, and the commit they are of.

    Raises:
        RaptrError: `library-fetch`, and what reading files may raise.
    """
    with TemporaryDirectory() as folder:
        repository = _Repository(Path(folder), library)
        repository.run("init", "--quiet", "--bare", folder)
        commit = repository.fetch(address)
        return repository.read(commit, address.folder), commit


class _Repository:
    def __init__(self, folder: Path, library: str) -> None:
        self.folder, self.library = folder, library
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        self.environment = inherited | {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
            "LC_ALL": "C",
        }

    def run(self, *arguments: str) -> bytes:
        """Raises RaptrError with what git says, but for secrets that its own configuration may have put there."""
        command = ["git", *_SAFE, "-C", str(self.folder), *arguments]
        try:
            done = subprocess.run(
                command, env=self.environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=SECONDS
            )
        except FileNotFoundError as error:
            raise self.failed("git is not installed") from error
        except subprocess.TimeoutExpired as error:
            raise self.failed(f"git took longer than {SECONDS} seconds") from error
        if done.returncode:
            lines = done.stderr.decode("utf-8", "replace").split("\n")
            said = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines
            raise self.failed(_SECRET.sub("…@", " ".join(" ".join(said).split())[:300]))
        return done.stdout

    def failed(self, reason: str) -> RaptrError:
        return fail("library-fetch", f"the repository cannot be fetched: {reason}", subject=self.library)

    def fetch(self, address: Address) -> str:
        wanted = address.reference or "HEAD"
        options = ("fetch", "--quiet", "--no-tags", "--depth=1", "--", address.location)
        try:
            self.run(*options, wanted)
        except RaptrError:
            if not _COMMIT.fullmatch(wanted):
                raise
            # A server that does not give single commits gives its branches.
            self.run(
                "fetch", "--quiet", "--", address.location, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"
            )
        is_commit = _COMMIT.fullmatch(wanted) is not None
        name = wanted if is_commit else "FETCH_HEAD"
        return self.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()

    def read(self, commit: str, folder: str) -> Tree:
        prefix = f"{folder}/" if folder else ""
        listing = self.run("ls-tree", "-r", "-l", "-z", "--full-tree", commit, *([prefix] if prefix else []))
        entries = listing.split(b"\0")[:-1]
        if len(entries) > FOLDER_ENTRIES:
            raise fail("library-limit", f"the repository has more than {FOLDER_ENTRIES:,} files", subject=self.library)
        wanted: dict[str, str] = {}
        total = 0
        for entry in entries:
            match = _ENTRY.fullmatch(entry)
            path = match[5].decode("utf-8", "replace").removeprefix(prefix) if match else ""
            if match is None or not belongs(path):
                continue
            require_safe(path, self.library)
            if match[1] not in (b"100644", b"100755"):
                raise fail("library-file", f"{path} is a link or a submodule, not a file", subject=self.library)
            require_small(int(match[4]), path, self.library)
            total += int(match[4])
            wanted[path] = match[3].decode()
        if total > TREE_BYTES:
            raise fail("library-limit", "the library is larger than 32 MiB", subject=self.library)
        tree = {path: self.run("cat-file", "blob", name) for path, name in wanted.items()}
        return require_bounded(tree, self.library)
