"""Margins of the claims against independent brute force, and the consistency of the table of claims."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

import rvsmjax as rv
from experiments.one_layer.hard import keep_largest
from experiments.studies.audit.chosen import KINDS, Chosen
from experiments.studies.audit.claim import Parameters, Run
from experiments.studies.audit.claims import CLAIMS
from experiments.studies.audit.claims.relu_points import expectation
from experiments.studies.audit.states import Limit, Points, Scalar, follow, hard_step
from experiments.studies.audit.subjects import SUBJECTS, reach

pytestmark = pytest.mark.usefixtures("x64")


def parameters(w_star, penalty=None, k=2.0, lam=0.01, beta=0.1, rate=0.2, delta=1.0, s=1):
    numbers = (jnp.asarray(float(x)) for x in (k, len(w_star), lam, beta, rate, delta))
    return Parameters(penalty or rv.L1(), *numbers, jnp.asarray(w_star), jnp.asarray(s))


def sphere(*shape, seed=0):
    v = np.random.default_rng(seed).normal(size=shape)
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def angle(u, v):
    return np.arccos(np.clip(u @ v / np.linalg.norm(u) / np.linalg.norm(v), -1, 1))


@functools.cache
def compiled(*names):
    """The conclusions of several claims in one program."""
    return jax.jit(lambda run: {name: CLAIMS[name].conclusions(run) for name in names})


def conclusions(name, p, state):
    return compiled(name)(Run(p, state))[name]


def holds(margins):
    return all(m.slack >= -m.allowance for m in margins.values())


def test_names_subjects_and_corrections_are_consistent():
    assert len(CLAIMS) == 121
    for name, claim in CLAIMS.items():
        assert claim.name == name
        assert claim.subject in SUBJECTS, name
        assert claim.where[0] == name[0] or name in ("A-5.2.2-right",), name
        assert "\n" not in claim.statement
        assert set(claim.penalties) <= set(KINDS)
        assert not claim.corrects or name in (claim.corrects + "-right", claim.corrects + "-if")
        assert not claim.corrects or claim.corrects in CLAIMS
        assert claim.mean == bool(SUBJECTS[claim.subject].dimensions)
    assert {claim.subject for claim in CLAIMS.values()} == set(SUBJECTS)
    assert {name[0] for name in CLAIMS} == {"A", "I", "F"}


@pytest.mark.parametrize("subject", list(SUBJECTS))
def test_every_claim_returns_scalar_margins(subject):
    claims = [claim for claim in CLAIMS.values() if claim.subject == subject]

    def one(start):
        p = parameters(start[0], Chosen(2, 0.7), lam=1e-3, s=3)
        state = reach(SUBJECTS[subject], p, start, 3)
        return [(claim.conditions(p, state), claim.conclusions(Run(p, state))) for claim in claims]

    for conditions, concluded in jax.eval_shape(one, jnp.asarray(sphere(2, 5))):
        assert concluded
        margins = [*conditions.values(), *concluded.values()]
        assert all(m.slack.shape == m.allowance.shape == () for m in margins)
        assert all(m.slack.dtype == m.allowance.dtype == jnp.float64 for m in margins)


# Prox, against the minimum over a grid.

RHO = {
    "A-soft": lambda y, a: np.abs(y),
    "A-5.2.1": lambda y, a: (a + 1) * np.abs(y) / (a + np.abs(y)),
    "A-5.2.2": lambda y, a: y != 0,
    "A-5.2.2-right": lambda y, a: y != 0,
}


@pytest.mark.parametrize("name", list(RHO))
def test_thresholding_against_the_minimum_on_a_grid(name):
    rng = np.random.default_rng(3)
    grid = np.linspace(-6, 6, 4001)
    answers = {
        "A-soft": lambda v, lam, a: np.sign(v) * max(abs(v) - lam, 0),
        "A-5.2.1": lambda v, lam, a: float(rv.TransformedL1(a).prox(jnp.asarray(v), lam)),
        "A-5.2.2": lambda v, lam, a: v if abs(v) >= lam else 0.0,
        "A-5.2.2-right": lambda v, lam, a: v if abs(v) > np.sqrt(2 * lam) else 0.0,
    }
    margins = jax.jit(jax.vmap(lambda p, v, y: CLAIMS[name].conclusions(Run(p, Scalar(v, y))), (None, None, 0)))
    broken = 0
    for _ in range(30):
        v, lam, a = rng.normal() * 2, np.exp(rng.normal()), np.exp(rng.normal())
        value = lambda y: (y - v) ** 2 / 2 + lam * RHO[name](y, a)  # noqa: B023, E731
        room = value(grid) - value(answers[name](v, lam, a))
        seen = margins(parameters(np.ones(1), rv.TransformedL1(a), lam=lam, beta=1), jnp.asarray(v), grid)["any y"]
        np.testing.assert_allclose(seen.slack, room, atol=1e-9)
        broken += room.min() < -1e-6
    assert (broken > 0) == (name == "A-5.2.2")


# Losses and gradients, by sampling and finite differences.


def relu_loss(k, w, star):
    """Returns the loss from the arc-cosine kernel, term by term in NumPy."""
    n, m, t = np.linalg.norm(w), np.linalg.norm(star), angle(w, star)
    same = n * m * (np.sin(t) + (np.pi - t) * np.cos(t)) / (2 * np.pi)
    pairs = lambda same, x, y: (k * same + (k * k - k) * x * y / (2 * np.pi)) / k**2  # noqa: E731
    return pairs(n**2 / 2, n, n) - 2 * pairs(same, n, m) + pairs(m**2 / 2, m, m)


def slope(function, w, h=1e-5):
    return np.array([(function(w + h * e) - function(w - h * e)) / (2 * h) for e in np.eye(len(w))])


def test_the_quadrature_is_the_expectation():
    u, v = sphere(2, 3, seed=5) * [[0.7], [1.6]]
    x = np.random.default_rng(0).normal(size=(200_000, 3))
    product = np.maximum(x @ u, 0) * np.maximum(x @ v, 0)
    error = product.std() / np.sqrt(len(x))
    assert abs(float(expectation(jnp.asarray(u), jnp.asarray(v))) - product.mean()) < 4 * error


def test_sums_over_patches_against_samples_of_the_network():
    k, (w, star) = 3, sphere(2, 4, seed=1) * [[1.3], [0.8]]
    x = np.random.default_rng(2).normal(size=(100_000, k, 4))
    squares = (np.maximum(x @ w, 0).mean(1) - np.maximum(x @ star, 0).mean(1)) ** 2
    seen = compiled("A-eq7", "A-eq7-right", "I-eq5")(Run(parameters(star, k=k), Points(w, w)))
    loss = float(rv.NoOverlapReLU(k).loss(w, star))
    assert abs(loss - squares.mean()) < 4 * squares.std() / np.sqrt(len(x))
    assert holds(seen["A-eq7-right"])
    assert holds(seen["I-eq5"])
    # Σ_ij g(w_i, w_i) counts ‖w‖²/2 where i ≠ j has ‖w‖²/(2π).
    gap = (1 - 1 / k) * 1.3**2 * (1 / 2 - 1 / (2 * np.pi))
    assert float(seen["A-eq7"]["f"].slack) == pytest.approx(-gap, rel=1e-12)


@pytest.mark.parametrize(("name", "power", "right"), [("A-5.1.3", 0, False), ("A-5.1.3-right", 1, True)])
def test_descent_lemma_by_finite_differences(name, power, right):
    k, star = 2, np.array([1.0, 0.0])
    x, y = np.array([1e-3, 3e-4]), np.array([-0.5, 0.1])
    f = functools.partial(relu_loss, k, star=star)
    taus = np.arange(1, 65) / 64
    # A step much smaller than ‖x‖, the scale on which ∇f changes.
    df = functools.partial(slope, f, h=1e-7)
    change = [np.linalg.norm(df(x + t * (y - x)) - df(x)) / t**power for t in taus]
    room = max(change) * np.linalg.norm(y - x) / 2 - abs(f(y) - f(x) - df(x) @ (y - x))
    margin = conclusions(name, parameters(star, k=k), Points(x, y))["L/2‖y − x‖²"]
    assert float(margin.slack) == pytest.approx(room, abs=1e-6)
    assert holds({"": margin}) == right


@pytest.mark.parametrize(("name", "right"), [("F-eq14", False), ("F-eq14-right", True), ("F-lemma1", True)])
def test_binary_slopes_by_finite_differences(name, right):
    k, (star, w) = 3, sphere(2, 4, seed=4)
    w = 1.4 * w
    margins = conclusions(name, parameters(star, k=k), Points(w, w))
    assert holds(margins) == right
    true = slope(lambda v: k * angle(v, star) / (2 * np.pi), w)
    if name == "F-eq14":
        across = star - (star @ w) * w / (w @ w)
        printed = -k / (2 * np.pi * 1.4) * across
        assert float(margins["∇f"].slack) == pytest.approx(-np.linalg.norm(printed - true), rel=1e-6)


def test_the_coarse_gradient_in_closed_form_against_samples():
    k, (star, w) = 2, sphere(2, 3, seed=6)
    z = np.random.default_rng(1).normal(size=(200_000, k, 3))
    off = (z @ w > 0).sum(1) - (z @ star > 0).sum(1)
    draws = np.sqrt(2 / np.pi) * off[:, None] * (z * (z @ w > 0)[..., None]).sum(1)
    ours = np.asarray(rv.NoOverlapBinary(k).grad(w, star))
    assert np.all(np.abs(draws.mean(0) - ours) < 4 * draws.std(0) / np.sqrt(len(z)))
    assert holds(conclusions("F-eq15", parameters(star, k=k), Points(w, w)))
    assert holds(conclusions("F-eq18", parameters(star, k=k), Points(w, w)))
    # The constant of F's later proofs is correct without the factor of eq. 8, and wrong with it.
    margin = conclusions("F-lemma5-half", parameters(star, k=k), Points(w, w))["E[g]"]
    assert float(-margin.slack) == pytest.approx((np.sqrt(np.pi / 2) - 1) * np.abs(ours).max(), rel=1e-9)


# Paths, against a loop in NumPy.


@pytest.mark.parametrize(("normalize", "late"), [(True, False), (False, False), (False, True)])
def test_paths_follow_the_papers_iterations(normalize, late):
    k, lam, beta, rate, (w, star) = 3, 0.02, 0.1, 0.2, sphere(2, 6, seed=8)
    p = parameters(star, k=k, lam=lam, beta=beta, rate=rate)
    path = jax.jit(lambda w: follow(rv.NoOverlapReLU(k), p, w, 8, normalize=normalize, late=late))(w)
    soft = lambda v: np.sign(v) * np.maximum(np.abs(v) - lam / beta, 0)  # noqa: E731
    f = functools.partial(relu_loss, k, star=star)
    value = lambda w, u: f(w) + lam * np.abs(u).sum() + beta / 2 * ((w - u) ** 2).sum()  # noqa: E731
    old = soft(w)
    for t in range(8):
        u = soft(w)
        np.testing.assert_allclose(path.w[t], w, atol=1e-8)
        assert float(path.theta[t]) == pytest.approx(angle(w, star), abs=1e-7)
        assert float(path.low[t]) == pytest.approx(value(w, u), abs=1e-9)
        move = rate * (slope(f, w) + beta * (w - (old if late else u)))
        assert float(path.move[t]) == pytest.approx(np.linalg.norm(move), abs=1e-8)
        w = w - move
        assert float(path.length[t]) == pytest.approx(np.linalg.norm(w), abs=1e-8)
        w = w / np.linalg.norm(w) if normalize else w
        assert float(path.high[t]) == pytest.approx(value(w, u), abs=1e-8)
        old = u


def test_margins_of_a_path_are_its_worst_step():
    star, w = sphere(2, 6, seed=8)
    p = parameters(star, k=3, lam=0.05, beta=0.2, rate=0.2)
    path = jax.jit(lambda w: follow(rv.NoOverlapReLU(3), p, w, 60, normalize=True))(w)
    theta, high = np.asarray(path.theta), np.asarray(path.high)
    seen = compiled("I-thm1-monotone", "A-5.1.5-right", "A-thm1-stays")(Run(p, path))
    assert float(seen["I-thm1-monotone"]["θ"].slack) == np.min(-np.diff(theta))
    assert float(seen["A-5.1.5-right"]["L"].slack) == np.min(-np.diff(high))
    assert float(seen["A-thm1-stays"]["θ"].slack) == pytest.approx(np.pi - 1 - theta.max(), abs=1e-15)


def test_hard_steps_equal_the_transformation():
    star, w = sphere(2, 7, seed=9)
    star[3:], w[2], problem = 0, 0, rv.NoOverlapReLU(2)
    tx, p = rv.adaptive_hard_threshold(3), parameters(star, rate=0.3, s=3)
    ours = theirs = jnp.asarray(w)
    state, cuts = tx.init(theirs), 0

    @jax.jit
    def both(ours, theirs):
        updates, _ = tx.update(-0.3 * problem.grad(theirs, star), state, theirs)
        return hard_step(problem, p, ours), theirs + updates

    for _ in range(12):
        (ours, _, cut), theirs = both(ours, theirs)
        cuts += int(cut)
        np.testing.assert_allclose(ours, theirs, atol=1e-15)
    assert 0 < cuts < 12


@pytest.mark.parametrize("v", [[3.0, -1.0, 2.0, 0.5], [1.0, -1.0, 1.0, 1.0], [0.0, 0.0, 2.0, 0.0]])
@pytest.mark.parametrize("s", [1, 2, 4])
def test_keep_largest_equals_top_k(v, s):
    v = jnp.array(v)
    ours, theirs = jax.jit(lambda v, s: (keep_largest(v, s), rv.TopK(k=s).prox(v)))(v, s)
    np.testing.assert_array_equal(ours, theirs)


# Limits, constructed from the equilibrium relation.


def balanced(k, lam, beta, pull, seed):
    """Returns w̄, the soft-thresholded ū, and w* and θ with pull(θ) sin θ = β‖ū‖ sin γ, by a root finder."""
    (w,) = sphere(1, 8, seed=seed)
    u = np.sign(w) * np.maximum(np.abs(w) - lam / beta, 0)
    across = u - (u @ w) * w
    theta = brentq(lambda t: pull(t) * np.sin(t) - beta * np.linalg.norm(across), 0, 1, xtol=1e-15)
    return w, u, np.cos(theta) * w - np.sin(theta) * across / np.linalg.norm(across), theta


@pytest.mark.parametrize("seed", range(3))
def test_relations_at_an_equilibrium_of_relu(seed):
    k, lam, beta = 2, 0.02, 0.1
    w, u, star, theta = balanced(k, lam, beta, lambda t: (np.pi - t) / (k * np.pi), seed)
    p, limit = parameters(star, k=k, lam=lam, beta=beta), Limit(w, w, u, jnp.asarray(0.0))
    names = ("A-thm1-close", "A-eq12", "A-eq12-right", "A-eq13", "A-eq14", "A-eq17", "A-4.2", "A-thm1-nonzero")
    seen = compiled(*names)(Run(p, limit))
    assert all(holds(margins) for margins in seen.values())
    left = star - k * np.pi / (np.pi - theta) * beta * (w - u)
    c = left @ w
    np.testing.assert_allclose(left, c * w, atol=1e-14)
    assert float(seen["A-eq12"]["C > 0"].slack) == pytest.approx(c, abs=1e-13)
    room = 4 * k * beta * np.sin(angle(w, u)) - np.linalg.norm(w - star)
    assert float(seen["A-eq13"]["(13)"].slack) == pytest.approx(room, abs=1e-13)
    # The relations fail away from the equilibrium.
    elsewhere = compiled(*names)(Run(p._replace(w_star=jnp.asarray(w)), limit))
    assert not holds(elsewhere["A-eq17"])
    assert not holds(elsewhere["A-eq12"])


@pytest.mark.parametrize("seed", range(3))
def test_relations_at_an_equilibrium_of_the_binary_activation(seed):
    k, lam, beta = 3, 0.03, 0.2
    w, u, star, theta = balanced(k, lam, beta, lambda t: k / (2 * np.pi), seed)
    p, limit = parameters(star, k=k, lam=lam, beta=beta), Limit(w, w, u, jnp.asarray(0.0))
    right, printed = ("F-eq12-right", "F-eq13", "F-eq22-right"), ("F-eq12", "F-eq22", "F-cor1.1-eq12")
    seen = compiled(*right, *printed)(Run(p, limit))
    assert [holds(seen[name]) for name in right + printed] == [True] * 3 + [False] * 3
    gap = k * np.sin(theta) * (1 / (2 * np.sqrt(2 * np.pi)) - 1 / (2 * np.pi))
    assert float(seen["F-eq22"]["(22)"].slack) == pytest.approx(-abs(gap), rel=1e-9)
