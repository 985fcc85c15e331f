"""Networks of the papers' experiments, in Flax NNX; imported by name: ``from rvsmjax import nets``."""

from rvsmjax.nets.binary import STE as STE
from rvsmjax.nets.binary import binary as binary
from rvsmjax.nets.lenet import LeNet as LeNet
