"""ResNet and VGG for small images: their size, dtypes, and steps compared with the same networks in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from rvsmjax.nets import VGG, VGG16, VGG19, QuickNet, ResNet, ResNet18
from tests.nets.twins import resnet_twin, vgg_twin

scores = nnx.jit(lambda network, x: network(x))


def count(network):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))


def test_counts_are_exact():
    shapes = [nnx.eval_shape(lambda kind=kind: kind(rngs=nnx.Rngs(0))) for kind in (ResNet18, VGG16, VGG19, QuickNet)]
    assert [count(network) for network in shapes] == [11_173_962, 14_728_266, 20_040_522, 1_971_352]


@pytest.mark.parametrize("kind", [ResNet, VGG16])
def test_bfloat16_computation_keeps_float32_parameters(kind):
    sizes = {"width": 4} | ({"blocks": (1, 1)} if kind is ResNet else {})
    x = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    short, full = (kind(dtype=dtype, rngs=nnx.Rngs(0), **sizes) for dtype in (jnp.bfloat16, None))
    got, want = scores(short, x), scores(full, x)
    assert got.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(short, nnx.Param, nnx.BatchStat)) if leaf.size} == {
        jnp.dtype("float32")
    }
    np.testing.assert_allclose(got.astype("float32"), want, atol=0.2 * float(jnp.abs(want).max()))


def test_errors():
    with pytest.raises(ValueError, match=r"^x must have shape \(n, h, w, 3\), got \(1, 32, 32, 1\)$"):
        ResNet(blocks=(1,), width=2, rngs=nnx.Rngs(0))(jnp.zeros((1, 32, 32, 1)))
    with pytest.raises(ValueError, match=r"^x must have shape \(n, 32, 32, 3\), got \(1, 28, 28, 3\)$"):
        VGG16(width=2, rngs=nnx.Rngs(0))(jnp.zeros((1, 28, 28, 3)))
    with pytest.raises(ValueError, match=r"^init must be one of he, torch, got 'lecun'$"):
        VGG16(width=2, init="lecun", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"^stages must be 5 numbers, got \(1, 2\)$"):
        VGG(stages=(1, 2), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"^width must be "):
        ResNet(width=0, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"^blocks must be "):
        ResNet(blocks=(2, 0), rngs=nnx.Rngs(0))


@pytest.mark.parametrize(("kind", "sizes"), [(ResNet, {"blocks": (1, 1), "width": 64}), (VGG16, {"width": 32})])
def test_pytorch_initialization(kind, sizes):
    """Weights and biases are uniform on ±1/√fan_in; norms and the default initialization are unchanged."""
    network = kind(init="torch", rngs=nnx.Rngs(0), **sizes)
    seen = 0
    for path, module in nnx.iter_modules(network):
        if not isinstance(module, (nnx.Conv, nnx.Linear)):
            continue
        kernel = np.asarray(module.kernel[...])
        bound = np.prod(kernel.shape[:-1]) ** -0.5
        drawn = [kernel.ravel()] + ([np.asarray(module.bias[...])] if module.bias is not None else [])
        for values in drawn:
            assert np.abs(values).max() <= bound * (1 + 1e-6), path  # rounded to float32
            assert np.std(values) == pytest.approx(bound / np.sqrt(3), abs=4 * bound / np.sqrt(len(values))), path
            assert np.abs(values).max() > bound * (1 - 10 / len(values)), path
            seen += 1
    assert seen == (8 if kind is ResNet else 28)
    plain = nnx.state(kind(rngs=nnx.Rngs(0), **sizes), nnx.Param)
    assert float(jnp.abs(plain["head"]["bias"][...]).max()) == 0
    assert nnx.graphdef(network) == nnx.graphdef(kind(init="torch", rngs=nnx.Rngs(1), **sizes))


def test_pytorch_initialization_against_pytorch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    twin = dict(vgg_twin(torch, width=32).named_parameters())
    network = VGG16(width=32, init="torch", rngs=nnx.Rngs(0))
    for i, conv in enumerate(network.convs):
        theirs, ours = twin[f"convs.{i}.weight"].detach().numpy().ravel(), np.asarray(conv.kernel[...]).ravel()
        quantiles = np.linspace(0.05, 0.95, 7)
        spread = 5 * theirs.std() / np.sqrt(len(theirs))
        np.testing.assert_allclose(np.quantile(ours, quantiles), np.quantile(theirs, quantiles), atol=2 * spread)


def copy(torch, network, twin):
    """Copies the network's parameters to the twin."""
    for name, module in twin.named_modules():
        ours = network
        for part in filter(None, name.split(".")):
            ours = ours[int(part)] if part.isdigit() else getattr(ours, part)
        with torch.no_grad():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.copy_(torch.tensor(np.asarray(ours.kernel[...]).transpose(3, 2, 0, 1)))
            elif isinstance(module, torch.nn.Linear):
                module.weight.copy_(torch.tensor(np.asarray(ours.kernel[...]).T))
            elif isinstance(module, torch.nn.BatchNorm2d):
                module.weight.copy_(torch.tensor(np.asarray(ours.scale[...])))
            if getattr(module, "bias", None) is not None:
                module.bias.copy_(torch.tensor(np.asarray(ours.bias[...])))


FULL = pytest.mark.slow


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        pytest.param(ResNet, {"blocks": (1, 1, 1), "width": 8}, id="slim resnet"),
        pytest.param(ResNet, {"blocks": (2, 2, 2, 2), "width": 64}, marks=FULL, id="resnet18"),
        pytest.param(VGG16, {"width": 8}, id="slim vgg"),
        pytest.param(VGG16, {"width": 64}, marks=FULL, id="vgg16"),
    ],
)
def test_steps_against_pytorch(kind, sizes):
    """Five steps of SGD with Nesterov momentum and weight decay from equal parameters give equal losses."""
    torch = pytest.importorskip("torch")
    # Longer runs, in which the loss of the wide networks rises, would mostly test the growth of rounding errors.
    rate = 3e-4 if sizes["width"] == 64 else 0.02
    network = kind(rngs=nnx.Rngs(0), **sizes)
    twin = (resnet_twin if kind is ResNet else vgg_twin)(torch, **sizes)
    copy(torch, network, twin)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 32, 32, 3)).astype("float32"), rng.integers(0, 10, 16)
    optimizer = torch.optim.SGD(twin.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    theirs = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(twin(torch.tensor(x.transpose(0, 3, 1, 2))), torch.tensor(y))
        loss.backward()
        optimizer.step()
        theirs.append(loss.item())

    chain = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(rate, momentum=0.9, nesterov=True))
    ours, descent = [], nnx.Optimizer(network, chain, wrt=nnx.Param)

    @nnx.jit
    def step(network, descent):
        def loss(network):
            return optax.softmax_cross_entropy_with_integer_labels(network(x), y).mean()

        value, grads = nnx.value_and_grad(loss)(network)
        descent.update(network, grads)
        return value

    for _ in range(5):
        ours.append(float(step(network, descent)))
    assert theirs[-1] < theirs[0]
    np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    network.eval(), twin.eval()
    with torch.no_grad():
        want = twin(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(scores(network, jnp.asarray(x)), want, rtol=2e-2, atol=2e-2)
