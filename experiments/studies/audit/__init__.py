"""Every claim of the papers on the one-layer problems, checked on random and adversarial lanes and by a search.

Command: ``python -m experiments audit --docs docs/audit.md``; one lane again: ``--replay CLAIM --lane N``. Expected:
the errata of the design fail, with counterexamples; their corrections and the rest stand. About ten minutes.
"""
