"""`raptr demo`: a schedule beside a dense control of equal FLOPs, from source text to a table and a picture."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raptr_dsl.cli.common import Count, Once, output_console, print_trimmed
from raptr_dsl.cli.demo_folder import PICTURES, RUNS, Demo, Result, prepare, require_ours, write
from raptr_dsl.diagnostics import fail
from raptr_dsl.training import RunSettings

if TYPE_CHECKING:
    from raptr_dsl.data import TokenDataset
    from raptr_dsl.ir.plan import Plan

STEPS = 1040
DATA = "stdlib"
UNIT = "nats per byte"
TITLE = "Held-out loss at equal FLOPs: {blocks} blocks, the sources of Python’s library"
EVALUATIONS, EVAL_BATCHES = 16, 32


@click.command(short_help="Train by a schedule, beside a dense control of equal FLOPs.")
@click.option("-o", "--out", cls=Once, type=click.Path(), default="demo-out", help="Where everything goes. [demo-out]")
@click.option("--steps", cls=Once, type=Count(16), default=STEPS, help=f"Steps of the schedule. [{STEPS:,}]")
@click.option("--model", cls=Once, default="demo", metavar="NAME|FILE", help="What to train. [demo]")
@click.option("--fresh", is_flag=True, help="Throw away the demo that OUT holds, and begin anew.")
def command(out: str, steps: int, model: str, fresh: bool) -> None:
    """Trains a byte-level language model on the sources of Python's standard library by RaPTr 6-8-10-12, and beside
    it a dense one for as many steps as cost the same FLOPs; ends with a table, and a picture of both losses.

    An interrupted demo goes on where it stopped; a finished one is shown again.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin are slow where the machine is shared
    _require_matplotlib()
    plans = _plans(model, steps)
    dataset = _data()
    demo = Demo(
        plans={name: plan.digest for name, plan in plans.items()},
        settings={name: _settings(plan, dataset) for name, plan in plans.items()},
    )
    from raptr_dsl.training.folder import locked

    path = Path(out)
    require_ours(path)
    with locked(path):
        finished = prepare(path, demo, fresh)
        result = finished or _train(path, plans, demo, dataset)
        if finished is None:
            _draw(path, result, plans["raptr"].shape.layers)
            write(path, demo.model_copy(update={"result": result}))
    _show(path, result)


def _require_matplotlib() -> None:
    """Refuses before minutes of training what would fail after them."""
    if find_spec("matplotlib") is None:
        raise fail(
            "demo-needs",
            "the demo draws a picture by matplotlib, which is not installed",
            help='pip install "raptr-dsl[torch,train]"',
        )


def _plans(model: str, steps: int) -> "dict[str, Plan]":
    """The schedule's plan, and the dense one whose FLOPs are nearest to it."""
    from raptr_dsl.api import compile_file
    from raptr_dsl.flops import full_blocks_cost, head_cost
    from raptr_dsl.resources import schedule_directory

    folder = schedule_directory()
    plan = compile_file(folder / "raptr.raptr", model=model, steps=steps, seed=17)
    full_step = full_blocks_cost(plan.shape) + head_cost(plan.shape)
    dense = compile_file(folder / "dense.raptr", model=plan.shape, steps=max(1, round(plan.flops().total / full_step)))
    return {"raptr": plan, "dense": dense}


def _data() -> "TokenDataset":
    from raptr_dsl.data import open_dataset

    return open_dataset([DATA])


def _settings(plan: "Plan", dataset: "TokenDataset") -> RunSettings:
    """The same for both runs but for the warm-up, which is a share of each horizon."""
    from raptr_dsl.backend import TrainSettings
    from raptr_dsl.training import Cadence, DataIdentity

    return RunSettings(
        backend="torch",
        train=TrainSettings(lr=1e-3, warmup=plan.steps // 20),
        data=DataIdentity(paths=(DATA,), tokenizer="bytes", sha256=dataset.digest),
        data_seed=17,
        eval_batches=EVAL_BATCHES,
        cadence=Cadence(
            log_every=max(1, plan.steps // 100),
            eval_every=-(-plan.steps // EVALUATIONS),
            checkpoint_every=max(1, plan.steps // 8),
        ),
    )


def _train(path: Path, plans: "dict[str, Plan]", demo: Demo, dataset: "TokenDataset") -> Result:
    """Trains both, in turns."""
    from contextlib import ExitStack

    from raptr_dsl.cli.progress import watching
    from raptr_dsl.cli.train import load_backend, stopped
    from raptr_dsl.training import TokenFeed, open_run, read_journal, stop_requests
    from raptr_dsl.training.comparison import stage_speeds, take_turns

    _announce(plans, dataset)
    with ExitStack() as stack:
        stop = stack.enter_context(stop_requests())
        watch = stack.enter_context(watching())
        runs = {}
        for name, plan in plans.items():
            told = demo.settings[name]
            feed = TokenFeed(dataset, plan.shape, told.data_seed, told.eval_batches)
            backend, reporter = load_backend(plan, told.backend), watch.reporter(plan, RUNS[name])
            opened = open_run(plan, backend, feed, told, path / name, resume=True, reporter=reporter)
            runs[name] = stack.enter_context(opened)
        take_turns(list(runs.values()), stop)
        for run in runs.values():
            run.save()
        if not all(run.is_done for run in runs.values()):
            stopped(stop.signal, f"raptr demo --out {path}, with the same options")
        summaries = {name: run.finish() for name, run in runs.items()}
    logs = {name: read_journal(path / name / "log.jsonl") for name in runs}
    speeds = stage_speeds(plans["raptr"], logs["raptr"], plans["dense"], logs["dense"])
    return Result(summaries=summaries, speeds=tuple(speeds))


def _announce(plans: "dict[str, Plan]", dataset: "TokenDataset") -> None:
    from raptr_dsl.report.summary import summary

    plan, dense = plans["raptr"], plans["dense"]
    apart = abs(dense.flops().total / plan.flops().total - 1)
    console = output_console()
    print_trimmed(console, summary(plan))
    console.print(f"control  the full network for {dense.steps:,} steps: the same FLOPs to {float(apart):.2%}")
    console.print(f"data     {DATA}: {len(dataset.tokens):,} bytes, {dataset.held_out.tokens:,} of them held out\n")


def _show(path: Path, result: Result) -> None:
    from raptr_dsl.report.comparison import outcome, speeds

    console = output_console()
    console.print(outcome({RUNS[name]: result.summaries[name] for name in RUNS}, UNIT))
    console.print()
    console.print(speeds(result.speeds))
    console.print(_verdict(result))
    console.print(
        f"picture: {path / PICTURES[0]}, {path / PICTURES[1]}; logs, plans and weights: {path}", soft_wrap=True
    )


def _verdict(result: Result) -> str:
    raptr, dense = (result.summaries[name].held_out_loss or 0.0 for name in RUNS)
    better, worse = ("RaPTr", "the dense run") if raptr < dense else ("the dense run", "RaPTr")
    return (
        "\nHeld-out losses are of the full network; speeds are of each stage's fastest step against the fastest dense "
        f"one of the same time.\nAt equal FLOPs {better} ended {abs(raptr - dense):.4f} {UNIT} below {worse}: one "
        "short run each of a tiny model, which shows that the schedule is kept and the skipped work is saved, not what "
        "the method can do."
    )


def _draw(path: Path, result: Result, blocks: int) -> None:
    from raptr_dsl.report.curves import Curve, Switch, held_out_curves, save_picture
    from raptr_dsl.training import read_journal
    from raptr_dsl.training.comparison import held_out, switches
    from raptr_dsl.training.files import writing

    curves = []
    for name, label in RUNS.items():
        log = read_journal(path / name / "log.jsonl")
        flops, losses = held_out(log)
        begun = zip(switches(log), result.speeds, strict=True) if name == "raptr" else ()
        marks = [Switch(at, f"{stage.blocks:g} blocks") for at, stage in begun]
        curves.append(Curve(label, flops, losses, marks))
    figure = held_out_curves(curves, title=TITLE.format(blocks=blocks), unit=UNIT)
    for name in PICTURES:
        with writing("the picture", path / name):
            save_picture(figure, path / name)
