"""The comparison of methods: settings, training, record, resumption, the table."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import rvsmjax as rv
from experiments.cli import main as cli
from experiments.studies.methods import config, report
from experiments.studies.methods.config import MethodsConfig, Setting, settings
from experiments.studies.methods.decoder import CONTEXT, Decoder, load_text
from experiments.studies.methods.methods import phases
from experiments.studies.methods.tasks import TASKS
from experiments.studies.methods.train import train, train_once

TINY = ["--sparsity", "0.8", "--steps", "8", "--seeds", "2", "--ramp", "0.5", "--optimizer", "sgd"]


def test_dense_runs_once_and_magnitude_once_per_ramp():
    listed = list(settings(MethodsConfig(optimizer=("sgd", "muon"), sparsity=(0.8, 0.9), ramp=(0.5, 0.7), seeds=3)))
    assert len(set(listed)) == len(listed) == 3 * 2 * (1 + 2 * 2 + 2)
    assert len({s.name() for s in listed}) == len(listed)
    assert [s.seed for s in listed] == sorted(s.seed for s in listed)
    metric = settings(MethodsConfig(method=("sparsify-metric",), seeds=1))
    assert {s.optimizer for s in metric} == {"adamw"}
    tuned = list(
        settings(MethodsConfig(method=("rvsm",), optimizer=("sgd",), sparsity=(0.9,), beta=(0.1, 2.0), seeds=1))
    )
    assert [s.name() for s in tuned] == [f"digits-sgd-rvsm-0.9-{beta}-600steps-seed0" for beta in (0.1, 2)]
    both = list(settings(MethodsConfig(method=("elsa", "rigl"), optimizer=("sgd", "adamw"), sparsity=(0.9,), seeds=1)))
    assert [(s.method, s.optimizer, s.value) for s in both] == [
        *(("rigl", "sgd", value) for value in (0.1, 0.3, 0.5)),
        *(("elsa", "adamw", value) for value in (0.01, 0.1, 1.0)),
        *(("rigl", "adamw", value) for value in (0.1, 0.3, 0.5)),
    ]


def test_rigl_as_published():
    """99 and 89.1 % zeros in the first two layers, none in the third; Nesterov's momentum, weight decay of kernels."""
    every = MethodsConfig(network=config.NETWORKS, method=config.METHODS, optimizer=("sgd",), seeds=1)
    names = [x.name() for x in settings(every) if x.network == "lenet-300-100" or x.method == "rigl-published"]
    assert names == ["lenet-300-100-sgd-rigl-published-120000steps-seed0"]
    (phase,) = phases(Setting("lenet-300-100", "rigl-published", "sgd", 0.0, 0.0, 0, 1200), 0.2)
    params = {
        f"dense{i}": {"kernel": jnp.ones(shape)} for i, shape in enumerate([(784, 300), (300, 100), (100, 10)], 1)
    }
    state = phase.tx.init(params)
    updates, _ = phase.tx.update(params, state, params)
    zeros = [int(jnp.sum(p + u == 0)) for p, u in zip(*map(jax.tree.leaves, (params, updates)), strict=True)]
    assert zeros == [round(0.99 * 235_200), round(0.891 * 30_000), 0]
    np.testing.assert_allclose(updates["dense3"]["kernel"], -0.2 * 1.9 * 1.0001, rtol=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        "magnitude",
        "sparsify",
        "rvsm",
        pytest.param("sparsify-metric", marks=pytest.mark.robustness),
        pytest.param("rvsm-tl1", marks=pytest.mark.robustness),
    ],
)
def test_a_run_has_the_sparsity_and_repeats(method):
    setting = Setting("digits", method, "adamw", 0.8, 0.5 * (method == "magnitude"), 0, 20, beta=method == "rvsm")
    one, two = train(setting, None), train(setting, None)
    assert abs(one["zeros"] - 0.8 * one["size"]) < 1
    assert one["validation_loss"] == two["validation_loss"]
    assert one["validation_loss"] != train_once(setting, None, rate=1e-3)["validation_loss"]


OTHERS = [
    pytest.param(name, marks=[] if name in ("admm", "safe", "rigl") else pytest.mark.slow) for name in config.OTHERS
]


@pytest.mark.parametrize("method", OTHERS)
def test_other_methods_reach_the_sparsity_and_those_with_u_are_fine_tuned(method):
    optimizer = "adamw" if method == "elsa" else "sgd"
    setting = Setting("digits", method, optimizer, 0.8, 0.0, 0, 40, value=config.OTHERS[method][1][1])
    outcome = train(setting, None)
    assert abs(outcome["zeros"] - 0.8 * outcome["size"]) <= 2
    assert outcome["validation_loss"] < np.log(10)
    assert ("before_test_loss" in outcome) == (method in config.FROZEN)
    if method in config.FROZEN:
        assert outcome["test_loss"] < outcome["before_test_loss"]


def test_a_fixed_lam_is_found_by_whole_trainings():
    found = train(Setting("digits", "fixed-l0", "sgd", 0.8, 0.0, 0, 40), None)
    assert 1 < found["trainings"] <= 14
    assert abs(found["zeros"] / found["size"] - 0.8) < 0.002
    again = train_once(Setting("digits", "fixed-l0", "sgd", 0.8, 0.0, 0, 40), None, found["lam"])
    assert again["zeros"] == found["zeros"]


def test_a_lam_at_which_the_training_diverges_is_too_large(monkeypatch):
    tried = []

    def trained(setting, folder, lam):
        tried.append(lam)
        return {"diverged": True} if lam > 0.004 else {"zeros": 1e5 * lam, "size": 1000}

    monkeypatch.setattr("experiments.studies.methods.train.train_once", trained)
    found = train(Setting("decoder", "fixed-l0", "sgd", 0.3, 0.0, 0, 40), None)
    assert max(tried) > 0.004
    np.testing.assert_allclose(found["lam"], 0.003, rtol=0.01)


@pytest.mark.parametrize(
    "network", [pytest.param("mixer", marks=pytest.mark.robustness), pytest.param("recurrent", marks=pytest.mark.slow)]
)
def test_other_networks_learn_and_reach_the_sparsity(network):
    dense, sparse = (
        train(Setting(network, method, "adamw", share, 0.0, 0, 60), None)
        for method, share in (("dense", 0.0), ("rvsm-group-l0", 0.75))
    )
    chance = {"mixer": np.log(10), "recurrent": np.log(load_text().vocabulary)}[network]
    assert dense["train_loss"] < chance - 0.2
    assert abs(sparse["zeros"] / sparse["size"] - 0.75) < 0.02


def test_a_number_that_diverges_is_recorded_and_not_chosen_or_trained_again(tmp_path, capsys):
    command = ["methods", "--method", "dense", "rvsm", "--optimizer", "sgd", "--sparsity", "0.9", "--seeds", "2"]
    command += ["--steps", "30", "--beta", "1", "1e9", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert cli.main(command) == 0
    assert "beta" not in capsys.readouterr().err
    rows = pd.read_csv(tmp_path / "out" / "runs.csv")
    tuned = rows[rows.method == "rvsm"]
    assert list(zip(tuned.seed, tuned.beta, strict=True)) == [(0, 1.0), (0, 1e9), (1, 1.0)]
    assert np.isnan(tuned.validation_loss.iloc[1])
    left = report.chosen(rows)
    assert left[left.method == "rvsm"].beta.tolist() == [1.0, 1.0]
    # The second seed is not part of the choice, which both numbers do not have.
    rows.loc[tuned.index[2], "validation_loss"] = 99.0
    rows.loc[tuned.index[1], "validation_loss"] = 50.0
    assert report.chosen(rows).beta.max() == 1.0


def test_a_network_is_beside_others_only_with_the_optimizers_it_was_run_with():
    def row(network, method, optimizer, sparsity):
        losses = dict.fromkeys(("validation_loss", "test_loss", "test_accuracy"), 0.5)
        numbers = dict.fromkeys(("beta", "end", "value", "lam"), 0.0)
        cell = {"network": network, "method": method, "optimizer": optimizer, "sparsity": sparsity}
        return {**cell, "seed": 0, "steps": 40, "size": 100, "state_bytes": 400, **losses, **numbers}

    rows = [row(network, "dense", name, 0.0) for network in ("digits", "lenet") for name in ("sgd", "adamw")]
    rows += [row("digits", "top-k", "adamw", 0.9), row("lenet", "top-k", "sgd", 0.9)]
    beside = next(part for part in report.sections(pd.DataFrame(rows)) if part.title == "Methods side by side")
    assert [table.title.split(", ")[:2] for table in beside.blocks[1:]] == [["digits", "adamw"], ["lenet", "sgd"]]
    lost = row("lenet", "top-k", "sgd", 0.9) | {"seed": 1, "test_accuracy": np.nan, "test_loss": np.nan}
    beside = next(part for part in report.sections(pd.DataFrame([*rows, lost])) if part.title == "Methods side by side")
    assert beside.blocks[2].rows[-1][1] == "50.00 (0.5000); 1 of 2 diverged"


def test_the_record_and_what_is_kept(tmp_path, capsys):
    arguments = ["methods", *TINY, "--runs", str(tmp_path / "runs"), "--out"]
    assert cli.main([*arguments, str(tmp_path / "one")]) == 0
    files = sorted((tmp_path / "runs").iterdir())
    assert len(files) == 6
    stamps = [path.stat().st_mtime_ns for path in files]
    assert cli.main([*arguments, str(tmp_path / "two"), "--finished", "--seeds", "3"]) == 0
    assert [path.stat().st_mtime_ns for path in files] == stamps
    rows = pd.read_csv(tmp_path / "two" / "runs.csv")
    assert len(rows) == 6
    kept = json.loads(files[0].read_text())
    assert rows.test_loss.isin([kept["test_loss"]]).any()
    assert "difference" in (tmp_path / "one" / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "vgg"], "network must be one of"),
        (["--optimizer", "adam"], "optimizer must be one of"),
        (["--sparsity", "1"], "sparsity must be"),
        (["--ramp", "1.5"], "ramp must be at most 1, got 1.5"),
        (["--seeds", "0"], "seeds must be"),
        (
            ["--method", "sparsify-metric", "--optimizer", "sgd"],
            "optimizer must include adamw for sparsify-metric, got sgd",
        ),
        (["--method", "rigl-published"], "network must include lenet-300-100 for rigl-published, got digits"),
        (["--network", "lenet-300-100"], "method must include rigl-published for lenet-300-100, got dense magnitude"),
        (["--finished"], "finished or minutes must leave at least one run"),
    ],
)
def test_errors(arguments, message, tmp_path, capsys):
    assert cli.main(["methods", *arguments, "--runs", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def frame():
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(4):
        for method, ramp in (("dense", 0.0), ("magnitude", 0.5), ("magnitude", 0.7), ("sparsify", 0.0)):
            share = 0.0 if method == "dense" else 0.9
            losses = dict(zip(("validation_loss", "test_loss"), rng.random(2) + (ramp == 0.5), strict=True))
            row = {"network": "digits", "method": method, "optimizer": "sgd", "sparsity": share, "ramp": ramp}
            rows.append({**row, "seed": seed, "steps": 10, **losses, "test_accuracy": rng.random()})
    return pd.DataFrame(rows)


def test_the_table_takes_the_better_ramp_and_pairs_seeds():
    runs = frame()
    left = report.chosen(runs)
    assert set(left[left.method == "magnitude"].ramp) == {0.7}
    ours, theirs = (left[left.method == name].sort_values("seed").test_loss for name in ("sparsify", "magnitude"))
    mean, half = report.difference(left[left.method == "sparsify"], left[left.method == "magnitude"])
    low, high = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    np.testing.assert_allclose([mean - half, mean + half], [low, high])
    (section,) = report.sections(runs)
    (row,) = section.blocks[1].rows
    assert row[:2] == ["sgd", "90 %"]
    assert row[5].startswith(f"{mean:+.4f}")
    sparse = runs[runs.method == "sparsify"]
    tuned = [sparse.assign(method="rvsm", beta=beta, validation_loss=beta, test_loss=beta) for beta in (2.0, 1.0)]
    (section,) = report.sections(pd.concat([runs.assign(beta=0.0), *tuned]))
    assert section.blocks[1].rows[0][-1] == "1.0000 ± 0.0000 (β = 1)"
    other = [
        sparse.assign(method="admm", value=value, validation_loss=value, test_accuracy=0.5, before_test_accuracy=0.25)
        for value in (0.1, 1.0)
    ]
    _, section = report.sections(pd.concat([runs, *(one.assign(state_bytes=800, size=100) for one in other)]))
    by = {row[0]: row[1:] for row in section.blocks[1].rows}
    assert list(by) == ["dense", "magnitude", "sparsify", "admm"]
    assert by["admm"][0].startswith("50.00 ± 0.00 (")
    assert by["admm"][1:] == ["25.00", "2.0"]
    assert by["dense"][2] == "–"
    with_metric = sparse.assign(method="sparsify-metric", test_loss=sparse.test_loss - 0.25)
    _, section = report.sections(pd.concat([runs, with_metric]))
    assert section.blocks[1].rows[0][4] == "-0.2500 ± 0.0000"
    held = runs[runs.method == "sparsify"].assign(method="rvsm-l1", zeros=90, size=100)
    (section,) = report.sections(held)
    assert section.blocks[1].title.startswith("digits, sgd, 10 steps")
    assert section.blocks[1].rows[0][0] == "l1"
    assert section.blocks[1].rows[0][1].startswith("90.00 (")


def test_the_decoder_is_causal_and_its_kernels_are_selected():
    import jax.numpy as jnp
    from flax import nnx

    text = load_text()
    assert min(map(len, text[:3])) > 20 * CONTEXT
    network = Decoder(text.vocabulary, width=16, layers=1, heads=2, rngs=nnx.Rngs(0))
    x = text.train[:CONTEXT][None]
    scores, changed = network(x), network(x.at[0, 40].set((x[0, 40] + 1) % text.vocabulary))
    np.testing.assert_array_equal(scores[0, :40], changed[0, :40])
    assert jnp.any(scores[0, 40] != changed[0, 40])
    state = nnx.state(network, nnx.Param)
    selected = rv.sparsity(state).leaves
    assert sorted(selected) == sorted(
        [*(f"blocks/0/{name}/kernel" for name in ("qkv", "out", "up", "down")), "head/kernel"]
    )


def test_resnet_20_has_its_parameters():
    import jax
    from flax import nnx

    network = nnx.eval_shape(lambda: TASKS["resnet"].make(nnx.Rngs(0)))
    # 0.27 million, as in He et al. (arXiv 1512.03385), plus the two 1 × 1 shortcuts with their norms.
    count = sum(x.size for x in jax.tree.leaves(nnx.state(network, nnx.Param)))
    assert count == 269_722 + (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
