"""Levels → one flat list of stages with their lengths (rules 9, 12, 13)."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from raptr_dsl.compiler.durations import Spec
from raptr_dsl.compiler.evaluate import is_too_large
from raptr_dsl.compiler.filling import check_filled
from raptr_dsl.compiler.levels import (
    WHOLE_RUN,
    Group,
    Leaf,
    Level,
    Part,
    Total,
    add_up,
    count_stages,
    length_of,
    scaled,
    too_large,
)
from raptr_dsl.compiler.origins import Link, Origins
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.ir.schedule import Duration, Stage

MAX_STAGES = 20_000


def expand(parts: Sequence[Part], origins: Origins, diagnostics: Diagnostics, lossy: bool) -> list[Stage]:
    """The stages of a file, in order, with the origin of each and every level put into `origins`.

    Args:
        lossy: whether statements were lost to syntax errors, so that what is left need not add up.
    """
    largest = max(parts, key=count_stages, default=None)
    if sum(map(count_stages, parts)) > MAX_STAGES and largest is not None:
        diagnostics.add(
            "limit-stages",
            f"the file expands to more than {MAX_STAGES:,} stages",
            largest.statement if isinstance(largest, Group) else largest.places.statement,
            help="repeat less often; a curve over one stage may say the same",
        )
        return []
    expander = _Expander(origins, diagnostics)
    expander.level(Level("the run", WHOLE_RUN, parts, lossy=lossy), None, False)
    return expander.stages


class _Time(NamedTuple):
    """The time of a level: its length, and what is left of it for `rest`.

    Attributes:
        optional, rest_optional: whether a parameter had a hand in either (rule 13).
    """

    length: Duration
    left: Duration
    optional: bool
    rest_optional: bool

    def of(self, spec: Spec | None) -> Duration:
        """How long a part takes. One that does not say counts as all, so that it is still checked within."""
        return WHOLE_RUN if spec is None else length_of(spec, self.length, self.left)

    def is_optional(self, spec: Spec | None) -> bool:
        if spec is not None and spec.unit == "rest":
            return self.rest_optional
        return self.optional or (spec is not None and spec.parametric)


class _Expander:
    def __init__(self, origins: Origins, diagnostics: Diagnostics) -> None:
        self.origins, self.diagnostics = origins, diagnostics
        self.stages: list[Stage] = []
        self.checked: set[int] = set()

    def level(self, level: Level, link: Link | None, optional: bool) -> None:
        """Appends the stages of one pass of a level.

        Args:
            link: what expanded it.
            optional: whether a parameter had a hand in its length.
        """
        summands = level.summands()
        total = add_up(summands, self.diagnostics) or Total()
        may_be_empty = optional or any(summand.spec.parametric for summand in summands)
        left = total.left_of(level.length) if total.rests else level.length
        if level.is_complete() and id(level.parts) not in self.checked:  # all passes are alike
            self.checked.add(id(level.parts))
            level = level._replace(may_be_empty=may_be_empty)
            self.origins.levels.append(level)
            check_filled(level, total, self.diagnostics)
        self.parts(level.parts, _Time(level.length, left, optional, may_be_empty), link)

    def parts(self, parts: Sequence[Part], time: _Time, link: Link | None) -> None:
        for part in parts:
            if isinstance(part, Leaf):
                stage = Stage(
                    name=part.name,
                    duration=time.of(part.spec),
                    axes=part.axes,
                    optional=time.is_optional(part.spec),
                    **part.whole,
                )
                self.stages.append(stage)
                self.origins.stages.append((part.places, Link(part.label, link) if part.label else link))
            elif part.is_level:
                self.group(part, time.of(part.spec), link, time.is_optional(part.spec))
            else:
                for number in range(part.times):
                    self.parts(part.parts, time, _linked(part, number, link))

    def group(self, group: Group, length: Duration, link: Link | None, optional: bool) -> None:
        """Appends the stages of a level that takes `length` with all its passes."""
        length = length if group.times == 1 else scaled(length, Fraction(1, group.times))
        if group.spec and any(map(is_too_large, (length.share, length.steps, length.tokens))):
            too_large(group.spec, self.diagnostics)
            return
        run = group.statement if group.kind == "run" else None
        level = Level(group.title, length, group.parts, run, group.lossy)
        for number in range(group.times):
            self.level(level, _linked(group, number, link), optional)


def _linked(group: Group, number: int, link: Link | None) -> Link | None:
    """The chain inside one pass of a group."""
    label = group.label(number)
    return Link(label, link) if label else link
