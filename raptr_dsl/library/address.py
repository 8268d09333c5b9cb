"""Where a library comes from, as one line of text in a manifest or lock.

    ./schedules/acme                              a folder, relative to the manifest
    package:acme-schedules                        an installed Python package
    git+https://example.org/acme.git@v1.2#sub     a git repository at a commit, tag or branch, and a folder in it
    s3://bucket/acme                              whatever fsspec reads

An address never holds a secret: it is written to files that are shared.
"""

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.library.tree import require_safe

Kind = Literal["folder", "package", "git", "remote"]

_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_REFERENCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*")
_GIT_SCHEMES = ("https", "ssh", "file", "http")
LENGTH = 500


@dataclass(frozen=True, slots=True)
class Address:
    """`location` is a folder, a distribution or a URL; `reference` and `folder` belong to git."""

    kind: Kind
    location: str
    reference: str = ""
    folder: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "folder":
                return self.location
            case "package":
                return f"package:{self.location}"
            case "remote":
                return self.location
        at = f"@{self.reference}" if self.reference else ""
        return f"git+{self.location}{at}" + (f"#{self.folder}" if self.folder else "")

    @property
    def is_local(self) -> bool:
        """Whether it means something on this machine alone."""
        return self.kind == "folder" or self.location.startswith("file:")


def parse_address(text: str, library: str) -> Address:
    """The address that a text spells.

    Raises:
        RaptrError: `library-address`; the message does not repeat what may be a secret.
    """
    if len(text) > LENGTH or not text.isascii() or not text.isprintable() or " " in text or not text:
        raise _refused("the address is not one line of plain characters", library)
    if text.startswith("git+"):
        return _git(text.removeprefix("git+"), library)
    if text.startswith("package:"):
        name = text.removeprefix("package:")
        if not _DISTRIBUTION.fullmatch(name):
            raise _refused("this is not the name of a package", library)
        return Address("package", name)
    if "://" in text:
        _require_no_secret(text, library)
        if "::" in text or urlsplit(text).scheme in ("file", "local"):
            raise _refused("an address of files names one store, and a folder of this machine is a path", library)
        return Address("remote", text.rstrip("/"))
    return _folder(text, library)


def _folder(text: str, library: str) -> Address:
    parts = text.split("/")
    if parts[0] not in (".", "..") or "\\" in text:
        raise _refused("a folder is given by its path from the manifest, such as ./schedules", library)
    inside = [part for part in parts if part not in ("", ".", "..")]
    if inside:
        require_safe("/".join(inside), library)
    return Address("folder", text.rstrip("/") or ".")


def _git(text: str, library: str) -> Address:
    url, _, folder = text.partition("#")
    head, slash, tail = url.rpartition("/")
    tail, _, reference = tail.partition("@")
    url = head + slash + tail
    _require_no_secret(url, library)
    if urlsplit(url).scheme not in _GIT_SCHEMES or "::" in url or "\\" in url:
        raise _refused("a git address begins with git+https://, git+ssh:// or git+file://", library)
    if reference and (not _REFERENCE.fullmatch(reference) or ".." in reference):
        raise _refused("what follows @ is not a commit, tag or branch", library)
    if folder:
        require_safe(folder, library)
    return Address("git", url, reference, folder)


def _require_no_secret(url: str, library: str) -> None:
    try:
        parts = urlsplit(url)
        password, user = parts.password, parts.username
    except ValueError:
        raise _refused("this is not an address", library) from None
    if password or parts.query or (user and parts.scheme != "ssh"):
        raise _refused(
            "the address holds a user, a password or a query, which would be written where others read it",
            library,
            help="leave it out; git asks its credential helper, fsspec its own configuration",
        )


def _refused(message: str, library: str, help: str = "") -> RaptrError:
    return fail(
        "library-address",
        message,
        subject=library,
        help=help or "write ./FOLDER, package:NAME, git+https://HOST/REPOSITORY@COMMIT or an fsspec address",
    )
