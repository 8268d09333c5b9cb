"""What a run that thins its data, grows and climbs again says of itself: tokens, learning rate, audit."""

import json
from pathlib import Path

from raptr_dsl import compile_text
from raptr_dsl.training.account import Account

MODEL = "model layers=2 heads=2 hidden=8 ffn=16 vocab=300 seq=8 batch=4 tied=false\nsteps 12\n"
TEXT = f"""{MODEL}
stage depth=1 sample=prefix seq=4 steps=3
stage depth=all grow=copy(all) rewarm=2 batch=1/2 steps=3
stage positions=4 depth.train=fixed(1) freeze=[head] steps=3
stage steps=rest
"""


def test_tokens_are_those_that_the_steps_see() -> None:
    plan, seen = compile_text(TEXT), []
    account = Account(plan)
    for step in range(plan.steps):
        account.add(plan.step(step))
        seen.append(account.tokens)
    assert seen[2::3] == [3 * 16, 6 * 16, 6 * 16 + 3 * 32, 6 * 16 + 6 * 32]


def test_a_run_of_it_holds_its_audit(raptr, tmp_path: Path) -> None:
    schedule, text, run = tmp_path / "all.raptr", tmp_path / "text.txt", tmp_path / "run"
    schedule.write_text(TEXT)
    text.write_text("the quick brown fox jumps over the lazy dog. " * 200)
    words = ["--data", str(text), "--out", str(run), "--backend", "reference", "--dtype", "float64", "--log-every", "1"]
    done = raptr("train", str(schedule), *words, "--checkpoint-every", "4", "--lr-schedule", "constant")
    assert done.code == 0, done.err
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    lines = [record for record in records if record["event"] == "train"]
    assert lines[-1]["tokens"] == 6 * 16 + 6 * 32
    assert [line["learning_rate"] for line in lines[:6]] == [1e-3] * 3 + [5e-4] + [1e-3] * 2
    assert next(record for record in records if record["event"] == "audit")["holds"]
