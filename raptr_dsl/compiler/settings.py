"""What `keep` and `default` have set for the statements after them (rules 8, 11)."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from raptr_dsl.axes import AXES, Axis
from raptr_dsl.compiler.attributes import ATTRIBUTES, FAILED, STAGE_ATTRIBUTES, scales_of
from raptr_dsl.compiler.gather import DEFAULT, KEEP, Given, gather
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.compiler.units import in_order, units_of
from raptr_dsl.syntax import ast


class Setting(NamedTuple):
    """A value of one field of `AxisRule`, and the attribute that gave it."""

    value: Any
    attribute: ast.Attribute


Fields = Mapping[str, Setting]
Settings = Mapping[str, Fields]
"""Axis → field → setting, in force from some statement on; those of whole stages under `WHOLE`.

Never changed in place: stages share it.
"""

WHOLE = ""
NO_SETTINGS: Settings = {axis: {} for axis in (*AXES, WHOLE)}


def with_default(settings: Settings, statement: ast.Default, scope: Scope) -> Settings:
    """The settings after a `default`: the nearest statement wins, in it `depth.scale=` over `scale=`."""
    given = gather(statement.attributes, DEFAULT, scope.diagnostics)
    changed = {axis: dict(fields) for axis, fields in settings.items()}
    for attribute in given.bare.values():
        for axis in axes_that_have(attribute):
            put(changed[axis], attribute, AXES[axis], scope)
    for (axis, _), attribute in given.own.items():
        put(changed[axis], attribute, AXES[axis], scope)
    changed[WHOLE] = whole_of(given, settings, scope)
    return changed


def whole_of(given: Given, settings: Settings, scope: Scope) -> dict[str, Setting]:
    """The settings of a whole stage: those in force, and what the statement itself says."""
    fields = dict(settings[WHOLE])
    for name, attribute in given.whole.items():
        value = STAGE_ATTRIBUTES[name].read(attribute.value, scope)
        if value is not FAILED:
            fields[name] = Setting(value, attribute)
    return fields


def with_keep(settings: Settings, statement: ast.Keep, scope: Scope) -> Settings:
    """The settings after a `keep`: units numbered from 0, ascending, the last one (−1) at the end."""
    given = gather(statement.attributes, KEEP, scope.diagnostics)
    changed = dict(settings)
    for axis, attribute in given.sizes.items():
        units = units_of(attribute.value, scope, f"keep {axis}=")
        if units is not None:
            changed[axis] = {**changed[axis], "keep": Setting(in_order(units), attribute)}
    return changed


def put(fields: dict[str, Setting], attribute: ast.Attribute, axis: Axis, scope: Scope) -> bool:
    """Reads an attribute into the fields of an axis; False if what is wrong with it was recorded instead."""
    known = ATTRIBUTES[attribute.name.text]
    value = known.read(attribute.value, axis, scope)
    if value is not FAILED:
        fields[known.target] = Setting(value, attribute)
    return value is not FAILED


def axes_that_have(attribute: ast.Attribute, among: Iterable[str] = AXES) -> list[str]:
    """The axes to which a bare attribute speaks: those that have it, and can have that law or scale."""
    value, name = attribute.value, attribute.name.text
    word = value.name.text if isinstance(value, ast.Call) else value.text if isinstance(value, ast.Name) else ""
    axes = [axis for axis in among if name not in AXES[axis].lacks]
    if name == "sample":
        able = [axis for axis in axes if (laws := AXES[axis].laws) is None or word in laws]
    elif name == "scale":
        able = [axis for axis in axes if word in scales_of(AXES[axis])]
    else:
        able = axes
    return able or axes
