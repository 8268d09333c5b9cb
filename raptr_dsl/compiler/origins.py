"""Where everything in the IR was written: IR path → span, text and the chain of statements that expanded it.

Every later pass carries this table, so that an error of binding, planning or proving has a caret too. It is
filled with what lowering holds anyway and answers lazily: 20,000 stages cost one small tuple each.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from raptr_dsl.diagnostics import Label
from raptr_dsl.source import Span

if TYPE_CHECKING:
    from raptr_dsl.compiler.levels import Level
    from raptr_dsl.compiler.resolve import Unit
    from raptr_dsl.compiler.rules import AxisDraft
    from raptr_dsl.compiler.settings import Fields
    from raptr_dsl.syntax import ast

Path = tuple[str | int, ...]


class Place(NamedTuple):
    """Where a value was written.

    Attributes:
        span: what a caret should mark. value: the value alone, which an edit would replace.
        denominators: those written in it (rule 2): 12 for `6/12` and for `1/12..6/12`, none for `50%`.
    """

    span: Span
    value: Span
    denominators: tuple[int, ...] = ()


class Link(NamedTuple):
    """A statement that expanded another, and what expanded that one in turn."""

    label: Label
    parent: "Link | None"


class Origin(NamedTuple):
    """Where one value of the IR comes from; `span` is None if no text says it (a default of the language).

    Attributes:
        text: the value as written (`6/12`). denominators: see `Place`.
        chain: the runs, repeats and ramps that the statement was expanded by, innermost first.
        value: the span of `text`, for edits.
    """

    span: Span | None = None
    text: str = ""
    denominators: tuple[int, ...] = ()
    chain: tuple[Label, ...] = ()
    value: Span | None = None


NOWHERE = Origin()


class StagePlaces(NamedTuple):
    """The places of one stage statement, shared by all stages that it expands to.

    Attributes:
        statement: the whole statement, where something has no place of its own.
        duration: the attribute that says how long the statement takes.
        axes: what it says of each axis. whole: what is said of the stage as a whole.
    """

    statement: Span
    duration: "ast.Attribute | None"
    axes: "Mapping[str, AxisDraft]"
    whole: "Fields"

    def at(self, path: Path) -> Place:
        """The place of `("duration",)`, `("axes", "depth", "size")`; of the statement for anything else."""
        match path:
            case ("duration",) if self.duration is not None:
                return Place(self.duration.span, self.duration.value.span)
            case (str(word),) if word in self.whole:
                span = self.whole[word].attribute.value.span
                return Place(span, span)
            case ("axes", str(axis), *rest) if axis in self.axes:
                return _axis_place(self.axes[axis], rest)
        return Place(self.statement, self.statement)


def _axis_place(draft: "AxisDraft", rest: list[str | int]) -> Place:
    """Where a field of an axis's rule is set; where its size is, for what no attribute sets."""
    if rest and rest[0] in draft.fields:
        span = draft.fields[str(rest[0])].attribute.value.span
        return Place(span, span)
    span = draft.size.value.span
    return Place(span, span, draft.read.denominators)


class Origins:
    """The table. Paths follow the IR: `("stages", 3, "axes", "depth", "size")`, `("requirements", 0)`.

    Attributes:
        stages: for each stage of the schedule the places of its statement, and what expanded it.
        places: of everything else.
        levels: what has to add up, for `filling.check_levels` when the horizon is known.
        root: the file itself, with its imports.
    """

    def __init__(self) -> None:
        self.stages: list[tuple[StagePlaces, Link | None]] = []
        self.places: dict[Path, Place] = {}
        self.levels: list[Level] = []
        self.root: Unit | None = None

    def at(self, path: Path) -> Origin:
        """Where the value at `path` was written, or else what encloses it."""
        match path:
            case ("stages", int(number), *rest) if number < len(self.stages):
                places, link = self.stages[number]
                return _origin(places.at(tuple(rest)), link)
        while path and path not in self.places:
            path = path[:-1]
        return _origin(self.places[path], None) if path else NOWHERE

    def span(self, path: Path) -> Span | None:
        """What a caret at `path` should mark."""
        return self.at(path).span


def labels(link: Link | None) -> tuple[Label, ...]:
    """The chain of statements as secondary labels, innermost first."""
    found: list[Label] = []
    while link is not None:
        found.append(link.label)
        link = link.parent
    return tuple(found)


def _origin(place: Place, link: Link | None) -> Origin:
    return Origin(place.span, place.value.text, place.denominators, labels(link), place.value)
