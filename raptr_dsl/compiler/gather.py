"""The attributes of one statement, sorted by what they are: sizes, settings of axes, words of the statement.

What stands twice, and what is legal nowhere in the statement, is recorded here and left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from raptr_dsl.axes import AXES
from raptr_dsl.compiler.attributes import ATTRIBUTES, STAGE_ATTRIBUTES
from raptr_dsl.diagnostics import Diagnostics, Edit, Label, did_you_mean
from raptr_dsl.syntax import ast

DURATIONS = ("steps", "tokens")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a statement may be given: sizes of axes, settings of axes, and words of its own."""

    word: str
    sizes: bool = False
    settings: bool = False
    words: tuple[str, ...] = ()

    def legal(self) -> list[str]:
        names = [*self.words]
        names += AXES if self.sizes else ()
        names += (*ATTRIBUTES, *STAGE_ATTRIBUTES) if self.settings else ()
        return names


STAGE = Kind("stage", sizes=True, settings=True, words=DURATIONS)
RAMP = Kind("ramp", sizes=True, settings=True, words=(*DURATIONS, "stages", "curve", "shares"))
REPEAT = Kind("repeat", words=DURATIONS)
RUN = Kind("run", words=DURATIONS)
DEFAULT = Kind("default", settings=True)
KEEP = Kind("keep", sizes=True)


@dataclass(slots=True)
class Given:
    """The attributes of one statement: `depth=`, `depth.scale=`, `scale=`, `freeze=`, `steps=`.

    `refused`: whether there was one more that nobody knows; it may have been the size of an axis. `meant`: the words
    that those were likely to be.
    """

    sizes: dict[str, ast.Attribute] = field(default_factory=dict)
    own: dict[tuple[str, str], ast.Attribute] = field(default_factory=dict)
    bare: dict[str, ast.Attribute] = field(default_factory=dict)
    whole: dict[str, ast.Attribute] = field(default_factory=dict)
    words: dict[str, ast.Attribute] = field(default_factory=dict)
    refused: bool = False
    meant: set[str] = field(default_factory=set)


def gather(attributes: Iterable[ast.Attribute], kind: Kind, diagnostics: Diagnostics) -> Given:
    """Each attribute to its place."""
    given = Given()
    for attribute in attributes:
        name = attribute.name.text
        if attribute.axis is not None:
            axis = attribute.axis.text
            if not (kind.settings and axis in AXES and name in ATTRIBUTES and name not in AXES[axis].lacks):
                _refuse_dotted(attribute, attribute.axis, kind, diagnostics)
            elif (axis, name) in given.own:
                _refuse_twice(attribute, given.own[axis, name], diagnostics)
            else:
                given.own[axis, name] = attribute
            continue
        if name in kind.words:
            place = given.words
        elif kind.sizes and name in AXES:
            place = given.sizes
        elif kind.settings and name in ATTRIBUTES:
            place = given.bare
        elif kind.settings and name in STAGE_ATTRIBUTES:
            place = given.whole
        else:
            given.meant.add(_refuse(attribute, kind, diagnostics))
            given.refused = True
            continue
        if name in place:
            _refuse_twice(attribute, place[name], diagnostics)
        else:
            place[name] = attribute
    return given


def _refuse_twice(attribute: ast.Attribute, first: ast.Attribute, diagnostics: Diagnostics) -> None:
    key = f"{attribute.axis.text}.{attribute.name.text}" if attribute.axis else attribute.name.text
    diagnostics.add(
        "duplicate-attribute",
        f"{key}= is given twice",
        attribute.span,
        label="again here",
        related=[Label(first.span, "first given here")],
        help="remove one of the two",
    )


def _refuse(attribute: ast.Attribute, kind: Kind, diagnostics: Diagnostics) -> str:
    """Records an attribute that the statement does not have; the one that is likely to be meant, "" if none is."""
    name = attribute.name.text
    if kind is DEFAULT and (name in AXES or name in DURATIONS):
        diagnostics.add(
            "default-size",
            f"`default` sets no {'size of an axis' if name in AXES else 'duration'}",
            attribute.span,
            help=f"write {attribute.span.text} on each stage",
        )
        return ""
    legal = kind.legal()
    nearest = did_you_mean(name, legal)
    help = f"did you mean `{nearest}`?" if nearest else "legal here: " + ", ".join(legal)
    if name == "keep":  # what is kept is kept in every stage
        help = "`keep` is a statement of its own, of all stages: keep depth=[first, last]"
    if kind is RUN and not nearest:
        help += f"; a parameter goes in parentheses, behind the name: ({attribute.span.text})"
    diagnostics.add(
        "unknown-attribute",
        f"`{kind.word}` has no axis or attribute `{name}`" if kind.sizes else f"`{kind.word}` takes no `{name}=`",
        attribute.name.span,
        help=help,
        fix=Edit(attribute.name.span, nearest) if nearest else None,
    )
    return nearest


def _refuse_dotted(attribute: ast.Attribute, axis: ast.Name, kind: Kind, diagnostics: Diagnostics) -> None:
    """`depht.scale=`, `depth.scael=`, or `depth.scale=` where nothing is set per axis."""
    name = attribute.name.text
    if not kind.settings:
        diagnostics.add(
            "unknown-attribute",
            f"`{kind.word}` takes no attributes of an axis",
            attribute.span,
            help="legal here: " + ", ".join(kind.legal()),
        )
        return
    is_axis = axis.text in AXES
    if is_axis and name in STAGE_ATTRIBUTES:
        fix = Edit(attribute.span, f"{name}={attribute.value.span.text}")
        message = f"`{name}` is of the whole stage, not of an axis"
        diagnostics.add("unknown-attribute", message, attribute.name.span, help=f"write {name}=", fix=fix)
        return
    wrong = attribute.name if is_axis else axis
    legal = [word for word in ATTRIBUTES if word not in AXES[axis.text].lacks] if is_axis else list(AXES)
    nearest = did_you_mean(wrong.text, legal)
    whose = axis.text if name in ATTRIBUTES else "an axis"
    diagnostics.add(
        "unknown-attribute" if is_axis else "unknown-axis",
        f"{whose} has no attribute `{name}`" if is_axis else f"there is no axis `{axis.text}`",
        wrong.span,
        help=f"did you mean `{nearest}`?" if nearest else "legal here: " + ", ".join(legal),
        fix=Edit(wrong.span, nearest) if nearest else None,
    )
