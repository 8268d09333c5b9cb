"""The training loop around a backend's trainer: run folder, log, checkpoints, exact resume, audit.

`train` does it all; `open_run` gives a `Run` that can be advanced in parts: `run.advance(100)`, `run.finish()`.
"""

from raptr_dsl.training.feed import Feed, TokenFeed
from raptr_dsl.training.journal import read_journal
from raptr_dsl.training.loop import Run, RunSummary
from raptr_dsl.training.opening import open_run, train
from raptr_dsl.training.reporter import SILENT, Reporter
from raptr_dsl.training.settings import Cadence, DataIdentity, RunSettings
from raptr_dsl.training.stop import Stop, stop_requests

__all__ = [
    "SILENT",
    "Cadence",
    "DataIdentity",
    "Feed",
    "Reporter",
    "Run",
    "RunSettings",
    "RunSummary",
    "Stop",
    "TokenFeed",
    "open_run",
    "read_journal",
    "stop_requests",
    "train",
]
