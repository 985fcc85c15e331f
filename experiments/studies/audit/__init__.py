"""Audit of the papers' claims on one-layer problems: random and adversarial lanes, and a search for counterexamples.

Command: ``python -m experiments audit --docs docs/audit.md``; ``--replay CLAIM --lane N`` repeats one lane. Expected:
the known errata fail, with counterexamples; their corrections and all other claims stand. About ten minutes.
"""
