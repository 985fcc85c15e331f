"""The run of a tile as one CUDA kernel: w stays in registers from the start to the limit, and warps stop alone.

The kernel is made of the iteration in ``step`` itself, translated to PTX, whatever the penalty and the problem; so it
needs no compiler but that of the driver. XLA takes it as it takes the kernels of JAX's own libraries.
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
"""XLA's custom call for kernels that are given as PTX."""
CAPABILITY = 7, 5
"""Least compute capability, that of the oldest cards that JAX for CUDA 13 runs on."""
HEADER = ".version 7.4\n.target sm_75\n.address_size 64"
"""A version of PTX that every driver for such cards reads."""
BLOCK = 64
"""Threads of a block: warps share nothing, so their number only says how finely the card is filled."""
REGISTERS = 65_536
"""Of a multiprocessor."""
BESIDE = 96
"""Registers of a thread beside w and w* for which nothing is spilled; asked for fewer blocks the compiler takes 255."""
COMPONENTS = 64
"""Most components of a lane in one thread: with w* as many, half of its registers."""
WARP = 32

Judge = Callable[..., tuple[Array, Array]]
"""(iteration, w, going, steps, status, tol) -> (steps, status): a look at the residual."""


def threads_of_a_lane(d: int) -> int:
    """Returns the number of threads that share a lane: a power of two."""
    return 1 << (-(-d // COMPONENTS) - 1).bit_length()


def fits(d: int, separable: bool, zeros_stay: bool, dtype: str) -> bool:
    """Tells whether tiles of this d, with this kind of penalty, run in the kernel."""
    threads = threads_of_a_lane(d)
    return separable and dtype == "float32" and threads <= WARP and (zeros_stay or d % threads == 0)


def lanes_of_a_warp(d: int) -> int:
    """Returns the number of lanes that stop together."""
    return WARP // threads_of_a_lane(d)


def run(
    judge: Judge, every: int, tile: Tile, w: Array, steps: Array, status: Array, tol: Array, max_steps: Array
) -> tuple[Array, Array, Array, Array]:
    """Runs a tile to its end, warp by warp: w, the steps run summed over warps, steps, status.

    Args:
      judge: what is done between steps.
      every: steps between two looks.
      tile: of n lanes, a multiple of 64.
      w: of shape (d, n).
      steps: of shape (n,), so far.
      status: of shape (n,), so far.
      tol: residual at which a lane ends.
      max_steps: step cap.

    Raises:
      graphs.Unsupported: the penalty or the problem uses a primitive without translation.
    """
    d, n = w.shape
    threads = threads_of_a_lane(d)
    text, consts = source(judge, every, tile, w, steps, status, tol)
    whole = jax.ShapeDtypeStruct((n,), jnp.int32)
    operands = (w, tile.w_star, steps, status.astype(jnp.int32), *(jnp.reshape(c, -1) for c in (max_steps, *consts)))
    found, ends, states, executed = launch(
        text, n * threads // BLOCK, operands, [jax.ShapeDtypeStruct(w.shape, w.dtype), whole, whole, whole]
    )
    # Each warp tells its steps in the places of its lanes.
    return found, jnp.sum(executed[:: lanes_of_a_warp(d)], dtype=jnp.int32), ends, states.astype(jnp.int8)


def launch(text: str, blocks: int, operands: tuple[Array, ...], outputs: list[Any]) -> list[Array]:
    """Returns what a kernel makes of arrays, whose addresses it takes in their order, then those of the outputs."""
    sizes = {"grid_x": blocks, "grid_y": 1, "grid_z": 1, "block_x": BLOCK, "block_y": 1, "block_z": 1}
    words = {name: np.int32(value) for name, value in {**sizes, "shared_mem_bytes": 0}.items()}
    call = jax.ffi.ffi_call(TARGET, outputs)
    return list(call(*operands, name=NAME, kernel_type="ptx", kernel_data=text, **words))


NAME = "rvsm"
"""Of the kernel in its text."""


def source(
    judge: Judge, every: int, tile: Tile, w: Array, steps: Array, status: Array, tol: Array
) -> tuple[str, list[Array]]:
    """Returns the kernel as PTX, and the arrays of shape (n,) or () that it takes behind w, w*, steps, status, cap."""
    d, n = w.shape
    threads = threads_of_a_lane(d)
    count = -(-d // threads)
    iteration, going = Iteration(tile), jax.ShapeDtypeStruct((n,), bool)
    traced = [
        jax.make_jaxpr(iteration.step)(w, going),
        jax.make_jaxpr(lambda *args: judge(iteration, *args))(w, going, steps, status, tol),
    ]
    graph, writer = graphs.Graph(), ptx.Writer(threads, count)
    vector = [writer.register("f32") for _ in range(count)]
    star = graph.leaf([writer.register("f32") for _ in range(count)], "f32", graphs.ONCE, vector=True)
    consts: list[Array] = []
    leaves: list[graphs.Node] = []

    def constant(array: Any) -> graphs.Node:
        if array is tile.w_star:
            return star
        place = next((i for i, known in enumerate(consts) if known is array), None)
        if place is None:
            dtype = graphs.dtype_of(jax.typeof(array))
            if jnp.ndim(array) > 1 or dtype == "bool":
                raise graphs.Unsupported(f"an array of shape {jnp.shape(array)} and dtype {dtype} that a step takes")
            place = len(consts)
            consts.append(array)
            leaves.append(graph.leaf(writer.register(dtype), dtype, graphs.ONCE))
        return leaves[place]

    bound = constant(tol)
    # Registers of the lane that change: its steps, its status, whether it goes on.
    own_steps, own_status, cap, active = (writer.register(kind) for kind in ("i32", "i32", "i32", "bool"))
    numbers = {name: graph.leaf(r, "i32", graphs.LOOK) for name, r in (("steps", own_steps), ("status", own_status))}
    on = graph.leaf(active, "bool", graphs.LOOK)

    stepped = graph.trace(
        traced[0].jaxpr,
        map(constant, traced[0].consts),
        [graph.leaf(vector, "f32", graphs.STEP, vector=True), graph.number(True, "bool")],
    )
    writer.write(stepped, into=vector, guard=active)  # lanes that have ended stand still, to the bit
    body, writer.sections[graphs.STEP] = writer.sections[graphs.STEP], []
    judged = graph.trace(
        traced[1].jaxpr,
        map(constant, traced[1].consts),
        [graph.leaf(vector, "f32", graphs.STEP, vector=True), on, numbers["steps"], numbers["status"], bound],
    )
    ends = writer.write(judged)
    look = writer.sections[graphs.STEP]

    # Positions: lane of the tile, place among the threads of the lane, addresses.
    thread, block, lane, part, left, total = (writer.register("u32") for _ in range(6))
    base, place = (writer.register("b64") for _ in range(2))
    more, under, any_on = (writer.register("bool") for _ in range(3))
    inputs = ["w", "w_star", "steps", "status", "cap", *(f"const{i}" for i in range(len(consts)))]
    outputs = ["w_out", "steps_out", "status_out", "executed"]

    def address(name: str, at: str) -> list[str]:
        return [
            f"ld.param.u64 {base}, [{name}];",
            f"mul.wide.u32 {place}, {at}, 4;",
            f"add.s64 {place}, {base}, {place};",
        ]

    def components(name: str, registers: list[str], store: bool) -> list[str]:
        """Moves the components of this thread: part, part + threads, …, those that there are."""
        lines = [f"mad.lo.u32 {left}, {part}, {n}, {lane};", *address(name, left)]
        for i, register in enumerate(registers):
            partial = (i + 1) * threads > d
            guard = f"@{under} " if partial else ""
            if partial:
                lines += [f"setp.lt.u32 {under}, {part}, {d - i * threads};", f"mov.f32 {register}, 0f00000000;"][
                    : 1 + (not store)
                ]
            at = f"[{place}+{4 * n * threads * i}]"
            lines.append(
                f"{guard}st.global.f32 {at}, {register};" if store else f"{guard}ld.global.f32 {register}, {at};"
            )
        return lines

    def loads() -> list[str]:
        lines = components("w", vector, False) + components("w_star", star.given, False)
        for name, register in (("steps", own_steps), ("status", own_status)):
            lines += [*address(name, lane), f"ld.global.s32 {register}, [{place}];"]
        lines += [f"ld.param.u64 {base}, [cap];", f"ld.global.s32 {cap}, [{base}];"]
        for i, (const, leaf) in enumerate(zip(consts, leaves, strict=True)):
            where = address(f"const{i}", lane) if jnp.ndim(const) else [f"ld.param.u64 {place}, [const{i}];"]
            kind = "f32" if leaf.dtype == "f32" else "s32" if leaf.dtype == "i32" else "u32"
            lines += [*where, f"ld.global.{kind} {leaf.given}, [{place}];"]
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
        "LOOK:",
        f"setp.eq.s32 {active}, {own_status}, {int(Status.CAP)};",
        f"setp.lt.and.s32 {active}, {own_steps}, {cap}, {active};",
        f"vote.sync.any.pred {any_on}, {active}, 0xffffffff;",
        f"@!{any_on} bra END;",
        *writer.sections[graphs.LOOK],
        f"mov.u32 {left}, {every};",
        "STEP:",
        *body,
        f"sub.u32 {left}, {left}, 1;",
        f"setp.ne.u32 {more}, {left}, 0;",
        f"@{more} bra STEP;",
        *look,
        f"mov.b32 {own_steps}, {ends[0]};",
        f"mov.b32 {own_status}, {ends[1]};",
        f"add.u32 {total}, {total}, {every};",
        "bra LOOK;",
        "END:",
        *components("w_out", vector, True),
    ]
    for name, register in (("steps_out", own_steps), ("status_out", own_status), ("executed", total)):
        code += [*address(name, lane), f"st.global.b32 [{place}], {register};"]
    code.append("ret;")
    blocks = REGISTERS // (BLOCK * min(255, 2 * count + BESIDE))
    parameters = ", ".join(f".param .u64 {name}" for name in inputs + outputs)
    launch = f".maxntid {BLOCK}, 1, 1\n.minnctapersm {blocks}"
    lines = [HEADER, f".visible .entry {NAME}({parameters})", launch, "{", *writer.declarations(), *code, "}", ""]
    return "\n".join(lines), consts
