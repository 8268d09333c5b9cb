"""From a plan, data and a folder to a run that can be advanced: a new one, or one that goes on."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from raptr_dsl.backend import Backend, Trainer
from raptr_dsl.backend.claims import disagreement
from raptr_dsl.backend.processes import Processes, processes_of
from raptr_dsl.backend.state import TrainerState
from raptr_dsl.diagnostics import Diagnostic, RaptrError, fail
from raptr_dsl.ir.plan import Plan
from raptr_dsl.training.checkpoints import Checkpoint, Checkpoints
from raptr_dsl.training.errors import with_notes
from raptr_dsl.training.feed import Feed
from raptr_dsl.training.folder import RunFolder, open_folder
from raptr_dsl.training.journal import Journal, NoJournal
from raptr_dsl.training.loop import Run, RunSummary
from raptr_dsl.training.reporter import SILENT, Reporter
from raptr_dsl.training.resume import require_same_past, require_same_settings
from raptr_dsl.training.settings import InitialWeights, RunSettings, shared_settings
from raptr_dsl.training.stop import stop_requests
from raptr_dsl.training.weights import read_weights


def train(
    plan: Plan,
    backend: Backend,
    feed: Feed,
    settings: RunSettings,
    path: Path,
    *,
    resume: bool = False,
    reporter: Reporter = SILENT,
) -> RunSummary:
    """Trains the backend's own small transformer by a plan, from the beginning or from the last checkpoint.

    SIGINT and SIGTERM end it after the step at hand, with a checkpoint; the summary says it is not finished.

    Raises:
        RaptrError: see `open_run` and `Run`.
    """
    with (
        stop_requests() as stop,
        open_run(plan, backend, feed, settings, path, resume=resume, reporter=reporter) as run,
    ):
        run.advance(plan.steps, stop)
        if run.is_done:
            return run.finish()
        run.save()
        return run.summary().model_copy(update={"signal": stop.signal})


@contextmanager
def open_run(
    plan: Plan,
    backend: Backend,
    feed: Feed,
    settings: RunSettings,
    path: Path,
    *,
    resume: bool = False,
    reporter: Reporter = SILENT,
) -> Iterator[Run]:
    """A run in the folder `path`, which no other process can train into meanwhile.

    Where a backend trains in several processes, each opens the run; process 0 alone writes and reports.

    With `resume` it goes on from the last complete checkpoint, or from the beginning if there is none yet:
    batches, masks, weights, optimizer and log are then what they would be had it never stopped.

    Raises:
        RaptrError: `train-out-occupied`, `train-out-foreign`, `train-locked`, `train-write`;
            `train-run-damaged`, `train-resume-plan`, `train-resume-horizon`, `train-resume-settings`,
            `train-checkpoint-damaged`; `weights-file`, `weights-changed`; and what the data or the backend refuse.
    """
    processes = processes_of(backend)
    is_first = processes.rank == 0
    reporter = reporter if is_first else SILENT
    _require_told_alike(processes, plan, settings)
    with ExitStack() as held:
        folder = processes.first(lambda: held.enter_context(open_folder(path, resume=resume)))
        checkpoint = processes.first(lambda: _require_resumable(folder, plan, settings, reporter))
        feed.batch(0)  # too little text is to be found out now, not at the first evaluation
        feed.held_out()
        trainer = backend.trainer(plan, settings.train)
        if checkpoint is not None:
            trainer.load(checkpoint.trainer)
        elif settings.init is not None:
            _take_up(trainer, settings.init)
        processes.first(lambda: _begin(folder, plan, settings, checkpoint))
        with closing(Journal(folder.log_file) if is_first else NoJournal()) as journal:
            run = Run(plan, trainer, feed, settings, folder, journal, reporter, processes)
            if checkpoint is None:
                journal.cut(0)
                run.begin()
            else:
                if not journal.cut(checkpoint.state.log_bytes):
                    reporter.warn(_short_log(folder))
                run.restore(checkpoint.state)
            reporter.begin(run.step)
            yield run
    processes.close()


def _require_told_alike(processes: Processes, plan: Plan, settings: RunSettings) -> None:
    """Refuses to begin where processes were told differently: they would wait for each other, or average nonsense.

    Raises:
        RaptrError: `ranks-disagree`, with everything in which they differ.
    """
    told = processes.gather({"plan": plan.digest, **shared_settings(settings)})
    names = dict.fromkeys(name for one in told for name in one)
    differ = [name for name in names if len({str(one.get(name)) for one in told}) > 1]
    if differ:
        raise disagreement(
            {rank: ", ".join(f"{name} {one.get(name)}" for name in differ) for rank, one in enumerate(told)}
        )


def _take_up(trainer: Trainer, init: InitialWeights) -> None:
    """Begins with the weights of a file."""
    values = read_weights(Path(init.path), init.sha256)
    try:
        trainer.import_state(TrainerState(values))
    except RaptrError as error:
        raise with_notes(error, f"the weights are {init.path}") from error


def _begin(folder: RunFolder, plan: Plan, settings: RunSettings, checkpoint: Checkpoint | None) -> None:
    """Makes the folder that of this run, going on from that checkpoint."""
    if folder.begun:
        folder.write_settings(settings)
        if folder.plan() != plan:
            folder.write_plan(plan)
    else:
        folder.begin(plan, settings)
    folder.summary_file.unlink(missing_ok=True)
    Checkpoints(folder.checkpoints).clear_debris(after=checkpoint.state.step if checkpoint else 0)


def _require_resumable(folder: RunFolder, plan: Plan, settings: RunSettings, reporter: Reporter) -> Checkpoint | None:
    """The checkpoint from which to go on; None to begin, where none was ever written."""
    if not folder.begun:
        return None
    require_same_settings(folder.settings(), settings)
    before = folder.plan()
    checkpoint, warnings = Checkpoints(folder.checkpoints).latest()
    if checkpoint is None and warnings:
        raise fail(
            "train-checkpoint-damaged",
            f"every checkpoint in {folder.checkpoints} is damaged",
            subject=str(folder.checkpoints),
            help="train into another folder, or delete the checkpoints to begin this run again",
            notes=tuple(warning.message for warning in warnings),
        )
    require_same_past(before, plan, checkpoint.state.step if checkpoint else 0, settings.train)
    for warning in warnings:
        reporter.warn(warning)
    return checkpoint


def _short_log(folder: RunFolder) -> Diagnostic:
    return Diagnostic(
        "train-log-short",
        "the log has lost lines since the checkpoint was written; what follows is appended",
        subject=str(folder.log_file),
        severity="warning",
    )
