"""A small decoder-only transformer for characters, and the text it learns: the Python reference in every Python."""

from __future__ import annotations

import hashlib
import pydoc_data.topics
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

CONTEXT = 64
"""Characters that a prediction can depend on."""
HELD_OUT = 0.1
"""Share of the text, at its end, for validation; as much before it for the test."""


class Text(NamedTuple):
    """A text as numbers of characters, int32, in three parts; ``sha256`` of the whole."""

    train: Array
    validation: Array
    test: Array
    vocabulary: int
    sha256: str


def load_text() -> Text:
    """Returns the topics of ``help()``, which every CPython has; they differ a little between its versions."""
    text = "\n".join(topic for _, topic in sorted(pydoc_data.topics.topics.items()))
    text = "".join(char for char in text if char.isascii())
    vocabulary, numbers = np.unique(np.frombuffer(text.encode(), np.uint8), return_inverse=True)
    held_out = round(HELD_OUT * len(numbers))
    parts = np.split(numbers.astype(np.int32), [len(numbers) - 2 * held_out, len(numbers) - held_out])
    train, test, validation = map(jnp.asarray, parts)
    return Text(train, validation, test, len(vocabulary), hashlib.sha256(text.encode()).hexdigest())


class Block(nnx.Module):
    """Causal attention, then two linear layers; RMS norm before each."""

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs) -> None:
        self.norm1, self.norm2 = nnx.RMSNorm(width, rngs=rngs), nnx.RMSNorm(width, rngs=rngs)
        self.qkv = nnx.Linear(width, 3 * width, use_bias=False, rngs=rngs)
        self.out = nnx.Linear(width, width, use_bias=False, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, use_bias=False, rngs=rngs)
        self.heads = heads

    def __call__(self, x: Array, texts: int) -> Array:
        """Returns shape (texts · t, width), as x has."""
        shape = texts, -1, 3, self.heads, x.shape[-1] // self.heads
        q, k, v = self.qkv(self.norm1(x)).reshape(shape).transpose(2, 0, 1, 3, 4)
        x = x + self.out(jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape))
        return x + self.down(jax.nn.gelu(self.up(self.norm2(x))))


class Decoder(nnx.Module):
    """Embedding of characters and positions, blocks, a linear layer."""

    def __init__(self, vocabulary: int, *, width: int = 64, layers: int = 2, heads: int = 4, rngs: nnx.Rngs) -> None:
        self.embedding = nnx.Embed(vocabulary, width, rngs=rngs)
        self.position = nnx.Embed(CONTEXT, width, rngs=rngs)
        self.blocks = nnx.List(Block(width, heads, rngs) for _ in range(layers))
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, vocabulary, use_bias=False, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Returns scores of the next character, of shape (n, t, vocabulary), for characters of shape (n, t)."""
        texts, length = x.shape
        x = self.embedding(x) + self.position(jnp.arange(length))
        # A row a character: of products with three axes, XLA copies the transposes for the derivatives on CPUs.
        x = x.reshape(texts * length, -1)
        for block in self.blocks:
            x = block(x, texts)
        return self.head(self.norm(x)).reshape(texts, length, -1)
