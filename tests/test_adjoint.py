"""Derivatives of the limit: against central differences and the unrolled run, finite everywhere, of constant memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv

D = 6
PENALTIES = {"l1": lambda a: rv.L1(), "l0": lambda a: rv.L0(), "tl1": rv.TransformedL1}


def unit_vectors(count, d=D, seed=0):
    v = np.random.default_rng(seed).normal(size=(count, d))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def run(kind, numbers, w0, *, problem=rv.NoOverlapReLU, sphere=True, momentum=0.0, **options):
    """A run whose λ, β, a, η, k and w* are ``numbers``."""
    n = numbers
    links = [rv.rvsm(PENALTIES[kind](n["a"]), n["lam"], n["beta"]), optax.trace(momentum), optax.scale(-n["rate"])]
    chain = optax.chain(*links, *([rv.unit_sphere()] if sphere else []))
    return rv.solve(problem(n["k"]), chain, w0, n["w_star"], **options)


def outcome(kind, numbers, w0, **options):
    """Returns a smooth function of w and u without symmetries, and the zeros of u if the run converged."""
    s = run(kind, numbers, w0, **options)
    value = s.w @ jnp.sin(jnp.arange(D)) + jnp.tanh(s.u) @ jnp.cos(jnp.arange(D)) + jnp.sum(s.u**2)
    return value, jnp.where(s.converged, jnp.sum(s.u == 0), -1)


def setting(seed=0, lam=0.03, beta=0.2):
    w0, w_star = unit_vectors(2, seed=seed)
    numbers = {"lam": lam, "beta": beta, "a": 0.7, "rate": 0.2, "k": 3.0, "w_star": w_star}
    return jax.tree.map(lambda x: np.asarray(x, "f8"), numbers), w0


def central_differences(value, numbers, step=1e-5):
    """d value/d numbers, all perturbed runs in one batch."""
    leaves, structure = jax.tree.flatten(numbers)
    flat = np.concatenate([leaf.ravel() for leaf in leaves])
    moves = np.concatenate([np.eye(len(flat)), -np.eye(len(flat))]) * step
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def unpacked(x):
        parts = [part.reshape(leaf.shape) for part, leaf in zip(jnp.split(x, ends), leaves, strict=True)]
        return value(jax.tree.unflatten(structure, parts))

    values, zeros = jax.jit(jax.vmap(unpacked))(flat + moves)
    assert len(np.unique(zeros)) == 1  # no component crosses its threshold
    up, down = np.split(np.asarray(values), 2)
    slopes = np.split((up - down) / (2 * step), ends)
    return jax.tree.unflatten(structure, [s.reshape(leaf.shape) for s, leaf in zip(slopes, leaves, strict=True)])


@pytest.mark.parametrize(
    ("problem", "kind", "sphere", "momentum", "unrolled"),
    [
        pytest.param(rv.NoOverlapReLU, "l1", True, 0.0, True, marks=pytest.mark.slow),
        (rv.NoOverlapBinary, "l0", True, 0.0, False),
        (rv.NoOverlapReLU, "tl1", True, 0.5, False),
        pytest.param(rv.NoOverlapReLU, "tl1", False, 0.0, True, marks=pytest.mark.slow),
        pytest.param(rv.NoOverlapBinary, "tl1", True, 0.5, True, marks=pytest.mark.slow),
        pytest.param(rv.NoOverlapBinary, "l1", True, 0.0, True, marks=pytest.mark.slow),
        pytest.param(rv.NoOverlapReLU, "l0", True, 0.0, True, marks=pytest.mark.slow),
        pytest.param(rv.NoOverlapReLU, "l1", False, 0.5, True, marks=pytest.mark.slow),
        pytest.param(rv.NoOverlapReLU, "l0", False, 0.5, True, marks=pytest.mark.slow),
    ],
)
def test_implicit_derivatives_are_central_differences(problem, kind, sphere, momentum, unrolled, x64):
    numbers, w0 = setting(lam=0.008 if kind == "l0" else 0.03)
    options = {"problem": problem, "sphere": sphere, "momentum": momentum, "tol": 1e-14, "max_steps": 4000}
    value = partial(outcome, kind, w0=w0, check_every=20, **options)
    derivatives, zeros = jax.jit(jax.grad(value, has_aux=True))(numbers)
    assert 0 < zeros < D  # converged, to a thresholded support
    expected = central_differences(value, numbers)
    assert derivatives["rate"] == 0
    assert (derivatives["a"] == 0) == (kind != "tl1")
    assert (derivatives["lam"] == 0) == (kind == "l0")
    for name in numbers:
        size = np.abs(expected[name]).max()
        np.testing.assert_allclose(derivatives[name], expected[name], rtol=0, atol=1e-5 * size + 1e-9, err_msg=name)
    if unrolled:
        same, _ = jax.jit(jax.grad(partial(value, adjoint="unroll"), has_aux=True))(numbers)
        for name in numbers:
            np.testing.assert_allclose(derivatives[name], same[name], rtol=1e-9, atol=1e-10, err_msg=name)


@pytest.mark.slow
def test_forward_mode_agrees_with_that_of_the_loop(x64):
    numbers, w0 = setting(seed=2)
    value = partial(outcome, "l1", w0=w0, tol=1e-14, check_every=20)
    derivatives, _ = jax.jit(jax.jacfwd(value, has_aux=True))(numbers)
    through_loop, _ = jax.jit(jax.jacfwd(partial(value, adjoint=None), has_aux=True))(numbers)
    for name in numbers:
        np.testing.assert_allclose(derivatives[name], through_loop[name], rtol=1e-9, atol=1e-10, err_msg=name)


@pytest.mark.slow
def test_second_derivatives(x64):
    numbers, w0 = setting(seed=3)

    def slope(x, derive):
        value = partial(outcome, "tl1", w0=w0, tol=1e-14, check_every=20)
        return derive(lambda x: value({**numbers, "lam": x[0], "beta": x[1]})[0])(x)

    x, step = np.array([0.03, 0.2]), 1e-5
    derivatives = jax.jit(partial(slope, derive=jax.hessian))(x)
    moved = jax.jit(jax.vmap(partial(slope, derive=jax.grad)))(x + step * np.concatenate([np.eye(2), -np.eye(2)]))
    np.testing.assert_allclose(derivatives, (moved[:2] - moved[2:]) / (2 * step), rtol=1e-5)


def test_lam_captured_scheduled_or_injected(x64):
    """λ captured, as a schedule that has become constant, and injected into the state."""
    (w0, w_star), rate = unit_vectors(2), 0.2

    def captured(lam):
        return rv.rvsm(rv.L1(), lam, 0.2)

    def scheduled(lam):
        return rv.rvsm(rv.L1(), lambda count: lam * (1 - 0.5 ** (count / 10)), lambda count: 0.2)

    def injected(lam):
        return optax.inject_hyperparams(rv.rvsm, static_args="mask")(penalty=rv.L1(), lam=lam, beta=0.2)

    def value(lam, link):
        chain = optax.chain(link(lam), optax.sgd(rate), rv.unit_sphere())
        # Long enough for the schedule: λ is then off by 2⁻⁴⁰.
        s = rv.solve(rv.NoOverlapReLU(2), chain, w0, w_star, tol=1e-14, check_every=400)
        return s.u @ jnp.arange(D) + rv.transforms.splitting_states(s.opt_state)[0].rules[0].lam

    first, *others = (
        jax.jit(jax.value_and_grad(partial(value, link=link)))(0.03) for link in (captured, scheduled, injected)
    )
    assert abs(first[1]) > 1
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-7)  # injected numbers are float32


CORNERS = {
    "plain": {},
    "no penalty": {"lam": 0.0},
    "starts at the end": {"lam": 0.0, "w0": "w_star"},
    "starts opposite, where the force and its slope vanish": {"lam": 0.0, "w0": "-w_star"},
    "nothing left of u": {"lam": 5.0},
    "w* = 0": {"w_star": np.zeros(D)},
    "equal components": {"w_star": np.full(D, D**-0.5), "w0": np.full(D, D**-0.5)},
    "diverges": {"rate": 1e30},
    "ends at the cap": {"rate": 1e-6},
}


@pytest.mark.parametrize("kind", ["l1", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("tl1", "l0"))])
def test_edge_cases_give_no_nan_and_do_not_affect_other_lanes(kind):
    lanes = []
    for change in CORNERS.values():
        numbers, w0 = setting()
        numbers = numbers | {name: x for name, x in change.items() if name != "w0"}
        start = change.get("w0", w0)
        if isinstance(start, str):
            start = numbers["w_star"] * (-1 if start.startswith("-") else 1)
        lanes.append((numbers, start))
    numbers, w0 = jax.tree.map(lambda *x: np.stack(x).astype("f4"), *lanes)

    def both(numbers, w0):
        def value(numbers, w0, sphere):
            s = run(kind, numbers, w0, sphere=sphere, tol=1e-6, max_steps=1000, check_every=10)
            return rv.angle(s.u, numbers["w_star"]) + s.w[0] + s.residual, s.status

        return [
            jax.value_and_grad(partial(value, sphere=sphere), (0, 1), has_aux=True)(numbers, w0) for sphere in (1, 0)
        ]

    both = jax.jit(jax.vmap(both))
    derivatives = jax.tree.map(np.asarray, both(numbers, w0))
    status = dict(zip(CORNERS, derivatives[1][0][1].tolist(), strict=True))
    assert status["plain"] == rv.Status.CONVERGED
    assert status["diverges"] == rv.Status.DIVERGED
    assert status["ends at the cap"] == rv.Status.CAP
    for (value, _), (slopes, slope_start) in derivatives:
        assert np.isfinite(value).all()
        assert (slope_start == 0).all()
        assert (slopes["rate"] == 0).all()
        for name, slope in slopes.items():
            assert np.isfinite(slope).all(), (name, slope)
    alike = jax.tree.map(lambda x: np.repeat(x[:1], len(x), 0), (numbers, w0))
    for x, y in zip(jax.tree.leaves(derivatives), jax.tree.leaves(both(*alike)), strict=True):
        np.testing.assert_array_equal(x[0], y[0])


def test_a_limit_that_is_not_isolated_has_derivative_zero(x64):
    """The coarse gradient of the binary activation does not depend on the length of w."""
    w0, w_star = unit_vectors(2)

    def end(w_star, link):
        chain = optax.chain(optax.sgd(0.5), *link)
        return rv.solve(rv.NoOverlapBinary(2), chain, w0, w_star, tol=1e-13, check_every=20).w

    free, held = (jax.jit(jax.jacrev(partial(end, link=link)))(w_star) for link in ([], [rv.unit_sphere()]))
    assert (free == 0).all()
    np.testing.assert_allclose(held, np.eye(D) - np.outer(w_star, w_star), atol=1e-10)


def test_memory_does_not_grow_with_the_steps():
    numbers, w0 = jax.tree.map(jnp.float32, setting())

    def bytes_used(max_steps):
        value = partial(outcome, "l1", w0=w0, max_steps=max_steps, sphere=False)
        return jax.jit(jax.grad(value, has_aux=True)).lower(numbers).compile().memory_analysis().temp_size_in_bytes

    assert 0 < bytes_used(100_000) == bytes_used(100) < 100_000


def test_inputs_without_derivative():
    numbers, w0 = jax.tree.map(jnp.float32, setting())

    def rest(numbers, w0):
        s = run("tl1", numbers, w0, momentum=0.5, trace_every=100, max_steps=200, check_every=10)
        return [s.residual, *jax.tree.leaves(jax.tree.map(jnp.nan_to_num, s.trace)), s.opt_state[1].trace]

    slopes = jax.jit(jax.jacrev(rest, (0, 1)))(numbers, w0)
    assert all((slope == 0).all() for slope in jax.tree.leaves(slopes))


def test_a_chain_with_force_at_its_limit_raises():
    w0, w_star = unit_vectors(2).astype("f4")

    def value(lam, link, **options):
        chain = optax.chain(*link(lam), optax.sgd(0.2), rv.unit_sphere())
        return rv.solve(rv.NoOverlapReLU(2), chain, w0, w_star, max_steps=40, check_every=10, **options).u[0]

    def split(lam):
        return [rv.admm(rv.L1(), 0.2, lam)]

    jax.eval_shape(partial(value, link=split), 0.02)
    message = r"^adjoint must be .*ADMMState.* got 'implicit'"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(jax.grad(partial(value, link=split)), 0.02)
    jax.eval_shape(jax.grad(partial(value, link=split, adjoint="unroll")), 0.02)
    jax.eval_shape(jax.jacfwd(partial(value, link=split, adjoint=None)), 0.02)


def test_bad_adjoint():
    w = jnp.ones(3)
    with pytest.raises(ValueError, match=r"^adjoint must be 'implicit', 'unroll' or None, got 'exact'$"):
        rv.solve(rv.NoOverlapReLU(2), optax.sgd(0.1), w, w, adjoint="exact")
