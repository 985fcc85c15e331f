"""Rules: overrides, global scope, exact sparsity, certificates, λ for a given sparsity."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv

RNG = np.random.default_rng(0)
PARAMS = {
    "stem": {"kernel": RNG.normal(size=(4, 6)).astype("f4"), "bias": RNG.normal(size=6).astype("f4")},
    "body": {"kernel": RNG.normal(size=(6, 8)).astype("f4")},
    "head": {"kernel": RNG.normal(size=(8, 3)).astype("f4")},
}
ZERO = jax.tree.map(np.zeros_like, PARAMS)


def soft(v, s):
    return np.sign(v) * np.maximum(np.abs(v) - s, 0)


def hard(v, s):
    return np.where(np.abs(v) > np.sqrt(2 * s), v, 0)


def best(v, k):
    """Returns the k largest magnitudes by a stable sort; ties go to the first."""
    kept = np.zeros(v.size, bool)
    kept[np.argsort(-np.abs(v).ravel(), kind="stable")[:k]] = True
    return np.where(kept.reshape(v.shape), v, 0)


def kernels(overrides, penalty=None, mask=None):
    """Returns u and the force of rvsm, and u of admm, on the three kernels; checks that other leaves are unchanged."""
    penalty = penalty or rv.L1()
    tx = rv.rvsm(penalty, lam=0.1, beta=0.5, mask=mask, overrides=overrides)
    updates, state = tx.update(ZERO, tx.init(PARAMS), PARAMS)
    u = rv.sparse_params(state, PARAMS)
    other = rv.sparse_params(rv.admm(penalty, 0.5, 0.1, mask=mask, overrides=overrides).init(PARAMS), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, u, other)
    jax.tree.map(lambda r, w, v: np.testing.assert_allclose(r, 0.5 * (w - v), atol=1e-6), updates, PARAMS, u)
    return {name: np.asarray(u[name]["kernel"]) for name in u}


@pytest.mark.parametrize(
    ("overrides", "want"),
    [
        (None, {}),
        ({"head": {"lam": 0.3}}, {"head": lambda w: soft(w, 0.6)}),
        ({"head": {"penalty": rv.L0()}}, {"head": lambda w: hard(w, 0.2)}),
        ({"^body/": {"penalty": rv.L0(), "lam": 0.4}}, {"body": lambda w: hard(w, 0.8)}),
        ({"stem": None}, {"stem": lambda w: w}),
        ({"head|stem": {"lam": 0}, "bod.": {"penalty": rv.TopK(k=7)}}, {"head": 0, "stem": 0, "body": 7}),
        # The first match wins.
        ({"head": {"lam": 0.3}, "kernel": None}, {"head": lambda w: soft(w, 0.6), "stem": 0, "body": 0}),
        ({"stem": None, "em": {"lam": 0.3}, "y": None, "": {"lam": 0.2}}, None),
    ],
)
def test_overrides(overrides, want):
    if want is None:
        with pytest.raises(ValueError, match=r"^overrides pattern 'em' never applies: "):
            kernels(overrides)
        return
    got = kernels(overrides)
    for name, u in got.items():
        w, rule = PARAMS[name]["kernel"], want.get(name, lambda w: soft(w, 0.2))
        expected = rule(w) if callable(rule) else best(w, rule or w.size)
        np.testing.assert_allclose(u, expected, rtol=1e-6, atol=1e-7)


def test_overrides_stay_within_the_mask():
    got = kernels({"stem": {"lam": 0.3}}, mask="stem/k|body")
    np.testing.assert_allclose(got["stem"], soft(PARAMS["stem"]["kernel"], 0.6), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(got["head"], PARAMS["head"]["kernel"])


def test_errors_of_overrides():
    for make in (lambda o: rv.rvsm(rv.L1(), 0.1, 0.5, overrides=o), lambda o: rv.admm(rv.L1(), 0.5, overrides=o)):
        for form in ({}, {"beta": 1.0}, {"lam": 1.0, "a": 2}, 0.3, rv.L0(), "l0"):
            with pytest.raises(
                TypeError, match=r"^overrides must hold a penalty, a lam or a sparsity, or None, got .*'head'$"
            ):
                make({"head": form})
        with pytest.raises(TypeError, match=r"^overrides must be a dict from patterns of paths to .*, got \['head'\]$"):
            make(["head"])
        with pytest.raises(TypeError, match=r"^penalty must be an instance of Penalty, got 'l0'$"):
            make({"head": {"penalty": "l0"}})
        with pytest.raises(ValueError, match=r"^lam must be finite and >= 0, got -1$"):
            make({"head": {"lam": -1}})
        for pattern in ("(", 3):
            with pytest.raises(ValueError, match=r"^overrides must .* regular expressions .*, got "):
                make({pattern: None})
        with pytest.raises(ValueError, match=r"^overrides pattern 'tail' never applies: "):
            make({"head": None, "tail": None}).init(PARAMS)


@pytest.mark.parametrize("dtypes", [("float32",) * 3, ("bfloat16",) * 3, ("bfloat16", "float32", "float16")])
@pytest.mark.parametrize("ties", [True, False])
def test_global_scope_is_top_k_of_the_leaves_together(ties, dtypes):
    rng, shapes = np.random.default_rng(1), [(3, 5), (40,), (2, 3, 4)]
    draw = (lambda s: rng.integers(-3, 4, s)) if ties else (lambda s: rng.normal(size=s))
    leaves = [jnp.asarray(draw(shape), dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
    run = jax.jit(lambda k, leaves: rv.TopK(k=k, scope="global").prox_leaves(leaves, 0.0))
    together = np.concatenate([np.asarray(leaf, "f8").ravel() for leaf in leaves])
    for k in (0, 1, 2, 11, 30, 52, 78, 79, 80):
        got = run(k, leaves)
        assert [x.dtype for x in got] == [x.dtype for x in leaves]
        flat = np.concatenate([np.asarray(x, "f8").ravel() for x in got])
        np.testing.assert_array_equal(flat, best(together, k))


def test_global_scope_covers_only_the_leaves_of_its_rule():
    top = rv.TopK(sparsity=0.75, scope="global")
    got = kernels({"head": {"penalty": rv.TopK(k=3)}}, penalty=top)
    both = best(np.concatenate([PARAMS["body"]["kernel"].ravel(), PARAMS["stem"]["kernel"].ravel()]), 18)
    np.testing.assert_array_equal(np.concatenate([got["body"].ravel(), got["stem"].ravel()]), both)
    np.testing.assert_array_equal(got["head"], best(PARAMS["head"]["kernel"], 3))


def test_traced_sparsity_keeps_the_exact_count():
    """round(sparsity·n) of n components become 0, with the exact product of the stored sparsity."""
    kept = {}
    shares = np.float32([0.0, 0.1, 0.25, 0.5, 0.9, 0.95, 0.99, 1 - 2**-24, 1e-7, 1 / 3])
    for size in (1, 2, 97, 10**6, 2**24 - 1, 2**24 + 1, 2**25 - 1, 2**25, 2**25 + 1):
        kept[size] = jax.jit(jax.vmap(lambda s, size=size: jnp.asarray(rv.TopK(sparsity=s).kept(size))))(shares)
        want = [size - round(Fraction(float(share)) * size) for share in shares]
        np.testing.assert_array_equal(kept[size], want)
    assert rv.TopK(sparsity=0.9).kept(2**25 + 1) == 2**25 + 1 - round(0.9 * (2**25 + 1))


@pytest.mark.parametrize("scope", ["leaf", "global"])
@pytest.mark.parametrize("make", [rv.cubic_sparsity, rv.cosine_sparsity])
def test_a_schedule_reaches_the_exact_sparsity(make, scope):
    final, end, size = 0.9, 6, 24 + 48 + 24
    tx = optax.chain(rv.rvsm(rv.TopK(sparsity=make(final, 1, end), scope=scope), 0.1, 0.5), optax.sgd(0.1))

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(ZERO, state, params)
        params = optax.apply_updates(params, updates)
        u = rv.sparse_params(state, params)
        return (params, state), [jnp.sum(u[name]["kernel"] == 0) for name in ("stem", "body", "head")]

    start = (jax.tree.map(jnp.asarray, PARAMS), tx.init(PARAMS))
    zeros = np.transpose(jax.jit(lambda carry: jax.lax.scan(step, carry, length=end + 2)[1])(start)).tolist()
    assert zeros[:2] == [[0, 0, 0]] * 2
    totals = [sum(row) for row in zeros]
    assert totals == sorted(totals)
    for row in zeros[end:]:
        if scope == "leaf":
            assert row == [round(0.9 * 24), round(0.9 * 48), round(0.9 * 24)]
        assert sum(row) == (round(0.9 * size) if scope == "global" else 22 + 43 + 22)
    assert 0 < totals[2] < totals[-1]


def test_certificates():
    overrides = {"body": {"penalty": rv.TopK(k=10)}, "head": {"lam": 0.3}}
    tx = rv.rvsm(rv.L0(), lam=0.1, beta=0.5, overrides=overrides, certificate=True)
    state, w, last = tx.init(PARAMS), PARAMS, None
    for step in range(4):
        ws = {name: np.asarray(w[name]["kernel"], "f8") for name in w}
        us = {"stem": hard(ws["stem"], 0.2), "body": best(ws["body"], 10), "head": hard(ws["head"], 0.6)}
        support = np.concatenate([(us[name] != 0).ravel() for name in us])
        changes = 0 if last is None else int((support != last).sum())
        if step:
            assert changes > 0
        last = support
        for update in (tx.init, None) if step == 0 else (None,):
            state = update(w) if update else jax.jit(tx.update)(ZERO, state, w)[1]
            got = state.certificate
            squares = sum(((ws[name] - us[name]) ** 2).sum() for name in ws)
            value = 0.1 * np.count_nonzero(us["stem"]) + 0.3 * np.count_nonzero(us["head"])
            have = [float(got.penalty), float(got.coupling), float(got.distance), int(got.support_changes)]
            np.testing.assert_allclose(have, [value, 0.25 * squares, np.sqrt(squares), changes], rtol=1e-5)
            assert {x.dtype.name for x in got[:3]} == {"float32"}
            for name in us:
                np.testing.assert_array_equal(got.support[name]["kernel"], us[name] != 0)
        rng = np.random.default_rng(step)
        w = jax.tree.map(lambda x, rng=rng: x + 0.3 * rng.normal(size=x.shape).astype("f4"), w)


def test_no_certificate_by_default():
    assert rv.rvsm(rv.L1(), 0.1, 0.5).init(PARAMS).certificate is None


@pytest.mark.parametrize(
    "penalty", [rv.L1(), rv.L0(), rv.TransformedL1(0.5), rv.TransformedL1(50.0), rv.Grouped(rv.L1(), "rows")]
)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_lam_for_sparsity_is_the_smallest_that_reaches_the_sparsity(penalty, share):
    mask = "body|stem/k"
    lam = rv.lam_for_sparsity(PARAMS, penalty, beta=0.3, sparsity=share, mask=mask)
    assert isinstance(lam, float)

    def reached(lam):
        u = rv.sparse_params(rv.rvsm(penalty, lam, 0.3, mask=mask).init(PARAMS), PARAMS)
        zeros = np.sum(u["body"]["kernel"] == 0) + np.sum(u["stem"]["kernel"] == 0)
        return zeros >= round(share * 72)

    assert reached(lam * (1 + 1e-5))
    assert lam == 0 if share == 0 else not reached(lam * (1 - 1e-5))
    np.testing.assert_array_equal(
        rv.sparse_params(rv.rvsm(penalty, lam, 0.3, mask=mask).init(PARAMS), PARAMS)["head"]["kernel"],
        PARAMS["head"]["kernel"],
    )


def test_lam_for_sparsity_by_hand():
    w = np.linspace(0.1, 1, 10).astype("f4")
    for share, edge in [(0.1, 0.1), (0.5, 0.5), (0.9, 0.9)]:
        assert rv.lam_for_sparsity(w, rv.L1(), 0.4, share) == pytest.approx(0.4 * edge, rel=1e-5)
        assert rv.lam_for_sparsity(w, rv.L0(), 0.4, share) == pytest.approx(0.4 * edge**2 / 2, rel=1e-5)
    assert rv.lam_for_sparsity(np.float32([0, 0, 1]), rv.L1(), 0.4, 0.6) == 0


def test_errors_of_lam_for_sparsity():
    for arguments, message in [
        ((0.0, 0.5), "^beta must be finite and > 0, got 0.0$"),
        ((1.0, 1.0), r"^sparsity must be in \[0, 1\), got 1.0$"),
        ((1.0, -0.1), r"^sparsity must be in \[0, 1\), got -0.1$"),
    ]:
        with pytest.raises(ValueError, match=message):
            rv.lam_for_sparsity(PARAMS, rv.L1(), *arguments)
    for penalty in (rv.TopK(k=3), rv.NM(), rv.Grouped(rv.TopK(k=3), "rows")):
        with pytest.raises(NotImplementedError, match=r"has no fixed threshold"):
            rv.lam_for_sparsity(PARAMS, penalty, 1.0, 0.5)
    with pytest.raises(ValueError, match=r"^sparsity must be .* lam, got 0.5$"):
        rv.lam_for_sparsity(jnp.full(4, jnp.inf), rv.L0(), 1.0, 0.5)


def test_a_constraint_needs_no_lam():
    w = jnp.array([3.0, -1.0, 2.0])
    for penalty in (rv.TopK(k=1), rv.Grouped(rv.TopK(k=1), axes=(0,)), rv.NM(1, 3)):
        without, given = rv.rvsm(penalty, beta=0.5), rv.rvsm(penalty, 7.0, 0.5)
        got, want = (tx.update(jnp.zeros(3), tx.init(w), w)[0] for tx in (without, given))
        np.testing.assert_array_equal(got, want)
    with pytest.raises(TypeError, match=r"^lam must be given .*, got None for l1$"):
        rv.rvsm(rv.L1(), beta=0.5)
    with pytest.raises(TypeError, match=r"^lam must be given .*, got None for grouped$"):
        rv.rvsm(rv.TopK(k=1), beta=0.5, overrides={"head": {"penalty": rv.Grouped(rv.L0())}})
    with pytest.raises(TypeError, match=r"^beta must be .*, got None$"):
        rv.rvsm(rv.L1(), 0.1)


@pytest.mark.parametrize("penalty", [rv.NM(2, 4), rv.Grouped(rv.L1(), axes=(0, 1, 2))])
def test_a_penalty_that_does_not_fit_a_leaf_names_it_at_init(penalty):
    params = {"stem": {"kernel": jnp.ones((8, 4))}, "head": {"kernel": jnp.ones((3, 5))}}
    fits = {"stem": {"penalty": rv.TopK(k=1)}}
    with pytest.raises(ValueError, match=r"^ax.* \(3, 5\) at 'head/kernel'$"):
        rv.rvsm(penalty, 0.1, 0.5, overrides=fits).init(params)


def test_a_default_that_selects_nothing_warns():
    with pytest.warns(UserWarning, match="no leaf is selected by default, .*pass a mask for loc, scale"):
        rv.rvsm(rv.L1(), 0.1, 0.1).init({"loc": jnp.ones(4), "scale": jnp.ones(4)})
