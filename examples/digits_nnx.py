"""Flax NNX: a dense network at exactly 91 % sparsity, with ``nnx.Optimizer``."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import rvsmjax as rv


class Net(nnx.Module):
    def __init__(self, rngs):
        self.hidden, self.head = nnx.Linear(64, 512, rngs=rngs), nnx.Linear(512, 10, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.hidden(x)))


def digits(held_out):
    """Returns training and held-out images and labels. The validation set is split off the training set."""
    x, y = load_digits(return_X_y=True)
    x, x_new, y, y_new = train_test_split(jnp.float32(x / 16), y, test_size=360, stratify=y, random_state=0)
    if held_out == "validation":
        x, x_new, y, y_new = train_test_split(x, y, test_size=288, stratify=y, random_state=0)
    return map(jnp.asarray, (x, y, x_new, y_new))


@nnx.jit
def train_step(net, optimizer, x, y):
    gradient = nnx.grad(lambda net: optax.softmax_cross_entropy_with_integer_labels(net(x), y).mean())(net)
    optimizer.update(net, gradient)


def main(seeds=5, epochs=40, held_out="test", beta=0.1, learning_rate=0.1, batch=64):
    x, y, x_new, y_new = digits(held_out)
    steps = epochs * (len(x) // batch)
    top = rv.TopK(sparsity=rv.cubic_sparsity(0.91, begin=0, end=2 * steps // 3), scope="global")
    chain = optax.chain(
        rv.rvsm(top, lam=1.0, beta=beta),  # coupled; λ has no effect on a constraint
        optax.sgd(optax.cosine_decay_schedule(learning_rate, steps), momentum=0.9, nesterov=True),
    )
    accuracies = []
    for seed in range(seeds):
        net = Net(nnx.Rngs(seed))
        optimizer = nnx.Optimizer(net, chain, wrt=nnx.Param)
        for rows in jax.random.randint(jax.random.key(seed), (steps, batch), 0, len(x)):
            train_step(net, optimizer, x[rows], y[rows])
        u = rv.sparse_params(optimizer.opt_state, nnx.state(net, nnx.Param))
        accuracies.append([jnp.mean(m(x_new).argmax(-1) == y_new) for m in (net, nnx.merge(nnx.graphdef(net), u))])
    print(table := rv.sparsity(u))
    for name, accuracy in zip("wu", jnp.asarray(accuracies).T, strict=True):
        print(f"{name}: {accuracy.mean():.2%} ± {accuracy.std(ddof=1):.2%} accuracy on {held_out}", accuracy)
    return float(accuracy.mean()), float(table.total.fraction)


if __name__ == "__main__":
    main()
