"""Networks of the papers' experiments, in Flax NNX. Import with ``from rvsmjax import nets``."""

from rvsmjax.nets.binary import STE as STE
from rvsmjax.nets.binary import binary as binary
from rvsmjax.nets.convolution import convolve as convolve
from rvsmjax.nets.lenet import LeNet as LeNet
from rvsmjax.nets.lenet import LeNet300 as LeNet300
from rvsmjax.nets.quick import QuickNet as QuickNet
from rvsmjax.nets.resnet import ResNet as ResNet
from rvsmjax.nets.resnet import ResNet18 as ResNet18
from rvsmjax.nets.shrink import shrink as shrink
from rvsmjax.nets.vgg import VGG as VGG
from rvsmjax.nets.vgg import VGG16 as VGG16
from rvsmjax.nets.vgg import VGG19 as VGG19
