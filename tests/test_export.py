"""u as BCOO, and checks of N:M patterns."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rvsmjax as rv

W = {"conv": {"kernel": np.random.default_rng(0).normal(size=(3, 3, 4, 5)), "bias": np.ones(5)}, "head": np.eye(8, 3)}
U = rv.sparse_params(rv.rvsm(rv.TopK(sparsity=0.9, scope="global"), 1.0, 1.0).init(W), W)


def test_bcoo_holds_only_the_nonzeros():
    sparse = rv.to_bcoo(U)
    kernels = {"conv": sparse["conv"]["kernel"], "head": sparse["head"]}
    dense = {"conv": U["conv"]["kernel"], "head": U["head"]}
    for name, kernel in kernels.items():
        assert kernel.nse == np.count_nonzero(dense[name])
        places = tuple(np.asarray(kernel.indices).T)
        np.testing.assert_array_equal(kernel.data, np.asarray(dense[name])[places])
    assert sparse["conv"]["bias"] is U["conv"]["bias"]
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 8)), "float32")
    np.testing.assert_allclose(x @ sparse["head"], x @ U["head"], rtol=1e-6)


def test_bcoo_round_trip(tmp_path):
    sparse = rv.to_bcoo(U, mask=True)
    rv.save_npz(tmp_path / "u.npz", sparse)
    for there in (sparse, rv.load_npz(tmp_path / "u.npz", sparse)):
        back = rv.from_bcoo(there)
        assert jax.tree.structure(back) == jax.tree.structure(U)
        jax.tree.map(np.testing.assert_array_equal, back, U)


def by_hand(x, n, m, axis):
    """Blocks with more than n nonzero, one block after another."""
    lines = np.moveaxis(np.asarray(x), axis, -1).reshape(-1, np.shape(x)[axis])
    return sum(np.count_nonzero(line[i : i + m]) > n for line in lines for i in range(0, len(line), m))


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8)])
def test_violations_are_counted(n, m):
    rng = np.random.default_rng(2)
    tree = {
        name: rng.normal(size=shape) * (rng.random(shape) < n / m) for name, shape in [("a", (16, 5)), ("b", (3, 8, 4))]
    }
    violations = rv.nm_violations(tree, n, m)
    assert violations == {name: by_hand(x, n, m, -2) for name, x in tree.items()}
    assert min(violations.values()) > 0
    assert rv.nm_violations(rv.sparsity_mask(tree), n, m) == violations
    assert rv.nm_violations({"b": tree["b"]}, n, m, axis=1) == {"b": by_hand(tree["b"], n, m, 1)}


def test_u_of_n_of_m_is_valid():
    w = {"kernel": np.random.default_rng(3).normal(size=(12, 7)), "bias": np.ones(7)}
    u = rv.sparse_params(rv.rvsm(rv.NM(2, 4), 1.0, 1.0).init(w), w)
    assert rv.nm_violations(u) == {"kernel": 0}
    assert rv.nm_violations(w) == {"kernel": 21}
    for one, other in itertools.product([u["kernel"]], [4, 5, 6, 7]):
        full = jnp.asarray(one).at[other, 0].set(1.0)
        broken = int(np.count_nonzero(full[4:8, 0]) > 2)
        assert rv.nm_violations({"kernel": full}) == {"kernel": broken}


def test_a_leaf_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"multiple of m = 4, got shape \(5, 5, 1, 20\) at 'conv1/kernel'$"):
        rv.nm_violations({"conv1": {"kernel": np.ones((5, 5, 1, 20))}})
