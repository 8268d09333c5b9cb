"""Weights as safetensors files, by the names of the core's table of parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.files import replacing
from raptr_dsl.training.files import writing
from raptr_dsl.training.settings import InitialWeights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = "raptr-weights-1"
DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
"""The format's names of what NumPy has too."""


def write_weights(path: Path, values: Mapping[str, NDArray[np.floating]], **about: str) -> None:
    """Writes a file as a whole or not at all; `about` is kept in its header, in words.

    Raises:
        RaptrError: `train-write`, `train-disk-full`.
    """
    import numpy as np

    dense = {name: np.asarray(value, order="C") for name, value in values.items()}
    data = _library().numpy.save(dense, {"format": FORMAT, **about})
    with writing("the weights", path), replacing(path) as file:
        file.write(data)


def read_weights(path: Path, sha256: str | None = None) -> dict[str, NDArray[np.floating]]:
    """The tensors of a safetensors file by their names, whoever wrote it.

    Args:
        sha256: what the file has to be, if that is known.

    Raises:
        RaptrError: `weights-file`, `weights-changed`; `weights-dtype`: NumPy has no such dtype.
    """
    import numpy as np

    library, data = _library(), _bytes(path)
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise fail(
            "weights-changed",
            "this is not the file that the run began with: its SHA-256 differs",
            subject=str(path),
            help="put the file back, or train into another folder",
        )
    try:
        entries = library.deserialize(data)
    except library.SafetensorError as error:
        raise _unreadable(path, f"it is no safetensors file, or is damaged: {error}") from error
    for name, entry in entries:
        if entry["dtype"] not in DTYPES:
            raise fail(
                "weights-dtype",
                f"{name} is {entry['dtype']}, and weights are read in {', '.join(DTYPES)}",
                subject=str(path),
                help="write them as float32",
            )
    return {
        name: np.frombuffer(entry["data"], DTYPES[entry["dtype"]]).reshape(entry["shape"]) for name, entry in entries
    }


def initial_weights(path: Path) -> InitialWeights:
    """Which file it is. Raises RaptrError (`weights-file`)."""
    return InitialWeights(path=str(path.absolute()), sha256=hashlib.sha256(_bytes(path)).hexdigest())


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, (error.strerror or str(error)).lower()) from error


def _unreadable(path: Path, reason: str) -> RaptrError:
    return fail(
        "weights-file",
        f"the weights cannot be read: {reason}",
        subject=str(path),
        help="name a file that raptr convert RUN --out weights.safetensors wrote",
    )


def _library():
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise fail(
            "weights-file",
            "weights are kept by the package safetensors, which is not installed",
            help='pip install "raptr-dsl[train]"',
        ) from error
    return safetensors
