"""The syntax tree: what was written, each node with its span. Meaning comes later, in `compiler`.

A node equals itself alone: what was written alike elsewhere has another span. (Not to generate comparisons also makes
this module a fifth faster to import, which is what `raptr check` of a small file waits for.)
"""

from dataclasses import dataclass
from fractions import Fraction

from raptr_dsl.source import Span


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    span: Span


# --- values ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Number(Node):
    """A literal. `is_count` holds for `6` and `675k`, not for `20%`, `0.5` (rule 1)."""

    value: Fraction
    is_count: bool


@dataclass(frozen=True, slots=True, eq=False)
class String(Node):
    value: str


@dataclass(frozen=True, slots=True, eq=False)
class Name(Node):
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Unary(Node):
    """`-a`."""

    operand: "Value"


@dataclass(frozen=True, slots=True, eq=False)
class Binary(Node):
    """`a op b`, op one of `+ - * /`."""

    op: str
    left: "Value"
    right: "Value"


@dataclass(frozen=True, slots=True, eq=False)
class Argument(Node):
    """One argument of a call; `name` is None for a positional one."""

    name: Name | None
    value: "Value"


@dataclass(frozen=True, slots=True, eq=False)
class Call(Node):
    name: Name
    args: tuple[Argument, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Range(Node):
    """`a..b`."""

    start: "Value"
    stop: "Value"


@dataclass(frozen=True, slots=True, eq=False)
class List(Node):
    items: tuple["Value", ...]


@dataclass(frozen=True, slots=True, eq=False)
class Hole(Node):
    """`?`: a value the compiler is to solve for."""


Value = Number | String | Name | Unary | Binary | Call | Range | List | Hole


@dataclass(frozen=True, slots=True, eq=False)
class Attribute(Node):
    """`key=value`, or `axis.key=value`."""

    axis: Name | None
    name: Name
    value: Value


# --- statements -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Doc(Node):
    text: String


@dataclass(frozen=True, slots=True, eq=False)
class Use(Node):
    """`use std/raptr`, `use "./warm.raptr" as warm`: `path` is a String for files, a Name for libraries."""

    path: String | Name
    alias: Name | None


@dataclass(frozen=True, slots=True, eq=False)
class Param(Node):
    name: Name
    type: Name | Call
    bounds: Range | None
    default: Value | None


@dataclass(frozen=True, slots=True, eq=False)
class Let(Node):
    name: Name
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class Model(Node):
    name: Name | None
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Horizon(Node):
    """`steps 675k` or `tokens 2B`."""

    unit: str
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class Seed(Node):
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class Allow(Node):
    names: tuple[Name, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Keep(Node):
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Default(Node):
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Stage(Node):
    name: Name | None
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Ramp(Node):
    name: Name | None
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Repeat(Node):
    """`repeat 3 steps=60% { … }`; `keyword` is the span of `repeat` itself, for carets."""

    keyword: Span
    times: Value
    attributes: tuple[Attribute, ...]
    body: tuple["Statement", ...]


@dataclass(frozen=True, slots=True, eq=False)
class Run(Node):
    target: Name
    args: tuple[Argument, ...]
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Require(Node):
    metric: Name | Call
    op: str
    value: Value


Statement = (
    Doc | Use | Param | Let | Model | Horizon | Seed | Allow
    | Keep | Default | Stage | Ramp | Repeat | Run | Require
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class File(Node):
    statements: tuple[Statement, ...]
