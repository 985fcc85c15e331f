"""A decoder of scanned layers in Flax NNX, sharded over 8 devices, trained at 90 % sparsity."""

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import rvsmjax as rv

VOCABULARY, LENGTH, WIDTH, HEADS, LAYERS = 16, 16, 64, 4, 2
cross_entropy = optax.softmax_cross_entropy_with_integer_labels


class Block(nnx.Module):
    def __init__(self, rngs):
        self.norm1, self.norm2 = nnx.RMSNorm(WIDTH, rngs=rngs), nnx.RMSNorm(WIDTH, rngs=rngs)
        self.qkv, self.out = nnx.Linear(WIDTH, 3 * WIDTH, rngs=rngs), nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.up, self.down = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs), nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x):
        q, k, v = jnp.split(self.qkv(self.norm1(x)).reshape(*x.shape[:2], HEADS, -1), 3, axis=-1)
        x += self.out(jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape))
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class Decoder(nnx.Module):
    def __init__(self, rngs):
        self.embed, self.position = (nnx.Embed(n, WIDTH, rngs=rngs) for n in (VOCABULARY, LENGTH))
        self.blocks = nnx.vmap(Block)(rngs.split(LAYERS))  # one block, whose leaves have a first axis of layers
        self.head = nnx.Linear(WIDTH, VOCABULARY, rngs=rngs)

    def __call__(self, tokens):
        scan = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return self.head(scan(self.embed(tokens) + self.position(jnp.arange(tokens.shape[1])), self.blocks))


def place(mesh, path, leaf):
    """Returns a parameter on the mesh; the rows of kernels are split over axis fsdp, their columns over axis tensor."""
    axes = [None] * (leaf.ndim - 2) + ["fsdp", "tensor"] if "kernel" in jax.tree_util.keystr(path) else []
    return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*axes)))


@nnx.jit
def train_step(model, optimizer, tokens):
    loss, gradient = nnx.value_and_grad(lambda net: cross_entropy(net(tokens[:, :-1]), tokens[:, 1:]).mean())(model)
    optimizer.update(model, gradient)
    return loss


def train(devices, steps, batch=64):
    """Returns the losses and the parameters, which are u, for sequences start, start + stride, … mod ``VOCABULARY``."""
    mesh = Mesh(np.array(devices).reshape(-1, min(2, len(devices))), ("fsdp", "tensor"))
    by_row = NamedSharding(mesh, PartitionSpec("fsdp"))
    model, losses = Decoder(nnx.Rngs(0)), []
    nnx.update(model, jax.tree.map_with_path(lambda path, leaf: place(mesh, path, leaf), nnx.state(model, nnx.Param)))
    optimizer = nnx.Optimizer(model, rv.sparsify(optax.adamw(3e-3), 0.9, steps=steps, scope="leaf"), wrt=nnx.Param)
    for start, stride in np.random.default_rng(0).integers(VOCABULARY, size=(steps, 2, batch, 1)):
        tokens = (start + stride * np.arange(LENGTH)) % VOCABULARY
        losses.append(float(train_step(model, optimizer, jax.device_put(tokens, by_row))))
    return np.array(losses), nnx.state(model, nnx.Param)


def main(steps=400):
    (losses, u), (alone, v) = (train(jax.devices()[:n], steps) for n in (8, 1))
    print(rv.sparsity(u))
    moved = sum(jax.tree.leaves(jax.tree.map(lambda a, b: np.sum((a == 0) != (b == 0)), *jax.device_get((u, v)))))
    print(f"first losses differ by {abs(losses - alone)[:5].max():.1e}, zeros at {moved} places; loss {losses[-1]:.4f}")


if __name__ == "__main__":
    os.environ["NPROC"] = "64"  # threads of XLA: collectives of virtual devices occupy them while they wait
    jax.config.update("jax_num_cpu_devices", 8)
    main(*map(int, sys.argv[1:]))
