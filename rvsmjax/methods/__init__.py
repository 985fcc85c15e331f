"""Methods of others for sparse training, as optax gradient transformations."""

from rvsmjax.methods.bregman import BregmanState as BregmanState
from rvsmjax.methods.bregman import bregman as bregman
from rvsmjax.methods.elsa import ElsaState as ElsaState
from rvsmjax.methods.elsa import elsa as elsa
from rvsmjax.methods.proximal import ProximalState as ProximalState
from rvsmjax.methods.proximal import proximal as proximal
from rvsmjax.methods.safe import safe as safe
from rvsmjax.methods.start import sparse_start as sparse_start
