"""A search for counterexamples: gradient descent on a claim's margins, from many starts at once.

What moves is a lane's raw numbers (start, w*, shares of λ, β, η, δ; a), which ``place`` keeps inside the theorem's
conditions; conditions on the run itself enter as a penalty. Limits are searched through unrolled steps and then run to
convergence from what was found.
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
from .evaluate import Seen, Size, claims_of, concerns, measure, states
from .lanes import Fixed, Raw, draw, place
from .margins import Margin
from .subjects import SUBJECTS, reach

AT_REST = "at rest"
"""Conditions so named are those of a limit, which unrolled steps only come near to."""

POOL = 1 << 20
"""Number of the first lane that a search may start from: none of the audit's."""


class Search(NamedTuple):
    """How far is searched: starts for each margin, iterations, their step, and unrolled steps of a run."""

    restarts: int = 32
    iterations: int = 100
    rate: float = 0.05
    path: int = 50
    limit: int = 120


Carry = tuple[Raw, optax.OptState, Raw, Array]
"""Raw numbers, the optimizer's state; the best raw numbers and their margin."""
Searcher = Callable[[Array, Array, Array], tuple[Raw, tuple[Array, Array, Array]]]


class Target(NamedTuple):
    """One margin of one claim."""

    claim: str
    margin: str


class Found(NamedTuple):
    """The best of a search for one margin.

    Attributes:
      margin: slack and allowance; NaN where no start met the conditions.
      lane: the lane that the search started from.
      raw: where it ended.
    """

    margin: Margin
    lane: int
    raw: Raw


def targets(subject: str, names: tuple[str, ...]) -> list[Target]:
    """Returns the margins of a subject's claims."""
    return [Target(name, margin) for name, seen in _shape(subject, names).items() for margin in seen.conclusions]


@functools.cache
def _shape(subject: str, names: tuple[str, ...]) -> dict[str, Seen]:
    def one() -> dict[str, Seen]:
        fixed, raw = draw(subject, jax.random.key(0), jnp.uint32(0))
        p, start = place(subject, fixed, raw)
        return measure(claims_of(subject, names), p, reach(SUBJECTS[subject], p, start, 2))

    return jax.eval_shape(one)


def _gathered(wanted: list[Target], seen: dict[str, Seen], resting: bool) -> tuple[Array, Array, Array]:
    """Returns slack, allowance and what the conditions lack of each target, those of rest only if so asked."""
    slack, allowance, lack = [], [], []
    for name, margin in wanted:
        conditions = [m for key, m in seen[name].conditions.items() if resting or not key.endswith(AT_REST)]
        lack.append(sum((jax.nn.relu(-(m.slack + m.allowance)) for m in conditions), jnp.zeros(())))
        slack.append(seen[name].conclusions[margin].slack)
        allowance.append(seen[name].conclusions[margin].allowance)
    return jnp.stack(slack), jnp.stack(allowance), jnp.stack(lack)


def _descend(subject: str, wanted: list[Target], search: Search, fixed: Fixed, raw: Raw, which: Array) -> Raw:
    """Returns the raw numbers with the least margin on the way down."""
    steps = search.limit if SUBJECTS[subject].rests else search.path
    claims = [CLAIMS[name] for name in dict.fromkeys(target.claim for target in wanted)]

    def objective(raw: Raw) -> tuple[Array, Array]:
        p, start = place(subject, fixed, raw)
        seen = measure(claims, p, reach(SUBJECTS[subject], p, start, steps))
        slack, allowance, lack = (x[which] for x in _gathered(wanted, seen, resting=False))
        return slack + 10 * lack, jnp.where(lack > 0, jnp.inf, slack + allowance)

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
    """Returns the compiled search of a subject: (key data, lanes, targets) -> raw numbers found, and their margins."""
    claims, wanted = claims_of(subject, names), targets(subject, names)

    def local(key_data: Array, lanes: Array, which: Array) -> tuple[Raw, tuple[Array, Array, Array]]:
        key = jax.random.wrap_key_data(key_data)
        fixed, raw = jax.vmap(lambda lane: draw(subject, key, lane))(lanes)
        best = jax.vmap(functools.partial(_descend, subject, wanted, search))(fixed, raw, which)
        p, start = jax.vmap(functools.partial(place, subject))(fixed, best)
        seen = jax.vmap(functools.partial(measure, claims))(p, states(subject, p, start, size))
        gather = jax.vmap(lambda seen, i: [x[i] for x in _gathered(wanted, seen, resting=True)])
        slack, allowance, lack = gather(seen, which)
        return best, (slack, allowance, lack)

    mesh = Mesh(np.asarray(jax.devices()), ("lanes",))
    none, split = PartitionSpec(), PartitionSpec("lanes")
    return jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(none, split, split), out_specs=split, check_vma=False))


def falsify(subject: str, names: tuple[str, ...], key: int, search: Search, size: Size) -> dict[Target, Found]:
    """Returns, for each margin of a subject's claims, the least that was found where the conditions hold."""
    wanted = targets(subject, names)
    starts = [_starts(CLAIMS[target.claim], search.restarts) for target in wanted]
    lanes, which = np.concatenate(starts), np.repeat(np.arange(len(wanted)), search.restarts)
    # Devices take equal parts: filled up with what is there already.
    parts = -(-len(lanes) // len(jax.devices())) * len(jax.devices())
    run = program(subject, names, search, size)
    raw, (slack, allowance, lack) = jax.tree.map(
        np.asarray,
        run(
            jax.random.key_data(jax.random.key(key)),
            jnp.asarray(np.resize(lanes, parts), jnp.uint32),
            jnp.asarray(np.resize(which, parts)),
        ),
    )
    found = {}
    for i, target in enumerate(wanted):
        mine = np.flatnonzero(which == i)
        room = np.where(lack[mine] > 0, np.inf, (slack + allowance)[mine])
        best = mine[np.argmin(room)]
        met = np.isfinite(room.min())
        margin = Margin(slack[best], allowance[best]) if met else Margin(*np.full(2, np.nan))
        found[target] = Found(margin, int(lanes[best]), jax.tree.map(lambda x, best=best: x[best], raw))
    return found


def _starts(claim: Claim, count: int) -> np.ndarray:
    """Returns the first lanes of the pool that the claim is about."""
    pool = POOL + np.arange(8 * count)
    return pool[concerns(claim, pool)][:count]
