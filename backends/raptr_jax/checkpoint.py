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
SCATTERED = "arrays"
COUNTS = "counts.json"


def save_scattered(folder: Path, tree: Tree) -> None:
    """Writes arrays that lie in parts on several processes: each writes its own; to be called in all of them."""
    with _checkpointer() as checkpointer:
        checkpointer.save(folder.absolute() / SCATTERED, _named(tree))


def save(folder: Path, tree: Tree, counts: dict[str, Any]) -> None:
    """Writes counts, random states, and arrays unless they were saved in parts; what fails is raised as it comes."""
    if not (folder / SCATTERED).exists():
        arrays = {name: np.asarray(leaf) for name, leaf in _named(tree).items()}
        np.savez(folder / TENSORS, **arrays)  # pyright: ignore[reportArgumentType]
    (folder / COUNTS).write_text(json.dumps({**counts, **random_states()}), encoding="utf-8")


def load(folder: Path, like: Tree) -> tuple[Tree, dict[str, Any]]:
    """What `save` wrote, as a tree like that one, and the counts; random states are restored.

    Raises:
        RaptrError: `trainer-checkpoint`; nothing was changed.
    """
    here = _named(like)
    try:
        leaves = (
            _gathered(folder / SCATTERED, here) if (folder / SCATTERED).exists() else _whole(folder / TENSORS, here)
        )
        counts = json.loads((folder / COUNTS).read_text(encoding="utf-8"))
    except Exception as error:  # a damaged file can fail in any way
        raise unreadable_checkpoint(folder, error) from error
    restore_random_states(counts)
    return jax.tree.unflatten(jax.tree.structure(like), leaves), counts


def _whole(path: Path, here: dict[str, jax.Array]) -> list[jax.Array]:
    """Arrays from one file, placed as those here."""
    with path.open("rb") as file, np.load(file) as arrays:
        saved = dict(arrays)
    _require_same(saved, here)
    return [place(saved[name], leaf.sharding) for name, leaf in here.items()]


def _gathered(folder: Path, here: dict[str, jax.Array]) -> list[jax.Array]:
    """Arrays from the parts of several processes, placed as those here; each process reads what it needs of them."""
    with _checkpointer() as checkpointer:
        _require_same(checkpointer.metadata(folder.absolute()).item_metadata.tree, here)
        wanted = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) for name, leaf in here.items()
        }
        saved = checkpointer.restore(folder.absolute(), wanted)
    return [saved[name] for name in here]


def _checkpointer() -> Any:
    """Orbax, which takes a second to import: where it is needed."""
    from orbax.checkpoint import Checkpointer, StandardCheckpointHandler

    return Checkpointer(StandardCheckpointHandler())


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
