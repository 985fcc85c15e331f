"""The transcribed tables against relations between their rows."""

import numpy as np
import pytest

import rvsmjax as rv
from experiments.one_layer import paper_comparison as compare
from experiments.papers import arxiv_1812_05719 as paper
from experiments.papers import frontiers_2020 as paper_rvscgd


def printed(metric):
    return np.array([paper.value(penalty, metric, d) for penalty in paper.TABLES for d in paper.DIMENSIONS])


@pytest.mark.parametrize(("angle", "loss"), [("theta_w", "f_w"), ("theta_u", "f_u_unit")])
def test_losses_of_unit_vectors_follow_from_their_angles(angle, loss, x64):
    """Detects a typo in any but the last digit of these 60 values."""
    theta = printed(angle)
    w = np.stack([np.cos(theta), np.sin(theta)], -1)
    expected = rv.NoOverlapReLU(2).loss(w, np.broadcast_to([1.0, 0.0], w.shape))
    assert np.allclose(printed(loss), expected, rtol=2e-5, atol=0)
    assert np.allclose(printed(loss), [compare.loss_at_angle(t) for t in theta], rtol=2e-5, atol=0)


def test_zeros_are_in_range_and_losses_grow_with_d():
    for penalty in paper.TABLES:
        assert all(0 <= paper.value(penalty, "zeros", d) <= d for d in paper.DIMENSIONS)
        for metric in ("theta_u", "f_u", "f_u_unit", "zeros"):
            assert (np.diff([paper.value(penalty, metric, d) for d in paper.DIMENSIONS]) > 0).all()


def test_missing_values_are_nan():
    assert np.isnan(
        [paper.value("l1", "theta_u", 15), paper.value("l2", "theta_u", 10), paper.value("l1", "gamma", 10)]
    ).all()


def test_the_accuracy_loss_in_the_text_of_rvscgd_matches_its_table():
    accuracy = [row[3] for row in paper_rvscgd.TABLE_1]
    sparsity = [row[4] for row in paper_rvscgd.TABLE_1]
    text = paper_rvscgd.TEXT
    assert (accuracy[0], accuracy[-1], sparsity[-1]) == (89.31, 84.92, text["sparsity"])
    assert accuracy[0] - accuracy[-1] == pytest.approx(text["loss"], abs=0.005)
    # The base accuracy in the text, 89.13, would give 4.21.
    assert text["base accuracy"] - accuracy[-1] != pytest.approx(text["loss"], abs=0.1)
