"""What a new version of a library changes for those who use it: the semantic version by semantic difference.

| change | is |
|---|---|
| an export or parameter is gone; a parameter without default is new; a type differs, bounds are narrower | breaking |
| a schedule comes to another plan with the same arguments, or to none | breaking |
| an export or parameter is new, bounds are wider, a schedule comes to a plan where it came to none | a feature |
| anything else: comments, layout, documentation, names of stages | a fix |

Plans are compared for a handful of models and horizons, at the defaults and at the bounds of each parameter, by what
they mean. So "breaking" is proven by an example, and its absence is as good as the examples.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from pathlib import Path

from raptr_dsl.api import Compilation, Options, check_file
from raptr_dsl.compiler.evaluate import evaluate
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.library.manifest import Manifest
from raptr_dsl.library.tree import Tree
from raptr_dsl.report.difference import differences
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.files import load_source
from raptr_dsl.syntax.format import format_value
from raptr_dsl.syntax.parser import parse

_SHAPE: dict[str, int] = {"heads": 12, "hidden": 768, "ffn": 3072, "vocab": 1000, "seq": 64, "batch": 8}
PROBES = tuple(
    (ModelShape.model_validate({"layers": layers, "tied": tied, **_SHAPE}), steps)
    for layers, tied, steps in ((12, False, 1200), (24, True, 1200), (24, False, 997))
)


class Level(IntEnum):
    """How much a version number has to change."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that users meet. `schedule` is the export it is about, "" for the library."""

    level: Level
    schedule: str
    what: str


@dataclass(frozen=True, slots=True)
class Version:
    """A library at one version: its manifest, and the folder and content of its files."""

    manifest: Manifest
    folder: Path
    tree: Tree


def changes(old: Version, new: Version) -> list[Change]:
    """What differs, the gravest first."""
    before, after = set(old.manifest.exports), set(new.manifest.exports)
    found = [Change(Level.MAJOR, name, "is exported no more") for name in before - after]
    found += [Change(Level.MINOR, name, "is new") for name in after - before]
    for name in sorted(before & after):
        found += _of_schedule(name, old.folder / f"{name}.raptr", new.folder / f"{name}.raptr")
    if all(change.level == Level.NONE for change in found) and old.tree != new.tree:
        found.append(Change(Level.PATCH, "", "files differ, and no schedule means anything else"))
    return sorted(found, key=lambda change: (-change.level, change.schedule, change.what))


def required_version(old: str, level: Level) -> str:
    """The least version that tells users of a change; before 1.0.0 the second number stands for breaking changes."""
    major, minor, patch = map(int, old.split("."))
    if level == Level.NONE:
        return old
    if level == Level.PATCH or (level == Level.MINOR and not major):
        return f"{major}.{minor}.{patch + 1}"
    if level == Level.MINOR or not major:
        return f"{major}.{minor + 1}.0"
    return f"{major + 1}.0.0"


def is_enough(version: str, least: str) -> bool:
    return tuple(map(int, version.split("."))) >= tuple(map(int, least.split(".")))


def _of_schedule(name: str, old: Path, new: Path) -> Iterator[Change]:
    mine, theirs = _parameters(old), _parameters(new)
    for param in mine.keys() - theirs.keys():
        yield Change(Level.MAJOR, name, f"has no parameter {param} any more")
    for param in theirs.keys() - mine.keys():
        level, more = (Level.MINOR, "") if theirs[param].default else (Level.MAJOR, ", which has to be given")
        yield Change(level, name, f"has a new parameter {param}{more}")
    for param in sorted(mine.keys() & theirs.keys()):
        yield from _of_parameter(name, mine[param], theirs[param])
    yield from _of_meaning(name, old, new, {param: mine[param] for param in mine.keys() & theirs.keys()})


def _of_parameter(name: str, old: ast.Param, new: ast.Param) -> Iterator[Change]:
    param, before, after = old.name.text, format_value(old.type), format_value(new.type)
    if isinstance(old.type, ast.Call) and isinstance(new.type, ast.Call):
        words, now = ({format_value(one.value) for one in kind.args} for kind in (old.type, new.type))
        if words - now:
            yield Change(Level.MAJOR, name, f"{param} can be {', '.join(sorted(words - now))} no more")
        elif now - words:
            yield Change(Level.MINOR, name, f"{param} can be {', '.join(sorted(now - words))}")
    elif before != after:
        yield Change(Level.MAJOR, name, f"{param} is of type {after}, and was of {before}")
    if old.default and not new.default:
        yield Change(Level.MAJOR, name, f"{param} has no default any more")
    elif new.default and not old.default:
        yield Change(Level.MINOR, name, f"{param} has a default")
    (low, high), (least, most) = _bounds(old), _bounds(new)
    if (low, high) == (least, most):
        return
    narrower = least is not None and (low is None or least > low)
    narrower = narrower or (most is not None and (high is None or most < high))
    shown = format_value(new.bounds) if new.bounds else "anything"
    how = "less" if narrower else "more"
    yield Change(Level.MAJOR if narrower else Level.MINOR, name, f"{param} can be {shown}, which is {how}")


def _bounds(param: ast.Param) -> tuple[Fraction | None, Fraction | None]:
    """The bounds as numbers; None for one that there is not, or that is no plain number."""
    if param.bounds is None:
        return None, None
    scope = Scope(Diagnostics())
    low, high = evaluate(param.bounds.start, scope), evaluate(param.bounds.stop, scope)
    return low.value if low else None, high.value if high else None


def _of_meaning(name: str, old: Path, new: Path, params: dict[str, ast.Param]) -> Iterator[Change]:
    """Compares plans at the defaults, then with one parameter at a time at its bounds or words."""
    compared, reason = False, ""
    for given in _arguments(params):
        shown = f" with {', '.join(f'{key}={value}' for key, value in given.items())}" if given else ""
        for shape, steps in PROBES:
            options = Options(model=shape, steps=steps, params=given)
            before, after = (check_file(path, options, complete=True) for path in (old, new))
            if before.plan is None and after.plan is None:
                reason = reason or _first_error(after)
                continue
            compared = True
            where = f"{shown} for {shape.layers} blocks and {steps} steps"
            if after.plan is None:
                yield Change(Level.MAJOR, name, f"does not compile any more{where}: {_first_error(after)}")
                return
            if before.plan is None:
                yield Change(Level.MINOR, name, f"compiles{where}")
                continue
            if before.plan.digest != after.plan.digest:
                first = differences(before.plan, after.plan, {}, {})[0]
                what = f": {first.where} {first.what} {first.mine or '–'} → {first.theirs or '–'}"
                yield Change(Level.MAJOR, name, f"comes to another plan{where}{what}")
                return
    if not compared:
        yield Change(Level.NONE, name, f"could not be compared, for it compiles in neither version here: {reason}")


def _first_error(compilation: Compilation) -> str:
    return next(item.message for item in compilation.diagnostics if item.severity == "error")


def _arguments(params: dict[str, ast.Param]) -> Iterator[dict[str, str]]:
    yield {}
    for name, param in params.items():
        if param.bounds is not None:
            yield {name: format_value(param.bounds.start)}
            yield {name: format_value(param.bounds.stop)}
        elif isinstance(param.type, ast.Call):
            for argument in param.type.args:
                yield {name: format_value(argument.value)}


def _parameters(path: Path) -> dict[str, ast.Param]:
    """Raises RaptrError where the file cannot be read or has syntax errors."""
    diagnostics = Diagnostics()
    source = load_source(path, diagnostics)
    diagnostics.raise_errors()
    assert source, "what cannot be read is an error"
    file = parse(source, diagnostics)
    diagnostics.raise_errors()
    return {item.name.text: item for item in file.statements if isinstance(item, ast.Param)}
