"""What came of a function that was run in several processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What came of one rank.

    Attributes:
        value: what the function returned. code, message, notes: of the RaptrError (or OSError) it raised instead.
        seconds: how long it ran.
    """

    value: Any = None
    code: str = ""
    message: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


def values(outcomes: list[Outcome]) -> list[Any]:
    """What all ranks returned; an error of any of them fails the test."""
    for outcome in outcomes:
        assert not outcome.code, outcome
    return [outcome.value for outcome in outcomes]
