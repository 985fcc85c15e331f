"""LeNet with binarized activations on MNIST: F Table 1, and the best accuracy of a sparse network (``--best``).

Command: ``python -m experiments lenet-binary``; ``--best`` for the second question.

The paper does not state the LeNet, the batch size, the straight-through estimator, the groups, or which weights are
counted. Chosen here: 20-50-500-10; batches of 64; the clipped-ReLU estimator (with the ReLU of F eq. 8 the network
barely learns at the paper's learning rate, see the report); groups of all weights into a filter or unit; r = β(w − u)
before momentum; zeros counted over all kernels. The report compares other choices.
"""
