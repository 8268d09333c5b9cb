"""What a training run tells whoever watches it. How that looks is the watcher's business."""

from collections.abc import Mapping
from typing import Any

from raptr_dsl.diagnostics import Diagnostic


class Reporter:
    """Says nothing; a watcher overrides what interests it."""

    def begin(self, step: int) -> None:
        """The run begins, or goes on, with `step` optimizer steps done."""

    def step(self, step: int, loss: float) -> None:
        """Another optimizer step is done, `step` of them in all; `loss` is the subnetwork's."""

    def record(self, record: Mapping[str, Any]) -> None:
        """A line was written to the log."""

    def warn(self, diagnostic: Diagnostic) -> None:
        """Something was amiss, and training goes on."""


SILENT = Reporter()
