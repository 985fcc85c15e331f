"""Lanes of the audit: random and adversarial problems with parameters inside a theorem's conditions.

A lane depends only on the root key, its subject and its number. It is drawn as unconstrained raw numbers, which
``constrain`` maps into the conditions: the audit draws them, the falsifier optimises them.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rvsmjax.geometry import angle, norm, unit

from ...one_layer.hard import keep_largest
from .chosen import KINDS, Chosen
from .claim import Parameters
from .claims.binary_paths import PRINTED
from .subjects import SUBJECTS, largest_rate

SIZES = (2, 3, 5, 9, 16)
PATCHES = (1, 2, 3, 5, 20)
MANY_PATCHES = (1, 2, 20, 100, 1_000)
"""k of limits at any β, where a claim is about k → ∞."""
FAMILIES = ("random", "near w*", "near −w*", "equal components", "sparse", "k = 1")
DEALT = np.array([0, 0, 1, 2])
"""Penalties of consecutive lanes: as many lanes with l1 as with l0 and tl1 together."""
MIN_BETA = 1e-12
PAPER = {"lam": 1e-4, "beta": 4e-3}
"""λ and β of A Tables 1 to 3 and Figure 7, where k = 2."""
FIGURE_6 = 0.05
"""λ/β of A Figure 6."""
ANY_BETA = 50.0
"""Largest β of claims stated for all β."""


class Fixed(NamedTuple):
    """Discrete part of a lane, constant in the search: lane number, k, penalty, masks of d and of w*."""

    lane: Array
    k: Array
    kind: Array
    used: Array
    star: Array


class Raw(NamedTuple):
    """Unconstrained part of a lane: w*, w⁰ and a second vector; logits of the shares of the allowed ranges."""

    vectors: Array
    shares: Array


def draw(subject: str, key: Array, lane: Array) -> tuple[Fixed, Raw]:
    """Returns the raw numbers of a lane."""
    if SUBJECTS[subject].dimensions:
        return _at_a_setting(subject, key, lane)
    keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(subject.encode())), lane), 6)
    family, kind = (lane // 4) % 6, jnp.asarray(DEALT)[lane % 4]
    vectors = jax.random.normal(keys[0], (3, SIZES[-1]))
    shares = 2.5 * jax.random.normal(keys[1], (8,))
    d = jnp.asarray(SIZES)[jax.random.randint(keys[2], (), 0, len(SIZES))]
    # I's theorem needs k >= 2; only the family "k = 1" violates that.
    least = int(subject.startswith("I "))
    least = 0 if subject == "I limit, any β" else least
    patches = MANY_PATCHES if subject == "I limit, any β" else PATCHES
    k = jnp.where(family == 5, 1, jnp.asarray(patches)[jax.random.randint(keys[3], (), least, len(patches))])
    used = jnp.arange(SIZES[-1]) < d
    star, start, second = vectors
    # Closer to −w*, a run to a limit would exceed its step cap.
    closest = jnp.where((family == 2) & ("limit" in subject), 1.5, 4.0)
    near = 10 ** (-closest * jax.random.uniform(keys[5], ()))
    hard = subject.startswith("A2")
    few = jax.random.randint(keys[4], (), 1, d + hard)
    star = jnp.where(family == 3, jnp.sign(star), star)
    kept = jnp.where((family == 4) | hard, jnp.arange(SIZES[-1]) < few, used)
    star = jnp.where(kept, star, 0)
    start = jnp.where(family == 1, unit(star) + near * start, start)
    start = jnp.where(family == 2, -unit(star) + near * start, start)
    start = jnp.where((family == 3) & (lane % 8 < 4), jnp.sign(start), start)
    start = jnp.where((family == 4) & ~hard, jnp.where(jnp.roll(kept, lane % 2), start, 0), start)
    second = jnp.where(family == 1, unit(star) + near * second, second)
    second = jnp.where(family == 2, start + near * second, second)
    fixed = Fixed(lane, k.astype(float), kind, used, kept)
    return fixed, Raw(jnp.stack([star, start, second]), shares)


def _at_a_setting(subject: str, key: Array, lane: Array) -> tuple[Fixed, Raw]:
    """Returns a draw at a paper's own setting: uniform w* and w⁰, k = 2, a = 1; d dealt in turn."""
    dimensions = SUBJECTS[subject].dimensions
    key = jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(subject.encode())), lane)
    used = jnp.arange(max(dimensions)) < jnp.asarray(dimensions)[lane % len(dimensions)]
    vectors = jnp.where(used, jax.random.normal(key, (3, len(used))), 0)
    fixed = Fixed(lane, jnp.asarray(2.0), jnp.asarray(2), used, used)
    return fixed, Raw(vectors, jnp.zeros(8))


def constrain(subject: str, fixed: Fixed, raw: Raw) -> tuple[Parameters, Array]:
    """Returns parameters inside the conditions of the subject's theorem, and the start vectors, of shape (2, d)."""
    star = jnp.where(fixed.star, raw.vectors[0], 0)
    start, second = jnp.where(fixed.used, raw.vectors[1:], 0)
    delta, beta, lam, eta, *lengths = share(raw.shares)
    if "limit" in subject:
        # Limits do not depend on η; a small η only needs more steps.
        eta = (1 + 3 * eta) / 4
    s = jnp.sum(fixed.star)
    star, start, second = unit(star), unit(start), unit(second)
    if SUBJECTS[subject].dimensions:
        numbers = PAPER if SUBJECTS[subject].form != "thresholded" else {"lam": FIGURE_6, "beta": 1.0}
        p = _parameters(fixed, raw, star, s, a=jnp.ones(()), **{key: jnp.asarray(x) for key, x in numbers.items()})
        return p._replace(learning_rate=1 / (p.beta + 4)), jnp.stack([start, second])
    if subject == "prox":
        size = jnp.exp(2 * raw.shares[0])
        start, second = (raw.vectors[i] * jnp.sqrt(size) for i in (1, 2))
        p = _parameters(fixed, raw, star, s, lam=size, beta=jnp.ones(()))
    elif subject.endswith("points"):
        inner = subject.startswith("binary")
        first, other = (
            0.5 + length if inner else jnp.exp(raw.shares[4 + i] / 2) for i, length in enumerate(lengths[:2])
        )
        start, second = first * start, other * second
        star = star if inner else star * jnp.exp(raw.shares[6] / 5)
        p = _parameters(fixed, raw, star, s)
    elif subject.startswith("A2"):
        start = keep_largest(jnp.where(fixed.used, raw.vectors[1], 0), s)
        start = jnp.exp(raw.shares[4] / 4) * unit(start)
        p = _parameters(fixed, raw, star, s, learning_rate=eta)
    else:
        delta = delta * (jnp.pi - angle(start, star))
        # The papers rank the penalties at a = 1.
        shape = {"a": jnp.ones(())} if subject.startswith("three") else {}
        p = _parameters(fixed, raw, star, s, delta=delta, **shape)
        binary = subject[0] == "F"
        if subject.endswith("any β"):
            # λ/β up to 2, beyond which u = 0 for every penalty.
            p = p._replace(beta=jnp.maximum(ANY_BETA * beta**3, MIN_BETA))
            p = p._replace(lam=2 * p.beta * lam**2, learning_rate=eta * largest_rate(SUBJECTS[subject], p, start))
        else:
            p = _binary(p, beta, lam, eta, angle(start, star)) if binary else _relu(p, beta, lam, eta)
        if subject == "A path at a loose rate":
            p = p._replace(learning_rate=eta * 2 / p.beta)
        if subject[0] == "I":
            start = start * (0.2 + 1.8 * lengths[0])
            least = jnp.minimum(norm(start), 1) * (1 - 0.9 * lengths[1])
            # The proof of Lemma 6 needs only η ≤ 2/(β + L).
            twice = 2 if subject == "I path, any β" else 1
            p = p._replace(learning_rate=twice * eta / (p.beta + 1 + 3 / least))
    return p, jnp.stack([start, second])


def _parameters(fixed: Fixed, raw: Raw, star: Array, s: Array, **known: Array) -> Parameters:
    one = jnp.ones(())
    d = jnp.sum(fixed.used, dtype=float)
    a = known.pop("a", jnp.exp(raw.shares[7] / 2))
    penalty = Chosen(fixed.kind, a)
    numbers = {"lam": one, "beta": one, "learning_rate": one, "delta": one} | known
    return Parameters(penalty=penalty, k=fixed.k, d=d, w_star=star, s=s, **numbers)


def _relu(p: Parameters, beta: Array, lam: Array, eta: Array) -> Parameters:
    beta = jnp.maximum(beta * p.delta * jnp.sin(p.delta) / (p.k * jnp.pi), MIN_BETA)
    # λ/β must stay strictly below 1/√d.
    lam = lam * beta / jnp.sqrt(p.d) * (1 - 1e-12)
    return p._replace(beta=beta, lam=lam, learning_rate=eta / (beta + 4))


def _binary(p: Parameters, beta: Array, lam: Array, eta: Array, theta: Array) -> Parameters:
    half = p.k * PRINTED
    beta = jnp.maximum(beta * half * jnp.sin(p.delta), MIN_BETA)
    # At most 2β: beyond that u = 0 for every penalty.
    lam = lam * jnp.minimum(half / jnp.sqrt(p.d) * (1 - 1e-12), 2 * beta)
    bound = jnp.minimum(1 / (beta + p.k / jnp.pi), 2 * jnp.sqrt(2 * jnp.pi) / p.k)
    # The first step has length at most η((k/π) sin(θ/2) + β); the theorem allows 1/2.
    return p._replace(
        beta=beta, lam=lam, learning_rate=eta * jnp.minimum(bound, 0.5 / (p.k / jnp.pi * jnp.sin(theta / 2) + beta))
    )


def share(x: Array) -> Array:
    """Returns numbers in (0, 1]; 1 is attained."""
    return jnp.clip(1.02 * jax.nn.sigmoid(x), 1e-6, 1)


def facts(subject: str, key: int, lane: int) -> dict[str, str]:
    """Returns the parameters of a lane as text."""

    @jax.jit
    def one(lane: Array) -> tuple[Fixed, Parameters, Array]:
        fixed, raw = draw(subject, jax.random.key(key), lane)
        return fixed, *constrain(subject, fixed, raw)

    fixed, p, start = jax.tree.map(np.asarray, one(jnp.uint32(lane)))
    family, kind = FAMILIES[(lane // 4) % len(FAMILIES)], KINDS[int(fixed.kind)]
    if SUBJECTS[subject].dimensions:
        family, kind = "random", "each"
    shown = {
        "family": family,
        "penalty": f"{kind}, a = {float(p.penalty.a):.17g}",
        "k": str(int(p.k)),
        "d": str(int(p.d)),
        "λ": f"{float(p.lam):.17g}",
        "β": f"{float(p.beta):.17g}",
        "η": f"{float(p.learning_rate):.17g}",
        "δ": f"{float(p.delta):.17g}",
        "s": str(int(p.s)),
    }
    vectors = {"w*": p.w_star, "start": start[0], "second": start[1]}
    return shown | {name: " ".join(f"{x:.17g}" for x in vector[: int(p.d)]) for name, vector in vectors.items()}
