"""Errors of a run: what failed, told with the circumstances of the run."""

from dataclasses import replace

from raptr_dsl.diagnostics import RaptrError, fail


def with_notes(error: RaptrError, *notes: str) -> RaptrError:
    """The same error with further facts."""
    return RaptrError([replace(item, notes=(*item.notes, *notes)) for item in error.diagnostics])


def not_finite(what: str, notes: tuple[str, ...] = ()) -> RaptrError:
    """A loss or a gradient that cannot be trained on."""
    return fail(
        "trainer-not-finite",
        what,
        help="lower the learning rate, lengthen the warm-up, or train in a wider dtype",
        notes=notes,
    )


def audit_failure(step: int, found: list[str]) -> RaptrError:
    """What ran is not what was planned: `found` names both numbers of everything that differs."""
    return fail(
        "train-audit",
        f"what ran in the first {step:,} steps is not what was planned",
        help="this is a mistake in the backend, not in the schedule: its numbers cannot be relied upon",
        notes=tuple(found),
    )
