"""Every attribute that a stage can set along an axis. A new attribute is one more entry of `ATTRIBUTES`.

A bare `scale=` speaks of every axis that the stage thins, `depth.scale=` of one (rule 8). What an attribute
can be given is read here; where it may stand, and beside what, is the business of `settings` and `rules`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from raptr_dsl.axes import Axis
from raptr_dsl.compiler.calls import make
from raptr_dsl.compiler.evaluate import count_of, evaluate, not_yet, word_of
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.compiler.sizes import curve_ends, is_curve
from raptr_dsl.compiler.units import named_list
from raptr_dsl.ir.schedule import Exactly, Probability, Profile, Size
from raptr_dsl.laws import LAWS, Law
from raptr_dsl.scales import SCALES
from raptr_dsl.syntax import ast

FAILED: Final = object()
"""What a reader returns when it has recorded why there is no value."""

UNFINISHED_SCALES = ("learned",)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of an axis.

    Attributes:
        name: in a file. field: of `ir.AxisRule`; "" for what the language has and this version has not.
        read: the value that a file gives it on an axis, or FAILED.
        without_effect: why it can change nothing beside a law and a size; "" where it can.
    """

    name: str
    field: str
    read: Callable[[ast.Value, Axis, Scope], Any]
    without_effect: Callable[[Law, Size], str] = lambda law, size: ""

    @property
    def is_unfinished(self) -> bool:
        """Whether it is only read to be refused."""
        return not self.field


def _law(node: ast.Value, axis: Axis, scope: Scope) -> Any:
    legal = {name: law for name, law in LAWS.items() if axis.laws is None or name in axis.laws}
    what = "sample=" if axis.laws is None else f"sample= of {axis.name}"  # one mistake for all axes, if it is one
    return make(node, legal, "law", scope, what) or FAILED


def _profile(node: ast.Value, axis: Axis, scope: Scope) -> Any:
    node = named_list(node, scope)
    if isinstance(node, ast.List):
        weights = [evaluate(item, scope) for item in node.items]
        numbers = tuple(weight.value for weight in weights if weight is not None)
        if len(numbers) < len(weights):
            return FAILED
        return Profile(kind="list", weights=numbers)
    if is_curve(node):
        ends = curve_ends(node, scope)
        if ends is None:
            return FAILED
        start, stop = evaluate(ends[0], scope), evaluate(ends[1], scope)
        if start is None or stop is None:
            return FAILED
        return Profile(kind="curve", curve=ends[2], start=start.value, stop=stop.value)
    word = word_of(node, scope, ("uniform", "linear"), "profile=")
    return FAILED if word is None else Profile(kind=word)  # pyright: ignore[reportArgumentType]


def _profile_without_effect(law: Law, size: Size) -> str:
    return f"it varies keep probabilities, and sample={law.law} has none" if law.exact else ""


def _every(node: ast.Value, axis: Axis, scope: Scope) -> Any:
    if isinstance(node, ast.Name) and scope.find(node.text) is None:
        return FAILED if word_of(node, scope, ("stage", "a number of steps"), "every=") is None else None
    steps = count_of(node, scope, "every=", least=1)
    return FAILED if steps is None else steps


def _every_without_effect(law: Law, size: Size) -> str:
    if law.varies or not isinstance(size, Exactly | Probability):
        return ""
    return f"sample={law.law} takes the same units in every draw"


def _scale(node: ast.Value, axis: Axis, scope: Scope) -> Any:
    word = word_of(node, scope, (*SCALES, *UNFINISHED_SCALES), "scale=")
    if word in UNFINISHED_SCALES:
        not_yet(scope, node.span, f"scale={word}")
        return FAILED
    return word or FAILED


def _idle(node: ast.Value, axis: Axis, scope: Scope) -> Any:
    return word_of(node, scope, ("zero", "skip"), "idle=") or FAILED


def _unfinished(feature: str) -> Attribute:
    """An attribute of the language that this version refuses."""

    def read(node: ast.Value, axis: Axis, scope: Scope) -> Any:
        not_yet(scope, node.span, feature)
        return FAILED

    return Attribute(feature.partition("=")[0], "", read)


ATTRIBUTES: dict[str, Attribute] = {
    attribute.name: attribute
    for attribute in (
        Attribute("sample", "law", _law),
        Attribute("profile", "profile", _profile, _profile_without_effect),
        Attribute("every", "every", _every, _every_without_effect),
        Attribute("scale", "scale", _scale),
        Attribute("idle", "idle", _idle),
        _unfinished("grow=, growth at a stage's start,"),
        _unfinished("moments=, the optimizer state of grown units,"),
        _unfinished("train=, training a part of the active units,"),
        _unfinished("freeze=, freezing parts outside the axes,"),
        _unfinished("rewarm=, a learning-rate factor at a stage's start,"),
    )
}
