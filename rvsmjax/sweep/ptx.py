"""A function of a lane as PTX, the assembly language of NVIDIA GPUs: jaxprs in, instructions out.

A tile of shape (d, lanes) is spread over threads: a lane belongs to ``threads`` neighbouring threads, each of which
keeps every ``threads``-th of its components in registers. Arrays of shape (lanes,) are one register of each thread,
computed alike by all threads of a lane; sums over d are taken within a thread, then across the threads of a lane by
shuffles. What does not depend on w is computed once, outside of the loop over steps.

Products are fused into sums wherever they have no other use. Within loops, quotients and roots are the hardware's
approximations (two units in the last place); subnormal numbers count as zero there.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

ONCE, LOOK, STEP = 0, 1, 2
"""How often a number is computed: once a run, once between two looks at the residual, in each step."""

SUMS = 4
"""Partial sums of a thread: an addition waits for the last one."""

_SUFFIX = {"f32": "f32", "i32": "s32", "u32": "u32", "bool": "pred"}
_SAME = {"broadcast_in_dim", "reshape", "squeeze", "copy", "copy_p", "reshard", "pvary", "optimization_barrier"}
"""Primitives that move nothing within a lane."""
_COMPARISONS = {"gt": "gt", "lt": "lt", "ge": "ge", "le": "le", "eq": "eq", "ne": "ne"}
_UNARY = {"neg": "neg.f32", "abs": "abs.f32", "exp2": "ex2.approx.ftz.f32", "rsqrt": "rsqrt.approx.ftz.f32"}
_BINARY = {"add": "add", "sub": "sub", "mul": "mul", "max": "max", "min": "min"}


class Unsupported(Exception):
    """A primitive, or a form of one, that has no translation."""


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """A number of each lane, or of each component of each lane, and how it is computed.

    Attributes:
      op: name of an operation; ``leaf`` where it is in registers already, ``number`` where it is known.
      args: what it is computed from.
      dtype: ``f32``, ``i32``, ``u32`` or ``bool``.
      vector: whether each component has its own.
      level: ``ONCE``, ``LOOK`` or ``STEP``.
      given: the registers of a leaf, or the value of a number.
    """

    op: str
    args: tuple[Node, ...]
    dtype: str
    vector: bool
    level: int
    given: Any = None


class Graph:
    """Nodes, each kept once however often it is asked for."""

    def __init__(self) -> None:
        self.nodes: dict[Any, Node] = {}
        self.compared: dict[Node, tuple[str, tuple[Node, ...]]] = {}  # comparisons as they were asked for

    def number(self, value: Any, dtype: str) -> Node:
        """Returns a known value."""
        value = {"f32": float, "bool": bool}.get(dtype, int)(value)
        return self._kept(("number", repr(value), dtype), Node("number", (), dtype, False, ONCE, value))

    def leaf(self, registers: Any, dtype: str, level: int, vector: bool = False) -> Node:
        """Returns what is in registers: one name, or one for each component of a thread."""
        return Node("leaf", (), dtype, vector, level, registers)

    def node(self, op: str, args: Sequence[Node], dtype: str, vector: bool | None = None) -> Node:
        """Returns the result of an operation."""
        args = tuple(args)
        if op == "mul" and args[0] is args[1] and args[0].op == "sqrt":
            return args[0].args[0]
        homogeneous = self._scaled_last(op, args) if dtype in ("f32", "bool") else None
        if homogeneous is not None:
            return homogeneous
        level = STEP if op == "sum" else max(arg.level for arg in args)
        own = any(arg.vector for arg in args) if vector is None else vector
        return self._kept((op, *map(id, args), dtype), Node(op, args, dtype, own, level))

    def _scaled_last(self, op: str, args: tuple[Node, ...]) -> Node | None:
        """Returns an operation on a vector that is divided by the lane's length, the division last; else None.

        The quotient then is one with the next number of the lane: a step of l1 or l0 has one product less a component.
        """
        if op == "mul":
            # (v·s)·p = v·(s·p)
            for product, other in (args, args[::-1]):
                vector, scale = _scaled(product)
                if scale is not None and not other.vector:
                    return self.node("mul", [vector, self.node("mul", [scale, other], "f32")], "f32")
            return None
        if op == "abs":
            vector, scale = _scaled(args[0])
            return None if scale is None else self.node("mul", [self.node("abs", [vector], "f32"), scale], "f32")
        if op in ("min", "max", "gt"):
            for place in (0, 1) if op != "gt" else (0,):
                (vector, scale), other = _scaled(args[place]), args[1 - place]
                if scale is not None and not other.vector:
                    bound = self.node("mul", [other, scale.args[1]], "f32")  # other/scale
                    if op == "gt":
                        return self.node("gt", [vector, bound], "bool")
                    return self.node("mul", [self.node(op, [vector, bound], "f32"), scale], "f32")
            return None
        if op == "select" and args[1].op == "number" and args[1].given == 0:
            vector, scale = _scaled(args[2])
            return (
                None
                if scale is None
                else self.node("mul", [self.node(op, [args[0], args[1], vector], "f32"), scale], "f32")
            )
        return None

    def _kept(self, key: Any, node: Node) -> Node:
        return self.nodes.setdefault(key, node)

    def trace(self, jaxpr: Any, consts: Iterable[Node], args: Iterable[Node]) -> list[Node]:
        """Returns the results of a jaxpr.

        Raises:
          Unsupported: a primitive without translation.
        """
        known: dict[Any, Node] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

        def read(atom: Any) -> Node:
            return self.number(atom.val, dtype_of(atom.aval)) if hasattr(atom, "val") else known[atom]

        for equation in jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            inner = next((equation.params[n] for n in ("jaxpr", "call_jaxpr") if n in equation.params), None)
            if inner is not None and equation.primitive.name not in ("while", "scan", "cond"):
                closed = getattr(inner, "jaxpr", inner)
                held = [
                    self.number(np.asarray(c).item(), dtype_of(jax.typeof(c))) for c in getattr(inner, "consts", ())
                ]
                outputs = self.trace(closed, held, inputs)
            else:
                outputs = [self._equation(equation, inputs)]
            known.update(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, args: list[Node]) -> Node:
        """Returns the result of one equation."""
        name, params = equation.primitive.name, equation.params
        aval = equation.outvars[0].aval
        dtype = dtype_of(aval)
        if name in _SAME:
            return args[0]
        if name == "reduce_sum" and tuple(params["axes"]) == (0,) and equation.invars[0].aval.ndim == 2:
            return self.node("sum", args, dtype, vector=False)
        if name == "integer_pow" and params["y"] in (1, 2, 3, 4):
            square = self.node("mul", [args[0]] * 2, dtype)
            return {1: args[0], 2: square, 3: self.node("mul", [square, args[0]], dtype)}.get(
                params["y"], self.node("mul", [square] * 2, dtype)
            )
        if name == "square":
            return self.node("mul", [args[0]] * 2, dtype)
        if name == "convert_element_type":
            return self._converted(args[0], dtype)
        if name == "bitcast_convert_type":
            return self.node(f"bits_{args[0].dtype}", args, dtype)
        if name == "clamp":
            return self.node("min", [self.node("max", [args[1], args[0]], dtype), args[2]], dtype)
        if name == "select_n" and len(args) == 3:
            return self._selected(args[0], args[2], args[1], dtype)
        if name == "sign" and dtype == "f32":
            zero, one, less = (self.number(v, dtype) for v in (0, 1, -1))
            above, below = (self.node(op, [args[0], zero], "bool") for op in ("gt", "lt"))
            return self._selected(above, one, self._selected(below, less, zero, dtype), dtype)
        if name in ("exp", "log"):
            scale = self.number(math.log2(math.e) if name == "exp" else math.log(2), dtype)
            if name == "exp":
                return self.node("exp2", [self.node("mul", [args[0], scale], dtype)], dtype)
            return self.node("mul", [self.node("log2", args, dtype), scale], dtype)
        if name == "is_finite":
            return self.node("lt", [self.node("abs", args, "f32"), self.number(math.inf, "f32")], "bool")
        floats = name in {*_UNARY, *_BINARY, "div", "sqrt"} and dtype == "f32"
        whole = name in {"add", "sub", "mul", "max", "min"} and dtype in ("i32", "u32")
        logic = name in {"and", "or", "not", "xor"} and dtype in ("bool", "i32", "u32")
        if floats or whole or logic or name in _COMPARISONS:
            return self._folded(name, args, dtype)
        raise Unsupported(f"the primitive {name} of {aval}")

    def _folded(self, name: str, args: list[Node], dtype: str) -> Node:
        """Returns an operation, done here where all its numbers are known."""
        if all(arg.op == "number" for arg in args) and dtype == "f32":
            values = [np.float32(arg.given) for arg in args]
            function = {"div": np.divide, "sqrt": np.sqrt, "neg": np.negative, "abs": np.abs, "max": np.maximum}
            function |= {"min": np.minimum, "add": np.add, "sub": np.subtract, "mul": np.multiply}
            if name in function:
                with np.errstate(all="ignore"):
                    return self.number(function[name](*values), dtype)
        node = self.node(name, args, dtype)
        if name in _COMPARISONS:
            self.compared[node] = name, tuple(args)
        return node

    def _selected(self, where: Node, yes: Node, no: Node, dtype: str) -> Node:
        """Returns a choice; the lesser or the greater of two numbers where it is that."""
        if where.op == "number":
            return yes if where.given else no
        op, args = self.compared.get(where, ("", ()))
        if dtype == "f32" and op in ("gt", "lt") and args == (no, yes):
            return self.node("min" if op == "gt" else "max", [no, yes], dtype)
        return yes if yes is no else self.node("select", [where, yes, no], dtype)

    def _converted(self, arg: Node, dtype: str) -> Node:
        if arg.dtype == dtype or {arg.dtype, dtype} == {"i32", "u32"}:
            return arg
        if arg.op == "number":
            return self.number(arg.given, dtype)
        if arg.dtype == "bool":
            return self._selected(arg, self.number(1, dtype), self.number(0, dtype), dtype)
        return self.node(f"from_{arg.dtype}", [arg], dtype)


def _scaled(node: Node) -> tuple[Node, Node | None]:
    """Returns the factors of a vector times the inverse of a length of the lane, else the node itself and None."""
    if node.op == "mul":
        for vector, scale in (node.args, node.args[::-1]):
            inverse = scale.op == "div" and scale.args[0].op == "number" and scale.args[0].given == 1
            if vector.vector and not scale.vector and inverse and scale.args[1].op == "sqrt":
                return vector, scale
    return node, None


def dtype_of(aval: Any) -> str:
    """Returns the name of an array's dtype here; small whole numbers are kept in words.

    Raises:
      Unsupported: a dtype without registers.
    """
    names = {"float32": "f32", "int32": "i32", "uint32": "u32", "bool": "bool", "int8": "i32"}
    try:
        return names[np.dtype(aval.dtype).name]
    except KeyError:
        raise Unsupported(f"the dtype {aval.dtype}") from None


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
        prefix = {"f32": "f", "i32": "i", "u32": "u", "bool": "p", "b64": "d"}[dtype]
        return f"%{prefix}{self.used[dtype] - 1}"

    def declarations(self) -> list[str]:
        """Returns the declarations of all registers."""
        kinds = {
            "f32": ("f32", "f"),
            "i32": ("s32", "i"),
            "u32": ("u32", "u"),
            "bool": ("pred", "p"),
            "b64": ("b64", "d"),
        }
        return [f".reg .{kind} %{kinds[name][1]}<{self.used[name] + 1}>;" for name, (kind, _) in kinds.items()]

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
            return "0f" + struct.pack(">f", node.given).hex().upper()
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
        elif op in _BINARY:
            low = ".lo" if op == "mul" and dtype != "f32" else ""
            text = f"{_BINARY[op]}{low}.{suffix} {result}, {names[0]}, {names[1]};"
        elif op in _COMPARISONS:
            if args[0].dtype == "bool":
                raise Unsupported("a comparison of truth values")
            text = f"setp.{_COMPARISONS[op]}.{_SUFFIX[args[0].dtype]} {result}, {names[0]}, {names[1]};"
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
            return "0f" + struct.pack(">f", -node.given).hex().upper()
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
            out.append(f"mul.f32 {result}, {names[0]}, 0f{struct.pack('>f', 1 / under.given).hex().upper()};")
            return result
        names[1] = read(under)
        if node.level == ONCE:
            out.append(f"div.rn.f32 {result}, {names[0]}, {names[1]};")
            return result
        if under.op == "number" and under.given:
            out.append(f"mul.f32 {result}, {names[0]}, 0f{struct.pack('>f', 1 / under.given).hex().upper()};")
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
