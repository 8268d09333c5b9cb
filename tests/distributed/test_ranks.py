"""What one rank does around a step, and in which order; the other ranks are stood in for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from raptr_dsl.backend.claims import Claim, Claims
from raptr_dsl.ir.plan import Step
from raptr_torch.meter import Meter
from raptr_torch.ranks import Together
from raptr_torch.reduction import Active
from tests.backends.drawn import refused
from tests.distributed.loops import plan


class Others:
    """An agreement and a reduction that agree to everything, and write down what they are asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._pending: Claim | None = None

    def gather(self) -> None:
        self.asked.append("gather")

    def announce(self, claim: Claim) -> None:
        self.asked.append(f"announce {claim.step}")
        self._pending = claim

    def settle(self) -> Claim | None:
        claim, self._pending = self._pending, None
        return claim

    def exchange(self, claim: Claim) -> None:
        self.asked.append(f"exchange {claim.step}, micro-batches {claim.micro_batches}")

    def explain(self, error: BaseException) -> BaseException:
        return error

    def begin(self, active: Active | None) -> None:
        self.asked.append("begin")

    def finish(self) -> None:
        self.asked.append("finish")

    def abandon(self) -> None:
        self.asked.append("abandon")

    def release(self) -> None:
        self.asked.append("release")


def rank(micro_batches: int | None) -> tuple[Together, Others]:
    others = Others()
    return Together(plan(), cast(Any, others), Claims(plan(), 5, micro_batches), others), others


@contextmanager
def running(together: Together, index: int, passes: int = 1) -> Iterator[Step]:
    meter, step = Meter(), plan().step(index)
    with together.together(step, meter):
        meter.passes = passes
        yield step


def test_a_step_is_announced_one_step_ahead_and_only_the_first_is_waited_for() -> None:
    together, others = rank(1)
    for index in (0, 1, 2):
        with running(together, index):
            others.asked.append("backward")
    assert others.asked == [
        "gather", "exchange 0, micro-batches 1", "announce 1", "begin", "backward", "finish",
        "announce 2", "begin", "backward", "finish",
        "announce 3", "begin", "backward", "finish",
    ]  # fmt: skip


def test_nothing_is_announced_beyond_the_plan() -> None:
    together, others = rank(1)
    with running(together, plan().steps - 1):
        pass
    assert not [word for word in others.asked if word.startswith("announce")]


def test_another_step_than_the_announced_one_is_agreed_on_anew() -> None:
    together, others = rank(1)
    with running(together, 0):
        pass
    others.asked.clear()
    with running(together, 7):
        pass
    assert others.asked == ["exchange 7, micro-batches 1", "announce 8", "begin", "finish"]


@pytest.mark.parametrize("passes", [1, 3])
def test_a_wrong_number_of_micro_batches_is_told_before_a_reduction_is_waited_for(passes: int) -> None:
    together, others = rank(2)
    words = f"step 0 ran {passes} micro-batches, and 2 were declared"
    with refused("ranks-micro-batches", words), running(together, 0, passes):
        others.asked.clear()
    assert others.asked == ["abandon"]


def test_micro_batches_that_were_not_declared_are_compared_before_a_reduction_is_waited_for() -> None:
    together, others = rank(None)
    with running(together, 0, passes=3):
        others.asked.clear()
    assert others.asked == ["exchange 0, micro-batches 3", "finish"]


def test_a_step_that_failed_waits_for_nobody() -> None:
    together, others = rank(1)
    with pytest.raises(ZeroDivisionError), running(together, 0):
        raise ZeroDivisionError
    assert others.asked[-2:] == ["begin", "abandon"]


def test_gradients_that_are_averaged_within_a_step_are_not_averaged_again() -> None:
    together, others = rank(1)
    with running(together, 0):
        others.asked.clear()
        together.average()
        assert others.asked == ["finish"]
    together.average()
    assert others.asked == ["finish"]
