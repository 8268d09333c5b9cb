"""Two runs that take turns, and what their logs say of speed."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from raptr_dsl.flops import full_blocks_cost, head_cost
from raptr_dsl.training import Stop, open_run, read_journal
from raptr_dsl.training.comparison import held_out, stage_speeds, switches, take_turns, whole_run
from tests.training.toys import SHAPE, ToyBackend, ToyFeed, toy_plan, toy_settings


def line(event: str, step: int, flops: int = 0, **more: Any) -> dict[str, Any]:
    return {"event": event, "step": step, "flops": {"executed": flops, "planned": flops}, **more}


def train_both(path: Path, stop: Stop, eval_every: int = 2) -> tuple[list[tuple[str, int]], ExitStack]:
    """(run, step) in the order in which steps were done."""
    order: list[tuple[str, int]] = []

    class Shared(list):
        def __init__(self, name: str) -> None:
            self.name = name

        def append(self, step: int) -> None:
            order.append((self.name, step))

    with ExitStack() as stack:
        runs = []
        for name, plan in (("thin", toy_plan((8, 2), (4, 4))), ("dense", toy_plan((8, 4)))):
            backend = ToyBackend(steps=Shared(name))
            told = toy_settings(eval_every=eval_every)
            opened = open_run(plan, backend.as_backend, ToyFeed(), told, path / name)
            runs.append(stack.enter_context(opened))
        take_turns(runs, stop)
        assert stop.requested or all(run.is_done for run in runs)
    return order, stack


def test_the_run_that_spent_less_goes_next_up_to_its_evaluation(tmp_path: Path) -> None:
    order, _ = train_both(tmp_path, Stop())
    assert [step for name, step in order if name == "thin"] == list(range(12))
    assert [step for name, step in order if name == "dense"] == list(range(8))
    assert [name for name, _ in order[:8]] == ["thin", "thin", "dense", "dense"] * 2


def test_without_evaluations_each_runs_to_its_end(tmp_path: Path) -> None:
    order, _ = train_both(tmp_path, Stop(), eval_every=0)
    assert [name for name, _ in order] == ["thin"] * 12 + ["dense"] * 8


def test_a_stop_ends_both(tmp_path: Path) -> None:
    stop = Stop()
    stop.request(15)
    assert train_both(tmp_path, stop)[0] == []


WHOLE = full_blocks_cost(SHAPE) + head_cost(SHAPE)
HALF = full_blocks_cost(SHAPE) // 2 + head_cost(SHAPE)


def test_speed_is_that_of_a_stage_s_fastest_step_against_the_fastest_dense_one_of_that_time() -> None:
    plan, dense = toy_plan((4, 2), (4, 4), names=["half"]), toy_plan((8, 4))
    log = [
        line("train", 2, 2 * HALF, stage=0, fastest_step_seconds=0.5, active={"depth": 2.0}),
        line("train", 4, 4 * HALF, stage=0, fastest_step_seconds=0.25, active={"depth": 2.0}),
        line("train", 8, 4 * HALF + 4 * WHOLE, stage=1, fastest_step_seconds=1.0, active={"depth": 4.0}),
    ]
    # The machine slowed down: what was fast in the first stage is no measure of the second.
    seconds = {1: 0.5, 2: 0.375, 3: 2.0, 4: 0.75}
    dense_log = [
        line("train", n, n * WHOLE, stage=0, fastest_step_seconds=fastest, active={}) for n, fastest in seconds.items()
    ]
    half, full = stage_speeds(plan, log, dense, dense_log)
    assert (half.name, half.blocks, half.seconds, half.dense_seconds) == ("half", 2.0, 0.25, 0.375)
    assert half.ideal == pytest.approx(WHOLE / HALF)
    assert half.efficiency == 1.5 / half.ideal
    assert (full.name, full.ideal, full.realised) == ("2", 1.0, 0.75)
    together = whole_run([half, full])
    assert (together.blocks, together.steps, together.seconds, together.realised) == (3.0, 8, 0.625, 0.9)
    assert together.ideal == pytest.approx(dense.flops().total / plan.flops().total)


def test_without_a_dense_step_of_that_time_all_of_them_count() -> None:
    plan, dense = toy_plan((4, 2), (4, 4)), toy_plan((8, 4))
    log = [
        line("train", 4, 4 * HALF, stage=0, fastest_step_seconds=0.25, active={"depth": 2.0}),
        line("train", 8, 4 * HALF + 4 * WHOLE, stage=1, fastest_step_seconds=0.5, active={"depth": 4.0}),
    ]
    dense_log = [line("train", 8, 8 * WHOLE, stage=0, fastest_step_seconds=0.5, active={})]
    assert [stage.realised for stage in stage_speeds(plan, log, dense, dense_log)] == [2.0, 1.0]


def test_curves_and_switches_come_from_the_log(tmp_path: Path) -> None:
    train_both(tmp_path, Stop())
    log = read_journal(tmp_path / "thin" / "log.jsonl")
    flops, losses = held_out(log)
    assert flops[:4] == [2 * HALF, 4 * HALF, 6 * HALF, 8 * HALF]
    assert len(losses) == 6
    assert switches(log) == [0, 8 * HALF]
