"""Nodes of a graph as PTX, the assembly language of NVIDIA GPUs.

A tile of shape (d, lanes) is spread over threads: a lane belongs to ``threads`` neighbouring threads, each of which
keeps every ``threads``-th of its components in registers. Arrays of shape (lanes,) are one register of each thread,
computed alike by all threads of a lane; sums over d are taken within a thread, then across the threads of a lane by
shuffles.

Products are fused into sums wherever they have no other use. Within loops, quotients and roots are the hardware's
approximations (two units in the last place); subnormal numbers count as zero there.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

from rvsmjax.sweep._tiles.graph import BINARY, COMPARISONS, ONCE, STEP, Node, Unsupported

SUMS = 4
"""Partial sums of a thread: an addition waits for the last one."""

_SUFFIX = {"f32": "f32", "i32": "s32", "u32": "u32", "bool": "pred"}
_PREFIX = {"f32": "f", "i32": "i", "u32": "u", "bool": "p", "b64": "d"}
_UNARY = {"neg": "neg.f32", "abs": "abs.f32", "exp2": "ex2.approx.ftz.f32", "rsqrt": "rsqrt.approx.ftz.f32"}


def literal(value: float) -> str:
    """Returns a float32 as PTX writes it, exactly."""
    return "0f" + struct.pack(">f", value).hex().upper()


class Writer:
    """Instructions of a thread, in sections; numbers that are asked for twice are computed once.

    Args:
      threads: of a lane, a power of two up to 32.
      count: components of a thread.
    """

    def __init__(self, threads: int, count: int) -> None:
        self.threads, self.count = threads, count
        self.sections: list[list[str]] = [[], [], []]
        self.used = {"f32": 0, "i32": 0, "u32": 0, "bool": 0, "b64": 0}
        self.done: dict[Any, str] = {}
        self.uses: dict[Node, int] = {}

    def register(self, dtype: str) -> str:
        """Returns a register of its own."""
        self.used[dtype] += 1
        return f"%{_PREFIX[dtype]}{self.used[dtype] - 1}"

    def declarations(self) -> list[str]:
        """Returns the declarations of all registers."""
        kinds = {**_SUFFIX, "b64": "b64"}
        return [f".reg .{kinds[name]} %{_PREFIX[name]}<{used + 1}>;" for name, used in self.used.items()]

    def write(self, roots: Sequence[Node], into: Sequence[str] = (), guard: str = "") -> list[str]:
        """Writes what the roots need; returns their registers, those of numbers of the lane.

        Args:
          roots: numbers of a lane, or one vector.
          into: registers that take the vector's components, once nothing else that is written reads them.
          guard: predicate under which they do.
        """
        self._count(roots)
        for group in self._sums(roots):
            self._add_up(group)
        scalars = [self._scalar(root) if not root.vector else "" for root in roots]
        for i in range(self.count):
            for root in roots:
                if root.vector:
                    self._move(self._component(root, i, {}), into[i], guard)
        return scalars

    def _move(self, name: str, into: str, guard: str) -> None:
        """Has the result of the last instruction written elsewhere, or moves it there."""
        out = self.sections[STEP]
        op, _, rest = out[-1].partition(" ")
        if rest.startswith(f"{name},"):
            out[-1] = f"@{guard} {op} {into}{rest[len(name) :]}"
        else:
            out.append(f"@{guard} mov.f32 {into}, {name};")

    def _count(self, roots: Sequence[Node]) -> None:
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

    def _sums(self, roots: Sequence[Node]) -> list[list[Node]]:
        """Returns the sums below the roots that are still to be written, those together that can be taken at once."""
        depths: dict[Node, int] = {}

        def depth(node: Node) -> int:
            if node not in depths:
                below = max((depth(arg) for arg in node.args), default=0)
                depths[node] = below + (node.op == "sum")
            return depths[node]

        for root in roots:
            depth(root)
        sums = [node for node in depths if node.op == "sum" and node not in self.done]
        levels = sorted({depths[node] for node in sums})
        return [[node for node in sums if depths[node] == level] for level in levels]

    def _add_up(self, group: list[Node]) -> None:
        """Writes sums over the components of each lane."""
        parts: list[list[str]] = [[] for _ in group]
        out = self.sections[STEP]
        for i in range(self.count):
            local: dict[Node, str] = {}
            for node, own in zip(group, parts, strict=True):
                term, last = node.args[0], own[i % SUMS] if i >= SUMS else None
                fused = term.op == "mul" and term.vector and term not in local
                if last is None:
                    own.append(self._component(term, i, local, fresh=True))
                elif fused:
                    a, b = (self._component(arg, i, local) for arg in term.args)
                    out.append(f"fma.rn.f32 {last}, {a}, {b}, {last};")
                else:
                    out.append(f"add.f32 {last}, {last}, {self._component(term, i, local)};")
        for own in parts:
            while len(own) > 1:
                half = (len(own) + 1) // 2
                out += [f"add.f32 {a}, {a}, {b};" for a, b in zip(own, own[half:], strict=False)]
                del own[half:]
        sums, distance = [own[0] for own in parts], self.threads // 2
        while distance:
            moved = [self.register("f32") for _ in sums]
            out += [
                f"shfl.sync.bfly.b32 {b}, {a}, {distance}, 31, 0xffffffff;" for a, b in zip(sums, moved, strict=True)
            ]
            out += [f"add.f32 {a}, {a}, {b};" for a, b in zip(sums, moved, strict=True)]
            distance //= 2
        self.done |= dict(zip(group, sums, strict=True))

    def _scalar(self, node: Node) -> str:
        """Returns the register, or the literal, of a number of the lane."""
        if node.op == "number":
            return self._literal(node)
        if node not in self.done:
            self.done[node] = (
                node.given if node.op == "leaf" else self._operation(node, self._scalar, self.sections[node.level])
            )
        return self.done[node]

    def _component(self, node: Node, i: int, local: dict[Node, str], fresh: bool = False) -> str:
        """Returns the register of a component, which nobody else writes to if it is to be ``fresh``."""
        if not node.vector:
            name = self._scalar(node)
        elif node.op == "leaf":
            name = node.given[i]
        else:
            if node not in local:
                local[node] = self._operation(node, lambda arg: self._component(arg, i, local), self.sections[STEP])
            name = local[node]
        if fresh and (node.op in ("leaf", "number") or not node.vector or self.uses.get(node, 0) > 1):
            own = self.register("f32")
            self.sections[STEP].append(f"mov.f32 {own}, {name};")
            return own
        return name

    def _literal(self, node: Node) -> str:
        if node.dtype == "f32":
            return literal(node.given)
        if node.dtype == "bool":
            register = self.register("bool")
            self.sections[ONCE].append(f"setp.eq.u32 {register}, 0, {int(not node.given)};")
            return register
        return str(node.given)

    def _operation(self, node: Node, read: Callable[[Node], str], out: list[str]) -> str:
        """Writes an operation and returns the register of its result."""
        op, args, dtype = node.op, node.args, node.dtype
        if dtype == "f32" and op in ("add", "sub"):
            fused = self._fused(node, read, out)
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
                raise Unsupported("a comparison of truth values")
            text = f"setp.{op}.{_SUFFIX[args[0].dtype]} {result}, {names[0]}, {names[1]};"
        elif op == "select" and dtype == "bool":
            raise Unsupported("a choice between truth values")
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
            raise Unsupported(f"the operation {op} to {dtype}")
        out.append(text)
        return result

    def _fused(self, node: Node, read: Callable[[Node], str], out: list[str]) -> str:
        """Writes a sum or difference with a product of no other use as one instruction; "" where there is none."""

        def only_here(arg: Node) -> bool:
            alike = arg.vector == node.vector and (node.vector or arg.level == node.level)
            return alike and arg.op == "mul" and self.uses.get(arg, 0) <= 1 and arg not in self.done

        left, right = node.args
        if only_here(right):
            factors, addend, minus = list(right.args), left, node.op == "sub"
            names = [read(factor) for factor in factors]
            if minus:
                # Of the number of the lane: its negative is computed less often.
                which = 0 if not factors[0].vector else 1
                names[which] = self._negative(factors[which], names[which], out)
            tail = read(addend)
        elif only_here(left):
            names = [read(factor) for factor in left.args]
            tail = read(right)
            tail = self._negative(right, tail, out) if node.op == "sub" else tail
        else:
            return ""
        result = self.register("f32")
        out.append(f"fma.rn.f32 {result}, {names[0]}, {names[1]}, {tail};")
        return result

    def _negative(self, node: Node, name: str, out: list[str]) -> str:
        """Returns the register of the negative of a number, kept where it is one of the lane."""
        if node.op == "number":
            return literal(-node.given)
        key = ("negative", node)
        if node.vector or key not in self.done:
            result = self.register("f32")
            (out if node.vector else self.sections[node.level]).append(f"neg.f32 {result}, {name};")
            if node.vector:
                return result
            self.done[key] = result
        return self.done[key]

    def _quotient(self, node: Node, read: Callable[[Node], str], out: list[str]) -> str:
        """Writes a division: exact where it is done once, else by the reciprocal, which is kept."""
        over, under = node.args
        names, result = [read(over), ""], self.register("f32")
        if under.op == "number" and math.frexp(under.given)[0] == 0.5:
            out.append(f"mul.f32 {result}, {names[0]}, {literal(1 / under.given)};")
            return result
        names[1] = read(under)
        if node.level == ONCE:
            out.append(f"div.rn.f32 {result}, {names[0]}, {names[1]};")
            return result
        if under.op == "number" and under.given:
            out.append(f"mul.f32 {result}, {names[0]}, {literal(1 / under.given)};")
            return result
        inverse = self._inverse(under, names[1], out)
        if over.op == "number" and over.given == 1:
            return inverse
        out.append(f"mul.f32 {result}, {names[0]}, {inverse};")
        return result

    def _inverse(self, node: Node, name: str, out: list[str]) -> str:
        key = ("inverse", node)
        if not node.vector and key in self.done:
            return self.done[key]
        result = self.register("f32")
        if node.level == ONCE:
            self.sections[ONCE].append(f"rcp.rn.f32 {result}, {name};")
        else:
            (out if node.vector else self.sections[node.level]).append(f"rcp.approx.ftz.f32 {result}, {name};")
        if not node.vector:
            self.done[key] = result
        return result
