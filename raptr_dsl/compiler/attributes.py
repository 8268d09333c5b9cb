"""Every attribute that a stage can set: along an axis (`ATTRIBUTES`), or of the whole stage (`STAGE_ATTRIBUTES`).

A new attribute is one more entry. A bare `scale=` speaks of every axis that the stage thins, `depth.scale=` of one
(rule 8). What an attribute can be given is read here; where it may stand, and beside what, is the business of
`settings` and `rules`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, get_args

from raptr_dsl.axes import Axis
from raptr_dsl.compiler.calls import construct, make
from raptr_dsl.compiler.evaluate import count_of, evaluate, shown, word_of
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.compiler.sizes import curve_ends, is_curve, size_of
from raptr_dsl.compiler.units import in_order, named_list, units_of
from raptr_dsl.ir.schedule import Amount, AxisRule, Exactly, Grow, Part, Probability, Profile, Size, Training
from raptr_dsl.laws import LAWS, Law
from raptr_dsl.scales import SCALES
from raptr_dsl.syntax import ast

FAILED: Final = object()
"""What a reader returns when it has recorded why there is no value."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of an axis.

    Attributes:
        name: in a file, and of its field of `ir.AxisRule`, unless `field` says another.
        read: the value that a file gives it on an axis, or FAILED.
        without_effect: why it can change nothing in a rule; "" where it can.
        at_full: the attributes of which one has to be set for it to have an effect on an axis that runs in full.
    """

    name: str
    read: Callable[[ast.Value, Axis, Scope], Any]
    without_effect: Callable[[AxisRule], str] = lambda rule: ""
    field: str = ""
    at_full: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """The field that it sets."""
        return self.field or self.name


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


def _profile_without_effect(rule: AxisRule) -> str:
    return f"it varies keep probabilities, and sample={rule.law.law} has none" if rule.law.exact else ""


def _every(node: ast.Value, axis: Axis, scope: Scope) -> Any:
    if isinstance(node, ast.Name) and scope.find(node.text) is None:
        return FAILED if word_of(node, scope, ("stage", "a number of steps"), "every=") is None else None
    steps = count_of(node, scope, "every=", least=1)
    return FAILED if steps is None else steps


def _every_without_effect(rule: AxisRule) -> str:
    if any(_draws_anew(law, size) for law, size in _draws(rule)):
        return ""
    return f"sample={rule.law.law} takes the same units in every draw"


def _draws(rule: AxisRule) -> Iterator[tuple[Law, Size]]:
    """What a rule draws: the units that run, and those that train."""
    yield rule.law, rule.size
    if rule.train and rule.train.law and rule.train.size:
        yield rule.train.law, rule.train.size


def _draws_anew(law: Law, size: Size) -> bool:
    return law.varies or not isinstance(size, Exactly | Probability)


def _scale(node: ast.Value, axis: Axis, scope: Scope) -> Any:
    word = word_of(node, scope, SCALES, "scale=")
    if word is None or word in scales_of(axis):
        return word or FAILED
    legal = ", ".join(scales_of(axis))
    scope.diagnostics.add(
        "unknown-word", f"scale= of {axis.name} cannot be `{word}`", node.span, help=f"legal here: {legal}"
    )
    return FAILED


def scales_of(axis: Axis) -> list[str]:
    """The scales that an axis can have: a block has one trained factor, its parts none (rule 31)."""
    return [scale.name for scale in SCALES.values() if axis.units_are_blocks or not scale.learned]


def _idle(node: ast.Value, axis: Axis, scope: Scope) -> Any:
    return word_of(node, scope, ("zero", "skip"), "idle=") or FAILED


def _full(node: ast.Value, axis: Axis, scope: Scope) -> Any:
    """Rule 4: blocks, as a list of units of depth."""
    blocks = units_of(node, scope, "full=")
    return FAILED if blocks is None else in_order(blocks)


def _buckets(node: ast.Value, axis: Axis, scope: Scope) -> Any:
    number = count_of(node, scope, "buckets=", least=1)
    return FAILED if number is None else number


def _buckets_without_effect(rule: AxisRule) -> str:
    if rule.law.exact and isinstance(rule.size, Exactly):
        return f"under sample={rule.law.law} the same number of blocks runs in every step"
    return ""


def _train(node: ast.Value, axis: Axis, scope: Scope) -> Any:
    """Rule 33: `LAW(size, …)`, `new`, or `all`."""
    if isinstance(node, ast.Name):
        word = word_of(node, scope, ("all", "new"), "train=")
        return FAILED if word is None else Training() if word == "new" else None
    laws = {name: law for name, law in LAWS.items() if axis.laws is None or name in axis.laws}
    if not isinstance(node, ast.Call):
        scope.diagnostics.add(
            "bad-value",
            "train= is a law at a size, or `new`",
            node.span,
            help=f"write {axis.name}.train=suffix({node.span.text}) for the last ones, fixed({node.span.text}) for any",
        )
        return FAILED
    word = word_of(node.name, scope, laws, f"train= of {axis.name}")
    if word is None:
        return FAILED
    if not node.args or node.args[0].name is not None:
        scope.diagnostics.add(
            "missing-argument",
            f"`{word}` does not say how many units train",
            node.span,
            help=f"write {word}(6/12), or {word}(2)",
        )
        return FAILED
    law = construct(laws[word], "law", node.args[1:], node, scope)
    read = size_of(node.args[0].value, axis, scope)
    if law is None or read is None:
        return FAILED
    if read.size is None:
        return None
    if law.exact and (isinstance(read.size, Probability) or (isinstance(read.size, Exactly) and read.can_be_none)):
        none = not isinstance(read.size, Probability)
        scope.diagnostics.add(
            "size-range" if none else "size-for-law",
            f"{node.span.text} leaves no unit to train" if none else f"a probability is no size, which {word} needs",
            node.args[0].span,
            help=f"write {word}(6/12)",
        )
        return FAILED
    return Training(law=law, size=read.size)


_COPIES: dict[str, Grow] = {"last": "last", "all": "all", "middle": "middle"}


def _grow(node: ast.Value, axis: Axis, scope: Scope) -> Any:
    """Rule 35: `none`, `zero`, `copy(last)`, `copy(all)`, `copy(middle)`."""
    if isinstance(node, ast.Call) and node.name.text == "copy" and len(node.args) == 1:
        word = word_of(node.args[0].value, scope, _COPIES, "copy( )")
        return _COPIES[word] if word else FAILED
    if isinstance(node, ast.Name) and node.text not in ("copy", *_COPIES):
        return word_of(node, scope, ("none", "zero"), "grow=") or FAILED
    scope.diagnostics.add(
        "bad-value",
        f"grow= cannot be {node.span.text}",
        node.span,
        help="write copy(last), copy(all), copy(middle), zero or none",
    )
    return FAILED


def _moments(node: ast.Value, axis: Axis, scope: Scope) -> Any:
    return word_of(node, scope, ("copy", "zero"), "moments=") or FAILED


def _moments_without_effect(rule: AxisRule) -> str:
    if rule.grow == "zero":
        return "units that begin with nothing have no optimizer state to take"
    return "nothing grows here" if rule.grow == "none" else ""


ATTRIBUTES: dict[str, Attribute] = {
    attribute.name: attribute
    for attribute in (
        Attribute("sample", _law, field="law"),
        Attribute("profile", _profile, _profile_without_effect),
        Attribute("every", _every, _every_without_effect, at_full=("train",)),
        Attribute("scale", _scale),
        Attribute("idle", _idle),
        Attribute("full", _full),
        Attribute("buckets", _buckets, _buckets_without_effect),
        Attribute("train", _train, at_full=("train",)),
        Attribute("grow", _grow, at_full=("grow",)),
        Attribute("moments", _moments, _moments_without_effect, at_full=("grow",)),
    )
}


@dataclass(frozen=True, slots=True)
class StageAttribute:
    """One attribute of a whole stage: its name in a file and in `ir.Stage`, and how its value is read."""

    name: str
    read: Callable[[ast.Value, Scope], Any]


def _freeze(node: ast.Value, scope: Scope) -> Any:
    """Rule 33: a list of parts outside the axes."""
    node = named_list(node, scope)
    items = node.items if isinstance(node, ast.List) else (node,)
    words = [word_of(item, scope, get_args(Part), "freeze=") for item in items]
    return FAILED if None in words else tuple(part for part in get_args(Part) if part in words)


def _rewarm(node: ast.Value, scope: Scope) -> Any:
    quantity = evaluate(node, scope)
    if quantity is None:
        return FAILED
    value = quantity.value
    if value < 0 or (value > 1 and not quantity.is_count):
        fact = "less than no time" if value < 0 else "longer than the stage"
        scope.diagnostics.add("bad-number", f"rewarm={shown(node, quantity)} is {fact}", node.span)
        return FAILED
    return Amount(value=value, is_count=quantity.is_count) if value else None


STAGE_ATTRIBUTES: dict[str, StageAttribute] = {
    attribute.name: attribute for attribute in (StageAttribute("freeze", _freeze), StageAttribute("rewarm", _rewarm))
}
