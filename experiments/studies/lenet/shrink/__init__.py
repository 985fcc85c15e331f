"""LeNet-5 with whole filters and units at zero, made physically smaller: accuracy, size, time of inference.

Command: ``python -m experiments lenet5-shrink``.

Each seed has one dense network, that of ``lenet5-compress``. From it ``rvsm`` with the top-k of units (of the filters
of both convolutions and of the units behind them, the same share of each) finds which ones stay; the pattern is frozen
and what is left is fine-tuned; ``nets.shrink`` takes the others out. Of the shares asked for, validation chooses: the
largest whose mean accuracy there is at most ``--loss`` points under that of the dense networks.
"""
