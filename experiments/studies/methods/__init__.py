"""Methods compared: sparse networks by several methods, optimizers and networks at equal sparsity and equal steps.

Question: is ``rv.sparsify(optimizer, sparsity, steps=n)`` with its defaults as good as gradual magnitude pruning (cubic
schedule, masks, fine-tuning of the rest) whatever the optimizer and the network? Both have the learning rate of the
dense network. The ramp of gradual pruning is chosen on validation data; ``sparsify`` has nothing to choose.
Finished runs are kept, one small file each; the table grows with them.

Command: ``python -m experiments methods``; ``--network decoder --optimizer adamw`` for a part, ``--finished`` for the
table of what is there.
"""
