"""Selection of leaves."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import rvsmjax as rv
from rvsmjax.transforms import select

PARAMS = {
    "embedding": {"embedding": jnp.zeros((9, 4))},
    "conv": {"kernel": jnp.zeros((3, 3, 4, 8)), "bias": jnp.zeros(8)},
    "norm": {"scale": jnp.zeros(8), "bias": jnp.zeros(8)},
    "heads": [{"kernel": jnp.zeros((8, 2))}, {"kernel": jnp.zeros((8, 2))}],
}


def tree(embedding=False, conv=False, conv_bias=False, scale=False, norm_bias=False, heads=(False, False)):
    return {
        "embedding": {"embedding": embedding},
        "conv": {"kernel": conv, "bias": conv_bias},
        "norm": {"scale": scale, "bias": norm_bias},
        "heads": [{"kernel": head} for head in heads],
    }


ALL = tree(True, True, True, True, True, (True, True))


@pytest.mark.parametrize(
    ("mask", "want"),
    [
        (None, tree(conv=True, heads=(True, True))),
        (True, ALL),
        (np.True_, ALL),
        ("kernel$", tree(conv=True, heads=(True, True))),
        ("^conv/", tree(conv=True, conv_bias=True)),
        ("heads/1/kernel", tree(heads=(False, True))),
        (re.compile("SCALE", re.IGNORECASE), tree(scale=True)),
        (lambda path: path.startswith("norm"), tree(scale=True, norm_bias=True)),
        (tree(embedding=True), tree(embedding=True)),
        (tree(scale=np.True_), tree(scale=True)),
    ],
    ids=["default", "all", "numpy", "suffix", "prefix", "index", "compiled", "predicate", "tree", "numpy tree"],
)
def test_masks(mask, want):
    assert select(PARAMS, mask) == want


def test_the_default_selects_a_bare_array():
    assert select(jnp.zeros(3)) is True
    assert select(jnp.zeros(())) is True
    assert select({"bias": jnp.zeros(3)}) == {"bias": False}
    assert select({"Embed_0": jnp.zeros((3, 3))}) == {"Embed_0": False}


@pytest.mark.parametrize(
    ("path", "shape", "selected"),
    [
        ("blocks/norm/scale", (3, 8), False),  # scanned layers: Linen, NNX, MaxText
        ("blocks/attention/query/kernel", (3, 8, 2, 4), True),
        ("layers/0/ln1/weight", (3, 8), False),  # Equinox, stacked
        ("layers/0/layer_norm/weight", (8, 8), False),
        ("layers/0/mlp/weight", (8, 8), True),
        ("wte/weight", (9, 8), False),
        ("embed/weight", (9, 8), False),
        ("embedder/input_embedding", (9, 8), False),
        ("embedder/projection/w", (9, 8), True),  # Gemma
        ("embedding/kernel", (4, 4, 3, 8), True),  # the patches of a vision transformer
        ("embed/embeddings", (9, 8), False),  # Haiku
        ("batch_norm/scale", (1, 1, 1, 8), False),
        ("batch_norm/offset", (1, 1, 1, 8), False),
        ("net/~/linear_0/b", (3, 8), False),  # a layer stack
        ("net/~/linear_0/w", (3, 8, 8), True),
        ("cls", (1, 1, 8), False),
        ("pos_embedding", (1, 9, 8), False),
        ("head/probe", (1, 1, 8), False),
        ("query/lora_a", (8, 2), False),
        ("exploration", (8, 2), True),  # no LoRA factor
        ("q_einsum/w", (2, 8, 4), True),
        ("wte", (9, 8), False),  # GPT-2 as a flat dict
        ("layers/ln1_scale", (3, 8), False),
        ("layers/ln1_bias", (3, 8), False),
        ("layers/b1", (3, 8), False),
        ("layers/w1", (3, 8, 8), True),
        ("layers/attention_norm/kernel", (3, 8), False),  # LLaMA in EasyLM
        ("layers/attn_norm", (3, 8), False),
        ("h/ln_1/g", (3, 8), False),
        ("tok_emb/weight", (9, 8), False),
        ("pos_embs", (9, 8), False),
        ("attn/relative_position_bias_table", (9, 8), False),  # Swin
        ("register_tokens", (4, 8), False),  # DINOv2
        ("latents", (4, 8), False),  # Perceiver
        ("mixer/A_log", (8, 4), False),  # Mamba
        ("mixer/in_proj/kernel", (8, 4), True),
        ("blocks/linear/kernel", (3, 8, 8), True),
        ("position_mlp/kernel", (8, 8), True),
        ("B", (8, 8), True),
    ],
)
def test_the_default_knows_the_names_of_other_libraries(path, shape, selected):
    *layers, last = path.split("/")
    params = {last: jnp.zeros(shape)}
    for layer in reversed(layers):
        params = {layer: params}
    assert jax.tree.leaves(select(params)) == [selected]


def test_the_default_skips_complex_numbers():
    assert select({"kernel": jnp.zeros((2, 2), "complex64")}) == {"kernel": False}


def test_masked_nodes_stay_masked():
    params = {"kernel": jnp.zeros((2, 2)), "other": optax.MaskedNode()}
    assert select(params, True) == {"kernel": True, "other": optax.MaskedNode()}
    assert select({"other": optax.MaskedNode()}, True) == {"other": optax.MaskedNode()}


def test_a_tree_that_does_not_fit_names_the_path():
    other = {**ALL, "conv": {"kernel": True, "offset": True}}
    with pytest.raises(ValueError, match=r"^mask must be a tree of booleans .* params, it differs at: ") as caught:
        select(PARAMS, other)
    assert "conv/bias" in str(caught.value)
    assert "conv/offset" in str(caught.value)
    assert "conv/kernel" not in str(caught.value)
    with pytest.raises(ValueError, match="it differs at: the root, tuple instead of list"):
        select([jnp.zeros(2)], (True,))


@pytest.mark.parametrize("mask", ["kernl", lambda path: False, False, tree()], ids=["typo", "rule", "false", "tree"])
def test_a_mask_that_selects_nothing_is_an_error(mask):
    with pytest.raises(ValueError, match=r"^mask must select at least one leaf of params, got ") as caught:
        select(PARAMS, mask)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mask", [1, 0.5, {"conv": 1}, [jnp.ones((3, 4))]])
def test_masks_of_another_type(mask):
    with pytest.raises(TypeError, match=r"^mask must be None, True, a predicate, a regular expression or a") as caught:
        select(PARAMS, mask)
    assert "\n" not in str(caught.value)


def test_flax_and_equinox_trees_have_the_same_path_names():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(1, 2, (3, 3), rngs=rngs)

    boxed = nnx.state(Net(nnx.Rngs(0)), nnx.Param)
    assert list(rv.sparsity(boxed, mask=True).leaves) == ["conv/bias", "conv/kernel"]
    assert list(rv.sparsity(boxed).leaves) == list(rv.sparsity(boxed, mask="kernel$").leaves) == ["conv/kernel"]
    module = eqx.filter(eqx.nn.Conv2d(1, 2, 3, key=jax.random.key(0)), eqx.is_inexact_array)
    assert module.bias.ndim == 3
    assert list(rv.sparsity(module).leaves) == ["weight"]


def test_a_bare_array_is_selected_unless_it_is_complex():
    assert select(jnp.ones(3)) is True
    assert select(jnp.ones(3, complex)) is False
