"""`raptr train`: a small transformer, trained by a schedule or plan on text files."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from raptr_dsl.backend.processes import launch_rank
from raptr_dsl.cli.common import (
    Count,
    Once,
    load_plan_or_compile,
    output_console,
    print_trimmed,
    schedule_options,
    show_diagnostics,
)
from raptr_dsl.cli.run_options import open_data, run_options, run_settings, set_threads
from raptr_dsl.diagnostics import RaptrError, fail

if TYPE_CHECKING:
    from raptr_dsl.backend import Backend
    from raptr_dsl.data import TokenDataset
    from raptr_dsl.ir.plan import Plan
    from raptr_dsl.training import RunSettings, RunSummary

SCHEDULE_OPTIONS = ("model", "steps", "seed", "params", "budget")


@click.command(short_help="Train a small transformer by a schedule or plan.")
@click.argument("file", type=click.Path(readable=False), metavar="[FILE|PLAN]", required=False)
@click.option("--data", multiple=True, metavar="PATH", help="Text files, folders, or stdlib; any number.")
@click.option("-o", "--out", cls=Once, type=click.Path(), metavar="RUN", required=True, help="The run's folder.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in RUN, if there is one.")
@click.option("--calibrate", is_flag=True, help="Measure steps at each size instead; write them to RUN, a file.")
@click.option("--rounds", cls=Once, type=Count(1), metavar="N", help="Of --calibrate. [5]")
@schedule_options
@run_options
@click.pass_context
def command(
    ctx: click.Context,
    file: str | None,
    data: tuple[str, ...],
    out: str,
    resume: bool,
    calibrate: bool,
    rounds: int | None,
    **options: Any,
) -> None:
    """Trains a small transformer by a schedule or plan, and checks at the end that it did what was planned.

    RUN holds everything: plan, settings, log.jsonl, checkpoints, summary. To go on with a run, `raptr train
    --resume --out RUN` is enough: what is not given is what it began with.
    """
    overrides = {name: options.pop(name) for name in SCHEDULE_OPTIONS}
    given = {name: value for name, value in options.items() if value is not None}
    if calibrate:
        _calibrate(ctx, file, resume, rounds or 5, Path(out), overrides, given)
        return
    if rounds is not None:
        raise click.UsageError("--rounds is of --calibrate", ctx)
    from raptr_dsl.training.folder import require_usable

    require_usable(Path(out), resume)  # before anything is read, compiled or printed; the lock looks again
    before = _settings_of(Path(out)) if resume else None
    set_threads(given.get("threads", before.threads if before else None))
    _require_beginning(file, Path(out), goes_on=before is not None)
    settings = run_settings(ctx, data, given, before)
    plan, warnings = load_plan_or_compile(file or str(Path(out) / "plan.json"), ctx, overrides)
    if launch_rank() == 0:
        show_diagnostics(warnings)
    dataset, settings = open_data(settings)
    _train(plan, dataset, settings, Path(out), resume)


def _calibrate(
    ctx: click.Context,
    file: str | None,
    resume: bool,
    rounds: int,
    out: Path,
    overrides: dict[str, Any],
    given: dict[str, Any],
) -> None:
    """Measures instead of training, on random tokens."""
    from raptr_dsl.cli.calibrate import measure

    if resume or file is None:
        raise click.UsageError(
            "--calibrate measures a schedule or plan from the beginning: name it, without --resume", ctx
        )
    if "init" in given:
        raise click.UsageError("--calibrate measures steps, whose time no weights change: leave out --init", ctx)
    set_threads(given.get("threads"))
    from raptr_dsl.data import STDLIB

    settings = run_settings(ctx, (STDLIB,), given, None)  # no data are read
    plan, warnings = load_plan_or_compile(file, ctx, overrides)
    show_diagnostics(warnings)
    measure(plan, load_backend(plan, settings.backend), settings, rounds, out)


def _settings_of(out: Path) -> "RunSettings | None":
    """What the run in that folder began with, if one did."""
    from raptr_dsl.training.folder import RunFolder

    folder = RunFolder(out)
    return folder.settings() if folder.begun else None


def _require_beginning(file: str | None, out: Path, goes_on: bool) -> None:
    if file is None and not goes_on:
        raise fail(
            "train-nothing-to-resume",
            f"no schedule or plan is named, and there is no run in {out} that could go on by --resume",
            subject="--out",
            help="name a schedule or plan and its data",
        )


def _train(plan: "Plan", dataset: "TokenDataset", settings: "RunSettings", out: Path, resume: bool) -> None:
    from raptr_dsl.backend.checks import require_settings
    from raptr_dsl.cli.progress import watching
    from raptr_dsl.training import TokenFeed, train

    backend = load_backend(plan, settings.backend)
    require_settings(settings.train, backend.name, backend.capabilities)  # before a summary is printed
    feed = TokenFeed(dataset, plan.shape, settings.data_seed, settings.eval_batches)
    if launch_rank():  # process 0 speaks for all
        summary = train(plan, backend, feed, settings, out, resume=resume)
        raise click.exceptions.Exit(0 if summary.finished else _killed_by(summary.signal))
    _announce(plan, dataset, settings)
    with watching() as watch:
        reporter = watch.reporter(plan, plan.name)
        summary = train(plan, backend, feed, settings, out, resume=resume, reporter=reporter)
    if not summary.finished:
        stopped(summary.signal, f"raptr train --resume --out {out}")
    _conclude(summary, out)


def load_backend(plan: "Plan", name: str) -> "Backend":
    """The backend of a name, if it can run all that the plan asks for. Raises RaptrError."""
    from raptr_dsl import registry
    from raptr_dsl.backend.support import unsupported

    backend = registry.load_to_run(name)
    if refused := unsupported(plan, backend):
        raise RaptrError(refused)
    return backend


def stopped(number: int | None, again: str) -> NoReturn:
    """Ends the command as a program ends by a signal, and says how to go on."""
    name = signal.Signals(number or signal.SIGINT).name
    click.echo(f"stopped by {name}, with a checkpoint; go on with: {again}", err=True)
    raise click.exceptions.Exit(_killed_by(number))


def _killed_by(number: int | None) -> int:
    """The exit code; None where another process was told to stop."""
    return 128 + (number or signal.SIGINT)


def _announce(plan: "Plan", dataset: "TokenDataset", settings: "RunSettings") -> None:
    """What is about to happen, before the first step: whether the schedule is on, and on which data."""
    from raptr_dsl.report.summary import summary

    train, data = settings.train, settings.data
    facts = (
        ("data", f"{', '.join(data.paths)}: {len(dataset.tokens):,} tokens by {data.tokenizer}"),
        ("", f"sha256 {data.sha256}"),
        (
            "held out",
            f"{dataset.held_out.tokens:,} tokens; evaluations are of {settings.eval_batches} batches",
        ),
        (
            "training",
            f"{settings.backend}, {train.dtype}, AdamW, peak lr {train.lr:g}, {train.lr_schedule}",
        ),
        *([("weights", f"{settings.init.path}, sha256 {settings.init.sha256}")] if settings.init else []),
        *(("note", note) for note in dataset.notes),
    )
    console = output_console()
    print_trimmed(console, summary(plan))
    for name, text in facts:
        console.print(f"{name:<8}  {text}", soft_wrap=True)
    console.print()


def _conclude(summary: "RunSummary", out: Path) -> None:
    share = summary.flops / summary.full_flops
    click.echo(f"{summary.steps:,} steps, {summary.tokens:,} tokens in {summary.seconds:.1f} s of training")
    click.echo(f"held-out loss of the full network: {summary.held_out_loss:.4f} nats per token")
    click.echo(f"FLOPs: {summary.flops:,} executed, as planned; {share:.2%} of full training")
    if summary.padded_flops:
        click.echo(f"besides, {summary.padded_flops:,} FLOPs that filled up a program's shapes and were discarded")
    click.echo(f"run: {out}")
