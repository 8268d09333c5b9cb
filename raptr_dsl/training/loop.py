"""The training loop: what is measured, logged, saved and audited around each step of a trainer."""

import math
from time import perf_counter
from typing import Any

from raptr_dsl.backend import Executed, StepResult, Trainer
from raptr_dsl.backend.processes import ALONE, Processes
from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.flops import full_blocks_cost, head_cost
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.plan import Plan
from raptr_dsl.training.account import Account, mean_active, mismatches
from raptr_dsl.training.checkpoints import Checkpoints, Interval, State
from raptr_dsl.training.errors import audit_failure, not_finite, with_notes
from raptr_dsl.training.feed import Feed
from raptr_dsl.training.folder import RunFolder
from raptr_dsl.training.journal import Journal
from raptr_dsl.training.record import Record
from raptr_dsl.training.reporter import Reporter
from raptr_dsl.training.settings import RunSettings
from raptr_dsl.training.stop import Stop

NEVER = Stop()


class RunSummary(Record, frozen=True):
    """What came of a run; `summary.json` of a finished one.

    Attributes:
        plan: its digest.
        steps: optimizer steps done.
        signal: what stopped it before it was finished.
        held_out_loss: of the full network, in nats per token, at the last evaluation.
        seconds: spent in optimizer steps, evaluations and checkpoints left out.
        units: executed unit forwards by axis. flops: executed.
        full_flops: what the full network would cost for the same steps.
        padded_flops: of what filled up a program's shapes and was discarded; no part of `flops`.
    """

    plan: str
    steps: int
    finished: bool
    signal: int | None = None
    held_out_loss: float | None
    seconds: float
    tokens: int
    units: dict[str, int]
    flops: int
    full_flops: int
    padded_flops: int = 0


class Run:
    """A run that is open: made by `open_run`, which holds its folder's lock."""

    def __init__(
        self,
        plan: Plan,
        trainer: Trainer,
        feed: Feed,
        settings: RunSettings,
        folder: RunFolder,
        journal: Journal,
        reporter: Reporter,
        processes: Processes = ALONE,
    ) -> None:
        self.plan, self.settings, self.folder = plan, settings, folder
        self.step = 0
        self._trainer, self._feed, self._journal, self._reporter = trainer, feed, journal, reporter
        self._processes = processes
        self._checkpoints = Checkpoints(folder.checkpoints)
        self._account = Account(plan)
        self._seconds = 0.0
        self._held_out_loss: float | None = None
        self._interval = Interval(units=dict(self._account.units))
        self._saved: int | None = None

    @property
    def is_done(self) -> bool:
        return self.step == self.plan.steps

    @property
    def planned_flops(self) -> int:
        """Training FLOPs of the steps done."""
        return int(self._account.flops)

    def begin(self) -> None:
        """The first line of the log."""
        self._record(
            "run",
            plan=self.plan.digest,
            name=self.plan.name,
            steps=self.plan.steps,
            seed=self.plan.seed,
            backend=self.settings.backend,
            data=self.settings.data.sha256,
        )

    def restore(self, state: State) -> None:
        """Takes up where a checkpoint left off; the trainer has loaded its own part already."""
        self.step = self._saved = state.step
        self._seconds, self._interval = state.seconds, state.interval
        self._held_out_loss = state.held_out_loss
        for step in range(state.step):
            self._account.add(self.plan.step(step))

    def advance(self, until: int, stop: Stop = NEVER) -> None:
        """Trains until `until` steps are done or somebody asks to stop.

        Raises:
            RaptrError: `trainer-not-finite`, `train-audit`, `train-disk-full`, `train-write`.
        """
        while self.step < until and not self._processes.any(stop.requested):
            self._next()

    def save(self) -> None:
        """Writes a checkpoint of where the run stands, unless there is one."""
        if self._saved == self.step:
            return
        state = State(
            step=self.step,
            log_bytes=self._journal.sync(),
            seconds=self._seconds,
            held_out_loss=self._held_out_loss,
            interval=self._interval,
        )
        self._checkpoints.save(self._trainer, state, self.plan.digest, self._processes)
        self._saved = self.step

    def finish(self) -> RunSummary:
        """The audit of a run that is done, and its summary.

        Raises:
            RaptrError: `train-audit`, naming every number that is not as planned.
        """
        executed = self._trainer.executed()
        found = mismatches(self._account, executed)
        counted_at_once = self.plan.flops(case="seed").total
        if counted_at_once != self._account.flops:
            found.append(f"FLOPs: {self._account.flops:,} planned by step, {counted_at_once:,} by stage")
        self._record(
            "audit",
            holds=not found,
            units={
                name: {"executed": executed.units.get(name, 0), "planned": planned}
                for name, planned in self._account.units.items()
            },
            flops=self._flops(executed),
        )
        if found:
            raise audit_failure(self.step, found)
        self._journal.sync()
        summary = self.summary()
        self._processes.first(lambda: self.folder.write_summary(summary))
        return summary

    def summary(self) -> RunSummary:
        """Where the run stands."""
        executed = self._trainer.executed()
        shape = self.plan.shape
        return RunSummary(
            plan=self.plan.digest,
            steps=self.step,
            finished=self.is_done,
            held_out_loss=self._held_out_loss,
            seconds=self._seconds,
            tokens=self._account.tokens,
            units=dict(executed.units),
            flops=executed.flops,
            padded_flops=executed.padded_flops,
            full_flops=int(self.step * (full_blocks_cost(shape) + head_cost(shape))),
        )

    def _flops(self, executed: Executed) -> dict[str, int]:
        """FLOPs so far; those that filled up a program's shapes stand apart, where there are any."""
        padded = {"padded": executed.padded_flops} if executed.padded_flops else {}
        return {"executed": executed.flops, "planned": self._account.flops, **padded}

    def _next(self) -> None:
        cadence = self.settings.cadence
        planned = self.plan.step(self.step)
        stage = self.plan.stages[planned.stage]
        if self.step == stage.start:
            self._record("stage", stage=planned.stage, name=stage.name, start=stage.start, stop=stage.stop)
        result, seconds = self._train(stage)
        self._account.add(planned)
        self.step += 1
        self._gather(result.loss, seconds)
        self._reporter.step(self.step, result.loss)
        if self.step == stage.stop or self.step % cadence.log_every == 0:
            self._log_interval(planned.stage, stage, result)
        if self._is_due(cadence.eval_every):
            self._evaluate()
        if self._is_due(cadence.checkpoint_every):
            self.save()

    def _is_due(self, every: int) -> bool:
        return self.is_done or (every > 0 and self.step % every == 0)

    def _gather(self, loss: float, seconds: float) -> None:
        self._seconds += seconds
        gathered = self._interval
        self._interval = gathered.model_copy(
            update={
                "loss": gathered.loss + loss,
                "seconds": gathered.seconds + seconds,
                "fastest": seconds if gathered.fastest is None else min(gathered.fastest, seconds),
            }
        )

    def _log_interval(self, index: int, stage: BoundStage, last: StepResult) -> None:
        interval, settings, shape = self._interval, self.settings.train, self.plan.shape
        steps = self.step - interval.start
        units = {name: count - interval.units[name] for name, count in self._account.units.items()}
        tokens = self._account.tokens - interval.tokens
        executed = self._trainer.executed()
        self._record(
            "train",
            stage=index,
            stage_name=stage.name,
            subnetwork_training_loss=interval.loss / steps,
            grad_norm=last.grad_norm,
            learning_rate=settings.learning_rate(self.step - 1, self.plan.steps)
            * float(self.plan.rate_factor(self.step - 1)),
            active=mean_active(shape, units, steps),
            flops=self._flops(executed),
            tokens=self._account.tokens,
            tokens_per_second=tokens / interval.seconds if interval.seconds else 0.0,
            **self._utilisation(self._account.flops - interval.flops, interval.seconds),
            seconds=self._seconds,
            fastest_step_seconds=interval.fastest,
        )
        if found := mismatches(self._account, executed):
            raise audit_failure(self.step, found)
        account = self._account
        self._interval = Interval(
            start=self.step, units=dict(account.units), tokens=account.tokens, flops=account.flops
        )

    def _utilisation(self, flops: int, seconds: float) -> dict[str, float]:
        """Model FLOPs utilisation: of what the machine could do in that time, what the active subnetwork needed."""
        peak = self.settings.cadence.peak_tflops
        return {"mfu": flops / (seconds * peak * 1e12)} if peak and seconds else {}

    def _evaluate(self) -> None:
        begun = perf_counter()
        loss = self._trainer.evaluate(self._feed.held_out())
        if not math.isfinite(loss):
            raise not_finite(f"the held-out loss after {self.step:,} steps is {loss}")
        self._held_out_loss = loss
        self._record(
            "eval",
            full_network_held_out_loss=loss,
            flops={"executed": self._trainer.executed().flops, "planned": self._account.flops},
            seconds=perf_counter() - begun,
        )

    def _record(self, event: str, **values: Any) -> None:
        record = {"event": event, "step": self.step, **values}
        self._journal.write(record)
        self._reporter.record(record)

    def _train(self, stage: BoundStage) -> tuple[StepResult, float]:
        """One optimizer step, and the seconds it took."""
        begun = perf_counter()
        try:
            result = self._trainer.step(self.step, self._feed.batch(self.step))
        except RaptrError as error:
            raise with_notes(error, *self._circumstances(stage)) from error
        seconds = perf_counter() - begun
        for what, value in (("loss", result.loss), ("gradient norm", result.grad_norm)):
            if not math.isfinite(value):
                raise not_finite(f"the {what} of step {self.step:,} is {value}", self._circumstances(stage))
        return result, seconds

    def _circumstances(self, stage: BoundStage) -> tuple[str, ...]:
        """What to know when a step failed."""
        checkpoint, _ = self._checkpoints.latest()
        rate = self.settings.train.learning_rate(self.step, self.plan.steps)
        named = f", in stage {stage.name}" if stage.name else ""
        return (
            f"it is step {self.step:,} of {self.plan.steps:,}{named}",
            f"the learning rate is {rate:.6g}",
            f"the last checkpoint is {checkpoint.path}" if checkpoint else "there is no checkpoint yet",
        )
