"""Many runs of one loop, each to its own end: ``run_lanes``."""

from rvsmjax.lanes.combinations import all_combinations as all_combinations
from rvsmjax.lanes.run import Lanes as Lanes
from rvsmjax.lanes.run import run_lanes as run_lanes
