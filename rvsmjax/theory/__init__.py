"""What the papers prove and claim: certificates of a limit here, each claim as margins of a run in ``claims``."""

from rvsmjax.theory.certificate import Certificate as Certificate
from rvsmjax.theory.certificate import certificate as certificate
from rvsmjax.theory.certificate import certificate_at as certificate_at
from rvsmjax.theory.certificate import lagrangian as lagrangian
from rvsmjax.theory.certificate import largest_learning_rate as largest_learning_rate
