"""Errors of a run: what failed, told with the circumstances of the run."""

from dataclasses import replace

from raptr_dsl.diagnostics import RaptrError


def with_notes(error: RaptrError, *notes: str) -> RaptrError:
    """The same error with further facts."""
    return RaptrError([replace(item, notes=(*item.notes, *notes)) for item in error.diagnostics])
