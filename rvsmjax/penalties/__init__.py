"""Penalties: values, proximal operators and thresholds."""

from rvsmjax.penalties.base import Penalty as Penalty
from rvsmjax.penalties.base import moreau_envelope as moreau_envelope
from rvsmjax.penalties.concave import MCP as MCP
from rvsmjax.penalties.concave import SCAD as SCAD
from rvsmjax.penalties.concave import CappedL1 as CappedL1
from rvsmjax.penalties.concave import LHalf as LHalf
from rvsmjax.penalties.concave import LogSum as LogSum
from rvsmjax.penalties.grouped import Grouped as Grouped
from rvsmjax.penalties.l0 import L0 as L0
from rvsmjax.penalties.l1 import L1 as L1
from rvsmjax.penalties.l1_minus_l2 import L1MinusL2 as L1MinusL2
from rvsmjax.penalties.n_of_m import NM as NM
from rvsmjax.penalties.slope import SLOPE as SLOPE
from rvsmjax.penalties.top_k import TopK as TopK
from rvsmjax.penalties.transformed_l1 import TransformedL1 as TransformedL1
