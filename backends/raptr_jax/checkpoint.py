"""Everything that the next step depends on, written to a folder and read back to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from raptr_dsl.backend.checks import unreadable_checkpoint
from raptr_dsl.backend.randomness import random_states, restore_random_states
from raptr_jax.mesh import place
from raptr_jax.scan import Tree

TENSORS = "trainer.npz"
COUNTS = "counts.json"


def save(folder: Path, tree: Tree, counts: dict[str, Any]) -> None:
    """Writes arrays, counts and random states; whatever fails is raised as it comes."""
    arrays = {name: np.asarray(leaf) for name, leaf in _named(tree).items()}
    np.savez(folder / TENSORS, **arrays)  # pyright: ignore[reportArgumentType]
    (folder / COUNTS).write_text(json.dumps({**counts, **random_states()}), encoding="utf-8")


def load(folder: Path, like: Tree) -> tuple[Tree, dict[str, Any]]:
    """What `save` wrote, as a tree like that one, and the counts; random states are restored.

    Raises:
        RaptrError: `trainer-checkpoint`; nothing was changed.
    """
    try:
        with (folder / TENSORS).open("rb") as file, np.load(file) as arrays:
            saved = dict(arrays)
        counts = json.loads((folder / COUNTS).read_text(encoding="utf-8"))
        here = _named(like)
        _require_same(saved, here)
    except Exception as error:  # a damaged file can fail in any way
        raise unreadable_checkpoint(folder, error) from error
    restore_random_states(counts)
    leaves = [place(saved[name], leaf.sharding) for name, leaf in here.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves), counts


def _named(tree: Tree) -> dict[str, jax.Array]:
    """The leaves in order, by their paths."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _require_same(saved: dict[str, np.ndarray], here: dict[str, jax.Array]) -> None:
    """Refuses arrays of another model."""
    if saved.keys() != here.keys():
        raise ValueError(f"it holds other arrays, such as {min(saved.keys() ^ here.keys())}")
    for name, leaf in here.items():
        if (saved[name].shape, saved[name].dtype) != (leaf.shape, leaf.dtype):
            there = f"{saved[name].dtype}{list(saved[name].shape)}"
            raise ValueError(f"{name} is {there} there and {leaf.dtype}{list(leaf.shape)} here")
