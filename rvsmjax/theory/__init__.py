"""What the papers prove and claim, as functions of a run: certificates of a limit, and each claim with its margins."""

from rvsmjax.theory.certificate import Certificate as Certificate
from rvsmjax.theory.certificate import certificate as certificate
from rvsmjax.theory.certificate import certificate_at as certificate_at
from rvsmjax.theory.certificate import lagrangian as lagrangian
from rvsmjax.theory.certificate import largest_learning_rate as largest_learning_rate
from rvsmjax.theory.claim import Claim as Claim
from rvsmjax.theory.claim import Parameters as Parameters
from rvsmjax.theory.claim import Run as Run
from rvsmjax.theory.claims import CLAIMS as CLAIMS
from rvsmjax.theory.margins import Margin as Margin
from rvsmjax.theory.subjects import SUBJECTS as SUBJECTS
from rvsmjax.theory.subjects import Subject as Subject
