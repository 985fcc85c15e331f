"""Tests of the CUDA kernel, emulated in NumPy, against XLA's loop."""

import dataclasses
import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rvsmjax as rv
from rvsmjax.sweep._tiles import cuda, engines, loop, ptx
from rvsmjax.sweep._tiles import graph as graphs
from rvsmjax.sweep._tiles.step import Tile
from tests.sweep.machine import Machine
from tests.sweep.test_pallas import require_close
from tools.kernels import kernel_text

LAUNCHES = []


def emulated(text, blocks, operands, outputs):
    """Emulates ``cuda.launch`` on a CPU."""

    def launch(*arrays):
        written = [np.full(out.shape, 7, out.dtype) for out in outputs]  # uninitialised memory
        machine = Machine(text, blocks, [*(np.array(a) for a in arrays), *written])
        machine.run()
        LAUNCHES.append(text)
        return written

    return jax.pure_callback(launch, outputs, *operands)


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setattr(cuda, "launch", emulated)
    monkeypatch.setattr(engines, "_missing_requirement", lambda engine, device: "")
    LAUNCHES.clear()


def run(grid, engine="cuda", **options):
    return rv.run_sweep(grid, jax.random.key(3), devices=jax.devices()[:1], engine=engine, **options)


@pytest.mark.parametrize(
    ("penalty", "activation", "normalize"),
    [
        (["l1", "l0", "tl1"], "relu", True),
        pytest.param("tl1", "relu", False, marks=pytest.mark.slow),
        pytest.param("l1", "binary", True, marks=pytest.mark.slow),
    ],
)
def test_kernel_agrees_with_the_loop(machine, penalty, activation, normalize):
    grid = rv.Grid(penalty=penalty, d=5, k=[2, 10], seeds=12, activation=activation, normalize=normalize)
    result, want = run(grid), run(grid, "xla")
    assert LAUNCHES
    assert result.counts["converged"] == grid.size
    require_close(result, want)


@pytest.mark.parametrize("d", [pytest.param(1, marks=pytest.mark.slow), 65, pytest.param(130, marks=pytest.mark.slow)])
def test_a_lane_may_span_several_threads(machine, d):
    """One, two and four threads per lane; some threads hold one component less."""
    grid = rv.Grid(penalty="l1", d=d, k=1, beta=0.05, seeds=24)
    assert [cuda.threads_per_lane(n) for n in (1, 64, 65, 128, 129, 2048)] == [1, 1, 2, 2, 4, 32]
    result, want = run(grid), run(grid, "xla")
    require_close(result, want)
    assert LAUNCHES


@pytest.mark.slow
def test_warps_stop_independently(machine):
    """Lanes with k = 1 finish long before lanes with k = 30 in the same tile."""
    grid = rv.Grid(penalty="l1", d=5, k=[1, 30], seeds=64)
    result = run(grid)
    assert result.steps_executed < 0.7 * grid.size * result.data["steps"].max()
    assert result.steps_executed >= result.steps_needed


def test_a_lane_is_bit_identical_in_any_grid(machine):
    lane = {"penalty": "tl1", "d": 5, "k": 3}
    alone = run(rv.Grid(**lane, seeds=[5]))
    beside = run(rv.Grid(penalty=["l1", "tl1"], d=5, k=[1, 3], seeds=[9, 300, 5]))
    for name, values in alone.data.items():
        assert values.ravel()[0].tobytes() == beside.data[name][1, 0, 1, 0, 0, 0, 0, 2].tobytes(), name


def test_diverged_and_capped_lanes_are_reported(machine):
    grid = rv.Grid(penalty="l1", d=5, k=50, learning_rate=[0.1, 1e4], normalize=False, seeds=3)
    result, want = (run(grid, engine, max_steps=200) for engine in ("cuda", "xla"))
    assert result.counts == want.counts
    assert result.counts["diverged"] == result.counts["cap"] == 3


@dataclasses.dataclass(frozen=True)
class Log(rv.Penalty):
    """User penalty Σ log(1 + |x|), with primitives that no built-in penalty uses."""

    def value(self, x):
        return jnp.sum(jnp.log1p(jnp.abs(x)))

    def prox(self, v, step):
        size = jnp.abs(v)
        root = jnp.sqrt(jnp.maximum(jnp.square(1 + size) - 4 * step, 0))
        return jnp.sign(v) * jnp.where(size > step, jnp.maximum((size - 1 + root) / 2, 0), 0)

    def threshold(self, step):
        return step


def test_a_user_penalty_is_translated(machine):
    grid = rv.Grid(penalty=Log(), d=6, k=2, seeds=16)
    result, want = run(grid), run(grid, "xla")
    assert LAUNCHES
    require_close(result, want)


@dataclasses.dataclass(frozen=True)
class Untranslated(rv.L1):
    """User penalty with a primitive that the kernel does not support."""

    def shrinker(self, step):
        return lambda v: jnp.clip(v + 0 * jax.lax.lgamma(v), -step, step)


def test_an_untranslatable_penalty_falls_back_to_the_loop_with_one_warning(machine):
    with pytest.warns(UserWarning, match=r"^engine 'cuda' .*primitive lgamma .* untranslated$"):
        result = run(rv.Grid(penalty=Untranslated(), d=3, seeds=2))
    assert not LAUNCHES
    assert result.counts["converged"] == 2


def test_an_unsupported_device_falls_back_to_the_loop_with_one_warning():
    grid = rv.Grid(penalty="l1", d=3, seeds=2)
    with pytest.warns(UserWarning, match=r"^engine 'cuda' .*NVIDIA GPU, got .*'cpu'"):
        result = run(grid)
    np.testing.assert_array_equal(result.data["steps"], run(grid, "xla").data["steps"])


@dataclasses.dataclass
class Card:
    device_kind: str
    compute_capability: str
    platform: str = "gpu"


def test_engine_resolution_by_device(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert engines.resolve("auto", (Card("NVIDIA A100", "8.0"),)) == "xla"  # not in FASTEST
        monkeypatch.setitem(engines.FASTEST, "NVIDIA A100", "cuda")
        assert engines.resolve("auto", (Card("NVIDIA A100", "8.0"),)) == "cuda"
        assert engines.resolve("cuda", (Card("NVIDIA T4", "7.5"),)) == "cuda"
    for card in (Card("Tesla V100", "7.0"), Card("AMD Instinct MI300X", "gfx942"), Card("TPU v5e", "", "tpu")):
        with pytest.warns(UserWarning, match="^engine 'cuda'"):
            assert engines.resolve("cuda", (card,)) == "xla"


def test_a_missing_pallas_backend_is_reported(monkeypatch):
    monkeypatch.setattr(engines.pallas, "available", lambda: False)
    with pytest.warns(UserWarning, match="^engine 'pallas' .*Triton backend"):
        assert engines.resolve("pallas", (Card("NVIDIA H100", "9.0"),)) == "xla"


def test_a_step_of_l1_takes_at_most_nine_instructions_per_component():
    """Fused multiply-adds, min and max for selects, per-lane loop invariants hoisted."""
    text, components = kernel_text("l1", d=50)
    assert components == 50
    body = text[text.index("STEP:") : text.index("bra STEP")].splitlines()
    ops = [line.split()[1 if line.startswith("@") else 0] for line in body if line.endswith(";")]
    assert ops.count("min.f32") - 2 == 50 == ops.count("max.f32") - 1
    assert len(ops) <= 9 * 50
    assert not any(op.startswith(("div", "ld", "st", "bar")) for op in ops)


def test_graph_merges_common_subexpressions_and_hoists_loop_invariants():
    graph = graphs.Graph()
    w, k = graph.leaf(["%f0", "%f1"], "f32", graphs.STEP, vector=True), graph.leaf("%f2", "f32", graphs.ONCE)
    once = graph.node("mul", [k, k], "f32")
    assert once is graph.node("mul", [k, k], "f32")
    assert (once.level, once.vector) == (graphs.ONCE, False)
    total = graph.node("sum", [graph.node("mul", [w, once], "f32")], "f32", vector=False)
    assert (total.level, total.vector) == (graphs.STEP, False)


@pytest.mark.parametrize(
    ("penalty", "problem", "normalize"),
    [*itertools.product([rv.L1(), rv.L0(), rv.TransformedL1()], [rv.NoOverlapReLU, rv.NoOverlapBinary], [True, False])],
)
def test_kernel_steps_agree_with_the_loop(penalty, problem, normalize):
    """Sixteen steps from the same start for every kind; finished lanes keep their bits."""
    d, lanes = 7, 64
    rng = np.random.default_rng(4)
    w, w_star = rng.standard_normal((2, d, lanes)).astype(np.float32)
    w, w_star = w / np.linalg.norm(w, axis=0), w_star / np.linalg.norm(w_star, axis=0)
    k, lam, beta = np.float32([rng.integers(1, 9, lanes), rng.uniform(1e-4, 1e-2, lanes), rng.uniform(1e-2, 1, lanes)])
    like = jax.tree.map(lambda leaf: jnp.full(lanes, leaf), penalty)
    status = np.where(np.arange(lanes) % 3 == 0, rv.Status.CONVERGED, rv.Status.CAP).astype(np.int32)
    tile = Tile(problem(k), like, jnp.asarray(lam), beta, jnp.asarray(0.2 / (4 + beta)), jnp.asarray(w_star), normalize)
    steps, tol, cap = np.zeros(lanes, np.int32), jnp.float32(0), jnp.int32(16)

    text, consts = cuda.source(loop.check, 16, tile, jnp.asarray(w), jnp.asarray(steps), jnp.asarray(status), tol)
    result, ends, states, executed = np.full_like(w, 7), *np.full((3, lanes), 7, np.int32)
    operands = [w, w_star, steps, status, np.asarray([cap]), *(np.array(c).reshape(-1) for c in consts)]
    Machine(text, 1, [*operands, result, ends, states, executed]).run()

    want, _, want_steps, want_status = loop.run(tile, jnp.asarray(w), steps, status, loop.NO_LIMIT, tol, cap)
    np.testing.assert_array_equal(result[:, ::3], w[:, ::3])
    np.testing.assert_array_equal(ends, want_steps)
    np.testing.assert_array_equal(states, want_status)
    np.testing.assert_allclose(result, want, atol=2e-6 * np.abs(want).max())
    assert (executed == 16).all()


def test_the_reciprocal_of_a_computed_vector_follows_its_computation():
    graph, writer = graphs.Graph(), ptx.Writer(1, 2)
    w = graph.leaf(["%f0", "%f1"], "f32", graphs.STEP, vector=True)
    star = graph.leaf(["%f2", "%f3"], "f32", graphs.ONCE, vector=True)
    square = graph.node("mul", [star, star], "f32")
    writer.write([graph.node("div", [w, square], "f32")], into=["%f0", "%f1"], guard="%p0")
    assert writer.sections[graphs.ONCE] == []
    lines = [line.split()[0] for line in writer.sections[graphs.STEP]]
    assert [op for op in lines if op.startswith(("mul", "rcp"))][:2] == ["mul.f32", "rcp.rn.f32"]
