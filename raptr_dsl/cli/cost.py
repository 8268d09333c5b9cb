"""`raptr cost`: what schedules cost, exactly, by stage and by convention, beside the full network."""

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, get_args

import click

from raptr_dsl.cli.common import (
    Once,
    exit_code,
    format_option,
    load_plan_or_compile,
    output_console,
    print_trimmed,
    schedule_options,
    show_diagnostics,
)
from raptr_dsl.diagnostics import Diagnostic, RaptrError, did_you_mean, fail
from raptr_dsl.flops import Causal, Recompute
from raptr_dsl.flops.conventions import CONVENTIONS
from raptr_dsl.wording import parse_share

if TYPE_CHECKING:
    from raptr_dsl.ir.plan import Plan
    from raptr_dsl.render import Format
    from raptr_dsl.report.cost import Cost, Throughput
    from raptr_dsl.training.estimate import TimeEstimate

GPU_HOURS = ("tflops", "mfu")


@click.command(short_help="Count what schedules cost, by stage and convention.")
@click.argument("files", nargs=-1, required=True, type=click.Path(readable=False), metavar="FILE|PLAN...")
@schedule_options
@click.option(
    "--convention",
    "conventions",
    multiple=True,
    metavar="NAME",
    help=f"{', '.join(CONVENTIONS)}: this one, stage by stage; repeatable.",
)
@click.option("--causal", cls=Once, type=click.Choice(get_args(Causal)), default="full", help="Scores counted: [full]")
@click.option(
    "--recompute", cls=Once, type=click.Choice(get_args(Recompute)), default="none", help="Of activations: [none]"
)
@click.option("--gpu-hours", nargs=2, metavar="tflops=X mfu=Y", help="Estimate GPU-hours at this throughput.")
@click.option("--calibration", cls=Once, type=click.Path(), metavar="JSON", help="Estimate time from measured steps.")
@click.option("--count-seed", is_flag=True, help="Count what the seed draws, however long it takes.")
@format_option
@click.pass_context
def command(
    ctx: click.Context,
    files: tuple[str, ...],
    conventions: tuple[str, ...],
    causal: str,
    recompute: str,
    gpu_hours: tuple[str, str] | None,
    calibration: str | None,
    count_seed: bool,
    format: "Format",
    **overrides: Any,
) -> None:
    """Counts what schedules or plans cost: by stage, by convention, relative to the full network for the same steps.
    Without --convention, all conventions that fit the model, and matmul by stage. Everything is counted in exact
    integers, which --format json has; the tables round to five digits.

    Under random laws it gives the expectation, the standard deviation, the worst case, and what this seed draws.
    """
    names = tuple(dict.fromkeys(conventions))
    told: list[dict[str, Any]] = []
    met: list[Diagnostic] = []
    throughput = None
    try:
        throughput = _throughput(gpu_hours) if gpu_hours else None
    except RaptrError as error:
        met += error.diagnostics
        files = ()
        if format != "json":
            show_diagnostics(error.diagnostics, format)
    printed = 0
    for file in files:
        try:
            plan, warnings = load_plan_or_compile(file, ctx, overrides)
            found = _costs(plan, names, causal, recompute, count_seed)
            times = _times(plan, calibration) if calibration else None
        except RaptrError as error:
            met += error.diagnostics
            if format != "json":
                show_diagnostics(error.diagnostics, format)
            continue
        met += warnings
        if format == "json":
            told.append(_data(file, plan, found, throughput, times))
            continue
        show_diagnostics(warnings, format)
        if printed:
            click.echo()
        printed += 1
        _print(plan, found, max(1, len(names)), throughput, times)
    if format == "json":
        from raptr_dsl.render import as_data

        click.echo(json.dumps({"costs": told, "diagnostics": [as_data(one) for one in met]}, indent=2))
    ctx.exit(exit_code(met))


def _costs(plan: "Plan", names: Sequence[str], causal: str, recompute: str, count_seed: bool) -> "list[Cost]":
    from raptr_dsl.report.cost import accounts, costs

    try:
        return costs(plan, accounts(plan, names, causal, recompute), count_seed)
    except ValueError as error:
        subject = plan.name if CONVENTIONS.keys() >= set(names) else "--convention"
        raise fail("bad-account", f"{plan.name} cannot be counted so: {error}", subject=subject) from error


def _throughput(words: Sequence[str]) -> "Throughput":
    """What `--gpu-hours tflops=989 mfu=40%` says. Raises RaptrError with everything that is wrong with it."""
    from raptr_dsl.report.cost import Throughput

    given: dict[str, Fraction] = {}
    wrong: list[str] = []
    for word in " ".join(words).split():
        name, equals, text = word.partition("=")
        number = parse_share(text)
        if name not in GPU_HOURS:
            nearest = did_you_mean(name, GPU_HOURS)
            wrong.append(f"there is no word {name!r}" + (f"; did you mean {nearest}?" if nearest else ""))
        elif name in given:
            wrong.append(f"{name} is given twice")
        elif not equals or number is None or number <= 0 or (name == "tflops" and "%" in text):
            wrong.append(f"{word!r} has no positive number" if name == "tflops" else f"{word!r} has no positive share")
        elif name == "mfu" and number > 1:
            wrong.append(f"mfu={text} is more than the whole of the peak")
        given[name] = number or Fraction(0)
    wrong += [f"{name}= is missing" for name in GPU_HOURS if name not in given]
    if wrong:
        raise fail(
            "bad-gpu-hours",
            f"--gpu-hours does not say how fast a GPU is: {wrong[0]}",
            notes=tuple(wrong[1:]),
            help="write --gpu-hours tflops=989 mfu=40%: the peak of one GPU, and the share of it that training reaches",
            subject="--gpu-hours",
        )
    return Throughput(given["tflops"], given["mfu"])


def _times(plan: "Plan", path: str) -> "TimeEstimate":
    from raptr_dsl.training.calibration import load_calibration
    from raptr_dsl.training.estimate import estimate

    return estimate(plan, load_calibration(path))


def _data(
    file: str, plan: "Plan", found: "Sequence[Cost]", throughput: "Throughput | None", times: "TimeEstimate | None"
) -> dict[str, Any]:
    from raptr_dsl.report.cost import cost_data

    return {
        "file": file,
        **cost_data(plan, found, throughput),
        "time": times and times.model_dump(mode="json"),
    }


def _print(
    plan: "Plan", found: "Sequence[Cost]", detailed: int, throughput: "Throughput | None", times: "TimeEstimate | None"
) -> None:
    from raptr_dsl.report.cost_tables import cost_tables

    parts = [cost_tables(plan, found, detailed, throughput)]
    if times is not None:
        from raptr_dsl.report.calibration import time_table

        parts += ["", time_table(plan, times)]
    print_trimmed(output_console(), *parts)
