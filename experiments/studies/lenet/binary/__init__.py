"""LeNet with binarized activations on MNIST: F Table 1, and how good a sparse one can be (``--best``).

Command: ``python -m experiments lenet-binary``; ``--best`` for the second question.

The source leaves open which LeNet, which batch, which slope stands in for that of the step, what a group is and which
weights are counted. Chosen here: 20-50-500-10; batches of 64; the clipped ReLU's slope (with the ReLU's, F eq. 8, the
network barely learns at the source's learning rate: the report has it); the group of all weights into a filter or a
unit; r = β(w − u) before momentum; zeros counted over all kernels. What other choices give is in the report.
"""
