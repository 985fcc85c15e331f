"""Tests of ``lower_sweep``: every kind of lane, kernels and loop, without a device."""

import pytest

import rvsmjax as rv
from rvsmjax.sweep._tiles import engines

KINDS = {"penalty": ["l1", "l0", "tl1"], "d": [7, 50, 130], "normalize": [True, False], "seeds": 4}
MARKS = {"cuda": "__gpu$xla.gpu.ptx", "pallas": "__gpu$xla.gpu.triton"}


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("platform", "engine", "activation"),
    [
        ("cuda", "cuda", "relu"),
        ("tpu", "auto", "relu"),
        pytest.param("cuda", "pallas", "binary", marks=slow),
        pytest.param("cuda", "cuda", "binary", marks=slow),
        pytest.param("cuda", "pallas", "relu", marks=slow),
        pytest.param("cuda", "xla", "relu", marks=slow),
        pytest.param("cuda", "xla", "binary", marks=slow),
        pytest.param("tpu", "auto", "binary", marks=slow),
    ],
)
def test_every_kind_lowers(platform, engine, activation):
    grid = rv.Grid(activation=activation, **KINDS)
    text = rv.lower_sweep(grid, platform=platform, engine=engine).as_text()
    for name, mark in MARKS.items():
        # One per kind; functions with several callers appear once.
        assert text.count(mark) == (18 if name == engine else 0), name
    assert "bf16" not in text  # no half-precision arithmetic
    assert "while" in text


def test_auto_uses_the_fastest_measured_engine(monkeypatch):
    grid = rv.Grid(penalty="l1", d=7, seeds=4)
    assert not any(mark in rv.lower_sweep(grid, platform="cuda").as_text() for mark in MARKS.values())
    monkeypatch.setitem(engines.FASTEST, "NVIDIA H100 80GB HBM3", "cuda")
    assert MARKS["cuda"] in rv.lower_sweep(grid, platform="cuda").as_text()


def test_several_devices_lower():
    text = rv.lower_sweep(rv.Grid(penalty="l1", d=7, seeds=4), platform="tpu", devices=8).as_text()
    assert '"lanes"=8' in text


def test_bad_input_is_named():
    grid = rv.Grid(seeds=1)
    with pytest.raises(TypeError, match=r"^grid must be a Grid, got 'l1'$"):
        rv.lower_sweep("l1")
    with pytest.raises(ValueError, match=r"^platform must be one of cuda, tpu, cpu, got 'rocm'$"):
        rv.lower_sweep(grid, platform="rocm")
    with pytest.raises(ValueError, match=r"^engine must be one of auto, xla, cuda, pallas, interpret, got 'triton'$"):
        rv.lower_sweep(grid, engine="triton")
    with pytest.raises(ValueError, match=r"^devices must be"):
        rv.lower_sweep(grid, devices=0)
