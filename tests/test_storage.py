"""u and masks saved and loaded: npz, safetensors and Orbax."""

import importlib.util
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest

import rvsmjax as rv

U = {
    "conv": {"kernel": jnp.array([[0.0, 1.5], [-2.0, 0.0]]), "bias": jnp.zeros(2)},
    "head": [jnp.array([0.0, 0.1, 3.0], jnp.bfloat16)],
}


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


needs_safetensors = pytest.mark.skipif(importlib.util.find_spec("safetensors") is None, reason="not installed")
FORMATS = [
    pytest.param(rv.save_npz, rv.load_npz, id="npz"),
    pytest.param(rv.save_safetensors, rv.load_safetensors, id="safetensors", marks=needs_safetensors),
]


@pytest.mark.parametrize(("save", "load"), FORMATS)
@pytest.mark.parametrize(
    "tree",
    [
        U,
        rv.sparsity_mask(U),
        {"u": U, "mask": rv.sparsity_mask(U)},
        jnp.arange(3.0),
        {"none": jnp.zeros((0, 2)), "one": jnp.float16(2)},
    ],
    ids=["u", "mask", "both", "bare", "shapes"],
)
def test_a_round_trip_is_bit_identical(tree, save, load, tmp_path):
    save(tmp_path / "u.file", tree)
    same(load(tmp_path / "u.file", jax.tree.map(jnp.zeros_like, tree)), tree)
    assert [path.name for path in tmp_path.iterdir()] == ["u.file"]


@needs_safetensors
def test_safetensors_by_the_format_itself(tmp_path):
    """The format is an 8-byte length, JSON of that length, then the data."""
    kernel = np.arange(6, dtype="float32").reshape(2, 3).T  # not contiguous
    rv.save_safetensors(tmp_path / "u", {"kernel": kernel, "mask": kernel > 2}, {"made by": "a test"})
    raw = (tmp_path / "u").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8:start])
    assert head.pop("__metadata__") == {"made by": "a test"}
    arrays = {}
    for name, entry in head.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        dtype = {"F32": "<f4", "BOOL": "?"}[entry["dtype"]]
        arrays[name] = np.frombuffer(raw[first:last], dtype).reshape(entry["shape"])
    same(arrays, {"kernel": kernel, "mask": kernel > 2})


def test_a_missing_safetensors_is_a_one_line_error(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if re.match(r"safetensors(\.|$)", name)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for use in (lambda: rv.save_safetensors(tmp_path / "u", U), lambda: rv.load_safetensors(tmp_path / "u", U)):
        with pytest.raises(
            ModuleNotFoundError, match=r"^safetensors must be installed .*: pip install safetensors, or"
        ):
            use()
    assert not list(tmp_path.iterdir())


def test_zeros_take_almost_no_space(tmp_path):
    dense = jax.random.normal(jax.random.key(0), (1000, 100))
    for name, leaf in (("w", dense), ("u", rv.TopK(sparsity=0.99).prox(dense))):
        rv.save_npz(tmp_path / f"{name}.npz", {"kernel": leaf})
    assert (tmp_path / "u.npz").stat().st_size < 0.05 * (tmp_path / "w.npz").stat().st_size


def test_orbax_round_trip(tmp_path):
    tree = {"u": U, "mask": rv.sparsity_mask(U)}
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "u", tree)
        checkpointer.wait_until_finished()
        same(checkpointer.restore(tmp_path / "u", tree), tree)


@pytest.mark.parametrize(("save", "load"), FORMATS)
def test_mismatches_are_named(save, load, tmp_path):
    path = tmp_path / "u.file"
    save(path, {"a": jnp.zeros(2)})
    for like, message in [
        ({"b": jnp.zeros(2)}, "got 'b', which it lacks"),
        ({"a": jnp.zeros(3)}, r"got \(3,\) at 'a', not \(2,\)"),
        ({}, "got none at 'a'"),
    ]:
        with pytest.raises(ValueError, match=message):
            load(path, like)
