"""What a file says of the run as a whole: only the root file is heard, and each thing once (rule 11)."""

from dataclasses import dataclass, field

from raptr_dsl.compiler.evaluate import evaluate
from raptr_dsl.compiler.origins import Origins, Place
from raptr_dsl.compiler.requirements import requirement_of
from raptr_dsl.compiler.scope import Quantity, Scope
from raptr_dsl.compiler.shapes import shape_of
from raptr_dsl.diagnostics import Label, did_you_mean
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.schedule import PARTIAL, Duration, Requirement
from raptr_dsl.source import Span
from raptr_dsl.syntax import ast

ALLOWED = (PARTIAL,)
MAX_SEED = 2**64 - 1


@dataclass(slots=True)
class Header:
    """See `ir.Schedule`; `origins` learns where each of it stands."""

    origins: Origins
    doc: str | None = None
    model: ModelShape | None = None
    horizon: Duration | None = None
    seed: int | None = None
    partial: bool = False
    requirements: list[Requirement] = field(default_factory=list)
    said: dict[str, Span] = field(default_factory=dict)

    def read(self, statement: ast.Statement, scope: Scope) -> None:
        """Takes in one statement; what is wrong with it is recorded."""
        match statement:
            case ast.Require():
                self._require(statement, scope)
            case ast.Allow():
                self._allow(statement, scope)
            case ast.Doc(text=text) if self._is_first("doc", statement, scope):
                self.doc = text.value
            case ast.Model() if self._is_first("model", statement, scope):
                self.model = shape_of(statement, scope)
            case ast.Horizon() if self._is_first("horizon", statement, scope):
                self.horizon = _horizon(statement, scope)
            case ast.Seed() if self._is_first("seed", statement, scope):
                self.seed = _seed(statement, scope)

    def _is_first(self, what: str, statement: ast.Statement, scope: Scope) -> bool:
        first = self.said.setdefault(what, statement.span)
        if first is statement.span:
            self.origins.places[what,] = Place(statement.span, statement.span)
            return True
        words = {"horizon": "how long the run is"}
        scope.diagnostics.add(
            "said-twice",
            f"the file says {words.get(what, f'its {what}')} twice",
            statement.span,
            label="again here",
            related=[Label(first, "first said here")],
            help="remove one of the two",
        )
        return False

    def _allow(self, statement: ast.Allow, scope: Scope) -> None:
        for name in statement.names:
            if name.text in ALLOWED:
                self.partial = True
                continue
            nearest = did_you_mean(name.text, ALLOWED)
            scope.diagnostics.add(
                "unknown-word",
                f"there is nothing called `{name.text}` to allow",
                name.span,
                help=f"did you mean `{nearest}`?" if nearest else f"legal here: {', '.join(ALLOWED)}",
            )

    def _require(self, statement: ast.Require, scope: Scope) -> None:
        requirement = requirement_of(statement, scope)
        if requirement is not None:
            place = Place(statement.span, statement.value.span)
            self.origins.places["requirements", len(self.requirements)] = place
            self.requirements.append(requirement)


def _horizon(statement: ast.Horizon, scope: Scope) -> Duration | None:
    quantity = evaluate(statement.value, scope)
    if quantity is None:
        return None
    if _is_whole(quantity) and quantity.value >= 1:
        return Duration(**{statement.unit: quantity.value})
    scope.diagnostics.add(
        "bad-horizon",
        f"a run of {statement.value.span.text} {statement.unit} is not a whole number of them, 1 or more",
        statement.value.span,
        related=scope.chain(quantity),
        help=f"write {statement.unit} 675k",
    )
    return None


def _seed(statement: ast.Seed, scope: Scope) -> int | None:
    quantity = evaluate(statement.value, scope)
    if quantity is None:
        return None
    if _is_whole(quantity) and 0 <= quantity.value <= MAX_SEED:
        return int(quantity.value)
    scope.diagnostics.add(
        "bad-seed",
        f"the seed {statement.value.span.text} is not a whole number from 0 to 2^64 − 1",
        statement.value.span,
        related=scope.chain(quantity),
        help="write seed 17",
    )
    return None


def _is_whole(quantity: Quantity) -> bool:
    return quantity.is_count and quantity.value.denominator == 1
