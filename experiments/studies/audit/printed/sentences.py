"""Sentences of the papers beyond their numbered results: the claims that state them, or why none can."""

from __future__ import annotations

from typing import NamedTuple


class Sentence(NamedTuple):
    """A sentence of a paper.

    Attributes:
      where: paper and place.
      says: the sentence, in short.
      claims: names of the claims that state it.
      reason: why no claim can, or what else there is to say.
    """

    where: str
    says: str
    claims: tuple[str, ...] = ()
    reason: str = ""


_FUTURE = "An announcement of later work says nothing that could be false."

SENTENCES = (
    Sentence(
        "A eq. 2",
        "training minimises the mean over m samples",
        reason="A definition. All claims are about its limit m → ∞, f, in closed form; the tests compare f and ∇f with "
        "samples.",
    ),
    Sentence("A section 3.1", "(10) is equivalent to a constraint ‖w‖ ≤ t", ("A-3.1-ball",)),
    Sentence("A Lemma 5.1.1", "f is not differentiable at 0", ("A-5.1.1-kink",)),
    Sentence("A Lemma 5.1.1", "for k = 1, 0 is not a local maximum", ("A-5.1.1-k1",)),
    Sentence(
        "A Remark 4.1",
        "the limit does not necessarily satisfy the KKT condition, but (16)",
        ("A-4.1",),
        "It never does: ∇_w L has a positive part along w̄ at every limit with l1.",
    ),
    Sentence(
        "A Remark 4.2", "w̄ is some soft-thresholded version of w*, normalised", ("A-4.2-soft", "A-4.2-soft-right")
    ),
    Sentence(
        "A Corollary 1.1",
        "“Under similar conditions”, which its proof turns into ū ≠ 0",
        ("A-cor1.1-nonzero",),
        "The paper does not spell the conditions out; similar to λ/β < 1/√d, the threshold of l1, is the penalty's own "
        "threshold below 1/√d. Under λ/β < 1/√d itself, l0 and tl1 may end in ū = 0.",
    ),
    Sentence(
        "A proof of Lemma 5.1.5",
        "w^{t+1} − w^t makes acute angles with w^t and w^{t+1}",
        ("A-5.1.5-bisects", "A-5.1.5-bisects-right"),
    ),
    Sentence("A Lemma 5.1.5", "L decreases, with no bound on β", ("A-5.1.5", "A-5.1.5-right", "A-5.1.5-wide")),
    Sentence("A Figures 1, 3", "", reason="Diagrams of the network and of a proof's worst case: they state no number."),
    Sentence("A section 5.3", "the Tℓ1 thresholding is continuous iff λ < a²/(2(a + 1))", ("A-5.3-continuous",)),
    Sentence(
        "A section 5.3",
        "(2λ/β)^{1/2} is much larger than λ/β, so l0 is more likely to kill all components as d grows",
        ("A-5.3-killed",),
        "“O(10^{−2n}) … O(10^{−n}), n = d/k” names no constants: no claim.",
    ),
    Sentence(
        "A Lemma 5.4.3",
        "after O(1/ε²) iterations w^t is O(√ε) close to w*",
        ("A-thm2",),
        "The limit is a claim. The rate cannot be one: its constants may depend on w⁰ and must, since the number of "
        "steps is unbounded as θ⁰ → π; a run that converges then meets it with constants of its own.",
    ),
    Sentence(
        "A proof of Theorem 2",
        "thresholding replaces an entry off Γ* by one of Γ*",
        ("A-thm2-swap", "A-thm2-swap-right"),
    ),
    Sentence("A proof of Theorem 2", "w^t is at most 2s-sparse", ("A-thm2-2s",)),
    Sentence("I eq. 15, 16", "|AB| + |BC| ≤ L₃|AC|", ("I-eq16",), "L₃ = 3 serves."),
    Sentence(
        "I section 4",
        "without the condition on β the Lagrangian falls, but the limit may be far from w*",
        ("I-lemma6-wide", "I-lemma6-late-wide"),
        "“May not have θ(w̄, w*) < δ” needs one example: with l1, β = 1, λ = 0.2 and k = 1000, runs end near a "
        "coordinate axis, whatever w*.",
    ),
    Sentence("I proof of Lemma 6", "η ≤ 2/(β + L) suffices", ("I-lemma6-wide",)),
    Sentence(
        "I Algorithm 1",
        "w^{t+1} uses u^t = S(w^{t−1}), where the proof of Lemma 6 uses u^{t+1} = S(w^t)",
        ("I-lemma6-late", "I-lemma6-late-wide"),
        "The Lagrangian falls either way.",
    ),
    Sentence("I Lemma 5", "k ≥ 1, M_k → 0, no condition on β", ("I-lemma5", "I-lemma5-right", "I-lemma5-annulus")),
    Sentence("I proof of Theorem 1", "‖u^1‖ ≤ 1", ("I-thm1-u", "I-thm1-u-right")),
    Sentence("I section 7", "theory for classification is future work", reason=_FUTURE),
    Sentence("F Remark 1", "‖E[g]‖ is bounded away from zero", ("F-remark1-bounded", "F-remark1-bounded-right")),
    Sentence("F Remark 1", "(12) explains the sparsity in w̄", ("F-remark1-zeros", "F-remark1-zeros-right")),
    Sentence("F Remark 2", "L_f = 4√k/π is sharper than K = k/√(2π)", ("F-remark2", "F-remark2-right")),
    Sentence("F proof of Lemma 6", "as A proof of Lemma 5.1.5", ("F-lemma6-bisects", "F-lemma6-bisects-right")),
    Sentence(
        "F section 1.1",
        "ū of l0 recovers sparse w* accurately",
        reason="An observation without a setting, a sparsity or a criterion: “accurately” has no margin. At F's only "
        "setting (section 6) the threshold of l0 is 0.22, so that ū keeps the components of w̄ above 0.22 and "
        "no others.",
    ),
    Sentence("F sections 6, 7", "more bits, and classification, are future work", reason=_FUTURE),
)
"""In the order of the papers."""
