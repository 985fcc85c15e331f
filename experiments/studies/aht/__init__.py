"""Theorem 2 of arXiv 1812.05719: adaptive hard thresholding (Algorithm 2) recovers w* and its support.

Claim: for s-sparse w* and w⁰ the iteration converges to w*, unless w⁰ restricted to the support Γ* of w* is zero
or at an angle of π to w*. The theorem states no learning rate; the lemma behind its proof assumes η < 1.

Command: ``python -m experiments aht``.

Expected at the defaults (182,000 lanes, 113,000 of which meet the condition): every lane that meets the condition
converges to w* with the exact support; so does every lane with disjoint supports, as the remark after the theorem says;
at an angle of π none does for k > 1. Three minutes on two cores.
"""
