"""Theorem 2 of arXiv 1812.05719: adaptive hard thresholding (Algorithm 2) finds w* and its support.

Claim: for s-sparse w* and w⁰ the iteration converges to w*, unless w⁰ on the support Γ* of w* is zero or at an angle of
π from w*. The learning rate is not stated; the lemma that the proof rests on has η < 1.

Command: ``python -m experiments aht``.

Expected at the defaults (182,000 lanes, 113,000 of which meet the condition): every lane that meets it ends at w* with
the exact support; so does every lane whose supports are apart, as the remark after the theorem says; at an angle of π
none does for k > 1. Three minutes on two cores.
"""
