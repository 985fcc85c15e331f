"""Search for counterexamples: gradient descent on a claim's margins from many starts at once.

The variables are a lane's raw numbers (start, w*, shares of λ, β, η, δ; a). ``constrain`` maps them into the theorem's
conditions; conditions on the run itself enter as a penalty term. Limits are differentiated through unrolled steps; the
best lanes are then run to convergence.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh, PartitionSpec

from .claim import Claim
from .claims import CLAIMS
from .claims.shared import AT_REST
from .evaluate import ClaimMargins, Size, claims_of, concerns, measure, states
from .lanes import Fixed, Raw, constrain, draw
from .margins import Margin
from .subjects import SUBJECTS, reach

POOL = 1 << 20
"""First lane number of the search, beyond all lanes of the audit."""


class Search(NamedTuple):
    """Settings of the search: starts per margin, iterations, Adam's rate, unrolled steps of paths and of limits."""

    restarts: int = 32
    iterations: int = 100
    rate: float = 0.05
    path: int = 50
    limit: int = 120


Carry = tuple[Raw, optax.OptState, Raw, Array]
"""Raw numbers, optimizer state, best raw numbers, best margin."""
Searcher = Callable[[Array, Array, Array], tuple[Raw, tuple[Array, Array, Array]]]


class Target(NamedTuple):
    """One margin of one claim."""

    claim: str
    margin: str


class SearchResult(NamedTuple):
    """Smallest margin of a search.

    Attributes:
      margin: slack and allowance; NaN if no start met the conditions.
      lane: start lane of the search.
      raw: raw numbers that attain the margin.
    """

    margin: Margin
    lane: int
    raw: Raw


def targets(subject: str, names: tuple[str, ...]) -> list[Target]:
    """Returns the margins of a subject's claims, other than those about means, which one lane cannot break."""
    each = {name: margins for name, margins in _shapes(subject, names).items() if not CLAIMS[name].mean}
    return [Target(name, margin) for name, margins in each.items() for margin in margins.conclusions]


@functools.cache
def _shapes(subject: str, names: tuple[str, ...]) -> dict[str, ClaimMargins]:
    def one() -> dict[str, ClaimMargins]:
        fixed, raw = draw(subject, jax.random.key(0), jnp.uint32(0))
        p, start = constrain(subject, fixed, raw)
        return measure(claims_of(subject, names), p, reach(SUBJECTS[subject], p, start, 2))

    return jax.eval_shape(one)


def _select(wanted: list[Target], margins: dict[str, ClaimMargins], converged: bool) -> tuple[Array, Array, Array]:
    """Returns slack, allowance and violation of the conditions of each target.

    Args:
      wanted: the targets.
      margins: margins of their claims on one lane.
      converged: whether convergence is among the conditions.
    """
    slack, allowance, violation = [], [], []
    for name, margin in wanted:
        conditions = [m for key, m in margins[name].conditions.items() if converged or not key.endswith(AT_REST)]
        violation.append(sum((jax.nn.relu(-(m.slack + m.allowance)) for m in conditions), jnp.zeros(())))
        slack.append(margins[name].conclusions[margin].slack)
        allowance.append(margins[name].conclusions[margin].allowance)
    return jnp.stack(slack), jnp.stack(allowance), jnp.stack(violation)


def _descend(subject: str, wanted: list[Target], search: Search, fixed: Fixed, raw: Raw, which: Array) -> Raw:
    """Returns the raw numbers with the smallest margin on the path of Adam."""
    steps = search.limit if SUBJECTS[subject].is_limit else search.path
    claims = [CLAIMS[name] for name in dict.fromkeys(target.claim for target in wanted)]

    def objective(raw: Raw) -> tuple[Array, Array]:
        p, start = constrain(subject, fixed, raw)
        margins = measure(claims, p, reach(SUBJECTS[subject], p, start, steps))
        slack, allowance, violation = (x[which] for x in _select(wanted, margins, converged=False))
        return slack + 10 * violation, jnp.where(violation > 0, jnp.inf, slack + allowance)

    optimizer = optax.adam(search.rate)

    def step(carry: Carry, _: None) -> tuple[Carry, None]:
        raw, state, best, least = carry
        (_, value), slope = jax.value_and_grad(objective, has_aux=True)(raw)
        better = value < least
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), raw, best)
        updates, state = optimizer.update(jax.tree.map(jnp.nan_to_num, slope), state)
        return (optax.apply_updates(raw, updates), state, best, jnp.minimum(least, value)), None

    start = raw, optimizer.init(raw), raw, jnp.asarray(jnp.inf)
    return jax.lax.scan(step, start, length=search.iterations)[0][2]


@functools.cache
def program(subject: str, names: tuple[str, ...], search: Search, size: Size) -> Searcher:
    """Returns the compiled search of a subject: (key data, lanes, targets) -> best raw numbers and their margins."""
    claims, wanted = claims_of(subject, names), targets(subject, names)

    def local(key_data: Array, lanes: Array, which: Array) -> tuple[Raw, tuple[Array, Array, Array]]:
        key = jax.random.wrap_key_data(key_data)
        fixed, raw = jax.vmap(lambda lane: draw(subject, key, lane))(lanes)
        best = jax.vmap(functools.partial(_descend, subject, wanted, search))(fixed, raw, which)
        p, start = jax.vmap(functools.partial(constrain, subject))(fixed, best)
        margins = jax.vmap(functools.partial(measure, claims))(p, states(subject, p, start, size))
        gather = jax.vmap(lambda margins, i: [x[i] for x in _select(wanted, margins, converged=True)])
        slack, allowance, violation = gather(margins, which)
        return best, (slack, allowance, violation)

    mesh = Mesh(np.asarray(jax.devices()), ("lanes",))
    none, split = PartitionSpec(), PartitionSpec("lanes")
    return jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(none, split, split), out_specs=split, check_vma=False))


def falsify(subject: str, names: tuple[str, ...], key: int, search: Search, size: Size) -> dict[Target, SearchResult]:
    """Returns, for each margin of a subject's claims, the smallest value that meets the conditions."""
    wanted = targets(subject, names)
    if not wanted:
        return {}
    starts = [_starts(CLAIMS[target.claim], search.restarts) for target in wanted]
    lanes, which = np.concatenate(starts), np.repeat(np.arange(len(wanted)), search.restarts)
    # Devices get equal parts; ``np.resize`` pads by repetition.
    parts = -(-len(lanes) // len(jax.devices())) * len(jax.devices())
    run = program(subject, names, search, size)
    raw, (slack, allowance, violation) = jax.tree.map(
        np.asarray,
        run(
            jax.random.key_data(jax.random.key(key)),
            jnp.asarray(np.resize(lanes, parts), jnp.uint32),
            jnp.asarray(np.resize(which, parts)),
        ),
    )
    results = {}
    for i, target in enumerate(wanted):
        rows = np.flatnonzero(which == i)
        room = np.where(violation[rows] > 0, np.inf, (slack + allowance)[rows])
        best = rows[np.argmin(room)]
        met = np.isfinite(room.min())
        margin = Margin(slack[best], allowance[best]) if met else Margin(*np.full(2, np.nan))
        results[target] = SearchResult(margin, int(lanes[best]), jax.tree.map(lambda x, best=best: x[best], raw))
    return results


def _starts(claim: Claim, count: int) -> np.ndarray:
    """Returns the first lanes from ``POOL`` on whose penalty the claim covers."""
    pool = POOL + np.arange(8 * count)
    return pool[concerns(claim, pool)][:count]
