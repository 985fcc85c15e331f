"""optax gradient transformations that train sparse parameters."""

from rvsmjax.transforms.admm import ADMMState as ADMMState
from rvsmjax.transforms.admm import admm as admm
from rvsmjax.transforms.leaves.layouts import Layout as Layout
from rvsmjax.transforms.leaves.selection import Mask as Mask
from rvsmjax.transforms.leaves.selection import select as select
from rvsmjax.transforms.metric import Metric as Metric
from rvsmjax.transforms.patterns import KeepZerosState as KeepZerosState
from rvsmjax.transforms.patterns import adaptive_hard_threshold as adaptive_hard_threshold
from rvsmjax.transforms.patterns import keep_zeros as keep_zeros
from rvsmjax.transforms.rvsm import RVSMState as RVSMState
from rvsmjax.transforms.rvsm import SplittingCertificate as SplittingCertificate
from rvsmjax.transforms.rvsm import rvsm as rvsm
from rvsmjax.transforms.scalars import scalars as scalars
from rvsmjax.transforms.sparse import Sparsity as Sparsity
from rvsmjax.transforms.sparse import SplittingState as SplittingState
from rvsmjax.transforms.sparse import lam_for_sparsity as lam_for_sparsity
from rvsmjax.transforms.sparse import sparse_params as sparse_params
from rvsmjax.transforms.sparse import sparsity as sparsity
from rvsmjax.transforms.sparse import sparsity_mask as sparsity_mask
from rvsmjax.transforms.sparse import splitting_states as splitting_states
from rvsmjax.transforms.sparsify import SparsifyState as SparsifyState
from rvsmjax.transforms.sparsify import sparsify as sparsify
from rvsmjax.transforms.sphere import UnitSphereState as UnitSphereState
from rvsmjax.transforms.sphere import unit_sphere as unit_sphere
