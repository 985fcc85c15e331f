"""``run_sweep`` with an algorithm: any chain on the lanes of a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.sweep import Lane
from rvsmjax.sweep.default import is_default
from rvsmjax.sweep.subjects import Custom, OneLayer

ONE = jax.devices()[:1]


def on_sphere(lane, *links):
    return optax.chain(*links, rv.unit_sphere()) if lane.normalize else optax.chain(*links)


def by_sgd(lane):
    return on_sphere(lane, rv.rvsm(lane.penalty, lane.lam, lane.beta), optax.sgd(lane.learning_rate))


def by_scale(lane):
    """The same steps, by other operations."""
    return on_sphere(lane, rv.rvsm(lane.penalty, lane.lam, lane.beta), optax.scale(-lane.learning_rate))


def by_adam(lane):
    return on_sphere(lane, rv.rvsm(rv.MCP(2.0), lane.lam, lane.beta), optax.adam(0.01))


def by_momentum(lane):
    return on_sphere(lane, rv.rvsm(rv.MCP(2.0), lane.lam, lane.beta), optax.sgd(0.1, momentum=0.5))


def by_admm(lane):
    return on_sphere(lane, rv.admm(lane.penalty, rho=lane.beta, lam=lane.lam), optax.sgd(lane.learning_rate))


@pytest.mark.parametrize(("d", "seeds"), [(9, 2), pytest.param([5, 9], 6, marks=pytest.mark.slow)])
def test_rvsm_agrees_with_the_fused_step(d, seeds, x64):
    penalties = [rv.TransformedL1(0.5), rv.TransformedL1(2.0)]
    grid = rv.Grid(penalty=penalties, d=d, k=[1, 4], lam=[1e-4, 1e-3], seeds=seeds)
    fused = rv.run_sweep(grid, tol=1e-10, devices=ONE)
    chain = rv.run_sweep(grid, tol=1e-10, algorithm=by_scale, devices=ONE)
    for name, values in fused.data.items():
        np.testing.assert_allclose(chain.data[name], values, atol=1e-10, err_msg=name)
    assert chain.steps_executed >= chain.steps_needed == fused.steps_needed
    assert chain.to_xarray().sizes == fused.to_xarray().sizes


def test_the_chain_of_the_default_takes_the_fused_step():
    penalties = [rv.TransformedL1(0.5), rv.L0()]
    grid = rv.Grid(penalty=penalties, d=[5, 9], k=3, lam=[1e-4, 1e-3], seeds=3, normalize=[True, False])
    fused, chain = (rv.run_sweep(grid, algorithm=algorithm, devices=ONE) for algorithm in (None, by_sgd))
    for name, values in fused.data.items():
        np.testing.assert_array_equal(chain.data[name], values, err_msg=name)
    assert chain.steps_executed == fused.steps_executed


def test_chains_of_other_operations_do_not_take_the_fused_step():
    def with_decay(lane):
        return optax.chain(by_sgd(lane), optax.add_decayed_weights(1e-4))

    def another_beta(lane):
        return on_sphere(lane, rv.rvsm(lane.penalty, lane.lam, 2 * lane.beta), optax.sgd(lane.learning_rate))

    def off_the_sphere(lane):
        return optax.chain(rv.rvsm(lane.penalty, lane.lam, lane.beta), optax.sgd(lane.learning_rate))

    def one_number(lane):
        return on_sphere(lane, rv.rvsm(lane.penalty, 1e-4, lane.beta), optax.sgd(lane.learning_rate))

    def with_an_array(lane):
        weights = jnp.where(jnp.arange(4) < lane.d, 1.0, 2.0)
        return on_sphere(lane, optax.stateless(lambda g, _: g * weights), by_sgd(lane))

    grid, key, dtype = rv.Grid(penalty="l1", d=4, k=3, lam=1e-4, seeds=3), jax.random.key(0), np.dtype("float32")
    assert is_default(grid, by_sgd, key, dtype)
    for other in (with_decay, another_beta, off_the_sphere, one_number, with_an_array, by_momentum, by_admm):
        assert not is_default(grid, other, key, dtype), other.__name__
    more = rv.Grid(penalty="l1", d=4, k=3, lam=1e-4, seeds=3, axes={"damping": [0.5, 1.0]})
    assert not is_default(more, by_sgd, key, dtype)


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
                rate = problem.largest_learning_rate(beta)
                lane = Lane(problem, penalty=rv.L1(), lam=lam, beta=beta, learning_rate=rate, normalize=normalize)
                end = rv.solve(
                    problem, algorithm(lane), w0, w_star, tol=1e-9, max_steps=20_000, check_every=16, adjoint=None
                )
                at = 0, 0, 0, i, j, 0, 0, s
                assert result.data["steps"][at] == end.steps
                np.testing.assert_allclose(result.data["theta_w"][at], rv.angle(end.w, w_star), atol=1e-10)
                assert result.data["zeros"][at] == (end.u == 0).sum()


def test_both_residuals_of_admm_count():
    w_star, w = jnp.array([0.6, 0.8, 0.0]), jnp.array([0.8, 0.0, 0.6])
    problem = rv.NoOverlapReLU(2)

    def residual(w, lam):
        lane = Lane(problem, penalty=rv.L1(), lam=lam, beta=0.5, learning_rate=0.1, normalize=False)
        return OneLayer(None).residual(lane, w, by_admm(lane).init(w), w_star, problem.grad(w, w_star))

    np.testing.assert_allclose(residual(w, 1e-7), jnp.linalg.norm(problem.grad(w, w_star)), rtol=1e-6)
    # At w* there is no gradient: ‖w − u‖ is left, (λ/ρ)√2.
    np.testing.assert_allclose(residual(w_star, 0.1), 0.2 * 2**0.5, rtol=1e-5)


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
        return by_scale(lane)

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


def test_a_custom_axis_beside_those_of_one_layer_problems(x64):
    def relaxed(lane):
        rate = lane.damping * lane.learning_rate if lane.damped else lane.learning_rate
        return optax.chain(rv.rvsm(lane.penalty, lane.lam, lane.beta), optax.sgd(rate), rv.unit_sphere())

    axes = {"damping": [0.5, 1.0], "damped": [True, False]}
    grid = rv.Grid(penalty="l0", d=4, k=2, lam=[1e-4, 1e-3], seeds=3, axes=axes, static="damped")
    result = rv.run_sweep(grid, tol=1e-10, algorithm=relaxed, devices=ONE)
    assert list(grid.shape.items())[-3:] == [("damping", 2), ("damped", 2), ("seed", 3)]
    plain = rv.run_sweep(rv.Grid(penalty="l0", d=4, k=2, lam=[1e-4, 1e-3], seeds=3), tol=1e-10, devices=ONE)
    theta, steps = (result.data[name][0, 0, 0, :, 0, 0, 0] for name in ("theta_w", "steps"))  # lam, damping, damped
    np.testing.assert_allclose(
        theta, np.broadcast_to(plain.data["theta_w"].reshape(2, 1, 1, 3), theta.shape), atol=1e-9
    )
    assert (steps[:, 1] == steps[:, 1, :1]).all()
    assert (steps[:, 0, 0] > 1.5 * steps[:, 0, 1]).all()
    labelled = result.to_xarray()
    assert labelled["damping"].values.tolist() == [0.5, 1.0]
    assert labelled["steps"].sel(damping=0.5, damped=True, seed=2).shape == (1, 1, 1, 2, 1, 1, 1)


class Regression(rv.Problem):
    """Least squares on 20 samples with noise; two leaves of parameters."""

    def draw(self, key, lane):
        inputs, errors = jax.random.normal(key, (20, 5)), jax.random.normal(jax.random.fold_in(key, 1), (20,))
        targets = inputs @ jnp.array([2.0, 0.0, 0.0, -1.0, 0.0]) + 1 + lane.noise * errors
        return {"w": jnp.zeros((5, 1)), "b": jnp.zeros(())}, (inputs, targets)

    def loss(self, w, data):
        inputs, targets = data
        return jnp.mean((inputs @ w["w"][:, 0] + w["b"] - targets) ** 2) / 2

    def measure(self, w, u, data):
        return super().measure(w, u, data) | {"u": u["w"][:, 0]}


def by_prox(lane):
    return optax.chain(rv.rvsm(lane.penalty, lane.lam, 1.0), optax.sgd(0.2))


def shrunk(penalty, v, step):
    """Soft thresholding, or firm thresholding for MCP."""
    size = np.maximum(np.abs(v) - step, 0)
    if isinstance(penalty, rv.MCP):
        size = np.where(np.abs(v) <= penalty.gamma, size / (1 - step / penalty.gamma), np.abs(v))
    return np.sign(v) * size


def test_a_custom_problem_by_hand(x64):
    problem = Regression()
    axes = {"penalty": [rv.MCP(3.0), rv.L1(), rv.MCP(4.0)], "lam": [0.05, 0.2], "noise": [0.0, 0.5]}
    grid = rv.Grid(problem=problem, axes=axes, seeds=[3, 8])
    assert grid.shape == {"penalty": 3, "lam": 2, "noise": 2, "seed": 2}
    result = rv.run_sweep(grid, tol=1e-9, algorithm=by_prox, devices=ONE)
    assert result.counts["converged"] == grid.size == 24
    labelled = result.to_xarray()
    assert labelled["penalty"].values.tolist() == ["mcp(gamma=3)", "l1", "mcp(gamma=4)"]
    assert labelled["u"].dims == ("penalty", "lam", "noise", "seed", "u_0")
    for at in np.ndindex(3, 2, 2, 2):
        penalty, lam, noise = (axes[name][i] for name, i in zip(axes, at, strict=False))
        key = jax.random.split(jax.random.fold_in(jax.random.key(0), grid.seeds[at[3]]))[0]
        inputs = np.asarray(jax.random.normal(key, (20, 5)))
        errors = np.asarray(jax.random.normal(jax.random.fold_in(key, 1), (20,)))
        targets = inputs @ [2, 0, 0, -1, 0] + 1 + noise * errors
        w, b = np.zeros(5), 0.0
        for _ in range(result.data["steps"][at]):
            rest = inputs @ w + b - targets
            gradient = inputs.T @ rest / 20 + w - shrunk(penalty, w, lam)
            w, b = w - 0.2 * gradient, b - 0.2 * rest.mean()
        u = shrunk(penalty, w, lam)
        np.testing.assert_allclose(result.data["u"][at], u, atol=1e-10)
        np.testing.assert_allclose(result.data["f_w"][at], ((inputs @ w + b - targets) ** 2).mean() / 2, atol=1e-10)
        assert result.data["zeros"][at] == (u == 0).sum()
        rest = inputs @ w + b - targets
        force = np.append(inputs.T @ rest / 20 + w - u, rest.mean())
        assert np.linalg.norm(force) < 1e-9


def test_the_residual_knows_which_leaves_a_link_selects():
    problem = Regression()
    w = {"w": jnp.full((5, 1), 0.3), "b": jnp.asarray(0.5)}
    force = {"w": jnp.arange(5.0)[:, None], "b": jnp.asarray(2.0)}

    def residual(*links):
        state = optax.chain(*links).init(w)
        return float(Custom(problem).residual(None, w, state, None, force))

    np.testing.assert_allclose(residual(optax.sgd(0.1)), 34**0.5, rtol=1e-6)
    # On the sphere only the kernel has a tangential part: Σ i² − (Σ i)²/5 = 10.
    np.testing.assert_allclose(residual(rv.unit_sphere()), 14**0.5, rtol=1e-6)
    # z = 0 at the start, and the bias is no part of ‖w − u‖ = 0.1·√5.
    np.testing.assert_allclose(residual(rv.admm(rv.L1(), rho=1.0, lam=0.1)), 34**0.5, rtol=1e-6)


def test_rvsm_by_sgd_is_the_algorithm_by_default():
    axes = {"penalty": rv.L1(), "lam": 0.05, "beta": 1.0, "learning_rate": 0.2, "noise": [0.1, 0.3]}
    result = rv.run_sweep(rv.Grid(problem=Regression(), axes=axes, seeds=2), tol=1e-5, devices=ONE)
    assert result.counts["converged"] == 4
    assert len({float(x) for x in result.data["f_w"].ravel()}) == 4


class Walk(rv.Problem):
    """The gradient is a random direction, a new one in each step."""

    def draw(self, key, lane):
        return jnp.zeros(lane.size), None

    def loss(self, w, data):
        return jnp.sum(w**2)

    def grad(self, w, data, key):
        return jax.random.normal(key, w.shape, w.dtype)

    def measure(self, w, u, data):
        return {"square": jnp.sum(w**2)}


def test_every_step_has_a_key_and_a_size_may_be_an_axis():
    grid = rv.Grid(problem=Walk(), axes={"size": [50, 200]}, static=["size"], seeds=16)
    plain = lambda lane: optax.sgd(1.0)  # noqa: E731
    result = rv.run_sweep(grid, max_steps=64, algorithm=plain, done=lambda w, s: False * jnp.any(w > 0), devices=ONE)
    assert (result.data["steps"] == 64).all()
    assert result.counts["cap"] == 32
    means = result.data["square"].mean(1) / 64  # the sum of 64 independent normal vectors
    np.testing.assert_allclose(means, [50, 200], rtol=0.08)
    assert len(set(result.data["square"].ravel())) == 32


def test_the_lanes_of_a_problem_are_cut_by_seeds():
    grid = rv.Grid(problem=Regression(), axes={"noise": [0.1, 0.3], "lam": 0.1}, seeds=600)
    parts = rv.sweep.slabs(grid, most_lanes=700)
    assert [part.grid.shape["seed"] for part in parts] == [300, 300]
    assert parts[1].grid.seeds == range(300, 600)
    assert parts[1].grid.problem is grid.problem


def test_the_widest_lanes_do_not_fit():
    class Wide(Walk):
        def draw(self, key, lane):
            return jnp.zeros(10**9), lane.size * 1.0

    grid = rv.Grid(problem=Wide(), axes={"size": [1, 2]}, seeds=10**4)
    with pytest.raises(
        ValueError, match=r"^grid must fit in memory: 20,000 lanes need [\d,.]+ GB, [\d,.]+ GB are free$"
    ):
        rv.run_sweep(grid, algorithm=lambda lane: optax.sgd(1.0), devices=ONE)


CUSTOM = {"problem": Regression(), "axes": {"lam": 0.1, "noise": 0.1}, "seeds": 2}


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ({}, {}, AttributeError, r"lane has the axes of the grid as attributes \(lam, noise\), got 'penalty'"),
        ({"axes": {"lam": 0.1}}, {"algorithm": by_prox}, AttributeError, r"\(lam\), got 'noise'"),
        (
            {"axes": {"penalty": rv.L1(), "lam": 0.1, "noise": 0.1, "rho": 1.0}},
            {"algorithm": by_prox},
            ValueError,
            r"axes must be read by the algorithm or the problem, got 'rho', which is not",
        ),
        (
            {"axes": {"penalty": rv.L1(), "lam": 0.1, "noise": 0.1}},
            {"algorithm": by_prox, "done": lambda w, s: w["w"] > 0},
            TypeError,
            r"done must return one boolean, got",
        ),
        (
            {"axes": {"noise": 0.1}},
            {"algorithm": lambda lane: optax.GradientTransformation(lambda w: 0, lambda g, s, w: (g, (s, s)))},
            TypeError,
            r"algorithm must return a chain whose state keeps its shapes, got 'PyTreeDef\(\(\*, \*\)\) after PyTreeDef",
        ),
        ({"problem": 3}, {}, TypeError, r"problem must be an instance of Problem, got 3"),
        ({"d": 10}, {}, ValueError, r"d must be an axis in axes with a problem, got 10"),
        ({"axes": [1]}, {}, TypeError, r"axes must be a dictionary of values by name, got \[1\]"),
        ({"axes": {"seed": 1}}, {}, ValueError, r"axes must have new names that are identifiers, got 'seed'"),
        ({"axes": {"a b": 1}}, {}, ValueError, r"axes must have new names that are identifiers, got 'a b'"),
        ({"axes": {"noise": []}}, {}, ValueError, r"axes\['noise'\] must hold at least one value, got an empty axis"),
        ({"axes": {"noise": [1, 1]}}, {}, ValueError, r"axes\['noise'\] must hold distinct values, got \[1, 1\]"),
        ({"axes": {"noise": ["a"]}}, {}, TypeError, r"axes\['noise'\] must hold finite numbers or penalties, or be"),
        ({"axes": {"noise": [np.nan]}}, {}, TypeError, r"axes\['noise'\] must hold finite numbers or penalties, or be"),
        ({"static": "size"}, {}, ValueError, r"static must be names in axes, got 'size'"),
        ({"problem": None}, {}, ValueError, r"axes must have new names that are identifiers, got 'lam'"),
        (
            {"problem": None, "axes": {"rho": 1.0}},
            {},
            ValueError,
            r"grid must have no custom axes without an algorithm, got \{'rho': \(1.0,\)\}",
        ),
    ],
)
def test_bad_axes_and_problems_are_one_line(arguments, options, error, message):
    with pytest.raises(error, match=message) as caught:
        rv.run_sweep(rv.Grid(**(CUSTOM | arguments)), **options)
    assert "\n" not in str(caught.value)


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
