"""LeNet-5 without its zero filters and units: accuracy, size and inference time of the smaller network.

Command: ``python -m experiments lenet5-shrink``.

Each seed starts from the dense network of ``lenet5-compress``. ``rvsm`` with a top-k of groups (filters of both
convolutions and units of the first dense layer, the same share of each) selects the groups to keep; the pattern is
frozen and the remaining weights are fine-tuned; ``nets.shrink`` removes the other groups. The chosen share is the
largest whose mean validation accuracy is at most ``--loss`` points below that of the dense networks.
"""
