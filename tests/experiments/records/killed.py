"""Jobs for the tests of killed processes: a small training with running means and top-k, and a sweep in slabs."""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from sklearn.datasets import load_digits

import rvsmjax as rv
from experiments.cli import main as cli
from experiments.data.labelled import Labelled
from experiments.training.loop import Task, fit

EPOCHS = 40


class Small(nnx.Module):
    def __init__(self, rngs):
        self.norm, self.out = nnx.BatchNorm(64, rngs=rngs), nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(self.norm(x))


def prepare(images, key, train):
    x = images.astype(jnp.float32) / 16
    return x + 0.01 * jax.random.normal(key, x.shape) if train else x


@functools.cache
def task():
    x, y = load_digits(return_X_y=True)
    x, y = jnp.asarray(x, jnp.uint8), jnp.asarray(y)
    top = rv.TopK(sparsity=rv.cubic_sparsity(0.8, 0, 300), scope="global")
    chain = optax.chain(rv.rvsm(top, 1.0, 0.1, update_every=3), optax.sgd(0.05, momentum=0.9))
    return Task(Small(nnx.Rngs(0)), chain, Labelled(x[:400], y[:400]), Labelled(x[400:500], y[400:500]), prepare)


def train(folder):
    """Trains to the end and writes the bytes of the final state; touches the file "epoch" after each epoch."""
    folder = Path(folder)
    share_programs(folder.parent)
    epoch = folder / "epoch"
    end = fit(task(), epochs=EPOCHS, batch=40, key=jax.random.key(1), folder=folder, on_epoch=lambda row: epoch.touch())
    leaves = [leaf for leaf in jax.tree.leaves(end.state) if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    part = folder / "end.part"
    part.write_bytes(b"".join(bytes(memoryview(jax.device_get(leaf)).cast("B")) for leaf in leaves))
    part.replace(folder / "end")


SLABS = 50
SWEEP = ["sweep", "--penalty", "l0", "--d", "4", "--k", "2", "--seeds", f"{100 * SLABS}", "--slab", "100", "--quiet"]


def sweep(folder):
    """Runs a sweep in slabs to the end."""
    share_programs(Path(folder).parent)
    raise SystemExit(cli.main([*SWEEP, "--out", str(Path(folder) / "record")]))


def share_programs(folder):
    """Shares a compilation cache between the processes."""
    jax.config.update("jax_enable_compilation_cache", True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
