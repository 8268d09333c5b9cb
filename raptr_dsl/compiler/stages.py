"""`stage`: one stage to be, its axes and its duration."""

import re
from collections.abc import Mapping

from raptr_dsl.axes import AXES
from raptr_dsl.compiler.durations import spec_of
from raptr_dsl.compiler.gather import STAGE, Given, gather
from raptr_dsl.compiler.levels import Leaf
from raptr_dsl.compiler.origins import StagePlaces
from raptr_dsl.compiler.rules import AxisDraft, axes_of
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.compiler.settings import Settings, whole_of
from raptr_dsl.diagnostics import Edit
from raptr_dsl.ir.schedule import AxisRule
from raptr_dsl.syntax import ast

_AXIS_AND_SIZE = re.compile(rf"({'|'.join(AXES)})_?([0-9]+)")


def stage_of(statement: ast.Stage, settings: Settings, scope: Scope) -> Leaf:
    """The stage that a statement says; what is wrong with it is recorded, and left out of it."""
    given = gather(statement.attributes, STAGE, scope.diagnostics)
    _refuse_lost_equals(statement.name, given, scope)
    drafts = axes_of(given, settings, scope) or {}
    spec = spec_of(given, statement, "stage", scope)
    whole = whole_of(given, settings, scope)
    places = StagePlaces(statement.span, spec.attribute if spec else None, drafts, whole)
    values = {field: setting.value for field, setting in whole.items()}
    return Leaf(statement.name.text if statement.name else None, thinned(drafts), places, spec, whole=values)


def thinned(drafts: Mapping[str, AxisDraft]) -> dict[str, AxisRule]:
    """The rules of the axes that do not run in full."""
    return {axis: draft.rule for axis, draft in drafts.items() if draft.rule is not None}


def _refuse_lost_equals(name: ast.Name | None, given: Given, scope: Scope) -> None:
    """`stage depth8 steps=25%`: a stage that would run in full, but is named as if it were thinned."""
    match = _AXIS_AND_SIZE.fullmatch(name.text) if name and not given.sizes else None
    if match is None or name is None:
        return
    axis, size = match.groups()
    scope.diagnostics.add(
        "stage-named-like-size",
        f"this stage is named `{name.text}` and runs the whole network: is an equals sign missing?",
        name.span,
        help=f"write {axis}={size}; if the whole network is meant, say {axis}=all",
        fix=Edit(name.span, f"{axis}={size}"),
    )
