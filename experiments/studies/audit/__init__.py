"""Every claim of the papers on the one-layer problems, checked on random and adversarial lanes and by a search.

Command: ``python -m experiments audit --docs docs/audit.md``; one lane again: ``--replay CLAIM --lane N``. Expected:
the errata of the design fail, with counterexamples; their corrections and the rest stand. About ten minutes.
"""

from experiments.cli.command import Command
from experiments.cli.estimate import Cost, in_proportion
from experiments.studies.audit.config import AuditConfig, work

STUDY = Command(
    name="audit",
    config=AuditConfig,
    run=f"{__name__}.run:run",
    workload=in_proportion("audit", Cost(360, 380, 3.7), work),
    examples=("--quick", "--claims A-soft A-5.2.1 --lanes 10000"),
)
