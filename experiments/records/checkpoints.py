"""Checkpoints of a run, written atomically so a killed run can resume."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax import Array

from rvsmjax._pytree import PyTree

from .folder import SETTINGS, Facts, require_same, write_whole

METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"


class Checkpoints:
    """The last two states of one run, and its metrics by epoch.

    Args:
      folder: folder of the run; created if missing.
      settings: JSON-serializable settings of the run.

    Raises:
      BadInput: ``folder`` holds a run with different settings.
    """

    def __init__(self, folder: Path, settings: Facts) -> None:
        self.folder = Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        require_same(self.folder / SETTINGS, settings)
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.folder / CHECKPOINTS, options=options)

    def restore(self, fresh: PyTree) -> tuple[PyTree, list[Facts]]:
        """Returns the last state, with the structure of ``fresh``, and its metrics; without one, ``fresh`` and none."""
        last = self._manager.latest_step()
        if last is None:
            return fresh, []
        leaves, structure = jax.tree.flatten(fresh)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(leaves), history=ocp.args.JsonRestore())
        checkpoint = self._manager.restore(last, args=items)
        return jax.tree.unflatten(structure, map(_uncommitted, checkpoint["state"])), checkpoint["history"]

    def save(self, state: PyTree, history: list[Facts]) -> None:
        """Writes the state and the metrics up to its epoch; the metrics also as JSON lines for other readers."""
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(jax.tree.leaves(state)), history=ocp.args.JsonSave(history)
        )
        self._manager.save(len(history), args=items)
        write_whole(self.folder / METRICS, "".join(json.dumps(row) + "\n" for row in history))

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error: object) -> None:
        self._manager.close()


def _uncommitted(leaf: Array) -> Array:
    """Returns a copy not committed to a device; committed arrays would recompile the step, twice."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_uncommitted(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    return jnp.array(np.asarray(leaf))
