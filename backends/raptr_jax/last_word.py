"""What is said of a process that JAX ends without giving it a chance to speak.

When process 0 dies, JAX aborts the others from a thread of its own; no handler in Python is asked. (The client takes a
`missed_heartbeat_callback`, which jaxlib 0.10 cannot call: the status it hands over has no counterpart in Python.)
"""

from __future__ import annotations

import atexit
import subprocess
import sys
from contextlib import suppress

_SPEAKER = 'read -r _ || printf "%s\\n" "$0" >&2'
"""A shell that speaks unless it is told not to before its input ends; `$0` is what it has to say."""


def leave(message: str) -> None:
    """Has a message written to standard error if this process ends in any other way than by leaving Python."""
    sys.stderr.flush()
    speaker = subprocess.Popen(["/bin/sh", "-c", _SPEAKER, message], stdin=subprocess.PIPE, start_new_session=True)
    atexit.register(_withdraw, speaker)


def _withdraw(speaker: subprocess.Popen[bytes]) -> None:
    with suppress(OSError, subprocess.TimeoutExpired):
        speaker.communicate(b"\n", timeout=5)
