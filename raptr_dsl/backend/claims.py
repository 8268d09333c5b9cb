"""What a process is about to run, said to the others before a collective of the step can start.

Processes that average gradients of different blocks do so without an error, if the tensors are of one size, and hang
if they are not. So each says one step ahead what it will run, and all go on only if all said the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from raptr_dsl.backend.processes import Processes
from raptr_dsl.backend.protocol import Batch
from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.ir.plan import Plan, Step

ANY = -1


@dataclass(frozen=True, slots=True)
class Claim:
    """What a process is about to run, as integers of 60 bits.

    Attributes:
        model: digest of the names, shapes and dtypes of its parameters. plan: its digest.
        step: its number, -1 for training in full outside the plan. mask: digest of what it runs.
        micro_batches: of the step, -1 where they are not known in advance.
    """

    model: int
    plan: int
    step: int
    mask: int
    micro_batches: int

    def __str__(self) -> str:
        step = "training in full" if self.step == ANY else f"step {self.step}"
        parts = "" if self.micro_batches == ANY else f", micro-batches {self.micro_batches}"
        return f"model {_short(self.model)}, plan {_short(self.plan)}, {step}, mask {_short(self.mask)}{parts}"


@dataclass(frozen=True, slots=True)
class Claims:
    """What one process claims for each step; `model` is a digest of its model."""

    plan: Plan
    model: int
    micro_batches: int | None

    def of(self, step: Step | None) -> Claim:
        """For a step, or for training in full outside the plan (None)."""
        plan = int(self.plan.digest[:15], 16)
        parts = ANY if self.micro_batches is None else self.micro_batches
        if step is None:
            return Claim(self.model, plan, ANY, 0, parts)
        return Claim(self.model, plan, step.index, mask_word(step), parts)


def mask_word(step: Step) -> int:
    """A digest of what runs in a step, factors included."""
    return word(*(part for name in sorted(step.axes) for part in _bytes(name, step)))


def word(*parts: bytes) -> int:
    """A digest of some bytes in 60 bits."""
    digest = sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return int(digest.hexdigest()[:15], 16)


def disagreement(claims: Mapping[int, str]) -> RaptrError:
    """The refusal of a step that not all ranks are about to run; what each of them said stands in the notes."""
    ranks = {said: [rank for rank in claims if claims[rank] == said] for said in dict.fromkeys(claims.values())}
    return fail(
        "ranks-disagree",
        "the ranks are not about to run the same",
        help="give every rank the same plan, seed and settings, and resume all from one checkpoint",
        notes=tuple(f"{_named(numbers)}: {said}" for said, numbers in ranks.items()),
    )


def agree_on_evaluation(processes: Processes, batches: Sequence[Batch], done: int) -> None:
    """Returns when all processes have said that they evaluate after as many steps, on the same batches.

    Each of them computes its share of every batch, so that other batches in one would go into the mean unseen.

    Raises:
        RaptrError: `ranks-disagree`, on every process; `ranks-lost`.
    """
    if processes.size == 1:
        return
    data = word(*(part for batch in batches for part in _tokens(batch)))
    said = processes.gather(f"evaluation after {done:,} steps, {len(batches)} batches, data {_short(data)}")
    if len(set(said)) > 1:
        raise disagreement(dict(enumerate(said)))


def _tokens(batch: Batch) -> Iterator[bytes]:
    for array in (batch.inputs, batch.targets, *(() if batch.positions is None else (batch.positions,))):
        yield str(array.shape).encode()
        yield array.astype("<i8").tobytes()


def spoken(seconds: float) -> str:
    """A timeout in words."""
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} seconds"


def _bytes(name: str, step: Step) -> Iterator[bytes]:
    mask = step.axes[name]
    yield f"{name} {mask.on.shape}".encode()
    yield mask.on.tobytes()
    yield mask.scale.tobytes()


def _short(word: int) -> str:
    """The first digits of the digest."""
    return f"{word:015x}"[:8]


def _named(ranks: list[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
