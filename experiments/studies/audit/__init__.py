"""Audit of the papers' claims on one-layer problems: random and adversarial lanes, and a search for counterexamples.

Command: ``python -m experiments audit --docs docs/audit.md``; ``--replay CLAIM --lane N`` repeats one lane. Expected:
the claims of ``flaws`` fail, each with the sentence that it refutes and a counterexample; their corrections, their
forms under a missing hypothesis and all other claims stand. About 15 minutes.
"""
