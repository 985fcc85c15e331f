"""Seed study: a small network with many seeds and hyperparameters in one vmapped training per penalty.

Digits of 8 × 8 pixels. λ, β, the sparsity and the learning rate are traced, so only a new penalty needs compilation.
A lane's result depends only on its seed and hyperparameters. Lanes of a seed share initial weights and image order, so
penalties can be compared seed by seed. Settings are chosen on validation images; only the chosen ones are evaluated
on the test images, once, at the end.

Command: ``python -m experiments seeds``; ``--network conv`` for the convolutional one.

Expected at the defaults (450 trainings): test accuracy of u, in %, with 95 % intervals, at 80 % zeros or more: top-k
96.6 ± 0.3, Tl1 96.4 ± 0.5, l0 96.2 ± 0.2, l1 96.0 ± 0.2; without a penalty 96.9 ± 0.3. On two idle cores eight seeds
together (l1, l0, none, 10 epochs) are 2.3 times as fast as eight compiled runs in sequence: 1.3 times from ``vmap``,
the rest from the second core; ``conv`` 2.2 times. In float64 the weights of both agree to 1e-12; in float32 those of
``dense`` agree to 1e-5 except for seeds that amplify rounding (3e-3), and those of ``conv`` drift apart in 20 epochs.
"""
