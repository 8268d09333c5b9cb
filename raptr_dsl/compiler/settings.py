"""What `keep` and `default` have set for the statements after them (rules 8, 11)."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from raptr_dsl.axes import AXES, Axis
from raptr_dsl.compiler.attributes import ATTRIBUTES, FAILED
from raptr_dsl.compiler.gather import DEFAULT, KEEP, gather
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.compiler.units import LAST, units_of
from raptr_dsl.syntax import ast


class Setting(NamedTuple):
    """A value of one field of `AxisRule`, and the attribute that gave it."""

    value: Any
    attribute: ast.Attribute


Fields = Mapping[str, Setting]
Settings = Mapping[str, Fields]
"""Axis → field → setting, in force from some statement on. Never changed in place: stages share it."""

NO_SETTINGS: Settings = {axis: {} for axis in AXES}


def with_default(settings: Settings, statement: ast.Default, scope: Scope) -> Settings:
    """The settings after a `default`: the nearest statement wins, in it `depth.scale=` over `scale=`."""
    given = gather(statement.attributes, DEFAULT, scope.diagnostics)
    changed = {axis: dict(fields) for axis, fields in settings.items()}
    for attribute in given.bare.values():
        for axis in axes_that_have(attribute):
            put(changed[axis], attribute, AXES[axis], scope)
    for (axis, _), attribute in given.own.items():
        put(changed[axis], attribute, AXES[axis], scope)
    return changed


def with_keep(settings: Settings, statement: ast.Keep, scope: Scope) -> Settings:
    """The settings after a `keep`: units numbered from 0, ascending, the last one (−1) at the end."""
    given = gather(statement.attributes, KEEP, scope.diagnostics)
    changed = dict(settings)
    for axis, attribute in given.sizes.items():
        units = units_of(attribute.value, scope, f"keep {axis}=")
        if units is not None:
            kept = tuple(sorted(set(units), key=lambda unit: (unit == LAST, unit)))
            changed[axis] = {**changed[axis], "keep": Setting(kept, attribute)}
    return changed


def put(fields: dict[str, Setting], attribute: ast.Attribute, axis: Axis, scope: Scope) -> bool:
    """Reads an attribute into the fields of an axis; False if what is wrong with it was recorded instead."""
    known = ATTRIBUTES[attribute.name.text]
    value = known.read(attribute.value, axis, scope)
    if value is not FAILED:
        fields[known.field] = Setting(value, attribute)
    return value is not FAILED


def axes_that_have(attribute: ast.Attribute, among: Iterable[str] = AXES) -> list[str]:
    """The axes to which a bare attribute speaks: for a law, those that can be sampled by it."""
    value = attribute.value
    word = value.name.text if isinstance(value, ast.Call) else value.text if isinstance(value, ast.Name) else ""
    axes = list(among)
    if attribute.name.text != "sample":
        return axes
    able = [axis for axis in axes if (laws := AXES[axis].laws) is None or word in laws]
    return able or axes
