"""Penalties in a diagonal metric: compared with the minimum over all supports, or over a fine grid."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rvsmjax as rv
from rvsmjax.penalties._arranged import Axes, arranged
from rvsmjax.penalties._weighted import step_at, weighted

SHAPE = (4, 2)
HARD = {
    "l0": rv.L0(),
    "top k": rv.TopK(k=3),
    "top share": rv.TopK(sparsity=0.5, scope="global"),
    "n of m": rv.NM(1, 2),
    "group l0": rv.Grouped(rv.L0(), "rows"),
    "group top k": rv.Grouped(rv.TopK(k=2), "rows"),
}
SOFT = {
    "l1": rv.L1(),
    "tl1": rv.TransformedL1(0.6),
    "sharp tl1": rv.TransformedL1(0.05),
    "l0": rv.L0(),
    "scad": rv.SCAD(2.0),
    "log sum": rv.LogSum(0.2),
}


def drawn(seed, shape=SHAPE):
    """A leaf with a zero component, and a metric whose entries differ by up to a hundredfold."""
    rng = np.random.default_rng(seed)
    v, m = rng.normal(size=shape), np.exp(rng.uniform(-2.3, 2.3, shape))
    v.flat[seed % v.size] = 0
    return jnp.asarray(v, "float32"), jnp.asarray(m, "float32")


def objective(penalty, x, v, m, step):
    """½ (x − v)ᵀM(x − v) + step·P(x), in float64."""
    x, v, m = (np.asarray(a, "float64") for a in (x, v, m))
    value = float(penalty.value(jnp.asarray(x, "float32")))
    return np.inf if np.isinf(value) else 0.5 * np.sum(m * (x - v) ** 2) + step * value


def slow_where(word, names):
    """Rows with ``word``, whose program is long, go to the slow tests; SCAD's stands for its kind."""
    return [pytest.param(name, marks=pytest.mark.slow if word in name else ()) for name in names]


def supports(size):
    return [np.array(bits, bool) for bits in itertools.product((False, True), repeat=size)]


@pytest.mark.parametrize("name", HARD)
def test_no_support_is_better(name):
    """For a given support the minimizer is v on it: brute force over all supports."""
    penalty = HARD[name]
    value = jax.jit(jax.vmap(penalty.value))
    for seed, step in itertools.product(range(4), (0.02, 0.3, 1.5)):
        v, m = drawn(seed)
        points = np.stack([np.where(s.reshape(SHAPE), v, 0) for s in supports(v.size)])
        values = np.asarray(value(jnp.asarray(points)), "float64")
        distances = 0.5 * np.sum(np.asarray(m, "float64") * (points - np.asarray(v, "float64")) ** 2, (1, 2))
        best = np.min(np.where(np.isinf(values), np.inf, distances + step * np.where(np.isinf(values), 0, values)))
        u = weighted(penalty, [m]).prox(v, step)
        assert np.all((u == 0) | (u == v))
        assert objective(penalty, u, v, m, step) <= best * (1 + 1e-6) + 1e-7


@pytest.mark.parametrize("name", SOFT)
def test_no_number_is_better_for_a_component(name):
    penalty = SOFT[name]
    for seed, step in itertools.product(range(4), (0.02, 0.3, 1.5)):
        v, m = drawn(seed)
        u = weighted(penalty, [m]).prox(v, step)
        for one, center, weight in zip(*map(np.ravel, (u, v, m)), strict=True):
            grid = jnp.asarray(np.concatenate([[0.0], np.linspace(0, 1, 2001) * center]), "float32")
            prices = jax.vmap(penalty.value)(grid[:, None])
            best = np.min(0.5 * weight * (np.asarray(grid) - center) ** 2 + step * np.asarray(prices))
            assert objective(penalty, [one], [center], [weight], step) <= best * (1 + 1e-5) + 1e-6


@pytest.mark.parametrize("inner", slow_where("log sum", SOFT))
def test_no_length_is_better_for_a_group_of_constant_metric(inner):
    """The minimizer lies on the ray through v: the distance is rotation invariant within a group."""
    penalty = rv.Grouped(SOFT[inner], "filters")
    (v, _), (_, m) = drawn(0), drawn(1, (1, 2))
    for step in (0.1, 0.6, 3.0):
        u = weighted(penalty, [m]).prox(v, step)
        np.testing.assert_allclose(u + weighted(penalty, [m]).shrinkage(v, step), v, rtol=1e-5, atol=1e-6)
        for column in range(2):
            one = rv.Grouped(SOFT[inner], (0,))
            mine = objective(one, u[:, column], v[:, column], m[0, column], step)
            share = np.linspace(0, 1, 301)
            prices = jax.vmap(one.value)(jnp.asarray(share[:, None] * np.asarray(v[:, column]), "float32"))
            length = float(jnp.sum(v[:, column] ** 2))
            rays = 0.5 * float(m[0, column]) * (1 - share) ** 2 * length + step * np.asarray(prices, "float64")
            assert mine <= rays.min() * (1 + 1e-5) + 1e-6


EVERY = HARD | SOFT | {f"group {name}": rv.Grouped(penalty, "filters") for name, penalty in SOFT.items()}


@pytest.mark.parametrize("jit", [pytest.param(False, marks=pytest.mark.slow), True], ids=["eager", "jit"])
@pytest.mark.parametrize("name", slow_where("log sum", EVERY))
def test_a_metric_of_ones_changes_no_bit(name, jit):
    penalty = EVERY[name]
    v, _ = drawn(3)
    leaves = [-v, v.at[0].set(2.0).astype("bfloat16")]

    def run(ones):
        metric = [jnp.ones((1,) * leaf.ndim if ones == "small" else leaf.shape) if ones else None for leaf in leaves]
        one = weighted(penalty, metric)
        return one.prox_leaves(leaves, jnp.float32(0.2)) + one.shrinkage_leaves(leaves, jnp.float32(0.2))

    shrinks = name.startswith("group") and not name.startswith(("group l0", "group top"))
    sizes = ("", "small") if shrinks else ("", "small", "full")
    runs = [(jax.jit(run, static_argnums=0) if jit else run)(ones) for ones in sizes]
    for kinds in zip(*runs, strict=True):
        plain, *others = [np.asarray(leaf) for leaf in kinds]
        for other in others:
            assert (other.dtype, other.tobytes()) == (plain.dtype, plain.tobytes())


def test_leaves_without_a_metric():
    (v, m), (w, _) = drawn(0), drawn(1)
    u, x = weighted(rv.TopK(k=5, scope="global"), [m, None]).prox_leaves([v, w], 0.0)
    scores = np.concatenate([np.ravel(v * np.sqrt(m)), np.ravel(w)])
    kept = np.argsort(-np.abs(scores))[:5]
    assert set(np.flatnonzero(np.concatenate([np.ravel(u), np.ravel(x)]))) == set(kept)
    u, x = weighted(rv.L1(), [m, None]).prox_leaves([v, w], 0.3)
    np.testing.assert_array_equal(x, rv.L1().prox(w, 0.3))
    assert weighted(rv.L1(), [None]) == rv.L1()


@pytest.mark.parametrize("penalty", [rv.NM(1, 2), rv.TopK(k=3), rv.Grouped(rv.L0(), "rows"), rv.L1()], ids=repr)
def test_slices_of_a_stack_have_the_metric_of_their_own(penalty):
    v, m = drawn(2, (3, 4, 2))
    axes = Axes(("stack", "out", "in"))
    got = weighted(arranged(penalty, [axes]), [m]).prox(v, 0.4)
    want = [weighted(penalty, [b.T]).prox(a.T, 0.4).T for a, b in zip(v, m, strict=True)]
    np.testing.assert_allclose(got, jnp.stack(want), rtol=1e-6)


@pytest.mark.parametrize("penalty", [rv.L1(), rv.TransformedL1(0.6), rv.L0(), rv.TransformedL1(1e-3)], ids=repr)
def test_the_step_of_a_threshold_is_the_smallest(penalty):
    t = jnp.array([0.0, 1e-12, 1e-3, 0.2, 1.0, 3e4])
    step = step_at(penalty, t)
    assert step[0] == 0
    assert np.all(penalty.threshold(step) >= t)
    assert np.all(penalty.threshold(jnp.nextafter(step[1:], 0.0)) < t[1:])


@dataclasses.dataclass(frozen=True)
class Ridge(rv.Penalty):
    def value(self, x):
        return 0.5 * jnp.sum(x**2)

    def prox(self, v, step):
        return v / (1 + step)


@dataclasses.dataclass(frozen=True)
class Scalar(Ridge):
    def prox(self, v, step):
        return v / 2 if step > 1 else v


@dataclasses.dataclass(frozen=True)
class Together(Ridge):
    separable = False


def test_penalties_of_the_user():
    v, m = drawn(0)
    np.testing.assert_allclose(weighted(Ridge(), [m]).prox(v, 0.5), m * v / (m + 0.5), rtol=1e-5)
    for penalty in (Scalar(), rv.Grouped(Scalar(), "filters")):
        with pytest.raises(
            TypeError, match=r"^metric must be None for a prox that takes no array of steps, got .*Scalar"
        ):
            weighted(penalty, [m[:1]]).prox(v, 0.5)
    with pytest.raises(TypeError, match=r"^metric must be None for a penalty that compares components, got .*Together"):
        weighted(Together(), [m]).prox(v, 0.5)
    with pytest.raises(TypeError, match=r"^metric must be constant in each group for L1.*got shape \(4, 2\)"):
        weighted(rv.Grouped(rv.L1(), "filters"), [m]).prox(v, 0.5)
