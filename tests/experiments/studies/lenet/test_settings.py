"""F Table 1: settings beside the paper's, and what its printed zeros can and cannot be."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rvsmjax as rv
from experiments.studies.lenet.binary.config import PAPER, LenetBinaryConfig, table_1
from experiments.studies.lenet.binary.report import sections
from experiments.studies.lenet.binary.settings import RELEASED, RGSM, SETTINGS
from experiments.studies.lenet.recipes import NETS, LeNetRecipe
from experiments.training.chains import learning_rates, make_optimizer
from tests.experiments.studies.lenet.test_lenet import outcome

PAGE = (Path(__file__).parents[4] / "docs" / "lenet.md").read_text()
CONFIG = LenetBinaryConfig()
STUDY = table_1(CONFIG)
IMAGES = 55_000


def test_the_settings_are_runs_of_their_own():
    recipes = [recipe for label in SETTINGS for recipe in STUDY[label]]
    assert len(recipes) >= 12
    assert {recipe.epochs for recipe in recipes} == {100}
    assert len({recipe.name() for group in STUDY.values() for recipe in group}) == sum(map(len, STUDY.values()))
    assert not set(SETTINGS) & set(table_1(LenetBinaryConfig(settings_epochs=0)))


def test_new_fields_do_not_change_names():
    """The names of published runs; ``test_published_runs_belong_to_a_study`` compares all."""
    assert STUDY["base"][0].name() == "binary-sgd-seed0-50c7b3ca"
    assert STUDY["group l1, λ = 0.001"][0].name() == "binary-rvsm-group_l1-0.001-seed0-8d2972b7"


def test_the_released_codes_groups_are_input_channels_of_convolutions():
    recipe = LeNetRecipe(**RELEASED | RGSM)
    params = nnx.state(recipe.make_network(), nnx.Param)
    params["conv2"]["kernel"][...] = params["conv2"]["kernel"][...].at[:, :, 4].multiply(0.1)
    chain = make_optimizer(recipe, 10, params)
    u = rv.sparse_params(chain.init(params), params)
    zeros = {name: int(leaf.zeros) for name, leaf in rv.sparsity(u).leaves.items()}
    assert zeros == {name: 400 * name.startswith("conv2") for name in zeros}
    assert not np.any(u["conv2"]["kernel"][...][:, :, 4])


def test_pixels_are_in_01_or_standardized():
    images = jnp.array([0, 255], "uint8").reshape(1, 1, 2, 1)
    plain, standard = (
        LeNetRecipe(standardize=standardize).preparation()(images, jax.random.key(0), False).ravel()
        for standardize in (False, True)
    )
    assert plain.tolist() == [0, 1]
    np.testing.assert_allclose(standard, (np.array([0, 1]) - 0.1307) / 0.3081, rtol=1e-6)


def pull(recipe):
    """Returns Ση/(1 − μ) over the steps of a training, and the η."""
    steps = recipe.epochs * (IMAGES // recipe.batch)
    rates = np.asarray(jax.vmap(learning_rates(recipe, steps))(jnp.arange(steps)), float)
    return rates.sum() / (1 - recipe.momentum), rates


def group_norms(recipe):
    """Returns the initial norms of the groups of a recipe with ``group_l1``."""
    params = nnx.to_pure_dict(nnx.state(recipe.make_network(), nnx.Param))
    kernels = [layer["kernel"] for name, layer in params.items() if name not in recipe.left_out()]
    return np.concatenate([np.linalg.norm(np.reshape(kernel, (-1, kernel.shape[-1])), axis=0) for kernel in kernels])


def end_without_loss(recipe, rates, norm):
    """Returns the norm of a group after a training whose loss is constant: weight decay and the pull alone."""
    moment = 0.0
    for rate in rates:
        moment = recipe.momentum * moment + recipe.weight_decay * norm + recipe.beta * min(norm, recipe.lam)
        norm = norm - rate * moment
    return norm


@pytest.mark.parametrize(("fields", "starts", "ends"), [({}, 0.78, 0.11), (RELEASED | {"batch": 64}, 0.39, 0.0)],
                         ids=["as in the table", "released"])  # fmt: skip
def test_the_pull_of_group_lasso_alone_makes_no_zeros_at_the_two_smaller_lambdas(fields, starts, ends):
    """u is zero where a group's norm is at most λ/β; a pull of λ, through momentum, moves it by λΣη/(1 − μ) at most."""
    common = {"method": "rvsm", "penalty": "group_l1", "lam": 1e-3} | fields
    recipes = [LeNetRecipe(**common, seed=seed) for seed in range(CONFIG.seeds)]
    smallest = min(group_norms(recipe).min() for recipe in recipes)
    factor, rates = pull(recipes[0])
    decay = end_without_loss(dataclasses.replace(recipes[0], lam=0.0), rates, 1.0)
    for said in (f"= {round(factor, -1):.0f} λ", f"norms by {decay:.2f}", f"{smallest:.2f}"):
        assert said in PAGE
    for lam in (1e-7, 1e-5):
        assert f"{factor * lam:.1e}".replace("e-0", "e-") in PAGE
        assert factor * lam + lam < decay * smallest / 10
        assert end_without_loss(dataclasses.replace(recipes[0], lam=lam), rates, smallest) > 0.9 * decay * smallest
    assert smallest == pytest.approx(starts, abs=0.005)
    assert end_without_loss(recipes[0], rates, starts) == pytest.approx(ends, abs=0.005)


def is_share(printed, units):
    """Returns whether a whole number of units is the printed share of them, in percent with two digits."""
    low, high = round(100 * printed) * 100 - 50, round(100 * printed) * 100 + 50  # in 1e-6
    return -(-low * units // 10**6) <= high * units // 10**6


def test_the_printed_zeros_are_no_shares_of_filters_or_units():
    printed = [zeros for _, zeros in PAPER.values() if zeros]
    first = next(n for n in range(1, 10**4) if is_share(33.31, n))
    every = next(n for n in range(1, 10**4) if all(is_share(share, n) for share in printed))
    assert f"N < {first:,}" in PAGE
    assert f"N = {every:,}" in PAGE
    known = [*NETS.values(), (10, 20, 50), (32, 64, 1024)]
    assert first > max(sum(widths) + 10 for widths in known)
    # The criterion itself, by rounding every share.
    rounded = {n: any(round(100 * a / n, 2) == 33.31 for a in range(n)) for n in (3, 100, 1176, 1177, 3534)}
    assert rounded == {n: is_share(33.31, n) for n in rounded}


def test_what_comes_nearest_and_what_is_explained():
    outcomes = {label: [] for label in STUDY}
    outcomes["base"] = [outcome(0.893)]  # not a setting
    outcomes["6-16-120-84, identity"] = [outcome(0.9)]
    outcomes["6-16-120-84, relu"] = [outcome(0.4)]
    outcomes["RGSM, λ₂ = 1e-05"] = [outcome(0.85, 0.66)]
    outcomes["l0, λ = 1e-05"] = [outcome(0.85, 0.83)]
    text = " ".join(str(block) for section in sections(STUDY, outcomes, CONFIG) for block in section.blocks)
    assert "base, 89.31 % at 0.00 % zeros: nearest is 6-16-120-84, identity (+0.69 and +0.00 points), explained" in text
    assert "λ = 1e-05, 85.34 % at 66.67 % zeros: nearest is RGSM, λ₂ = 1e-05 (-0.34 and -0.67 points), expl" in text
    assert "λ = 0.001, 84.92 % at 83.76 % zeros: nearest is l0, λ = 1e-05 (+0.08 and -0.76 points), not expl" in text
    assert "'RGSM, λ₂ = 1e-05', '85.00', '85.00', '66.00', '66.00', 'λ = 1e-05: 85.34, 66.67'" in text
    assert "'6-16-120-84, √(2/π)·relu', 'not yet run', 'not yet run', 'not yet run', 'not yet run', ''" in text
