"""One table of penalties for all studies, and a user's own by the name of its module."""

import dataclasses
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import rvsmjax as rv
from experiments.cli import main as cli
from experiments.penalties import registry
from experiments.studies.tune.problem import step_at


@dataclasses.dataclass(frozen=True)
class Firm(rv.Penalty):
    """ℓ1 under another name, with a number that has a default."""

    weight: float = 2.0

    def value(self, x):
        return self.weight * jnp.sum(jnp.abs(x))

    def prox(self, v, step):
        return jnp.sign(v) * jnp.maximum(jnp.abs(v) - step * self.weight, 0)

    def threshold(self, step):
        return step * self.weight


class Abstract(rv.Penalty):
    """A penalty without its formulas."""


@pytest.fixture(autouse=True)
def own_module(monkeypatch):
    module = types.ModuleType("own")
    module.Firm, module.Abstract, module.soft = Firm, Abstract, Firm(1.0)
    monkeypatch.setitem(sys.modules, "own", module)


def test_registered_names_make_the_librarys():
    made = {name: entry(3.0) for name, entry in registry.PENALTIES.items()}
    concave = {"mcp": rv.MCP(3.0), "scad": rv.SCAD(), "l_half": rv.LHalf()}
    others = {"log_sum": rv.LogSum(3.0), "capped_l1": rv.CappedL1(3.0)}
    assert made == {"l1": rv.L1(), "l0": rv.L0(), "tl1": rv.TransformedL1(3.0)} | concave | others
    assert all(penalty.name == name for name, penalty in made.items())
    looks = {(entry.label, entry.color, entry.marker) for entry in registry.PENALTIES.values()}
    assert len(looks) == len(made)


def test_ones_own_by_its_module():
    assert registry.find("own:Firm")() == Firm(2.0)
    assert registry.find("own:soft")() == Firm(1.0)
    assert registry.label("own:Firm") == "Firm"
    assert registry.for_grid(("l1", "own:Firm"), (0.5, 2.0)) == ("l1", Firm(2.0))
    assert rv.Grid(penalty=registry.for_grid(("own:Firm", "own:soft")), d=2).size == 2000


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("l2", ["must be one of ", "l1, l0, tl1, mcp, scad, l_half, log_sum, capped_l1, or MODULE:CLASS", "'l2'"]),
        ("nowhere:Firm", ["'nowhere:Firm'", "ModuleNotFoundError"]),
        ("own:None", ["'own:None'", "AttributeError"]),
        ("own:Abstract", ["'own:Abstract'", "TypeError"]),
        ("math:pi", ["must be a class or an instance of rvsmjax.Penalty", "'math:pi'", "float"]),
    ],
)
@pytest.mark.parametrize("command", ["sweep", "binary", "admm", "tune", "seeds", "cifar"])
def test_bad_names_are_one_line(command, name, parts, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cli, "prepare_jax", lambda precision: None)
    monkeypatch.chdir(tmp_path)
    assert cli.main([command, "--quick", "--penalty", name]) == cli.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m experiments: --penalty must be ")
    assert all(part in line for part in parts)
    assert not list(tmp_path.iterdir())


def test_a_sweep_of_ones_own(monkeypatch, capsys, tmp_path):
    """ℓ1 of twice the weight has the limits of ℓ1 with twice the λ."""
    monkeypatch.setattr(cli, "prepare_jax", lambda precision: None)
    zeros = []
    for penalty, lam in (("own:Firm", "0.001"), ("l1", "0.002")):
        flags = ["--penalty", penalty, "--lam", lam, "--d", "4", "--k", "2", "--seeds", "20", "--quiet"]
        assert cli.main(["sweep", *flags, "--out", str(tmp_path / lam)]) == 0
        table = pd.read_csv(tmp_path / lam / "summary.csv")
        zeros.append(table[table.metric == "zeros"].drop(columns=["penalty", "lam"]).reset_index(drop=True))
    pd.testing.assert_frame_equal(*zeros)
    assert len(zeros[0])
    assert "firm" in (tmp_path / "0.001" / "report.md").read_text()


def test_the_step_of_a_threshold_without_a_closed_form(x64):
    t = jnp.array(0.3)
    assert np.isclose(step_at("own:Firm", t, jnp.array(1.0)), 0.15, rtol=1e-12)
    assert np.isclose(jax.grad(lambda t: step_at("own:Firm", t, jnp.array(1.0)))(t), 0.5, rtol=1e-12)
