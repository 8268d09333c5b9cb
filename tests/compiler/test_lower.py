"""Parameters, imports, the file as a whole, and where everything was written."""

from fractions import Fraction

import pytest

from raptr_dsl.api import check_text
from raptr_dsl.compiler import statements
from raptr_dsl.compiler.lower import lower
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.ir.schedule import Amount, Duration, Exactly
from raptr_dsl.source import Source
from raptr_dsl.syntax.parser import parse
from tests.compiler.lowering import codes_of, lowered, schedule_of, shares


def test_parameters_of_every_type() -> None:
    text = """
    param blocks: int in 2 .. 10 = 6
    param wide: fraction in 1/8 .. 1 = 1/2
    param early: steps in 1k .. 100k = 10k
    param how: choice(sqrt, none, linear) = sqrt
    stage depth=blocks width=wide steps=early scale=how
    stage steps=rest
    """

    def first(**params: str) -> tuple[object, object, object, str]:
        stage = schedule_of(text, **params).stages[0]
        return stage.axes["depth"].size, stage.axes["width"].size, stage.duration, stage.axes["depth"].scale

    six = Exactly(amount=Amount(value=Fraction(6), is_count=True))
    half = Exactly(amount=Amount(value=Fraction(1, 2)))
    assert first() == (six, half, Duration(steps=Fraction(10_000)), "sqrt")
    eight = Exactly(amount=Amount(value=Fraction(8), is_count=True))
    quarter = Exactly(amount=Amount(value=Fraction(1, 4)))
    assert first(blocks="2 * 4", wide="25%", early="20k", how="linear") == (
        eight, quarter, Duration(steps=Fraction(20_000)), "linear",
    )  # fmt: skip
    assert codes_of(text, blocks="11") == codes_of(text, early="10%") == ["param-bounds"]
    assert codes_of(text, how="inverse") == ["unknown-word"]
    assert codes_of(text, blocks="1/0") == ["division-by-zero"]
    assert codes_of(text, blocks="half") == ["unknown-name"]
    assert codes_of(text, blok="3") == ["unknown-param"]
    assert codes_of(text, blocks="6; stage steps=rest") == ["param-type"]


def test_a_value_out_of_bounds_shows_the_value_and_the_bounds() -> None:
    text = "param start: fraction in 1/12 .. 1 = 6/12\nstage depth=start steps=50%\nstage steps=rest"
    _, _, (problem,) = lowered(text, params={"start": "14/12"})
    assert problem.span is not None
    assert (problem.span.source.name, problem.span.text) == ("--param start", "14/12")
    assert [label.span.text for label in problem.related] == ["1/12 .. 1"]


def test_imports_are_relative_to_the_file_that_imports_and_read_once() -> None:
    files = {
        "parts/a.raptr": 'use "b.raptr"\nuse "../top.raptr"\nrun b steps=50%\nrun top steps=50%',
        "parts/b.raptr": "stage depth=6/12 steps=100%",
        "top.raptr": "stage depth=9/12 steps=100%",
    }
    text = 'use "./parts/a.raptr" as first\nuse "parts/../parts/b.raptr"\n'
    text += "run first steps=50%\nrun b steps=25%\nstage steps=rest"
    assert shares(text, files) == [Fraction(1, 4)] * 4


def test_imports_that_fail_are_one_diagnostic() -> None:
    assert codes_of('use "nowhere.raptr" as x\nrun x steps=50%\nstage steps=rest') == ["file-missing"]
    files = {"bad.raptr": "stage depth= steps=100%"}
    codes = codes_of('use "bad.raptr"\nrun bad steps=50%\nstage steps=rest', files)
    assert codes == ["value-missing"]


def test_imports_are_32_deep_at_most() -> None:
    files = {f"f{i}.raptr": f'use "f{i + 1}.raptr" as next\nrun next steps=100%' for i in range(1, 40)}
    files["f40.raptr"] = files["f32.raptr"] = "stage steps=100%"
    text = 'use "f1.raptr" as next\nrun next steps=100%'
    assert codes_of(text, files) == []
    files["f32.raptr"] = 'use "f40.raptr" as next\nrun next steps=100%'
    assert codes_of(text, files) == ["limit-imports"]


def test_runs_of_runs_do_not_explode() -> None:
    files = {
        f"f{i}.raptr": f'use "f{i + 1}.raptr" as next\nrun next steps=50%\nrun next steps=50%' for i in range(1, 30)
    }
    files["f30.raptr"] = "stage steps=100%"
    assert codes_of('use "f1.raptr" as next\nrun next steps=100%', files) == ["limit-stages"]


def test_repeats_of_repeats_do_not_explode() -> None:
    text = "repeat 20000 { " * 60 + "stage depth=1/2 steps=1" + " }" * 60 + "\nstage steps=rest"
    assert codes_of(text) == ["limit-stages"]


def test_20_000_stages_are_not_too_many() -> None:
    text = "repeat 19999 { stage depth=1/2 steps=1/20000 }\nstage steps=rest"
    assert len(schedule_of(text).stages) == 20_000


def test_sums_of_unlike_denominators_stay_within_the_limit() -> None:
    primes = [n for n in range(2, 2000) if all(n % d for d in range(2, int(n**0.5) + 1))]
    text = "\n".join(f"stage depth=1/2 steps=1/{prime}" for prime in primes)
    assert codes_of(text + "\nstage steps=rest")[0] == "limit-number"


def test_header() -> None:
    schedule = schedule_of(
        'doc "d"\nmodel bert-base seq=128 causal=true head_share=1\ntokens 2B\nseed 17\nallow partial\n'
        "require flops(total, case=worst) <= 75%\nrequire shapes == 1\nrequire balance(depth, groups=4) == 0\n"
        "stage depth=6/12 steps=100%"
    )
    assert schedule.doc == "d"
    assert schedule.model is not None
    assert (schedule.model.seq, schedule.model.causal, schedule.model.head_share) == (128, True, 1)
    assert schedule.horizon == Duration(tokens=Fraction(2 * 10**9))
    assert schedule.seed == 17
    assert schedule.allow == {"partial"}
    flops, shapes, balance = schedule.requirements
    assert (flops.metric, flops.target, flops.options, flops.op) == ("flops", "total", {"case": "worst"}, "<=")
    assert flops.value == Amount(value=Fraction(3, 4))
    assert (shapes.target, shapes.value) == ("all", Amount(value=Fraction(1), is_count=True))
    assert balance.options == {"groups": "4"}


def test_model_words_override_a_named_shape_and_what_follows_from_it() -> None:
    model = schedule_of("model bert-base heads=16 hidden=1024\nstage steps=rest").model
    assert model is not None
    assert (model.kv_heads, model.head_dim, model.layers) == (16, 64, 12)


def test_every_mistake_is_reported_and_each_once() -> None:
    codes = codes_of(
        "let half = 1/0\nstage depth=half steps=half\nstage depth=half steps=10%\nstage dept=1 steps=1%\nrun x steps=1%"
    )
    assert codes == ["division-by-zero", "unknown-attribute", "unknown-schedule"]


def test_mistakes_that_follow_from_syntax_errors_are_not_reported() -> None:
    assert codes_of("let half = 1/\nstage depth=half steps=50%\nstage steps=40%") == ["value-missing"]


def test_origins_lead_to_the_text_and_to_what_expanded_it() -> None:
    files = {"grow.raptr": "param a: fraction\nkeep depth=first\nramp stages=2 depth=a..11/12 steps=100%"}
    text = 'use "grow.raptr"\nrepeat 2 {\n  run grow(a=6/12) steps=20%\n}\nstage steps=rest scale=none'
    _, origins, _ = lowered(text.replace(" scale=none", ""), files)
    size_origin = origins.at(("stages", 3, "axes", "depth", "size"))
    assert size_origin.text == "a..11/12"
    assert [label.text for label in size_origin.chain] == ["stage 2 of 2", "run from here", "pass 2 of 2"]
    assert [label.span.source.name for label in size_origin.chain] == ["grow.raptr", "main.raptr", "main.raptr"]
    span = origins.span(("stages", 3, "duration"))
    assert span is not None
    assert (span.source.name, span.text) == ("grow.raptr", "steps=100%")
    assert origins.at(("stages", 0, "axes", "depth", "keep")).text == "first"
    last = origins.at(("stages", 4, "axes", "depth", "size"))
    assert (last.text, last.chain) == ("stage steps=rest", ())


def test_origins_of_the_header() -> None:
    _, origins, _ = lowered("steps 100\nrequire flops <= 75%\nstage steps=rest")
    span = origins.span(("horizon",))
    assert span is not None
    assert span.text == "steps 100"
    assert origins.at(("requirements", 0)).text == "75%"
    assert origins.span(("seed",)) is None


def test_one_mistake_is_reported_once_however_often_it_is_met() -> None:
    assert codes_of("default sample=balancd\nstage depth=1/2 width=1/2 steps=50%\nstage steps=rest") == ["unknown-word"]
    assert codes_of("stage depth=1/2 width=1/2 scale=sqr steps=50%\nstage steps=rest") == ["unknown-word"]
    files = {"part.raptr": "param n: int = 1\nstage depth=n/12 steps=60%\nstage steps=60%"}
    text = 'use "part.raptr"\nrun part(n=2) steps=50%\nrun part(n=3) steps=50%'
    assert codes_of(text, files) == ["stages-overrun"]
    assert codes_of("repeat 3 { stage dept=6/12 steps=10% }\nstage steps=rest") == ["unknown-attribute"]


def test_what_a_block_defines_ends_with_it() -> None:
    block = "repeat 2 {{ let half = 1/2\nstage depth=half steps=10% }}\n{}\nstage steps=rest"
    assert codes_of(block.format("let half = 1/3")) == []
    assert codes_of(block.format("stage depth=half steps=1%")) == ["unknown-name"]
    assert codes_of("let half = 1/3\n" + block.format("")) == ["name-taken"]


def test_rule_14_a_last_stage_that_may_be_dropped_is_not_judged() -> None:
    text = "param w: steps = 0\nstage steps=50%\nstage steps=50%\nstage depth=6/12 steps=w"
    assert codes_of(text) == []


def test_a_file_is_read_once_however_often_it_is_imported() -> None:
    loads: list[str] = []

    def load(path: str, diagnostics: Diagnostics) -> Source | None:
        loads.append(path)
        return Source(path, 'use "./c.raptr"\nrun c steps=100%' if path == "a.raptr" else "stage steps=100%")

    text = 'use "a.raptr"\nuse "./c.raptr" as c\nuse "b/../c.raptr" as d\n'
    text += "run a steps=50%\nrun c steps=25%\nrun d steps=25%"
    diagnostics = Diagnostics()
    schedule, _ = lower(parse(Source("main.raptr", text), diagnostics), diagnostics, loader=load)
    assert schedule is not None
    assert sorted(loads) == ["a.raptr", "c.raptr"]


def test_ramps_do_not_explode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "MAX_STATEMENTS", 10_000)
    text = "ramp stages=2000 depth=1/12..11/12 steps=1/1000\n" * 3000 + "stage steps=rest"
    assert codes_of(text) == ["limit-stages"]


def test_lists_of_unlike_shares_stay_within_the_limit() -> None:
    listed = ", ".join(f"1/{10**30 + 2 * i + 1}" for i in range(3000))
    assert codes_of(f"ramp shares=[{listed}] depth=1/12..11/12 steps=50%\nstage steps=rest") == ["bad-shares"]


def test_a_schedule_under_another_name_is_told_by_that_name() -> None:
    (problem,) = check_text("use std/raptr as published\nrun raptr steps=rest\n").diagnostics
    assert problem.code == "unknown-schedule"
    assert problem.help == 'this file imports `published`; or import it: use "./raptr.raptr", or use LIBRARY/raptr'


def test_keep_among_attributes_leads_to_the_statement() -> None:
    (problem,) = check_text("stage depth=6/12 keep=[first] steps=rest\n").diagnostics
    assert problem.code == "unknown-attribute" and problem.fix is None
    assert problem.help == "`keep` is a statement of its own, of all stages: keep depth=[first, last]"
