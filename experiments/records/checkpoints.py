"""States on disk, each written whole or not at all, so that a run that was killed goes on."""

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
    """The states of one run, the last two kept, and a row of metrics for each.

    Args:
      folder: made if it is missing.
      settings: of this run, as JSON has them; a run in ``folder`` that was started with others is not gone on with.

    Raises:
      BadInput: the run in ``folder`` has other settings.
    """

    def __init__(self, folder: Path, settings: Facts) -> None:
        self.folder = Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        require_same(self.folder / SETTINGS, settings)
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.folder / CHECKPOINTS, options=options)

    def restore(self, fresh: PyTree) -> tuple[PyTree, list[Facts]]:
        """Returns the last state, of the structure of ``fresh``, and the rows up to it; ``fresh`` and none at first."""
        last = self._manager.latest_step()
        if last is None:
            return fresh, []
        leaves, structure = jax.tree.flatten(fresh)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(leaves), history=ocp.args.JsonRestore())
        found = self._manager.restore(last, args=items)
        return jax.tree.unflatten(structure, map(_unbound, found["state"])), found["history"]

    def save(self, state: PyTree, history: list[Facts]) -> None:
        """Writes the state after the epoch of the last row, then the rows as JSON lines for others to read."""
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(jax.tree.leaves(state)), history=ocp.args.JsonSave(history)
        )
        self._manager.save(len(history), args=items)
        write_whole(self.folder / METRICS, "".join(json.dumps(row) + "\n" for row in history))

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error: object) -> None:
        self._manager.close()


def _unbound(leaf: Array) -> Array:
    """Returns the array as one that is bound to no device: for arrays that are, a step is compiled anew, twice."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_unbound(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    return jnp.array(np.asarray(leaf))
