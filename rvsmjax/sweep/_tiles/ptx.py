"""Code generator from a kernel's expression graph to PTX, the assembly language of NVIDIA GPUs.

A tile of shape (d, lanes) is distributed over threads: each lane is held by ``threads`` adjacent threads, and each of
them keeps every ``threads``-th component in registers. Scalars of a lane take one register per thread and are computed
redundantly by all threads of the lane. Reductions over d run within a thread, then across the threads of the lane by
warp shuffles.

Products with a single use become fused multiply-adds. Inside loops, division and square root use the hardware's
approximations (2 ulp), which flush subnormals to zero.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

from rvsmjax.sweep._tiles.graph import BINARY, COMPARISONS, ONCE, STEP, Node, Unsupported

SUMS = 4
"""Independent partial sums per thread, to hide the latency of additions."""

_SUFFIX = {"f32": "f32", "i32": "s32", "u32": "u32", "bool": "pred"}
_PREFIX = {"f32": "f", "i32": "i", "u32": "u", "bool": "p", "b64": "d"}
_UNARY = {"neg": "neg.f32", "abs": "abs.f32", "exp2": "ex2.approx.ftz.f32", "rsqrt": "rsqrt.approx.ftz.f32"}


def literal(value: float) -> str:
    """Returns a float32 as an exact PTX literal."""
    return "0f" + struct.pack(">f", value).hex().upper()


class Writer:
    """Emitter of a thread's instructions, in one section per level; every scalar is computed once.

    Args:
      threads: threads per lane, a power of two up to 32.
      count: components per thread.
    """

    def __init__(self, threads: int, count: int) -> None:
        self.threads, self.count = threads, count
        self.sections: list[list[str]] = [[], [], []]
        self.allocated = {"f32": 0, "i32": 0, "u32": 0, "bool": 0, "b64": 0}
        self.registers: dict[Any, str] = {}
        self.uses: dict[Node, int] = {}

    def register(self, dtype: str) -> str:
        """Allocates a register."""
        self.allocated[dtype] += 1
        return f"%{_PREFIX[dtype]}{self.allocated[dtype] - 1}"

    def declarations(self) -> list[str]:
        """Returns the declarations of the allocated registers."""
        types = {**_SUFFIX, "b64": "b64"}
        return [f".reg .{types[name]} %{_PREFIX[name]}<{n + 1}>;" for name, n in self.allocated.items()]

    def write(self, roots: Sequence[Node], into: Sequence[str] = (), guard: str = "") -> list[str]:
        """Emits the roots and all they depend on; returns the registers of scalar roots.

        Args:
          roots: scalars, or one vector.
          into: destination registers of the vector; component i is read for the last time before it is overwritten.
          guard: predicate of the writes to ``into``.
        """
        self._count_uses(roots)
        for group in self._reductions(roots):
            self._reduce(group)
        scalars = [self._scalar(root) if not root.vector else "" for root in roots]
        for i in range(self.count):
            for root in roots:
                if root.vector:
                    self._assign(self._component(root, i, {}), into[i], guard)
        return scalars

    def _assign(self, name: str, into: str, guard: str) -> None:
        """Redirects the last instruction's result into a register, or emits a move."""
        out = self.sections[STEP]
        op, _, rest = out[-1].partition(" ")
        if rest.startswith(f"{name},"):
            out[-1] = f"@{guard} {op} {into}{rest[len(name) :]}"
        else:
            out.append(f"@{guard} mov.f32 {into}, {name};")

    def _count_uses(self, roots: Sequence[Node]) -> None:
        self.uses = {}
        stack, seen = list(roots), set()
        for root in roots:
            self.uses[root] = self.uses.get(root, 0) + 1
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            for arg in node.args:
                self.uses[arg] = self.uses.get(arg, 0) + 1
                stack.append(arg)

    def _reductions(self, roots: Sequence[Node]) -> list[list[Node]]:
        """Returns the pending reductions that the roots depend on, grouped by depth; a group can run in parallel."""
        depths: dict[Node, int] = {}

        def depth(node: Node) -> int:
            if node not in depths:
                below = max((depth(arg) for arg in node.args), default=0)
                depths[node] = below + (node.op == "sum")
            return depths[node]

        for root in roots:
            depth(root)
        sums = [node for node in depths if node.op == "sum" and node not in self.registers]
        levels = sorted({depths[node] for node in sums})
        return [[node for node in sums if depths[node] == level] for level in levels]

    def _reduce(self, group: list[Node]) -> None:
        """Emits a group of independent sums over the components of each lane."""
        partials: list[list[str]] = [[] for _ in group]
        out = self.sections[STEP]
        for i in range(self.count):
            local: dict[Node, str] = {}
            for node, sums in zip(group, partials, strict=True):
                term, last = node.args[0], sums[i % SUMS] if i >= SUMS else None
                fused = term.op == "mul" and term.vector and term not in local
                if last is None:
                    sums.append(self._component(term, i, local, fresh=True))
                elif fused:
                    a, b = (self._component(arg, i, local) for arg in term.args)
                    out.append(f"fma.rn.f32 {last}, {a}, {b}, {last};")
                else:
                    out.append(f"add.f32 {last}, {last}, {self._component(term, i, local)};")
        for sums in partials:
            while len(sums) > 1:
                half = (len(sums) + 1) // 2
                out += [f"add.f32 {a}, {a}, {b};" for a, b in zip(sums, sums[half:], strict=False)]
                del sums[half:]
        totals, offset = [sums[0] for sums in partials], self.threads // 2
        while offset:
            shuffled = [self.register("f32") for _ in totals]
            pairs = list(zip(totals, shuffled, strict=True))
            out += [f"shfl.sync.bfly.b32 {b}, {a}, {offset}, 31, 0xffffffff;" for a, b in pairs]
            out += [f"add.f32 {a}, {a}, {b};" for a, b in pairs]
            offset //= 2
        self.registers |= dict(zip(group, totals, strict=True))

    def _scalar(self, node: Node) -> str:
        """Returns the register or literal of a scalar, emitting it if needed."""
        if node.op == "constant":
            return self._literal(node)
        if node not in self.registers:
            self.registers[node] = (
                node.payload if node.op == "leaf" else self._operation(node, self._scalar, self.sections[node.level])
            )
        return self.registers[node]

    def _component(self, node: Node, i: int, local: dict[Node, str], fresh: bool = False) -> str:
        """Returns the register of component ``i``; if ``fresh``, one that the caller may overwrite."""
        if not node.vector:
            name = self._scalar(node)
        elif node.op == "leaf":
            name = node.payload[i]
        else:
            if node not in local:
                local[node] = self._operation(node, lambda arg: self._component(arg, i, local), self.sections[STEP])
            name = local[node]
        if fresh and (node.op in ("leaf", "constant") or not node.vector or self.uses.get(node, 0) > 1):
            copy = self.register("f32")
            self.sections[STEP].append(f"mov.f32 {copy}, {name};")
            return copy
        return name

    def _literal(self, node: Node) -> str:
        if node.dtype == "f32":
            return literal(node.payload)
        if node.dtype == "bool":
            register = self.register("bool")
            self.sections[ONCE].append(f"setp.eq.u32 {register}, 0, {int(not node.payload)};")
            return register
        return str(node.payload)

    def _operation(self, node: Node, read: Callable[[Node], str], out: list[str]) -> str:
        """Emits an operation and returns its result register."""
        op, args, dtype = node.op, node.args, node.dtype
        if dtype == "f32" and op in ("add", "sub"):
            fused = self._fma(node, read, out)
            if fused:
                return fused
        if dtype == "f32" and op == "div":
            return self._quotient(node, read, out)
        names = [read(arg) for arg in args]
        result = self.register(dtype)
        suffix = _SUFFIX[dtype]
        if dtype == "f32" and op in _UNARY:
            text = f"{_UNARY[op]} {result}, {names[0]};"
        elif op == "sqrt":
            text = f"sqrt.{'rn' if node.level == ONCE else 'approx.ftz'}.f32 {result}, {names[0]};"
        elif op == "log2":
            text = f"lg2.approx.ftz.f32 {result}, {names[0]};"
        elif op in BINARY:
            low = ".lo" if op == "mul" and dtype != "f32" else ""
            text = f"{op}{low}.{suffix} {result}, {names[0]}, {names[1]};"
        elif op in COMPARISONS:
            if args[0].dtype == "bool":
                raise Unsupported("a comparison of booleans")
            text = f"setp.{op}.{_SUFFIX[args[0].dtype]} {result}, {names[0]}, {names[1]};"
        elif op == "select" and dtype == "bool":
            raise Unsupported("a select between booleans")
        elif op == "select":
            kind = "f32" if dtype == "f32" else "b32"
            text = f"selp.{kind} {result}, {names[1]}, {names[2]}, {names[0]};"
        elif op in ("and", "or", "xor", "not"):
            text = f"{op}.{'pred' if dtype == 'bool' else 'b32'} {result}, {', '.join(names)};"
        elif op.startswith("bits_"):
            text = f"mov.b32 {result}, {names[0]};"
        elif op in ("from_i32", "from_u32") and dtype == "f32":
            text = f"cvt.rn.f32.{_SUFFIX[args[0].dtype]} {result}, {names[0]};"
        else:
            raise Unsupported(f"operation {op} with result {dtype}")
        out.append(text)
        return result

    def _fma(self, node: Node, read: Callable[[Node], str], out: list[str]) -> str:
        """Emits a sum or difference with a single-use product as a fused multiply-add; returns "" if there is none."""

        def fusible(arg: Node) -> bool:
            same_loop = arg.vector == node.vector and (node.vector or arg.level == node.level)
            return same_loop and arg.op == "mul" and self.uses.get(arg, 0) <= 1 and arg not in self.registers

        left, right = node.args
        if fusible(right):
            names = [read(factor) for factor in right.args]
            if node.op == "sub":
                # Negates a scalar factor if there is one: its negative is computed once per lane.
                i = 0 if not right.args[0].vector else 1
                names[i] = self._negated(right.args[i], names[i], out)
            addend = read(left)
        elif fusible(left):
            names = [read(factor) for factor in left.args]
            addend = read(right)
            addend = self._negated(right, addend, out) if node.op == "sub" else addend
        else:
            return ""
        result = self.register("f32")
        out.append(f"fma.rn.f32 {result}, {names[0]}, {names[1]}, {addend};")
        return result

    def _negated(self, node: Node, name: str, out: list[str]) -> str:
        """Returns the register of the negated value; scalars are negated once."""
        if node.op == "constant":
            return literal(-node.payload)
        key = ("negated", node)
        if node.vector or key not in self.registers:
            result = self.register("f32")
            (out if node.vector else self.sections[node.level]).append(f"neg.f32 {result}, {name};")
            if node.vector:
                return result
            self.registers[key] = result
        return self.registers[key]

    def _quotient(self, node: Node, read: Callable[[Node], str], out: list[str]) -> str:
        """Emits a division: IEEE-rounded at level ``ONCE``, elsewhere by an approximate reciprocal, computed once."""
        dividend, divisor = node.args
        names, result = [read(dividend), ""], self.register("f32")
        if divisor.op == "constant" and math.frexp(divisor.payload)[0] == 0.5:
            out.append(f"mul.f32 {result}, {names[0]}, {literal(1 / divisor.payload)};")
            return result
        names[1] = read(divisor)
        if node.level == ONCE:
            out.append(f"div.rn.f32 {result}, {names[0]}, {names[1]};")
            return result
        if divisor.op == "constant" and divisor.payload:
            out.append(f"mul.f32 {result}, {names[0]}, {literal(1 / divisor.payload)};")
            return result
        reciprocal = self._reciprocal(divisor, names[1], out)
        if dividend.op == "constant" and dividend.payload == 1:
            return reciprocal
        out.append(f"mul.f32 {result}, {names[0]}, {reciprocal};")
        return result

    def _reciprocal(self, node: Node, name: str, out: list[str]) -> str:
        """Returns the register of the reciprocal; scalars are inverted once."""
        key = ("reciprocal", node)
        if not node.vector and key in self.registers:
            return self.registers[key]
        result = self.register("f32")
        rounding = "rn" if node.level == ONCE else "approx.ftz"
        (out if node.vector else self.sections[node.level]).append(f"rcp.{rounding}.f32 {result}, {name};")
        if not node.vector:
            self.registers[key] = result
        return result
