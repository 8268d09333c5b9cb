"""What goes wrong with data."""

import os

from raptr_dsl.diagnostics import Diagnostic, RaptrError


class DataError(RaptrError):
    """Data that cannot be had, or whose tokens cannot be kept. Nothing half-written is left."""


def data_error(code: str, message: str, *, subject: str = "", help: str = "") -> DataError:
    """A `DataError` of one diagnostic."""
    return DataError([Diagnostic(code, message, subject=subject, help=help)])


def reason(error: OSError) -> str:
    """The operating system's words for an error, without its number."""
    return (error.strerror or str(error)).lower()


def shown(path: str | os.PathLike[str]) -> str:
    """A path as it can be printed: names of files need not be UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def unreadable(path: str | os.PathLike[str], error: OSError) -> Diagnostic:
    """What the operating system says against reading a path."""
    return Diagnostic(
        "data-unreadable",
        f"{shown(path)} cannot be read: {reason(error)}",
        subject=shown(path),
        help="make it readable, or leave it out of the data",
    )
