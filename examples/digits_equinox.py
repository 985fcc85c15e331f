"""Equinox: a dense network at exactly 91 % sparsity; arrays are partitioned from the module."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
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


def main(seeds=5, epochs=40, held_out="test", beta=0.1, learning_rate=0.1, batch=64):
    x, y, x_new, y_new = digits(held_out)
    steps = epochs * (len(x) // batch)
    top = rv.TopK(sparsity=rv.cubic_sparsity(0.91, begin=0, end=2 * steps // 3), scope="global")
    optimizer = optax.chain(
        rv.rvsm(top, lam=1.0, beta=beta),  # coupled; λ has no effect on a constraint
        optax.sgd(optax.cosine_decay_schedule(learning_rate, steps), momentum=0.9, nesterov=True),
    )

    @eqx.filter_jit
    def train_step(params, state, x, y):
        def loss(params):
            logits = jax.vmap(eqx.combine(params, static))(x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return eqx.apply_updates(params, updates), state

    accuracies = []
    for key in jax.random.split(jax.random.key(0), seeds):
        w, static = eqx.partition(eqx.nn.MLP(64, 10, 512, depth=1, key=key), eqx.is_inexact_array)
        state = optimizer.init(w)
        for rows in jax.random.randint(jax.random.fold_in(key, 1), (steps, batch), 0, len(x)):
            w, state = train_step(w, state, x[rows], y[rows])
        u = rv.sparse_params(state, w)
        accuracies.append([jnp.mean(jax.vmap(eqx.combine(p, static))(x_new).argmax(-1) == y_new) for p in (w, u)])

    print(table := rv.sparsity(u))
    for name, accuracy in zip("wu", jnp.asarray(accuracies).T, strict=True):
        print(f"{name}: {accuracy.mean():.2%} ± {accuracy.std(ddof=1):.2%} accuracy on {held_out}", accuracy)
    return float(accuracy.mean()), float(table.total.fraction)


if __name__ == "__main__":
    main()
