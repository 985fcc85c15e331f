"""Frozen dataclasses as pytrees, unflattened without their constructors."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from rvsmjax._pytree import Module


@dataclasses.dataclass(frozen=True)
class Line(Module):
    slope: float = 1.0
    offset: float = 0.0
    label: str = dataclasses.field(default="line", metadata={"static": True})

    def __post_init__(self):
        if not isinstance(self.slope, jax.Array) and self.slope < 0:
            raise ValueError(f"slope must be >= 0, got {self.slope!r}")

    def __call__(self, x):
        return self.slope * x + self.offset


def test_numbers_are_leaves_and_static_fields_structure():
    leaves, structure = jax.tree.flatten(Line(2.0, 3.0, "steep"))
    assert leaves == [2.0, 3.0]
    assert jax.tree.unflatten(structure, leaves) == Line(2.0, 3.0, "steep")
    assert structure != jax.tree.structure(Line(2.0, 3.0, "other"))
    assert structure == jax.tree.structure(Line(5.0, 7.0, "steep"))


def test_paths_carry_the_names_of_the_fields():
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(Line())]
    assert paths == [".slope", ".offset"]


def test_rebuilding_does_not_call_the_constructor():
    marker = object()
    assert jax.tree.map(lambda _: marker, Line()).slope is marker
    assert jax.tree.map(lambda x: -x, Line(2.0)).slope == -2.0
    assert jax.tree.map(lambda _: None, Line()).offset is None
    with pytest.raises(ValueError, match="slope"):
        dataclasses.replace(Line(), slope=-1.0)


def test_instances_stay_frozen_after_a_round_trip():
    line = jax.tree.map(lambda x: x, Line())
    with pytest.raises(dataclasses.FrozenInstanceError):
        line.slope = 5.0


def test_new_leaves_do_not_retrace_but_a_new_static_field_does():
    traces = []

    @jax.jit
    def apply(line, x):
        traces.append(line.label)
        return line(x)

    assert [float(apply(Line(s, 1.0), 3.0)) for s in (1.0, 2.0, 4.0)] == [4.0, 7.0, 13.0]
    assert traces == ["line"]
    apply(Line(1.0, 1.0, "other"), 3.0)
    assert traces == ["line", "other"]


def test_vmap_and_grad_reach_the_leaves():
    lines = Line(jnp.arange(3.0), jnp.ones(3))
    assert jax.vmap(lambda line: line(2.0))(lines).tolist() == [1.0, 3.0, 5.0]
    slope = jax.grad(lambda line: line(5.0))(Line(2.0, 1.0))
    assert isinstance(slope, Line)
    assert (float(slope.slope), float(slope.offset), slope.label) == (5.0, 1.0, "line")


def test_modules_nest():
    @dataclasses.dataclass(frozen=True)
    class Pair(Module):
        first: Line
        second: Line

    assert jax.tree.leaves(Pair(Line(1.0, 2.0), Line(3.0, 4.0))) == [1.0, 2.0, 3.0, 4.0]
