"""Where commands write: over an older output of the same kind, and over nothing else that is there."""

import os
import re
import stat
from pathlib import Path

from raptr_dsl.diagnostics import fail
from raptr_dsl.files import replacing

PLAN = re.compile(rb'\s*\{\s*"format":\s*"raptr-plan-')
SVG = re.compile(rb"\s*<svg\b")


def require_replaceable(path: Path, kind: re.Pattern[bytes], what: str, *, force: bool | None = False) -> None:
    """Refuses to write over a file that does not begin like `what` (a noun phrase), unless forced.

    Directories and devices are refused even so. A path that cannot be looked at is left to whoever writes there.
    `force` is None where the command has no such option.

    Raises:
        RaptrError: `output-exists`.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise fail("output-exists", "this is no file, and cannot become one", subject=str(path))
        with path.open("rb") as file:
            head = file.read(256)
    except OSError:
        return
    if not force and not kind.match(head):
        raise fail(
            "output-exists",
            f"this file is there already, and is not {what}",
            help="choose another name" + ("" if force is None else ", or overwrite it with --force"),
            subject=str(path),
        )


def write_text(path: Path, text: str) -> None:
    """Writes a file as a whole or not at all.

    Raises:
        RaptrError: `output-write`.
    """
    try:
        with replacing(path) as file:
            file.write(text.encode("utf-8", "replace"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise fail("output-write", f"this file cannot be written: {reason}", subject=str(path)) from error


def make_folder(path: Path) -> None:
    """Makes a folder where there is none, and those around it.

    Raises:
        RaptrError: `output-write`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise fail("output-write", f"this folder cannot be made: {reason}", subject=str(path)) from error


def require_writable_folder(path: Path) -> None:
    """For work that takes long: refuses before it, not after it, an output that could not be written.

    Raises:
        RaptrError: `output-write`.
    """
    folder = path.parent
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return
    reason = "its folder is read-only" if folder.is_dir() else "its folder does not exist"
    raise fail("output-write", f"this file cannot be written: {reason}", subject=str(path))


def rewrite(path: Path, text: str) -> None:
    """Writes a file that is there anew, as a whole or not at all; a link stays a link, permissions stay.

    Raises:
        RaptrError: `output-write`.
    """
    target = path.resolve()
    mode = target.stat().st_mode
    write_text(target, text)
    target.chmod(mode)


def difference(before: str, after: str, name: str, new_name: str) -> str:
    """What changes from one text to another, as a patch."""
    import difflib

    lines = difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), name, new_name)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
