"""Sugar is sugar: what expands says exactly what somebody could have written out by hand."""

from dataclasses import dataclass
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from raptr_dsl.ir.schedule import Duration, Stage
from tests.compiler.lowering import schedule_of


@dataclass(frozen=True)
class Written:
    """A stage of a random schedule: its weight among the others, and what it does."""

    weight: int
    does: str

    def text(self, share: Fraction, name: str = "") -> str:
        return f"stage {name} {self.does} steps={as_share(share)}"


def as_share(share: Fraction) -> str:
    """A share as a file writes it: `1` alone would be a count (rule 1)."""
    return f"{share.numerator}/{share.denominator}"


def attribute(name: str, *values: str) -> st.SearchStrategy[str]:
    return st.sampled_from(["", *(f"{name}={value}" for value in values)])


@st.composite
def written_stages(draw: st.DrawFn) -> Written:
    sizes = [draw(attribute(axis, "1/2", "6/12", "5", "1/4..3/4", "draw(1/4, 1/2)")) for axis in ("depth", "width")]
    settings = [
        draw(attribute("scale", "sqrt", "inverse")),
        draw(attribute("sample", "balanced", "bernoulli")),
        draw(attribute("every", "2", "stage")),
    ]
    does = " ".join([*sizes, *settings] if any(sizes) else [])
    return Written(draw(st.integers(1, 50)), " ".join(does.split()))


schedules = st.lists(written_stages(), min_size=1, max_size=6)
shares_of_run = st.fractions(min_value=Fraction(1, 100), max_value=Fraction(99, 100), max_denominator=100)


def lines(stages: list[Written], of: Fraction = Fraction(1), name: str = "") -> list[str]:
    """The stages, as shares that add up to `of` the level."""
    total = sum(stage.weight for stage in stages)
    return [stage.text(of * Fraction(stage.weight, total), name) for stage in stages]


def flat(text: list[str], files: dict[str, list[str]] | None = None) -> list[Stage]:
    """The stages of a text, without their names."""
    joined = {name: "\n".join(lines) for name, lines in (files or {}).items()}
    schedule = schedule_of("\n".join(["allow partial", *text]), joined)
    return [stage.model_copy(update={"name": None}) for stage in schedule.stages]


def scaled(stages: list[Stage], factor: Fraction) -> list[Stage]:
    return [stage.model_copy(update={"duration": Duration(share=stage.duration.share * factor)}) for stage in stages]


def total(stages: list[Stage]) -> Fraction:
    return sum((stage.duration.share for stage in stages), Fraction(0))


@given(schedules)
def test_rule_12_shares_add_up_to_the_run(stages: list[Written]) -> None:
    assert total(flat(lines(stages))) == 1


@given(schedules)
def test_rule_12_names_mean_nothing(stages: list[Written]) -> None:
    assert flat(lines(stages)) == flat(lines(stages, name="depth_of_field"))


@given(schedules)
def test_rule_9_rest_is_what_the_others_leave(stages: list[Written]) -> None:
    written = lines(stages)
    last = written[-1].rpartition("steps=")[0] + "steps=rest"
    assert flat([*written[:-1], last]) == flat(written)


@given(schedules, shares_of_run)
def test_rule_12_a_split_stage_takes_the_same_time(stages: list[Written], at: Fraction) -> None:
    first, *others = lines(stages)
    does, _, share = first.rpartition("steps=")
    parts = [f"{does}steps={as_share(Fraction(share) * part)}" for part in (at, 1 - at)]
    split, whole = flat([*parts, *others]), flat([first, *others])
    assert [stage.axes for stage in split[:2]] == [whole[0].axes] * 2
    assert total(split[:2]) == whole[0].duration.share
    assert split[2:] == whole[1:]


@given(schedules, schedules, shares_of_run)
def test_rule_9_a_run_scales_exactly(inner: list[Written], outer: list[Written], share: Fraction) -> None:
    files = {"part.raptr": lines(inner)}
    text = ['use "part.raptr"', f"run part steps={as_share(share)}", *lines(outer, 1 - share)]
    assert flat(text, files) == scaled(flat(lines(inner)), share) + scaled(flat(lines(outer)), 1 - share)


@given(schedules, st.lists(shares_of_run, min_size=1, max_size=5))
def test_rule_9_runs_in_runs_scale_exactly(stages: list[Written], shares: list[Fraction]) -> None:
    files = {"f0.raptr": lines(stages)}
    product = Fraction(1)
    for depth, share in enumerate(shares, 1):
        files[f"f{depth}.raptr"] = [
            f'use "f{depth - 1}.raptr" as part',
            f"run part steps={as_share(share)}",
            "stage steps=rest",
        ]
        product *= share
    text = [f'use "f{len(shares)}.raptr" as part', "run part steps=100%"]
    assert flat(text, files)[: len(stages)] == scaled(flat(lines(stages)), product)


@given(schedules, st.integers(1, 5), shares_of_run)
def test_rule_9_a_repeat_is_its_body_written_out(stages: list[Written], times: int, share: Fraction) -> None:
    by_hand = [*lines(stages, share / times) * times, "stage steps=rest"]
    plain = [f"repeat {times} {{", *lines(stages, share / times), "}", "stage steps=rest"]
    passes = [f"repeat {times} steps={as_share(share)} {{", *lines(stages), "}", "stage steps=rest"]
    assert flat(plain) == flat(passes) == flat(by_hand)


@given(st.integers(2, 9), shares_of_run, st.integers(1, 12), st.integers(1, 12), st.sampled_from(["", "scale=sqrt"]))
def test_rule_10_a_ramp_is_its_stages_written_out(
    count: int, share: Fraction, first: int, last: int, scale: str
) -> None:
    ramp = [f"ramp stages={count} depth={first}/12..{last}/12 steps={as_share(share)} {scale}", "stage steps=rest"]
    if first == last == 12:
        ramp = [line.removesuffix("scale=sqrt") for line in ramp]  # without effect, and so an error
    sizes = [Fraction(first, 12) + Fraction(last - first, 12) * Fraction(i, count - 1) for i in range(count)]
    by_hand = [
        f"stage depth={as_share(size)} steps={as_share(share / count)} {scale if size != 1 else ''}" for size in sizes
    ]
    assert flat(ramp) == flat([*by_hand, "stage steps=rest"])


@given(st.integers(2, 9), st.integers(0, 4), shares_of_run)
def test_rule_10_a_ramp_fills_its_share(count: int, power: int, share: Fraction) -> None:
    stages = flat(
        [f"ramp stages={count} shares=power({power}) depth=1/2..11/12 steps={as_share(share)}", "stage steps=rest"]
    )
    assert total(stages[:-1]) == share
    weights = [i**power for i in range(1, count + 1)]
    assert [stage.duration.share for stage in stages[:-1]] == [share * w / sum(weights) for w in weights]


@given(schedules)
def test_names_of_values_are_their_values(stages: list[Written]) -> None:
    written = lines(stages)
    names = {f"v{i}": line.rpartition("steps=")[2] for i, line in enumerate(written)}
    lets = [f"let {name} = {value}" for name, value in names.items()]
    named = [f"{line.rpartition('steps=')[0]}steps={name}" for line, name in zip(written, names, strict=True)]
    assert flat([*lets, *named]) == flat(written)
