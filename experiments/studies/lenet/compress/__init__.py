"""LeNet-5 with ReLU at 71 and 167 times fewer weights: RVSM against ADMM and magnitude pruning at equal epochs.

Command: ``python -m experiments lenet5-compress``.

Each seed has one dense network. From there each method trains for the same epochs at the same learning rates; then its
pattern is frozen and the nonzero weights are fine-tuned, again with the same epochs and rates. 71 times (the figure for
ADMM in the literature) is 98.6 % of zeros, 167 times 99.4 %, over all kernels; biases are neither counted nor pruned.
"""
