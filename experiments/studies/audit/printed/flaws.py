"""The printed sentences that claims refute, word for word, with what each lacks."""

from __future__ import annotations

from ..claim import Flaw

_BISECTS = "It follows that θ(w^{t+1} − w^t, w^t) and θ(w^{t+1} − w^t, w^{t+1}) are strictly less than π/2."
_BISECTS_NOTE = "−w^t in place of w^t, as in the sentence before and in the inner product that follows"
_SMALL = "2kλ√d < 1: “for small λ such that 2kλ√d < 1”, A proof of Theorem 1, after (18)"
_CONSTANT = "k/(2π) in place of k/(2√(2π)), as in F (18): the factor √(2/π) of F (8) is missing from F Lemma 5 on"

FLAWS: dict[str, Flaw] = {
    "A-5.2.2": Flaw(
        "misprint",
        "Then the optimal solution y*_λ(x) = arg min_y f_{λ,x}(y) is a threshold function y*_λ(x) = {0, |x| < λ; x, "
        "|x| ≥ λ}",
        "A Lemma 5.2.2",
        "√(2λ) in place of λ: A section 5.3, “the thresholding of the ℓ0 penalty is (2λ/β)^{1/2}”, F Lemma 9",
    ),
    "A-5.3-continuous": Flaw(
        "misprint",
        "The TL1 thresholding function is continuous when λ < a²/(2(a+1)), and has a jump discontinuity at threshold "
        "otherwise.",
        "A section 5.3",
        "≤ in place of <, as in A Lemma 5.2.1 (1): at equality the jump √(2λ(a + 1)) − a is 0",
    ),
    "A-eq7": Flaw(
        "misprint",
        "Then the population loss can be simplified as f(w) = (1/k²) Σ_{i,j} [g(w_i, w_i) − 2g(w_i, w*_j) + g(w*_i, "
        "w*_j)].",
        "A eq. 7",
        "g(w_i, w_j) in place of g(w_i, w_i); A eq. 8 follows from that",
    ),
    "A-3.1-ball": Flaw(
        "misprint",
        "This problem is equivalent to minimizing f(w) under the constraint ‖w‖ ≤ t.",
        "A section 3.1, after (10)",
        "‖w‖₁ ≤ t: a minimiser of f + λ‖w‖₁ has no smaller f where ‖·‖₁ is at most its own. Whether every t has a λ, f "
        "not being convex, the sentence leaves open",
    ),
    "A-5.1.3": Flaw(
        "misprint",
        "for all 0 ≤ τ ≤ 1, x + τ(y − x) ∈ D and ‖∇f(x + τ(y − x)) − ∇f(x)‖ ≤ L‖x − y‖. Then we have |f(y) − f(x) − "
        "⟨∇f(x), y − x⟩| ≤ (L/2)‖x − y‖²",
        "A Lemma 5.1.3",
        "Lτ‖x − y‖ in place of L‖x − y‖, which is what a Lipschitz gradient gives where the lemma is used",
    ),
    "A-5.1.5": Flaw(
        "hypothesis missing",
        "For η small such that η ≤ 2/β, we have L_β(u^{t+1}, w^{t+1}) ≤ L_β(u^t, w^t).",
        "A Lemma 5.1.5",
        "η ≤ 1/(β + L) and moves of at most 1/2: the last sentence of its proof, and A Theorem 1 (i)",
    ),
    "A-5.1.5-bisects": Flaw("misprint", _BISECTS, "A proof of Lemma 5.1.5", _BISECTS_NOTE),
    "A-eq12": Flaw(
        "hypothesis missing",
        "for some constant C such that 0 < C ≤ 1/(1 − 2kλ√d)",
        "A Theorem 1, after (12)",
        _SMALL,
    ),
    "A-cor1.1-eq12": Flaw(
        "hypothesis missing",
        "and the limit point w̄ also satisfies equation (12) and bound (13).",
        "A Corollary 1.1",
        _SMALL,
    ),
    "A-4.2-soft": Flaw(
        "fails",
        "Thus w̄ is some soft-thresholded version of w*, after some normalization.",
        "A Remark 4.2; A proof of Theorem 1, before (19)",
        "where |w̄_i| ≤ λ/β, w*_i is a multiple of w̄_i, so that no component of w̄ becomes 0; true if all |w̄_i| ≥ λ/β",
    ),
    "A-sec1-order": Flaw(
        "fails",
        "The ℓ0 penalty promotes sparsity of ū most effectively, with smallest angular error in w̄ approximation of w* "
        "and smallest value of f(w̄).",
        "A section 1",
        "the order is the reverse one, which A section 5.3 states for f(w̄): “the ℓ1 penalty gives the smallest "
        "population loss at the limit point w̄, followed by TL1 and ℓ0 penalties”. The first part stands "
        "(A-sec1-order-zeros)",
    ),
    "A-5.4.1-norm": Flaw(
        "fails",
        "Furthermore, if the update w^{t+1} does not apply the H_s function, then ‖w^{t+1}‖ ≥ ‖w^t‖.",
        "A Lemma 5.4.1",
        "no condition of A bounds ‖w^t‖; true up to the norm of the saddle",
    ),
    "A-thm2-shrinks": Flaw(
        "fails",
        "Notice that c_1(t) = 1 − (η/k²)(k + (k² − k)/π − …) is bounded between 0 and 1.",
        "A proof of Theorem 2, before (20)",
        "c_1(t) > 1 where ‖w^t‖ is small or θ large; Theorem 2 itself stands (A-thm2)",
    ),
    "A-thm2-swap": Flaw(
        "fails",
        "So if the n^th update applies the H_s function, it must replace one of the entries from Γ^{t+n} ∖ Γ* by an "
        "entry from Γ*.",
        "A proof of Theorem 2, after (20)",
        "the entry that leaves may be one of Γ*; the one that enters is in Γ*",
    ),
    "I-lemma5-grows": Flaw(
        "fails",
        "First we show that if ‖w^t‖ < ‖w*‖, then the update of Algorithm 1 will satisfy ‖w^{t+1}‖ > ‖w^t‖.",
        "I section 5.2",
        "the proof itself then needs “when ‖w*‖/‖w^t‖ is large”; limits have ‖w̄‖ < ‖w*‖ and ‖w^t‖ falls towards them",
    ),
    "I-lemma5": Flaw(
        "hypothesis missing",
        "For k ≥ 1, there exists constants M_k, T > 0 such that for all t ≥ T, the iterations of Algorithm 1 satisfy: "
        "‖w^t‖ ∈ [‖w*‖ − M_k, ‖w*‖ + M_k]. (14) where M_k < ‖w*‖, and M_k → 0 as k → ∞.",
        "I Lemma 5",
        "β = O(1/k), as β ≤ δ sin δ/(kπ) of I Theorem 1 (iii) gives; for a fixed β the gap tends to πβ⟨w̄ − ū, w̄⟩/‖w̄‖",
    ),
    "I-thm1-u": Flaw(
        "fails",
        "since ‖u^1‖ ≤ 1, it is sufficient to have β ≤ δ sin δ/(kπ).",
        "I proof of Theorem 1",
        "‖u^1‖ ≤ ‖w^0‖, which no condition of I bounds; in A, from where the step comes, ‖w^0‖ = 1. What it is to show "
        "stands (I-thm1-stays)",
    ),
    "I-thm1-monotone": Flaw(
        "fails",
        "The conditions on η, β, λ are used to show θ^{t+1} ≤ θ^t",
        "I section 4, on Theorem 1; I Corollary 2: “The Lagrangian and angle θ^t also decrease monotonically”",
        "the proof shows θ^t ≤ π − δ alone, which stands (I-thm1-stays)",
    ),
    "I-thm1-chord": Flaw(
        "fails",
        "‖w̄ − w*‖ is comparable to the chord length of the circle of radius ‖w*‖ and angle θ: ‖w̄ − w*‖ = O(2 "
        "sin(θ/2)) = O(sin θ) = O(kπβ‖ū‖ sin γ/(π − θ)) = O(kβ sin γ).",
        "I proof of Theorem 1",
        "‖w̄‖ < ‖w*‖, so the difference has a radial part where θ = 0; what it is to show, O(β), stands (I-thm1-iii)",
    ),
    "I-eq12": Flaw("hypothesis missing", "constant C ∈ (0, 1/(1 − 2kλ√d))", "I Corollary 1", _SMALL),
    "I-cor2-eq12": Flaw(
        "hypothesis missing",
        "equation (12) holds with S_{λ/β}(·) replaced by the thresholding operator of the corresponding penalty.",
        "I Corollary 2",
        _SMALL,
    ),
    "F-eq14": Flaw(
        "misprint",
        "then the true gradient of the population loss f(w) is ∇f(w) = (−k/(2π‖w‖))(I − ww^T/‖w‖²)w*",
        "F Lemma 2, eq. 14",
        "over ‖(I − ŵŵᵀ)w*‖ = sin θ; F Lemma 1 follows from that",
    ),
    "F-lemma5-half": Flaw(
        "fails",
        "for some constant C̄, c_1, c_2 > 0, where c_2 = k/(2√(2π))",
        "F proof of Lemma 7, after (20); the same constant in the proof of Lemma 5",
        _CONSTANT,
    ),
    "F-lemma3": Flaw(
        "fails",
        "there exists a constant L_f > 0 depends on c and C such that ‖∇f(w_1) − ∇f(w_2)‖ ≤ L_f‖w_1 − w_2‖",
        "F Lemma 3, with L_f = 4√k/π of F Remark 2",
        "f has a cone at w*, so that ∇f jumps across it and no L_f exists; (14) as misprinted has no jump",
    ),
    "F-remark2": Flaw(
        "fails",
        "when c = 1/2 and C = 1/2, one has L_f = 4√k/π, which is a sharper bound than K = k/√(2π) in the coarse "
        "gradient case.",
        "F Remark 2",
        "4√k/π < k/√(2π) for k ≥ 11 alone; nor is 4√k/π a bound (F-lemma3)",
    ),
    "F-remark1-bounded": Flaw(
        "misprint",
        "‖E_Z[g(w^t, Z)]‖ is bounded away from zero, and thus ‖E_Z[g(w^t, Z)] + β(w^t − u^{t+1})‖ is also bounded.",
        "F Remark 1",
        "“bounded”, which is what the conclusion needs: E[g] = (k/π) sin(θ/2) in norm, which vanishes at w*",
    ),
    "F-lemma4-eq17": Flaw(
        "hypothesis missing",
        "Moreover, there exists a constant L such that f(w_2) − f(w_1) ≤ ⟨E_Z[g(w_1, Z)], w_2 − w_1⟩ + (L/2)‖w_2 − "
        "w_1‖².",
        "F Lemma 4, eq. 17",
        "“for ‖w_1‖ = ‖w_2‖ = 1 and θ_2 ≤ θ_1”, F proof of Lemma 4",
    ),
    "F-lemma5": Flaw(
        "fails",
        "Suppose the initialization of the RVSCGD algorithm satisfies θ^0 ≤ π − δ and β ≤ k sin δ/(2√(2π)), then "
        "θ^{t+1} ≤ θ^t.",
        "F Lemma 5",
        "“It suffices to show that if θ^t ≤ π − δ, then θ^{t+1} ≤ π − δ”: that stands (F-lemma5-stays), the lemma "
        "does not",
    ),
    "F-lemma6": Flaw(
        "fails",
        "Suppose the initialization of the RVSCGD algorithm satisfies η ≤ 1/(β + L), where L is the Lipschitz "
        "constant in Lemma 4, then L_β(u^{t+1}, w^{t+1}) ≤ L_β(u^t, w^t).",
        "F Lemma 6; F Theorem 1: “Then the Lagrangian L_β(u^t, w^t) decreases monotonically”",
        "its proof uses (17), which needs θ^{t+1} ≤ θ^t (F-lemma4-eq17), and so F Lemma 5, which fails",
    ),
    "F-lemma6-wide": Flaw(
        "fails",
        "Suppose the initialization of the RVSCGD algorithm satisfies η ≤ 1/(β + L), where L is the Lipschitz "
        "constant in Lemma 4, then L_β(u^{t+1}, w^{t+1}) ≤ L_β(u^t, w^t).",
        "F Lemma 6",
        "as F-lemma6",
    ),
    "F-lemma6-bisects": Flaw("misprint", _BISECTS, "F proof of Lemma 6", _BISECTS_NOTE),
    "F-cor1.1-angle": Flaw(
        "fails",
        "Next, we show the iterations satisfy θ^{t+1} ≤ θ^t, and L_β(u^{t+1}, w^{t+1}) ≤ L_β(u^t, w^t). … In none of "
        "these steps do we use convexity of the ℓ1 penalty term. Here we extend our result to ℓ0 and transformed ℓ1 "
        "(Tℓ1) regularization",
        "F section 4, before Corollary 1.1, which itself does not name the angle",
        "as F-lemma5",
    ),
    "F-cor1.1-lagrangian": Flaw(
        "fails",
        "First we show that L_{β,Tℓ1}(u^t, w^t) and L_{β,0}(u^t, w^t) both decrease under the update of u^t and w^t.",
        "F section 5.6, Step 1",
        "as F-lemma6",
    ),
    "F-eq12": Flaw(
        "fails",
        "w* = (2√(2π)/k)β(w̄ − S_{λ/β}(w̄)) + Cw̄ (12) … for some constant C ≥ (k − 2λ√(2πd))/k",
        "F Theorem 1 (ii)",
        _CONSTANT,
    ),
    "F-cor1.1-eq12": Flaw(
        "fails",
        "Then the RVSCGD iterations converge to a limit point (ū, w̄) satisfying Equation (12) with ℓ0's hard "
        "thresholding operator [18] or Tℓ1 thresholding [19] replacing S_{λ/β}",
        "F Corollary 1.1",
        _CONSTANT,
    ),
    "F-eq22": Flaw(
        "fails",
        "which implies (k/(2√(2π))) sin θ = β‖ū‖ sin γ (22)",
        "F proof of Lemma 7",
        _CONSTANT,
    ),
    "F-remark1-zeros": Flaw(
        "fails",
        "w̄ is (up to a scalar multiple) a shrinkage of w*, which explains the source of sparsity in w̄.",
        "F Remark 1",
        "in (12) a component of w̄ below λ/β is scaled, not set to 0; ū is sparse, w̄ has the zeros of w* alone",
    ),
}
"""Flaws by the name of the claim as printed; every claim that fails has one."""
