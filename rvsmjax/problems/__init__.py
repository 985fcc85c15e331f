"""Problems: the one-layer ones with a known solution, and the interface of others."""

from rvsmjax.problems.base import OneLayerProblem as OneLayerProblem
from rvsmjax.problems.base import splitting_residual as splitting_residual
from rvsmjax.problems.binary import NoOverlapBinary as NoOverlapBinary
from rvsmjax.problems.problem import Problem as Problem
from rvsmjax.problems.relu import NoOverlapReLU as NoOverlapReLU
