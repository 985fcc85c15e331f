"""Tests of ``Grid``: axes, labels, sizes and bad input."""

import numpy as np
import pytest

import rvsmjax as rv


def test_shape_counts_every_combination():
    grid = rv.Grid(penalty=["l0", "tl1"], a=[0.5, 2.0], d=[3, 4], k=range(1, 6), lam=[0.0, 1e-4], seeds=7)
    assert grid.shape == {
        "penalty": 3,
        "d": 2,
        "k": 5,
        "lam": 2,
        "beta": 1,
        "learning_rate": 1,
        "normalize": 1,
        "seed": 7,
    }
    assert grid.size == 3 * 2 * 5 * 2 * 7


def test_labels_carry_parameters_only_if_the_name_is_ambiguous():
    assert rv.Grid(penalty=["l1", "tl1"]).labels == ("l1", "tl1")
    assert rv.Grid(penalty=["l1", "tl1"], a=[0.5, 2]).labels == ("l1", "tl1(a=0.5)", "tl1(a=2)")
    assert rv.Grid(penalty=[rv.TransformedL1(0.5), rv.L0()]).labels == ("tl1", "l0")


def test_seeds_are_a_count_or_a_list():
    assert list(rv.Grid(seeds=3).values.seeds) == [0, 1, 2]
    assert list(rv.Grid(seeds=[5, 2**32 - 1]).values.seeds) == [5, 2**32 - 1]
    assert list(rv.Grid(seeds=range(10, 12)).values.seeds) == [10, 11]


def test_a_grid_of_any_size_is_described_without_building_it():
    assert rv.Grid(d=[10], k=[2], seeds=2**32).size == 3 * 2**32


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"lam": -1e-4}, "lam"),
        ({"lam": [1e-4, np.nan]}, "lam"),
        ({"lam": "much"}, "lam"),
        ({"beta": 0}, "beta"),
        ({"beta": np.inf}, "beta"),
        ({"a": 0.0}, "a must"),
        ({"a": [-1.0]}, "a must"),
        ({"k": 0}, "k must"),
        ({"k": 2.5}, "k must"),
        ({"d": 0}, "d must"),
        ({"d": [10, 10]}, "d must hold distinct"),
        ({"d": []}, "d must hold at least one"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": []}, "learning_rate"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": -3}, "seeds"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"seeds": [2**32]}, "seeds"),
        ({"penalty": "l2"}, "penalty must be one of l1, l0, tl1"),
        ({"penalty": []}, "penalty must hold at least one"),
        ({"penalty": [3]}, "penalty"),
        ({"penalty": ["l1", "l1"]}, "penalty must hold distinct"),
        ({"penalty": rv.TransformedL1(np.ones(2))}, "penalty must hold single numbers"),
        ({"penalty": [rv.TopK(k=2), rv.TopK(k=2)]}, "penalty must hold distinct"),
        ({"activation": "tanh"}, "activation must be one of relu, binary"),
        ({"activation": int}, "activation must be one of relu, binary, or a OneLayerProblem, got <class 'int'>"),
        ({"activation": rv.L1()}, "or a OneLayerProblem, got L1()"),
        ({"normalize": 1}, "normalize"),
        ({"normalize": [True, True]}, "normalize must hold distinct"),
    ],
)
def test_bad_axes_are_named_on_one_line(arguments, words):
    with pytest.raises((ValueError, TypeError)) as caught:
        rv.Grid(**arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
