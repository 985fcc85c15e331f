"""Our prox on all cases of benchmarks/conformance: minimizers in 50 digits, at most 2 units in the last place away."""

import collections
import json

import jax
import mpmath
import numpy as np
import pytest

from benchmarks.conformance import libraries
from benchmarks.conformance.build import CASES
from benchmarks.conformance.definitions import SCALARS, minimizer
from benchmarks.conformance.scores import score

ALL = json.loads(CASES.read_text(encoding="utf-8"))
pytestmark = pytest.mark.optimized


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", sorted({case["function"] for case in ALL}))
def test_every_case(function, dtype):
    cases = [case for case in ALL if case["function"] == function and case["dtype"] == dtype]
    assert len(cases) >= 6
    with jax.enable_x64(dtype == "float64"):
        results = run(function, cases)
    failed = [
        (case["about"], case["parameters"], case["step"], case["v"], result, case["expected"])
        for case, result in zip(cases, results, strict=True)
        if score("rvsmjax", case, result).verdict != "exact"
    ]
    assert failed == []


def run(function, cases):
    """One call for each size of v; separable penalties take all points of equal parameters together."""
    if function not in SCALARS:
        return libraries.run("rvsmjax", cases)
    together = collections.defaultdict(list)
    for case in cases:
        together[str(case["parameters"])].append(case)
    results = {}
    adapter = libraries.rvsmjax()[function]
    for group in together.values():
        v = np.concatenate([np.asarray(case["v"], case["dtype"]) for case in group])
        steps = np.concatenate([np.full(len(case["v"]), case["step"]) for case in group]).astype(v.dtype)
        size = -(-len(v) // 128) * 128  # few sizes, each of which is compiled
        out = np.asarray(adapter(**group[0]["parameters"])(np.resize(v, size), np.resize(steps, size)))[: len(v)]
        ends = np.cumsum([len(case["v"]) for case in group])[:-1]
        results |= {id(case): part.tolist() for case, part in zip(group, np.split(out, ends), strict=True)}
    return [results[id(case)] for case in cases]


def test_expected_values_are_those_of_the_definitions():
    """A sample, computed again: the file was not edited by hand."""
    for case in ALL[::97]:
        want = minimizer(case["function"], case["parameters"], case["v"], case["step"])
        assert [mpmath.nstr(x, 40) for x in want] == case["expected"]


@pytest.mark.parametrize("kind", ["sign", "digit", "nan", "error"])
def test_a_wrong_result_is_seen(kind):
    case = next(case for case in ALL if case["function"] == "mcp" and case["about"] == "outside")
    right = [float(x) for x in case["expected"]]
    wrong = {
        "sign": [-x for x in right],
        "digit": [x * (1 + 1e-6) for x in right],
        "nan": [np.nan, *right[1:]],
        "error": "ValueError: no",
    }
    assert score("rvsmjax", case, right).verdict == "exact"
    assert score("rvsmjax", case, wrong[kind]).verdict != "exact"
