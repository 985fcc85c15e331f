"""VGG-16 and ResNet18 on CIFAR-10: I Tables 1 and 2, and accuracy against sparsity.

Command: ``python -m experiments cifar --net resnet18``.

The full networks need an accelerator; ``--net slim --preset short`` is a small residual network for a few epochs on a
CPU. A run stops after ``--minutes`` and resumes when the command is run again; ``experiments.accelerator`` trains the
full networks in minutes on a rented accelerator.
"""
