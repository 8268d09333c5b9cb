"""Lists of units: `[first, 3, 5..7, last]`. Units are numbered from 0; −1 stands for the last (rule 5)."""

from collections.abc import Iterable

from raptr_dsl.compiler.evaluate import count_of
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.syntax import ast

LAST = -1
MAX_UNITS = 65_536
"""Units of one site: a unit's number has 16 bits (rule 21)."""


def units_of(node: ast.Value, scope: Scope, what: str) -> list[int] | None:
    """The units that a list names, in its order, or None with the mistakes recorded.

    A name may stand for a list, and a single unit for the list of itself.
    """
    node = named_list(node, scope)
    items = node.items if isinstance(node, ast.List) else (node,)
    units: list[int] = []
    good = True
    for item in items:
        found = _units_of_item(item, scope, what)
        good &= found is not None
        units.extend(found or ())
    return units if good else None


def in_order(units: Iterable[int]) -> tuple[int, ...]:
    """Each once, ascending, the last one (−1) at the end."""
    return tuple(sorted(set(units), key=lambda unit: (unit == LAST, unit)))


def named_list(node: ast.Value, scope: Scope) -> ast.Value:
    """The list or range that a name was given by `let`; any other value as it stands."""
    if isinstance(node, ast.Name):
        definition = scope.find(node.text)
        if definition is not None and isinstance(definition.meaning, ast.List | ast.Range):
            return definition.meaning
    return node


def _units_of_item(item: ast.Value, scope: Scope, what: str) -> range | list[int] | None:
    if not isinstance(item, ast.Range):
        unit = _unit(item, scope, what)
        return None if unit is None else [unit]
    start, stop = _unit(item.start, scope, what), _unit(item.stop, scope, what)
    if start is None or stop is None:
        return None
    if stop == LAST:
        scope.diagnostics.add(
            "bad-units",
            "a range of units ends at a number: how many units there are is known only with a model",
            item.stop.span,
            help="write the last unit's number, or `last` as an item of its own",
        )
        return None
    if start > stop or start == LAST:
        scope.diagnostics.add(
            "bad-units",
            f"the range {item.span.text} of units runs backwards",
            item.span,
            help="write it upwards",
        )
        return None
    return range(start, stop + 1)


def _unit(node: ast.Value, scope: Scope, what: str) -> int | None:
    if isinstance(node, ast.Name) and node.text in ("first", "last"):
        return 0 if node.text == "first" else LAST
    return count_of(node, scope, f"a unit of {what}", most=MAX_UNITS - 1)
