"""Folded concave penalties Σ ρ(|x_i|): ρ(0) = 0, increasing and concave, so that large components shrink less."""

from rvsmjax.penalties.concave.capped_l1 import CappedL1 as CappedL1
from rvsmjax.penalties.concave.l_half import LHalf as LHalf
from rvsmjax.penalties.concave.log_sum import LogSum as LogSum
from rvsmjax.penalties.concave.mcp import MCP as MCP
from rvsmjax.penalties.concave.scad import SCAD as SCAD
