"""Requirements that no schedule can meet together, whatever the model."""

from collections.abc import Mapping, Sequence

from raptr_dsl.compiler.metrics import METRICS
from raptr_dsl.compiler.origins import Origins
from raptr_dsl.compiler.verify import requirement_text
from raptr_dsl.diagnostics import Diagnostics, Label
from raptr_dsl.ir.schedule import Requirement

AT_LEAST, AT_MOST = (">=", "=="), ("<=", "==")


def check_contradictions(requirements: Sequence[Requirement], origins: Origins, diagnostics: Diagnostics) -> None:
    """Records every requirement that one before it, of the same metric, leaves no room for."""
    for number, requirement in enumerate(requirements):
        for before, other in enumerate(requirements[:number]):
            if _contradict(requirement, other):
                _report(requirements, number, before, origins, diagnostics)
                break


def _contradict(one: Requirement, other: Requirement) -> bool:
    if _asked(one) != _asked(other):
        return False
    low, high = (one, other) if one.value.value >= other.value.value else (other, one)
    return low.value.value > high.value.value and low.op in AT_LEAST and high.op in AT_MOST


def _asked(requirement: Requirement) -> tuple[str, str | None, bool, Mapping[str, str]]:
    """What is compared; a word that is left out is the first that it can be."""
    metric = METRICS[requirement.metric]
    defaults = {name: words[0] for name, words in metric.options.items() if words}
    return requirement.metric, requirement.target, requirement.value.is_count, defaults | requirement.options


def _report(
    requirements: Sequence[Requirement], number: int, before: int, origins: Origins, diagnostics: Diagnostics
) -> None:
    span, other = origins.span(("requirements", number)), origins.span(("requirements", before))
    later, earlier = requirement_text(requirements[number]), requirement_text(requirements[before])
    if span is None:  # from --budget, which stands nowhere in the file
        diagnostics.add(
            "requirements-contradict",
            f"{earlier} contradicts --budget, which is {later}: no schedule meets both",
            other,
            help="change one of the two",
        )
        return
    diagnostics.add(
        "requirements-contradict",
        f"{later} contradicts {earlier}: no schedule meets both",
        span,
        label="this one",
        related=[Label(other, "and this one")] if other else (),
        help="change one of the two",
    )
