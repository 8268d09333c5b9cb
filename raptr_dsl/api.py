"""The main path on one screen: load → parse → lower → bind → plan → verify."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from raptr_dsl.compiler.bind import bind
from raptr_dsl.compiler.budgets import with_budgets
from raptr_dsl.compiler.contradictions import check_contradictions
from raptr_dsl.compiler.identity import identity_of
from raptr_dsl.compiler.lower import lower
from raptr_dsl.compiler.origins import Origins
from raptr_dsl.compiler.passes import Passed, Passes
from raptr_dsl.compiler.plan import make_plan
from raptr_dsl.compiler.verify import verify
from raptr_dsl.diagnostics import Diagnostic, Diagnostics, Edit, RaptrError, with_edits
from raptr_dsl.garbage import garbage_collection_paused
from raptr_dsl.ir.bound import BoundSchedule
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.ir.schedule import Schedule
from raptr_dsl.models import find_shape
from raptr_dsl.source import Source
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.files import load_source
from raptr_dsl.syntax.parser import parse

if TYPE_CHECKING:
    from raptr_dsl.compiler.solving.holes import Hole


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller sets from outside a file; each wins over what the file says by default.

    Attributes:
        model: a shape, the name of a built-in one, or the path of a TOML file.
        steps: the horizon in optimizer steps. seed: of the masks.
        params: the file's parameters, each in the language's own spelling (`{"start": "6/12"}`).
        budget: further requirements, one or several: a bound on the blocks' FLOPs (`"75%"` of full training,
            `"1.2e21"`), or as `require` has it (`"mean(depth) >= 8"`).
    """

    model: str | ModelShape | None = None
    steps: int | None = None
    seed: int | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    budget: str | Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Compilation:
    """As far as a file went: what is None could not be made, for want of a model or a horizon or by the errors.

    Attributes:
        solution: what each hole of the file is, as an edit of `source`. The rest is of the file with these in it.
    """

    source: Source | None
    schedule: Schedule | None
    bound: BoundSchedule | None
    plan: Plan | None
    diagnostics: tuple[Diagnostic, ...]
    solution: tuple[Edit, ...] = ()

    @property
    def ok(self) -> bool:
        return not any(item.severity == "error" for item in self.diagnostics)

    def result(self) -> Plan:
        """The plan.

        Raises:
            RaptrError: with every diagnostic, if there is none.
        """
        if self.plan is None:
            raise RaptrError(self.diagnostics)
        return self.plan


NO_OPTIONS = Options()


def check_file(path: str | Path, options: Options = NO_OPTIONS, *, complete: bool = False) -> Compilation:
    """Compiles a file as far as it goes, and never raises on bad input.

    Without a model or a horizon, the file's own or the caller's, a schedule can be checked but not planned: with
    `complete`, that is an error too.
    """
    diagnostics = Diagnostics()
    source = load_source(path, diagnostics)
    if source is None:
        return Compilation(None, None, None, None, tuple(diagnostics.sorted()))
    return _compile(source, options, diagnostics, complete)


def check_text(
    text: str, options: Options = NO_OPTIONS, *, name: str = "<string>", complete: bool = False
) -> Compilation:
    """`check_file` for a text."""
    return _compile(Source(name, text), options, Diagnostics(), complete)


def compile_file(
    path: str | Path,
    *,
    model: str | ModelShape | None = None,
    steps: int | None = None,
    seed: int | None = None,
    params: Mapping[str, str] | None = None,
    budget: str | Sequence[str] | None = None,
) -> Plan:
    """Compiles a schedule file into a plan; see `Options` for what the arguments mean.

    Raises:
        RaptrError: with every diagnostic, in source order.
    """
    return check_file(path, Options(model, steps, seed, params or {}, budget), complete=True).result()


def compile_text(
    text: str,
    *,
    name: str = "<string>",
    model: str | ModelShape | None = None,
    steps: int | None = None,
    seed: int | None = None,
    params: Mapping[str, str] | None = None,
    budget: str | Sequence[str] | None = None,
) -> Plan:
    """`compile_file` for a text."""
    options = Options(model, steps, seed, params or {}, budget)
    return check_text(text, options, name=name, complete=True).result()


@garbage_collection_paused()
def _compile(source: Source, options: Options, diagnostics: Diagnostics, complete: bool) -> Compilation:
    """One pass after the other; each stops where what it needs could not be made."""
    file = parse(source, diagnostics)
    solution: tuple[Edit, ...] = ()
    if "?" in source.text and (holes := _holes_of(file)):
        solution = _solution(file, holes, _passes(options, complete), diagnostics)
        if not solution:
            return Compilation(source, None, None, None, tuple(diagnostics.sorted()))
        file = parse(Source(source.name, with_edits(source.text, solution)), diagnostics)

    def ended(passed: Passed) -> Compilation:
        return Compilation(source, passed.schedule, passed.bound, passed.plan, tuple(diagnostics.sorted()), solution)

    passed = _bound(file, options, diagnostics, complete)
    if passed.bound is None or passed.plan is None:
        if diagnostics.has_errors:
            from raptr_dsl.compiler.independent import further_mistakes  # most files have none

            diagnostics.extend(further_mistakes(file, diagnostics, _passes(options, complete)))
        return ended(passed)
    mistakes = Diagnostics()
    proven = verify(passed.bound, passed.plan, passed.origins, mistakes)
    if not mistakes.has_errors:
        diagnostics.extend(mistakes)
        identity = identity_of(passed.origins.root) if passed.origins.root else None
        return ended(passed._replace(plan=passed.plan.model_copy(update={"proven": proven, "schedule": identity})))
    from raptr_dsl.compiler.solving.repair import with_repair  # most files hold what they require

    diagnostics.extend(with_repair(file, passed, _passes(options, complete), mistakes))
    return ended(passed._replace(plan=None))


def _passes(options: Options, complete: bool) -> Passes:
    """The passes with the caller's options, for those who run them more than once."""

    def passes(file: ast.File, diagnostics: Diagnostics) -> Passed:
        return _bound(file, options, diagnostics, complete)

    return passes


def _bound(file: ast.File, options: Options, diagnostics: Diagnostics, complete: bool) -> Passed:
    """The passes from the syntax tree to the plan, before its requirements are verified."""
    schedule, origins = lower(file, diagnostics, params=options.params)
    shape = _shape(options, schedule, diagnostics, file.span.source.name if complete else None)
    seed = _seed(options, schedule, diagnostics)
    if schedule is None or diagnostics.has_errors:
        return Passed(origins, schedule)
    if options.budget:
        schedule = with_budgets(schedule, options.budget, origins, diagnostics)
    check_contradictions(schedule.requirements, origins, diagnostics)
    has_horizon = options.steps is not None or schedule.horizon is not None
    if shape is None:
        _warn_of_absolute_budgets(schedule, origins, diagnostics)
    if shape is None or not (has_horizon or complete) or diagnostics.has_errors:
        return Passed(origins, schedule)
    bound = bind(schedule, shape, origins, diagnostics, options.steps)
    if bound is None or diagnostics.has_errors:
        return Passed(origins, schedule)
    plan = make_plan(bound, name=_name_of(file), seed=seed)
    return Passed(origins, schedule, bound, plan)


def _name_of(file: ast.File) -> str:
    """The name of a file without its folder and ending; bytes that are no UTF-8 become question marks."""
    return Path(file.span.source.name).stem.encode("utf-8", "replace").decode("utf-8")


def _warn_of_absolute_budgets(schedule: Schedule, origins: Origins, diagnostics: Diagnostics) -> None:
    """FLOPs in numbers are those of one model: without it nothing is proven, and the file should not look as if."""
    for number, requirement in enumerate(schedule.requirements):
        if requirement.metric == "flops" and requirement.value.is_count and not diagnostics.has_errors:
            diagnostics.add(
                "budget-without-model",
                "this budget is in FLOPs, which depend on the model, and nothing says which: it is not proven",
                origins.span(("requirements", number)),
                help="write `model bert-base` in the file or give --model; a share such as 75% holds for any",
                severity="warning",
            )


def _holes_of(file: ast.File) -> list["Hole"]:
    from raptr_dsl.compiler.solving.holes import holes_of  # few files have holes

    return holes_of(file)


def _solution(file: ast.File, holes: list["Hole"], passes: Passes, diagnostics: Diagnostics) -> tuple[Edit, ...]:
    """The solution of the file's holes, if they have one."""
    from raptr_dsl.compiler.solving.solve import solve

    return solve(file, holes, passes, diagnostics)


def _shape(
    options: Options, schedule: Schedule | None, diagnostics: Diagnostics, needed_by: str | None
) -> ModelShape | None:
    """The model to bind to: the caller's, else the file's. None is an error where a file needs one."""
    if isinstance(options.model, ModelShape):
        return options.model
    if options.model is not None:
        try:
            return find_shape(options.model)
        except RaptrError as error:
            diagnostics.extend(error.diagnostics)
            return None
    if schedule is None or schedule.model is not None:
        return schedule.model if schedule else None
    if needed_by is not None:
        diagnostics.add(
            "no-model",
            "nothing says which model this schedule is for",
            subject=needed_by,
            help="give --model, or write `model bert-base` in the file",
        )
    return None


def _seed(options: Options, schedule: Schedule | None, diagnostics: Diagnostics) -> int:
    """The seed of the masks: the caller's, the file's, or 0."""
    if options.seed is None:
        return (schedule.seed if schedule else None) or 0
    if not 0 <= options.seed < 2**64:
        diagnostics.add(
            "bad-seed",
            f"the seed {options.seed} is not between 0 and 2^64 − 1",
            help="choose another seed",
            subject="--seed",
        )
    return options.seed
