"""``run_sweep`` with an algorithm: any chain on the lanes of a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.sweep import Lane, chains

ONE = jax.devices()[:1]


def on_sphere(lane, *links):
    return optax.chain(*links, rv.unit_sphere()) if lane.normalize else optax.chain(*links)


def by_sgd(lane):
    return on_sphere(lane, rv.rvsm(lane.penalty, lane.lam, lane.beta), optax.sgd(lane.learning_rate))


def by_adam(lane):
    return on_sphere(lane, rv.rvsm(rv.MCP(2.0), lane.lam, lane.beta), optax.adam(0.01))


def by_momentum(lane):
    return on_sphere(lane, rv.rvsm(rv.MCP(2.0), lane.lam, lane.beta), optax.sgd(0.1, momentum=0.5))


def by_admm(lane):
    return on_sphere(lane, rv.admm(lane.penalty, rho=lane.beta, lam=lane.lam), optax.sgd(lane.learning_rate))


def test_rvsm_agrees_with_the_fused_step(x64):
    grid = rv.Grid(
        penalty=[rv.TransformedL1(0.5), rv.TransformedL1(2.0)], d=[5, 9], k=[1, 4], lam=[1e-4, 1e-3], seeds=6
    )
    fused = rv.run_sweep(grid, tol=1e-10, devices=ONE)
    chain = rv.run_sweep(grid, tol=1e-10, algorithm=by_sgd, devices=ONE)
    for name, values in fused.data.items():
        np.testing.assert_allclose(chain.data[name], values, atol=1e-10, err_msg=name)
    assert chain.steps_executed >= chain.steps_needed == fused.steps_needed
    assert chain.to_xarray().sizes == fused.to_xarray().sizes


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [by_momentum, by_sgd], ids=["momentum", "without the sphere"])
def test_lanes_agree_with_solve(algorithm, x64):
    normalize = algorithm is by_momentum
    grid = rv.Grid(penalty="l1", d=6, k=3, lam=[1e-4, 1e-3], beta=[0.01, 0.1], seeds=[4, 7], normalize=normalize)
    result = rv.run_sweep(grid, tol=1e-9, max_steps=20_000, algorithm=algorithm, devices=ONE)
    assert result.counts["converged"] == grid.size
    for i, lam in enumerate(grid.lam):
        for j, beta in enumerate(grid.beta):
            for s, seed in enumerate(grid.seeds):
                draws = jax.random.normal(jax.random.fold_in(jax.random.key(0), seed), (2, 64))[:, :6]
                w_star, w0 = draws / jnp.linalg.norm(draws, axis=1, keepdims=True)
                problem = rv.NoOverlapReLU(3)
                lane = Lane(rv.L1(), lam, beta, problem.largest_learning_rate(beta), normalize, problem, 6)
                end = rv.solve(
                    problem, algorithm(lane), w0, w_star, tol=1e-9, max_steps=20_000, check_every=16, adjoint=None
                )
                at = 0, 0, 0, i, j, 0, 0, s
                assert result.data["steps"][at] == end.steps
                np.testing.assert_allclose(result.data["theta_w"][at], rv.angle(end.w, w_star), atol=1e-10)
                assert result.data["zeros"][at] == (end.u == 0).sum()


def test_both_residuals_of_admm_count():
    w_star, w = jnp.array([0.6, 0.8, 0.0]), jnp.array([0.8, 0.0, 0.6])
    lane = Lane(rv.L1(), 1e-7, 0.5, 0.1, False, rv.NoOverlapReLU(2), 3)
    force = chains.residual(lane, w, by_admm(lane).init(w), w_star)
    np.testing.assert_allclose(force, jnp.linalg.norm(lane.problem.grad(w, w_star)), rtol=1e-6)
    lane = lane._replace(lam=0.1)  # at w* there is no gradient: ‖w − u‖ is left, (λ/ρ)√2
    gap = chains.residual(lane, w_star, by_admm(lane).init(w_star), w_star)
    np.testing.assert_allclose(gap, 0.2 * 2**0.5, rtol=1e-5)


@pytest.mark.slow
def test_admm_stops_where_both_residuals_are_small(x64):
    grid = rv.Grid(penalty="l1", d=5, k=2, lam=1e-3, beta=0.5, seeds=8, normalize=False)
    result = rv.run_sweep(grid, tol=1e-8, algorithm=by_admm, devices=ONE)
    assert result.counts["converged"] == 8
    # At a limit of ADMM u = w, so both losses agree.
    np.testing.assert_allclose(result.data["f_u"], result.data["f_w"], atol=1e-7)
    assert (result.data["gamma"] < 1e-7).all()


@pytest.mark.slow
def test_a_rule_of_ones_own_and_diverging_lanes():
    def counts(w, opt_state):
        return opt_state[1][0].count >= 48

    grid = rv.Grid(penalty="l0", d=4, k=2, seeds=5)
    result = rv.run_sweep(grid, algorithm=by_adam, done=counts, devices=ONE)
    assert (result.data["steps"] == 48).all()

    def explodes(lane):
        return optax.chain(rv.rvsm(lane.penalty, lane.lam, lane.beta), optax.sgd(1e20))

    far = rv.run_sweep(rv.Grid(penalty="l0", d=4, k=2, seeds=5, normalize=False), algorithm=explodes, devices=ONE)
    assert far.counts["diverged"] == 5
    assert np.isnan(far.data["theta_w"]).all()


def test_new_numbers_compile_nothing():
    traced = []

    def noted(lane):
        traced.append(lane.d)
        return by_sgd(lane)

    for lam, key in ((1e-4, 0), (1e-3, 1)):
        rv.run_sweep(rv.Grid(penalty="l1", d=4, lam=lam, seeds=6), jax.random.key(key), algorithm=noted, devices=ONE)
        traced.append(None)
    assert traced.count(None) == 2
    assert traced[-2] is None


@pytest.mark.slow
def test_a_problem_of_ones_own():
    result = rv.run_sweep(
        rv.Grid(penalty="l1", d=4, k=[2, 8], seeds=4, activation="binary"), algorithm=by_sgd, devices=ONE
    )
    assert result.counts["converged"] == 8


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"done": lambda w, s: True}, ValueError, r"done must be None without an algorithm, got"),
        ({"algorithm": lambda lane: 3}, TypeError, r"algorithm must return an optax.GradientTransformation, got 3"),
        ({"algorithm": by_sgd, "engine": "xla"}, ValueError, r"engine must be 'auto' with an algorithm, got 'xla'"),
        ({"algorithm": by_sgd, "progress": print}, ValueError, r"progress must be None with an algorithm, got <built"),
        ({"algorithm": 3}, TypeError, r"algorithm must be a function of a sweep.Lane, got 3"),
    ],
)
def test_bad_input_is_one_line(options, error, message):
    with pytest.raises(error, match=message) as caught:
        rv.run_sweep(rv.Grid(penalty="l1", d=3, seeds=2), **options)
    assert "\n" not in str(caught.value)
