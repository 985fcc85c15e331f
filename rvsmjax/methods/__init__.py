"""Methods of others for sparse training, as optax gradient transformations."""

from rvsmjax.methods.ac_dc import ACDCState as ACDCState
from rvsmjax.methods.ac_dc import ac_dc as ac_dc
from rvsmjax.methods.bregman import BregmanState as BregmanState
from rvsmjax.methods.bregman import bregman as bregman
from rvsmjax.methods.dynamic import DynamicSparsityState as DynamicSparsityState
from rvsmjax.methods.dynamic import rigl as rigl
from rvsmjax.methods.dynamic import sparse_evolution as sparse_evolution
from rvsmjax.methods.elsa import ElsaState as ElsaState
from rvsmjax.methods.elsa import elsa as elsa
from rvsmjax.methods.gradual_pruning import GradualPruningState as GradualPruningState
from rvsmjax.methods.gradual_pruning import gradual_pruning as gradual_pruning
from rvsmjax.methods.proximal import ProximalState as ProximalState
from rvsmjax.methods.proximal import proximal as proximal
from rvsmjax.methods.reparametrized import ReparametrizedState as ReparametrizedState
from rvsmjax.methods.reparametrized import soft_threshold_reparametrization as soft_threshold_reparametrization
from rvsmjax.methods.safe import safe as safe
from rvsmjax.methods.sr_ste import SRSTEState as SRSTEState
from rvsmjax.methods.sr_ste import sr_ste as sr_ste
from rvsmjax.methods.start import sparse_start as sparse_start
