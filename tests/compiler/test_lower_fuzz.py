"""Whatever is written, lowering ends, and says what is wrong by documented codes."""

from hypothesis import given
from hypothesis import strategies as st

from raptr_dsl.codes import catalogue
from tests.compiler.lowering import lowered

NUMBERS = (
    "0",
    "1",
    "6",
    "12",
    "6/12",
    "13/12",
    "50%",
    "110%",
    "0.5",
    "1/0",
    "-1",
    "675k",
    "1e21",
    "x",
    "y",
    "x/y",
    "?",
)
WORDS = (
    "all",
    "rest",
    "first",
    "last",
    "sqrt",
    "none",
    "bernoulli",
    "prefix",
    "stage",
    "linear",
    "zero",
    '"text"',
    "word",
)
CALLS = (
    "prob({0})", "draw({0}, {1})", "draw({0}..{1})", "round({0})", "floor({0}..{1})", "exp({0}, {1}, {2})",
    "root({0}, {1}, n={2})", "cosine({0}, {1})", "stratified(groups={0})", "ranked(order=[{0}, {1}])", "power({0})",
    "nothing()", "{0}..{1}", "[{0}, {1}]", "[]", "({0} + {1}) * {2}", "{0} - {1} / {2}",
)  # fmt: skip
KEYS = (
    "depth", "width", "heads", "steps", "tokens", "sample", "depth.sample", "width.scale", "profile", "every", "scale",
    "idle", "grow", "depth.train", "stages", "shares", "curve", "layers", "gated", "nonsense", "depth.nonsense",
    "no.axis",
)  # fmt: skip

atoms = st.sampled_from(NUMBERS + WORDS)
values = st.one_of(
    atoms, st.builds(lambda call, a, b, c: call.format(a, b, c), st.sampled_from(CALLS), atoms, atoms, atoms)
)
attributes = st.lists(st.builds("{}={}".format, st.sampled_from(KEYS), values), max_size=4).map(" ".join)
settings = st.lists(st.builds("{}={}".format, st.sampled_from(KEYS), values), min_size=1, max_size=3).map(" ".join)


def statement(form: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(form.format, *parts)


simple = st.one_of(
    statement("stage {}", attributes),
    statement("stage a depth={} steps={}", values, values),
    statement("ramp b {}", attributes),
    statement("ramp stages=3 depth={} steps={} {}", values, atoms, attributes),
    statement("run other(x={}) {}", values, attributes),
    statement("run nobody {}", attributes),
    statement("let {} = {}", st.sampled_from(("x", "y", "z")), values),
    statement("default {}", settings),
    statement("keep {}", settings),
)
statements = st.one_of(
    simple,
    statement("repeat {} {} {{ {} }}", atoms, attributes, simple),
    statement("param {}: {} in {}..{} = {}", st.sampled_from(("x", "p")),
              st.sampled_from(("int", "fraction", "steps", "choice(sqrt, none)", "float")), atoms, atoms, atoms),
    statement("steps {}", atoms), statement("tokens {}", atoms), statement("seed {}", atoms),
    statement("model bert-base {}", attributes), statement("model {}", attributes),
    statement("allow {}", st.sampled_from(("partial", "nothing"))),
    statement("require {} <= {}",
              st.sampled_from(("flops", "flops(total)", "gap(depth, x=1)", "mean", "word")), values),
    statement('use "{}"', st.sampled_from(("other.raptr", "main.raptr", "lost.raptr", "bad.raptr"))),
    st.just("use std/raptr"),
)  # fmt: skip

FILES = {
    "other.raptr": "param x: fraction = 1/2\nstage depth=x steps=50%\nstage steps=rest",
    "bad.raptr": "stage depth=",
    "main.raptr": 'use "main.raptr" as me\nrun me steps=100%',
}


@given(st.lists(statements, max_size=6), st.dictionaries(st.sampled_from(("x", "p", "q")), values, max_size=2))
def test_every_text_has_a_schedule_or_documented_mistakes(texts: list[str], params: dict[str, str]) -> None:
    schedule, origins, problems = lowered("\n".join(texts), FILES, params)
    assert (schedule is None) == any(problem.severity == "error" for problem in problems)
    for problem in problems:
        assert problem.code in catalogue()
        assert problem.span is not None or problem.subject
        for span in (problem.span, *(label.span for label in problem.related)):
            assert span is None or 0 <= span.start <= span.end <= len(span.source.text)
    for number in range(len(schedule.stages) if schedule else 0):
        assert origins.span(("stages", number, "duration")) is not None
        assert origins.at(("stages", number, "axes", "depth", "size")).span is not None
