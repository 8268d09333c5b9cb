"""Proves or refutes a schedule's requirements before anything is trained (rules 37–39)."""

import operator
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor

from raptr_dsl.compiler.evaluate import word_text
from raptr_dsl.compiler.metrics import METRICS, Answer, Question, flop_report
from raptr_dsl.compiler.origins import Origins
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.ir.bound import BoundSchedule
from raptr_dsl.ir.plan import Plan, Proven
from raptr_dsl.ir.schedule import Requirement
from raptr_dsl.source import Span
from raptr_dsl.wording import number_text, plural, share_text

HOLDS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


def verify(bound: BoundSchedule, plan: Plan, origins: Origins, diagnostics: Diagnostics) -> tuple[Proven, ...]:
    """The requirements that hold, each with its value; those that do not are recorded as errors."""
    proven: list[Proven] = []
    for number, requirement in enumerate(bound.requirements):
        question = Question(bound, plan, requirement)
        problem = METRICS[requirement.metric].problem(question)
        if problem:
            diagnostics.add("bad-requirement", problem, origins.span(("requirements", number)))
            continue
        answer = METRICS[requirement.metric].evaluate(question)
        if HOLDS[requirement.op](answer.value, requirement.value.value):
            proven.append(Proven(text=requirement_text(requirement), value=_answer_text(answer, question)))
            continue
        _refute(question, answer, number, origins, diagnostics)
    return tuple(proven)


def requirement_text(requirement: Requirement) -> str:
    """A requirement in the language's own words, normalised."""
    value = value_text(requirement.value.value, not requirement.value.is_count)
    return f"{metric_text(requirement)} {requirement.op} {value}"


def metric_text(requirement: Requirement) -> str:
    """What is compared: `flops(blocks, case=worst)`."""
    options = [requirement.target] if requirement.target else []
    options += [f"{name}={_option_text(value)}" for name, value in sorted(requirement.options.items())]
    return requirement.metric + (f"({', '.join(options)})" if options else "")


def _option_text(value: str) -> str:
    return value if value.isdigit() else word_text(value)


def value_text(value: Fraction, relative: bool) -> str:
    """The value of a metric: a share (`75%`), or a count with thousands apart."""
    if not relative:
        return number_text(value)
    exact = share_text(value)
    return exact if exact.endswith("%") else f"{exact} ≈ {float(value):.2%}"


def _answer_text(answer: Answer, question: Question) -> str:
    """`75%`, `488,118, for seed 17`, `at least 489,361, for every seed`,
    `75% by exact durations, 74.92% in whole steps`.

    Where the borders of stages were rounded, the steps that are trained come to another share than the one that is
    required of durations (rule 38): whoever reads the plan's FLOPs beside it is told of both.
    """
    value = " ".join(filter(None, [answer.bound, value_text(answer.value, question.relative)]))
    rounded = _in_whole_steps(question)
    if rounded is not None and f"{float(rounded):.2%}" != f"{float(answer.value):.2%}":
        value += f" by exact durations, {float(rounded):.2%} in whole steps"
    return ", ".join(filter(None, [value, answer.proof]))


def _in_whole_steps(question: Question) -> Fraction | None:
    """The value over the steps that stages really have, where that may differ."""
    metric = METRICS[question.requirement.metric]
    is_rounded = any(stage.duration != stage.steps for stage in question.bound.stages)
    if not (metric.weighed and question.weighs_durations and is_rounded):
        return None
    return metric.evaluate(replace(question, in_whole_steps=True)).value


def _refute(question: Question, answer: Answer, number: int, origins: Origins, diagnostics: Diagnostics) -> None:
    requirement = question.requirement
    relation = {"<=": "more than", ">=": "less than", "==": "not"}[requirement.op]
    found = value_text(answer.value, question.relative)
    wanted = value_text(requirement.value.value, question.relative)
    span = origins.span(("requirements", number))
    costliest = None if span else _costliest_span(question, origins)  # a budget stands nowhere in the file
    diagnostics.add(
        "requirement-refuted",
        f"{requirement_text(requirement)} does not hold: it is {_answer_text(answer, question)}",
        span or costliest,
        label="this stage costs most" if costliest else f"{found}, {relation} {wanted}",
        notes=(*_arithmetic(question), *_of_a_lost_percent_sign(question)) if requirement.metric == "flops" else (),
        help=_help(question, answer.value, is_budget=span is None or span.source.name.startswith("--")),
        subject=origins.at(("requirements", number)).text,
    )


def _of_a_lost_percent_sign(question: Question) -> tuple[str, ...]:
    wanted = question.requirement.value.value
    if question.relative or not 0 < wanted <= 100:
        return ()
    return (f"{wanted} is a count of FLOPs; a share of full training is written {wanted}%",)


def _help(question: Question, value: Fraction, *, is_budget: bool) -> str:
    """An edit that mends it: the nearest requirement that holds, in the language's spelling, where there is one."""
    op = question.requirement.op
    if not question.relative and op == "==" and value.denominator != 1:
        return "change the stages: no whole number is what this schedule has"
    nearest = share_text(value) if question.relative else str(floor(value) if op == ">=" else ceil(value))
    if is_budget:
        return f"change the stages, or give --budget '{metric_text(question.requirement)} {op} {nearest}'"
    return f"change the stages, or require {op} {nearest}"


def _costliest_span(question: Question, origins: Origins) -> Span | None:
    """The stage that costs most; None where a parameter dropped stages, so that they are not those of the file."""
    stages = flop_report(question).stages
    if len(stages) != len(origins.stages):
        return None
    return origins.span(("stages", max(range(len(stages)), key=lambda i: stages[i].blocks)))


def _arithmetic(question: Question) -> list[str]:
    """What each stage costs, and which costs most."""
    stages = question.bound.stages
    report = flop_report(question)
    costliest = max(range(len(stages)), key=lambda i: report.stages[i].blocks)
    lines = [
        f"stage {stages[i].name or i + 1}: {plural(stages[i].steps, 'step')} at "
        f"{value_text(stage.ratio_blocks, True)} of the blocks' FLOPs" + (" (costs most)" if i == costliest else "")
        for i, stage in enumerate(report.stages)
    ]
    return lines if len(lines) <= 12 else [lines[costliest]]
