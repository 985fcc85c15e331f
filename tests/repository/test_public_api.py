"""``import rvsmjax as rv`` provides exactly the documented names, each with a docstring."""

import inspect
import types

import pytest

import rvsmjax as rv

NAMES = {
    "adaptive_hard_threshold",
    "admm",
    "cosine_sparsity",
    "cubic_sparsity",
    "keep_zeros",
    "lam_for_sparsity",
    "load_npz",
    "lower_sweep",
    "load_safetensors",
    "save_npz",
    "save_safetensors",
    "from_bcoo",
    "to_bcoo",
    "nm_violations",
    "NM",
    "sparsity_mask",
    "__version__",
    "angle",
    "Grid",
    "Grouped",
    "L0",
    "L1",
    "moreau_envelope",
    "NoOverlapBinary",
    "NoOverlapReLU",
    "OneLayerProblem",
    "Problem",
    "Penalty",
    "run_sweep",
    "run_lanes",
    "all_combinations",
    "Lanes",
    "rvsm",
    "scalars",
    "Solution",
    "solve",
    "sparse_params",
    "sparsify",
    "sparsity",
    "Status",
    "SweepResult",
    "TopK",
    "MCP",
    "SCAD",
    "LHalf",
    "LogSum",
    "CappedL1",
    "L1MinusL2",
    "SLOPE",
    "TransformedL1",
    "unit_sphere",
}
METHODS = {
    "ACDCState",
    "ac_dc",
    "bregman",
    "BregmanState",
    "elsa",
    "ElsaState",
    "proximal",
    "ProximalState",
    "safe",
    "sparse_start",
    "DynamicSparsityState",
    "GradualPruningState",
    "gradual_pruning",
    "ReparametrizedState",
    "rigl",
    "soft_threshold_reparametrization",
    "sparse_evolution",
    "SRSTEState",
    "sr_ste",
}
"""Names of ``rv.methods``."""
DUNDERS = set(vars(types.ModuleType("empty"))) | {"__builtins__", "__cached__", "__file__", "__path__"}


def test_the_public_names_are_the_documented_ones():
    public = {name for name, x in vars(rv).items() if not isinstance(x, types.ModuleType) and name not in DUNDERS}
    assert {name for name in public if not name.startswith("_") or name == "__version__"} == NAMES
    assert {name for name in public if name.startswith("_")} == {"__version__"}


def test_the_methods_are_the_documented_ones():
    assert rv.methods.__name__ == "rvsmjax.methods"
    assert {name for name, x in vars(rv.methods).items() if not isinstance(x, types.ModuleType)} - DUNDERS == METHODS


@pytest.mark.parametrize("name", sorted(NAMES - {"__version__"} | METHODS))
def test_every_public_name_has_a_docstring(name):
    thing = getattr(rv.methods if name in METHODS else rv, name)
    doc = inspect.getdoc(thing)
    assert doc
    assert doc.splitlines()[0].strip()
    assert doc.splitlines()[0].rstrip()[-1] in ".:,"
    assert doc != inspect.getdoc(object)
    members = vars(thing).items() if isinstance(thing, type) else ()
    for member, x in members:
        if not member.startswith("_") and inspect.isfunction(x):
            assert inspect.getdoc(x), f"{name}.{member}"


def test_the_version_is_a_version():
    assert all(part.isdigit() for part in rv.__version__.split(".")[:2])
