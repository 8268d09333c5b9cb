"""A plan on one screen, and the same facts for programs."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from raptr_dsl.axes import AXES
from raptr_dsl.flops import Exact, FlopReport
from raptr_dsl.ir.bound import BoundDraw, BoundRule, BoundStage, Growth
from raptr_dsl.ir.plan import Plan
from raptr_dsl.occupancy import runs_in_full
from raptr_dsl.report.layout import stage_label
from raptr_dsl.wording import plural

MOST_STAGES = 24
"""A longer table is cut in the middle: it is to fit on a screen."""


def summary(plan: Plan, written: str = "") -> Group:
    """What was compiled, stage by stage; what it costs; what is proven; where it was written."""
    report = plan.flops()
    parts = (title(plan), _stages(plan, report), _costs(plan, report), _facts(plan, written))
    return Group(*[line for part in parts for line in (part, Text())][:-1])


def title(plan: Plan) -> Text:
    """What a plan is, of which model, and for how long."""
    heading = Text(plan.name, "bold")
    if plan.doc:
        heading.append(f"  {' '.join(plan.doc.split())}", "not bold")
    shape = plan.shape
    experts = f" in each of {shape.experts:,} experts, {shape.top_k:,} a token" if shape.has_experts else ""
    heading.append(
        f"\n{plural(plan.steps, 'step')} of {shape.batch:,} × {shape.seq:,} tokens"
        + (f" (and {shape.source_seq:,} of the encoder)" if shape.source_seq else "")
        + f", {'2 × ' * (shape.stacks - 1)}{shape.layers} blocks × {shape.hidden:,}, {plural(shape.heads, 'head')}, "
        f"ffn {shape.ffn:,}{experts}, vocabulary {shape.vocab:,}",
        "dim not bold",
    )
    return heading


def _stages(plan: Plan, report: FlopReport) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("stage", overflow="ellipsis", no_wrap=True, max_width=16)
    for heading in ("steps", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("axis", "size"):
        table.add_column(heading, no_wrap=True)
    table.add_column("rule", overflow="fold")
    table.add_column("FLOPs", justify="right", no_wrap=True)
    for index in shown_stages(len(plan.stages)):
        if index is None:
            table.add_row("…", f"{len(plan.stages) - MOST_STAGES:,} more")
            continue
        stage = plan.stages[index]
        head = (stage_label(plan, index), f"{stage.steps:,}", percent(stage.duration / plan.steps))
        cost = percent(report.stages[index].ratio_blocks)
        rules = [(axis, size_text(plan, axis, rule), rule_text(plan, axis, rule)) for axis, rule in stage.axes.items()]
        rules += [("all", "", words)] if (words := stage_text(stage)) else []
        for row, cells in enumerate(rules or [("all", "full", "")]):
            table.add_row(*(head if row == 0 else ("", "", "")), *cells, cost if row == 0 else "")
    return table


def shown_stages(stages: int) -> Iterator[int | None]:
    """The indices of the stages to show, None for those left out."""
    if stages <= MOST_STAGES:
        yield from range(stages)
        return
    yield from range(MOST_STAGES - 4)
    yield None
    yield from range(stages - 4, stages)


def size_text(plan: Plan, axis: str, rule: BoundRule) -> str:
    """`6/12`, `6→12/12` for a curve, `4|8|16/32` for a drawn size, `p=80%`; in elements."""
    space = AXES[axis].space(plan.shape)
    total = space.units * space.group

    def elements(units: Fraction | int) -> str:
        size = Fraction(units) * space.group
        return f"{size.numerator}" if size.denominator == 1 else f"{float(size):.4g}"

    if rule.choices:
        choices = [elements(size) for size in rule.choices]
        drawn = "|".join(choices) if len(choices) < 4 else f"{choices[0]}|…|{choices[-1]}"
        return f"{drawn}/{total}"
    first, last = rule.sizes[0].value, rule.sizes[-1].value
    if rule.measure == "probability":
        return f"p={percent(first)}" + (f"→{percent(last)}" if last != first else "")
    return elements(first) + (f"→{elements(last)}" if len(rule.sizes) > 1 else "") + f"/{total}"


def rule_text(plan: Plan, axis: str, rule: BoundRule) -> str:
    """The law and what differs from the defaults: `balanced scale=sqrt keep=0,11 every=20 idle=skip`.

    Where all units run, nothing is drawn, and there is no law to name: `train=suffix(6)`.
    """
    words = [] if runs_in_full(rule, AXES[axis].space(plan.shape)) else [law_text(rule)]
    if rule.scale != "none":
        words.append(f"scale={rule.scale}")
    if rule.keep:
        words.append(f"keep={','.join(map(str, rule.keep))}" if len(rule.keep) <= 4 else f"keep={len(rule.keep)} units")
    if rule.full:
        words.append(
            f"full={','.join(map(str, rule.full))}" if len(rule.full) <= 4 else f"full={len(rule.full)} blocks"
        )
    if rule.profile.kind != "uniform":
        words.append(f"profile={rule.profile.kind}")
    if rule.every != 1:
        words.append(f"every={rule.every or 'stage'}")
    if rule.idle != "zero":
        words.append(f"idle={rule.idle}")
    if rule.train:
        words.append(trained_text(rule.train))
        if rule.train.every != 1 and rule.every == 1:
            words.append(f"every={rule.train.every or 'stage'}")
    if rule.growth:
        words.append(growth_text(rule.growth))
    return " ".join(words)


def stage_text(stage: BoundStage) -> str:
    """What is said of a stage as a whole: `freeze=embed,head rewarm=100`."""
    words = [f"freeze={','.join(stage.freeze)}"] if stage.freeze else []
    return " ".join([*words, f"rewarm={stage.rewarm:,}"] if stage.rewarm else words)


def trained_text(draw: BoundDraw) -> str:
    """`train=suffix(12→1)`, `train=fixed(2|4)`; in units."""
    sizes = draw.choices or tuple(border.value for border in draw.sizes)
    ends = (sizes[0], sizes[-1]) if len(sizes) > 1 else sizes
    each = [percent(Fraction(size)) if draw.measure == "probability" else f"{float(size):.4g}" for size in ends]
    return f"train={draw.law.law}({('|' if draw.choices else '→').join(each)})"


def growth_text(growth: Growth) -> str:
    """`grows 3→6 at 3 moments=zero`, `grows 3→6 at 3 from nothing`: where the new blocks are inserted."""
    words = f"grows {growth.before}→{len(growth.sources)} at {growth.at}"
    if growth.sources[growth.at] < 0:
        return f"{words} from nothing"
    return words + (" moments=zero" if growth.moments == "zero" else "")


def law_text(rule: BoundDraw) -> str:
    """The law with its parameters: `stratified(groups=4)`."""
    parameters = rule.law.model_dump(mode="json", exclude={"law"}, exclude_defaults=True)
    given = ", ".join(f"{name}={'[…]' if isinstance(value, list) else value}" for name, value in parameters.items())
    return f"{rule.law.law}({given})" if given else rule.law.law


def _costs(plan: Plan, report: FlopReport) -> Table:
    """FLOPs beside those of the full network; under random laws the mean, and the worst case."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("FLOPs", no_wrap=True)
    for heading in ("planned", "full", "share", "max speed-up"):
        table.add_column(heading, justify="right", no_wrap=True)

    def add(heading: str, part: Exact, whole: Exact) -> None:
        share = Fraction(part, whole)
        table.add_row(heading, f"{float(part):.4e}", f"{float(whole):.4e}", percent(share), speed_up(share))

    rules = [rule for stage in plan.stages for rule in stage.axes.values()]
    mean = "" if all(rule.law.exact and not rule.choices for rule in rules) else ", mean"
    add(f"blocks{mean}", report.blocks, report.full_blocks)
    add(f"blocks and head{mean}", report.total, report.full_total)
    if mean:
        worst = plan.flops(case="worst")
        add("blocks, worst", worst.blocks, worst.full_blocks)
    return table


def _facts(plan: Plan, written: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for index, proven in enumerate(plan.proven):
        table.add_row("" if index else "proven", f"{proven.text}: {proven.value}")
    table.add_row("shapes", plural(plan.shapes, "distinct program shape"))
    table.add_row("seed", str(plan.seed))
    if plan.schedule:
        table.add_row("schedule", plan.schedule)
    table.add_row("digest", plan.digest)
    if written:
        table.add_row("plan", written)
    return table


def percent(share: Fraction) -> str:
    """A share to a hundredth of a percent: `75%`, `81.94%`."""
    return f"{float(round(share * 100, 2)):g}%"


def speed_up(share: Fraction) -> str:
    """The ceiling on speed-up at a share of the FLOPs, to the nearest thousandth as papers print it: `1.333x`."""
    return f"{float(round(1 / share, 3)):.3f}x"


def facts(plan: Plan, written: str = "") -> dict[str, Any]:
    """The summary for programs. Exact FLOPs and ratios are strings (`"3/4"`): no JSON reader rounds those."""
    report = plan.flops()
    return {
        "name": plan.name,
        "doc": plan.doc,
        "steps": plan.steps,
        "seed": plan.seed,
        "shape": plan.shape.model_dump(mode="json"),
        "stages": [
            {
                "name": stage.name,
                "start": stage.start,
                "stop": stage.stop,
                "axes": {axis: rule.model_dump(mode="json") for axis, rule in stage.axes.items()},
                "flops": _exact(costs),
            }
            for stage, costs in zip(plan.stages, report.stages, strict=True)
        ],
        "flops": {"convention": "matmul", **_exact(report)},
        "proven": [proven.model_dump(mode="json") for proven in plan.proven],
        "shapes": plan.shapes,
        "schedule": plan.schedule,
        "digest": plan.digest,
        "checksum": plan.checksum,
        "written": written or None,
    }


def _exact(report: FlopReport) -> dict[str, str]:
    return {
        name: str(getattr(report, name))
        for name in ("blocks", "total", "full_blocks", "full_total", "ratio_blocks", "ratio_total")
    }
