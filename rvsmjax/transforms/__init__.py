"""Gradient transformations that make parameters sparse, for any optax chain."""

from rvsmjax.transforms.rvsm import RVSMState as RVSMState
from rvsmjax.transforms.rvsm import rvsm as rvsm
from rvsmjax.transforms.selection import select as select
from rvsmjax.transforms.sparse import Sparsity as Sparsity
from rvsmjax.transforms.sparse import sparse_params as sparse_params
from rvsmjax.transforms.sparse import sparsity as sparsity
from rvsmjax.transforms.sparse import splitting_state as splitting_state
from rvsmjax.transforms.sphere import UnitSphereState as UnitSphereState
from rvsmjax.transforms.sphere import unit_sphere as unit_sphere
