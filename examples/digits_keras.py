"""Keras 3 on JAX: ``model.fit`` with any optax transformation as its optimizer, at 91 % sparsity."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import rvsmjax as rv


class Optax(keras.optimizers.Optimizer):
    """A Keras optimizer whose variables are the state of an optax transformation."""

    def __init__(self, transformation):
        super().__init__(learning_rate=0.0)  # the transformation has its own
        self.transformation = transformation

    def build(self, variables):
        super().build(variables)
        leaves, self.structure = jax.tree.flatten(self.transformation.init(self.params(variables)))
        self.leaves = [self.add_variable(x.shape, lambda shape, dtype, x=x: x, str(x.dtype)) for x in leaves]

    def params(self, variables):
        """Returns the parameters by path, from which masks and overrides choose."""
        return {variable.path: variable.value for variable in variables}

    def apply(self, grads, trainable_variables=None):
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        self.built or self.build(variables)
        state = jax.tree.unflatten(self.structure, [leaf.value for leaf in self.leaves])
        params, grads = self.params(variables), dict(zip([v.path for v in variables], grads, strict=True))
        updates, state = self.transformation.update(grads, state, params)
        new = optax.apply_updates(params, updates)
        for variable, value in zip(self.leaves, jax.tree.leaves(state), strict=True):
            variable.assign(value)
        for variable in variables:
            variable.assign(new[variable.path])
        self.iterations.assign_add(1)


def digits(held_out):
    """Returns training and held-out images and labels. The validation set is split off the training set."""
    x, y = load_digits(return_X_y=True)
    x, x_new, y, y_new = train_test_split(np.float32(x / 16), y, test_size=360, stratify=y, random_state=0)
    if held_out == "validation":
        x, x_new, y, y_new = train_test_split(x, y, test_size=288, stratify=y, random_state=0)
    return x, y, x_new, y_new


def main(seeds=5, epochs=40, held_out="test", learning_rate=3e-3, batch=64):
    x, y, x_new, y_new = digits(held_out)
    accuracies = []
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.layers.Dense(512, "relu"), keras.layers.Dense(10)])
        optimizer = Optax(rv.sparsify(optax.adam(learning_rate), 0.91, steps=epochs * -(-len(x) // batch)))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, metrics=["accuracy"])
        model.fit(x, y, batch, epochs, verbose=0)
        accuracies.append(model.evaluate(x_new, y_new, verbose=0)[1])
    print(table := rv.sparsity(optimizer.params(model.trainable_variables)))
    print(f"u: {np.mean(accuracies):.2%} ± {np.std(accuracies, ddof=1):.2%} accuracy on {held_out}", accuracies)
    return float(np.mean(accuracies)), float(table.total.fraction)


if __name__ == "__main__":
    main()
