"""A backend for models that are lists of functions: it can leave blocks out, unscaled, and nothing else."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from raptr_dsl.backend import Capabilities, Trainer, TrainSettings
from raptr_dsl.backend.support import unsupported
from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan

Block = Callable[[float], float]


class Runner:
    """Calls the blocks that a step's mask has on, in order."""

    def __init__(self, blocks: Sequence[Block], plan: Plan) -> None:
        self.blocks = blocks
        self.plan = plan
        self.next_step = 0
        self._active: Sequence[Block] | None = None

    def __call__(self, value: float) -> float:
        if self._active is None:
            raise RuntimeError("outside a step")
        for block in self._active:
            value = block(value)
        return value

    @contextmanager
    def step(self, index: int) -> Iterator[None]:
        depth = self.plan.step(index).axes.get("depth")
        active = range(len(self.blocks)) if depth is None else depth.active()
        with self._running([self.blocks[block] for block in active]):
            yield
        self.next_step = index + 1

    @contextmanager
    def full(self) -> Iterator[None]:
        with self._running(self.blocks):
            yield

    @contextmanager
    def _running(self, blocks: Sequence[Block]) -> Iterator[None]:
        self._active = blocks
        try:
            yield
        finally:
            self._active = None

    def detach(self) -> Sequence[Block]:
        return self.blocks


class ToyBackend:
    name = "toy"
    capabilities = Capabilities(
        axes=frozenset({"depth"}),
        scales=frozenset({"none"}),
        idle=frozenset({"zero"}),
        dtypes=frozenset({"float64"}),
    )

    def shape(self, model: Sequence[Block]) -> ModelShape:
        return ModelShape(layers=len(model), heads=1, hidden=1, ffn=1, vocab=1, seq=1)

    def attach(self, model: Sequence[Block], plan: Plan, optimizer: Any = None) -> Runner:
        refused = unsupported(plan, self)
        if refused:
            raise RaptrError(refused)
        return Runner(model, plan)

    def trainer(self, plan: Plan, settings: TrainSettings) -> Trainer:
        raise fail("backend-unsupported", "the toy backend has no transformer to train", subject=self.name)


BACKEND = ToyBackend()
