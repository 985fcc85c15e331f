"""A seed study: one small network under many seeds and hyperparameters in one vmapped training for each penalty.

Digits of 8 × 8 pixels; λ, β, the sparsity and the learning rate are traced, so only another penalty is compiled anew.
A lane's numbers depend on its own seed and hyperparameters alone; lanes of one seed share first weights and the order
of the images, so penalties can be compared seed by seed. Settings are chosen by validation images; the test images are
looked at once, at the end, by the chosen ones.

Command: ``python -m experiments seeds``; ``--network conv`` for the convolutional one.

Expected at the defaults (450 trainings): test accuracy of u, in %, with 95 % intervals, at 80 % zeros or more: top-k
96.6 ± 0.3, Tl1 96.4 ± 0.5, l0 96.2 ± 0.2, l1 96.0 ± 0.2; without a penalty 96.9 ± 0.3. On two idle cores eight seeds
together (l1, l0, none, 10 epochs) are 2.3 times as fast as eight compiled runs one after another: 1.3 times by ``vmap``
alone, the rest by the second core; ``conv`` 2.2 times. In float64 their weights agree to 1e-12; in float32 those of
``dense`` to 1e-5 but for seeds in which rounding is amplified (3e-3), and those of ``conv`` drift apart in 20 epochs.
"""
