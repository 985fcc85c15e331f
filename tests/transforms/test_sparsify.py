"""sparsify: compared with the iteration by hand; the sparsity, the frozen pattern, what it does to optimizers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv

STEPS = 20
OPTIMIZERS = {
    "sgd": optax.sgd(0.1, momentum=0.9),
    "adamw": optax.adamw(0.02),
    "lion": optax.lion(0.01),
    "adafactor": optax.adafactor(0.05),
    "muon": optax.contrib.muon(0.05),
}
BOUNDED = ("lion", "adafactor", "muon")


def problem(seed=0, shapes=((6, 8), (8, 5))):
    rng = np.random.default_rng(seed)
    start, target = (
        {name: {"kernel": jnp.asarray(rng.normal(size=s), "float32")} for name, s in zip("ab", shapes, strict=True)}
        for _ in range(2)
    )
    return start, target


def gradient(params, target):
    return jax.tree.map(lambda w, t: w - t, params, target)


def run(tx, params, target, steps=STEPS, scale=1.0):
    """Parameters and states after each step, in one jitted scan."""

    def step(carry, _):
        params, state = carry
        g = jax.tree.map(lambda x: scale * x, gradient(params, target))
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, state)

    return jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), length=steps)[1])(params)


def zeros(params, i=-1):
    return sum(int(np.sum(np.asarray(x[i]) == 0)) for x in jax.tree.leaves(params))


def top(leaves, sparsity):
    """The largest components of all leaves; the others zero."""
    flat = np.sort(np.abs(np.concatenate([x.ravel() for x in leaves])))
    count = round(sparsity * len(flat))
    edge = flat[count - 1] if count else -1.0
    return [np.where(np.abs(x) > edge, x, 0) for x in leaves]


def rms(x, where):
    return np.sqrt(np.mean(x[where] ** 2)) if where.any() else 0.0


@pytest.mark.parametrize(("dense", "every"), [(True, None), (False, 1), (True, 4)])
def test_it_is_the_iteration_by_hand(dense, every, x64):
    """Gradient descent with rate 0.1, α = 1/20, from u = w; zero components at 0.3 of the speed; a cubic schedule until
    step 13, frozen from step 16. The pattern is chosen in every fourth step, or each, and in the last before that.
    An output without nonzero components stays so where all gradients are seen."""
    params, target = jax.tree.map(lambda x: x.astype("float64"), problem())
    tx = rv.sparsify(optax.sgd(0.1), 0.75, steps=STEPS, dense=dense, update_every=every)
    got, states = run(tx, params, target)
    u, t = (list(map(np.asarray, jax.tree.leaves(tree))) for tree in (params, target))
    rest = [0 * x for x in u]
    for step in range(STEPS):
        sparsity = 0.75 * (1 - (1 - min(step / 13, 1)) ** 3)
        kept = [(x != 0) | ((r == 0) & (step < 16)) for x, r in zip(u, rest, strict=True)]
        w = []
        for x, y, r, k in zip(u, t, rest, kept, strict=True):
            g = x - y
            ratio = 0.1 if dense else rms(0.1 * g, k) / max(rms(g, k), rms(g, ~k))
            ratio = ratio * k.any(0) if dense else ratio
            w.append(np.where(k, x - 0.1 * g, -0.3 * ratio * g) + (step < 16) * (1 - 1 / STEPS) * r)
        chosen = step == 15 or (step < 16 and step % (every or 1) == 0)
        u = top(w, sparsity) if chosen else [np.where(k, x, 0) for x, k in zip(w, kept, strict=True)]
        rest = [(x - y) * (step < 16) for x, y in zip(w, u, strict=True)]
        for want, leaf, r, left in zip(u, jax.tree.leaves(got), rest, jax.tree.leaves(states.residual), strict=True):
            np.testing.assert_allclose(leaf[step], want, rtol=0, atol=1e-6)
            np.testing.assert_allclose(left[step], r, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["muon", "lion", "adamw", "adafactor", "sgd"])
def test_muon_lion_and_adafactor_see_the_sparse_network_alone(name):
    """Nonzero components take the optimizer's update for the gradient without the others; the rest see all of it."""
    optimizer, (params, target) = OPTIMIZERS[name], problem()
    pruned = jax.tree.map(lambda w: jnp.abs(w) < 0.5, params)
    params = jax.tree.map(lambda w, p: jnp.where(p, 0, w), params, pruned)
    everywhere = gradient(params, target)
    seen = jax.tree.map(lambda g, p: jnp.where(p, 0, g), everywhere, pruned) if name in BOUNDED else everywhere
    want, _ = optimizer.update(seen, optimizer.init(params), params)
    tx = rv.sparsify(optimizer, lambda count: 0.0, steps=STEPS)
    state = tx.init(params)._replace(residual=jax.tree.map(lambda p: jnp.where(p, 1e-3, 0), pruned))
    got, _ = jax.jit(tx.update)(everywhere, state, params)
    for a, b, p in zip(*map(jax.tree.leaves, (got, want, pruned)), strict=True):
        np.testing.assert_allclose(np.where(p, 0, a), np.where(p, 0, b), rtol=1e-4, atol=1e-6)
        if name not in BOUNDED:
            moved = (0.3 if name == "sgd" else 1.0) * b
            np.testing.assert_allclose(np.where(p, a, 0), np.where(p, moved + 0.95e-3, 0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "final", "power"),
    [
        ("sgd", 0.75, 3),
        ("adamw", 0.75, 3),
        ("lion", 0.75, 5),
        ("muon", 0.75, 5),
        ("adafactor", 0.75, 3),
        pytest.param("adafactor", 0.85, 4, marks=pytest.mark.slow),
        ("adafactor", 0.9, 5),
    ],
)
def test_parameters_have_the_sparsity_with_any_optimizer(name, final, power):
    params, target = problem()
    got, _ = run(rv.sparsify(OPTIMIZERS[name], final, steps=STEPS), params, target)
    size = sum(x.size for x in jax.tree.leaves(params))
    end = 15 if name in BOUNDED else 13
    for step in range(STEPS):
        sparsity = final * (1 - (1 - min(step / end, 1)) ** power)
        assert abs(zeros(got, step) - sparsity * size) <= 1
    frozen = [np.asarray(x[16:] != 0) for x in jax.tree.leaves(got)]
    assert all((pattern == pattern[0]).all() for pattern in frozen)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(got))


@pytest.mark.parametrize("steps", [1, 2, pytest.param(3, marks=pytest.mark.slow), 4])
def test_few_steps_reach_the_sparsity(steps):
    params, target = problem()
    size = sum(x.size for x in jax.tree.leaves(params))
    for optimizer in (optax.sgd(0.1), OPTIMIZERS["lion"]):
        got, _ = run(rv.sparsify(optimizer, 0.75, steps=steps), params, target, steps)
        assert abs(zeros(got) - 0.75 * size) <= 1


@pytest.mark.parametrize(
    ("penalty", "sparsity", "moves"),
    [
        (None, 0.75, {0, 10, 20, 30, 31}),
        (rv.NM(2, 4), None, {0, 10, 20, 30, 31}),
        (rv.L1(), 0.75, set(range(32))),
    ],
    ids=["l0", "2:4", "l1"],
)
def test_the_pattern_stays_between_two_choices(penalty, sparsity, moves):
    """Until it is frozen, here from step 32 on; ℓ1, which shrinks, is applied in every step."""
    params, target = problem()
    params, target = params["b"], target["b"]
    tx = rv.sparsify(optax.sgd(0.1), sparsity and (lambda _: sparsity), steps=40, penalty=penalty, update_every=10)
    noise = 0.5 * jax.random.normal(jax.random.key(1), (40, *jax.tree.leaves(params)[0].shape))

    def step(carry, extra):
        params, state = carry
        updates, state = tx.update(jax.tree.map(lambda x, t: x - t + extra, params, target), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), jax.tree.leaves(params)[0] != 0

    _, patterns = jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), noise))(params)
    changed = {0, *(i for i in range(1, 40) if np.any(patterns[i] != patterns[i - 1]))}
    assert changed <= moves
    assert len(changed - {0, 10, 20, 30, 31}) > 2 or len(moves) == 5
    assert len(changed) > 2


def test_frozen_it_is_the_optimizer_on_the_support():
    params, target = problem()
    got, states = run(rv.sparsify(optax.sgd(0.1), 0.75, steps=STEPS, freeze=10), params, target)
    assert all(np.any(x[9]) and not np.any(x[10:]) for x in map(np.asarray, jax.tree.leaves(states.residual)))
    for x, t in zip(jax.tree.leaves(got), jax.tree.leaves(target), strict=True):
        x, t = np.asarray(x), np.asarray(t)
        for step in range(11, STEPS):
            want = np.where(x[10] != 0, x[step - 1] - 0.1 * (x[step - 1] - t), 0)
            np.testing.assert_allclose(x[step], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "sparsity", "power", "end"),
    [
        (optax.sgd(0.1), 0.99, 3, 2 / 3),
        (optax.adam(0.1), 0.9, 3, 2 / 3),
        (optax.adam(0.1), 0.925, 4, 2 / 3),
        (optax.adam(0.1), 0.95, 5, 2 / 3),
        (optax.lion(0.1), 0.5, 5, 3 / 4),
        (optax.adafactor(0.1), 0.85, 4, 3 / 4),
    ],
)
def test_the_power_of_the_schedule(optimizer, sparsity, power, end):
    tx = rv.sparsify(optimizer, sparsity, steps=100)
    w = jnp.linspace(1.0, 2.0, 400)
    state = tx.init(w)
    for step in range(31):
        _, state = tx.update(w, state, w)
        wanted = sparsity * (1 - (1 - step / round(100 * end)) ** power)
        np.testing.assert_allclose(state.rules[0].sparsity, wanted, rtol=1e-5, atol=1e-6)


def test_a_zero_component_returns_when_its_gradient_says_so():
    """It is pruned before the ramp ends; from step 150 on a noisy loss wants it to be the largest."""
    w = {"kernel": jnp.array([[1.0, 0.9, 0.8, 0.1, 0.05, 0.2]])}
    early, late = w, {"kernel": w["kernel"].at[0, 4].set(3.0)}
    tx, support = rv.sparsify(optax.sgd(0.1), 0.5, steps=300), []
    state, update = tx.init(w), jax.jit(tx.update)
    noise = np.random.default_rng(0).normal(scale=0.1, size=(300, 1, 6)).astype("float32")
    for step in range(300):
        noisy = jax.tree.map(lambda g, step=step: g + noise[step], gradient(w, late if step >= 150 else early))
        updates, state = update(noisy, state, w)
        w = optax.apply_updates(w, updates)
        support.append(np.asarray(w["kernel"][0] != 0).tolist())
    assert support[149] == [True, True, True, False, False, False]
    assert support[-1][4]
    assert sum(support[-1]) == 3
    assert w["kernel"][0, 4] > 2


@pytest.mark.parametrize(
    ("shape", "layout", "stays"),
    [
        ((2, 3), None, True),
        ((3, 2), "out in", True),
        ((1, 2, 3), "stack in out", True),
        ((1, 6), None, False),
    ],
)
def test_behind_sgd_an_output_without_components_stays_so(shape, layout, stays):
    """Of two inputs of three outputs the last output has lost its weights, and would regain one; Adam regains it.
    Kernels with one input have no outputs that sum."""
    layout = layout and {"kernel": layout}
    order = (lambda x: x.T.reshape(shape)) if layout == {"kernel": "out in"} else lambda x: x.reshape(shape)
    start, later = ({"kernel": order(jnp.asarray(x))} for x in ([[4.0, 4, 0.1], [4, 1, 0.1]], [[4.0, 4, 9], [4, 1, 9]]))
    empty = np.asarray(order(jnp.asarray([[0, 0, 1], [0, 0, 1]]))) == 1
    for optimizer, dead in ((optax.sgd(0.1), stays), (optax.adam(0.5), False)):
        tx = rv.sparsify(optimizer, lambda _: 0.5, steps=40, layout=layout)
        w, state = start, tx.init(start)
        for target in [start] + 20 * [later]:
            updates, state = tx.update(gradient(w, target), state, w)
            w = optax.apply_updates(w, updates)
        assert np.any(np.asarray(w["kernel"])[empty]) != dead
        w_there = np.asarray(w["kernel"] + state.residual["kernel"])[empty]
        assert np.any(np.abs(w_there) > 0.1) != dead


def test_a_kernel_that_starts_at_zero_trains():
    """Like the B of LoRA: all of it moves, until the ramp prunes it; what is kept is large in the target."""
    w, target = {"kernel": jnp.zeros((4, 5))}, {"kernel": problem()[1]["a"]["kernel"][:4, :5]}
    got, _ = run(rv.sparsify(optax.sgd(0.3), 0.5, steps=40), w, target, 40)
    first, last, t = (np.asarray(x) for x in (got["kernel"][0], got["kernel"][-1], target["kernel"]))
    np.testing.assert_allclose(first[first != 0], 0.3 * t[first != 0], rtol=1e-5)
    assert int((last == 0).sum()) == 10
    assert np.sum(np.where(last != 0, t, 0) ** 2) > 0.75 * np.sum(t**2)
    np.testing.assert_allclose(last[last != 0], t[last != 0], atol=0.1)


def test_the_scale_of_the_loss_does_not_matter_behind_adam():
    params, target = problem(1)
    one, thousand = (
        run(rv.sparsify(optax.adam(0.02, eps=1e-12), 0.75, steps=STEPS), params, target, scale=s)[0] for s in (1.0, 1e3)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), one, thousand)


def test_groups_and_constraints():
    params, target = problem(2)
    got, _ = run(rv.sparsify(optax.sgd(0.1), 0.5, steps=STEPS, penalty=rv.Grouped(rv.L0(), "filters")), params, target)
    for leaf in jax.tree.leaves(got):
        columns = np.asarray((leaf[-1] == 0).mean(0))
        assert set(columns) <= {0.0, 1.0}
    got, _ = run(rv.sparsify(optax.sgd(0.1), steps=STEPS, penalty=rv.NM(2, 4)), {"b": params["b"]}, {"b": target["b"]})
    last = {"b": {"kernel": got["b"]["kernel"][-1]}}
    assert sum(rv.nm_violations(last, 2, 4).values()) == 0


def test_by_leaf_and_overrides():
    params, target = problem(3)
    params["a"]["kernel"] *= 100
    got, _ = run(
        rv.sparsify(optax.sgd(0.01), 0.5, steps=STEPS, scope="leaf", overrides={"b": {"sparsity": 0.8}}), params, target
    )
    assert int((got["a"]["kernel"][-1] == 0).sum()) == 24
    assert int((got["b"]["kernel"][-1] == 0).sum()) == 32


def test_sparse_params_returns_the_parameters():
    params, target = problem()
    tx = rv.sparsify(optax.adam(0.1), 0.5, steps=4)
    _, state = tx.update(gradient(params, target), tx.init(params), params)
    assert rv.sparse_params(state, params) is params or all(
        a is b for a, b in zip(*map(jax.tree.leaves, (rv.sparse_params(state, params), params)), strict=True)
    )


def test_bfloat16_parameters_lose_no_small_updates():
    """A step of 1e-3 is under half an ulp at 1; rounding to bfloat16 in every step would never move the weight."""
    w = {"kernel": jnp.ones((2, 3), "bfloat16")}
    grads = jax.tree.map(jnp.ones_like, w)
    tx = rv.sparsify(optax.sgd(1e-3), lambda count: 0.0, steps=100)
    state, update = tx.init(w), jax.jit(tx.update)
    for count in range(100):
        updates, state = update(grads, state, w)
        w = optax.apply_updates(w, updates)
        assert w["kernel"].dtype == "bfloat16"
        exact = w["kernel"].astype("float32") + state.residual["kernel"]
        np.testing.assert_allclose(exact, 1 - (count + 1) * 1e-3, atol=1e-4)


def test_bfloat16_follows_float32():
    params, target = problem(4)
    tx = rv.sparsify(optax.adamw(0.02), 0.75, steps=STEPS)
    full, _ = run(tx, params, target)
    half, _ = run(tx, *jax.tree.map(lambda x: x.astype("bfloat16"), (params, target)))
    assert zeros(half) == zeros(full)
    for a, b in zip(*map(jax.tree.leaves, (full, half)), strict=True):
        assert b.dtype == "bfloat16"
        assert np.mean(np.asarray((a[-1] != 0) == (b[-1] != 0))) > 0.9


def test_errors():
    sgd = optax.sgd(0.1)
    cases = [
        (
            lambda: rv.sparsify(sgd, steps=5),
            TypeError,
            r"^sparsity must be given for a penalty that is no constraint, got None for l0$",
        ),
        (lambda: rv.sparsify(sgd, 1.5, steps=5), ValueError, r"^sparsity must be .*got 1.5"),
        (lambda: rv.sparsify(sgd, 0.5, steps=0), ValueError, r"^steps must be .*got 0"),
        (lambda: rv.sparsify(sgd, 0.5, steps=5, pull=2), ValueError, r"^pull must be .*got 2"),
        (lambda: rv.sparsify(sgd, 0.5, steps=5, floor=2), ValueError, r"^floor must be in \[0, 1\], got 2"),
        (lambda: rv.sparsify(sgd, 0.5, steps=5, rate=-1), ValueError, r"^rate must be .*got -1"),
        (lambda: rv.sparsify(sgd, 0.5, steps=5, freeze=0), ValueError, r"^freeze must be .*got 0"),
        (lambda: rv.sparsify(sgd, 0.5, steps=5, update_every=0), ValueError, r"^update_every must be .*got 0"),
        (lambda: rv.sparsify(sgd, 0.5, steps=5, scope="x"), ValueError, r"^scope must be .*got 'x'"),
        (lambda: rv.sparsify(sgd, 0.5, steps=5, penalty=rv.TopK(k=1)), TypeError, r"^sparsity must be given to the"),
    ]
    for make, kind, message in cases:
        with pytest.raises(kind, match=message):
            make()
    w = {"kernel": jnp.ones((2, 2))}
    tx = rv.sparsify(sgd, 0.5, steps=5)
    with pytest.raises(ValueError, match=r"^params must be passed to update"):
        tx.update(w, tx.init(w))


@pytest.mark.parametrize(("floor", "layout"), [(0.2, None), (0.5, None), (0.5, {"stack": "stack in out"})])
def test_every_leaf_keeps_its_floor(floor, layout):
    """Against thresholds by sorting: the largest of each leaf stay up to the floor, then the largest of all."""
    rng = np.random.default_rng(3)
    scales = {"large": 1.0, "small": 1e-3, "stack": np.array([1.0, 1e-3, 2.0])[:, None, None]}
    params = {
        name: {"kernel": jnp.asarray(scale * rng.normal(size=(3, 8, 10)), "float32")} for name, scale in scales.items()
    }
    tx = rv.sparsify(optax.sgd(0.1), lambda _: 0.9, steps=100, floor=floor, layout=layout)
    updates, _ = jax.jit(tx.update)(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    got = optax.apply_updates(params, updates)
    by_name = {name: np.asarray(leaf["kernel"]) for name, leaf in params.items()}
    parts = [by_name["large"], by_name["small"], *(by_name["stack"] if layout else [by_name["stack"]])]
    scores = []
    for part in parts:
        magnitude = np.abs(part).ravel()
        first = np.argsort(-magnitude)[: round(floor * 0.1 * part.size)]
        magnitude[first] = np.inf
        scores.append(magnitude)
    edge = np.sort(np.concatenate(scores))[-72]
    want = [np.where(score.reshape(part.shape) >= edge, part, 0) for score, part in zip(scores, parts, strict=True)]
    have = [np.asarray(got["large"]["kernel"]), np.asarray(got["small"]["kernel"])]
    have += [*np.asarray(got["stack"]["kernel"])] if layout else [np.asarray(got["stack"]["kernel"])]
    for a, b in zip(have, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    without = rv.sparsify(optax.sgd(0.1), lambda _: 0.9, steps=100, floor=0, layout=layout)
    updates, _ = without.update(jax.tree.map(jnp.zeros_like, params), without.init(params), params)
    assert not np.any(params["small"]["kernel"] + updates["small"]["kernel"])


def test_no_leaf_loses_all_its_groups():
    rng = np.random.default_rng(4)
    params = {
        name: {"kernel": jnp.asarray(s * rng.normal(size=(6, 10)), "float32")} for name, s in (("a", 1), ("b", 1e-3))
    }
    tx = rv.sparsify(optax.sgd(0.1), lambda _: 0.5, steps=9, penalty=rv.Grouped(rv.L0(), "filters"), floor=0.1)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    kept = np.any(np.asarray(params["b"]["kernel"] + updates["b"]["kernel"]) != 0, axis=0)
    norms = np.linalg.norm(params["b"]["kernel"], axis=0)
    assert list(np.flatnonzero(kept)) == [np.argmax(norms)]


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.parametrize(
    "tx",
    [rv.rvsm(rv.TopK(0.9, scope="global"), beta=0.1), rv.sparsify(optax.lion(0.1), 0.9, steps=9)],
    ids=["top_k", "lion"],
)
def test_compiled_programs_grow_in_proportion_to_the_leaves(tx):
    """XLA must not repeat a sum over all leaves in the program of each."""

    def length(leaves):
        params = {f"kernel{i}": jnp.ones((8, 8 + 8 * (i % 3))) for i in range(leaves)}
        state = tx.init(params)
        return len(jax.jit(tx.update).lower(params, state, params).compile().as_text())

    assert length(32) < 2 * length(16)
