"""The names that a file defines (rules 1, 11): `let` and `param`, each once, before it is used."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

from raptr_dsl.compiler.origins import Link, labels
from raptr_dsl.diagnostics import Diagnostics, Label, did_you_mean
from raptr_dsl.source import Span
from raptr_dsl.syntax import ast

RESERVED = frozenset({"all", "rest", "first", "last", "true", "false"})
"""Words that stand where a number can: no file may give them another meaning."""


_USES = {
    "all": "depth=all",
    "rest": "steps=rest",
    "first": "keep depth=[first]",
    "last": "keep depth=[last]",
    "true": "model … tied=true",
    "false": "model … tied=false",
}


class Quantity(NamedTuple):
    """A number as the language knows it (rules 1, 2).

    Attributes:
        is_count: a count; else a share.
        denominators: those written in it, for the warning when a model does not divide by them.
        parametric: whether a parameter had a hand in it.
    """

    value: Fraction
    is_count: bool
    denominators: tuple[int, ...] = ()
    parametric: bool = False


Meaning = Quantity | str | ast.List | ast.Range | None
"""What a name stands for: a number, a word (of a choice), a list, a range; None if its definition is wrong."""


class Definition(NamedTuple):
    meaning: Meaning
    span: Span


class Scope:
    """The names known at one point of a file, and where to say what is wrong there.

    Args:
        statements: of the file or block, to tell a name that is defined further down.
        link: what expanded the file (a `run`), for messages about values that came from there.
        lossy: whether statements of the file were lost to syntax errors, so that a missing name says nothing.
    """

    def __init__(
        self,
        diagnostics: Diagnostics,
        statements: Iterable[ast.Statement] = (),
        link: Link | None = None,
        lossy: bool = False,
        parent: "Scope | None" = None,
    ) -> None:
        self.diagnostics = diagnostics
        self.link = link
        self.statements = statements
        self._lossy = lossy
        self.parent = parent
        self._names: dict[str, Definition] = {}

    def inside(self, body: Iterable[ast.Statement]) -> "Scope":
        """The scope of a block: it sees this one, and what it defines ends with it."""
        return Scope(self.diagnostics, body, self.link, self._lossy, self)

    def find(self, name: str) -> Definition | None:
        scope: Scope | None = self
        while scope is not None:
            definition = scope._names.get(name)
            if definition is not None:
                return definition
            scope = scope.parent
        return None

    def lookup(self, name: ast.Name) -> Definition | None:
        """The definition of a name, or None with the mistake recorded."""
        definition = self.find(name.text)
        if definition is None and not self._lossy:
            self._report_unknown(name)
        return definition

    def define(self, name: ast.Name, meaning: Meaning) -> None:
        """Gives a name its meaning, unless it has one already."""
        known = self.find(name.text)
        if name.text in RESERVED:
            self.diagnostics.add(
                "reserved-name",
                f"`{name.text}` has a meaning of its own in the language",
                name.span,
                help="choose another name",
            )
        elif known is not None:
            self.diagnostics.add(
                "name-taken",
                f"`{name.text}` is defined twice",
                name.span,
                label="again here",
                related=[Label(known.span, "first defined here")],
                help="choose another name",
            )
        else:
            self._names[name.text] = Definition(meaning, name.span)

    def chain(self, quantity: Quantity) -> tuple[Label, ...]:
        """The runs that handed down a value, as secondary labels; none for one that stands in the file."""
        return labels(self.link) if quantity.parametric else ()

    def names(self) -> Iterator[str]:
        scope: Scope | None = self
        while scope is not None:
            yield from scope._names
            scope = scope.parent

    def _report_unknown(self, name: ast.Name) -> None:
        later = self._defined_later(name)
        if later is not None and later.span.start <= name.span.start < later.span.end:
            self.diagnostics.add(
                "used-before-defined",
                f"the definition of `{name.text}` uses `{name.text}` itself",
                name.span,
                related=[Label(later.name.span, "defined here")],
                help="write out the value that is meant",
            )
            return
        if later is not None:
            self.diagnostics.add(
                "used-before-defined",
                f"`{name.text}` is used before it is defined",
                name.span,
                related=[Label(later.name.span, "defined here")],
                help=f"move the definition of `{name.text}` above its first use",
            )
            return
        if name.text in RESERVED:
            self.diagnostics.add(
                "unknown-name",
                f"`{name.text}` is a word of the language, not a number that can be calculated with or named",
                name.span,
                help=f"write {name.text} itself, where it is meant: {_USES[name.text]}",
            )
            return
        nearest = did_you_mean(name.text, self.names())
        self.diagnostics.add(
            "unknown-name",
            f"`{name.text}` is not defined",
            name.span,
            help=f"did you mean `{nearest}`?" if nearest else f"define it above: let {name.text} = …",
        )

    def _defined_later(self, name: ast.Name) -> ast.Let | ast.Param | None:
        scope: Scope | None = self
        while scope is not None:
            for statement in scope.statements:
                if isinstance(statement, ast.Let | ast.Param) and statement.name.text == name.text:
                    return statement
            scope = scope.parent
        return None
