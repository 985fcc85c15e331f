"""A function of a lane as a graph of numbers: jaxprs in, nodes out, each kept once; ``ptx`` writes them down.

What does not depend on w is computed once, outside the loop over steps (``ONCE``), or once per look (``LOOK``).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

ONCE, LOOK, STEP = 0, 1, 2
"""How often a number is computed: once a run, once between two looks at the residual, in each step."""

COMPARISONS = ("gt", "lt", "ge", "le", "eq", "ne")
UNARY = ("neg", "abs", "exp2", "rsqrt")
BINARY = ("add", "sub", "mul", "max", "min")

_SAME = {"broadcast_in_dim", "reshape", "squeeze", "copy", "copy_p", "reshard", "pvary", "optimization_barrier"}
"""Primitives that move nothing within a lane."""


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
        floats = name in {*UNARY, *BINARY, "div", "sqrt"} and dtype == "f32"
        whole = name in {"add", "sub", "mul", "max", "min"} and dtype in ("i32", "u32")
        logic = name in {"and", "or", "not", "xor"} and dtype in ("bool", "i32", "u32")
        if floats or whole or logic or name in COMPARISONS:
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
        if name in COMPARISONS:
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
