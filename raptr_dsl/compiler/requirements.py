"""`require`: what is to be proven, as data; whether it holds is found out with a plan."""

from math import ceil, floor
from typing import Any

from raptr_dsl.axes import AXES
from raptr_dsl.compiler.evaluate import count_of, evaluate, unknown_word, word_of
from raptr_dsl.compiler.metrics import METRICS, Metric
from raptr_dsl.compiler.scope import Quantity, Scope
from raptr_dsl.diagnostics import Label, did_you_mean
from raptr_dsl.ir.schedule import Amount, Requirement
from raptr_dsl.syntax import ast
from raptr_dsl.wording import share_text


def requirement_of(statement: ast.Require, scope: Scope) -> Requirement | None:
    """The requirement that a statement says, or None with every mistake in it recorded."""
    written = statement.metric
    name = written.name if isinstance(written, ast.Call) else written
    metric = METRICS.get(name.text)
    value = _value(statement, metric, scope)
    if metric is None:
        unknown_word(scope, name.span, name.text, METRICS, f"there is no metric called `{name.text}`")
        return None
    args = written.args if isinstance(written, ast.Call) else ()
    target = _target(metric, [argument for argument in args if argument.name is None], name, scope)
    options = _options(metric, [argument for argument in args if argument.name is not None], scope)
    if value is None or target is None or options is None:
        return None
    op: Any = statement.op  # one of the grammar's three
    return Requirement(metric=metric.name, target=target, options=options, op=op, value=value)


def _value(statement: ast.Require, metric: Metric | None, scope: Scope) -> Amount | None:
    quantity = evaluate(statement.value, scope)
    if quantity is None or metric is None:
        return None
    if metric.shares and not quantity.is_count and quantity.value > 1:
        _refuse_more_than_all(statement, metric, quantity, scope)
        return None
    if metric.counts if quantity.is_count else metric.shares:
        return Amount(value=quantity.value, is_count=quantity.is_count)
    found, wanted, example = ("count", "share", "75%") if quantity.is_count else ("share", "count", "8")
    scope.diagnostics.add(
        "bad-requirement",
        f"{metric.name} is compared with a {wanted}, and {statement.value.span.text} is a {found}",
        statement.value.span,
        help=f"write a {wanted}, such as {example}",
    )
    return None


def _refuse_more_than_all(statement: ast.Require, metric: Metric, quantity: Quantity, scope: Scope) -> None:
    """`mean(depth) >= 9.5`: a share of 950%, which is most likely not what is meant, and which no metric reaches."""
    text = statement.value.span.text
    is_decimal = isinstance(statement.value, ast.Number) and not text.endswith("%")
    count = f"write {floor(quantity.value)} or {ceil(quantity.value)} for a count"
    scope.diagnostics.add(
        "share-over-whole",
        f"{text} is a share"
        + (f", of {share_text(quantity.value)}" if is_decimal else "")
        + f", and {metric.name} is at most 100% of the whole",
        statement.value.span,
        related=scope.chain(quantity),
        help=f"{count}, or the share itself: {text}/12 is {text} of 12"
        if is_decimal and metric.counts
        else "write a share of at most 100%",
    )


def _target(metric: Metric, args: list[ast.Argument], name: ast.Name, scope: Scope) -> str | None:
    """The first argument: a part of the network, or an axis."""
    legal = metric.targets or tuple(AXES)
    if len(args) > 1:
        scope.diagnostics.add(
            "bad-requirement",
            f"{metric.name} takes one word",
            args[1].span,
            related=[Label(args[0].span, "given here")],
            help="remove one of the two",
        )
        return None
    if args:
        what = "the part of the network" if metric.targets else "the axis"
        return word_of(args[0].value, scope, legal, f"{what} in {metric.name}(…)")
    if metric.default is None:
        scope.diagnostics.add(
            "bad-requirement",
            f"{metric.name} does not say of which axis",
            name.span,
            help=f"write {metric.name}({legal[0]})",
        )
    return metric.default


def _options(metric: Metric, args: list[ast.Argument], scope: Scope) -> dict[str, str] | None:
    """The named arguments, each a word of the metric or a whole number."""
    options: dict[str, str] = {}
    given: dict[str, ast.Argument] = {}
    good = True
    for argument in args:
        name = argument.name.text if argument.name else ""
        value = None
        if name not in metric.options:
            nearest = did_you_mean(name, metric.options)
            scope.diagnostics.add(
                "unknown-argument",
                f"{metric.name} has no argument `{name}`",
                argument.span,
                help=f"did you mean `{nearest}`?" if nearest else f"it has {', '.join(metric.options) or 'none'}",
            )
        elif name in given:
            scope.diagnostics.add(
                "duplicate-argument",
                f"{name}= is given twice",
                argument.span,
                related=[Label(given[name].span, "first given here")],
                help="remove one of the two",
            )
        elif metric.options[name]:
            value = word_of(argument.value, scope, metric.options[name], f"{name}=")
        else:
            number = count_of(argument.value, scope, f"{name}=", least=1)
            value = None if number is None else str(number)
        given.setdefault(name, argument)
        good &= value is not None
        if value is not None:
            options[name] = value
    return options if good else None
