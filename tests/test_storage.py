"""u and masks through files: npz, and Orbax as it is."""

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


@pytest.mark.parametrize("tree", [U, rv.sparsity_mask(U), jnp.arange(3.0)], ids=["u", "mask", "bare"])
def test_a_tree_comes_back_to_the_bit(tree, tmp_path):
    rv.save_npz(tmp_path / "u.npz", tree)
    same(rv.load_npz(tmp_path / "u.npz", jax.tree.map(jnp.zeros_like, tree)), tree)
    assert [path.name for path in tmp_path.iterdir()] == ["u.npz"]


def test_zeros_take_next_to_no_room(tmp_path):
    dense = jax.random.normal(jax.random.key(0), (1000, 100))
    for name, leaf in (("w", dense), ("u", rv.TopK(sparsity=0.99).prox(dense))):
        rv.save_npz(tmp_path / f"{name}.npz", {"kernel": leaf})
    assert (tmp_path / "u.npz").stat().st_size < 0.05 * (tmp_path / "w.npz").stat().st_size


def test_orbax_takes_u_and_mask_as_they_are(tmp_path):
    tree = {"u": U, "mask": rv.sparsity_mask(U)}
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "u", tree)
        checkpointer.wait_until_finished()
        same(checkpointer.restore(tmp_path / "u", tree), tree)


def test_what_does_not_fit_is_named(tmp_path):
    path = tmp_path / "u.npz"
    rv.save_npz(path, {"a": jnp.zeros(2)})
    for like, message in [
        ({"b": jnp.zeros(2)}, "got 'b', which it lacks"),
        ({"a": jnp.zeros(3)}, r"got \(3,\) at 'a', not \(2,\)"),
        ({}, "got none at 'a'"),
    ]:
        with pytest.raises(ValueError, match=message):
            rv.load_npz(path, like)
