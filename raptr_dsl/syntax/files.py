"""File → source text."""

import os
import stat
from pathlib import Path

from raptr_dsl.diagnostics import Diagnostics, did_you_mean
from raptr_dsl.source import Source, Span

FILE_BYTES = 4 * 2**20


def load_source(path: str | os.PathLike[str], diagnostics: Diagnostics) -> Source | None:
    """The text of a file, named by its path; None, and a diagnostic, if it cannot be had.

    It has to be a regular file (a device or a pipe may never end), UTF-8, at most 4 MiB. A byte order mark is dropped.
    """
    name = os.fspath(path)
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            _report_irregular(name, mode, diagnostics)
            return None
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES + 1)
    except FileNotFoundError:
        _report_missing(name, diagnostics)
        return None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        diagnostics.add(
            "file-unreadable",
            f"this file cannot be read: {(reason or 'unknown reason').lower()}",
            subject=name,
            help="check its permissions and those of its folders",
        )
        return None
    if len(data) > FILE_BYTES:
        report_too_large(name, diagnostics)
        return None
    return _decode(name, data, diagnostics)


def report_too_large(name: str, diagnostics: Diagnostics) -> None:
    diagnostics.add(
        "file-too-large",
        "this file is larger than 4 MiB",
        subject=name,
        help="divide it, and put it together with `use` and `run`",
    )


def _report_irregular(name: str, mode: int, diagnostics: Diagnostics) -> None:
    if stat.S_ISDIR(mode):
        inside = sorted(entry.name for entry in Path(name).glob("*.raptr")) if os.access(name, os.R_OK) else []
        diagnostics.add(
            "file-is-directory",
            "this is a directory, not a file",
            subject=name,
            help=f"name a file in it, such as {Path(name, inside[0])}" if inside else "name a file",
        )
        return
    kind = "device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "pipe" if stat.S_ISFIFO(mode) else "socket"
    diagnostics.add(
        "file-not-regular",
        f"this is a {kind}, not a file",
        subject=name,
        help="write the schedule to a file and name that",
    )


def _report_missing(name: str, diagnostics: Diagnostics) -> None:
    path = Path(name)
    try:
        near = did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        near = ""
    dangling = path.is_symlink()
    diagnostics.add(
        "file-missing",
        "this link leads to no file" if dangling else "there is no such file",
        subject=name,
        help=f"did you mean {path.with_name(near)}?" if near and not dangling else "",
    )


def _decode(name: str, data: bytes, diagnostics: Diagnostics) -> Source | None:
    try:
        return Source(name, data.decode("utf-8").removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        before, after = data[: error.start].decode("utf-8"), data[error.end :].decode("utf-8", "replace")
        utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        diagnostics.add(
            "file-encoding",
            "this file is UTF-16, not UTF-8" if utf16 else "this file is not UTF-8",
            Span(Source(name, f"{before}\ufffd{after}"), len(before), len(before) + 1),
            label=f"byte {error.start:,} is 0x{data[error.start]:02X}",
            help="save it as UTF-8",
            subject=name,
        )
        return None
