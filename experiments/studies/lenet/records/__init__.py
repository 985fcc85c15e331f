"""LeNet with ReLU at the fewest weights that are published: 68 times fewer for 300-100, 280 and 390 for LeNet-5.

Command: ``python -m experiments lenet-records``.

Each method trains from random weights, for the same epochs. Zeros are counted over all kernels; biases are neither
counted nor pruned.
"""
