"""That all ranks run the same step: compared before a collective of the step can start, so that no two steps mix.

Ranks that average gradients of different blocks do so without an error, if the tensors are of one size, and hang if
they are not. So each rank says one step ahead what it will run; one small reduction of integers on a gloo group of its
own, beside the step at hand, tells every rank whether all said the same.
"""

from __future__ import annotations

import re
from dataclasses import astuple
from datetime import timedelta
from itertools import count

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

from raptr_dsl.backend.claims import Claim, disagreement, spoken, word
from raptr_dsl.diagnostics import RaptrError, fail

TIMEOUT = timedelta(minutes=10)
"""How long ranks wait for each other between two steps: saves, evaluations and compilations happen there."""
NAMING = timedelta(seconds=2)
"""How long a rank that disagrees waits for the others' values, which are there already unless a rank has died."""

_numbers = count()


class Agreement:
    """Claims of all ranks of the default process group, compared.

    Every rank has to make one, in the same order as other process groups.

    Raises:
        RaptrError: `ranks-lost`, from every method: a rank did not answer within `timeout`.
    """

    def __init__(self, timeout: timedelta = TIMEOUT) -> None:
        self.timeout = timeout
        group = dist.new_group(backend="gloo", timeout=timeout)
        assert isinstance(group, dist.ProcessGroup)
        self._group = group
        self._store = PrefixStore(f"raptr-{next(_numbers)}", _get_default_store())
        self._round = 0
        self._pending: tuple[Claim, Tensor, dist.Work] | None = None

    def gather(self) -> None:
        """Waits until every rank is there; names those that are not."""
        try:
            dist.monitored_barrier(self._group, self.timeout, wait_all_ranks=True)
        except RuntimeError as error:
            raise lost(error, self.timeout) from error

    def announce(self, claim: Claim) -> None:
        """Says what this rank runs next, and does not wait."""
        values = torch.tensor(astuple(claim), dtype=torch.int64)
        both = torch.cat([values, -values])
        self._round += 1
        work = dist.all_reduce(both, dist.ReduceOp.MAX, self._group, async_op=True)
        assert work is not None
        self._pending = claim, both, work

    def settle(self) -> Claim | None:
        """Waits for what was announced, and returns it.

        Raises:
            RaptrError: `ranks-disagree`, with the values of every rank, on every rank.
        """
        if self._pending is None:
            return None
        claim, both, work = self._pending
        try:
            work.wait(self.timeout)
        except RuntimeError as error:
            raise lost(error, self.timeout) from error
        self._pending = None
        greatest, least = both[: both.numel() // 2], -both[both.numel() // 2 :]
        if not torch.equal(greatest, least):
            raise self._disagreement(claim)
        return claim

    def exchange(self, claim: Claim) -> None:
        """Announces and settles."""
        self.announce(claim)
        self.settle()

    def explain(self, error: BaseException) -> BaseException:
        """What to raise for an error within a step: where a collective broke, the reason that another rank left.

        Any other error is left as a note for the other ranks, which are about to lose this one.
        """
        if is_collective_failure(error):
            return self._disagreed() or self._failed() or lost(error, self.timeout)
        code = error.diagnostics[0].code if isinstance(error, RaptrError) else ""
        if code == "ranks-lost":
            return self._failed() or error
        if code != "ranks-disagree":
            told = error.diagnostics[0].message if isinstance(error, RaptrError) else str(error)
            self._leave_note(f"rank {dist.get_rank()}: {type(error).__name__}: {told}")
        return error

    def _disagreed(self) -> RaptrError | None:
        """What another rank runs instead, where it left for that."""
        try:
            self.settle()
        except RaptrError as error:
            if error.diagnostics[0].code == "ranks-disagree":
                return error
        return None

    def _failed(self) -> RaptrError | None:
        """Why another rank left, where it could still say so."""
        try:
            if not self._store.check(["failed"]):
                return None
            note = self._store.get("failed").decode()
        except RuntimeError:  # the store went with the rank that held it
            return None
        return fail("ranks-failed", "another rank failed in this step", notes=(note,))

    def _leave_note(self, text: str) -> None:
        try:
            self._store.compare_set("failed", "", text)
        except RuntimeError:  # nobody is left to read it
            return

    def _disagreement(self, claim: Claim) -> RaptrError:
        keys = [f"{self._round}/{rank}" for rank in range(dist.get_world_size())]
        self._store.set(keys[dist.get_rank()], str(claim))
        claims = {rank: self._said(key) for rank, key in enumerate(keys)}
        return disagreement(claims)

    def _said(self, key: str) -> str:
        try:
            self._store.wait([key], NAMING)
            return self._store.get(key).decode()
        except RuntimeError:
            return "no answer"


def layout(model: torch.nn.Module) -> int:
    """A digest of the names, shapes and dtypes of a model's parameters and buffers."""
    tensors = (*model.named_parameters(), *model.named_buffers())
    return word(*(f"{name} {tuple(t.shape)} {t.dtype} {t.requires_grad}".encode() for name, t in tensors))


def is_collective_failure(error: BaseException) -> bool:
    """Whether a collective broke because a rank is gone; gloo has no class of its own for that."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def lost(error: BaseException, timeout: timedelta) -> RaptrError:
    """The refusal to go on without a rank."""
    return fail(
        "ranks-lost",
        f"a rank died, or did not answer within {spoken(timeout.total_seconds())}",
        help="see what the ranks that ended wrote; then start all of them again from the last checkpoint",
        notes=(_brief(error),),
    )


def _brief(error: BaseException) -> str:
    """The first sentence, without the place in somebody's source that gloo begins with."""
    return re.sub(r"^\[[^\]]*\] *", "", str(error)).partition("\n")[0].partition(". ")[0]
