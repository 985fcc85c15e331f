"""Penalties: values, proximal operators and thresholds."""

from rvsmjax.penalties.base import Penalty as Penalty
from rvsmjax.penalties.base import moreau_envelope as moreau_envelope
from rvsmjax.penalties.grouped import Grouped as Grouped
from rvsmjax.penalties.l0 import L0 as L0
from rvsmjax.penalties.l1 import L1 as L1
from rvsmjax.penalties.n_of_m import NM as NM
from rvsmjax.penalties.top_k import TopK as TopK
from rvsmjax.penalties.transformed_l1 import TransformedL1 as TransformedL1
