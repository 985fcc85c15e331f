"""Lanes over tiles and devices: results in the order of the lanes."""

import jax
import numpy as np
import pytest

from experiments.records.lanes import lane_keys, map_tiles


def double(lanes):
    return {"twice": 2 * lanes["x"], "sum": lanes["y"].sum(1)}


@pytest.mark.parametrize("count", [1, 7, 8, 25])
def test_lanes_keep_their_order_for_any_count(count):
    lanes = {"x": np.arange(count, dtype=np.float32), "y": np.arange(3 * count, dtype=np.float32).reshape(count, 3)}
    results = map_tiles(double, lanes, tile=4)
    assert np.array_equal(results["twice"], 2 * lanes["x"])
    assert np.array_equal(results["sum"], lanes["y"].sum(1))


def test_a_key_belongs_to_a_seed_and_a_stream():
    root = jax.random.key(1)
    keys = np.asarray(jax.random.key_data(lane_keys(root, np.array([3, 5, 3]), 0)))
    single = np.asarray(jax.random.key_data(lane_keys(root, np.array([5]), 0)))
    other = np.asarray(jax.random.key_data(lane_keys(root, np.array([5]), 1)))
    assert np.array_equal(keys[0], keys[2])
    assert np.array_equal(keys[1], single[0])
    assert not np.array_equal(keys[0], keys[1])
    assert not np.array_equal(single, other)
