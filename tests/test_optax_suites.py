"""optax's own tests of optimizers and wrappers, with our transformations in each of its optimizers.

optax installs its tests. Here every optimizer that they make is a chain with one of our transformations.
"""

import functools
import importlib.util
import inspect
import os
import types
import warnings
from unittest import mock

import jax
import jax.numpy as jnp
import optax
import pytest
from optax._src import alias

import rvsmjax as rv


class Jax:
    """JAX with a version that optax's tests do not skip: they compare versions as strings."""

    __version__ = "9"

    def __getattr__(self, name):
        return getattr(jax, name)


def full(params):
    """A pattern without zeros: some of these tests start at zero."""
    return None if params is None else jax.tree.map(lambda leaf: jnp.ones_like(leaf, bool), params)


LINKS = {
    "rvsm": lambda mask, _: rv.rvsm(rv.L0(), 1e-8, 1e-2, mask),
    "rvsm_stored": lambda mask, _: rv.rvsm(rv.L1(), 1e-8, 1e-2, mask, update_every=1, certificate=True),
    "admm": lambda mask, _: rv.admm(rv.L0(), 1e-8, 1e-2, mask=mask),
    "keep_zeros": lambda mask, params: rv.keep_zeros(full(params), mask),
}


def make_link(name):
    """Returns a transformation of the vectors and scalars of these tests, too, but not of complex numbers."""

    def init(params):
        mask = jax.tree.map(lambda x: jnp.issubdtype(x.dtype, jnp.floating), params)
        return LINKS[name](mask if any(jax.tree.leaves(mask)) else None, params).init(params)

    return LINKS[name](None, None)._replace(init=init)


NAMES = [
    name
    for name, make in vars(alias).items()
    if inspect.isfunction(make) and make.__module__ == alias.__name__ and not name.startswith("_")
]


FAIL_ANYWAY = {
    "test_microbatch_with_explicit_sharding_sharded",
    "test_state_sharding_type_init_match_update_lbfgs",
    "test_state_sharding_type_preserved_with_jit_lbfgs",
}
"""Without our transformations, too, on JAX 0.10, where optax skips them."""


def chained(make, link):
    """Returns the optimizers of ``make``, each in a chain with a link."""

    @functools.wraps(make)
    def chain(*args, **kwargs):
        links = (make_link(link), make(*args, **kwargs))
        return optax.chain(*(links if link != "keep_zeros" else links[::-1]))

    return chain


def suite(module, name, link):
    """Returns the test case ``name`` of optax's ``module``, whose optimizers are chains with a link."""
    spec = importlib.util.find_spec(module)
    if spec is None:
        pytest.skip(f"optax installs no {module}", allow_module_level=True)
    loaded = importlib.util.module_from_spec(spec)
    chains = {name: chained(getattr(alias, name), link) for name in NAMES}
    exported = {name: chain for name, chain in chains.items() if hasattr(optax, name)}
    with mock.patch.multiple(optax, **exported), mock.patch.dict(os.environ), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optax's own, on keys
        spec.loader.exec_module(loaded)
    loaded.alias = types.SimpleNamespace(**{**vars(alias), **chains})
    loaded.jax = Jax()
    case = getattr(loaded, name)
    for test in vars(case).keys() & FAIL_ANYWAY:
        delattr(case, test)
    return case


SUITES = [
    ("optax._src.sharding_test", "ShardingTest"),
    ("optax.transforms._conditionality_test", "ConditionalityTest"),
    ("optax.transforms._accumulation_test", "AccumulationTest"),
    ("optax._src.alias_test", "AliasTest"),
]
for link in LINKS:
    for module, name in SUITES:
        case = pytest.mark.filterwarnings("ignore:no leaf is selected")(suite(module, name, link))  # complex numbers
        quick = (name, link) == ("ConditionalityTest", "rvsm")
        globals()[f"{name}_{link}"] = case if quick else pytest.mark.slow(case)
del case
