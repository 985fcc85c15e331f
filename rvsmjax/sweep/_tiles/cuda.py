"""CUDA kernel that runs a tile to its limits: w stays in registers, and each warp stops independently.

The kernel is the iteration in ``step``, traced to a jaxpr and translated to PTX for any penalty and problem, so only
the driver compiles it. XLA launches it by custom call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rvsmjax.solve import Status
from rvsmjax.sweep._tiles import graph as graphs
from rvsmjax.sweep._tiles import ptx
from rvsmjax.sweep._tiles.step import Iteration, Tile

TARGET = "__gpu$xla.gpu.ptx"
"""XLA's custom call target for PTX kernels."""
CAPABILITY = 7, 5
"""Minimum compute capability: the oldest that JAX for CUDA 13 supports."""
HEADER = ".version 7.4\n.target sm_75\n.address_size 64"
"""The PTX version is old enough for every driver that JAX supports."""
BLOCK = 64
"""Threads per block; warps share nothing, so it only sets the granularity of scheduling."""
REGISTERS = 65_536
"""Registers of a multiprocessor."""
EXTRA_REGISTERS = 96
"""Registers per thread beyond w and w* that avoid spills; for fewer blocks per multiprocessor ptxas would use 255."""
COMPONENTS = 64
"""Most components per thread: w and w* then take half of its registers."""
WARP = 32

Check = Callable[..., tuple[Array, Array]]
"""(iteration, w, active, steps, status, tol) -> (steps, status): the convergence check, see ``loop.check``."""


def threads_per_lane(d: int) -> int:
    """Returns the number of threads per lane, a power of two."""
    return 1 << (-(-d // COMPONENTS) - 1).bit_length()


def fits(d: int, separable: bool, fixes_zero: bool, dtype: str) -> bool:
    """Returns whether the kernel supports this d, penalty and dtype."""
    threads = threads_per_lane(d)
    return separable and dtype == "float32" and threads <= WARP and (fixes_zero or d % threads == 0)


def lanes_per_warp(d: int) -> int:
    """Returns the number of lanes in a warp, which stop together."""
    return WARP // threads_per_lane(d)


def run(
    check: Check, every: int, tile: Tile, w: Array, steps: Array, status: Array, tol: Array, max_steps: Array
) -> tuple[Array, Array, Array, Array]:
    """Runs a tile until all lanes have finished; returns w, the steps executed summed over warps, steps, status.

    Args:
      check: convergence check.
      every: steps between checks.
      tile: tile of n lanes, a multiple of 64.
      w: iterates of shape (d, n).
      steps: steps so far, of shape (n,).
      status: status so far, of shape (n,).
      tol: convergence threshold.
      max_steps: step cap.

    Raises:
      graphs.Unsupported: the penalty or the problem uses a primitive that the kernel cannot express.
    """
    d, n = w.shape
    threads = threads_per_lane(d)
    text, consts = source(check, every, tile, w, steps, status, tol)
    per_lane = jax.ShapeDtypeStruct((n,), jnp.int32)
    operands = (w, tile.w_star, steps, status.astype(jnp.int32), *(jnp.reshape(c, -1) for c in (max_steps, *consts)))
    limits, steps, status, executed = launch(
        text, n * threads // BLOCK, operands, [jax.ShapeDtypeStruct(w.shape, w.dtype), per_lane, per_lane, per_lane]
    )
    # Every lane of a warp stores the warp's count.
    return limits, jnp.sum(executed[:: lanes_per_warp(d)], dtype=jnp.int32), steps, status.astype(jnp.int8)


def launch(text: str, blocks: int, operands: tuple[Array, ...], outputs: list[Any]) -> list[Array]:
    """Launches a kernel and returns its outputs; its parameters are the addresses of operands, then of outputs."""
    sizes = {"grid_x": blocks, "grid_y": 1, "grid_z": 1, "block_x": BLOCK, "block_y": 1, "block_z": 1}
    attributes = {name: np.int32(value) for name, value in {**sizes, "shared_mem_bytes": 0}.items()}
    call = jax.ffi.ffi_call(TARGET, outputs)
    return list(call(*operands, name=NAME, kernel_type="ptx", kernel_data=text, **attributes))


NAME = "rvsm"
"""Entry point of the kernel."""


def source(
    check: Check, every: int, tile: Tile, w: Array, steps: Array, status: Array, tol: Array
) -> tuple[str, list[Array]]:
    """Returns the kernel as PTX and its operands of shape (n,) or () after w, w*, steps, status and cap."""
    d, n = w.shape
    threads = threads_per_lane(d)
    count = -(-d // threads)
    iteration, mask = Iteration(tile), jax.ShapeDtypeStruct((n,), bool)
    step_jaxpr = jax.make_jaxpr(iteration.step)(w, mask)
    check_jaxpr = jax.make_jaxpr(lambda *args: check(iteration, *args))(w, mask, steps, status, tol)
    graph, writer = graphs.Graph(), ptx.Writer(threads, count)
    vector = [writer.register("f32") for _ in range(count)]
    star = graph.leaf([writer.register("f32") for _ in range(count)], "f32", graphs.ONCE, vector=True)
    consts: list[Array] = []
    leaves: list[graphs.Node] = []

    def operand(array: Any) -> graphs.Node:
        if array is tile.w_star:
            return star
        index = next((i for i, known in enumerate(consts) if known is array), None)
        if index is None:
            dtype = graphs.dtype_of(jax.typeof(array))
            if jnp.ndim(array) > 1 or dtype == "bool":
                raise graphs.Unsupported(f"a closed-over array of shape {jnp.shape(array)} and dtype {dtype}")
            index = len(consts)
            consts.append(array)
            leaves.append(graph.leaf(writer.register(dtype), dtype, graphs.ONCE))
        return leaves[index]

    tol_leaf = operand(tol)
    # Mutable registers of the lane; ``active`` is the predicate of a running lane.
    lane_steps, lane_status, cap, active = (writer.register(dtype) for dtype in ("i32", "i32", "i32", "bool"))
    state = [graph.leaf(active, "bool", graphs.CHECK)]
    state += [graph.leaf(register, "i32", graphs.CHECK) for register in (lane_steps, lane_status)]

    step_roots = graph.trace(
        step_jaxpr.jaxpr,
        map(operand, step_jaxpr.consts),
        [graph.leaf(vector, "f32", graphs.STEP, vector=True), graph.constant(True, "bool")],
    )
    writer.write(step_roots, into=vector, guard=active)  # finished lanes keep their bits
    body, writer.sections[graphs.STEP] = writer.sections[graphs.STEP], []
    check_roots = graph.trace(
        check_jaxpr.jaxpr,
        map(operand, check_jaxpr.consts),
        [graph.leaf(vector, "f32", graphs.STEP, vector=True), *state, tol_leaf],
    )
    new_steps, new_status = writer.write(check_roots)
    tail = writer.sections[graphs.STEP]

    # ``lane`` indexes the tile, ``part`` the threads of the lane, ``left`` the steps until the next check.
    thread, block, lane, part, left, total = (writer.register("u32") for _ in range(6))
    base, pointer = (writer.register("b64") for _ in range(2))
    more, in_range, any_active = (writer.register("bool") for _ in range(3))
    inputs = ["w", "w_star", "steps", "status", "cap", *(f"const{i}" for i in range(len(consts)))]
    outputs = ["w_out", "steps_out", "status_out", "executed"]

    def address(name: str, offset: str) -> list[str]:
        """Points ``pointer`` at an element of a parameter."""
        return [
            f"ld.param.u64 {base}, [{name}];",
            f"mul.wide.u32 {pointer}, {offset}, 4;",
            f"add.s64 {pointer}, {base}, {pointer};",
        ]

    def components(name: str, registers: list[str], store: bool) -> list[str]:
        """Loads or stores the components part, part + threads, … < d of this thread."""
        lines = [f"mad.lo.u32 {left}, {part}, {n}, {lane};", *address(name, left)]
        for i, register in enumerate(registers):
            partial = (i + 1) * threads > d
            guard = f"@{in_range} " if partial else ""
            if partial:
                lines.append(f"setp.lt.u32 {in_range}, {part}, {d - i * threads};")
                lines += [] if store else [f"mov.f32 {register}, 0f00000000;"]
            at = f"[{pointer}+{4 * n * threads * i}]"
            move = f"st.global.f32 {at}, {register};" if store else f"ld.global.f32 {register}, {at};"
            lines.append(guard + move)
        return lines

    def loads() -> list[str]:
        lines = components("w", vector, False) + components("w_star", star.payload, False)
        for name, register in (("steps", lane_steps), ("status", lane_status)):
            lines += [*address(name, lane), f"ld.global.s32 {register}, [{pointer}];"]
        lines += [f"ld.param.u64 {base}, [cap];", f"ld.global.s32 {cap}, [{base}];"]
        for i, (const, leaf) in enumerate(zip(consts, leaves, strict=True)):
            locate = address(f"const{i}", lane) if jnp.ndim(const) else [f"ld.param.u64 {pointer}, [const{i}];"]
            suffix = "f32" if leaf.dtype == "f32" else "s32" if leaf.dtype == "i32" else "u32"
            lines += [*locate, f"ld.global.{suffix} {leaf.payload}, [{pointer}];"]
        return lines

    code = [
        f"mov.u32 {thread}, %tid.x;",
        f"mov.u32 {block}, %ctaid.x;",
        f"mad.lo.u32 {thread}, {block}, {BLOCK}, {thread};",
        f"shr.u32 {lane}, {thread}, {threads.bit_length() - 1};",
        f"and.b32 {part}, {thread}, {threads - 1};",
        *loads(),
        f"mov.u32 {total}, 0;",
        *writer.sections[graphs.ONCE],
        "CHECK:",
        f"setp.eq.s32 {active}, {lane_status}, {int(Status.CAP)};",
        f"setp.lt.and.s32 {active}, {lane_steps}, {cap}, {active};",
        f"vote.sync.any.pred {any_active}, {active}, 0xffffffff;",
        f"@!{any_active} bra END;",
        *writer.sections[graphs.CHECK],
        f"mov.u32 {left}, {every};",
        "STEP:",
        *body,
        f"sub.u32 {left}, {left}, 1;",
        f"setp.ne.u32 {more}, {left}, 0;",
        f"@{more} bra STEP;",
        *tail,
        f"mov.b32 {lane_steps}, {new_steps};",
        f"mov.b32 {lane_status}, {new_status};",
        f"add.u32 {total}, {total}, {every};",
        "bra CHECK;",
        "END:",
        *components("w_out", vector, True),
    ]
    for name, register in (("steps_out", lane_steps), ("status_out", lane_status), ("executed", total)):
        code += [*address(name, lane), f"st.global.b32 [{pointer}], {register};"]
    code.append("ret;")
    blocks = REGISTERS // (BLOCK * min(255, 2 * count + EXTRA_REGISTERS))
    parameters = ", ".join(f".param .u64 {name}" for name in inputs + outputs)
    bounds = f".maxntid {BLOCK}, 1, 1\n.minnctapersm {blocks}"
    lines = [HEADER, f".visible .entry {NAME}({parameters})", bounds, "{", *writer.declarations(), *code, "}", ""]
    return "\n".join(lines), consts
