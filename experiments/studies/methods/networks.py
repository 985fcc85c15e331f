"""Small networks of three kinds: fully connected, mixing patches, recurrent."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array


class Perceptron(nnx.Module):
    """64-32-10: 2,410 parameters."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden, self.out = nnx.Linear(64, 32, rngs=rngs), nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Returns class scores of shape (n, 10) for images of shape (n, 8, 8, 1)."""
        return self.out(nnx.relu(self.hidden(x.reshape(len(x), -1))))


class Mixer(nnx.Module):
    """An MLP-Mixer of two blocks on 16 patches of 2 × 2 pixels: 15,370 parameters."""

    def __init__(self, rngs: nnx.Rngs, width: int = 32) -> None:
        self.embedding = nnx.Linear(4, width, rngs=rngs)
        self.blocks = nnx.List(MixerBlock(width, rngs) for _ in range(2))
        self.out = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Returns class scores of shape (n, 10) for images of shape (n, 8, 8, 1)."""
        x = x.reshape(len(x), 4, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(len(x), 16, 4)
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean(1))


class MixerBlock(nnx.Module):
    """Two linear layers along the patches, two along the channels; layer norm before each pair."""

    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.norm1, self.norm2 = nnx.LayerNorm(width, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)
        self.tokens1, self.tokens2 = nnx.Linear(16, 32, rngs=rngs), nnx.Linear(32, 16, rngs=rngs)
        self.channels1, self.channels2 = (
            nnx.Linear(width, 2 * width, rngs=rngs),
            nnx.Linear(2 * width, width, rngs=rngs),
        )

    def __call__(self, x: Array) -> Array:
        """Returns shape (n, 16, width)."""
        x = x + self.tokens2(nnx.gelu(self.tokens1(self.norm1(x).swapaxes(1, 2)))).swapaxes(1, 2)
        return x + self.channels2(nnx.gelu(self.channels1(self.norm2(x))))


class Recurrent(nnx.Module):
    """Embedding of characters, a gated recurrent unit, a linear layer."""

    def __init__(self, vocabulary: int, rngs: nnx.Rngs, width: int = 96) -> None:
        self.embedding = nnx.Embed(vocabulary, width, rngs=rngs)
        self.gates = nnx.Linear(2 * width, 2 * width, rngs=rngs)
        self.candidate = nnx.Linear(2 * width, width, rngs=rngs)
        self.head = nnx.Linear(width, vocabulary, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Returns scores of the next character, of shape (n, t, vocabulary), for characters of shape (n, t)."""

        def step(state: Array, x: Array) -> tuple[Array, Array]:
            update, reset = jnp.split(nnx.sigmoid(self.gates(jnp.concatenate([x, state], -1))), 2, -1)
            candidate = jnp.tanh(self.candidate(jnp.concatenate([x, reset * state], -1)))
            state = (1 - update) * state + update * candidate
            return state, state

        inputs = self.embedding(x).swapaxes(0, 1)
        _, states = jax.lax.scan(step, jnp.zeros_like(inputs[0]), inputs)
        return self.head(states.swapaxes(0, 1))
