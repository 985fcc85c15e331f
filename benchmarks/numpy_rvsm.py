"""RVSM in vectorized NumPy, all lanes at once, for comparison."""

from __future__ import annotations

import numpy as np

Array = np.ndarray
Number = float | np.float32


def prox(penalty: str, w: Array, step: Number, a: Number) -> Array:
    """Returns u, the prox of the penalty at ``step``; transformed l1 uses the paper's closed form."""
    size = np.abs(w)
    if penalty == "l1":
        return np.sign(w) * np.maximum(size - step, 0)
    if penalty == "l0":
        return np.where(size > np.sqrt(2 * step), w, 0)
    t = step * (a + 1) / a if step <= a * a / (2 * (a + 1)) else np.sqrt(2 * step * (a + 1)) - a / 2
    m = a + size
    phi = np.arccos(np.clip(1 - 13.5 * step * a * (a + 1) / m**3, -1, 1))
    return np.where(size > t, np.sign(w) * ((2 / 3) * m * np.cos(phi / 3) - 2 * a / 3 + size / 3), 0)


def advance(
    penalty: str,
    w: Array,
    w_star: Array,
    k: Array,
    count: int,
    *,
    lam: Number = 1e-4,
    beta: Number = 4e-3,
    a: Number = 1.0,
) -> Array:
    """Returns w after ``count`` steps of every lane, on the sphere."""
    real = np.float32
    lam, beta, a, pi = real(lam), real(beta), real(a), real(np.pi)
    eta, step = 1 / (4 + beta), lam / beta
    for _ in range(count):
        cosine = np.clip(np.einsum("ld,ld->l", w, w_star), -1, 1)
        theta, sine = np.arccos(cosine), np.sqrt((1 - cosine) * (1 + cosine))
        keep = 1 - eta * (1 / k - sine / (k * pi))
        pull = eta * (pi - theta) / (k * pi)
        w = keep[:, None] * w + pull[:, None] * w_star - (eta * beta) * (w - prox(penalty, w, step, a))
        w /= np.sqrt(np.einsum("ld,ld->l", w, w))[:, None]
    return w


def run(
    penalty: str,
    w: Array,
    w_star: Array,
    k: Array,
    *,
    lam: Number = 1e-4,
    beta: Number = 4e-3,
    a: Number = 1.0,
    tol: float = 1e-6,
    check_every: int = 16,
    drop: bool = False,
) -> tuple[Array, Array]:
    """Runs all lanes (rows of ``w``) to their limits; returns w and the number of steps of each lane.

    Every ``check_every`` steps, lanes whose tangential residual is below ``tol`` are frozen. The loop ends with the
    last lane; with ``drop``, finished lanes are removed from the arrays.
    """
    real = np.float32
    w, w_star, k = w.astype(real), w_star.astype(real), k.astype(real)
    lam, beta, a, pi = real(lam), real(beta), real(a), real(np.pi)
    step = lam / beta
    limits, steps = np.empty_like(w), np.zeros(len(w), int)
    index, held = np.arange(len(w)), np.zeros(len(w), bool)
    t = 0
    while True:
        new = advance(penalty, w, w_star, k, check_every, lam=lam, beta=beta, a=a)
        t += check_every
        w = np.where(held[:, None], w, new) if held.any() else new
        cosine = np.clip(np.einsum("ld,ld->l", w, w_star), -1, 1)
        force = beta * (w - prox(penalty, w, step, a))
        pull = -(pi - np.arccos(cosine)) / (k * pi)
        gradient = pull[:, None] * (w_star - cosine[:, None] * w) + force
        gradient -= np.einsum("ld,ld->l", force, w)[:, None] * w
        done = np.einsum("ld,ld->l", gradient, gradient) <= real(tol) ** 2
        steps[index[done & ~held]] = t
        held |= done
        if drop:
            limits[index[held]] = w[held]
            w, w_star, k, index = w[~held], w_star[~held], k[~held], index[~held]
            held = held[~held]
            if not len(index):
                return limits, steps
        elif held.all():
            return w, steps
