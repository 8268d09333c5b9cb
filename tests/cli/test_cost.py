"""`raptr cost`: its tables, its JSON, and what it refuses."""

import json
from fractions import Fraction
from math import sqrt
from pathlib import Path

import pytest

import raptr_dsl
from raptr_dsl.flops import CONVENTIONS, Accounting, block_cost
from raptr_dsl.flops.spread import FlopSpread

GOLDEN = Path(__file__).parent.parent / "golden" / "cli"

RANDOM = """\
allow partial
model layers=4 heads=4 hidden=64 ffn=256 vocab=50 seq=16 batch=2
steps 1k
stage free depth=2/4 sample=bernoulli every=20 steps=50%
stage rounds depth=3/4 depth.sample=balanced heads=1/2 heads.sample=bernoulli steps=rest
"""


def test_tables(raptr, bert, golden) -> None:
    done = raptr("cost", bert, "--gpu-hours", "tflops=312", "mfu=45%")
    assert (done.code, done.err) == (0, "")
    golden(GOLDEN / "cost.txt", done.out)
    assert max(map(len, done.out.splitlines())) <= 80


def test_tables_of_random_laws(raptr, tmp_path, golden) -> None:
    (tmp_path / "random.raptr").write_text(RANDOM)
    done = raptr("cost", "random.raptr", "--convention", "6nd", "--convention", "matmul", "--seed", "3")
    assert done.code == 0, done.err
    golden(GOLDEN / "cost_random.txt", done.out)
    assert max(map(len, done.out.splitlines())) <= 80


def accounts(done) -> dict[str, dict]:
    (cost,) = json.loads(done.out)["costs"]
    return {account["convention"]: account for account in cost["accounts"]}


def test_json_is_exact_by_every_convention(raptr, bert) -> None:
    done = raptr("cost", bert, "--format", "json", "--gpu-hours", "mfu=0.45", "tflops=312")
    assert done.code == 0 and json.loads(done.out)["diagnostics"] == []
    plan = raptr_dsl.compile_file(bert)
    told = accounts(done)
    assert list(told) == list(CONVENTIONS)
    for convention, account in told.items():
        report = plan.flops(convention)
        for holder, figures in ((report, account), *zip(report.stages, account["stages"], strict=True)):
            for name in ("blocks", "total", "full_blocks", "full_total"):
                assert figures[name] == str(getattr(holder, name))
        assert Fraction(account["ceiling_total"]) == 1 / report.ratio_total
        assert account["variance"] == "0"
        assert account["worst"]["blocks"] == account["this_seed"]["blocks"] == account["blocks"]
        hours = account["gpu_hours"]
        assert Fraction(hours["planned"]) == Fraction(report.total) / (312 * 10**12) / Fraction(45, 100) / 3600
    (cost,) = json.loads(done.out)["costs"]
    assert cost["digest"] == plan.digest
    assert cost["dense"]["same_steps"] == cost["dense"]["same_tokens"]
    assert cost["dense"]["same_tokens"]["tokens"] == 675_000 * 512 * 256


def test_json_of_random_laws(raptr, tmp_path) -> None:
    (tmp_path / "random.raptr").write_text(RANDOM)
    told = accounts(raptr("cost", "random.raptr", "--format", "json", "--seed", "3"))["matmul"]
    plan = raptr_dsl.compile_file(tmp_path / "random.raptr", seed=3)
    assert Fraction(told["this_seed"]["blocks"]) == plan.flops(case="seed").blocks
    assert Fraction(told["worst"]["blocks"]) == plan.flops(case="worst").blocks
    variances = FlopSpread(plan.shape, plan.stages).variances()
    assert [stage["variance"] for stage in told["stages"]] == list(map(str, variances))
    # 20 steps hold one draw, and all blocks are alike: 500·20 times n·p·(1 − p) blocks².
    assert variances[0] == 500 * 20 * block_cost(plan.shape, {}) ** 2
    assert told["standard_deviation"] == pytest.approx(sqrt(Fraction(told["variance"])))


def test_causal_and_recompute(raptr, bert) -> None:
    plain = accounts(raptr("cost", bert, "--format", "json", "--convention", "megatron"))["megatron"]
    again = accounts(
        raptr("cost", bert, "--format", "json", "--convention", "megatron", "--recompute", "full")
    )["megatron"]  # fmt: skip
    assert Fraction(again["blocks"]) == Fraction(plain["blocks"]) * 4 / 3
    assert again["recompute"] == "full"
    done = raptr("cost", bert, "--model", "gpt2-small", "--causal", "half")
    assert done.code == 0 and "6nd" not in done.out and "matmul causal=half" in done.out


def test_several_files_and_plans(raptr, bert, tmp_path) -> None:
    raptr("compile", bert)
    done = raptr("cost", bert, "bert.plan.json", "--format", "json", "--convention", "palm")
    one, other = json.loads(done.out)["costs"]
    assert {**one, "file": ""} == {**other, "file": ""}
    assert (one["file"], other["file"]) == (str(bert), "bert.plan.json")
    text = raptr("cost", bert, "bert.plan.json")
    assert text.code == 0 and text.out.count("convention") == 2


def test_one_file_that_fails_does_not_hide_the_others(raptr, bert) -> None:
    done = raptr("cost", "nothing.raptr", bert, "--format", "json")
    told = json.loads(done.out)
    assert done.code == 1
    assert [one["code"] for one in told["diagnostics"]] == ["file-missing"]
    assert [one["name"] for one in told["costs"]] == ["bert"]
    assert raptr("cost", "nothing.raptr", bert).out.startswith("bert")


def test_what_a_seed_costs_is_counted_on_demand_where_it_is_long(raptr, tmp_path) -> None:
    from raptr_dsl.report import cost

    (tmp_path / "random.raptr").write_text(RANDOM)
    assert cost.words_to_draw(raptr_dsl.compile_file(tmp_path / "random.raptr")) == 25 * 4 + 500 * (4 + 4 * 4)
    long = RANDOM.replace("1k", "100M")
    (tmp_path / "long.raptr").write_text(long)
    done = raptr("cost", "long.raptr")
    assert done.code == 0
    assert "--count-seed" in done.out and "exactly" not in done.out


def test_a_deviation_that_is_not_known_says_why(raptr, tmp_path) -> None:
    (tmp_path / "r.raptr").write_text(RANDOM.replace("heads.sample=bernoulli", "heads.sample=bernoulli heads.every=7"))
    done = raptr("cost", "r.raptr")
    assert done.code == 0
    assert "standard deviation  " not in done.out and "not known (stage rounds)" in done.out
    told = accounts(raptr("cost", "r.raptr", "--format", "json"))["matmul"]
    assert told["variance"] is told["standard_deviation"] is None
    assert [stage["variance"] is None for stage in told["stages"]] == [False, True]


def test_relative_to_as_many_tokens(raptr, tmp_path) -> None:
    text = "model llama-1b\nsteps 1k\nstage seq=1/4 seq.sample=prefix steps=50%\nstage steps=rest\n"
    (tmp_path / "short.raptr").write_text(text)
    done = raptr("cost", "short.raptr", "--format", "json", "--convention", "6nd")
    (cost,) = json.loads(done.out)["costs"]
    (account,) = cost["accounts"]
    assert cost["dense"]["same_steps"]["steps"] == 1000
    assert cost["dense"]["same_tokens"]["steps"] == 625
    assert cost["tokens"] == cost["dense"]["same_tokens"]["tokens"] == 625 * 512 * 4096
    assert account["ratio_blocks"] == "5/8"  # the convention counts no scores, so that tokens are all that counts
    assert account["ratio_blocks_per_tokens"] == "1"
    assert "of as many tokens" in " ".join(raptr("cost", "short.raptr").out.split())


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tflop=989", "mfu=40%"), "did you mean tflops?"),
        (("tflops=989", "mfu=140%"), "more than the whole"),
        (("tflops=989", "mfu=0"), "no positive share"),
        (("tflops=x", "mfu=40%"), "no positive number"),
        (("tflops=50%", "mfu=40%"), "no positive number"),
        (("tflops", "mfu=40%"), "no positive number"),
        (("mfu=40%", "mfu=40%"), "twice"),
        (("mfu=1e-999999999", "tflops=1"), "no positive share"),
    ],
)
def test_gpu_hours_that_say_nothing(raptr, bert, words: tuple[str, str], said: str) -> None:
    done = raptr("cost", bert, "--gpu-hours", *words)
    assert (done.code, done.out) == (2, "")
    assert "error[bad-gpu-hours]" in done.err and said in done.err
    assert "tflops=989 mfu=40%" in done.err
    told = json.loads(raptr("cost", bert, "--gpu-hours", *words, "--format", "json").out)
    assert told["costs"] == [] and [one["code"] for one in told["diagnostics"]] == ["bad-gpu-hours"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--convention", "megatorn"), "did you mean megatron?"),
        (("--causal", "half"), "halves nothing"),
        (("--convention", "6nd", "--causal", "half", "--model", "gpt2-small"), "halves nothing"),
    ],
)
def test_accounts_that_cannot_be_made(raptr, bert, options: tuple[str, ...], said: str) -> None:
    done = raptr("cost", bert, *options)
    assert (done.code, done.out) == (2 if "megatorn" in options else 1, "")
    assert "error[bad-account]" in done.err and said in done.err


def test_a_model_is_needed(raptr, tmp_path) -> None:
    (tmp_path / "open.raptr").write_text("stage depth=6/12 steps=50%\nstage steps=rest\n")
    done = raptr("cost", "open.raptr", "--steps", "10")
    assert (done.code, done.out) == (1, "")
    assert "error[no-model]" in done.err


def test_an_encoder_decoder_is_counted_by_what_knows_it(raptr, bert, tmp_path) -> None:
    (tmp_path / "t5.toml").write_text(
        "layers = 12\nheads = 2\nhidden = 8\nffn = 64\nvocab = 9\nseq = 8\nsource_seq = 4\n"
    )
    told = accounts(raptr("cost", bert, "--model", "t5.toml", "--format", "json"))
    shape = raptr_dsl.compile_file(bert, model=str(tmp_path / "t5.toml")).shape
    assert list(told) == [name for name in CONVENTIONS if not Accounting(name).problem(shape)]
    assert "palm" not in told


BUCKETS = """
model layers=5 heads=2 hidden=8 ffn=12 width_group=3 vocab=11 seq=6 batch=2
steps 400
seed 5
stage few depth=3/5 depth.sample=bernoulli {buckets} width=1/2 steps=300
stage steps=rest
"""


def test_what_fills_buckets_has_a_column_of_its_own_where_there_are_buckets(raptr, tmp_path) -> None:
    (tmp_path / "plain.raptr").write_text(BUCKETS.format(buckets=""))
    (tmp_path / "padded.raptr").write_text(BUCKETS.format(buckets="depth.buckets=2"))
    plain, padded = (raptr("cost", f"{name}.raptr").out for name in ("plain", "padded"))
    assert "padded" not in plain and "padded" in padded
    few, full, run = (
        next(line for line in padded.splitlines() if line.startswith(word)) for word in ("few", "2", "run")
    )
    assert few.split()[-2] == run.split()[-2] != "0.0000e+00"
    assert full.split()[-2:] == ["0.0000e+00", "0%"]
    costs = [json.loads(raptr("cost", f"{name}.raptr", "--format", "json").out) for name in ("plain", "padded")]
    accounts = [cost["costs"][0]["accounts"] for cost in costs]
    assert {account["padded"] for account in accounts[0]} == {"0"}
    for one, other in zip(*accounts, strict=True):
        assert one["total"] == other["total"]
        assert other["padded"] == other["stages"][0]["padded"] != "0" == other["stages"][1]["padded"]


def test_what_is_wrong_as_annotations(raptr, bert, tmp_path) -> None:
    (tmp_path / "bad.raptr").write_text("stage depth=6/12 steps=20%\n")
    done = raptr("cost", "bad.raptr", bert, "--format", "github")
    assert done.code == 1 and done.out.startswith("::error file=bad.raptr,line=1,")
    assert "stage (matmul)" in done.out, "the other file is counted"
