"""Errata on whole runs, checked on runs in NumPy that share no code with the library.

Misprinted thresholds, sums and gradients are in ``test_claims.py``.
"""

import jax
import numpy as np
import pytest

import rvsmjax as rv
from experiments.studies.audit.claim import Parameters, Run
from experiments.studies.audit.claims import CLAIMS
from experiments.studies.audit.states import follow

THETA_W = {  # A Tables 1 to 3, row θ(w̄, w*), d = 10, …, 50
    "l0": [8.75685e-3, 6.68412e-3, 6.04336e-3, 5.32728e-3, 4.94954e-3],
    "tl1": [2.89468e-2, 2.03823e-2, 2.03790e-2, 1.64539e-2, 1.37370e-2],
    "l1": [5.57468e-2, 3.98867e-2, 3.57740e-2, 2.95779e-2, 2.56507e-2],
}
F_W = {"l0": 1.91348e-5, "tl1": 2.08177e-4, "l1": 7.67536e-4}  # row f(w̄), d = 10


def unit(v):
    return v / np.linalg.norm(v)


def angle(u, v):
    return 2 * np.arctan2(np.linalg.norm(unit(u) - unit(v)), np.linalg.norm(unit(u) + unit(v)))


def relu_grad(k, w, star):
    """I eq. 13 for unit vectors."""
    theta, cross = angle(w, star), (k * k - k) / np.pi
    return ((k - k / np.pi * np.sin(theta)) * w + cross * (w - w) - k / np.pi * (np.pi - theta) * star) / k**2


def binary_grad(k, w, star):
    """F eq. 18."""
    return k / (2 * np.pi) * (w - star)


def runs(grad, k, lam, beta, rate, count=60, steps=250):
    """Yields angles and λ‖u‖₁ + (β/2)‖w − u‖² along ``count`` random runs (l1, d = 10), with w⁰ and w*."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        start = w = unit(rng.normal(size=10))
        star, seen = unit(rng.normal(size=10)), []
        for _ in range(steps):
            u = np.sign(w) * np.maximum(np.abs(w) - lam / beta, 0)
            seen.append((angle(w, star), lam * np.abs(u).sum() + beta / 2 * ((w - u) ** 2).sum()))
            w = unit(w - rate * (grad(k, w, star) + beta * (w - u)))
        yield np.array(seen).T, start, star


def test_the_angle_does_not_fall_in_every_step():
    k, lam, beta = 2, 1e-4, 4e-3
    rises = [np.diff(theta).max() > 1e-9 for (theta, _), _, _ in runs(relu_grad, k, lam, beta, 1 / (beta + 4))]
    assert 0.3 < np.mean(rises) < 0.8


def test_the_lagrangian_of_the_binary_activation_rises_in_about_half_of_the_runs():
    k, lam, beta = 20, 1e-4, 4e-3
    rate = min(1 / (beta + k / np.pi), 2 * np.sqrt(2 * np.pi) / k)
    rises = [
        np.diff(k * theta / (2 * np.pi) + rest).max() > 1e-9
        for (theta, rest), _, _ in runs(binary_grad, k, lam, beta, rate)
    ]
    assert 0.3 < np.mean(rises) < 0.7


@pytest.mark.usefixtures("x64")
def test_claims_detect_the_rises():
    k, lam, beta = 20, 1e-4, 4e-3
    rate = 1 / (beta + k / np.pi)
    names = ("F-lemma5", "F-lemma6", "F-lemma6-right", "F-lemma5-stays", "F-lemma6-wide", "F-lemma6-wide-right")

    @jax.jit
    def measure(start, star):
        p = Parameters(rv.L1(), float(k), 10.0, lam, beta, rate, 0.5 * (np.pi - rv.angle(start, star)), star, 1)
        path = follow(rv.NoOverlapBinary(k), p, start, 249, normalize=True)
        return {name: (CLAIMS[name].conditions(p, path), CLAIMS[name].conclusions(Run(p, path))) for name in names}

    verdicts = []
    for (theta, rest), start, star in runs(binary_grad, k, lam, beta, rate, count=12):
        seen = measure(start, star)
        (angles,), (lagrangian,) = seen["F-lemma5"][1].values(), seen["F-lemma6"][1].values()
        assert float(angles.slack) == pytest.approx(-np.diff(theta).max(), abs=1e-13)
        assert lagrangian.slack == seen["F-lemma6-wide"][1]["L"].slack
        # Only the conditions of Theorem 1 bound β.
        assert set(seen["F-lemma6"][0]) - set(seen["F-lemma6-wide"][0]) == {"β", "λ", "θ⁰"}
        assert seen["F-lemma6-wide-right"][0]["θ falls"] == seen["F-lemma6-right"][0]["θ falls"]
        # ΔL between (u^t, w^t) is at least ΔL between (prox(w^t), w^t), minus the decrease by the step in u.
        rises = np.diff(k * theta / (2 * np.pi) + rest).max() > 1e-9
        assert (lagrangian.slack < -lagrangian.allowance) >= rises
        condition = seen["F-lemma6-right"][0]["θ falls"]
        falls = bool(condition.slack >= -condition.allowance)
        assert falls == bool(angles.slack >= -angles.allowance)
        verdicts.append(falls)
    assert 0 < sum(verdicts) < len(verdicts)


def test_printed_angles_of_limits_violate_the_papers_bounds():
    k, beta = 2, 4e-3
    theta_u = {"l1": 7.52479e-2, "tl1": 1.05764e-1, "l0": 3.37294e-1}  # d = 10
    for penalty, printed in THETA_W.items():
        widest = printed[0] + theta_u[penalty]  # γ, by the triangle inequality
        bound = 4 * k * beta * np.sin(widest)
        assert (2 * np.sin(printed[0] / 2) > bound) == (penalty != "l0")
    pull = [(np.pi - t) / (k * np.pi) * np.sin(t) for t in THETA_W["l0"]]
    # After hard thresholding ‖ū‖ = cos γ, so (17) allows at most β sin γ cos γ ≤ β/2.
    assert all(p > beta / 2 for p in pull)


def test_converged_limits_order_the_losses_as_the_text_says_and_the_tables_deny():
    grid = rv.Grid(penalty=["l1", "tl1", "l0"], d=10, k=2, seeds=300)
    data = rv.run_sweep(grid, key=jax.random.key(0)).data
    assert np.all(data["status"] == 0)
    f_w = dict(zip(["l1", "tl1", "l0"], data["f_w"].reshape(3, -1).mean(1), strict=True))
    largest = dict(zip(["l1", "tl1", "l0"], data["theta_w"].reshape(3, -1).max(1), strict=True))
    assert f_w["l1"] < f_w["tl1"] < f_w["l0"]
    assert F_W["l0"] < F_W["tl1"] < F_W["l1"]
    assert all(largest[penalty] < printed[0] for penalty, printed in THETA_W.items())
