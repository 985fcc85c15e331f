"""Claims at the papers' own settings, in the mean over draws; lanes that are run on until they rest; verdicts."""

import jax
import numpy as np
import pytest

import rvsmjax as rv
from experiments.studies.audit import limits
from experiments.studies.audit.claim import Run
from experiments.studies.audit.claims import CLAIMS
from experiments.studies.audit.evaluate import ClaimMargins, Size, measured, unfinished
from experiments.studies.audit.lanes import constrain, draw
from experiments.studies.audit.limits import legs
from experiments.studies.audit.margins import Margin
from experiments.studies.audit.printed.flaws import FLAWS
from experiments.studies.audit.printed.sentences import SENTENCES
from experiments.studies.audit.report import OUTCOMES, mended, sections_of
from experiments.studies.audit.states import Limit, Points, Three
from experiments.studies.audit.subjects import SUBJECTS
from experiments.studies.audit.summary import Mean, Verdict
from tests.experiments.studies.audit.test_claims import angle, compiled, parameters, relu_loss, sphere

TABLES, FIGURE = "three limits, Tables 1 to 3", "three thresholdings, Figure 6"


def lane(subject, number):
    def one(number):
        fixed, raw = draw(subject, jax.random.key(0), number)
        return constrain(subject, fixed, raw)

    p, start = jax.jit(one)(np.uint32(number))
    return p, np.asarray(start)


@pytest.mark.parametrize("subject", [TABLES, FIGURE])
def test_draws_at_the_papers_settings(x64, subject):
    dimensions = SUBJECTS[subject].dimensions
    for number, d in enumerate(dimensions):
        p, start = lane(subject, number)
        star = np.asarray(p.w_star)
        assert int(p.d) == d == np.count_nonzero(star) == np.count_nonzero(start[0])
        assert np.linalg.norm(star) == pytest.approx(1, abs=1e-14)
        assert np.linalg.norm(start, axis=1) == pytest.approx(1, abs=1e-14)
        assert float(p.k) == 2
        assert float(p.penalty.a) == 1
        ratio = 0.05 if subject == FIGURE else 0.025
        assert float(p.lam / p.beta) == pytest.approx(ratio, rel=1e-12)
    assert (float(p.lam), float(p.beta)) == ((0.05, 1.0) if subject == FIGURE else (1e-4, 4e-3))
    # Uniform on the sphere: the mean of d·w_1² over draws is 1.
    starts = jax.jit(jax.vmap(lambda n: constrain(subject, *draw(subject, jax.random.key(0), n))[1]))(np.arange(2000))
    some = np.asarray(starts)[dimensions.index(10) :: len(dimensions), 0, 0]
    assert np.mean(10 * some**2) == pytest.approx(1, abs=4 * np.sqrt(2 / len(some)))


def test_orders_against_numpy(x64):
    star, *vectors = sphere(7, 6, seed=11)
    limits = Three(*(Limit(w, w, 0.9 * u, np.float64(0)) for w, u in zip(vectors[:3], vectors[3:], strict=True)))
    seen = compiled("A-5.3-order", "A-sec1-order", "A-sec1-order-u")(Run(parameters(star), limits))
    w = {name: relu_loss(2, limit.w, star) for name, limit in limits._asdict().items()}
    u = {name: relu_loss(2, limit.u, star) for name, limit in limits._asdict().items()}
    theta = {name: angle(limit.w, star) for name, limit in limits._asdict().items()}
    phi = {name: angle(limit.u, star) for name, limit in limits._asdict().items()}
    wanted = {
        "A-5.3-order": [w["tl1"] - w["l1"], w["l0"] - w["tl1"]],
        "A-sec1-order": [
            w["tl1"] - w["l0"],
            w["l1"] - w["tl1"],
            theta["tl1"] - theta["l0"],
            theta["l1"] - theta["tl1"],
        ],
        "A-sec1-order-u": [phi["tl1"] - phi["l1"], phi["l0"] - phi["tl1"], u["tl1"] - u["l1"], u["l0"] - u["tl1"]],
    }
    for name, slacks in wanted.items():
        # Jitted trees sort their keys.
        assert sorted(float(m.slack) for m in seen[name].values()) == pytest.approx(sorted(slacks), abs=1e-9)


def test_angles_after_thresholding_against_numpy(x64):
    (x,) = sphere(1, 5, seed=2)
    soft, hard = np.sign(x) * np.maximum(np.abs(x) - 0.05, 0), np.where(np.abs(x) > 0.1**0.5, x, 0)
    grid = np.linspace(-1, 1, 400_001)
    transformed = np.array(
        [grid[np.argmin((grid - v) ** 2 / 2 + 0.05 * 2 * np.abs(grid) / (1 + np.abs(grid)))] for v in x]
    )
    state = Three(*(Limit(x, x, u, np.float64(0)) for u in (soft, hard, transformed)))
    seen = compiled("A-5.3-gamma")(Run(parameters(x), state))["A-5.3-gamma"]
    for other, u in (("tl1", transformed), ("l0", hard)):
        slack = angle(x, u) - angle(x, soft)
        assert float(seen[f"γ: l1 ≤ {other}"].slack) == pytest.approx(slack, abs=1e-9)
    assert set(seen) == {"γ: l1 ≤ tl1", "γ: l1 ≤ l0"}


def test_hard_thresholding_kills_more_as_d_grows(x64):
    p, start = lane("killed", 3)
    margins = compiled("A-5.3-killed")(Run(p, Points(*start)))["A-5.3-killed"]
    gone = {d: np.abs(start[0, :d]).max() / np.linalg.norm(start[0, :d]) <= 0.05**0.5 for d in (50, 100, 200, 400, 800)}
    for d in (50, 100, 200, 400):
        assert float(margins[f"T(X) = 0 at d = {2 * d} against {d}"].slack) == float(gone[2 * d]) - float(gone[d])
    # The share over draws, against independent ones.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 200))
    share = np.mean(np.abs(x).max(1) / np.linalg.norm(x, axis=1) <= 0.05**0.5)
    starts = jax.jit(jax.vmap(lambda n: constrain("killed", *draw("killed", jax.random.key(0), n))[1][0]))
    x = np.asarray(starts(np.arange(1000)))[:, :200]
    ours = np.mean(np.abs(x).max(1) / np.linalg.norm(x, axis=1) <= 0.05**0.5)
    assert ours == pytest.approx(share, abs=4 * 0.5 * np.sqrt(1 / 1000 + 1 / 4000))


def test_means_decide_claims_about_means():
    rng = np.random.default_rng(0)
    slack = rng.normal(size=4000) + 0.3
    mean = Mean()
    for part in np.split(slack, 8):
        mean.add(part, part < 0)
    assert (mean.draws, mean.broken) == (4000, (slack < 0).sum())
    assert mean.value == pytest.approx(slack.mean())
    assert mean.error == pytest.approx(slack.std(ddof=1) / np.sqrt(4000))
    verdict, lanes = Verdict(CLAIMS["A-5.3-gamma"]), np.arange(4000)
    zero = np.zeros(4000)
    verdict.add(lanes, ClaimMargins({}, {"γ": Margin(slack, zero)}))
    assert verdict.violations == (slack < 0).sum() > 0
    assert (verdict.fails, verdict.outcome) == (False, "stands")
    means = verdict.margins["γ"].means
    assert list(means) == [2, 5, 10, 30, 50]
    assert [m.value for m in means.values()] == pytest.approx([slack[i::5].mean() for i in range(5)])
    # One dimension suffices.
    slack[2::5] -= 0.6
    verdict = Verdict(CLAIMS["A-5.3-gamma"])
    verdict.add(lanes, ClaimMargins({}, {"γ": Margin(slack, zero)}))
    assert [m.negative for m in verdict.margins["γ"].means.values()] == [False, False, True, False, False]
    assert (verdict.fails, verdict.outcome) == (True, "fails")


def test_lanes_that_only_lack_rest_are_run_on():
    lanes, good, bad = np.arange(6), np.zeros(4), -np.ones(4)
    holds, rest = np.array([0.0, 0, 0, -1, 0, 0]), np.array([0.0, -1, -1, -1, -1, 0])
    conditions = {"β": Margin(holds, np.zeros(6)), "at rest": Margin(rest, np.zeros(6))}
    l0 = ClaimMargins(conditions, {})
    assert unfinished({"F-eq22": l0}, lanes).tolist() == [False, True, True, False, True, False]
    # A claim on l1 alone: lanes 2 and 3 of four have other penalties.
    assert unfinished({"F-eq12": l0}, lanes).tolist() == [False, True, False, False, True, False]
    verdict = Verdict(CLAIMS["F-eq22"])
    conditions = {"β": Margin(good, good), "at rest": Margin(np.array([0.0, -1, 0, -1]), good)}
    verdict.add(np.arange(4), ClaimMargins(conditions, {"(22)": Margin(bad, good)}), 1)
    assert (verdict.met, verdict.restless, dict(verdict.rested)) == (2, 2, {1: 2})


def test_every_lane_comes_once_and_rests(x64):
    size, names, lanes = Size(tile=8, tiles=2, cap=40, rounds=(40, 4_000)), ("F-eq22-right",), np.arange(40)
    batches = list(measured("F limit", names, 0, lanes, size))
    assert sorted(np.concatenate([batch.lanes for batch in batches])) == list(lanes)
    assert {batch.round for batch in batches} == {0, 1, 2}
    for batch in batches:
        conditions, conclusions = batch.margins["F-eq22-right"]
        others = np.all([m.slack + m.allowance >= 0 for name, m in conditions.items() if name != "at rest"], 0)
        rest = conditions["at rest"].slack >= -conditions["at rest"].allowance
        if batch.round < 2:
            assert np.all(rest | ~others)
        (margin,) = conclusions.values()
        assert np.all((margin.slack >= -margin.allowance)[others & rest])
    # One lane alone gives the same digits, after the same rounds.
    last = next(batch for batch in batches[::-1] if len(batch.lanes))
    (alone,) = (b for b in measured("F limit", names, 0, last.lanes[:1], size) if len(b.lanes))
    assert alone.round == last.round
    for a, b in zip(jax.tree.leaves(alone.margins), jax.tree.leaves(last.margins), strict=True):
        assert a[0] == b[0]


def test_legs_have_the_bits_of_one_long_run(x64, monkeypatch):
    size, names, lanes = Size(tile=8, tiles=2, cap=640, rounds=()), ("F-eq22-right",), np.arange(40)

    def margins():
        batches = list(measured("F limit", names, 0, lanes, size))
        order = np.argsort(np.concatenate([batch.lanes for batch in batches]))
        leaves = zip(*(jax.tree.leaves(batch.margins) for batch in batches), strict=True)
        return len(batches), [np.concatenate(parts)[order] for parts in leaves]

    assert [leg.steps for leg in legs((640, 20))] == [40, 40, 80, 160, 320, 20]
    calls, in_legs = margins()
    monkeypatch.setattr(limits, "LEGS", 1)
    whole_calls, whole = margins()
    assert calls > whole_calls
    for a, b in zip(in_legs, whole, strict=True):
        np.testing.assert_array_equal(a, b)


def test_further_steps_lead_to_the_limit_of_a_solver(x64):
    size, names = Size(tile=8, tiles=1, cap=40, rounds=(40, 4_000)), ("F-eq13",)
    subject = "F limit"
    fixed, raw = jax.jit(jax.vmap(lambda n: draw(subject, jax.random.key(0), n)))(np.arange(8, dtype=np.uint32))
    p, start = jax.jit(jax.vmap(lambda f, r: constrain(subject, f, r)))(fixed, raw)
    late = [b for b in measured(subject, names, 0, np.arange(8), size) if b.round == 2]
    (number,) = next(b.lanes[:1] for b in late if len(b.lanes))
    margins = next(b.margins for b in late if number in b.lanes)["F-eq13"].conclusions["(13)"]
    slack = float(margins.slack[list(next(b.lanes for b in late if number in b.lanes)).index(number)])
    one = jax.tree.map(lambda x: np.asarray(x)[number], p)
    k, beta, lam, star = float(one.k), float(one.beta), float(one.lam), np.asarray(one.w_star)
    penalty = [rv.L1(), rv.L0(), rv.TransformedL1(float(one.penalty.a))][int(one.penalty.kind)]
    prox = jax.jit(lambda w: penalty.prox(w, lam / beta))
    w = np.asarray(start)[number, 0]
    rate = min(1 / (beta + k / np.pi), 0.5 / (k / np.pi + beta))
    for _ in range(20_000):
        w = w - rate * (k / (2 * np.pi) * (w - star) + beta * (w - np.asarray(prox(w))))
        w /= np.linalg.norm(w)
    gamma = angle(w, np.asarray(prox(w)))
    expected = 4 * np.sqrt(2 * np.pi) * beta * np.sin(gamma) / k - np.linalg.norm(w - star)
    assert slack == pytest.approx(expected, abs=1e-7)


# Verdicts and their page.


def test_every_flaw_quotes_a_claim_as_printed_and_names_what_mends_it():
    for name, flaw in FLAWS.items():
        assert not CLAIMS[name].corrects, name
        assert flaw.kind in OUTCOMES[1:]
        assert flaw.at[0] == name[0], name
        assert all("\n" not in text and text for text in flaw)
        # The right form of A-3.1-ball follows from the definition of a minimiser.
        if flaw.kind != "fails" and name != "A-3.1-ball":
            assert mended(name), name


def test_sentences_name_claims_or_a_reason():
    for sentence in SENTENCES:
        assert sentence.claims or sentence.reason, sentence.where
        assert all(name in CLAIMS for name in sentence.claims), sentence.where
    papers = [sentence.where[0] for sentence in SENTENCES]
    assert papers == sorted(papers, key="AIF".index)


def test_the_page_counts_quotes_and_replays():
    lanes, zero = np.arange(8), np.zeros(8)
    verdicts = [Verdict(CLAIMS[name]) for name in ("A-eq12", "A-eq12-if", "A-5.2.2", "F-lemma6", "I-lemma6")]
    for verdict, slack in zip(verdicts, (-1.0, 1.0, -2.0, -3.0, 1.0), strict=True):
        conditions = {"at rest": Margin(zero, zero)} if "eq12" in verdict.claim.name else {}
        verdict.add(lanes, ClaimMargins(conditions, {"L": Margin(np.full(8, slack), zero)}))
    assert [v.outcome for v in verdicts] == ["hypothesis missing", "stands", "misprint", "fails", "stands"]
    run = {"config": {"key": 3, "lanes": 8, "claims": (), "quick": False}, "commit": None}
    run |= {"seconds": {}, "peak_memory_bytes": 0, "cores": 1}
    sections = {section.title: section for section in sections_of(verdicts, run)}
    assert next(iter(sections)) == "Claims by verdict and paper"
    counts = sections["Claims by verdict and paper"].blocks[0]
    assert [row[1:] for row in counts.rows] == [
        ["2", "0", "1", "1", "0", "1"],
        ["1", "1", "0", "0", "0", "0"],
        ["1", "0", "0", "0", "1", "0"],
        ["4", "1", "1", "1", "1", "1"],
    ]
    printed = {row[0]: row for row in sections["What the papers print"].blocks[1].rows}
    assert set(printed) == {"A-eq12", "A-5.2.2", "F-lemma6"}
    for name, row in printed.items():
        assert f"“{FLAWS[name].quote}”" in row
        assert FLAWS[name].at in row
        assert any(f"--replay {name} --lane 0 --key 3" in cell for cell in row)
    assert "A-eq12-if" in printed["A-eq12"][5]
    (rested, *_) = sections["Convergence"].blocks[1].rows
    assert rested == ["A-eq12", "4", "0", "0", "0"]
