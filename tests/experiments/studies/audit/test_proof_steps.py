"""Claims on steps of proofs, remarks and whole ranges of β, against NumPy, scipy and brute force."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize

import rvsmjax as rv
from experiments.studies.audit.claim import Run
from experiments.studies.audit.claims import CLAIMS
from experiments.studies.audit.states import Limit, Points, Scalar, follow, follow_hard
from tests.experiments.studies.audit.test_claims import (
    angle,
    balanced,
    compiled,
    conclusions,
    holds,
    parameters,
    relu_loss,
    slope,
    sphere,
)

pytestmark = pytest.mark.usefixtures("x64")


def applies(name, p, state):
    conditions = jax.jit(CLAIMS[name].conditions)(p, state)
    return all(m.slack >= -m.allowance for m in conditions.values())


def broken(margins):
    return {name for name, m in margins.items() if m.slack < -m.allowance}


# Points.


@pytest.mark.parametrize("a", [0.3, 2.0])
def test_jumps_of_transformed_l1_against_a_grid(a):
    critical, lam, grid = a**2 / (2 * (a + 1)), 0.25, np.linspace(0, 4 * a + 2, 200_001)

    def jump(step):
        value = lambda v: (grid - v) ** 2 / 2 + step * (a + 1) * grid / (a + grid)  # noqa: E731
        ends = [0.0, 4 * a + 2]
        for _ in range(60):
            middle = sum(ends) / 2
            ends[int(grid[np.argmin(value(middle))] > 0)] = middle
        return grid[np.argmin(value(ends[1]))]

    share = 1 / (1 + lam)
    assert jump(critical * share) < 0.02 * a < jump(critical / share)
    p = parameters(np.ones(1), rv.TransformedL1(a), lam=lam, beta=1)
    printed = conclusions("A-5.3-continuous", p, Scalar(jnp.asarray(1.0), jnp.asarray(0.0)))
    assert broken(printed) == {"λ = a²/(2(a + 1)): jumps"}
    assert holds(conclusions("A-5.3-continuous-right", p, Scalar(jnp.asarray(1.0), jnp.asarray(0.0))))
    # The jump just above the critical λ is the one on the grid: half of it, as an expected jump, breaks the margin.
    seen = printed["λ > a²/(2(a + 1)): jumps"]
    assert jump(critical / share) == pytest.approx(np.sqrt(2 * critical / share * (a + 1)) - a, abs=1e-3)
    assert abs(float(seen.slack)) < 1e-6


@pytest.mark.parametrize("k", [1, 3])
def test_the_constraint_of_section_3_1_against_a_minimiser(k):
    star = np.array([0.8, 0.6, 0.0]) if k == 1 else sphere(1, 4, seed=3)[0]
    curve = (1 - 1 / k) / (2 * np.pi) + 1 / (2 * k)
    lam = 2 * curve * 0.1 / np.abs(star).sum()
    total = lambda w: relu_loss(k, w, star) + lam * np.abs(w).sum()  # noqa: E731
    on_the_ray = min(total(t * star) for t in np.linspace(0.5, 1.2, 701))
    assert total(0.9 * star) == pytest.approx(on_the_ray, abs=1e-9)
    best = minimize(total, 0.9 * star + 1e-3, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}).fun
    margin = conclusions("A-3.1-ball", parameters(star, k=k), Points(star, star))["f + λ‖w‖₁"]
    assert best - total(0.9 * star) <= float(margin.slack) + 1e-12 < 0
    equal = np.array([0.5, -0.5, 0.5, 0.5])
    assert holds(conclusions("A-3.1-ball", parameters(equal, k=k), Points(equal, equal)))
    assert not applies("A-3.1-ball", parameters(equal, k=k), Points(equal, equal))


def test_zero_by_finite_differences():
    star, w = 1.4 * sphere(2, 5, seed=2)
    for k in (1, 4):
        f = functools.partial(relu_loss, k, star=star)
        h = 1e-6
        bend = (f(h * w) + f(-h * w) - 2 * relu_loss(k, 1e-100 * w, star)) / (h * np.linalg.norm(w))
        margin = conclusions("A-5.1.1-kink", parameters(star, k=k), Points(w, w))["0: f has a kink"]
        assert float(margin.slack) == pytest.approx(-np.linalg.norm(star) / (2 * k * np.pi) - bend, abs=1e-5)
        assert margin.slack > 0
    p = parameters(star, k=1)
    rise = conclusions("A-5.1.1-k1", p, Points(w, w))["0: no maximum"]
    lift = relu_loss(1, -0.1 * star, star) - relu_loss(1, 1e-100 * star, star)
    assert float(rise.slack) == pytest.approx(lift - 1e-3 * star @ star, abs=1e-7)
    assert rise.slack > 0
    assert applies("A-5.1.1-k1", p, Points(w, w))
    assert not holds(conclusions("A-5.1.1-k1", parameters(star, k=2), Points(w, w)))


@pytest.mark.parametrize(("k", "sharper"), [(2, False), (10, False), (11, True), (20, True)])
def test_the_constants_of_remark_2(k, sharper):
    star, w = sphere(2, 3)
    margins = conclusions("F-remark2", parameters(star, k=k), Points(w, w))
    assert holds(margins) == sharper == (4 * k**0.5 / 3.14159265 < k / 6.28318531**0.5)
    assert applies("F-remark2-right", parameters(star, k=k), Points(w, w)) == (k >= 11)


def test_the_coarse_gradient_vanishes_at_w_star():
    k, (star, other) = 4, sphere(2, 5, seed=1)
    for w in (other, star + 1e-4 * other):
        size = k / np.pi * np.sin(angle(w, star) / 2)
        low = conclusions("F-remark1-bounded", parameters(star, k=k), Points(w, w))["‖E[g]‖ ≥ k/1000"]
        assert float(low.slack) == pytest.approx(size - k / 1000, abs=1e-9)
        assert holds(conclusions("F-remark1-bounded-right", parameters(star, k=k), Points(w, w)))
    assert low.slack < 0


# Paths.


def path(problem, p, start, steps, normalize=True, late=False):
    return jax.jit(lambda w: follow(problem, p, w, steps, normalize=normalize, late=late))(start)


def test_the_step_makes_an_obtuse_angle_with_the_iterate():
    star, w = sphere(2, 6, seed=8)
    p = parameters(star, k=3, lam=0.02, beta=0.1, rate=0.2)
    seen = path(rv.NoOverlapReLU(3), p, w, 20)
    steps = np.diff(seen.w, axis=0)
    angles = [angle(step, w) for step, w in zip(steps, np.asarray(seen.w), strict=False)]
    assert min(angles) > np.pi / 2
    for name in ("A-5.1.5-bisects", "F-lemma6-bisects"):
        printed, right = conclusions(name, p, seen), conclusions(name + "-right", p, seen)
        assert broken(printed) == {"with w^t"}
        assert holds(right)
        inner = np.sum(steps * np.asarray(seen.w)[:-1], 1)
        assert float(printed["with w^t"].slack) == pytest.approx(inner.min(), abs=1e-15)


@pytest.mark.parametrize("name", ["A-5.1.5-wide", "I-lemma6-wide", "I-lemma6-late-wide"])
def test_descent_at_a_large_beta_against_a_loop(name):
    normalize, late = name[0] == "A", "late" in name
    k, lam, beta, (w, star) = 3, 3.0 if normalize else 0.3, 20.0, sphere(2, 6, seed=8)
    rate = 1 / (beta + 4) if normalize else 1 / (beta + 20)
    p = parameters(star, k=k, lam=lam, beta=beta, rate=rate)
    seen = path(rv.NoOverlapReLU(k), p, w, 30, normalize, late)
    soft = lambda v: np.sign(v) * np.maximum(np.abs(v) - lam / beta, 0)  # noqa: E731
    f = functools.partial(relu_loss, k, star=star)
    value = lambda w, u: f(w) + lam * np.abs(u).sum() + beta / 2 * ((w - u) ** 2).sum()  # noqa: E731
    highs, old = [], soft(w)
    for _ in range(30):
        u = soft(w)
        w = w - rate * (slope(f, w) + beta * (w - (old if late else u)))
        w = w / np.linalg.norm(w) if normalize else w
        highs.append(value(w, u))
        old = u
    margin = conclusions(name, p, seen)["L"]
    assert float(margin.slack) == pytest.approx(-np.diff(highs).max(), abs=1e-7)
    assert applies(name, p, seen)
    assert not applies(name, p._replace(learning_rate=jnp.asarray(3 / beta)), seen)
    # Far beyond the conditions of Theorem 1.
    assert beta > 10 / (k * np.pi)


def test_the_triangle_of_lemma_2_by_brute_force():
    star, w = sphere(2, 3, seed=4)
    p = parameters(star, k=2, lam=0.1, beta=0.5, rate=0.15)
    seen = path(rv.NoOverlapReLU(2), p, 1.5 * w, 12, normalize=False)
    rooms = []
    for a, c in zip(np.asarray(seen.w)[:-1], np.asarray(seen.w)[1:], strict=True):
        side = a - (a @ star) * star
        size, theta = np.linalg.norm(c), angle(c, star)
        options = [size * (np.cos(theta) * star + s * np.sin(theta) * side / np.linalg.norm(side)) for s in (1, -1)]
        b = min(options, key=lambda v: np.linalg.norm(a - v))
        far = np.linalg.norm(c - a)
        rooms.append([far - np.linalg.norm(a - b), 2 * far - np.linalg.norm(b - c)])
    margins = conclusions("I-eq16", p, seen)
    assert [float(m.slack) for m in margins.values()] == pytest.approx(np.min(rooms, 0), abs=1e-8)
    assert holds(margins)


def test_the_partner_is_longer_than_1_where_the_iterate_is():
    star, w = sphere(2, 6, seed=3)
    p = parameters(star, k=2, lam=1e-3, beta=0.1, rate=0.1)
    for size, right in ((1.8, False), (0.5, True)):
        seen = path(rv.NoOverlapReLU(2), p, size * w, 5, normalize=False)
        margin = conclusions("I-thm1-u", p, seen)["‖u^{t+1}‖ ≤ 1"]
        first = np.linalg.norm(np.sign(w) * np.maximum(np.abs(size * w) - 0.01, 0))
        assert (first <= 1) == right == bool(margin.slack >= -margin.allowance)
        if not right:
            assert float(margin.slack) == pytest.approx(1 - first, abs=1e-12)
        assert holds(conclusions("I-thm1-u-right", p, seen))


def test_what_thresholding_drops_against_a_loop():
    d, s, k, rate = 8, 3, 2, 0.4
    rng, problem = np.random.default_rng(0), rv.NoOverlapReLU(k)
    run = jax.jit(lambda star, w: follow_hard(problem, parameters(star, k=k, rate=rate, s=s), w, 40))
    measure = compiled("A-thm2-swap", "A-thm2-swap-right", "A-thm2-2s")
    top = lambda w: {int(i) for i in np.argsort(-np.abs(w), kind="stable")[:s] if w[i] != 0}  # noqa: E731
    bad = cuts = 0
    for _ in range(40):
        star, w = np.zeros(d), np.zeros(d)
        star[:s], chosen = rng.normal(size=s), rng.permutation(d)[:s]
        star /= np.linalg.norm(star)
        w[chosen] = rng.normal(size=s)
        seen = measure(Run(parameters(star, k=k, rate=rate, s=s), run(star, w)))
        gradient = jax.jit(problem.grad)
        dropped, gained, widest = 0, 0, 0
        for _ in range(40):
            new = w - rate * np.asarray(gradient(w, star))
            if top(new) != top(w):
                dropped = max(dropped, len({i for i in top(w) - top(new) if star[i] != 0}))
                gained = max(gained, len({i for i in top(new) - top(w) if star[i] == 0}))
                cuts += 1
                new = np.where(np.isin(np.arange(d), list(top(new))), new, 0)
            w, widest = new, max(widest, np.count_nonzero(new))
        assert float(seen["A-thm2-swap"]["drops entries off Γ* alone"].slack) == -dropped
        assert float(seen["A-thm2-swap-right"]["gains entries of Γ* alone"].slack) == -gained == 0
        assert float(seen["A-thm2-2s"]["‖w^t‖₀ ≤ 2s"].slack) == 2 * s - max(widest, s)
        bad += dropped > 0
    assert 0 < bad < cuts


# Limits, constructed from the equilibrium relation.


def relu_equilibrium(lam, seed=0, k=2, beta=0.1):
    w, u, star, theta = balanced(k, lam, beta, lambda t: (np.pi - t) / (k * np.pi), seed)
    return parameters(star, k=k, lam=lam, beta=beta), Limit(w, w, u, jnp.asarray(0.0)), theta


def test_equation_12_under_the_hypothesis_of_its_proof():
    # 2kλ√d < 1 at the first λ alone.
    for lam, small in ((0.02, True), (0.095, False)):
        p, limit, _ = relu_equilibrium(lam, beta=0.4)
        assert (2 * 2 * lam * 8**0.5 < 1) == small
        for name in ("A-eq12", "A-cor1.1-eq12", "I-eq12", "I-cor2-eq12"):
            margins = conclusions(name, p, limit)
            assert broken(margins) == (set() if small else {"1/(1 − 2kλ√d) > 0"})
            assert "2kλ√d < 1" in CLAIMS[name + "-if"].conditions(p, limit)
            assert CLAIMS[name + "-if"].corrects == name
            room = CLAIMS[name + "-if"].conditions(p, limit)["2kλ√d < 1"]
            assert bool(room.slack >= 0) == small


@pytest.mark.parametrize("lam", [2e-3, 0.02])
def test_a_limit_is_an_expansion_not_a_soft_thresholding(lam):
    p, limit, theta = relu_equilibrium(lam)
    star, w = np.asarray(p.w_star), np.asarray(limit.w)
    factor = 2 * np.pi / (np.pi - theta)
    soft = np.sign(star) * np.maximum(np.abs(star) - factor * lam, 0)
    gap = np.linalg.norm(soft - (soft @ w) * w)
    printed = conclusions("A-4.2-soft", p, limit)["w̄ ∥ S(w*)"]
    assert float(printed.slack) == pytest.approx(-gap, abs=1e-13)
    # The two agree where no component is below λ/β.
    assert (np.abs(w).min() > lam / 0.1) == (gap < 1e-12)
    assert holds(conclusions("A-4.2-soft-right", p, limit))
    moved = limit._replace(w=limit.w.at[0].add(1e-3) if hasattr(limit.w, "at") else limit.w + 1e-3 * np.eye(8)[0])
    assert not holds(conclusions("A-4.2-soft-right", p, moved))


def test_a_limit_is_no_critical_point():
    p, limit, _ = relu_equilibrium(0.02)
    w, u, star = (np.asarray(x) for x in (limit.w, limit.u, p.w_star))
    force = slope(functools.partial(relu_loss, 2, star=star), w) + 0.1 * (w - u)
    assert np.linalg.norm(force - (force @ w) * w) < 1e-8
    margins = conclusions("A-4.1", p, limit)
    assert holds(margins)
    least = sum(min(0.02 * abs(x), 0.1 * x * x) for x in w)
    assert 0 < float(margins["⟨∇_w L, w̄⟩ ≥ Σ min(λ|w̄_i|, βw̄_i²)"].slack) == pytest.approx(force @ w - least, abs=1e-8)
    assert not holds(conclusions("A-4.1", p._replace(w_star=limit.w), limit))


@pytest.mark.parametrize("seed", range(2))
def test_a_binary_limit_has_the_zeros_of_w_star_alone(seed):
    k, lam, beta = 3, 0.06, 0.2
    w, u, star, _ = balanced(k, lam, beta, lambda t: k / (2 * np.pi), seed)
    p, limit = parameters(star, k=k, lam=lam, beta=beta), Limit(w, w, u, jnp.asarray(0.0))
    assert np.any(u == 0)
    assert np.all(w != 0)
    assert not holds(conclusions("F-remark1-zeros", p, limit))
    assert holds(conclusions("F-remark1-zeros-right", p, limit))
    cut = Limit(w, jnp.where(u == 0, 0, w), u, jnp.asarray(0.0))
    assert holds(conclusions("F-remark1-zeros", p, cut))
    assert not holds(conclusions("F-remark1-zeros-right", p, cut))


@pytest.mark.parametrize(("penalty", "cut"), [(rv.L0(), 0.2**0.5), (rv.TransformedL1(2.0), 0.15)])
def test_similar_conditions_are_about_the_penaltys_own_threshold(penalty, cut):
    p, limit, _ = relu_equilibrium(0.01)
    p = p._replace(penalty=penalty)
    room = CLAIMS["A-cor1.1-nonzero"].conditions(p, limit)["t < 1/√d"]
    assert float(room.slack) == pytest.approx(1 / 8**0.5 - cut, abs=1e-8)
    assert not holds(conclusions("A-cor1.1-nonzero", p, limit._replace(u=jnp.zeros(8))))


@pytest.mark.parametrize("k", [2, 20, 1_000])
def test_the_norm_of_a_limit_at_a_fixed_beta_by_a_root_finder(k):
    lam, beta, axis = 0.2, 1.0, np.eye(4)[0]
    # With w* on a coordinate axis the limit is there, too: f'(r) + β(r − u) = 0 along it.
    f = lambda r: relu_loss(k, r * axis, axis)  # noqa: E731
    pull = lambda r: (f(r + 1e-5) - f(r - 1e-5)) / 2e-5 + beta * min(r, lam / beta)  # noqa: E731
    r = brentq(pull, 0.05, 1.5)
    limit = Limit(axis, r * axis, max(r - lam / beta, 0) * axis, jnp.asarray(0.0))
    p = parameters(axis, k=k, lam=lam, beta=beta)
    assert r == pytest.approx(1 - np.pi * lam / (1 + (np.pi - 1) / k), abs=1e-4)
    printed = conclusions("I-lemma5", p, limit)
    assert broken(printed) == ({"M_k → 0: M_k ≤ 0.05 at k = 1000"} if k == 1_000 else set())
    right = conclusions("I-lemma5-right", p, limit)
    assert holds(right)
    bound = np.pi * (1 / k + beta * min(r, lam / beta))
    assert float(right["‖w*‖ − ‖w̄‖ ≤ π(‖w*‖/k + β‖w̄ − ū‖)"].slack) == pytest.approx(bound - (1 - r), abs=1e-12)
    longer = limit._replace(w=1.01 * axis)
    assert broken(conclusions("I-lemma5-right", p, longer)) == {"‖w̄‖ ≤ ‖w*‖"}
    shorter = limit._replace(w=0.0 * axis, u=0.0 * axis)
    assert "‖w*‖ − ‖w̄‖ ≤ π(‖w*‖/k + β‖w̄ − ū‖)" in broken(conclusions("I-lemma5-right", p, shorter)) or k == 2
    assert "M_k < ‖w*‖" in broken(conclusions("I-lemma5", p, shorter))
