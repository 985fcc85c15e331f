"""Requirements on every penalty. One table, checked against the public names, parametrizes all tests."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rvsmjax as rv

rounding = pytest.mark.optimized

PENALTIES = {
    "l1": rv.L1(),
    "l0": rv.L0(),
    "tl1": rv.TransformedL1(0.7),
    "tl1 near l0": rv.TransformedL1(1e-3),
    "tl1 near l1": rv.TransformedL1(1e3),
    "group l1": rv.Grouped(rv.L1(), axes=(1,)),
    "group l0": rv.Grouped(rv.L0(), axes=(-1,)),
    "group tl1": rv.Grouped(rv.TransformedL1(0.7), axes=1),
    "best groups": rv.Grouped(rv.TopK(k=2), axes=(1,)),
    "top k": rv.TopK(k=8),
    "top share": rv.TopK(sparsity=0.5),
    "top of all": rv.TopK(sparsity=0.5, scope="global"),
    "n of m": rv.NM(1, 2),
    "group rows": rv.Grouped(rv.L1(), axes="rows"),
    "mcp": rv.MCP(2.5),
    "mcp, steps above gamma": rv.MCP(0.1),
    "scad": rv.SCAD(3.7),
    "scad, steps above gamma - 1": rv.SCAD(1.125),
    "l half": rv.LHalf(),
    "log sum": rv.LogSum(2.0),
    "log sum, steps above epsilon²": rv.LogSum(0.2),
    "capped l1": rv.CappedL1(0.4),
    "group mcp": rv.Grouped(rv.MCP(2.5), axes=1),
    "group log sum": rv.Grouped(rv.LogSum(0.2), axes=1),
    "l1 minus l2": rv.L1MinusL2(0.6),
    "sorted l1": rv.SLOPE(tuple(np.linspace(2, 0.1, 24).tolist())),
}
AS_ANOTHER = ("group l0", "group log sum", "group mcp", "group rows", "group tl1", "top of all", "top share")
"""Those whose construction other rows have: in the slow tier."""
COUPLED = ("l1 minus l2", "sorted l1")
"""Those that compare components, and so have no threshold, though ``step`` matters."""
FREE = {
    name: p
    for name, p in PENALTIES.items()
    if "op" not in name and "best" not in name and "of" not in name and name not in COUPLED
}
"""Those with a threshold: all but TopK and NM, where ``step`` has no effect, and the coupled ones."""

V = np.random.default_rng(0).normal(size=(4, 6)).astype("f4")
V[0, 0], V[1, 2], V[2] = 0.0, V[1, 3], 0.0
STEP = np.float32(0.3)


def rows(penalties):
    """Returns the decorator for these penalties."""
    marked = [pytest.param(p, id=n, marks=[pytest.mark.slow] * (n in AS_ANOTHER)) for n, p in penalties.items()]
    return pytest.mark.parametrize("penalty", marked)


every, free = rows(PENALTIES), rows(FREE)


TRACES = []


def outputs(penalty, v, step):
    TRACES.append(penalty)
    return {
        "prox": penalty.prox(v, step),
        "shrinkage": penalty.shrinkage(v, step),
        "value": penalty.value(v),
        "envelope": rv.moreau_envelope(penalty, v, step),
    }


jitted = jax.jit(outputs)
batched = jax.jit(jax.vmap(outputs))
values = jax.jit(jax.vmap(outputs, (None, 0, 0)))
thresholds = jax.jit(lambda penalty, step: penalty.threshold(step))
proxes = jax.jit(lambda penalty, v, step: penalty.prox(v, step))


def close(got, want, rtol=2e-6, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), got, want)


def test_the_table_lists_every_public_penalty():
    public = {x for x in vars(rv).values() if isinstance(x, type) and issubclass(x, rv.Penalty)} - {rv.Penalty}
    assert {type(p) for p in PENALTIES.values()} == public


def test_names_are_short_distinct_and_default_to_the_class_name():
    names = [cls.name for cls in {type(p) for p in PENALTIES.values()}]
    assert len(set(names)) == len(names)
    assert {"l1", "l0", "tl1", "grouped", "topk", "mcp", "scad", "l_half", "log_sum", "capped_l1"} < set(names)
    assert type("Ridge", (rv.Penalty,), {}).name == "ridge"


@every
def test_jit_equals_eager(penalty):
    close(jitted(penalty, V, STEP), outputs(penalty, V, STEP))


@every
def test_vmap_equals_a_loop(penalty):
    factors = [1.0, 1.5]
    lanes = [(jax.tree.map(lambda x, f=f: type(x)(f * x), penalty), np.float32(f * V), f * STEP) for f in factors]
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *lanes)
    together = batched(*stacked)
    for i, lane in enumerate(lanes):
        close(jax.tree.map(lambda x, i=i: x[i], together), jitted(*lane))


@every
def test_pytree_round_trip(penalty):
    leaves, structure = jax.tree.flatten(penalty)
    again = jax.tree.unflatten(structure, leaves)
    assert again == penalty
    assert type(again) is type(penalty)
    assert all(isinstance(leaf, (int, float)) for leaf in leaves)
    with pytest.raises(dataclasses.FrozenInstanceError):
        again.name = "other"


@every
def test_new_numbers_do_not_retrace(penalty):
    changed = jax.tree.map(lambda x: type(x)(x * 1.5), penalty)
    first, traces = jitted(penalty, V, STEP), len(TRACES)
    second = jitted(changed, V + 1, 2 * STEP)
    assert len(TRACES) == traces
    assert not np.array_equal(first["prox"], second["prox"])


@every
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_dtype_is_kept(penalty, dtype):
    out = jax.eval_shape(outputs, penalty, jax.ShapeDtypeStruct((4, 6), dtype), 0.3)
    assert {out["prox"].dtype.name, out["shrinkage"].dtype.name} == {dtype}
    assert out["prox"].shape == out["shrinkage"].shape == (4, 6)
    assert out["value"].shape == out["envelope"].shape == ()


@every
def test_float64_is_kept(penalty, x64):
    out = jax.eval_shape(outputs, penalty, jax.ShapeDtypeStruct((4, 6), "float64"), 0.3)
    assert {x.dtype.name for x in out.values()} == {"float64"}
    if hasattr(penalty, "a"):
        assert penalty.threshold(0.3).dtype == "float64"


@every
def test_16_bit_results_agree_with_float32(penalty):
    v = jnp.asarray(V, jnp.bfloat16)
    narrow, wide = jitted(penalty, v, STEP), jitted(penalty, v.astype("f4"), STEP)
    for name in ("prox", "shrinkage"):
        np.testing.assert_allclose(np.asarray(narrow[name], "f4"), wide[name], atol=2**-8 * float(np.abs(V).max()))


@every
def test_shrinkage_is_v_minus_prox(penalty):
    out = jitted(penalty, V, STEP)
    np.testing.assert_allclose(out["shrinkage"], V - out["prox"], atol=3e-7)


@every
def test_value_is_zero_at_zero_positive_elsewhere_and_even(penalty):
    assert float(penalty.value(jnp.zeros((4, 6)))) == 0
    value = jitted(penalty, V, STEP)["value"]
    assert value > 0
    assert value == jitted(penalty, -V, STEP)["value"]


@every
def test_prox_of_zero_is_zero(penalty):
    for step in np.float32([0, 0.3, 1e3]):
        out = jitted(penalty, 0 * V, step)
        assert not out["prox"].any()
        assert not out["shrinkage"].any()


@rows(FREE | {name: PENALTIES[name] for name in COUPLED})
def test_step_zero_is_the_identity(penalty):
    out = jitted(penalty, V, np.float32(0))
    assert np.array_equal(out["prox"], V)
    assert not out["shrinkage"].any()
    assert float(out["envelope"]) == 0


@rounding
@free
def test_prox_is_zero_exactly_at_the_threshold(penalty):
    steps = np.float32(10.0 ** np.linspace(-6, 2, len(edges(penalty)[1])))  # one compilation serves both tests
    t = thresholds(penalty, steps)
    at = np.zeros((len(steps), 4, 6), "f4")
    at[:, 0, 1], at[:, 2, 3] = t, -t
    out = values(penalty, at, steps)
    assert not out["prox"].any()
    np.testing.assert_array_equal(out["shrinkage"], at)
    assert (np.sign(values(penalty, at * np.float32(1.0001), steps)["prox"]) == np.sign(at)).all()


@pytest.mark.parametrize("penalty", [rv.TopK(k=1), rv.L1MinusL2(), rv.SLOPE((1.0,))], ids=lambda p: p.name)
def test_no_threshold_raises(penalty):
    with pytest.raises(NotImplementedError, match=f"{type(penalty).__name__} has no fixed threshold"):
        penalty.threshold(0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rv.MCP(0.0), "gamma must be finite and > 0, got 0.0"),
        (lambda: rv.SCAD(1.0), "gamma must be finite and > 1, got 1.0"),
        (lambda: rv.LogSum(-1.0), "epsilon must be finite and > 0, got -1.0"),
        (lambda: rv.CappedL1(np.inf), "theta must be finite and > 0, got inf"),
        (lambda: rv.L1MinusL2(1.5), r"alpha must be a number in \[0, 1\].*1.5|alpha must be in \[0, 1\], got 1.5"),
        (lambda: rv.SLOPE((1.0, 2.0)), r"weights must not increase, got \(1.0, 2.0\)"),
        (lambda: rv.SLOPE((1.0, -2.0)), r"weights must be finite and >= 0, got \(1.0, -2.0\)"),
        (lambda: rv.SLOPE(1.0), "weights must be a nonempty vector, got 1.0"),
        (lambda: rv.SLOPE((1.0,)).prox(V, 0.1), r"weights must be one for each component, got 1 for shape \(4, 6\)"),
    ],
)
def test_errors_name_the_argument(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@every
def test_step_and_fields_of_separable_penalties_broadcast(penalty):
    if not penalty.separable:
        return
    steps = np.float32([0.0, 0.1, 0.3, 1.0])
    rows = [proxes(penalty, v, step) for v, step in zip(V, steps, strict=True)]
    np.testing.assert_array_equal(proxes(penalty, V, steps[:, None]), rows)


WEIGHTS = np.linspace(-1, 2, 24).reshape(4, 6).astype("f4")


def scalars(penalty, v, step):
    out = outputs(penalty, v, step)
    sums = [jnp.sum(out[name] * WEIGHTS) for name in ("prox", "shrinkage")]
    return jnp.stack([*sums, out["value"], out["envelope"]])


threshold_slopes = jax.jit(jax.vmap(jax.grad(lambda p, step: p.threshold(step), (0, 1)), (None, 0)))
slopes = jax.jit(jax.vmap(jax.jacrev(scalars, (0, 1, 2), allow_int=True), (None, 0, 0)))


def edges(penalty):
    """Zero vectors, zero groups, tiny and huge entries, alone and mixed; step 0; exactly at the threshold."""
    steps = np.float32([0, 1e-30, 0.3, 1e3])
    shapes = np.stack([V, 0 * V, np.sign(V), np.eye(4, 6), np.where(np.arange(6) < 3, V, 0)])
    sizes = np.float32([1e-38, 1e-30, 1e-15, 1, 1e15, 1e30])[:, None, None, None]
    mixed = (10.0 ** np.linspace(-38, 30, 24)).reshape(1, 4, 6)
    v = np.repeat(np.concatenate([(sizes * shapes).reshape(-1, 4, 6), mixed]).astype("f4"), len(steps), 0)
    steps = np.tile(steps, len(v) // len(steps))
    t = getattr(penalty, "penalty", penalty).threshold(steps) if penalty in FREE.values() else 0 * steps
    exactly = np.asarray(t)[:, None, None] * (np.eye(4, 6) if penalty.name == "grouped" else np.sign(V))
    return np.concatenate([v, exactly.astype("f4")]), np.concatenate([steps, steps])


@rounding
@every
def test_values_and_gradients_are_finite_at_the_edges(penalty):
    v, steps = edges(penalty)
    constraint = penalty not in FREE.values()
    if constraint:  # the squared distance to a set may overflow float32, and P is infinite outside
        near = np.abs(v).max((1, 2)) < 1e16
        v, steps = v[near], steps[near]
    for name, value in values(penalty, v, steps).items():
        assert (name == "value" and constraint) or np.isfinite(value).all(), name
    for slope in jax.tree.leaves(slopes(penalty, v, steps)):
        assert slope.dtype == jax.dtypes.float0 or np.isfinite(slope).all()
    if not constraint:
        assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(threshold_slopes(penalty, steps)))


def test_groups_of_all_leaves_compete_for_a_global_share():
    rng = np.random.default_rng(0)
    small, large = rng.normal(size=(3, 8)).astype("f4"), 100 * rng.normal(size=(3, 8)).astype("f4")
    groups = rv.Grouped(rv.TopK(sparsity=0.5, scope="global"), "filters")
    kept = groups.prox_leaves([small, large], 0.0)
    assert [int((np.asarray(x) != 0).any(0).sum()) for x in kept] == [0, 8]
    left = groups.shrinkage_leaves([small, large], 0.0)
    for x, a, b in zip((small, large), kept, left, strict=True):
        np.testing.assert_array_equal(a + b, x)
    alone = rv.Grouped(rv.TopK(sparsity=0.5), "filters").prox_leaves([small, large], 0.0)
    assert [int((np.asarray(x) != 0).any(0).sum()) for x in alone] == [4, 4]
