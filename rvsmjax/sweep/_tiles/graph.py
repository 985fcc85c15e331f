"""Expression graph of a kernel: jaxprs in, a DAG with common subexpressions merged out; ``ptx`` emits it.

Every node has a level, the loop that computes it: values that do not depend on w are loop-invariant.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

ONCE, CHECK, STEP = 0, 1, 2
"""Levels: computed once per run, once per convergence check, in every step."""

COMPARISONS = ("gt", "lt", "ge", "le", "eq", "ne")
UNARY = ("neg", "abs", "exp2", "rsqrt")
BINARY = ("add", "sub", "mul", "max", "min")

_IDENTITY = {"broadcast_in_dim", "reshape", "squeeze", "copy", "copy_p", "reshard", "pvary", "optimization_barrier"}
"""Primitives that leave the values of a lane unchanged."""


class Unsupported(Exception):
    """A primitive, dtype or operand that the kernel cannot express."""


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """A value of the expression graph: a scalar per lane, or a vector with one value per component.

    Attributes:
      op: operation; ``leaf`` for a value already in registers, ``constant`` for a compile-time constant.
      args: operands.
      dtype: ``f32``, ``i32``, ``u32`` or ``bool``.
      vector: whether the value is a vector.
      level: ``ONCE``, ``CHECK`` or ``STEP``.
      payload: register(s) of a leaf, or value of a constant.
    """

    op: str
    args: tuple[Node, ...]
    dtype: str
    vector: bool
    level: int
    payload: Any = None


class Graph:
    """Nodes of a kernel, with common subexpressions merged."""

    def __init__(self) -> None:
        self.nodes: dict[Any, Node] = {}
        self.compared: dict[Node, tuple[str, tuple[Node, ...]]] = {}  # operands of comparisons before rewriting

    def constant(self, value: Any, dtype: str) -> Node:
        """Returns a compile-time constant."""
        value = {"f32": float, "bool": bool}.get(dtype, int)(value)
        return self._intern(("constant", repr(value), dtype), Node("constant", (), dtype, False, ONCE, value))

    def leaf(self, registers: Any, dtype: str, level: int, vector: bool = False) -> Node:
        """Returns a value in registers: one name for a scalar, one per component of the thread for a vector."""
        return Node("leaf", (), dtype, vector, level, registers)

    def node(self, op: str, args: Sequence[Node], dtype: str, vector: bool | None = None) -> Node:
        """Returns the result of an operation."""
        args = tuple(args)
        if op == "mul" and args[0] is args[1] and args[0].op == "sqrt":
            return args[0].args[0]
        rewritten = self._defer_scale(op, args) if dtype in ("f32", "bool") else None
        if rewritten is not None:
            return rewritten
        level = STEP if op == "sum" else max(arg.level for arg in args)
        is_vector = any(arg.vector for arg in args) if vector is None else vector
        return self._intern((op, *map(id, args), dtype), Node(op, args, dtype, is_vector, level))

    def _defer_scale(self, op: str, args: tuple[Node, ...]) -> Node | None:
        """Rewrites an operation on v/‖w‖ so that the division comes last; returns None if that does not apply.

        The scale 1/‖w‖ then merges with the next per-lane factor, which saves a multiplication per component for l1 and
        l0.
        """
        if op == "mul":
            # (v·s)·p = v·(s·p)
            for product, other in (args, args[::-1]):
                vector, scale = _split_scale(product)
                if scale is not None and not other.vector:
                    return self.node("mul", [vector, self.node("mul", [scale, other], "f32")], "f32")
            return None
        if op == "abs":
            vector, scale = _split_scale(args[0])
            return None if scale is None else self.node("mul", [self.node("abs", [vector], "f32"), scale], "f32")
        if op in ("min", "max", "gt"):
            for i in (0, 1) if op != "gt" else (0,):
                (vector, scale), other = _split_scale(args[i]), args[1 - i]
                if scale is not None and not other.vector:
                    bound = self.node("mul", [other, scale.args[1]], "f32")  # other/scale
                    if op == "gt":
                        return self.node("gt", [vector, bound], "bool")
                    return self.node("mul", [self.node(op, [vector, bound], "f32"), scale], "f32")
            return None
        if op == "select" and args[1].op == "constant" and args[1].payload == 0:
            vector, scale = _split_scale(args[2])
            return (
                None
                if scale is None
                else self.node("mul", [self.node(op, [args[0], args[1], vector], "f32"), scale], "f32")
            )
        return None

    def _intern(self, key: Any, node: Node) -> Node:
        return self.nodes.setdefault(key, node)

    def trace(self, jaxpr: Any, consts: Iterable[Node], args: Iterable[Node]) -> list[Node]:
        """Returns the outputs of a jaxpr.

        Raises:
          Unsupported: a primitive that the kernel cannot express.
        """
        env: dict[Any, Node] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

        def read(atom: Any) -> Node:
            return self.constant(atom.val, dtype_of(atom.aval)) if hasattr(atom, "val") else env[atom]

        for equation in jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            inner = next((equation.params[n] for n in ("jaxpr", "call_jaxpr") if n in equation.params), None)
            if inner is not None and equation.primitive.name not in ("while", "scan", "cond"):
                closed = getattr(inner, "jaxpr", inner)
                inner_consts = [
                    self.constant(np.asarray(c).item(), dtype_of(jax.typeof(c))) for c in getattr(inner, "consts", ())
                ]
                outputs = self.trace(closed, inner_consts, inputs)
            else:
                outputs = [self._translate(equation, inputs)]
            env.update(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _translate(self, equation: Any, args: list[Node]) -> Node:
        """Returns the output of one equation."""
        name, params = equation.primitive.name, equation.params
        aval = equation.outvars[0].aval
        dtype = dtype_of(aval)
        if name in _IDENTITY:
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
            return self._convert(args[0], dtype)
        if name == "bitcast_convert_type":
            return self.node(f"bits_{args[0].dtype}", args, dtype)
        if name == "clamp":
            return self.node("min", [self.node("max", [args[1], args[0]], dtype), args[2]], dtype)
        if name == "select_n" and len(args) == 3:
            return self._select(args[0], args[2], args[1], dtype)
        if name == "sign" and dtype == "f32":
            zero, one, less = (self.constant(v, dtype) for v in (0, 1, -1))
            above, below = (self.node(op, [args[0], zero], "bool") for op in ("gt", "lt"))
            return self._select(above, one, self._select(below, less, zero, dtype), dtype)
        if name in ("exp", "log"):
            scale = self.constant(math.log2(math.e) if name == "exp" else math.log(2), dtype)
            if name == "exp":
                return self.node("exp2", [self.node("mul", [args[0], scale], dtype)], dtype)
            return self.node("mul", [self.node("log2", args, dtype), scale], dtype)
        if name == "is_finite":
            return self.node("lt", [self.node("abs", args, "f32"), self.constant(math.inf, "f32")], "bool")
        floats = name in {*UNARY, *BINARY, "div", "sqrt"} and dtype == "f32"
        integers = name in {"add", "sub", "mul", "max", "min"} and dtype in ("i32", "u32")
        logic = name in {"and", "or", "not", "xor"} and dtype in ("bool", "i32", "u32")
        if floats or integers or logic or name in COMPARISONS:
            return self._fold(name, args, dtype)
        raise Unsupported(f"primitive {name} with result {aval}")

    def _fold(self, name: str, args: list[Node], dtype: str) -> Node:
        """Returns an operation, evaluated here if all operands are float constants."""
        if all(arg.op == "constant" for arg in args) and dtype == "f32":
            values = [np.float32(arg.payload) for arg in args]
            function = {"div": np.divide, "sqrt": np.sqrt, "neg": np.negative, "abs": np.abs, "max": np.maximum}
            function |= {"min": np.minimum, "add": np.add, "sub": np.subtract, "mul": np.multiply}
            if name in function:
                with np.errstate(all="ignore"):
                    return self.constant(function[name](*values), dtype)
        node = self.node(name, args, dtype)
        if name in COMPARISONS:
            self.compared[node] = name, tuple(args)
        return node

    def _select(self, where: Node, yes: Node, no: Node, dtype: str) -> Node:
        """Returns ``yes if where else no``, as a minimum or maximum if equivalent."""
        if where.op == "constant":
            return yes if where.payload else no
        op, args = self.compared.get(where, ("", ()))
        if dtype == "f32" and op in ("gt", "lt") and args == (no, yes):
            return self.node("min" if op == "gt" else "max", [no, yes], dtype)
        return yes if yes is no else self.node("select", [where, yes, no], dtype)

    def _convert(self, arg: Node, dtype: str) -> Node:
        if arg.dtype == dtype or {arg.dtype, dtype} == {"i32", "u32"}:
            return arg
        if arg.op == "constant":
            return self.constant(arg.payload, dtype)
        if arg.dtype == "bool":
            return self._select(arg, self.constant(1, dtype), self.constant(0, dtype), dtype)
        return self.node(f"from_{arg.dtype}", [arg], dtype)


def _split_scale(node: Node) -> tuple[Node, Node | None]:
    """Splits vector · 1/√(scalar) into its two factors; returns (node, None) for any other node."""
    if node.op == "mul":
        for vector, scale in (node.args, node.args[::-1]):
            inverse = scale.op == "div" and scale.args[0].op == "constant" and scale.args[0].payload == 1
            if vector.vector and not scale.vector and inverse and scale.args[1].op == "sqrt":
                return vector, scale
    return node, None


def dtype_of(aval: Any) -> str:
    """Returns the register dtype of an array; int8 is held in 32 bits.

    Raises:
      Unsupported: a dtype that the kernel has no registers for.
    """
    names = {"float32": "f32", "int32": "i32", "uint32": "u32", "bool": "bool", "int8": "i32"}
    try:
        return names[np.dtype(aval.dtype).name]
    except KeyError:
        raise Unsupported(f"dtype {aval.dtype}") from None
