"""``run_lanes`` against one lane at a time."""

import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rvsmjax as rv
from rvsmjax.lanes import queue
from rvsmjax.lanes import run as module

D = 5
ONE, TWO = jax.devices()[:1], jax.devices()[:2]


def init(numbers):
    return {"w": numbers["a"] + jnp.arange(D, dtype="float32"), "t": jnp.int32(0), "key": jax.random.key(numbers["n"])}


def step(state, numbers):
    key, used = jax.random.split(state["key"])
    w = 0.9 * state["w"] + numbers["a"] * jnp.sum(state["w"]) / D + 0.1 * jax.random.normal(used, (D,))
    return {"w": jnp.sin(w), "t": state["t"] + 1, "key": key}


def done(state, numbers):
    return state["t"] >= numbers["n"]


def measure(state, numbers):
    return state["w"], numbers["a"] * state["t"]


def drawn(lanes, seed=0):
    """Numbers of lanes whose lengths have a heavy tail; some take no step."""
    rng = np.random.default_rng(seed)
    lengths = np.minimum(10 * rng.pareto(1.2, lanes), 900).astype("int32")
    return {"a": jnp.asarray(rng.uniform(0.1, 1, lanes), "float32"), "n": jnp.asarray(lengths)}


@jax.jit
@jax.vmap
def one_by_one(numbers):
    end = jax.lax.while_loop(lambda s: ~done(s, numbers), lambda s: step(s, numbers), init(numbers))
    return measure(end, numbers)


def run(numbers, **options):
    return rv.run_lanes(init, step, done, numbers, **{"max_steps": 1000, "measure": measure} | options)


@pytest.mark.parametrize(
    ("lanes", "widths"),
    [(1, (1,)), (15, (15, 1)), (24, (24, 3, 1)), (1000, (1000, 125, 15, 1)), (10_000, (1024, 128, 16, 2, 1))],
)
def test_no_width_is_larger_than_the_number_of_lanes(lanes, widths):
    assert module._widths(jax.ShapeDtypeStruct((3,), "float32"), lanes, "cpu") == widths


@pytest.mark.parametrize(
    ("lanes", "widths", "devices"), [(1, None, ONE), (3, (2,), None), (70, (64, 7, 2), ONE), (700, (16, 4), TWO)]
)
def test_it_agrees_with_a_loop_of_each_lane(lanes, widths, devices):
    numbers = drawn(lanes)
    result = run(numbers, widths=widths, devices=devices)
    np.testing.assert_array_equal(result.steps, numbers["n"])
    assert result.done.all()
    chex.assert_trees_all_close(result.values, one_by_one(numbers), rtol=1e-5, atol=1e-5)
    assert result.executed >= result.steps.sum()


def test_idle_steps_are_few():
    numbers = drawn(3000)
    vmapped = 3000 * int(numbers["n"].max())
    result = run(numbers, widths=(64, 16, 4), devices=ONE)
    waste = float(result.executed) / float(result.steps.sum())
    assert waste < 1.25 < 0.1 * vmapped / float(result.steps.sum())
    # Lanes of equal length end together: nothing is lost but the empty slots of the last tile.
    equal = run({"a": numbers["a"], "n": jnp.full(3000, 50)}, widths=(64, 16, 4), devices=ONE)
    assert float(equal.executed) == 50 * 3000
    longer = run(numbers | {"n": 10 * numbers["n"]}, devices=jax.devices()[:2], max_steps=10_000)
    assert float(longer.executed) < 1.07 * float(longer.steps.sum())


def test_a_lane_has_the_same_bits_among_any_others():
    """One width, so one compiled step; other lanes, another order, other devices."""
    numbers = drawn(300)
    whole = run(numbers, widths=(16,), devices=ONE)
    order = np.random.default_rng(1).permutation(300)
    moved = run(jax.tree.map(lambda x: x[order], numbers), widths=(16,), devices=jax.devices()[2:5])
    chex.assert_trees_all_equal(moved.values, jax.tree.map(lambda x: x[order], whole.values))
    few = run(jax.tree.map(lambda x: x[7:12], numbers), widths=(16,), devices=TWO)
    chex.assert_trees_all_equal(few.values, jax.tree.map(lambda x: x[7:12], whole.values))


def test_it_runs_on_the_devices_named():
    result = run(drawn(20), widths=(4,), devices=jax.devices()[3:4])
    assert result.steps.devices() == {jax.devices()[3]}


SOLVER = """
import jax
import jax.numpy as jnp
import rvsmjax as rv
jax.config.update("jax_num_cpu_devices", 2)
matrix = 9 * jnp.eye(8) + jax.random.normal(jax.random.key(0), (8, 8))
step = lambda x, shift: jnp.linalg.solve(matrix + shift * jnp.eye(8), x)
lanes = rv.run_lanes(lambda _: jnp.ones(8), step, lambda x, _: jnp.sum(x) > 99, jnp.linspace(0, 1, 400), max_steps=200)
print(len(jax.devices()), lanes.steps.sum())
"""


@pytest.mark.robustness
def test_lanes_that_solve_linear_systems_on_every_core_end():
    """LAPACK's batches of matrices wait for a free thread: with two threads and two devices, for ever."""
    environment = os.environ | {"NPROC": "2"}
    done = subprocess.run(
        [sys.executable, "-c", SOLVER], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["2", str(400 * 200)]


def test_fewer_devices_than_threads_for_linear_algebra(monkeypatch):
    monkeypatch.setenv("NPROC", "3")
    devices, one = tuple(jax.devices()[:4]), jax.ShapeDtypeStruct((), jnp.float32)
    eye, solve = 2 * jnp.eye(3), lambda a: jax.scipy.linalg.solve(a, a, assume_a="pos")
    start, same, never = (lambda _: eye), (lambda x, _: x), (lambda x, _: x[0, 0] < 0)
    state = jax.eval_shape(start, one)

    def used(init=start, step=same, measure=same, devices=devices):
        return len(module._without_deadlock(queue.Loop(init, step, never, measure), state, one, devices))

    assert used() == 4
    assert used(step=lambda x, _: solve(x)) == 2
    assert used(init=lambda _: jnp.linalg.cholesky(eye)) == 2
    assert used(init=lambda _: jax.lax.linalg.householder_product(eye, jnp.ones(3))) == 2
    assert used(measure=lambda x, _: jax.lax.cond(x[0, 0] > 0, jnp.linalg.inv, jnp.negative, x)) == 2
    assert used(step=lambda x, _: solve(x), devices=devices[:2]) == 2
    monkeypatch.setenv("NPROC", "1")
    assert used(step=lambda x, _: solve(x)) == 1


def test_the_limit_ends_a_lane():
    numbers = drawn(200)
    result = run(numbers, max_steps=20, widths=(16,), devices=ONE)
    np.testing.assert_array_equal(result.steps, np.minimum(numbers["n"], 20))
    np.testing.assert_array_equal(result.done, numbers["n"] <= 20)


def test_without_measure_the_state_is_the_result():
    numbers = drawn(20)
    result = run(numbers, measure=None, widths=(16,), devices=ONE)
    np.testing.assert_array_equal(result.values["t"], numbers["n"])
    assert result.values["key"].dtype == jax.random.key(0).dtype


def test_a_state_may_have_arrays_without_entries():
    init = lambda n: {"x": n["a"], "none": jnp.zeros((0, 3))}  # noqa: E731
    step = lambda s, n: s | {"x": s["x"] - 1}  # noqa: E731
    result = rv.run_lanes(init, step, lambda s, n: s["x"] <= 0, {"a": jnp.arange(5.0)}, max_steps=9)
    assert result.values["none"].shape == (5, 0, 3)
    assert result.steps.tolist() == [0, 1, 2, 3, 4]


def test_other_numbers_compile_nothing():
    traces = []

    def noted(state, numbers):
        traces.append(0)
        return step(state, numbers)

    counts = []
    for seed, limit in ((0, 1000), (1, 1000), (2, 30)):
        rv.run_lanes(init, noted, done, drawn(50, seed), max_steps=limit, widths=(16,), devices=ONE)
        counts.append(len(traces))
    assert counts[0] == counts[2] > 0


def test_a_chain_that_is_not_ours_over_a_grid():
    """MCP behind Adam on a least-squares problem: each lane equals the loop of its own."""
    rng = np.random.default_rng(0)
    A, y = jnp.asarray(rng.normal(size=(30, 8)), "float32"), jnp.asarray(rng.normal(size=30), "float32")

    def chain(numbers):
        return optax.chain(rv.rvsm(rv.MCP(2.0), numbers["lam"], numbers["beta"]), optax.adam(0.05))

    def first(numbers):
        w = jnp.zeros(8)
        return w, chain(numbers).init(w), jnp.array(jnp.inf)

    def descend(state, numbers):
        w, state, _ = state
        updates, state = chain(numbers).update(A.T @ (A @ w - y) / 30, state, w)
        return optax.apply_updates(w, updates), state, jnp.max(jnp.abs(updates))

    def rests(state, numbers):
        return state[2] < 1e-4

    numbers = rv.all_combinations(lam=[0.01, 0.1], beta=[0.1, 1.0, 2.0])
    result = rv.run_lanes(
        first, descend, rests, numbers, max_steps=2000, measure=lambda s, n: rv.sparse_params(s[1], s[0]), widths=(8,)
    )
    for i in range(6):
        mine = jax.tree.map(lambda x, i=i: x[i], numbers)
        state = jax.lax.while_loop(
            lambda c, mine=mine: (c[1] < 2000) & ~rests(c[0], mine),
            lambda c, mine=mine: (descend(c[0], mine), c[1] + 1),
            (first(mine), 0),
        )[0]
        np.testing.assert_allclose(result.values[i], rv.sparse_params(state[1], state[0]), atol=2e-4)
    assert 0 < int((result.values == 0).sum()) < 48


def test_float64(x64):
    numbers = drawn(30) | {"a": jnp.linspace(0.1, 1.0, 30)}

    def wide(numbers):
        return init(numbers) | {"w": numbers["a"] + jnp.arange(D, dtype="float64")}

    result = rv.run_lanes(wide, step, done, numbers, max_steps=1000, widths=(8,), devices=ONE)
    assert result.values["w"].dtype == "float64"
    want, _ = jax.vmap(lambda n: measure(jax.lax.fori_loop(0, n["n"], lambda _, s: step(s, n), wide(n)), n))(numbers)
    np.testing.assert_allclose(result.values["w"], want, atol=1e-10)


@pytest.mark.parametrize("mask", [[0, 1, 1, 0, 1], [0, 0, 0], [1, 1]])
def test_chosen_entries_come_first(mask):
    mask = np.array(mask, bool)
    index, count = queue._chosen(jnp.asarray(mask))
    assert count == mask.sum()
    np.testing.assert_array_equal(index[: int(count)], np.flatnonzero(mask))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"numbers": {}}, ValueError, r"numbers must be arrays with a common leading axis of at least one lane, got"),
        ({"numbers": {"a": jnp.ones(3), "n": jnp.ones(2)}}, ValueError, r"got shapes \[\(3,\), \(2,\)\]"),
        ({"numbers": {"a": jnp.ones(0), "n": jnp.ones(0, int)}}, ValueError, r"at least one lane, got shapes"),
        ({"max_steps": 0}, ValueError, r"max_steps must be a whole number >= 1, got 0"),
        ({"widths": (4, 16)}, ValueError, r"widths must decrease, got \[4, 16\]"),
        ({"widths": ()}, ValueError, r"widths must decrease, got \[\]"),
        ({"devices": ()}, ValueError, r"devices must name at least one device, got \(\)"),
        ({"devices": jax.devices()[0]}, TypeError, r"devices must be a sequence of devices, got CpuDevice"),
        ({"widths": 4}, TypeError, r"widths must be a sequence of whole numbers, got 4"),
        ({"measure": 3}, TypeError, r"measure must be a function, got 3"),
        ({"init": 3}, TypeError, r"init must be a function, got 3"),
        ({"done": lambda s, n: s["w"] > 0}, TypeError, r"done must return one boolean, got ShapeDtypeStruct\("),
        ({"done": lambda s, n: s["t"]}, TypeError, r"done must return one boolean, got"),
        (
            {"step": lambda s, n: s | {"w": s["w"][:2]}},
            TypeError,
            r"step must keep the shapes and dtypes of init's state, got float32\[2\] for float32\[5\] at \['w'\]",
        ),
        ({"step": lambda s, n: s["w"]}, TypeError, r"step must return a state of the structure of init's, got"),
    ],
)
def test_bad_input_is_one_line(changes, error, message):
    given = {"init": init, "step": step, "done": done, "numbers": drawn(3), "max_steps": 10} | changes
    with pytest.raises(error, match=message) as caught:
        rv.run_lanes(**given)
    assert "\n" not in str(caught.value)


def test_combinations():
    numbers = rv.all_combinations(lam=[0.1, 0.2], key=jax.random.split(jax.random.key(0), 3))
    np.testing.assert_allclose(numbers["lam"], [0.1, 0.1, 0.1, 0.2, 0.2, 0.2])
    assert (numbers["key"][1] == numbers["key"][4]).all()
    with pytest.raises(ValueError, match=r"lam must be one-dimensional and not empty, got shape \(0,\)"):
        rv.all_combinations(lam=[])
