"""Training programs of the full networks lower for GPUs and TPUs without the device."""

import dataclasses
import itertools

import jax
import pytest

from experiments.studies.cifar.lowered import evaluation_program, make_recipe, program_of, training_program

DEFAULT = {
    ("resnet18", "admm-released", "cuda"),
    ("vgg16", "top_k", "tpu"),
}
"""Each network and platform (ℓ0 in the test of an epoch); the other combinations are slow tests."""


@pytest.mark.parametrize(
    ("net", "method", "platform"),
    [
        pytest.param(*case, marks=() if case in DEFAULT else pytest.mark.slow)
        for case in itertools.product(
            ("resnet18", "vgg16"), ("sgd", "l0", "top_k", "admm", "admm-released"), ("cuda", "tpu")
        )
    ],
)
def test_one_step(net, method, platform):
    function, arguments = training_program(net, method, whole_epoch=False)
    assert not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(arguments))
    assert sum(leaf.size for leaf in jax.tree.leaves(arguments[0].params)) > 11_000_000
    text = function.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    # Forward, and for inputs and weights backward; the first layer's input needs none.
    assert len(convolutions) == {"resnet18": 3 * 20 - 1, "vgg16": 3 * 13 - 1}[net]
    assert all(line.rstrip().endswith("xbf16>") for line in convolutions)


def test_an_epoch_is_one_loop_over_all_images():
    function, arguments = training_program("resnet18", "l0")
    text = function.trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    assert arguments[1].images.shape == (50_000, 32, 32, 3)
    assert "callback" not in text
    assert text.count("stablehlo.convolution") == 59
    assert "dense<390> : tensor<i32>" in text  # steps of 128 images


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_an_evaluation_is_one_program(platform):
    function, arguments = evaluation_program("resnet18", "top_k")
    text = function.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    assert arguments[2].images.shape == (5_000, 32, 32, 3)
    assert text.count("stablehlo.convolution") == 2 * 20  # one evaluation of w and u, one of the running means of u
    released, arguments = evaluation_program("resnet18", "l0")
    text = released.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    assert arguments[2].images.shape == (10_000, 32, 32, 3)
    assert text.count("stablehlo.convolution") == 20  # u with the running means of w


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("l0", {"lam": 3e-5, "beta": 0.5, "seed": 3, "key": 1}),
        ("top_k", {"sparsity": 0.98, "beta": 0.5}),
        ("admm", {"sparsity": 0.9, "beta": 0.5}),
        ("admm-released", {"sparsity": 0.9, "beta": 0.5}),
        ("magnitude", {"sparsity": 0.98}),
    ],
)
def test_the_same_program_for_other_numbers(method, changes):
    recipe = make_recipe("vgg16", method)
    first, other = (program_of(recipe, False), program_of(dataclasses.replace(recipe, **changes), False))
    assert first[0] is other[0]
    assert jax.tree.structure(first[1]) == jax.tree.structure(other[1])
    assert jax.tree.leaves(first[1]) == jax.tree.leaves(other[1])
    # The number of epochs changes the schedules, so the program differs.
    assert program_of(dataclasses.replace(recipe, epochs=7), False)[0] is not first[0]
