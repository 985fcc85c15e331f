"""One-layer problems with a known solution."""

from rvsmjax.problems.base import OneLayerProblem as OneLayerProblem
from rvsmjax.problems.base import splitting_residual as splitting_residual
from rvsmjax.problems.binary import NoOverlapBinary as NoOverlapBinary
from rvsmjax.problems.relu import NoOverlapReLU as NoOverlapReLU
