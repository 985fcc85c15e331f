"""prox, threshold and Moreau envelope compared with brute force in float64, which uses only the definition of P."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rvsmjax as rv
from rvsmjax.penalties import _tables
from rvsmjax.penalties.top_k import largest
from tests.penalties.table import KINDS

pytestmark = pytest.mark.usefixtures("x64")

RHO = {
    "l1": lambda x, a: np.abs(x),
    "l0": lambda x, a: (x != 0) * 1.0,
    "tl1": lambda x, a: (a + 1) * np.abs(x) / (a + np.abs(x)),
    "mcp": lambda x, a: np.where(np.abs(x) < a, np.abs(x) - x**2 / (2 * a), a / 2),
    "scad": lambda x, a: np.where(
        np.abs(x) < 1, np.abs(x), np.where(np.abs(x) < a + 1, 1 + a / 2 - (a + 1 - np.abs(x)) ** 2 / (2 * a), 1 + a / 2)
    ),
    "l_half": lambda x, a: np.sqrt(np.abs(x)),
    "log_sum": lambda x, a: np.log1p(np.abs(x) / a),
    "capped_l1": lambda x, a: np.minimum(np.abs(x), a),
}
kinds = pytest.mark.parametrize("kind", RHO)

proxes = {kind: jax.jit(lambda v, s, a, kind=kind: KINDS[kind](a).prox(v, s)) for kind in RHO}
thresholds = {kind: jax.jit(lambda s, a, kind=kind: KINDS[kind](a).threshold(s)) for kind in RHO}


def one_envelope(kind, v, s, a):
    return rv.moreau_envelope(KINDS[kind](a), v, s)


def objective(kind, x, v, s, a):
    return (x - v) ** 2 / 2 + s * RHO[kind](x, a)


def brute_minimum(kind, v, s, a):
    """Returns the global minimizer of each scalar problem: 0, or the best of a grid between 0 and v that zooms in."""
    v, s, a = (np.asarray(x, float)[:, None] for x in np.broadcast_arrays(v, s, a))
    # Even steps, and steps that shrink towards both ends, where minimizers may hide.
    share = np.concatenate([np.linspace(0, 1, 4001)[1:], np.logspace(-12, 0, 800), 1 - np.logspace(-12, -1, 800)])
    grid = np.sort(share)
    best = np.argmin(objective(kind, grid * v, v, s, a), 1)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    for _ in range(4):
        fine = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, 201)
        best = np.argmin(objective(kind, fine * v, v, s, a), 1)
        rows = np.arange(len(v))
        low, high = fine[rows, np.maximum(best - 1, 0)], fine[rows, np.minimum(best + 1, 200)]
    x = fine[rows, best][:, None] * v
    away, at_zero = objective(kind, x, v, s, a), objective(kind, 0 * v, v, s, a)
    return np.where(away < at_zero, x, 0)[:, 0], np.minimum(away, at_zero)[:, 0], np.abs(away - at_zero)[:, 0]


def brute_threshold(kind, s, a):
    """x beats 0 where v > x/2 + s·P(x)/x, so the threshold is the least of the right side over x > 0."""
    x = np.logspace(-16, 4, 20001)
    s, a = s[:, None], a[:, None]
    best = np.argmin(x / 2 + s * RHO[kind](x, a) / x, 1)
    low, high = x[np.maximum(best - 1, 0)], x[np.minimum(best + 1, len(x) - 1)]
    fine = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, 2001)
    return (fine / 2 + s * RHO[kind](fine, a) / fine).min(1)


def problems(kind, count=240, seed=0):
    """Random (v, step, a), a third of them within a per mille of the threshold, on both sides."""
    rng = np.random.default_rng(seed)
    s, a = 10 ** rng.uniform(-4, 1, count), 10 ** rng.uniform(-2, 2, count)
    v = 10 ** rng.uniform(-3, 2, count) * rng.choice([-1, 1], count)
    near = count // 3
    v[:near] = brute_threshold(kind, s, a)[:near] * (1 + rng.choice([-1, 1], near) * 10 ** rng.uniform(-6, -3, near))
    return v, s, a


@kinds
def test_prox_is_the_global_minimizer(kind):
    v, s, a = problems(kind)
    x = np.asarray(proxes[kind](v, s, a))
    want, least, gap = brute_minimum(kind, v, s, a)
    scale = np.maximum(v**2, 1e-300)
    assert ((objective(kind, x, v, s, a) - least) / scale).max() < 1e-13
    off = np.abs(x - want) / np.abs(v)
    assert off[gap > 1e-8 * scale].max() < 1e-4  # otherwise two points tie at the resolution of the grid
    assert np.quantile(off, 0.9) < 2e-6  # the rest: near a double root the objective is flat
    assert 0.2 < (x == 0).mean() < 0.8


@kinds
def test_threshold_from_both_sides(kind):
    rng = np.random.default_rng(1)
    a = 10 ** rng.uniform(-2, 2, 200)
    s = a**2 / (2 * (a + 1)) * 10 ** rng.uniform(-2, 2, 200)  # both sides of the critical step of transformed l1
    t = brute_threshold(kind, s, a)
    np.testing.assert_allclose(np.broadcast_to(thresholds[kind](s, a), t.shape), t, rtol=1e-7)
    assert not proxes[kind](t * (1 - 1e-6), s, a).any()
    assert (np.asarray(proxes[kind](-t * (1 + 1e-6), s, a)) < 0).all()


@kinds
def test_moreau_envelope_is_the_minimum(kind):
    v, s, a = problems(kind, seed=2)
    _, least, _ = brute_minimum(kind, v, s, a)
    envelope = jax.jit(jax.vmap(lambda v, s, a: one_envelope(kind, v, s, a)))
    np.testing.assert_allclose(envelope(v, s, a), least, rtol=1e-9)
    same = jax.jit(lambda v: rv.moreau_envelope(KINDS[kind](0.7), v, 0.05))(v.reshape(8, 30))
    assert float(same) == pytest.approx(brute_minimum(kind, v, 0.05, 0.7)[1].sum(), rel=1e-9)  # of the grid


@kinds
def test_value_is_the_sum_over_components(kind):
    x = np.random.default_rng(3).normal(size=(4, 5))
    x[1, 2:4] = 0
    assert float(jax.jit(KINDS[kind](0.3).value)(x)) == pytest.approx(RHO[kind](x, 0.3).sum(), rel=1e-14)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.robustness] * (kind == "log_sum")) for kind in RHO]
)
def test_derivatives_against_finite_differences(kind):
    """prox and threshold once, the envelope twice, in v, step and a, away from the threshold."""
    v, s, a = problems(kind, seed=4)
    near = np.abs(np.abs(v) / brute_threshold(kind, s, a) - 1) < 0.02
    near |= np.abs(2 * s * (a + 1) / a**2 - 1) < 0.02  # the threshold bends there
    point = tuple(x[~near] for x in (v, s, a))

    def outputs(v, s, a):
        slopes = jax.grad(lambda v, s, a: one_envelope(kind, v, s, a), (0, 1, 2))(v, s, a)
        return jnp.stack([KINDS[kind](a).prox(v, s), KINDS[kind](a).threshold(s), one_envelope(kind, v, s, a), *slopes])

    def both(v, s, a):
        out = outputs(v, s, a)
        return out, out

    every = jax.jit(jax.vmap(jax.jacfwd(both, (0, 1, 2), has_aux=True)))
    jacobian, _ = every(*point)
    for i, x in enumerate(point):
        h = 1e-5 * np.abs(x)
        up, down = (every(*(y + sign * h * (i == j) for j, y in enumerate(point)))[1] for sign in (1, -1))
        want = np.asarray(up - down) / (2 * h[:, None])
        size = np.abs(x)[:, None]  # relative steps: compare x·∂/∂x
        np.testing.assert_allclose(jacobian[i] * size, want * size, rtol=2e-5, atol=1e-8 * (1 + np.abs(up).max()))


@pytest.mark.parametrize("kind", ["l1", "l0", "tl1", "scad", "log_sum"])
def test_group_prox_beats_every_other_vector(kind):
    """Objective at prox against vectors of every direction and length, and against brute force on the norm."""
    rng = np.random.default_rng(5)
    count, a, step = 60, 0.5, 0.4
    v = rng.normal(size=(count, 3)) * 10 ** rng.uniform(-1, 1, (count, 1))
    norms = np.linalg.norm(v, axis=1)
    grouped = rv.Grouped(KINDS[kind](a), axes=(1,))
    x = np.asarray(jax.jit(grouped.prox)(v, step))

    def total(x):
        return ((x - v) ** 2).sum(-1) / 2 + step * RHO[kind](np.linalg.norm(x, axis=-1), a)

    lengths, least, _ = brute_minimum(kind, norms, step, a)
    np.testing.assert_allclose(total(x), least, rtol=1e-12)
    np.testing.assert_allclose(x, v * (lengths / norms)[:, None], atol=2e-6 * norms.max())
    for _ in range(300):
        direction = rng.normal(size=(count, 3)) * 0.5 + v / norms[:, None] * rng.choice([0, 1])
        other = direction * norms[:, None] * rng.uniform(0, 1.2, (count, 1))
        assert (total(x) <= total(other) + 1e-12).all()
    assert float(jax.jit(rv.moreau_envelope)(grouped, v, step)) == pytest.approx(least.sum(), rel=1e-12)
    assert 0.05 < (lengths == 0).mean() < 0.95


def test_group_derivatives_against_finite_differences():
    rng = np.random.default_rng(6)
    v, direction, weights = rng.normal(size=(3, 4, 3)) * np.array([[1], [0.2], [1], [2]])

    def run(v, step, a):
        penalty = rv.Grouped(rv.TransformedL1(a), axes=(1,))
        return jnp.sum(penalty.prox(v, step) * weights) + rv.moreau_envelope(penalty, v, step)

    value, grads, h = jax.jit(run), jax.jit(jax.grad(run, (0, 1, 2)))(v, 0.3, 0.8), 1e-6
    want = [
        (value(v + h * direction, 0.3, 0.8) - value(v - h * direction, 0.3, 0.8)) / (2 * h),
        (value(v, 0.3 + h, 0.8) - value(v, 0.3 - h, 0.8)) / (2 * h),
        (value(v, 0.3, 0.8 + h) - value(v, 0.3, 0.8 - h)) / (2 * h),
    ]
    got = [jnp.sum(grads[0] * direction), grads[1], grads[2]]
    np.testing.assert_allclose(got, want, rtol=1e-7)
    kept = np.linalg.norm(v, axis=1) > brute_threshold("tl1", np.array([0.3]), np.array([0.8]))
    assert 0 < kept.sum() < 4


VECTORS = [[3.0, -1.0, 2.0, 0.5, -2.5], [1.0, 1.0, -1.0, 1.0, 1.0], [0.0, 2.0, 0.0, -2.0, 2.0], [0.0] * 5]


def test_top_k_against_every_support():
    run = jax.jit(lambda v, k: rv.TopK(k=k).prox(v))
    for v, k in itertools.product(map(np.array, VECTORS), range(7)):
        x = np.asarray(run(v, k))
        supports = [np.isin(np.arange(5), c) for c in itertools.combinations(range(5), min(k, 5))]
        distances = [((v - np.where(kept, v, 0)) ** 2).sum() for kept in supports]
        # combinations are in lexical order, so ties go to the lowest indices
        np.testing.assert_array_equal(x, np.where(supports[int(np.argmin(distances))], v, 0))


def test_top_k_counts_are_exact():
    rng = np.random.default_rng(7)
    for size in (1, 7, 97, 1000):
        v = rng.choice([-1.0, 1.0], size) * rng.integers(1, 6, size)  # many ties, no zero
        ks = np.arange(0, size + 2, 1 + size // 20)
        x = jax.jit(jax.vmap(lambda k, v: rv.TopK(k=k).prox(v), (0, None)))(ks, v)
        np.testing.assert_array_equal(np.count_nonzero(x, 1), np.minimum(ks, size))
        for sparsity in (0.0, 0.1, 0.35, 0.5, 0.9, 0.95, 0.999):
            zeros = size - rv.TopK(sparsity=sparsity).kept(size)
            assert abs(zeros - sparsity * size) <= 0.5
            assert int(size - rv.TopK(sparsity=jnp.asarray(sparsity)).kept(size)) == zeros
    assert np.count_nonzero(jax.jit(rv.TopK(sparsity=0.9).prox)(v)) == 100


@pytest.fixture(params=[1, 60, 2**16], ids=["apart", "some packed", "packed"])
def packed(request, monkeypatch):
    """Arrays with so many entries and more are not packed into tables."""
    monkeypatch.setattr(_tables, "SMALL", request.param)
    monkeypatch.setattr(_tables, "PACK", 16 * request.param)
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_top_k_of_large_arrays_against_a_stable_sort(dtype, packed):
    rng = np.random.default_rng(11)

    def draw(kind, shape):
        x = rng.normal(size=shape)
        rare = rng.random(shape) < 0.01
        kinds = {"ties": np.round(3 * x), "wide": np.exp(9 * x), "zeros": x * rare, "equal": np.full(shape, 1.5)}
        return jnp.asarray({"normal": x, "infinite": np.where(rare, np.inf, x), **kinds}[kind], dtype)

    run = jax.jit(lambda leaves, k: largest(leaves, k))
    for kind in ("normal", "ties", "wide", "zeros", "equal", "infinite"):
        leaves = [draw(kind, shape) for shape in ((0, 2), (300, 130), (7,), (0, 3), (20_000,))]
        flat = np.abs(np.concatenate([np.asarray(leaf, float).ravel() for leaf in leaves]))
        order = np.argsort(-flat, kind="stable")
        for k in (0, 1, 577, len(flat) // 2, len(flat) - 1, len(flat)):
            got = np.concatenate([np.asarray(mask).ravel() for mask in run(leaves, k)])
            np.testing.assert_array_equal(np.flatnonzero(got), np.sort(order[:k]), err_msg=f"{kind}, k = {k}")


def test_top_k_of_groups_keeps_the_longest():
    v = np.random.default_rng(8).normal(size=(6, 4))
    x = np.asarray(jax.jit(rv.Grouped(rv.TopK(k=2), axes=(1,)).prox)(v, 0.0))
    longest = np.argsort(-(v**2).sum(1))[:2]
    assert set(np.flatnonzero(x.any(1))) == set(longest)
    np.testing.assert_allclose(x[longest], v[longest], rtol=1e-15)


def test_top_k_value_is_the_indicator():
    penalty = rv.TopK(k=2)
    value, envelope = jax.jit(penalty.value), jax.jit(lambda v: rv.moreau_envelope(penalty, v, 0.7))
    assert [float(value(np.array(x))) for x in ([1.0, 0, -2], [1.0, 1, 1], [0.0, 0, 0])] == [0, np.inf, 0]
    assert float(envelope(np.array([3.0, -1.0, 2.0]))) == 0.5


def test_top_k_of_each_of_several_leaves_and_of_all(packed):
    """Against a stable sort; leaves of other sizes, scales and dtypes, with ties and zeros, an empty one among them."""
    rng = np.random.default_rng(0)
    shapes = [(int(rng.integers(1, 3000)),), (7, 5), (1,), (40, int(rng.integers(1, 90))), (0, 3)]
    shapes += [(9,), (10,), (12,), (150,), (11, 12)]  # several tables of several rows
    for trial in range(12):
        dtype = ("f4", "bfloat16")[trial // 3 % 2]
        leaves = [jnp.asarray(rng.normal(size=s) * 10 ** rng.uniform(-6, 6), dtype) for s in shapes]
        leaves = [jnp.round(x) for x in leaves] if trial % 3 == 0 else leaves
        sizes = [abs(np.asarray(x, "f4")).ravel() for x in leaves]

        def want(values, k):
            kept = np.zeros(values.size, bool)
            kept[np.argsort(-values, kind="stable")[:k]] = True
            return kept

        ks = [int(rng.integers(0, x.size + 1)) for x in leaves]
        for mask, values, k in zip(largest(leaves, jnp.asarray(ks)), sizes, ks, strict=True):
            np.testing.assert_array_equal(mask.ravel(), want(values, k))
        together = np.concatenate([mask.ravel() for mask in largest(leaves, sum(ks))])
        np.testing.assert_array_equal(together, want(np.concatenate(sizes), sum(ks)))


def test_too_many_components_to_count_together():
    leaves = [jax.ShapeDtypeStruct((2**30,), jnp.float32)] * 2
    with pytest.raises(ValueError, match="leaves counted together must have fewer than"):
        jax.eval_shape(lambda leaves: largest(leaves, 3), leaves)
