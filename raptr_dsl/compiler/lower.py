"""Syntax tree → IR: imports, parameters, sugar and levels become one flat list of exact stages."""

from collections.abc import Mapping
from types import MappingProxyType

from raptr_dsl.compiler.arguments import arguments_of
from raptr_dsl.compiler.expand import expand
from raptr_dsl.compiler.origins import Origins
from raptr_dsl.compiler.resolve import Loader, resolve
from raptr_dsl.compiler.statements import Header, Walk
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.ir.schedule import PARTIAL, Drawn, Exactly, Probability, Schedule, Size, Stage
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.files import load_source

NO_PARAMS: Mapping[str, str] = MappingProxyType({})


def lower(
    file: ast.File,
    diagnostics: Diagnostics,
    *,
    params: Mapping[str, str] = NO_PARAMS,
    loader: Loader = load_source,
) -> tuple[Schedule | None, Origins]:
    """The schedule that a file says, with the table of where each part of it was written.

    Args:
        diagnostics: gets every mistake. Errors that it holds already are statements that the parser lost:
            what follows from their absence is not reported.
        params: values of the file's parameters, each an expression of the language.
        loader: the text at a path, for imports.

    Returns:
        The schedule, None if there is any error, and the origins of whatever was read.
    """
    lossy = diagnostics.has_errors
    origins = Origins()
    unit = origins.root = resolve(file, lossy, loader, diagnostics)
    header = Header(origins)
    walk = Walk(unit, diagnostics, header)
    parts = walk.file(arguments_of(params, diagnostics))
    stages = [] if walk.effort.exhausted else expand(parts, origins, diagnostics, lossy)
    if not (header.partial or diagnostics.has_errors):
        _check_end(stages, origins, diagnostics)
    if diagnostics.has_errors:
        return None, origins
    schedule = Schedule(
        doc=header.doc,
        model=header.model,
        horizon=header.horizon,
        seed=header.seed,
        allow=frozenset({PARTIAL} if header.partial else ()),
        stages=tuple(stages),
        requirements=tuple(header.requirements),
    )
    return schedule, origins


def _check_end(stages: list[Stage], origins: Origins, diagnostics: Diagnostics) -> None:
    """Rule 14, as far as it does not depend on a model: the last step is full on every axis."""
    last = len(stages) - 1
    if stages[last].optional:  # it may be dropped
        return
    # Which blocks there are that an axis spares (rule 4) is known with a model.
    thinned = [axis for axis, rule in stages[last].axes.items() if not rule.full and _is_surely_thinned(rule.size)]
    if thinned:
        diagnostics.add(
            "not-full-at-end",
            f"the run ends with {' and '.join(thinned)} thinned: the last step is not the full network",
            origins.span(("stages", last, "axes", thinned[0], "size")),
            related=origins.at(("stages", last)).chain,
            help="end with a stage at full size, or write `allow partial`",
        )


def _is_surely_thinned(size: Size) -> bool:
    """Whether no model makes the size the whole axis (as it may a curve's end, or a count)."""
    match size:
        case Exactly(amount=amount, rounding="exact"):
            return not amount.is_count and amount.value < 1
        case Probability(curve=None):
            return True
        case Drawn(amounts=amounts):
            return any(amount.value < 1 for amount in amounts)
    return False
