"""Plans as schedule files: the text from which the same rules compile again."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

from pydantic import ValidationError

from raptr_dsl.axes import AXES, Space
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.ir.bound import Border, BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.schedule import UNIFORM, Profile
from raptr_dsl.occupancy import runs_in_full
from raptr_dsl.source import Source
from raptr_dsl.syntax.format import format_file
from raptr_dsl.syntax.parser import parse

FOLLOWING = ("kv_heads", "head_dim", "width_group")
"""Words of a model that follow from others, if they are left out."""

_WRITTEN = frozenset({"law", "keep", "full", "sizes", "measure", "choices", "profile", "every", "scale", "idle"})
_PLACED = frozenset({"name", "start", "stop", "duration", "axes"})


def schedule_text(doc: str, shape: ModelShape, steps: int, seed: int, partial: bool, stages: Iterable[str]) -> str:
    """A whole file in the canonical layout; `stages` are its statements from the first stage on."""
    # In a doc of one line there is nothing to escape but these.
    quoted = doc.replace("\\", r"\\").replace('"', r"\"")
    head = [f'doc "{quoted}"', model_text(shape), f"steps {steps}", f"seed {seed}"]
    text = "\n".join([*head, *(["allow partial"] if partial else []), *stages, ""])
    diagnostics = Diagnostics()
    file = parse(Source("control", text), diagnostics)
    diagnostics.raise_errors()
    return format_file(file)


def model_text(shape: ModelShape) -> str:
    """The `model` statement of a shape: every word that is not what it would be anyway."""
    words = {word: getattr(shape, word) for word in ModelShape.model_fields}
    for word, field in ModelShape.model_fields.items():
        others = {name: value for name, value in words.items() if name != word}
        if (not field.is_required() or word in FOLLOWING) and _describe(others, shape):
            words = others
    return " ".join(["model", *(f"{word}={_word(value)}" for word, value in words.items())])


def _describe(words: dict[str, Any], shape: ModelShape) -> bool:
    """Whether these words are enough: some are none without another, such as `top_k` without `experts`."""
    try:
        return ModelShape(**words) == shape
    except ValidationError:
        return False


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return fraction_text(value) if isinstance(value, Fraction) else str(value)


def unwritten(stage: BoundStage) -> list[str]:
    """What a stage says beyond which units run: words that `stage_texts` does not write."""
    held = [(stage, _PLACED, ""), *((rule, _WRITTEN, f"{axis}.") for axis, rule in stage.axes.items())]
    return [
        prefix + word
        for holder, known, prefix in held
        for word, field in type(holder).model_fields.items()
        if word not in known and getattr(holder, word) != field.get_default(call_default_factory=True)
    ]


def constant_parts(stage: BoundStage) -> Iterator[tuple[int, BoundStage]]:
    """(first step within the stage, a stage of one size along every axis) of each part; they tile the stage."""
    offsets = sorted({0, *(border.offset for rule in stage.axes.values() for border in rule.sizes)})
    for start, stop in zip(offsets, [*offsets[1:], stage.steps], strict=True):
        axes = {name: _held(rule, start) for name, rule in stage.axes.items()}
        yield start, BoundStage(name=None, start=0, stop=stop - start, duration=Fraction(stop - start), axes=axes)


def _held(rule: BoundRule, offset: int) -> BoundRule:
    """The rule at the one size that it has from an offset on."""
    borders = [border for border in rule.sizes if border.offset <= offset][-1:]
    return rule.model_copy(update={"sizes": tuple(Border(offset=0, value=border.value) for border in borders)})


def stage_texts(stages: Iterable[BoundStage], shape: ModelShape) -> Iterator[str]:
    """The statements of stages of constant size, each as many whole steps as it has."""
    kept: dict[str, tuple[int, ...]] = {}
    for stage in stages:
        words: list[str] = []
        for name, rule in stage.axes.items():
            space = AXES[name].space(shape)
            if runs_in_full(rule, space):
                continue
            if rule.keep != kept.get(name, ()):
                yield f"keep {name}=[{', '.join(map(str, rule.keep))}]"
                kept[name] = rule.keep
            words += rule_words(name, rule, space)
        yield " ".join(["stage", *([stage.name] if stage.name else []), *words, f"steps={stage.steps}"])


def rule_words(axis: str, rule: BoundRule, space: Space) -> Iterator[str]:
    """The attributes of one axis, those left out that have their default or could have no effect."""
    yield f"{axis}={_size(rule, space)}"
    law = _call(rule.law.law, rule.law.model_dump(mode="json", exclude={"law"}, exclude_defaults=True))
    if law != "fixed":
        yield f"{axis}.sample={law}"
    if rule.profile != UNIFORM and not rule.law.exact:
        yield f"{axis}.profile={_profile(rule.profile)}"
    if rule.every != 1 and (rule.law.varies or len(set(rule.choices)) > 1):
        yield f"{axis}.every={rule.every or 'stage'}"
    if rule.full:
        yield f"{axis}.full=[{', '.join(map(str, rule.full))}]"
    if rule.scale != "none":
        yield f"{axis}.scale={rule.scale}"
    if rule.idle != "zero":
        yield f"{axis}.idle={rule.idle}"


def _size(rule: BoundRule, space: Space) -> str:
    if rule.choices:
        return f"draw({', '.join(f'{size}/{space.units}' for size in rule.choices)})"
    value = rule.sizes[0].value
    if rule.measure == "probability":
        return f"prob({fraction_text(value)})"
    return f"{value.numerator}/{space.units * value.denominator}"


def _profile(profile: Profile) -> str:
    if profile.kind == "list":
        return f"[{', '.join(map(fraction_text, profile.weights))}]"
    if profile.curve is None:
        return profile.kind
    parameters = profile.curve.model_dump(mode="json", exclude={"curve"})
    ends = f"{fraction_text(profile.start)}, {fraction_text(profile.stop)}"
    return _call(profile.curve.curve, parameters, ends)


def _call(name: str, parameters: dict[str, Any], first: str = "") -> str:
    named = [f"{word}={_parameter(value)}" for word, value in parameters.items()]
    arguments = ", ".join([*([first] if first else []), *named])
    return f"{name}({arguments})" if arguments else name


def _parameter(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)


def fraction_text(value: Fraction) -> str:
    """A share: `1/2`, `100%`; what is whole is no count."""
    return "100%" if value == 1 else f"{value.numerator}/{value.denominator}"
