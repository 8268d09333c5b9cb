"""What a trainer has learned, by the names of the core's table: how it goes from one backend to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from raptr_dsl.backend.network import Parameter
from raptr_dsl.backend.protocol import Executed
from raptr_dsl.diagnostics import Diagnostics, fail

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Moments:
    """AdamW's state of one tensor: means of the gradient and of its square, and the updates it has had."""

    mean: NDArray[np.floating]
    square: NDArray[np.floating]
    count: int


@dataclass(frozen=True, slots=True)
class TrainerState:
    """A trainer between two steps, without anything of its framework; names are those of `network.parameters`.

    Attributes:
        parameters: float[…] by name, in the shapes of the table.
        moments: by name, of every parameter; None where the optimizer is yet to begin.
        next_step: the step to be taken next. executed: of the steps before it.
        grown: the last step whose growth was done, -1 for none.
    """

    parameters: Mapping[str, NDArray[np.floating]]
    moments: Mapping[str, Moments] | None = None
    next_step: int = 0
    executed: Executed = field(default_factory=lambda: Executed({}, 0))
    grown: int = -1

    def cast(self, dtype: str) -> TrainerState:
        """The same, its tensors rounded to `float32`, or widened to `float64`."""
        moments = self.moments and {
            name: Moments(of.mean.astype(dtype), of.square.astype(dtype), of.count) for name, of in self.moments.items()
        }
        parameters = {name: value.astype(dtype) for name, value in self.parameters.items()}
        return TrainerState(parameters, moments, self.next_step, self.executed, self.grown)


def fitted(state: TrainerState, table: Sequence[Parameter], dtype: np.dtype) -> TrainerState:
    """The state with copies of its tensors in the dtype of a trainer, every one of the table and no other.

    Raises:
        RaptrError: `weights-tensors`, `weights-shape`, `weights-dtype`, all that is wrong at once.
    """
    problems = Diagnostics()
    _require_names(state.parameters, table, problems)
    _require_shapes(state, table, problems)
    _require_exact(state, table, dtype, problems)
    problems.raise_errors()
    return state.cast(dtype.name)


def no_moments(parameters: Mapping[str, NDArray[np.floating]]) -> dict[str, Moments]:
    """Those of an optimizer before its first update."""
    import numpy as np

    return {name: Moments(np.zeros_like(value), np.zeros_like(value), 0) for name, value in parameters.items()}


def shared_count(counts: Mapping[str, int]) -> int:
    """The updates of parameters that an optimizer counts together.

    Raises:
        RaptrError: `convert-counts`: they have had different numbers of updates.
    """
    (first, least), *_, (last, most) = sorted(counts.items(), key=lambda item: item[1]) * 2
    if least != most:
        raise fail(
            "convert-counts",
            f"{last} has had {most:,} updates and {first} {least:,}, and this backend's optimizer counts both together",
            help="carry the weights alone: raptr convert RUN --out weights.safetensors",
        )
    return least


def _require_names(parameters: Mapping[str, object], table: Sequence[Parameter], problems: Diagnostics) -> None:
    names = [entry.name for entry in table]
    known = frozenset(names)
    for said, found in (
        ("the weights lack {} of this model", [name for name in names if name not in parameters]),
        ("the weights hold {} that this model does not have", sorted(parameters.keys() - known)),
    ):
        if found:
            problems.add(
                "weights-tensors",
                said.format("a tensor" if len(found) == 1 else f"{len(found):,} tensors") + f": {_some(found)}",
                help="name weights of the same architecture, by the names that raptr convert writes",
            )


def _require_shapes(state: TrainerState, table: Sequence[Parameter], problems: Diagnostics) -> None:
    wrong = [
        (entry, tensor.shape) for entry in table for tensor in _tensors(state, entry) if tensor.shape != entry.shape
    ]
    if wrong:
        (entry, shape), others = wrong[0], [other.name for other, _ in wrong[1:]]
        problems.add(
            "weights-shape",
            f"{entry.name} is {list(shape)} in the weights, and {list(entry.shape)} in this model",
            help="compile the schedule for the model that the weights are of",
            notes=(f"so are {len(others):,} other tensors: {_some(others)}",) if others else (),
        )


def _require_exact(state: TrainerState, table: Sequence[Parameter], dtype: np.dtype, problems: Diagnostics) -> None:
    import numpy as np

    found = {
        tensor.dtype
        for entry in table
        for tensor in _tensors(state, entry)
        if tensor.dtype.kind != "f" or not np.can_cast(tensor.dtype, dtype, "safe")
    }
    for other in sorted(map(str, found)):
        problems.add(
            "weights-dtype",
            f"the weights are {other}, and this model is {dtype}",
            help="train with --dtype float64, or round the weights on purpose: raptr convert RUN --dtype float32 …",
        )


def _tensors(state: TrainerState, entry: Parameter) -> list[NDArray]:
    """What there is of a parameter: its value, and its moments."""
    found = [state.parameters[entry.name]] if entry.name in state.parameters else []
    moments = state.moments.get(entry.name) if state.moments is not None else None
    return found if moments is None else [*found, moments.mean, moments.square]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
