"""`raptr cost` on the terminal: by stage, by account, over seeds, and in GPU-hours."""

from collections.abc import Sequence
from fractions import Fraction

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raptr_dsl.flops import Exact
from raptr_dsl.flops.spread import varies
from raptr_dsl.ir.plan import Plan
from raptr_dsl.report.cost import Cost, Throughput, dense_steps, token_share, words_to_draw
from raptr_dsl.report.layout import stage_label
from raptr_dsl.report.summary import MOST_STAGES, percent, shown_stages, speed_up, title
from raptr_dsl.wording import number_text


def cost_tables(plan: Plan, costs: Sequence[Cost], detailed: int, throughput: Throughput | None = None) -> Group:
    """All of it; the first `detailed` accounts stage by stage."""
    parts: list[RenderableType] = [Group(title(plan), _dense(plan, costs[0]))]
    parts += [_by_stage(plan, cost) for cost in costs[:detailed]]
    parts.append(_by_account(costs))
    if any(map(varies, plan.stages)):
        parts.append(Group(_over_seeds(plan, costs[0]), *_unknown(plan, costs[0])))
    if throughput is not None:
        parts.append(Group(_gpu_hours(costs, throughput), _said_of_mfu(costs)))
    return Group(*[line for part in parts for line in (part, Text())][:-1])


def _dense(plan: Plan, cost: Cost) -> Text:
    """What the shares are of, and the dense runs of as many tokens and of equal FLOPs."""
    tokens, share = plan.steps * plan.shape.tokens, token_share(plan)
    text = f"shares are of the full network for the same {plan.steps:,} steps, "
    if share == 1:
        text += f"{tokens:,} tokens"
    else:
        blocks, total = (percent(ratio / share) for ratio in (cost.mean.ratio_blocks, cost.mean.ratio_total))
        text += (
            f"{float(tokens):.4g} tokens; of as many tokens, {float(tokens * share):.4g}, the blocks cost {blocks}, "
        )
        text += f"blocks and head {total}"
    equal = number_text(Fraction(round(dense_steps(plan, cost))))
    return Text(f"{text}; at equal FLOPs ({cost.name}) it trains {equal} steps", "dim")


def _by_stage(plan: Plan, cost: Cost) -> Table:
    """Beside them, where there are buckets, what fills these: no part of the cost, and a share of the full blocks."""
    has_buckets = any(cost.padded)
    headings = ("padded", "share") if has_buckets else ()
    table = _table(f"stage ({cost.name})", "steps", "blocks", "share", "blocks and head", "share", *headings)
    for index in shown_stages(len(plan.stages)):
        if index is None:
            table.add_row("…", f"{len(plan.stages) - MOST_STAGES:,} more")
            continue
        stage = cost.mean.stages[index]
        table.add_row(
            stage_label(plan, index),
            f"{plan.stages[index].steps:,}",
            *_flops(stage.blocks, stage.full_blocks),
            *_flops(stage.total, stage.full_total),
            *(_flops(cost.padded[index], stage.full_blocks) if has_buckets else ()),
        )
    run = cost.mean
    padded = _flops(sum(cost.padded), run.full_blocks) if has_buckets else ()
    figures = *_flops(run.blocks, run.full_blocks), *_flops(run.total, run.full_total), *padded
    table.add_row("run", f"{plan.steps:,}", *figures)
    return table


def _by_account(costs: Sequence[Cost]) -> Table:
    """The ceilings are on speed-up: what the FLOPs allow, were nothing else to take time."""
    table = _table("convention", "blocks", "share", "ceiling", "blocks and head", "share", "ceiling")
    for cost in costs:
        run = cost.mean
        table.add_row(
            cost.name,
            *_flops(run.blocks, run.full_blocks),
            _ceiling(run.blocks, run.ratio_blocks),
            *_flops(run.total, run.full_total),
            _ceiling(run.total, run.ratio_total),
        )
    return table


def _over_seeds(plan: Plan, cost: Cost) -> Table:
    """Under laws whose counts vary: a share of the full network's blocks beside each figure."""
    table = _table(f"over seeds ({cost.name})", "blocks", "share")
    full = cost.mean.full_blocks
    table.add_row("expectation", *_flops(cost.mean.blocks, full))
    if cost.deviation is not None:
        share = cost.deviation / float(full)
        table.add_row("standard deviation", f"{cost.deviation:.4e}", f"{share:.4g}" if share < 1e-4 else f"{share:.4%}")
    table.add_row("worst case", *_flops(cost.worst.blocks, full))
    if cost.seed is not None:
        table.add_row(f"seed {plan.seed}, exactly", *_flops(cost.seed.blocks, full))
    return table


def _unknown(plan: Plan, cost: Cost) -> list[Text]:
    """What is missing from the table, and why."""
    notes = []
    if cost.seed is None:
        notes.append(
            f"what seed {plan.seed} costs takes {words_to_draw(plan):,} random words to count: --count-seed draws them"
        )
    if cost.variance is None:
        places = [stage_label(plan, place) for place, variance in enumerate(cost.variances) if variance is None]
        few = ", ".join(places[:4]) + (", …" if len(places) > 4 else "")
        notes.append(
            f"the standard deviation is not known (stage {few}): which blocks train is drawn, or blocks are dealt in "
            "rounds while the draws of another axis outlast theirs"
        )
    return [Text(note, "dim") for note in notes]


def _gpu_hours(costs: Sequence[Cost], throughput: Throughput) -> Table:
    of = f"{percent(throughput.mfu)} of {float(throughput.tflops):g} TFLOP/s"
    table = _table(f"GPU-hours at {of}", "planned", "full", "saved")
    for cost in costs:
        planned, full = throughput.hours(cost.mean.total), throughput.hours(cost.mean.full_total)
        table.add_row(cost.name, *(f"{float(hours):,.4g}" for hours in (planned, full, full - planned)))
    return table


def _said_of_mfu(costs: Sequence[Cost]) -> Text:
    counted = "the FLOPs of the row, recomputation included" if _recomputes(costs) else "the model FLOPs of the row"
    return Text(f"mfu is what was measured over {counted}; it is taken to be the same at every size", "dim")


def _recomputes(costs: Sequence[Cost]) -> bool:
    return any(cost.accounting.recompute != "none" for cost in costs)


def _flops(part: Exact, full: Exact) -> tuple[str, str]:
    return f"{float(part):.4e}", percent(Fraction(part) / full)


def _ceiling(flops: Exact, share: Fraction) -> str:
    return speed_up(share) if flops else "none"


def _table(first: str, *headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column(first, overflow="ellipsis", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
