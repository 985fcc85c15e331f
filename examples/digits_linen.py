"""Flax Linen: a dense network whose sparsity λ controls; five seeds in one vmap."""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import rvsmjax as rv


def digits(held_out):
    """Returns training and held-out images and labels. The validation set is split off the training set."""
    x, y = load_digits(return_X_y=True)
    x, x_new, y, y_new = train_test_split(jnp.float32(x / 16), y, test_size=360, stratify=y, random_state=0)
    if held_out == "validation":
        x, x_new, y, y_new = train_test_split(x, y, test_size=288, stratify=y, random_state=0)
    return map(jnp.asarray, (x, y, x_new, y_new))


def main(seeds=5, epochs=50, held_out="test", lam=0.09, beta=3.0, learning_rate=0.1, batch=64):
    x, y, x_new, y_new = digits(held_out)
    net = nn.Sequential([nn.Dense(512), nn.relu, nn.Dense(10)])
    steps = epochs * (len(x) // batch)
    optimizer = optax.chain(
        optax.trace(0.9, nesterov=True),
        rv.rvsm(
            rv.L0(), optax.linear_schedule(0.0, lam, 2 * steps // 3), beta
        ),  # decoupled: after the momentum, like weight decay in AdamW
        optax.scale_by_learning_rate(optax.cosine_decay_schedule(learning_rate, steps)),
    )

    def loss(params, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(net.apply(params, x), y).mean()

    @jax.jit
    @jax.vmap
    def train_step(params, state, key):
        rows = jax.random.randint(key, (batch,), 0, len(x))
        updates, state = optimizer.update(jax.grad(loss)(params, x[rows], y[rows]), state, params)
        return optax.apply_updates(params, updates), state

    keys = jax.random.split(jax.random.key(0), seeds)
    w = jax.vmap(net.init, (0, None))(keys, x[:1])
    state = jax.vmap(optimizer.init)(w)
    for step in range(1, steps + 1):
        w, state = train_step(w, state, jax.vmap(jax.random.fold_in, (0, None))(keys, step))
    u = jax.vmap(rv.sparse_params)(state, w)

    print(table := rv.sparsity(u))
    accuracy = jax.vmap(lambda params: jnp.mean(net.apply(params, x_new).argmax(-1) == y_new))
    for name, values in {"w": accuracy(w), "u": accuracy(u)}.items():
        print(f"{name}: {values.mean():.2%} ± {values.std(ddof=1):.2%} accuracy on {held_out}", values)
    return float(values.mean()), float(table.total.fraction)


if __name__ == "__main__":
    main()
