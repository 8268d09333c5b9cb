"""The states of Python's and NumPy's own generators, as JSON: what a checkpoint keeps beside a framework's."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any


def random_states() -> dict[str, Any]:
    """Both states; `restore_random_states` is its inverse."""
    import numpy as np

    state = np.random.get_state(legacy=False)
    assert isinstance(state, dict)
    numpy = {**state, "state": {"key": state["state"]["key"].tolist(), "pos": state["state"]["pos"]}}
    return {"python": random.getstate(), "numpy": numpy}


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Sets both generators as `random_states` found them, read back from JSON or not."""
    import numpy as np

    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    state = states["numpy"]
    key = np.array(state["state"]["key"], dtype=np.uint32)
    np.random.set_state({**state, "state": {"key": key, "pos": state["state"]["pos"]}})
