"""Dynamic sparse training: a pattern of fixed size that moves."""

from rvsmjax.methods.dynamic.rigl import rigl as rigl
from rvsmjax.methods.dynamic.sparse_evolution import sparse_evolution as sparse_evolution
from rvsmjax.methods.dynamic.training import DynamicSparsityState as DynamicSparsityState
