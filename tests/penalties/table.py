"""One penalty a kind, with a shape parameter where it has one."""

import rvsmjax as rv

KINDS = {
    "l1": lambda a: rv.L1(),
    "l0": lambda a: rv.L0(),
    "tl1": rv.TransformedL1,
    "mcp": rv.MCP,
    "scad": lambda a: rv.SCAD(1 + a),
    "l_half": lambda a: rv.LHalf(),
    "log_sum": rv.LogSum,
    "capped_l1": rv.CappedL1,
}
