"""LeNet-5 with ReLU at 71 and 167 times fewer weights: RVSM beside ADMM and magnitude pruning, with equal epochs.

Command: ``python -m experiments lenet5-compress``.

Each seed has one dense network. From it each method trains as many epochs at the same learning rates, then the pattern
it found is frozen and what is left is fine-tuned, again with the same epochs and rates for all. 71 times (ADMM's figure
in the literature) is 98.6 % of zeros, 167 times 99.4 %, over all kernels together; biases are not counted and stay.
"""
