"""Figures of sweeps that are hard to draw."""

import numpy as np
import pytest

from experiments.one_layer import figures as plots
from experiments.reports import vega


def test_same_data_same_bytes(make_lanes, tmp_path):
    lanes = make_lanes()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        vega.save(plots.sweep_figures(lanes), tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 7  # three as PNG and SVG, all as data
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("kept", [0, 1])
def test_few_converged_lanes(make_lanes, tmp_path, kept):
    lanes = make_lanes(k=(2, 3))
    lanes.status[..., kept:] = 2
    lanes = lanes.assign({name: lanes[name].where(lanes.status == 0) for name in ("theta_w", "theta_u")})
    vega.save(plots.sweep_figures(lanes), tmp_path)


def test_every_axis_with_several_values_has_a_figure(make_lanes):
    lanes = make_lanes(
        lam=(0.0, 1e-4), beta=(1e-3, 4e-3), rate=(0.1, 0.2), penalty=("tl1(a=1)", "tl1(a=2)"), a=(1.0, 2.0)
    )
    drawn = set(plots.sweep_figures(lanes))
    assert drawn == {"tradeoff", "distributions", "against_d", "against_lam", "against_beta", "against_learning_rate"}
    colors = [look.color for look in plots.looks(lanes)]
    assert colors[0] != colors[1]


def test_tradeoff_shows_every_seed_beside_its_zeros(make_lanes):
    lanes = make_lanes(penalty=("l0",), d=(10,), seeds=40).isel(k=0, lam=0, beta=0, learning_rate=0, normalize=0)
    cloud = plots.tradeoff(lanes).plain()["panels"][0]["series"][0]
    share, angle = np.array(cloud["x"]), np.array(cloud["y"])
    assert np.allclose(angle, lanes.theta_u.values.ravel(), rtol=1e-4)
    assert (np.abs(share - 10 * lanes.zeros.values.ravel()) <= 5.001).all()


def test_paper_is_marked_only_at_its_setting(make_lanes):
    at_paper = make_lanes(d=(10, 15)).isel(k=0, lam=0, beta=0, learning_rate=0, normalize=0)
    elsewhere = make_lanes(k=(3,)).isel(k=0, lam=0, beta=0, learning_rate=0, normalize=0)
    assert np.array_equal(plots.printed(at_paper, 0, "theta_u"), [7.52479e-02, np.nan], equal_nan=True)
    assert np.isnan(plots.printed(elsewhere, 0, "theta_u")).all()
