"""`--budget`: requirements from outside the file, in a short form or in the language's own."""

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction

from raptr_dsl.compiler.arguments import parse_behind
from raptr_dsl.compiler.origins import Origins, Place
from raptr_dsl.compiler.requirements import requirement_of
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.ir.schedule import Amount, Requirement, Schedule
from raptr_dsl.source import Source
from raptr_dsl.syntax import ast
from raptr_dsl.wording import parse_share

OPTION = "--budget"
_COMPARISON = re.compile(r"[<>=]")


def with_budgets(
    schedule: Schedule, budget: str | Sequence[str], origins: Origins, diagnostics: Diagnostics
) -> Schedule:
    """The schedule with one more requirement for each budget; what is wrong with one is recorded."""
    requirements = list(schedule.requirements)
    for given in (budget,) if isinstance(budget, str) else budget:
        text = given.strip().removeprefix("require ")
        statement = None if _COMPARISON.search(text) else parse_share(text)
        if isinstance(statement, Fraction):
            share = _share(text, statement, diagnostics)
            requirements += [share] if share else []
            continue
        for place, requirement in _requirements(text, diagnostics):
            if requirement.metric != "flops":  # those of FLOPs are blamed on the stage that costs most
                origins.places["requirements", len(requirements)] = place
            requirements.append(requirement)
    return schedule.model_copy(update={"requirements": tuple(requirements)})


def _share(text: str, share: Fraction, diagnostics: Diagnostics) -> Requirement | None:
    """`75%`: the blocks' FLOPs, relative to full training."""
    if share <= 0:
        _refuse(text, f"{text!r} is no share of full training", "write --budget 75%", diagnostics)
        return None
    if share > 1:
        meant = share if share <= 100 and share.denominator == 1 else 75  # the sign was forgotten
        fact = f"{text!r} is more than full training, and no schedule costs more"
        _refuse(text, fact, f"write --budget {meant}%", diagnostics)
        return None
    return Requirement(metric="flops", target="blocks", op="<=", value=Amount(value=share))


def _requirements(text: str, diagnostics: Diagnostics) -> Iterable[tuple[Place, Requirement]]:
    """`mean(depth) >= 8`, as in `require`; `1.2e21`, which bounds the blocks' FLOPs."""
    is_bound = not _COMPARISON.search(text)
    problems = Diagnostics()
    source = Source(OPTION, text)
    statements = parse_behind("require flops <= " if is_bound else "require ", source, problems)
    found: list[tuple[Place, Requirement]] = []
    for statement in () if problems.has_errors else statements:
        requirement = requirement_of(statement, Scope(problems)) if isinstance(statement, ast.Require) else None
        if requirement is not None:
            found.append((Place(statement.span, statement.span), requirement))
    if len(found) == 1 and len(statements) == 1:
        return found
    if is_bound or not problems.has_errors:
        fact = f"{text!r} is no {'share of full training' if is_bound else 'single requirement'}"
        help = "write --budget 75%, --budget 1.2e21, or a requirement: --budget 'mean(depth) >= 75%'"
        _refuse(text, fact, help, diagnostics)
        return ()
    diagnostics.extend(problems)
    return ()


def _refuse(text: str, fact: str, help: str, diagnostics: Diagnostics) -> None:
    diagnostics.add("bad-budget", fact, help=help, subject=OPTION)
